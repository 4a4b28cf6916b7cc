--- Locks that are shared by all clients of a Redis: who holds one, until when that is certain, and what ends it.
local args <const> = require "dbrun.args"
local commands <const> = require "dbrun.redis.lock_commands"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local task <const> = require "dbrun.task"
local validity <const> = require "dbrun.redis.lock_validity"

local M = {}

local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.01, 0.25 -- between two attempts to take it
local LEAST_LIMIT <const> = 1 -- the least seconds for one attempt, however short the lock's own times are
local MOST_AT_ONCE <const> = 3 -- attempts without a pause after a reply that was lost or late

--- With a shorter ttl no lock is ever certain, and a longer one does not fit into the server's clock.
local TTL <const> = {
    function(v) return type(v) == "number" and v >= 0.003 and v <= 1e12 end, "a number of seconds from 0.003 to 1e12",
}

-- ---- the lock ----

---@class dbrun.redis.Lock
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field name string|number as it was given
---@field token string|false false: it was released
---@field ttl number seconds
---@field fence integer a number that grows with each holder
---@field package client dbrun.redis.Client|dbrun.redis.Cluster
---@field package node dbrun.redis.Client? of the server that was asked last
---@field package ms integer the ttl
---@field package fence_key string|false false: no fence was asked for
---@field package validity dbrun.redis.lock.Validity
---@field package valid_until number task.now() until which this client certainly holds it
---@field package changed table a condition, notified when valid_until changes
---@field package letting_go boolean its release was sent, or may have been sent
local Lock <const> = {}
names.answer("lock", Lock)
local Metatable <const> = { __name = "dbrun.redis.lock" }

local function on_lock(method, self)
    args.self(method, self, Metatable, "a lock", "l")
end

local function lost_error(lock, why)
    return errors.new {
        kind = "redis", code = "LOCKLOST", outcome = "unknown",
        message = ("redis: the lock '%s' was lost: %s"):format(lock.name, why),
        hint = "what it protects may have been changed by another holder since: check before you go on",
    }
end

local EXPIRED <const> = "it expired, or another client holds it"

--- Requested only when it is needed, because a fence leaves a key on the server.
function Metatable.__index(lock, name)
    if name ~= "fence" then
        return Lock[name]
    elseif not rawget(lock, "token") then
        errors.fail("usage", "redis: this lock was released, and it has no fence",
            "r:lock(name, {fence = true}) takes it with one")
    end
    local number <const> = commands.fence(lock)
    if number == 0 then
        error(lost_error(lock, EXPIRED), 0)
    end
    lock.fence = number
    return number
end

---Whether this client certainly holds the lock now, and for how many more seconds. (It does not ask the server.)
---@return boolean
---@return number? seconds how long that is certain
---```lua
---local lock <close> = r:lock("example:job", { ttl = 30 })
---local held, seconds = lock:valid()
---print(held, seconds > 25)  --> true  true
---```
function Lock:valid()
    on_lock("valid", self)
    local left <const> = self.valid_until - task.now()
    if self.token and left > 0 then
        return true, left
    end
    return false
end

---Waits until the lock is lost: until this client no longer certainly holds it.
---@param seconds? number wait at most so long
---@return boolean lost false when it was released, and after `seconds`
---```lua
---local lock <close> = r:lock("example:job", { ttl = 0.3 })
---print(lock:lost(5)) -- waits until its time is over  --> true
---```
function Lock:lost(seconds)
    on_lock("lost", self)
    args.optional("lost", "the time", seconds, args.limit)
    local stop <const> = task.now() + (seconds or math.huge)
    while not self.letting_go do
        local now <const> = task.now()
        if now >= self.valid_until then
            return true
        elseif now >= stop then
            return false
        end
        self.changed:wait(math.min(self.valid_until, stop) - now)
    end
    return false
end

