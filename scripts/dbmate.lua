#!/usr/bin/env dbrun
-- dbmate's command line; the work is done in lua/dbrun/migrate/dbmate.
return require("dbrun.command_line").finish(require("dbrun.migrate.dbmate.command").main, arg)
