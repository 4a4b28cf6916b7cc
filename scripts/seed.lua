#!/usr/bin/env dbrun
-- Seeds on the command line; the work is done in lua/dbrun/seed.lua and the files beside it.
return require("dbrun.command_line").finish(require("dbrun.seed").main, arg)
