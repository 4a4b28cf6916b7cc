#!/usr/bin/env dbrun
-- Migrations on the command line; the work is done in lua/dbrun/migrate.lua and the files beside it.
return require("dbrun.command_line").finish(require("dbrun.migrate").main, arg)
