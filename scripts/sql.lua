#!/usr/bin/env dbrun
-- SQL on the command line; the work is done in lua/dbrun/sql/.
return require("dbrun.command_line").finish(require("dbrun.sql.command").main, arg)
