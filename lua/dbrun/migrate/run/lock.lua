--- One migrator at a time: an advisory lock, taken by trying in a loop. It belongs to the session. Behind a pooler,
--- where a session is nobody's for longer than a transaction, it belongs to a transaction that a second connection
--- keeps open, so that it is gone, too, when its owner dies. (That transaction has no snapshot and no number: it holds
--- back neither VACUUM nor CREATE INDEX CONCURRENTLY.)
--- A statement that waits inside the server would hold back CREATE INDEX CONCURRENTLY of the one who has the lock; a
--- loop does not, and can say who has it.
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

local TRY <const> = "select pg_catalog.pg_try_advisory_lock($1)"
local TRY_IN_TRANSACTION <const> = "select pg_catalog.pg_try_advisory_xact_lock($1)"
-- A statement with parameters leaves its portal, and with it a snapshot, until the next one: this simple one is that.
local FORGET <const> = "select 1"
local UNLOCK <const> = "select pg_catalog.pg_advisory_unlock($1)"
local HOLDER <const> = [[
select a.pid, nullif(a.application_name, '') as application, a.usename as role, host(a.client_addr) as address,
       to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') as since, a.state
  from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid)
 where l.locktype = 'advisory' and l.granted and l.objsubid = 1
   and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
   and l.classid::bigint = (($1::bigint >> 32) & 4294967295) and l.objid::bigint = ($1::bigint & 4294967295)
 limit 1]]

---The lock's key for a ledger: two tables, two locks. (FNV-1a, 64 bits.)
---@param ledger dbrun.migrate.Ledger
---@return integer
function M.key(ledger)
    local hash = 0xcbf29ce484222325
    for _, byte in ipairs { ("dbrun migrate " .. ledger.sql):byte(1, -1) } do
        hash = (hash ~ byte) * 0x100000001b3
    end
    return hash
end

---Who holds the lock, in words; nil when nobody does any more.
---@param conn table
---@param key integer
---@return string?
function M.holder(conn, key)
    local row = conn:one(HOLDER, key)
    if not row then return nil end
    if not row.since then -- another role's session: PostgreSQL shows no more of it
        return ("process %d (role %s)"):format(row.pid, row.role or "unknown")
    end
    return ("process %d (%s, role %s, %s, connected since %s, %s)"):format(
        row.pid, row.application or "no application name", row.role or "unknown", row.address or "local socket",
        row.since, row.state or "state unknown")
end

---Takes the lock, waiting at most `wait` seconds.
---@param conn table a leased connection: the lock belongs to its session
---@param key integer
---@param wait number seconds
---@param tell fun(holder: string, waited: number) called after 1 s, then every 10 s
---@param try? fun(): boolean how to try
---Raises an error of kind `timeout`.
function M.take(conn, key, wait, tell, try)
    local began, pause, next_word = task.now(), 0.05, 1
    try = try or function() return conn:value(TRY, key) end
    while not try() do
        local waited = task.now() - began
        if waited >= wait then
            errors.raise {
                kind = "timeout",
                message = ("the migration lock was not free within %g s: it is held by %s"):format(
                    wait, M.holder(conn, key) or "somebody who is gone by now"),
                hint = "wait for that run to end and start again, or give it longer with --lock-wait",
            }
        end
        if waited >= next_word then
            local holder = M.holder(conn, key)
            if holder then tell(holder, waited) end
            next_word = waited + 10
        end
        task.sleep(math.max(0.001, math.min(pause, wait - waited)))
        pause = math.min(pause * 1.5, 0.5)
    end
end

---Gives it back. A connection that cannot is closed, which frees the lock too.
---@param conn table
---@param key integer
function M.release(conn, key)
    local ok, freed = pcall(conn.value, conn, UNLOCK, key)
    if not (ok and freed) then conn:invalidate() end
end

---@class dbrun.migrate.Held `<close>` gives the lock back
---@field check fun(self) raises when the lock was lost

---Takes the lock for a run.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param opts { lock_wait?: number, second?: fun(): table } second: gives another connection
---@param pooled boolean
---@param tell fun(holder: string, waited: number)
---@return dbrun.migrate.Held
function M.hold(conn, book, opts, pooled, tell)
    local key, wait = M.key(book), opts.lock_wait or 60
    if not pooled then
        M.take(conn, key, wait, tell)
        return setmetatable({ check = function() end }, { __close = function() M.release(conn, key) end })
    end
    local keeper = opts.second()
    local held = setmetatable({}, { __close = function()
        if not pcall(keeper.exec, keeper, "rollback") then keeper:invalidate() end
        keeper:release()
    end })
    local ok, e = pcall(function()
        -- Who waits keeps no transaction open: it would take one of the pooler's few connections.
        M.take(keeper, key, wait, tell, function()
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
