#!/usr/bin/env dbrun
-- The private stack on the command line; the work is done in lua/dbrun/stack.lua and the files beside it.
os.exit(require("dbrun.stack.command").main(arg), true)
