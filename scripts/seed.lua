#!/usr/bin/env dbrun
-- Seeds on the command line; the work is done in lua/dbrun/seed.lua and the files beside it.
os.exit(require("dbrun.seed").main(arg), true)
