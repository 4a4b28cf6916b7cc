--- The rule for a silent server. When the oldest command that cannot block has waited for more than a second, the
--- sentinels or other nodes of the cluster are asked where the primary is, but never the silent server itself. If the
--- primary has moved, commands in flight to the old one fail at once with outcome `unknown`, its connections are
--- closed, and later commands go to the new one. Until there is an answer, a late reply is not read, because a primary
--- that was frozen says OK to writes that are lost. If nobody can tell, the server is sent a PING on a second
--- connection; without an answer within `alive_timeout` the connections are closed in the same way.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local guard <const> = core.redis.guard

local M = {}

M.LOOK_TIMEOUT = 1 -- seconds to wait for the answers of other nodes
M.MOST_ASKED = 3 -- nodes that are asked at once

local ALIVE_TIMEOUT <const> = 10
local STILL_USED <const> = 5 -- seconds between checks whether the pool still has clients
local PAUSE <const> = 0.25 -- seconds between two checks, about
local LATE <const> = 0.15 -- seconds to wait for further answers after the first one

---What is known about a pool besides its connections.
---@class dbrun.redis.Rule
---@field settings table of the pool
---@field alive_timeout number
---@field look? fun(watcher: userdata): "moved"|"same"|"doubt"|nil, boolean? asks other nodes; when it returns "moved",
---it has condemned the pool's connections; "same", true: commands that were held for a doubt go on; nil: nobody could
---tell
---@field pinging? {alive: boolean?} a PING in flight

---Runs `fn(item)` for all items concurrently. Returns the outcomes of those that ended in time: {ok, result, of =
---item}.
---@param list any[]
---@param fn fun(item: any): any
---@return {[1]: boolean, [2]: any, of: any}[]
function M.ask(list, fn)
    local answers, good = {}, nil
    local changed <const> = core.task.condition()
    local g <close> = task.group()
    for _, item in ipairs(list) do
        g:spawn(function()
            local ok <const>, result <const> = pcall(fn, item)
            answers[#answers + 1] = { ok, result, of = item }
            if ok and not good then
                good = task.now()
            end
            changed:notify()
        end)
    end
    while #answers < #list do
        local left <const> = good and good + LATE - task.now()
        if left and left <= 0 then
            break
        end
        changed:wait(left)
    end
    local in_time <const> = table.move(answers, 1, #answers, 1, {})
    g:cancel()
    return in_time
end

---Whether it is an error of the server or the network, not of the task that asked.
---@param e any
---@return boolean
function M.is_answer(e)
    local kind <const> = errors.is(e) and e.kind
    return kind == "connect" or kind == "redis" or kind == "protocol" or kind == "pool"
        or (kind == "timeout" and e.outcome ~= nil)
end

-- ---- a PING on a second connection ----

--- A server that refuses the login is alive.
local function says_nothing(e)
    return not errors.is(e) or e.kind == "timeout"
        or (e.kind == "connect" and (e.context == "TCP" or e.context == "unix socket" or e.context == "name"
            or tostring(e.message):find("did not answer", 1, true) ~= nil))
end

local function answers_ping(watcher, rule)
    local settings <const> = {}
    for name, value in pairs(rule.settings) do
        settings[name] = value
    end
    settings.sentinels, settings.service, settings.max_connections = nil, nil, 1
    settings.connect_timeout, settings.comeback = rule.alive_timeout, 0
    if rule.settings.sentinels then
        settings.host, settings.port = guard.address(watcher)
        if not settings.host then
            return true -- not connected: nothing is in flight
        end
    end
    local other <close> = core.redis.pool_new(settings)
    local client <const> = core.redis.client_new(other, { timeout = rule.alive_timeout })
    local ok <const>, e <const> = pcall(client.call, client, "PING")
    return ok or not says_nothing(e)
end

--- Checks whether the server is alive, when nobody can tell where the primary is.
local function check_alive(watcher, rule)
    if rule.alive_timeout == 0 then
        guard.release(watcher, true)
        return
    end
    local p <const> = rule.pinging
    if not p then
        local begun <const> = {}
        rule.pinging = begun
        core.task.daemon(function()
            local ok <const>, alive <const> = pcall(answers_ping, watcher, rule)
            begun.alive = not ok or alive
        end)
    elseif p.alive then
        rule.pinging = nil
        guard.release(watcher, true)
    elseif p.alive == false then
        rule.pinging = nil
        if guard.silence(watcher) >= rule.alive_timeout then
            guard.condemn(watcher, {
                reason = ("the server has not answered for %.0f s, nor a PING on another connection"):format(
                    guard.silence(watcher)),
                hint = "it hangs, or runs one long command: alive_timeout says how long that may be",
            })
        end
    end
end

-- ---- the rule ----

local function decide(watcher, rule)
    local ok, said, all = true, nil, nil
    if rule.look then
        ok, said, all = pcall(rule.look, watcher)
    end
    if not ok and errors.is(said, "cancelled") then
        error(said, 0)
    elseif not ok or said == nil then
        check_alive(watcher, rule)
        return
    end
    rule.pinging = nil
    if said == "doubt" then
        guard.due(watcher, 0)
        return
    end
    guard.due(watcher, nil)
    if said == "same" then
        guard.release(watcher, all)
    end
end

local function watch(watcher, rule)
    while guard.in_use(watcher) do
        if guard.stalled(watcher, STILL_USED) then
            decide(watcher, rule)
            task.sleep(PAUSE * (0.5 + math.random()))
        else
            rule.pinging = nil
        end
    end
end

---Watches a pool while it has clients, without keeping it alive.
---@param watcher userdata from core.redis.guard.watch
---@param settings table of the pool; `look` as in dbrun.redis.Rule
---@param done fun() called when it has no clients any more
---@return dbrun.Task task cancel it when the pool is closed
function M.watch(watcher, settings, done)
    local rule <const> = {
        settings = settings, look = settings.look, alive_timeout = settings.alive_timeout or ALIVE_TIMEOUT,
    }
    return core.task.daemon(function()
        local ok <const>, e <const> = pcall(watch, watcher, rule)
        done()
        if not ok and not errors.is(e, "cancelled") then
            error(e, 0)
        end
    end)
end

return M
