--- The commands of locks. Those that take and extend a lock carry an expiry on the server's clock, so a command that a
--- frozen server runs late, after its connection was closed, does nothing.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local redirect <const> = require "dbrun.redis.redirect"
local task <const> = require "dbrun.task"

local M = {}

local CLOCK_FOR <const> = 60 -- seconds after which the server's clock is read again
local MOST_KNOWN <const> = 256 -- connections

local function script(source)
    return { source = source, sha = core.digest("sha1", source) }
end

--- `left` = milliseconds that the lock gets: ARGV[2] from the sending of the command; ARGV[3] is the expiry on the
--- server's clock.
local LEFT <const> = [[
local left = tonumber(ARGV[2])
if ARGV[3] ~= "" then
    local now = redis.call("time")
    left = math.min(left, tonumber(ARGV[3]) - now[1] * 1000 - math.floor(now[2] / 1000))
end
]]

--- Returns {1, milliseconds left, fence}; {0, milliseconds that the holder has left}; or {-1}: the command came too
--- late.
local ACQUIRE <const> = script([[
local holder = redis.call("get", KEYS[1])
if holder and holder ~= ARGV[1] then return {0, redis.call("pttl", KEYS[1])} end
]] .. LEFT .. [[
if left <= 0 then return {-1} end
if holder then left = math.max(left, redis.call("pttl", KEYS[1])) end
local fence = KEYS[2] and redis.call("incr", KEYS[2]) or 0
redis.call("set", KEYS[1], ARGV[1], "PX", left)
return {1, left, fence}]])

--- ARGV[4] = "": it must not end the lock earlier than one that was sent after it, and has run. Returns the
--- milliseconds left; 0: another client or none holds the lock; -1: the command came too late.
local EXTEND <const> = script([[
if redis.call("get", KEYS[1]) ~= ARGV[1] then return 0 end
]] .. LEFT .. [[
if left <= 0 then return -1 end
if ARGV[4] == "" then left = math.max(left, redis.call("pttl", KEYS[1])) end
redis.call("pexpire", KEYS[1], left)
return left]])

local RELEASE <const> = script [[
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end
return 0]]

local FENCE <const> = script [[
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("incr", KEYS[2]) end
return 0]]

-- ---- which node ----

---Where a command is sent.
---@class dbrun.redis.lock.Place
---@field client dbrun.redis.Client of one server
---@field asking boolean the key's slot is migrating to it
---@field stop number task.now() at the time limit
---@field name string what errors call the command

--- Runs `fn(place)` on one server; for a client whose writes wait for replicas (r:with{wait = ...}) it waits for them.
local function at_server(lock, place, fn, wrote)
    local client <const> = place.client
    if type(client) == "userdata" then
        lock.node = client
        return fn(place)
    end
    lock.node = client.inner
    local results <const> = client:__until(place.stop):confirming(function(handle)
        place.client = handle
        return table.pack(fn(place))
    end, function(results)
        return wrote(table.unpack(results, 1, results.n))
    end)
    return table.unpack(results, 1, results.n)
end

--- Runs `fn(place)` for the server that has the lock; in a cluster it follows redirections. `wrote(...)`: whether these
--- results of fn mean that it wrote something that replicas should have.
local function at(lock, stop, fn, wrote)
    local client = lock.client
    local name <const> = ("the command for the lock '%s'"):format(lock.name)
    if type(client) == "userdata" or rawget(client, "inner") then
        return at_server(lock, { client = client, asking = false, stop = stop, name = name }, fn, wrote)
    end
    client = client:__until(stop)
    client:ready()
    local slot <const> = core.redis.slot(lock.name)
    local trip
    repeat
        local asking <const> = trip and trip.asking or false
        local shard <const> = client.state.topology:shard(slot)
        local node <const> = trip and trip.node or shard and shard.primary
        local failure
        if node then
            local server <const> = client.want and node.client:with { wait = client.want } or node.client
            local place <const> = { client = server, asking = asking, stop = stop, name = name }
            local ok, one, two, three = pcall(at_server, lock, place, fn, wrote)
            if ok then
                return one, two, three
            end
            failure = one
        else
            failure = redirect.unassigned(slot)
        end
        if trip then
            trip:failed(node, failure)
        else
            trip = redirect.trip(client, slot, node, failure, stop)
        end
    until not trip:again()
    error(trip.failure, 0)
end

