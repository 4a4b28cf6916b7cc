--- Transactions with watched keys: each attempt has a dedicated connection, and runs again when a key changed or the
--- connection was lost before EXEC was sent. Getting connections, WATCH, EXEC and pauses share one deadline, the
--- client's for commands, which does not include the run time of the caller's function.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

--- Whether nothing can have changed when the connection was lost before EXEC. The outcome of the command in flight is
--- unknown, but WATCH and commands that only read change nothing.
local function changed_nothing(e, sent)
    if sent or e.outcome ~= "unknown" then
        return e.outcome == "not_sent"
    end
    local fact <const> = e.statement == "WATCH" or core.redis.fact(e.statement or "")
    return fact == true or fact ~= nil and fact.reads and not fact.subcommands
end

--- Closes the connection for good unless all went well, because WATCH may still be in force.
local function discard_unless_clean(guard, e)
    if guard.clean then
        return
    end
    if errors.is(e, "connect") and guard.connection:lost() and changed_nothing(e, guard.sent) then
        e.outcome, e.retryable, guard.lost.before_exec = "not_sent", true, true
        e.hint = "nothing was done: multi{retry = n} runs it again on another connection, n times more"
    end
    guard.connection:discard()
end
local Guard <const> = { __close = discard_unless_clean }

--- One attempt on a connection with WATCH. The replies, or nil when a watched key had changed.
local function watched_attempt(connection, call, keys, fn, hooks)
    local held <close> = connection -- luacheck: ignore 211
    if hooks then
        hooks.before(connection)
    end
    local guard <close> = setmetatable({ connection = connection, clean = false, lost = call }, Guard)
    connection:raw("WATCH", keys)
    local tx <const> = hooks and hooks.batch(connection) or connection:batch(true)
    connection:__until(math.huge)
    local began <const> = task.now()
    fn(tx, connection)
    call.stop = call.stop + task.now() - began
    connection:__until(call.stop)
    local replies
    if #tx > 0 then
        guard.sent = true
        replies = tx:send(nil, call.stop)
    else
        connection:raw "UNWATCH"
        replies = {}
    end
    guard.clean = true
    if hooks then
        hooks.after(connection, tx, replies)
    end
    return replies
end

--- Seconds to wait for a server after a lost connection, as for commands on the shared connection.
local COMEBACK <const> = 5
local WHAT <const> = "the transaction"

local function acquire_until(client, give_up)
    local pause = 0.02
    while true do
        local ok <const>, result = pcall(client.__acquire, client, WHAT)
        if ok then
            return result
        end
        local left <const> = give_up - task.now()
        if left <= 0 or not errors.is(result, "connect") or not result.retryable or result.code == "BUSY" then
            error(result, 0)
        end
        task.sleep(math.min(left, pause * (0.5 + math.random())))
        pause = math.min(pause * 2, 0.5)
    end
end

---Runs `fn(tx, connection)` and sends what it queued, at most `retry` times more.
---@param client dbrun.redis.Client
---@param keys (string|number)[]
---@param retry integer
---@param fn fun(tx: dbrun.redis.Pipeline, connection: dbrun.redis.Connection)
---@param hooks? {before: fun(connection), batch: fun(connection): table, after: fun(connection, tx, replies)} hooks of
---  confirmed writes around an attempt
---@return any[] replies
function M.run(client, keys, retry, fn, hooks)
    local call <const> = { before_exec = false, stop = select(2, client:__until()) }
    for left = retry, 0, -1 do
        local bounded <const> = client:__until(call.stop)
        local connection <const> = call.before_exec
            and acquire_until(bounded, math.min(task.now() + COMEBACK, call.stop)) or bounded:__acquire(WHAT)
        call.before_exec = false
        local ok, replies
        if left > 0 then
            ok, replies = pcall(watched_attempt, connection, call, keys, fn, hooks)
        else
            ok, replies = true, watched_attempt(connection, call, keys, fn, hooks)
        end
        if not ok and not call.before_exec then
            error(replies, 0)
        elseif ok and replies then
            return replies
        end
    end
    return errors.raise {
        kind = "redis", code = "WATCH", outcome = "failed", retryable = true,
        message = retry == 0 and "a watched key changed, so nothing was done"
            or ("a watched key changed in each of %d attempts, so nothing was done"):format(retry + 1),
        hint = "multi{retry = n} tries n times more",
    }
end

return M
