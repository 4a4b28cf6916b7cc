#!/usr/bin/env dbrun
-- The manual on the command line; the work is done in lua/dbrun/manual/command.lua.
return require("dbrun.command_line").finish(require("dbrun.manual.command").main, arg)