--- False when it was lost. `at_least`: it stays as long as it is, if that is longer.
local function extend(lock, seconds, stop, at_least)
    local ms <const> = math.ceil(seconds * 1000)
    for _ = 1, MOST_AT_ONCE do
        local extension <const> = validity.ask(lock, ms, at_least)
        local ok, left = pcall(commands.extend, lock, ms, extension.shortens, stop)
        if not ok then
            local ran <const> = not errors.is(left) or left.outcome ~= "not_sent" and left.outcome ~= "failed"
            validity.failed(lock, extension, ran)
            error(left, 0)
        elseif left >= 0 then
            validity.granted(lock, extension, left)
            return left > 0 and not lock.letting_go
        end
        validity.failed(lock, extension, false)
        if lock.letting_go then
            return false
        end
        commands.forget_clock(lock)
    end
    errors.raise {
        kind = "timeout", outcome = "failed", retryable = true,
        message = ("redis: the lock '%s' was not extended: the command came later than %g s to the server"):format(
            lock.name, seconds),
    }
end

---Extends the lock to `ttl` seconds from now.
---@param ttl? number default: as given to lock
---@return boolean held false when it has expired, and another client may hold it
---```lua
---local lock <close> = r:lock("example:job", { ttl = 30 })
---print(lock:extend(60))  --> true
---```
function Lock:extend(ttl)
    on_lock("extend", self)
    args.optional("extend", "the time", ttl, TTL)
    if not self.token or self.letting_go then
        return false
    end
    return extend(self, ttl or self.ttl, commands.deadline(self))
end

--- Releases the lock on the server; tries once more when the connection is lost before the reply.
local function release(lock)
    local open <const>, stop <const> = pcall(commands.deadline, lock)
    if not open then
        return false, stop
    end
    local ok, held = pcall(commands.release, lock, stop)
    if not ok and errors.is(held, "connect") and held.outcome == "unknown" then
        lock.doubt = true
        ok, held = pcall(commands.release, lock, stop)
    end
    return ok, held
end

--- Whether the task was cancelled, or its task.timeout has passed.
local function is_cancelled(e)
    return errors.is(e, "cancelled") or (errors.is(e, "timeout") and not e.outcome)
end

---Releases the lock. Harmless when it has expired or was released already. After an error it can be called again.
---@return boolean held false when it had expired
---```lua
---local lock = r:lock("example:job", { ttl = 30 })
---print(lock:release(), lock:release())  --> true  false
---```
function Lock:release()
    on_lock("release", self)
    if not self.token then
        return false
    end
    -- From here on another client may get the lock.
    local before <const>, twice <const> = self.valid_until, self.letting_go
    self.before = math.max(self.before or before, before)
    self.letting_go = true
    validity.update(self)
    local ok, held = release(self)
    if not ok then
        if is_cancelled(held) then
            commands.release_in_background(self)
        elseif errors.is(held) and held.outcome == "not_sent" and not twice and not self.doubt then
            self.letting_go = false
            validity.update(self)
        end
        self.doubt = self.doubt or not errors.is(held) or held.outcome ~= "not_sent"
        self.failure = held
        error(held, 0)
    end
    self.token = false
    self.changed:notify(math.maxinteger)
    -- An earlier release, whose reply was lost, may have ended it.
    return held or (self.doubt and task.now() < self.before) or false
end

---@param lock dbrun.redis.Lock
---@param e any the error that ends the block
function Metatable.__close(lock, e)
    if e ~= nil and e == lock.failure then -- the block has just tried, and raises the error
        if not is_cancelled(e) then
            commands.release_in_background(lock)
        end
        return
    end
    local ok <const>, failure <const> = pcall(Lock.release, lock)
    if ok then
        return
    end
    local sent <const> = is_cancelled(failure)
    if not sent then
        commands.release_in_background(lock)
    end
    local node <const> = lock.node
    if errors.is(failure, "usage") and node and not node:closed() then
        -- Nothing can wait here (coroutine.close), but the release was sent.
        return
    elseif e == nil then
        error(failure, 0)
    elseif sent then
        return
    end
    core.log.write("warn", ("redis: the release of the lock '%s' was not answered; it may last for its ttl: %s"):format(
        lock.name, tostring(failure)))
