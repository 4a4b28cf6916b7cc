#!/usr/bin/env dbrun
-- dbmate's command line; the work is done in lua/dbrun/migrate/dbmate.
os.exit(require("dbrun.migrate.dbmate.command").main(arg), true)
