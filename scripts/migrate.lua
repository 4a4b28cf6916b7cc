#!/usr/bin/env dbrun
-- Migrations on the command line; the work is done in lua/dbrun/migrate.lua and the files beside it.
os.exit(require("dbrun.migrate").main(arg), true)
