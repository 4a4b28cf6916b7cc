#!/usr/bin/env dbrun
-- The configuration on the command line; the work is done in lua/dbrun/config/command.lua.
return require("dbrun.command_line").finish(require("dbrun.config.command").main, arg)
