#!/usr/bin/env dbrun
-- Batch jobs on the command line; the work is done in lua/dbrun/batch/ and the files beside it.
return require("dbrun.command_line").finish(require("dbrun.batch.show.command").main, arg)
