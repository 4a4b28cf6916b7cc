#!/usr/bin/env dbrun
-- The versions of dbrun and its libraries; the work is done in lua/dbrun/start/version.lua.
return require("dbrun.command_line").finish(require("dbrun.start.version").main, arg)
