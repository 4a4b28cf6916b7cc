--- Advisory locks: one holder at a time among all programs that use the same key in the same database.
---
---     db.async:advisory_lock("nightly report", function(conn) ... end)
---
--- The lock belongs to the session of a leased connection, and ends with it when the program dies or the connection
--- breaks. It does not work behind a transaction pooler, where a session is shared.
---
--- It is taken by polling: a statement that waits inside the server holds a snapshot, so it and the holder's CREATE
--- INDEX CONCURRENTLY would wait for each other. Tasks of one program queue here, first in, first out, and only the
--- first of them holds a connection.
local args <const> = require "dbrun.args"
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

-- $1: the number of the lock. The session holds it until it unlocks or ends.
M.TRY = catalog.sql "select {pg_try_advisory_lock}($1)"
M.UNLOCK = catalog.sql "select {pg_advisory_unlock}($1)"
local HOLDER <const> = catalog.sql [[
select a.pid, case when a.application_name {<>} '' then a.application_name end as application,
       a.usename as role, {host}(a.client_addr) as address,
       {to_char}(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') as since, a.state
  from {pg_locks} l join {pg_stat_activity} a on a.pid {=} l.pid
 where l.locktype {=} 'advisory' and l.granted and l.objsubid {=} 1
   and l.database {=} (select oid from {pg_database} where datname {=} {current_database}())
   and l.classid::bigint {=} (($1::bigint {>>} 32) {&} 4294967295) and l.objid::bigint {=} ($1::bigint {&} 4294967295)
 limit 1]]

-- Seconds between two tries: at first, and at most.
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.01, 0.25

---The number of the lock for a text: FNV-1a, 64 bits, which programs in other languages can compute too.
---@param text string
---@return integer
function M.hash(text)
    local hash = 0xcbf29ce484222325
    for i = 1, #text do
        hash = (hash ~ text:byte(i)) * 0x100000001b3
    end
    return hash
end

---Describes the session that holds a lock; nil when no session holds it any more.
---@param conn table
---@param number integer
---@return string?
function M.holder(conn, number)
    local row <const> = conn:one(HOLDER, number)
    if not row then return nil end
    if not row.since then -- PostgreSQL hides the rest of another role's session
        return ("process %d (role %s)"):format(row.pid, row.role or "unknown")
    end
    return ("process %d (%s, role %s, %s, connected since %s, %s)"):format(
        row.pid, row.application or "no application name", row.role or "unknown", row.address or "local socket",
        row.since, row.state or "state unknown")
end

-- ---- arguments ----

---@class dbrun.db.AdvisoryCall
---@field number integer what the server locks
---@field name string 'nightly report', or the number, for messages
---@field limit? number seconds to wait
---@field fn function

local KEY <const> = {
    function(v) return type(v) == "string" or (type(v) == "number" and math.tointeger(v)) end,
    "a string or an integer",
}
local KNOWN <const> = { timeout = args.seconds }

---The arguments of advisory_lock(key [, options], fn), checked before anything is taken.
---@param key string|integer
---@param opts? { timeout?: number }|function
---@param fn? function
---@return dbrun.db.AdvisoryCall
function M.arguments(key, opts, fn)
    args.check("advisory_lock", "the key", key, KEY)
    opts, fn = args.options_and_function("advisory_lock", opts, fn, KNOWN)
    local number <const> = type(key) == "string" and M.hash(key) or math.tointeger(key)
    return { number = number, name = type(key) == "string" and ("'%s'"):format(key) or tostring(number),
        limit = opts.timeout, fn = fn }
end

local function raise_timeout(call, holder)
    errors.raise {
        kind = "timeout", outcome = "not_sent", retryable = true,
        message = ("the advisory lock %s was not free within %g s: it is held by %s"):format(call.name, call.limit,
            holder or "a session that has ended since"),
    }
end

-- ---- locking and unlocking ----

local function pause(conn, seconds)
    if conn:is_sync() then
        core.pg.pause(seconds)
    else
        task.sleep(seconds)
    end
end

---@param stop? number task.now() at the deadline
---@return boolean taken false: the deadline has passed
local function take(conn, call, stop)
    local wait = FIRST_PAUSE
    while not conn:value(M.TRY, call.number) do
        local left <const> = stop and stop - task.now() or math.huge
        if left <= 0 then return false end
        pause(conn, math.min(left, wait * (0.5 + math.random() / 2)))
        wait = math.min(wait * 1.5, LONGEST_PAUSE)
    end
    return true
end

---Releases the lock; false when it was already lost, and the error if it is none of the database (no memory). A
---connection that fails to do so is closed when it is released, which frees the lock too. The third value: fn left a
---transaction open, which was rolled back.
local function give_back(conn, call, inside)
    return task.shield(function()
        local undone = false
        local ok <const>, freed <const> = pcall(function()
            conn:drained()
            -- Roll back what fn left open before the next holder begins.
            if not inside and conn:in_transaction() then
                conn:exec "ROLLBACK"
                undone = true
            end
            if conn:in_transaction() == "failed" then -- the caller's: it takes no statement now
                conn:invalidate()
                return true
            end
            return conn:value(M.UNLOCK, call.number)
        end)
        if ok and freed then return true, nil, undone end
        core.log.write("debug", ("postgres: cannot release the advisory lock %s: %s"):format(call.name,
            ok and "the connection does not hold it" or tostring(freed)))
        pcall(conn.invalidate, conn)
        return false, not ok and not errors.is(freed) and freed or nil
    end)
end

--- Closes a connection that may still hold the lock, however its use ended. Made before the lock is taken, because
--- memory can run out at any call.
local Guard <const> = {}
function Guard:__close()
    if self.armed then self.conn:invalidate() end
end

---Runs the function while the leased connection holds the lock.
---@param conn table
---@param call dbrun.db.AdvisoryCall
---@param stop? number task.now() at the deadline
---@return any ... what the function returned
function M.on(conn, call, stop)
    stop = stop or call.limit and task.now() + call.limit
    conn:drained()
    local inside <const> = conn:in_transaction() ~= false
    local guard <close> = setmetatable({ conn = conn, armed = true }, Guard) -- a cancelled statement may have taken it
    if not take(conn, call, stop) then
        guard.armed = false
        raise_timeout(call, M.holder(conn, call.number))
    end
    local result <const> = table.pack(pcall(call.fn, conn))
    local freed <const>, why <const>, undone <const> = give_back(conn, call, inside)
    guard.armed = false
    if not result[1] then error(result[2], 0) end
    if why then error(why, 0) end
    if not freed then
        errors.raise {
            kind = "connect", outcome = "unknown", retryable = false,
            message = ("the advisory lock %s was lost before the function returned"):format(call.name),
            hint = "The connection that held it broke or was released: another session may have held it meanwhile.",
        }
    elseif undone then
        errors.raise {
            kind = "usage", outcome = "unknown",
            message = "advisory_lock: the function left a transaction open, and it was rolled back",
            hint = "Commit it in the function; conn:transaction(...) does so when its function returns.",
        }
    end
    return table.unpack(result, 2, result.n)
end

-- ---- among the tasks of this program ----

---By engine and number: the queue of tasks that wait for the lock.
---@type table<table, table<integer, { turn: dbrun.Semaphore, users: integer, holder: integer|false }>>
local queues <const> = setmetatable({}, { __mode = "k" })

--- A task's place in the queue of a lock. It is made completely before it is counted and queued, because memory can run
--- out at any call.
---@class dbrun.db.AdvisoryPlace
---@field engine table
---@field call dbrun.db.AdvisoryCall
---@field mine table the queues of the engine
---@field queue table
---@field permit table|false
---@field counted boolean
local Place <const> = {}
Place.__index = Place

---@return dbrun.db.AdvisoryPlace closable
local function place_at(engine, call)
    local mine <const> = queues[engine] or {}
    queues[engine] = mine
    local queue <const> = mine[call.number] or { turn = task.semaphore(1), users = 0, holder = false }
    local place <const> = setmetatable({ engine = engine, call = call, mine = mine, queue = queue, permit = false,
        counted = false }, Place)
    mine[call.number] = queue
    return place
end

---Waits until no other task of this program holds the lock on this engine.
function Place:enter(stop)
    local engine <const>, call <const>, queue <const> = self.engine, self.call, self.queue
    local id <const> = core.task.id()
    queue.users, self.counted = queue.users + 1, true
    self.permit = queue.turn:try_acquire() or false
    if not self.permit and (engine:is_sync() or queue.holder == id) then
        errors.fail("usage",
            ("advisory_lock: deadlock: %s holds the lock %s already and would wait for itself"):format(
                engine:is_sync() and "this program" or "this task", call.name),
            "fn gets the connection that holds it; conn:advisory_lock on that takes it once more.")
    end
    self.permit = self.permit or queue.turn:acquire(stop and math.max(0, stop - task.now())) or false
    if not self.permit then raise_timeout(call, "another task of this program") end
    queue.holder = id
end

function Place:__close()
    local queue <const> = self.queue
    if self.permit then
        queue.holder = false
        self.permit:release()
    end
    if self.counted then queue.users = queue.users - 1 end
    if queue.users == 0 then self.mine[self.call.number] = nil end
end

---Runs the function while a connection of the engine holds the lock.
---@param engine table
---@param call dbrun.db.AdvisoryCall
---@return any ... what the function returned
function M.run(engine, call)
    local stop <const> = call.limit and task.now() + call.limit
    local place <close> = place_at(engine, call)
    place:enter(stop)
    local conn <close> = engine:acquire()
    return M.on(conn, call, stop)
end

return M
