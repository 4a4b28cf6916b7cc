#!/usr/bin/env dbrun
-- A new project; the work is done in lua/dbrun/start/command.lua.
os.exit(require("dbrun.start.command").main(arg), true)