end

-- ---- taking it ----

--- Releases the lock after an attempt that may have taken it, when nothing else does.
local Guard <const> = {
    __close = function(guard)
        if guard.doubt then
            commands.release_in_background(guard.lock)
        end
    end,
}

local RETRIED <const> = { READONLY = true, LOADING = true, MASTERDOWN = true, TRYAGAIN = true, CLUSTERDOWN = true }

--- Whether another attempt can follow a failed one while there is time.
local function may_retry(e)
    if not errors.is(e) or e.kind == "cancelled" then
        return false
    elseif e.kind == "timeout" then
        return e.outcome ~= nil -- else it is the end of a task.timeout
    end
    return e.retryable or RETRIED[e.code] or (e.kind == "connect" and e.outcome == "unknown")
end

local function late_error(lock)
    return errors.new {
        kind = "timeout", outcome = "failed", retryable = true,
        message = ("redis: the answer about the lock '%s' came when its ttl of %g s had passed"):format(lock.name,
            lock.ttl),
    }
end

local function taken_error(lock, wait)
    return errors.new {
        kind = "timeout", outcome = "not_sent", retryable = true,
        message = ("redis: the lock '%s' is held by another client (waited %g s)"):format(lock.name, wait),
    }
end

--- Whether a lock that the server has given to this client is certain here, and for about its ttl.
local function settle(lock, sent, left, stop)
    validity.taken(lock, sent, left)
    -- Most of the ttl has passed, or the server's clock has changed.
    if left < lock.ms / 2 or left > lock.ms * 1.5 + 1000 or not lock:valid() then
        commands.forget_clock(lock)
        return extend(lock, lock.ttl, stop) and lock:valid()
    end
    return true
end

--- One attempt, which ends at `stop`. Returns true; or false, the error, and whether to try again at once.
local function attempt(lock, guard, wait, stop)
    local sent <const> = task.now()
    local ours = false
    local ok, state, left, fence = pcall(commands.acquire, lock, stop, function() ours = true end)
    if not ok then
        local e <const> = state
        local undone <const> = not ours and errors.is(e) and e.kind == "timeout" and e.outcome == "unknown"
        if undone or not ours and is_cancelled(e) then
            commands.follow(lock)
        end
        if undone then
            -- Its release was sent, and would also release a lock that a later attempt takes with the same token.
            lock.token, guard.doubt = core.redis.random_token(), false
        elseif ours or not errors.is(e) or e.outcome == "unknown" then
            guard.doubt = true
        end
        if not may_retry(e) then
            error(e, 0)
        end
        return false, e, not undone and guard.doubt
    elseif state == "taken" then
        return false, taken_error(lock, wait), false
    elseif state == "late" then
        commands.forget_clock(lock)
        return false, late_error(lock), true
    end
    guard.doubt = true
    lock.fence = fence
    if settle(lock, sent, left, stop) then
        guard.doubt = false
        return true
    end
    return false, late_error(lock), true
end

local function take(lock, wait)
    local began <const> = task.now()
    local give_up <const> = began + wait
    -- Without `wait` it is one call with the time limit of one command of the client.
    local stop <const> = wait > 0 and give_up
        or math.min(began + math.max(lock.ttl, LEAST_LIMIT), commands.deadline(lock))
    local guard <close> = setmetatable({ lock = lock, doubt = false }, Guard)
    local pause, at_once = FIRST_PAUSE, 0
    while true do
        local limit <const> = wait > 0 and math.max(stop, task.now() + LEAST_LIMIT) or stop
        local held <const>, e <const>, soon <const> = attempt(lock, guard, wait,
            math.min(limit, commands.deadline(lock)))
        if held then
            return
        end
        local now <const> = task.now()
        local left <const> = give_up - now
        if soon and at_once < MOST_AT_ONCE and now < stop then
            at_once = at_once + 1
        elseif left <= 0 then
            error(e, 0)
        else
            -- With jitter, so that two waiters do not collide again and again.
            task.sleep(math.min(left, pause * (0.5 + math.random())))
            pause = math.min(pause * 1.5, LONGEST_PAUSE)
        end
    end
