--- One migrator at a time: an advisory lock of the session, taken by polling. Behind a pooler, where a session lasts
--- for a transaction only, it is the lock of a transaction that a second connection keeps open, so that it too ends
--- when its owner dies. (That transaction has neither snapshot nor transaction id: it holds back neither VACUUM nor
--- CREATE INDEX CONCURRENTLY.) A statement that waits inside the server would hold back the holder's CREATE INDEX
--- CONCURRENTLY; polling does not, and can report the holder.
local advisory = require "dbrun.db.advisory"
local catalog = require "dbrun.db.catalog"
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

local TRY_IN_TRANSACTION <const> = catalog.sql "select {pg_try_advisory_xact_lock}($1)"
-- A statement with parameters leaves a portal with a snapshot until the next statement: run this simple one.
local FORGET <const> = "select 1"

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
    local began, pause, next_word = task.now(), 0.05, 1
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

---Releases the lock. A connection that fails to do so is closed, which frees the lock too.
---@param conn table
---@param key integer
local function release(conn, key)
    local ok, freed = pcall(conn.value, conn, advisory.UNLOCK, key)
    if not (ok and freed) then conn:invalidate() end
end

---@class dbrun.migrate.Held `<close>` releases the lock
---@field check fun(self) raises when the lock was lost

---Takes the lock for a run.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param opts { lock_wait?: number, second?: fun(): table } second: gives another connection
---@param pooled boolean
---@param report fun(holder: string, waited: number)
---@return dbrun.migrate.Held
function M.hold(conn, book, opts, pooled, report)
    local key, wait = key_of(book), opts.lock_wait or 60
    if not pooled then
        take(conn, key, wait, report)
        return setmetatable({ check = function() end }, { __close = function() release(conn, key) end })
    end
    local keeper = opts.second()
    local held = setmetatable({}, { __close = function()
        if not pcall(keeper.exec, keeper, "rollback") then keeper:invalidate() end
        keeper:release()
    end })
    local ok, e = pcall(function()
        -- While it waits it keeps no transaction open, which would take one of the pooler's few connections.
        take(keeper, key, wait, report, function()
            keeper:exec "begin"
            keeper:exec "set local idle_in_transaction_session_timeout = 0"
            local mine = keeper:value(TRY_IN_TRANSACTION, key)
            keeper:exec(mine and FORGET or "rollback")
            return mine
        end)
    end)
    if not ok then
        getmetatable(held).__close()
        error(e, 0)
    end
    function held.check() keeper:exec(FORGET) end
    return held
end

return M
