--- Transactions on a leased connection: BEGIN ... COMMIT, nested ones as savepoints, retries.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

local isolations <const> = {
    ["read committed"] = "READ COMMITTED", ["repeatable read"] = "REPEATABLE READ", serializable = "SERIALIZABLE",
    ["read uncommitted"] = "READ UNCOMMITTED",
}

local KNOWN <const> = {
    isolation = args.one_of("read committed", "repeatable read", "serializable", "read uncommitted"),
    read_only = "boolean", deferrable = "boolean", retry = args.whole(0), timeout = args.some_seconds,
}

---The access mode of a transaction. With --read-only no transaction states READ WRITE, because that would override the
---session's read-only mode.
---@param read_only boolean|nil
---@return string? mode
function M.access(read_only)
    if read_only then return "READ ONLY" end
    return read_only == false and not (core.options and core.options.read_only) and "READ WRITE" or nil
end

---The BEGIN statement for these options.
---@param opts table
---@return string
function M.begin_sql(opts)
    local words = { "BEGIN" }
    if opts.isolation then
        words[#words + 1] = "ISOLATION LEVEL " .. isolations[opts.isolation]
    end
    words[#words + 1] = M.access(opts.read_only)
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

---Raises the error of a transaction with a failed statement whose error the script has caught.
---@param message string "nothing was committed"
function M.raise_nothing_done(message)
    errors.raise {
        kind = "query", sqlstate = "25P02", severity = "ERROR", outcome = "failed", retryable = false,
        message = message .. ": a statement of this transaction failed and its error was caught",
        hint = "Catch the error outside of the transaction, or put the statement into a nested one (a savepoint).",
    }
end

local ENDED <const> = "the transaction was ended inside of it"

---The error of a transaction that a statement inside it has ended; `e` is the error that was raised, if any.
---@param e any
---@return any
function M.ended(e)
    if errors.is(e) and (e.kind == "cancelled" or e.kind == "timeout" or e.message:find(ENDED, 1, true)) then
        return e
    end
    return errors.new {
        kind = "usage", outcome = "unknown", message = ENDED .. ": what ran before may be committed or lost",
        detail = e ~= nil and tostring(e) or nil,
        hint = "Return from its function to commit, raise an error to roll back; a session has commit() and "
            .. "rollback().",
    }
end

--- Allows the transaction to be ended. True if a statement inside it has already ended it.
local function unguard(conn)
    local ok <const>, e <const>, ended <const> = pcall(conn.guard, conn, false)
    if not ok and not errors.is(e, "usage") then -- more than a released connection
        error(e, 0)
    end
    return ok and ended
end

---Begins a transaction that only M.commit and M.rollback can end.
---@param conn table
---@param opts table
function M.begin(conn, opts)
    conn:exec(M.begin_sql(opts))
    conn:guard(true)
end

---Rolls a transaction of M.begin back. Raises when a statement inside it has ended it.
---@param conn table
function M.rollback(conn)
    conn:drained()
    local ended <const> = unguard(conn)
    if conn:in_transaction() then
        conn:exec "ROLLBACK"
    end
    if ended then
        error(M.ended(), 0)
    end
end

---Names the COMMIT in an error that the server raised at the end of a transaction.
---@param e any
---@return any e
function M.at_commit(e)
    if errors.is(e) and e.sqlstate then
        e.context = (e.context and e.context .. "\n" or "") .. "the COMMIT of the transaction"
    end
    return e
end

---Commits a transaction of M.begin. Raises when a statement in it failed, because the server would silently roll back,
---and when a statement has ended it.
---@param conn table
function M.commit(conn)
    conn:drained()
    if unguard(conn) then
        rollback(conn, "ROLLBACK")
        error(M.ended(), 0)
    end
    if conn:in_transaction() == "failed" then
        rollback(conn, "ROLLBACK")
        M.raise_nothing_done "nothing was committed"
    end
    local ok <const>, e <const> = pcall(conn.exec, conn, "COMMIT")
    if not ok then error(M.at_commit(e), 0) end
end

--- After its deadline the caller does not wait until a statement is drained: the pool rolls back when the connection is
--- released.
local function undo(conn, opts, e)
    if not (opts.own and (errors.is(e, "timeout") or errors.is(e, "cancelled"))) then
        rollback(conn, "ROLLBACK")
    end
end

--- Runs fn(conn) between BEGIN and COMMIT. A cancellation at any point, BEGIN and COMMIT included, leaves no
--- transaction open.
local function run_top(conn, opts, fn)
    local begun = false
    local result <const> = table.pack(pcall(function()
        M.begin(conn, opts)
        begun = true
        return fn(conn)
    end))
    if not result[1] then
        if begun and unguard(conn) then
            result[2] = M.ended(result[2])
        end
        undo(conn, opts, result[2])
        return result
    end
    local ok <const>, e <const> = pcall(M.commit, conn)
    if not ok then
        unguard(conn)
        undo(conn, opts, e)
        return { false, e }
    end
    return result
end

local savepoints = 0
local process_mark <const> = math.random(0) & 0xffffffff

---The name of a savepoint: each is unique, so that they cannot be confused.
---@return string
function M.next_savepoint()
    savepoints = savepoints + 1
    return ("dbrun_%08x_%d"):format(process_mark, savepoints)
end

---Releases a savepoint. Raises when the script has released it, or rolled back to an earlier one.
---@param conn table
---@param savepoint string
function M.release(conn, savepoint)
    local ok <const>, e <const> = pcall(conn.exec, conn, "RELEASE SAVEPOINT " .. savepoint)
    if ok then
        return
    elseif not (errors.is(e) and e.sqlstate == "3B001") then
        error(e, 0)
    end
    errors.raise {
        kind = "usage", outcome = "failed",
        message = "the nested transaction was ended inside of it: its savepoint was released or rolled back",
        hint = "Inside of it, go back only to savepoints that were made inside of it.",
    }
end

--- Runs fn(conn) inside a savepoint. The server ends READ ONLY with the savepoint.
local function run_in_savepoint(conn, opts, fn)
    local savepoint <const> = M.next_savepoint()
    local back <const> = ("ROLLBACK TO SAVEPOINT %s; RELEASE SAVEPOINT %s"):format(savepoint, savepoint)
    conn:exec("SAVEPOINT " .. savepoint)
    local result <const> = table.pack(pcall(function()
        local access <const> = M.access(opts.read_only)
        if access then conn:exec("SET TRANSACTION " .. access) end
        return fn(conn)
    end))
    if not result[1] then
        rollback(conn, back)
        return result
    end
    conn:drained()
    if conn:in_transaction() == "failed" then
        rollback(conn, back)
        M.raise_nothing_done "nothing of the nested transaction was kept"
    end
    M.release(conn, savepoint)
    return result
end

local nested_only <const> = { isolation = true, deferrable = true, retry = true, timeout = true }

---Raises for options that a nested transaction cannot have.
---@param opts table
function M.check_nested_options(opts)
    for key in pairs(nested_only) do
        if opts[key] ~= nil then
            errors.fail("usage", ("transaction: a nested transaction cannot have %s"):format(key),
                "Give it to the outer transaction; a nested one is a savepoint, and takes only read_only.")
        end
    end
end

--- The script may have begun the outer transaction by SQL: it must not end inside the nested one either.
local function run_nested(conn, opts, fn)
    M.check_nested_options(opts)
    if conn:guard() then
        return run_in_savepoint(conn, opts, fn)
    end
    conn:guard(true)
    local result <const> = table.pack(pcall(run_in_savepoint, conn, opts, fn))
    if unguard(conn) then
        error(M.ended(not result[1] and result[2] or nil), 0)
    elseif not result[1] then
        error(result[2], 0)
    end
    return result[2]
end

local transient <const> = { ["40001"] = true, ["40P01"] = true }
--- Errors of a prepared statement whose columns have changed, or that a pooler has lost. It is prepared again.
local of_prepared <const> = { ["0A000"] = true, ["26000"] = true }

--- Whether the transaction, which is rolled back, may succeed when it runs again.
local function is_worth_a_retry(conn, e)
    if not errors.is(e) or not e.sqlstate then
        return false
    end
    if transient[e.sqlstate] or (of_prepared[e.sqlstate] and e.retryable) then
        return true
    end
    local ok <const>, open <const> = pcall(conn.in_transaction, conn) -- not when fn has released the connection
    return ok and not open and e.statement and conn:is_stale(e.statement, e.sqlstate, e.datatype)
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

local function run_with_retries(conn, opts, fn, run)
    for try = 0, opts.retry or 0 do
        -- COMMIT too may fail with 40001: then all was rolled back and can be retried.
        local result <const> = run(conn, opts, fn)
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
local function run_within(seconds, conn, opts, fn, run)
    if not conn:is_sync() then
        return core.task.transaction(seconds, run_with_retries, conn, opts, fn, run)
    end
    conn:deadline(seconds)
    local result <const> = table.pack(pcall(run_with_retries, conn, opts, fn, run))
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
    return args.options_and_function("transaction", opts, fn, KNOWN)
end

---Runs fn(conn) by `run`, within the options' time limit, and with their retries.
---@param conn table
---@param opts table as returned by M.arguments
---@param fn function
---@param run fun(conn: table, opts: table, fn: function): table as pcall, packed; what failed is rolled back
---@return any ... what fn returned
function M.run_top(conn, opts, fn, run)
    if opts.timeout then
        return run_within(opts.timeout, conn, opts, fn, run)
    end
    return run_with_retries(conn, opts, fn, run)
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
        local result <const> = run_nested(conn, opts, fn)
        if not result[1] then
            error(result[2], 0)
        end
        return table.unpack(result, 2, result.n)
    end
    return M.run_top(conn, opts, fn, run_top)
end

return M