end

-- ---- holding it while a function runs ----

--- Extends the lock every `every` seconds (nil: only watches it). Raises when it is lost.
local function keep(lock, every)
    local due, cause = every and task.now() + every, nil
    while not lock.letting_go do
        local now <const> = task.now()
        if now >= lock.valid_until then
            error(lost_error(lock, cause and ("it could not be extended: %s"):format(
                errors.is(cause) and cause.message or tostring(cause)) or EXPIRED), 0)
        elseif due and now >= due then
            local ok, held = pcall(extend, lock, lock.ttl, math.min(lock.valid_until, commands.deadline(lock)), true)
            -- An error reply does not end the lock: it is held while it is valid.
            if not ok and not may_retry(held) and not errors.is(held, "redis") then
                error(held, 0)
            end
            -- The error of a last attempt that the lock's expiry cut short says less than the error before it.
            local cut_short <const> = errors.is(held, "timeout") and task.now() >= lock.valid_until
            if ok then
                cause = nil
            elseif not (cause and cut_short) then
                cause = held
            end
            due = task.now() + (ok and every or math.min(every, lock.ttl / 20) * (0.5 + math.random()))
        else
            lock.changed:wait(math.min(lock.valid_until, due or math.huge) - now)
        end
    end
end

--- Ends the keeper with the function, even after error(nil), which a group takes for an end without an error.
local Keeper <const> = {
    __close = function(guard)
        guard.task:cancel()
    end,
}

local function hold(lock, every, fn)
    local held <close> = lock
    local results
    do
        local g <close> = task.group()
        local keeper <close> = setmetatable({ task = g:spawn(keep, held, every) }, Keeper) -- luacheck: ignore 211
        results = table.pack(fn(held))
    end
    if held.token and not held:release() then
        error(lost_error(held, EXPIRED .. ", before the function returned"), 0)
    end
    return table.unpack(results, 1, results.n)
end

local LOCK <const> = {
    ttl = TTL, wait = args.any_seconds, fence = "boolean",
    auto_extend = {
        function(v) return type(v) == "boolean" or args.some_seconds[1](v) end, "true, or a number of seconds above 0",
    },
}

local function arguments(opts, fn)
    if fn ~= nil or type(opts) == "function" then
        opts, fn = args.options_and_function("lock", opts, fn, LOCK)
    else
        opts = args.options("lock", opts, LOCK)
    end
    local ttl <const>, every = opts.ttl or 10, opts.auto_extend or nil
    if every and not fn then
        errors.fail("usage", "lock: auto_extend needs the function that runs meanwhile",
            "r:lock(name, {auto_extend = true}, function(l) ... end)")
    elseif every == true then
        every = ttl / 3
    elseif every and every >= ttl then
        errors.fail("usage", ("lock: auto_extend must be less than the ttl of %g s, got %g"):format(ttl, every),
            "both are seconds; auto_extend = true extends it at a third of its ttl")
    end
    return ttl, opts.wait or 0, every, opts.fence, fn
end

---For client:lock(name [, options] [, fn]).
---@param client dbrun.redis.Client
---@param name string|number
---@param opts? table|function
---@param fn? function
---@return dbrun.redis.Lock|any ... with a function its results
function M.take(client, name, opts, fn)
    args.check("lock", "the name", name, options.KEY)
    local ttl <const>, wait <const>, every <const>, fence <const>, work <const> = arguments(opts, fn)
    local lock <const> = setmetatable({
        name = name, token = core.redis.random_token(), ttl = ttl, ms = math.ceil(ttl * 1000), client = client,
        fence_key = fence and commands.fence_key(name) or false, valid_until = -math.huge,
        validity = validity.new(), changed = core.task.condition(), letting_go = false, doubt = false, before = false,
    }, Metatable)
    take(lock, wait)
    if work then
        return hold(lock, every, work)
    end
    return lock
end

return M
