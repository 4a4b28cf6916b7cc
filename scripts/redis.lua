#!/usr/bin/env dbrun
-- Commands of Redis on the command line; the work is done in lua/dbrun/redis/shell/.
return require("dbrun.command_line").finish(require("dbrun.redis.shell.command").main, arg, require "dbrun.redis")
