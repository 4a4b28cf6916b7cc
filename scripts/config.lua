#!/usr/bin/env dbrun
-- The configuration on the command line; the work is done in lua/dbrun/config/command.lua.
os.exit(require("dbrun.config.command").main(arg), true)
