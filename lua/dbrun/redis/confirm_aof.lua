--- Waits until a write is on disk. WAITAOF reports only on the writes of its own connection, and INFO does not show
--- what is on disk. So these writes run on a dedicated connection, followed by WAITAOF.
local confirm <const> = require "dbrun.redis.confirm"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

---Raises when the server cannot report what is on disk; nothing was written.
---@param connection dbrun.redis.Connection
---@param want dbrun.redis.Wait
function M.prepare(connection, want)
    local batch <const> = connection:batch(false)
    batch:call("COMMAND", "INFO", "WAITAOF")
    batch:call("INFO", "persistence")
    local replies <const> = confirm.before_write(batch.send, batch)
    local known_there <const>, text <const> = replies[1], replies[2]
    local why
    if errors.is(known_there) or errors.is(text) then
        why = (errors.is(known_there) and known_there or text).message
    elseif not known_there[1] then
        why = "the server has no WAITAOF, which is new in Redis 7.2"
    elseif want.aof.primary > 0 and not text:find("aof_enabled:1", 1, true) then
        why = "the server keeps no append-only file (appendonly no)"
    end
    if why then
        errors.raise {
            kind = "redis", code = "WAITAOF", outcome = "not_sent", retryable = false,
            message = "redis: no write can be confirmed to be on disk: " .. why,
            hint = "wait = {replicas = n} without aof waits until the replicas have it in memory",
        }
    end
end

--- WAITAOF, and WAIT where more replicas must have it in memory. The server checks the time limits of blocked clients
--- only when a command arrives: PING wakes it. (They are blocking commands: their time limit is not that of the
--- client's other commands, and a long wait does not mean that the server is down.)
local function wait_here(connection, want)
    local give_up <const> = task.now() + want.timeout
    local ms <const> = math.max(1, math.floor(want.timeout * 900))
    return task.race {
        function()
            local seen
            local disk <const> = connection:call("WAITAOF", want.aof.primary, want.aof.replicas, ms)
            if want.replicas > want.aof.replicas then
                seen = connection:call("WAIT", want.replicas, math.max(1, math.floor((give_up - task.now()) * 900)))
            end
            return { primary = disk[1], replicas = disk[2], seen = seen or disk[2] }
        end,
        function()
            for _ = 1, 2 do
                task.sleep(math.max(0, (give_up - task.now()) * 0.9) + 0.003)
                connection:raw "PING"
            end
            task.sleep(want.timeout) -- the others end first
        end,
        function() -- even if the server hangs
            task.sleep(math.max(0, give_up - task.now()))
            return {}
        end,
    }
end

---Waits until the writes of this connection are on disk, or raises.
---@param connection dbrun.redis.Connection
---@param want dbrun.redis.Wait
---@param reply any
function M.confirm(connection, want, reply)
    local ok <const>, got <const> = pcall(wait_here, connection, want)
    if not ok and not confirm.is_of_command(got) then
        error(got, 0)
    elseif not ok or not got.seen then
        error(confirm.unconfirmed(want, reply, nil, ok and "the server did not answer in time" or got.message), 0)
    elseif got.primary < want.aof.primary or got.replicas < want.aof.replicas or got.seen < want.replicas then
        local on_disk <const> = got.primary >= want.aof.primary and got.replicas >= want.aof.replicas
        error(confirm.unconfirmed(want, reply, got.seen, nil, not on_disk and got or nil), 0)
    end
end

return M
