--- Waits until replicas have a write. WAIT waits only for the writes of its own connection, and blocks the commands
--- after it. So it is sent on a second connection, and its reply does not count, but the offsets of INFO do: after the
--- reply to a write, the connection that wrote asks for the server's replication offset, and replicas have the write
--- when they have acknowledged that offset.
---
--- Which writes a WAIT waits for depends on the server. Redis before 7.2 records the offset for a client after each of
--- its commands, so PING and WAIT wait for the writes of all clients. Redis 7.2 and Valkey record it only after a
--- command that wrote: WAIT after PING replies at once that all replicas have everything. There, a WAIT for more
--- replicas than can exist makes the server ask the replicas, and INFO follows a moment later. (Otherwise replicas
--- report once a second.)
---
--- An offset is valid only for the process that reported it (its run_id), and only while that process writes the same
--- history (its replication ID).
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

local SHORTEST_WAIT <const>, LONGEST_WAIT <const> = 20, 50 -- ms that one WAIT can take before other writes are checked
local SHORTEST_PAUSE <const>, LONGEST_PAUSE <const> = 0.003, 0.05 -- seconds from such a WAIT to INFO
local MORE_THAN_ANY <const> = 2147483647 -- replicas
local PATIENCE <const> = 0.1 -- seconds that the server can be late
local MOST_WAKES <const> = 4
local LAST_LOOK <const> = 0.02 -- seconds before a task gives up, when its replicas are counted
local MOST_KNOWN <const> = 256
local NO_PRIMARY <const> = "the server is not a primary any more"

-- ---- which process ----

local run_ids, only_asks, histories, known = {}, {}, {}, 0

--- The process at the other end of a connection never changes. Its history does.
local function remember(serial, run_id, history)
    if known >= MOST_KNOWN then
        run_ids, only_asks, histories, known = {}, {}, {}, 0
    end
    run_ids[serial], histories[run_id], known = run_id, history, known + 1
end

--- WAIT for no replicas answers at once and shows whether the user may use WAIT. (A replica refuses it too, and is
--- recognised by other means.)
local function check_wait(handle)
    local ok <const>, e <const> = pcall(core.redis.raw, handle, "WAIT", 0, 0)
    if not ok and (not errors.is(e, "redis") or e.code == "NOPERM" or e.message:find "unknown command") then
        error(e, 0)
    end
end

--- Asks for the process that answers on the handle's connection.
---@return string run_id
---@return integer serial of that connection
local function learn(handle)
    local replies <const> = handle:batch(false):call("INFO", "server"):call("INFO", "replication"):send()
    local text <const>, replication <const> = table.unpack(replies)
    for _, reply in ipairs(replies) do
        if errors.is(reply) then
            error(reply, 0)
        end
    end
    local _ <const>, serial <const> = handle:links()
    check_wait(handle)
    local run_id <const> = text:match "run_id:(%w+)"
    if not run_id then
        errors.raise {
            kind = "redis", code = "WAIT", retryable = false,
            message = "redis: the server reports no run_id (INFO server), so no write can be confirmed",
        }
    end
    remember(serial, run_id, replication:match "master_replid:(%w+)")
    return run_id, serial
end

---Whether it is an error of a command. Other errors end the task, or a part of it.
---@param e any
---@return boolean
function M.is_of_command(e)
    return errors.is(e) and e.kind ~= "cancelled" and (e.kind ~= "timeout" or e.outcome ~= nil or e.layer ~= nil)
end

---Calls a function that queries the server before a write. Its errors say that nothing was written.
---@param fn fun(...): any
---@return any
function M.before_write(fn, ...)
    local ok <const>, result <const> = pcall(fn, ...)
    if not ok then
        if M.is_of_command(result) then
            result.outcome = "not_sent"
            if result.code == "NOPERM" then
                result.hint = "confirmed writes need the commands INFO, PING and WAIT"
            end
        end
        error(result, 0)
    end
    return result
end

---The server process before a write, and its replication history.
---@class dbrun.redis.Before
---@field run_id string?
---@field history string?

