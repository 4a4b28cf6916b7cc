#!/usr/bin/env dbrun
-- SQL on the command line; the work is done in lua/dbrun/sql/.
os.exit(require("dbrun.sql.command").main(arg), true)
