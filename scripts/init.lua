#!/usr/bin/env dbrun
-- A new project; the work is done in lua/dbrun/start/command.lua.
return require("dbrun.command_line").finish(require("dbrun.start.command").main, arg)
