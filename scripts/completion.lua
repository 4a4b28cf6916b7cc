#!/usr/bin/env dbrun
-- Completion for shells; the work is done in lua/dbrun/completion/command.lua.
return require("dbrun.command_line").finish(require("dbrun.completion.command").main, arg)
