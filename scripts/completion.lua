#!/usr/bin/env dbrun
-- Completion for shells; the work is done in lua/dbrun/completion/command.lua.
os.exit(require("dbrun.completion.command").main(arg), true)
