#!/usr/bin/env dbrun
-- The private stack on the command line; the work is done in lua/dbrun/stack.lua and the files beside it.
return require("dbrun.command_line").finish(require("dbrun.stack.command").main, arg)
