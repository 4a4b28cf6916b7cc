#!/usr/bin/env dbrun
-- The specs of the project; the work is done in lua/dbrun/testing/command.lua and the files beside it.
os.exit(require("dbrun.testing.command").main(arg), true)
