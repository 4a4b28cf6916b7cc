--- Locks in a dry run: a lock is granted when a read shows that nobody holds it; for the rest of the run this program's
--- own tasks exclude each other. No write is sent.
local commands <const> = require "dbrun.redis.lock_commands"
local task <const> = require "dbrun.task"

local M = {}

---@class dbrun.dry.HeldLock
---@field token string
---@field stop number task.now() at its end

---@type table<string, dbrun.dry.HeldLock>
local held <const> = {}
---The number of holders that this run would have added to a fence key.
---@type table<string, integer>
local counted <const> = {}

--- Clients of one server and database share their locks.
local function id_of(lock, key)
    local client <const> = type(lock.client) == "userdata" and lock.client or rawget(lock.client, "inner")
    local database <const> = client and select(4, client:links()) or 0 -- a cluster has one
    return ("%s %d %s"):format(tostring(lock.client), database, key)
end

local function holder(lock)
    local one <const> = held[id_of(lock, lock.name)]
    return one and one.stop > task.now() and one or nil
end

local function is_mine(lock)
    local one <const> = holder(lock)
    return one ~= nil and one.token == lock.token
end

--- The number that the next holder would get.
local function next_fence(lock, client, key)
    local id <const> = id_of(lock, key)
    counted[id] = (counted[id] or 0) + 1
    return (math.tointeger(tonumber(client:get(key))) or 0) + counted[id]
end

--- Takes the place of the commands of a lock.
---@param note fun(label: string, key: string|number) lists a lock that is not taken on the server
function M.install(note)
    function commands.acquire(lock, stop, on_ours)
        local one <const> = holder(lock)
        if one and one.token ~= lock.token then
            return "taken", math.ceil((one.stop - task.now()) * 1000)
        end
        local client <const> = lock.client:__until(stop)
        local value <const> = client:get(lock.name)
        if value ~= nil and value ~= lock.token then
            return "taken", client:pttl(lock.name)
        end
        lock.node = lock.client
        held[id_of(lock, lock.name)] = { token = lock.token, stop = task.now() + lock.ms / 1000 }
        note("lock", lock.name)
        on_ours()
        return "ours", lock.ms, lock.fence_key and next_fence(lock, client, lock.fence_key) or nil
    end

    function commands.extend(lock, ms, shortens)
        if not is_mine(lock) then
            return 0
        end
        local one <const>, stop <const> = held[id_of(lock, lock.name)], task.now() + ms / 1000
        one.stop = shortens and stop or math.max(stop, one.stop)
        return ms
    end

    function commands.release(lock)
        local mine <const> = is_mine(lock)
        if mine then
            held[id_of(lock, lock.name)] = nil
        end
        return mine
    end

    commands.release_in_background = commands.release

    function commands.fence(lock)
        return is_mine(lock) and next_fence(lock, lock.client, commands.fence_key(lock.name)) or 0
    end
end

return M
