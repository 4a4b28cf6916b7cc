--- The whole library under one name: `local dbrun = require "dbrun"`, then `dbrun.db`, `dbrun.redis`, ...
--- A part is loaded at its first use.

---@class dbrun
---@field batch table work on many rows, in chunks (dbrun.batch)
---@field cli table command lines of scripts (dbrun.cli)
---@field csv table rows in CSV files (dbrun.csv)
---@field config table configuration from arguments, environment and .env (dbrun.config)
---@field db table PostgreSQL (dbrun.db)
---@field dry_run boolean whether this is a dry run (--dry-run)
---@field error table the error class (dbrun.error)
---@field fs table files (dbrun.fs)
---@field json table JSON (dbrun.json)
---@field log table the log (dbrun.log)
---@field migrate table migrations (dbrun.migrate)
---@field process table child processes (dbrun.process)
---@field progress table progress lines (dbrun.progress)
---@field redis table Redis (dbrun.redis)
---@field seed table seeds (dbrun.seed)
---@field stack table the private PostgreSQL and Redis (dbrun.stack)
---@field table table rows, lists and maps as text (dbrun.table)
---@field task table tasks (dbrun.task)
---@field testing table databases for specs (dbrun.testing)
---@field time table dates and times (dbrun.time)
---@field tty table the terminal (dbrun.tty)
---@field verify table checks of a project's servers (dbrun.verify)
local M <const> = {}

local PARTS <const> = {
    batch = true, cli = true, config = true, csv = true, db = true, error = true, fs = true, json = true, log = true,
    migrate = true, process = true, progress = true, redis = true, seed = true, stack = true, table = true, task = true,
    testing = true, time = true, tty = true, verify = true,
}

local meta <const> = {}

function meta.__index(_, name)
    if name == "dry_run" then return require "dbrun.core".options.dry_run == true end
    if not PARTS[name] then
        return require "dbrun.args".unknown_name("dbrun", name, PARTS)
    end
    local part = require("dbrun." .. name)
    M[name] = part
    return part
end

return setmetatable(M, meta)