local function queue(place, ...)
    local p <const> = place.client:batch(false)
    for _, command in ipairs { ... } do
        if place.asking then
            p:asking()
        end
        p:call(table.unpack(command))
    end
    return p
end

--- Sends one or two commands together, and `undo` after them when the task gives up. Raises an error reply.
local function send(place, undo, ...)
    local p <const> = queue(place, ...)
    local replies <const> = p:send(undo and queue(place, undo), place.stop, place.name)
    local step <const> = place.asking and 2 or 1
    local one <const>, two <const> = replies[step], replies[2 * step]
    if errors.is(one) then
        error(one, 0)
    elseif errors.is(two) then
        two.outcome = "unknown" -- the first one has run
        error(two, 0)
    end
    return one, two
end

local function run(place, undo, of, keys, argv)
    local ok, reply = pcall(send, place, undo, { "EVALSHA", of.sha, #keys, keys, argv })
    if ok then
        return reply
    elseif not errors.is(reply, "redis") or reply.code ~= "NOSCRIPT" then
        error(reply, 0)
    end
    return (send(place, undo, { "EVAL", of.source, #keys, keys, argv }))
end

--- The same for a script that counts holders.
local function run_fenced(place, undo, of, keys, argv)
    local ok, reply = pcall(run, place, undo, of, keys, argv)
    if ok then
        return reply
    end
    local text <const> = errors.is(reply, "redis") and keys[2] and reply.message or ""
    if text:find "not an integer" or text:find "would overflow" then
        reply.hint = ("the key '%s' counts the holders and must be a whole number: look who wrote it"):format(keys[2])
    elseif keys[2] and errors.is(reply, "redis") and (reply.code == "WRONGTYPE" or reply.code == "NOPERM") then
        reply.hint = ("the lock is the key '%s', and the key '%s' counts its holders: both must be strings that this "
            .. "user may read and write"):format(keys[1], keys[2])
    end
    error(reply, 0)
end

local function release(lock)
    return { "EVAL", RELEASE.source, 1, lock.name, lock.token }
end

-- ---- the server's clock ----

---@class dbrun.redis.lock.Facts
---@field asked number when its clock was read; -math.huge: read it again
---@field offset number? milliseconds from our clock to the server's; nil: the server does not tell
---@field old boolean it has no SET NX GET (before Redis 7.0)

--- What is known of servers, by the serial number of the connection that told it: all handles of a client share it.
---@type table<integer, dbrun.redis.lock.Facts>
local facts, known = {}, 0

local function facts_of(serial)
    local of = facts[serial]
    if not of then
        if known >= MOST_KNOWN then
            facts, known = {}, 0
        end
        of = { asked = -math.huge, old = false }
        facts[serial], known = of, known + 1
    end
    return of
end

--- The server's time now, in milliseconds, at most a round trip ahead; nil: the server does not tell.
local function time_of(place)
    local client <const>, now <const> = place.client, task.now()
    local of = facts[client:links()]
    if not of or now - of.asked > CLOCK_FOR then
        local ok, time = pcall(send, place, nil, { "TIME" })
        if not ok and not errors.is(time, "redis") then
            error(time, 0)
        end
        of = facts_of(select(2, client:links()))
        of.asked, of.offset = now, ok and time[1] * 1000 + time[2] // 1000 - now * 1000 or nil
    end
    return of.offset and of.offset + task.now() * 1000
end

---Forgets the server's clock, which has changed: after a failover, or because it was set.
---@param lock dbrun.redis.Lock
function M.forget_clock(lock)
    local of <const> = type(lock.node) == "userdata" and facts[lock.node:links()] -- not so in a dry run of a cluster
    if of then
        of.asked = -math.huge
    end
end

--- The expiry of a command that is sent now, as an argument of a script.
local function void_at(place, ms)
    local now <const> = time_of(place)
    return now and math.ceil(now + ms) or ""
end

-- ---- taking ----

local function acquire_plainly(place, lock)
    local void <const> = void_at(place, lock.ms)
    local set <const> = { "SET", lock.name, lock.token, "NX", "GET", "PX", lock.ms }
    if void ~= "" then
        set[6], set[7] = "PXAT", void
    end
    local holder <const>, left <const> = send(place, release(lock), set, { "PTTL", lock.name })
    if holder ~= nil and holder ~= lock.token then
        return "taken", left
    end
    return left > 0 and "ours" or "late", left
end

local STATES <const> = { [1] = "ours", [0] = "taken", [-1] = "late" }

local function acquire(place, lock)
    local of <const> = facts[place.client:links()]
    if not lock.fence_key and not (of and of.old) then
        local ok, state, left = pcall(acquire_plainly, place, lock)
        if ok then
            return state, left
        elseif not errors.is(state, "redis") or not state.message:find "^ERR syntax error" then
            error(state, 0)
        end
        facts_of(select(2, place.client:links())).old = true
    end
    local argv <const> = { lock.token, lock.ms, void_at(place, lock.ms) }
    local reply <const> = run_fenced(place, release(lock), ACQUIRE, { lock.name, lock.fence_key or nil }, argv)
    return STATES[reply[1]], reply[2], lock.fence_key and reply[3] or nil
end

---The deadline of a lock call that begins now: that of one command of its client, shared by all its steps.
---@param lock dbrun.redis.Lock
---@return number stop on the clock of task.now()
function M.deadline(lock)
    return select(2, lock.client:__until())
end

---Tries to take the lock. When the task gives up, or at `stop`, the release is sent after it, and the token must not be
---used again. This is not so once `on_ours` was called: then the server has given the lock to this client, and the
---error came while waiting for replicas.
---@param lock dbrun.redis.Lock
---@param stop number
---@param on_ours fun()
---@return "ours"|"taken"|"late" state ours: perhaps by an earlier attempt with this token, whose reply was lost
---@return integer? left milliseconds until it expires
---@return integer? fence
function M.acquire(lock, stop, on_ours)
    return at(lock, stop, function(place)
        local state <const>, left <const>, fence <const> = acquire(place, lock)
        if state == "ours" then
            on_ours()
        end
        return state, left, fence
    end, function(state) return state == "ours" end)
end

-- ---- holding and releasing ----

---@param lock dbrun.redis.Lock
---@param ms integer
---@param shortens boolean it may end the lock earlier than another extension
---@param stop number
---@return integer left milliseconds until it expires; 0: this client does not hold it; -1: the command came too late
function M.extend(lock, ms, shortens, stop)
    return at(lock, stop, function(place)
        return run(place, nil, EXTEND, { lock.name }, { lock.token, ms, void_at(place, ms), shortens and 1 or "" })
    end, function(left) return left > 0 end)
end

---@param lock dbrun.redis.Lock
---@param stop number
---@return boolean held
function M.release(lock, stop)
    return at(lock, stop, function(place)
        -- A client with idempotent = true repeats what nothing undoes, and a release that has run finds no lock then.
        return run(place, release(lock), RELEASE, { lock.name }, { lock.token }) == 1
    end, function() return false end)
end

local function release_where_it_is(lock)
    pcall(M.release, lock, M.deadline(lock))
end

---In a cluster: releases the lock at the node that has its slot by now, in the background. A release that was sent with
---the lock is refused where the lock has moved away.
---@param lock dbrun.redis.Lock
function M.follow(lock)
    local client <const> = lock.client
    if type(client) == "table" and not rawget(client, "inner") and not client:closed() then
        core.task.daemon(release_where_it_is, { client = client, name = lock.name, token = lock.token })
    end
end

---Releases the lock without waiting for the answer, even in a place that cannot wait.
---@param lock dbrun.redis.Lock
function M.release_in_background(lock)
    local client <const> = lock.node
    if client and not client:closed() then
        client:batch(false):call(table.unpack(release(lock))):post()
        M.follow(lock)
    end
end

-- ---- fences ----

---@param lock dbrun.redis.Lock
---@return integer number 0: this client does not hold it
function M.fence(lock)
    return at(lock, M.deadline(lock), function(place)
        return run_fenced(place, nil, FENCE, { lock.name, M.fence_key(lock.name) }, { lock.token })
    end, function(number) return number > 0 end)
end

---The key that counts the holders of a lock, in the hash slot of the lock: `{name}:fence`, or `name:fence` when the
---name has a {tag} already.
---@param name string|number
---@return string key
function M.fence_key(name)
    local slot <const> = core.redis.slot(name)
    for _, key in ipairs { ("{%s}:fence"):format(name), ("%s:fence"):format(name) } do
        if core.redis.slot(key) == slot then
            return key
        end
    end
    -- For a name with braces that are not a tag ("a}b"): the smallest number whose tag is in the same slot.
    local tag = 0
    while core.redis.slot(tag) ~= slot do
        tag = tag + 1
    end
    return ("{%d}%s:fence"):format(tag, name)
end

return M
