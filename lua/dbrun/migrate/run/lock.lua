--- One migrator at a time: an advisory lock on a dedicated connection, where no file can release it, taken by polling.
--- Behind a pooler, where a session lasts only for a transaction, it is the lock of a transaction that this connection
--- keeps open. (That transaction has no snapshot and no transaction id, so it blocks neither VACUUM nor CREATE INDEX
--- CONCURRENTLY.) A statement that waits inside the server would block the holder's CREATE INDEX CONCURRENTLY; polling
--- does not, and can report the holder.
local advisory = require "dbrun.db.advisory"
local catalog = require "dbrun.db.catalog"
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

local TRY_IN_TRANSACTION <const> = catalog.sql "select {pg_try_advisory_xact_lock}($1)"
-- A statement with parameters leaves a portal with a snapshot until the next statement: run this simple one.
local FORGET <const> = "select 1 /* dbrun */"

---The lock's key for a ledger: two tables, two locks.
---@param ledger dbrun.migrate.Ledger
---@return integer
local function key_of(ledger)
    return advisory.hash("dbrun migrate " .. ledger.sql)
end

---Takes the lock, waiting at most `wait` seconds.
---@param conn table a leased connection: the lock belongs to its session
---@param key integer
---@param wait number seconds
---@param report fun(holder: string, waited: number) called after 1 s, then every 10 s
---@param try? fun(): boolean how to try
---Raises an error of kind `timeout`.
local function take(conn, key, wait, report, try)
    local began <const> = task.now()
    local pause, next_word = 0.05, 1
    try = try or function() return conn:value(advisory.TRY, key) end
    while not try() do
        local waited = task.now() - began
        if waited >= wait then
            errors.fail("timeout", ("the migration lock was not free within %g s: it is held by %s"):format(
                wait, advisory.holder(conn, key) or "a session that has ended since"),
                "wait until that run ends and start again, or wait longer with --lock-wait")
        end
        if waited >= next_word then
            local holder = advisory.holder(conn, key)
            if holder then report(holder, waited) end
            next_word = waited + 10
        end
        task.sleep(math.max(0.001, math.min(pause, wait - waited)))
        pause = math.min(pause * 1.5, 0.5)
    end
end

---@class dbrun.migrate.Held `<close>` releases the lock
---@field check fun(self) raises when the lock was lost

local POOLER_HINT <const> = "raise the pooler's limit (PgBouncer: default_pool_size) to 2 or more, or set "
    .. "MIGRATION_DATABASE_URL to the server itself"

local CROWDED_HINT <const> = "the role, the database or the server allows too few connections: ALTER ROLE ... "
    .. "CONNECTION LIMIT, ALTER DATABASE ... CONNECTION LIMIT, max_connections; select * from pg_stat_activity shows "
    .. "who has them"

---The error when no second connection is available.
local function raise_no_second(e, pooled, wait)
    if not errors.is(e) or e.kind == "cancelled" then error(e, 0) end
    local waited <const> = e.kind == "timeout" or pooled and e.kind == "connect"
    errors.raise {
        kind = waited and "timeout" or e.kind, sqlstate = e.sqlstate, retryable = true,
        message = pooled and ("the pooler gave no second connection within %g s: one holds the migration lock, and "
            .. "another runs the migrations (%s)"):format(wait, e.message)
            or ("migrations need two connections, one of them for the lock, and the second failed: %s"):format(
                e.message),
        hint = pooled and POOLER_HINT or e.sqlstate == "53300" and CROWDED_HINT or e.hint,
    }
end

---Runs fn(), which opens or uses the second connection with a time limit for its statements. Its error says that there
---is no second connection.
---@param pooled boolean
---@param wait number seconds, for the message
---@param fn fun(): any
---@return any
function M.limited(pooled, wait, fn)
    local ok, e = pcall(fn)
    if not ok then raise_no_second(e, pooled, wait) end
    return e
end

