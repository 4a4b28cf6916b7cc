#!/usr/bin/env dbrun
-- Verification on the command line; the work is done in lua/dbrun/verify.lua and the files beside it.
return require("dbrun.command_line").finish(require("dbrun.verify").main, arg)
