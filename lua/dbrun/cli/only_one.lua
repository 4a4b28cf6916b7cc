--- Excludes a second run of a script: an advisory lock of the database, on a dedicated connection outside the script's
--- pool. The address is that of db.sync (MIGRATION_DATABASE_URL if set), which should be the server itself: a session
--- holds the lock, and a pooler in transaction mode does not give this program its own session.
local advisory = require "dbrun.db.advisory"
local catalog = require "dbrun.db.catalog"
local config = require "dbrun.config"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local pool_mode = require "dbrun.db.pool_mode"
local process = require "dbrun.process"
local task = require "dbrun.task"

local M = {}

local PAUSE <const> = 0.5 -- seconds between two checks that the connection still answers
local LIMIT <const> = 10 -- seconds to wait for its answer
local LONGEST_NAME <const> = 63 -- bytes of an application_name

local ALIVE <const> = "select 1 /* dbrun */"
local BACKEND <const> = catalog.sql "select {pg_backend_pid}()"
-- The server would end this idle session; PostgreSQL 13 does not know the setting.
local NO_IDLE_LIMIT <const> = catalog.sql [[
select {set_config}(name, '0', false) from {pg_settings} where name {=} 'idle_session_timeout']]

--- Identifies this run, for pg_stat_activity and for the message of a second run.
local function application(name)
    local ok, host = pcall(fs.read, "/proc/sys/kernel/hostname")
    local who = (" on %s, pid %d"):format(ok and host:match "^%S+" or "?", process.pid())
    return ("dbrun " .. name):sub(1, LONGEST_NAME - #who) .. who
end

--- A real engine in a dry run too: its lock excludes the next run.
local function engine_of(name)
    assert(require "dbrun.db") -- engines have its methods
    return require("dbrun.db.options").real {
        url = config.sync_database_url, size = 2, overflow = 0, timeout = config.DB_POOL_TIMEOUT,
        connect_timeout = config.DB_CONNECT_TIMEOUT, statement_cache = 0, application_name = application(name),
    }
end

local function refuse_shared_sessions(engine, conn)
    if conn:backend_pid() == conn:value(BACKEND) then return end
    local other <close> = engine:acquire()
    local mode = pool_mode.of(conn, function(pid)
        local ok, seen = pcall(other.transaction, other, function(tx) return pool_mode.look(tx, pid) end)
        if ok then return seen end
        if pool_mode.takes_no_transactions(seen) then return nil end
        error(seen, 0)
    end)
    if mode == "session" then return end
    errors.fail("config", ("only_one: there is a pooler in %s mode before the server: no session can hold the lock")
        :format(mode), "set MIGRATION_DATABASE_URL to the server itself")
end

local function raise_lost(name, why)
    errors.raise {
        kind = "connect", outcome = "unknown",
        message = ("only_one: the lock of '%s' was lost, a second run may have begun: %s"):format(name, why),
        hint = "the connection that held it broke; run the script again when the database is well",
    }
end

--- Checks now and then that the connection is alive, until it is cancelled; raises when it is not.
local function watch(conn, name)
    while true do
        task.sleep(PAUSE)
        task.shield(function()
            conn:deadline(LIMIT)
            local ok, e = pcall(conn.exec, conn, ALIVE)
            if not ok then raise_lost(name, errors.is(e) and e.message or tostring(e)) end
        end)
    end
end

local function guarded(conn, name, fn)
    local group <close> = task.group()
    local watcher <const> = group:spawn(watch, conn, name)
    local result <const> = table.pack(fn())
    watcher:cancel()
    return result
end

---Runs fn while this run holds the lock of its name.
---@param name string of the script
---@param fn fun(): ...
---@return boolean held false: another run holds it
---@return any ... what fn returned; else who holds it
function M.run(name, fn)
    local number <const> = advisory.hash("dbrun script " .. name)
    local engine <const> = engine_of(name)
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local conn <close> = engine:acquire()
    refuse_shared_sessions(engine, conn)
    conn:exec(NO_IDLE_LIMIT)
    if not conn:value(advisory.TRY, number) then
        return false, advisory.holder(conn, number) or "a run that has ended since"
    end
    local _ <close> = setmetatable({}, { __close = function() conn:invalidate() end }) -- the session end releases it
    local result <const> = guarded(conn, name, fn)
    conn:deadline(LIMIT)
    local ok <const>, freed <const> = pcall(conn.value, conn, advisory.UNLOCK, number)
    if not ok or not freed then
        raise_lost(name, not ok and (errors.is(freed) and freed.message or tostring(freed)) or "the session changed")
    end
    return true, table.unpack(result, 1, result.n)
end

return M
