--- The load limits of a batch: each signal has a limit above which no new chunk begins, and may have a critical one
--- above which the job is paused.
---
---     local health = signals.new { throttle = { replication_lag = 5 }, oid = walk.oid, pids = pids, say = print }
---     health:start(conn)
---     while working do health:sample(conn) ... health:verdict() ... task.sleep(health:next_look()) end
local args <const> = require "dbrun.args"
local health <const> = require "dbrun.batch.signals.health"
local options <const> = require "dbrun.batch.signals.options"

local M = {}

---The limits of the signals that are on by default.
---@type table<string, number>
M.DEFAULTS = options.DEFAULTS

---Checks `throttle` and `critical` of a job.
---@param fn string the function as scripts call it, for errors
---@param throttle? table<string, any>
---@param critical? table<string, any>
---Raises an error of kind `usage` for an unknown name and a wrong value.
function M.check(fn, throttle, critical)
    options.read(fn, "throttle", throttle)
    options.read(fn, "critical", critical)
end

---A limit from the text of `dbrun batch set throttle.NAME=TEXT`.
---@param name string the signal, with or without the prefix "throttle." or "critical."
---@param text string "off" turns it off
---@param own? table<string, any> the job's own `throttle`: a function in it can be turned off by its name
---@return number|string|boolean limit a value for `throttle` or `critical`
---Raises an error of kind `usage` for an unknown name and a wrong value.
function M.parse(name, text, own)
    return options.parse(name, text, own)
end

local function is_engine(v)
    local ok <const>, method <const> = pcall(function() return v.value end)
    return ok and type(v) ~= "string" and args.is_callable(method)
end

local ENGINES <const> = {
    function(v)
        for _, engine in pairs(type(v) == "table" and v or { 0 }) do
            if not is_engine(engine) then return false end
        end
        return true
    end, "a list of engines",
}
local OPTIONS <const> = {
    throttle = "table", critical = "table", blind = "boolean", replicas = ENGINES, oid = args.whole(0),
    table = "string", pids = "function", say = "function", now = "function",
}

local function nobody() return {} end

---@param opts table
---  throttle, critical: limits by signal; blind: go on without signals that cannot be read; replicas: engines of
---  standbys; oid, table: the walked table; pids: fun(): integer[], server processes of this process's running chunks;
---  say: fun(text), for messages that are given once; now: the monotonic clock
---@return dbrun.batch.Health
---Raises an error of kind `usage` for an unknown name and a wrong value.
function M.new(opts)
    opts = args.options("batch", opts, OPTIONS)
    return health.new {
        throttle = opts.throttle, critical = opts.critical, blind = opts.blind, replicas = opts.replicas,
        oid = opts.oid, table = opts.table, pids = opts.pids or nobody, say = opts.say or nobody, now = opts.now,
    }
end

return M
