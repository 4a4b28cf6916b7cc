--- Calls of every kind with a short time limit, for specs about how long a call takes when a server does not answer.
---
---     for _, seen in ipairs(deadlines.run { make = fn, trouble = fn }) do print(seen.name, seen.over) end
local errors = require "dbrun.error"
local stalls = require "spec.support.faults.stalls"
local task = require "dbrun.task"

local M = {}

M.TIMEOUT = 0.3 -- seconds, of each call
local BLOCKS <const> = 0.2 -- seconds that a blocking command asks for
local CONFIRM <const> = 0.2 -- the timeout of wait = {}

local LIBRARY <const> = [[#!lua name=deadlines
redis.register_function{function_name = "deadline", callback = function(keys) return redis.call("get", keys[1]) end}
]]

---@class spec.Call
---@field name string
---@field more? number seconds that it can take in addition to its time limit
---@field ready? fun(r: dbrun.redis.Client): any runs before the trouble begins
---@field run fun(r: dbrun.redis.Client, readied: any)

local function sure_of(r)
    return r:with { wait = { replicas = 1, timeout = CONFIRM } }
end

local function watched(r)
    r:multi({ watch = "{d}k", retry = 3 }, function(tx, connection)
        connection:get "{d}k"
        tx:incr "{d}k"
    end)
end

local serial = 0
local function new_lock(r)
    serial = serial + 1
    return r:lock(("{d}lock:%d"):format(serial), { ttl = 60 })
end

---@type spec.Call[]
M.CALLS = {
    { name = "get", run = function(r) r:get "{d}k" end },
    { name = "set", run = function(r) r:set("{d}k", 1) end },
    { name = "pipeline", run = function(r)
        for _, reply in ipairs(r:pipeline(function(p) p:get("{d}k"); p:get("{e}k"); p:get("{f}k") end)) do
            if errors.is(reply) then error(reply, 0) end
        end
    end },
    { name = "multi", run = function(r) r:multi(function(tx) tx:incr "{d}k"; tx:incr "{d}k" end) end },
    { name = "multi with watch", more = M.TIMEOUT, run = watched }, -- the command inside has its own time limit
    { name = "blpop", more = BLOCKS, run = function(r) r:blpop("{d}list", BLOCKS) end },
    { name = "xread block", more = BLOCKS, run = function(r) r:xread("BLOCK", 200, "STREAMS", "{d}stream", "$") end },
    { name = "script", run = function(r) r:script(("return %d"):format(math.random(1 << 40)))({ "{d}k" }, {}) end },
    { name = "library", run = function(r) r:library(LIBRARY):call("deadline", { "{d}k" }) end },
    { name = "lock", run = function(r) new_lock(r) end },
    { name = "lock with wait", more = M.TIMEOUT, run = function(r)
        r:lock("{d}waited", { ttl = 60, wait = M.TIMEOUT })
    end },
    { name = "lock with fence", run = function(r) r:lock("{d}fenced", { ttl = 60, fence = true }) end },
    { name = "extend", ready = new_lock, run = function(_, l) if l then l:extend(30) end end },
    { name = "fence", ready = new_lock, run = function(_, l) return l and l.fence end },
    { name = "release", ready = new_lock, run = function(_, l) if l then l:release() end end },
    { name = "confirmed set", more = CONFIRM, run = function(r) sure_of(r):set("{d}k", 1) end },
    { name = "confirmed pipeline", more = CONFIRM, run = function(r)
        sure_of(r):pipeline(function(p) p:set("{d}k", 1); p:set("{d}k", 2) end)
    end },
    { name = "confirmed multi", more = CONFIRM, run = function(r)
        sure_of(r):multi(function(tx) tx:set("{d}k", 1) end)
    end },
    { name = "confirmed watch", more = CONFIRM + M.TIMEOUT, run = function(r) watched(sure_of(r)) end },
    { name = "confirmed script", more = CONFIRM, run = function(r)
        sure_of(r):script(("redis.call('set', KEYS[1], %d)"):format(math.random(1 << 40)))({ "{d}k" }, {})
    end },
    { name = "confirmed lock", more = CONFIRM, run = function(r) new_lock(sure_of(r)) end },
    { name = "confirmed blmove", more = CONFIRM + BLOCKS, run = function(r)
        sure_of(r):blmove("{d}list", "{d}other", "LEFT", "RIGHT", BLOCKS)
    end },
    { name = "scan step", more = M.TIMEOUT, run = function(r) r:scan()() end }, -- in a cluster: its map, then a page
    { name = "hscan step", run = function(r) r:hscan("{d}hash")() end },
    { name = "dbsize", run = function(r) r:dbsize() end },
    { name = "script load", run = function(r) r:call("SCRIPT", "LOAD", "return 1") end },
    { name = "mset", run = function(r) r:mset("{d}k", 1, "{e}k", 2, "{f}k", 3) end },
    { name = "script kill", run = function(r) r:call("SCRIPT", "KILL") end },
    { name = "unknown command", run = function(r) r:call("DEADLINES", "{d}k") end },
}

---@class spec.Seen
---@field name string
---@field took number
---@field over number seconds after the call's own deadline, without pauses of the machine
---@field error any

local function measure(call, r, readied)
    local began <const>, waited <const> = task.now(), stalls.waited()
    local ok <const>, e <const> = pcall(call.run, r, readied)
    local ended <const> = task.now()
    return { name = call.name, began = began, ended = ended, waited = stalls.waited() - waited, took = ended - began,
        over = ended - began - M.TIMEOUT - (call.more or 0), error = not ok and e or nil }
end

---Makes a client for each kind of call, prepares them, lets the trouble begin, and makes all calls at once.
---@param opts {make: fun(): (dbrun.redis.Client), healthy: boolean?, trouble: fun()?, only: string?} healthy: the
---  clients work before the trouble begins
---@return spec.Seen[]
function M.run(opts)
    local calls <const>, clients <const>, readied <const>, seen <const> = {}, {}, {}, {}
    for _, call in ipairs(M.CALLS) do
        if not opts.only or call.name:find(opts.only) then calls[#calls + 1] = call end
    end
    for i, call in ipairs(calls) do
        clients[i] = opts.make()
        if opts.healthy then
            pcall(clients[i].get, clients[i], "{d}k")
            readied[i] = call.ready and call.ready(clients[i]:with { timeout = M.TIMEOUT })
        end
    end
    local machine <close> = stalls.start()
    if opts.trouble then opts.trouble() end
    do
        local g <close> = task.group()
        for i, call in ipairs(calls) do
            g:spawn(function() seen[i] = measure(call, clients[i]:with { timeout = M.TIMEOUT }, readied[i]) end)
        end
        g:wait()
    end
    for _, one in ipairs(seen) do
        if one.over > 0 then one.over = one.over - one.waited - machine:between(one.began, one.ended) end
    end
    for _, client in ipairs(clients) do client:close() end
    return seen
end

return M
