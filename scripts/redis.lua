#!/usr/bin/env dbrun
-- Commands of Redis on the command line; the work is done in lua/dbrun/redis/shell/.
os.exit(require("dbrun.redis.shell.command").main(arg, require "dbrun.redis"), true)
