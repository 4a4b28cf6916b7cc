#!/usr/bin/env dbrun
-- The specs of the project; the work is done in lua/dbrun/testing/command.lua and the files beside it.
return require("dbrun.command_line").finish(require("dbrun.testing.command").main, arg)
