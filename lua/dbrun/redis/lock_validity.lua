--- Until when a lock is certainly held. What was asked for and not answered may run at the server later: an extension
--- that may shorten the lock counts from its sending until it is known that it has not run, or has run before another.
local task <const> = require "dbrun.task"

local M = {}

local SPARE <const> = 1 -- seconds after its own expiry in which an extension may still run, by a clock read too early

---@class dbrun.redis.lock.Validity
---@field granted number until when the server's answers say that it is held
---@field longest number until when the server may hold it
---@field flying table<dbrun.redis.lock.Extension, true> extensions that are not answered
---@field doubts table<dbrun.redis.lock.Extension, true> those that may shorten it, and may not have run yet

---@class dbrun.redis.lock.Extension
---@field ms integer
---@field sent number
---@field stop number until when the lock is held with it
---@field shortens boolean it may end the lock earlier than another one does
---@field cap number until when the lock is held by a shorter one that was answered meanwhile

---@return dbrun.redis.lock.Validity
function M.new()
    return { granted = -math.huge, longest = -math.huge, flying = {}, doubts = {} }
end

--- Counted from the sending of the command, less 1 % and 2 ms for clock drift.
local function valid_from(sent, ms)
    return sent + ms / 1000 * 0.99 - 0.002
end

---Computes `lock.valid_until` again, and tells those who wait for its change.
---@param lock dbrun.redis.Lock
function M.update(lock)
    local stop = lock.letting_go and -math.huge or lock.validity.granted
    for extension in pairs(lock.validity.doubts) do
        stop = math.min(stop, extension.stop)
    end
    lock.valid_until = stop
    lock.changed:notify(math.maxinteger)
end

---The server has given the lock.
---@param lock dbrun.redis.Lock
---@param sent number
---@param left integer milliseconds that the server gave, of which the lock's ttl counts
function M.taken(lock, sent, left)
    local v <const> = lock.validity
    v.granted = valid_from(sent, math.min(left, lock.ms))
    v.longest = valid_from(sent, left)
    M.update(lock)
end

---An extension is sent now.
---@param lock dbrun.redis.Lock
---@param ms integer
---@param at_least? boolean it must not shorten the lock
---@return dbrun.redis.lock.Extension
function M.ask(lock, ms, at_least)
    local v <const>, sent <const> = lock.validity, task.now()
    local stop <const> = valid_from(sent, ms)
    local shortens <const> = not at_least and stop < v.longest
    local extension <const> = { ms = ms, sent = sent, stop = stop, shortens = shortens, cap = math.huge }
    v.longest = math.max(v.longest, stop)
    v.flying[extension] = true
    v.doubts[extension] = extension.shortens or nil
    M.update(lock)
    return extension
end

---The extension was not answered. `ran`: it may have run, or may run later.
---@param lock dbrun.redis.Lock
---@param extension dbrun.redis.lock.Extension
---@param ran boolean
function M.failed(lock, extension, ran)
    local v <const> = lock.validity
    v.flying[extension] = nil
    if not ran then
        v.doubts[extension] = nil
    end
    M.update(lock)
end

---The extension has run.
---@param lock dbrun.redis.Lock
---@param extension dbrun.redis.lock.Extension
---@param left integer milliseconds; 0: the lock was lost
function M.granted(lock, extension, left)
    local v <const> = lock.validity
    v.flying[extension], v.doubts[extension] = nil, nil
    local stop <const> = valid_from(extension.sent, math.min(left, extension.ms))
    v.granted = left > 0 and math.min(extension.shortens and stop or math.max(stop, v.granted), extension.cap)
        or -math.huge
    v.longest = valid_from(extension.sent, left)
    for other in pairs(v.flying) do
        v.longest = math.max(v.longest, other.stop)
        if extension.shortens then -- the server may have run the other one before
            other.cap = math.min(other.cap, v.granted)
        end
    end
    for other in pairs(v.doubts) do
        if not v.flying[other] and other.sent + other.ms / 1000 + SPARE < extension.sent then
            v.doubts[other] = nil -- too late to run, and the lock is still held
        end
    end
    M.update(lock)
end

return M
