--- Transactions on a leased connection: BEGIN ... COMMIT, nested ones as savepoints, retries.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

local isolations <const> = {
    ["read committed"] = "READ COMMITTED", ["repeatable read"] = "REPEATABLE READ", serializable = "SERIALIZABLE",
    ["read uncommitted"] = "READ UNCOMMITTED",
}

local known <const> = { isolation = true, read_only = true, deferrable = true, retry = true, timeout = true }

local function check_options(opts)
    for key in pairs(opts) do
        if not known[key] then
            errors.fail("usage", ("transaction: unknown option %q"):format(tostring(key)),
                "isolation, read_only, deferrable, retry and timeout are known")
        end
    end
    if opts.isolation and not isolations[opts.isolation] then
        errors.fail("usage", ("transaction: unknown isolation %q"):format(tostring(opts.isolation)),
            '"read committed", "repeatable read" or "serializable"')
    end
    local retry <const> = opts.retry or 0
    if math.type(retry) ~= "integer" or retry < 0 then
        errors.usage("transaction", "retry must be a whole number of at least 0")
    end
    local timeout <const> = opts.timeout
    if timeout ~= nil and not (type(timeout) == "number" and timeout > 0 and timeout < math.huge) then
        errors.usage("transaction", "timeout must be a number of seconds above 0")
    end
end

---The BEGIN statement for these options.
---@param opts table
---@return string
function M.begin_sql(opts)
    local words = { "BEGIN" }
    if opts.isolation then
        words[#words + 1] = "ISOLATION LEVEL " .. isolations[opts.isolation]
    end
    if opts.read_only ~= nil then
        words[#words + 1] = opts.read_only and "READ ONLY" or "READ WRITE"
    end
    if opts.deferrable ~= nil then
        words[#words + 1] = opts.deferrable and "DEFERRABLE" or "NOT DEFERRABLE"
    end
    return table.concat(words, " ")
end

--- Rolls back after a cancelled statement has ended. A connection that fails to do so is closed when it is released.
local function rollback(conn, sql)
    core.task.shield(function()
        local ok <const>, e <const> = pcall(function()
            conn:deadline(nil)
            conn:drained()
            if conn:in_transaction() then
                conn:exec(sql)
            end
        end)
        if not ok then
            core.log.write("debug", "postgres: " .. sql .. " failed: " .. tostring(e))
            pcall(conn.invalidate, conn)
        end
    end)
end

local function raise_nothing_done(message)
    errors.raise {
        kind = "query", sqlstate = "25P02", severity = "ERROR", outcome = "failed", retryable = false,
        message = message .. ": a statement of this transaction failed and its error was caught",
        hint = "Catch the error outside of the transaction, or put the statement into a nested one (a savepoint).",
    }
end

---Commits. Raises when a statement of the transaction failed, because the server would silently roll back then.
---@param conn table
function M.commit(conn)
    conn:drained()
    if conn:in_transaction() == "failed" then
        rollback(conn, "ROLLBACK")
        raise_nothing_done "nothing was committed"
    end
    conn:exec "COMMIT"
end

--- After its deadline the caller does not wait until a statement is drained: the pool rolls back a connection that is
--- about to be released.
local function undo(conn, opts, e)
    if not (opts.own and (errors.is(e, "timeout") or errors.is(e, "cancelled"))) then
        rollback(conn, "ROLLBACK")
    end
end

--- Runs fn(conn) between BEGIN and COMMIT. A cancellation at any point, BEGIN and COMMIT included, leaves no
--- transaction open.
local function run_top(conn, opts, fn)
    local result <const> = table.pack(pcall(function()
        conn:exec(M.begin_sql(opts))
        return fn(conn)
    end))
    if not result[1] then
        undo(conn, opts, result[2])
        return result
    end
    local ok <const>, e <const> = pcall(M.commit, conn)
    if not ok then
        undo(conn, opts, e)
        return { false, e }
    end
    return result
end

--- Runs fn(conn) inside a savepoint.
local function run_nested(conn, fn)
    conn:exec "SAVEPOINT dbrun"
    local result <const> = table.pack(pcall(fn, conn))
    local back <const> = "ROLLBACK TO SAVEPOINT dbrun; RELEASE SAVEPOINT dbrun"
    if not result[1] then
        rollback(conn, back)
        return result
    end
    conn:drained()
    if conn:in_transaction() == "failed" then
        rollback(conn, back)
        raise_nothing_done "nothing of the nested transaction was kept"
    end
    conn:exec "RELEASE SAVEPOINT dbrun"
    return result
end

local transient <const> = { ["40001"] = true, ["40P01"] = true }
--- Of a statement that was prepared: its columns have changed, or a pooler has lost it. It is prepared anew.
local of_prepared <const> = { ["0A000"] = true, ["26000"] = true }

--- May the transaction, which is rolled back, succeed when it runs again?
local function is_worth_a_retry(conn, e)
    if not errors.is(e) or not e.sqlstate then
        return false
    end
    return transient[e.sqlstate] or (of_prepared[e.sqlstate] and e.retryable)
        or (e.statement and not conn:in_transaction() and conn:is_stale(e.statement, e.sqlstate))
end

--- The pause before try number `try`: exponential with full jitter, at most 2 s.
local function pause(conn, try)
    local seconds <const> = math.random() * math.min(2, 0.01 * 2 ^ try)
    if conn:is_sync() then
        core.pg.pause(seconds)
    else
        core.task.sleep(seconds)
    end
end

local function run_with_retries(conn, opts, fn)
    for try = 0, opts.retry or 0 do
        -- COMMIT too may fail with 40001: then all was rolled back and can be retried.
        local result <const> = run_top(conn, opts, fn)
        if result[1] then
            return table.unpack(result, 2, result.n)
        end
        if try == (opts.retry or 0) or not is_worth_a_retry(conn, result[2]) then
            error(result[2], 0)
        end
        pause(conn, try + 1)
    end
end

--- The time limit: the scheduler stops a task wherever it waits; the sync engine checks at each statement.
local function run_within(seconds, conn, opts, fn)
    if not conn:is_sync() then
        return core.task.timeout(seconds, run_with_retries, conn, opts, fn)
    end
    conn:deadline(seconds)
    local result <const> = table.pack(pcall(run_with_retries, conn, opts, fn))
    conn:deadline(nil)
    if not result[1] then
        error(result[2], 0)
    end
    return table.unpack(result, 2, result.n)
end

---The arguments of transaction([options,] fn), checked before anything is taken.
---@param opts table|function
---@param fn? function
---@return table opts
---@return function fn
function M.arguments(opts, fn)
    if type(opts) == "function" then
        opts, fn = {}, opts
    end
    if type(opts) ~= "table" or type(fn) ~= "function" then
        errors.usage("transaction", "expected ([options,] function)")
    end
    check_options(opts)
    return opts, fn
end

---Runs fn(conn) in a transaction of the leased connection; nested = savepoint.
---@param conn table
---@param opts table as returned by M.arguments
---@param fn function
---@param own? boolean the connection is released right after
---@return any ... what fn returned
function M.run(conn, opts, fn, own)
    if own then
        opts = setmetatable({ own = true }, { __index = opts })
    end
    conn:drained()
    if conn:in_transaction() then
        local result <const> = run_nested(conn, fn)
        if not result[1] then
            error(result[2], 0)
        end
        return table.unpack(result, 2, result.n)
    end
    if opts.timeout then
        return run_within(opts.timeout, conn, opts, fn)
    end
    return run_with_retries(conn, opts, fn)
end

return M