---Finds out, before a write, which server process answers. Raises when that is unknown; nothing was written.
---@param handle dbrun.redis.Client|dbrun.redis.Connection
---@return dbrun.redis.Before
function M.prepare(handle)
    local serial <const> = handle:links()
    local run_id <const> = run_ids[serial] or M.before_write(learn, handle)
    return { run_id = run_id, history = histories[run_id] }
end

-- ---- what INFO says ----

---@class dbrun.redis.Replication
---@field primary boolean
---@field history string the replication ID
---@field was_replica boolean it is a primary that was a replica before
---@field offset integer the replication offset after all writes so far
---@field acknowledged integer[] of each replica

---@param text string the reply to INFO replication
---@return dbrun.redis.Replication
local function read(text)
    local acknowledged <const> = {}
    for fields in text:gmatch "slave%d+:([^\r\n]*)" do
        if fields:find("state=online", 1, true) then
            acknowledged[#acknowledged + 1] = math.tointeger(tonumber(fields:match "offset=(%d+)")) or 0
        end
    end
    return {
        primary = text:find("role:master", 1, true) ~= nil,
        history = text:match "master_replid:(%w+)" or "",
        was_replica = text:find "master_replid2:%w*[^0%s]" ~= nil,
        offset = math.tointeger(tonumber(text:match "master_repl_offset:(%d+)")) or math.maxinteger,
        acknowledged = acknowledged,
    }
end

local function count(info, offset)
    local n = 0
    for _, position in ipairs(info.acknowledged) do
        if position >= offset then
            n = n + 1
        end
    end
    return n
end

-- ---- tasks that wait ----

---@class dbrun.redis.Waiter
---@field client dbrun.redis.Client
---@field run_id string the process that wrote
---@field serial integer the connection that reported the offset
---@field history string
---@field offset integer
---@field replicas integer
---@field give_up number
---@field seen integer the most replicas that had the write
---@field judged boolean the second connection has checked it
---@field answer dbrun.Queue true, or why the answer cannot be known

---The tasks that wait for the server of one pool, and the connection that serves them.
---@class dbrun.redis.Waiters
---@field key any
---@field list table<dbrun.redis.Waiter, true>
---@field task dbrun.Task
---@field trouble? string the error of the second connection

---@type table<any, dbrun.redis.Waiters>
local groups <const> = {}

local function tell(group, waiter, result)
    group.list[waiter] = nil
    waiter.answer:push(result)
end

local function tell_all(group, why)
    for _, waiter in ipairs(group:waiters()) do
        tell(group, waiter, why)
    end
end

local Waiters <const> = {}
Waiters.__index = Waiters

---@return dbrun.redis.Waiter[]
function Waiters:waiters()
    local list <const> = {}
    for waiter in pairs(self.list) do
        list[#list + 1] = waiter
    end
    return list
end

--- Seconds until the last waiting task gives up.
function Waiters:left()
    local last = 0
    for waiter in pairs(self.list) do
        last = math.max(last, waiter.give_up)
    end
    return math.max(last - task.now(), 0.001)
end

--- The waiting task that needs the fewest replicas.
function Waiters:first()
    local first
    for waiter in pairs(self.list) do
        if not first or waiter.replicas < first.replicas then
            first = waiter
        end
    end
    return first
end

--- Seconds until the next last check of a waiting task.
function Waiters:next_look()
    local now <const>, soonest = task.now(), math.huge
    for waiter in pairs(self.list) do
        local look <const> = waiter.give_up - LAST_LOOK
        if look > now then
            soonest = math.min(soonest, look)
        elseif not waiter.judged then
            return 0
        end
    end
    return soonest - now
end

---@param info dbrun.redis.Replication
function Waiters:judge(info)
    for _, waiter in ipairs(self:waiters()) do
        if not info.primary then
            tell(self, waiter, NO_PRIMARY)
        elseif info.history ~= waiter.history then
            tell(self, waiter, "the server has become a replica in between, or has got its first one")
        else
            waiter.judged = true
            waiter.seen = math.max(waiter.seen, count(info, waiter.offset))
            if waiter.seen >= waiter.replicas then
                tell(self, waiter, true)
            end
        end
    end
end

-- ---- the second connection ----

--- For servers where WAIT after PING waits for the writes of all clients. An idle server checks the time limits of
--- blocked clients ten times a second, or when a command arrives: PING wakes it.
local function wait_for(connection, group, n)
    local first <const> = group:first()
    local left <const> = math.min(group:next_look(), group:left()) * 1000
    local ms <const> = math.max(1, math.floor(math.min(SHORTEST_WAIT << math.min(n, 4), LONGEST_WAIT, left)))
    local batch <const> = connection:batch(false):call("PING"):call("WAIT", first.replicas, ms)
    local answered <const> = task.queue()
    local replies
    do
        local g <close> = task.group()
        g:spawn(function()
            replies = batch:send()
            answered:push(true)
        end)
        local pause = ms / 1000 + 0.002
        for _ = 1, MOST_WAKES do
            if answered:pop(pause) then
                break
            end
            g:spawn(connection.raw, connection, "PING")
            pause = 0.005
        end
    end
    for i = 1, 2 do
        if errors.is(replies[i]) then
            error(replies[i], 0)
        end
    end
    group:judge(read(connection:raw("INFO", "replication")))
    return replies[2] < first.replicas or not group.list[first]
end

--- For servers where WAIT only makes the server ask the replicas. It ends when INFO wakes the server, which checks the
--- time limits of blocked clients only when a command arrives.
local function ask(connection, group, n)
    local pause <const> = math.min(SHORTEST_PAUSE * 2 ^ n, LONGEST_PAUSE)
    local text
    task.all {
        function() connection:raw("WAIT", MORE_THAN_ANY, 1) end,
        function()
            task.sleep(pause)
            text = connection:raw("INFO", "replication")
        end,
    }
    group:judge(read(text))
end

--- Answers the tasks whose write another process has run. False: the second connection is older than such a write, so a
--- new one may reach that process.
local function sift(group, run_id, serial)
    for _, waiter in ipairs(group:waiters()) do
        if waiter.run_id ~= run_id then
            if serial < waiter.serial then
                return false
            end
            tell(group, waiter, "another process has taken the server's place")
        end
    end
    return true
end

--- Serves the waiting tasks until there are none. Returns early when a new connection is needed.
local function serve_on(connection, group)
    local run_id <const>, serial <const> = task.timeout(group:left() + PATIENCE, learn, connection)
    local n = 0
    while sift(group, run_id, serial) do
        if not next(group.list) then
            return true
        elseif only_asks[run_id] then
            task.timeout(group:left() + PATIENCE, ask, connection, group, n)
        elseif not task.timeout(group:left() + PATIENCE, wait_for, connection, group, n) then
            only_asks[run_id], n = true, -1
        end
        n = n + 1
    end
    return false
end

local function acquire(group)
    local client <const> = next(group.list).client
    return task.timeout(group:left() + PATIENCE, client.acquire, client)
end

local function serve_once(group)
    local opened <const>, got <const> = pcall(acquire, group)
    if not opened then
        if not errors.is(got) or got.kind == "cancelled" then
            error(got, 0)
        end
        tell_all(group, got.message)
        return
    end
    local connection <close> = got
    local ok <const>, e <const> = pcall(serve_on, connection, group)
    if ok and e then
        return
    end
    connection:discard()
    if errors.is(e, "redis") then
        tell_all(group, e.message) -- the server refuses
    elseif errors.is(e, "cancelled") or not ok and not errors.is(e) then
        error(e, 0)
    elseif not ok then
        group.trouble = e.message
        task.sleep(0.01 + 0.02 * math.random()) -- tries another connection
    end
end

local End <const> = {
    __close = function(guard)
        if groups[guard.group.key] == guard.group then
            groups[guard.group.key] = nil
        end
        tell_all(guard.group, "the task that waits for replicas has ended")
    end,
}

local function serve(group)
    local guard <close> = setmetatable({ group = group }, End)
    while next(guard.group.list) do
        serve_once(group)
    end
end

-- ---- for a task ----

---The error of a write that is not confirmed.
---@param want dbrun.redis.Wait
---@param reply any of the write
---@param seen? integer
---@param why? string
---@param disk? {primary: integer, replicas: integer} who has it on disk
---@return dbrun.Error
function M.unconfirmed(want, reply, seen, why, disk)
    local message
    if disk then
        message = ("redis: the primary has run the write, but within %g s it was on the disks of %d of %d primaries "
            .. "and %d of %d replicas"):format(want.timeout, disk.primary, want.aof.primary, disk.replicas,
            want.aof.replicas)
    elseif why then
        message = ("redis: the server has run the write, but whether replicas have it is not known: %s"):format(why)
    else
        message = ("redis: the primary has run the write, but %d of %d replicas acknowledged it within %g s"):format(
            seen, want.replicas, want.timeout)
    end
    return errors.new {
        kind = "redis", code = "WAIT", outcome = "unknown", retryable = false, message = message,
        acknowledged = seen, asked = want.replicas, reply = reply,
        hint = "it is lost when a replica without it becomes the primary; min-replicas-to-write lets a primary refuse "
            .. "writes while it has too few replicas",
    }
end

---Whether it is the error of a write that was answered but not confirmed.
---@param e any
---@return boolean
function M.is_unconfirmed(e)
    return errors.is(e, "redis") and e.code == "WAIT" and e.asked ~= nil
end

local Gone <const> = {
    __close = function(guard)
        guard.group.list[guard.waiter] = nil
    end,
}

local ENDED <const> = { done = true, failed = true, cancelled = true }

--- Returns true, or why the answer cannot be known, or nil when the time is over.
local function wait_in_group(key, waiter)
    local group = groups[key]
    if not group or ENDED[group.task:status()] then -- cancelled before it began
        group = setmetatable({ key = key, list = { [waiter] = true } }, Waiters)
        group.task = core.task.daemon(serve, group)
        groups[key] = group
    end
    local guard <close> = setmetatable({ group = group, waiter = waiter }, Gone)
    group.list[waiter] = true
    local result <const> = waiter.answer:pop(waiter.give_up - task.now())
    if result == nil and not waiter.judged then
        return guard.group.trouble or "the server did not answer in time"
    end
    return result
end

--- The server's INFO after a write that the connection `written` has answered, and the connection that it came from.
--- Raises when that was another process, or the same one after it has been a replica in between, with another server's
--- data.
local function position(whole, written, before, give_up)
    local client <const> = whole:__until(give_up)
    local text <const> = client:call("INFO", "replication")
    local _ <const>, serial <const> = client:links()
    if not run_ids[serial] then
        learn(client)
    end
    if not run_ids[serial] or serial ~= written and run_ids[serial] ~= run_ids[written] then
        errors.fail("connect", "the connection was lost, and another process may have taken the server's place")
    end
    local info <const>, run_id <const> = read(text), run_ids[serial]
    histories[run_id] = info.history
    if info.was_replica and before.run_id == run_id and before.history ~= info.history then
        errors.fail("connect", "the server has been a replica in between")
    end
    return info, serial
end

---@class dbrun.redis.Wait
---@field replicas integer
---@field timeout number
---@field aof? {primary: integer, replicas: integer}

---Waits until the replicas have the write, or raises.
---@param client dbrun.redis.Client
---@param written integer the connection that answered the write
---@param before dbrun.redis.Before what M.prepare gave
---@param want dbrun.redis.Wait
---@param reply any of the write, for the error
function M.confirm(client, written, before, want, reply)
    local give_up <const> = task.now() + want.timeout
    client = client:with { timeout = want.timeout }:__until(math.huge)
    local ok <const>, info <const>, serial <const> = pcall(position, client, written, before, give_up)
    if not ok then
        if not M.is_of_command(info) then
            error(info, 0)
        end
        error(M.unconfirmed(want, reply, nil, info.message), 0)
    elseif not info.primary then
        error(M.unconfirmed(want, reply, nil, NO_PRIMARY), 0)
    end
    local waiter <const> = {
        client = client, run_id = run_ids[serial], serial = serial, history = info.history, offset = info.offset,
        replicas = want.replicas, give_up = give_up, seen = count(info, info.offset), judged = false,
        answer = task.queue(),
    }
    local result <const> = waiter.seen >= want.replicas
        or wait_in_group(select(3, client:links()), waiter)
    if result ~= true then
        error(M.unconfirmed(want, reply, waiter.seen, result), 0)
    end
end

return M
