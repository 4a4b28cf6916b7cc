#!/usr/bin/env dbrun
-- The manual on the command line; the work is done in lua/dbrun/manual/command.lua.
os.exit(require("dbrun.manual.command").main(arg), true)