local NO_LIMIT <const> = catalog.sql [[
select {set_config}(name, '0', $1) from {pg_settings}
 where name {=} any (array['idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout'])]]

local WAITS <const> = catalog.sql [[
select {set_config}(name, case when $1 then '0' else reset_val {||} coalesce(unit, '') end, false) from {pg_settings}
 where name {=} 'idle_session_timeout']]

---Calls fn() without the server's idle timeout for the session of the migrations, which is idle until the lock is
---taken.
local function waiting(conn, fn)
    conn:query(WAITS, true)
    fn()
    conn:query(WAITS, false)
end

---Takes the lock for the session of the connection.
local function take_direct(keeper, key, wait, report)
    -- An update of TimescaleDB ends sessions that have its library loaded.
    keeper:exec "set timescaledb.disable_load = on /* dbrun */"
    keeper:query(NO_LIMIT, false)
    take(keeper, key, wait, report)
end

---Takes the lock for a transaction, which stays open.
local function take_pooled(keeper, key, wait, report)
    -- While waiting it keeps no transaction open, because that would occupy one of the pooler's few connections.
    take(keeper, key, wait, report, function()
        keeper:exec "begin /* dbrun */"
        local mine = keeper:value(TRY_IN_TRANSACTION, key)
        if mine then keeper:query(NO_LIMIT, true) end
        keeper:exec(mine and FORGET or "rollback /* dbrun */")
        return mine
    end)
end

---Releases the lock. If that fails, the end of the session releases it.
local function release(keeper, key, pooled)
    pcall(function()
        if pooled then keeper:exec "rollback /* dbrun */" else keeper:value(advisory.UNLOCK, key) end
    end)
end

---Raises when the migrations' connection gets no answer while the other one holds the lock.
local function check_other(conn, seconds)
    conn:deadline(seconds)
    conn:exec(FORGET)
    conn:deadline(nil)
end

---Seconds between two checks of the lock's connection.
local CHECK_EVERY <const> = 1

---Takes the lock for a run.
---@param conn table of the migrations
---@param book dbrun.migrate.Ledger
---@param opts { lock_wait?: number, sessions: dbrun.migrate.Sessions }
---@param pooled boolean there is a pooler, in any mode: when a client dies, it certainly ends an open transaction, but
---    may give a session with its locks to another client
---@param report fun(holder: string, waited: number)
---@return dbrun.migrate.Held
function M.hold(conn, book, opts, pooled, report)
    local wait <const>, began <const> = opts.lock_wait or 60, task.now()
    local function left() return math.max(1, wait - (task.now() - began)) end
    local key <const> = key_of(book)
    local keeper, close, mine
    M.limited(pooled, wait, function() keeper, close = opts.sessions.second(left()) end)
    local held = setmetatable({}, { __close = function()
        if mine then release(keeper, key, pooled) end
        keeper:invalidate()
        close()
    end })
    local ok, e = pcall(function()
        if not pooled then
            return waiting(conn, function() take_direct(keeper, key, wait, report) end)
        end
        M.limited(pooled, wait, function() keeper:exec(FORGET) end)
        take_pooled(keeper, key, math.max(0, wait - (task.now() - began)), report)
        M.limited(pooled, wait, function() check_other(conn, left()) end)
    end)
    if not ok then
        getmetatable(held).__close()
        error(e, 0)
    end
    mine = true
    local checked = task.now()
    function held.check()
        if task.now() - checked < CHECK_EVERY then return end
        local fine, why = pcall(keeper.exec, keeper, FORGET)
        checked = task.now()
        if fine then return end
        if errors.is(why) and why.kind ~= "cancelled" then
            why.message = "the migration lock was lost: " .. why.message
            why.hint = (pooled and "the pooler may end idle transactions (PgBouncer: idle_transaction_timeout): set "
                .. "MIGRATION_DATABASE_URL to the server itself. " or "")
                .. "What was applied stays; 'migrate up' goes on"
        end
        error(why, 0)
    end
    return held
end

return M
