--- The one connection of a dry run to a database, and its one transaction. What a script commits is a savepoint in it
--- (a unit), so that a failed statement, or a transaction that is rolled back, undoes only itself; the end rolls back
--- everything.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local counts <const> = require "dbrun.dry.counts"
local errors <const> = require "dbrun.error"
local explain <const> = require "dbrun.dry.explain"
local params <const> = require "dbrun.db.params"
local sqls <const> = require "dbrun.dry.sql"
local statements <const> = require "dbrun.dry.statement"
local transaction <const> = require "dbrun.db.transaction"
local turns <const> = require "dbrun.dry.turn"

local shield <const>, now <const> = core.task.shield, core.task.now

local M = {}

---@class dbrun.dry.Unit what a script would commit, or roll back
---@field savepoint string
---@field top boolean no other unit is around it
---@field before dbrun.dry.Counts when it began
---@field undone dbrun.dry.Counts what had been rolled back until then
---@field changes table<string, integer> of the schema
---@field settings { [1]: string, [2]: string }[] what SET LOCAL has changed, with the values before
---@field temporary dbrun.dry.Temporary[] what happens to temporary tables at the end

---@class dbrun.dry.Connection
---@field settings table of the engine
---@field sync boolean
---@field name string "db.async", "db.sync" or "an engine", for messages
---@field database string "shop"; false until it is open
---@field pool table the real engine, which has this one connection
---@field real table|false the real connection
---@field turn dbrun.dry.Turn
---@field units dbrun.dry.Unit[] those that are open
---@field marks table[] savepoints that the script made by SQL
---@field lost any why it cannot go on: an error
---@field kept boolean something else ended its transaction, whose work may be kept
---@field over boolean the dry run has ended
---@field undone dbrun.dry.Counts counted by the server, but rolled back
---@field targets table<string, boolean> names after UPDATE, INTO and the like
---@field changes table<string, integer> of the schema, by command
---@field deferred string|false constraints that each transaction begins with deferred; false: to be read
---@field emptied string[] temporary tables that each COMMIT empties
---@field truncated boolean a TRUNCATE has been sent
---@field advisory boolean a lock of the session may have been taken
---@field all dbrun.dry.Connection[] of this dry run
local Connection <const> = {}
Connection.__index = Connection

---@param settings table for core.pg.engine
---@param url string
---@param all dbrun.dry.Connection[] the connections of this dry run, this one included
---@param begun fun(conn: dbrun.dry.Connection, on_connect: function) calls on_connect with the connection of a script
---@return dbrun.dry.Connection
function M.new(settings, url, all, begun)
    local own <const> = {}
    for key, value in pairs(settings) do own[key] = value end
    own.size, own.overflow, own.pipeline, own.on_connect = 1, 0, 0, nil
    own.reset, own.recycle = "rollback", 0
    own.statement_cache = 0 -- a statement cannot be prepared again in a transaction when its types have changed
    local name <const> = settings.sync and "db.sync" or "db.async"
    return setmetatable({
        settings = settings, url = url, sync = settings.sync, name = name, database = false, all = all,
        pool = core.pg.engine(own), real = false, turn = turns.new(name, settings.sync), units = {}, marks = {},
        lost = false, kept = false, over = false, undone = {}, targets = {}, changes = {}, deferred = false,
        tracked = true, emptied = {}, truncated = false, advisory = false, begun = begun,
    }, Connection)
end

-- ---- opening ----

local BEGIN <const> = "BEGIN ISOLATION LEVEL READ COMMITTED"
--- The transaction waits for the script, and other sessions wait for its locks: see the manual.
local SETTINGS <const> = catalog.sql [[
select {set_config}(s.name, case when s.name {=} 'lock_timeout' then $1 else '0' end, true)
from {pg_settings} s
where s.name {=} 'idle_in_transaction_session_timeout' or s.name {=} 'transaction_timeout'
   or (s.name {=} 'lock_timeout' and s.setting {=} '0')]]

--- A dry run holds locks until its end, so on a protected database it must not start by accident.
local function check_target(real, url)
    local target <const> = require "dbrun.target"
    local ok <const>, e <const> = pcall(target.check, real, url)
    if ok then return end
    local named <const> = core.options.target
    if not named or not errors.is(e, "usage") then
        if errors.is(e, "usage") and e.hint then
            e.hint = "a dry run locks what it changes until its end; " .. e.hint
        end
        error(e, 0)
    end
    target.check(real, url, named)
end

local function begin_all(self, real)
    check_target(real, self.url)
    self.database = real:value(catalog.sql "select {current_database}()::{text}")
    real:exec(BEGIN)
    real:guard(true)
    real:query(SETTINGS, ("%d"):format(math.ceil(turns.limit() * 1000)))
    self.tracked = real:value(counts.TRACKED)
    self.undone = counts.read(real:query(counts.SQL)) -- of others, behind a pooler
end

--- To be called by the task that has its turn.
local function open(self)
    if self.real then return end
    local real <const> = self.pool:acquire()
    local ok, e = pcall(begin_all, self, real)
    if not ok then
        pcall(real.invalidate, real)
        pcall(real.release, real)
        error(e, 0)
    end
    self.real = real
    explain.second(self)
    local on_connect <const> = self.settings.on_connect
    if not on_connect then return end
    ok, e = pcall(self.begun, self, on_connect)
    if ok then return end
    self.real = false -- like an unused connection; the next one calls it again
    pcall(real.invalidate, real)
    pcall(real.release, real)
    error(e, 0)
end

-- ---- using ----

---Raises when the transaction has ended.
function Connection:check()
    if self.over then
        errors.fail("usage", "the dry run has ended: nothing more is done in it")
    elseif self.lost then
        error(self.lost, 0)
    end
end

--- Handles an error of a statement, which may have ended the transaction.
local function take_error(self, e)
    local real <const> = self.real
    if not self.lost and not real:in_transaction() then
        local _, ended <const> = real:guard()
        self.kept = ended
        self.lost = explain.lost(self, e, ended)
    end
    return self.lost or explain.statement(self, e)
end

---Calls fn(real, ...), which calls a producer between its statements: the task can wait for others meanwhile.
---@param fn function
---@param ... any
---@return any ...
function Connection:run(fn, ...)
    self:check()
    local result <const> = table.pack(pcall(fn, self.real, ...))
    if not result[1] then error(take_error(self, result[2]), 0) end
    return table.unpack(result, 2, result.n)
end

---Calls fn(real, ...) with the real connection. The task has its turn.
---@param fn function
---@param ... any
---@return any ...
function Connection:use(fn, ...)
    local holder <const> = self.turn.holder or {}
    holder.busy = true
    local result <const> = table.pack(pcall(self.run, self, fn, ...))
    holder.busy, holder.last = false, now()
    if not result[1] then error(result[2], 0) end
    return table.unpack(result, 2, result.n)
end

---Calls a method of the real connection.
function Connection:call(method, ...)
    return self:use(self.real[method], ...)
end

-- ---- units ----

--- Several statements in one round trip.
local function pipeline(real, list)
    return real:pipeline(function(p)
        for _, sql in ipairs(list) do p:query(sql) end
    end)
end

local DEFERRED <const> = catalog.sql [[
select {string_agg}({format}('%I.%I', x.nspname, x.conname), ', ') as list
from (select n.nspname, c.conname
      from {pg_constraint} c join {pg_namespace} n on n.oid {=} c.connamespace
      where {has_schema_privilege}(n.oid, 'usage') and not {pg_is_other_temp_schema}(n.oid)
      group by n.nspname, c.conname
      having {bool_or}(c.condeferred) and {bool_and}(c.condeferrable)) x]]

--- `SET CONSTRAINTS ALL IMMEDIATE`, which simulates COMMIT, persists; so it is undone for the next transaction.
local function deferred_sql(self)
    if self.deferred == false then
        self.deferred = self:call("value", DEFERRED) or ""
    end
    return self.deferred ~= "" and ("SET CONSTRAINTS %s DEFERRED"):format(self.deferred) or nil
end

local function begin(self, read_only, again)
    local unit <const> = {
        savepoint = transaction.next_savepoint(), top = #self.units == 0, before = {}, undone = self.undone,
        changes = {},
        settings = {}, temporary = {},
    }
    if self.real:in_transaction() == "failed" then explain.raise_failed_around() end
    local list <const> = { "SAVEPOINT " .. unit.savepoint, counts.SQL }
    if unit.top then list[#list + 1] = deferred_sql(self) end
    local access <const> = transaction.access(read_only)
    if access then list[#list + 1] = "SET TRANSACTION " .. access end
    self.units[#self.units + 1] = unit
    local deferred <const> = self.deferred
    local ok <const>, results <const> = pcall(self.use, self, pipeline, list)
    if not ok then
        self:rollback(unit, true)
        if again or not unit.top or deferred == "" then error(results, 0) end
        self.deferred = false -- constraints, roles and rights may have changed
        return begin(self, read_only, true)
    end
    unit.before = counts.read(results[2])
    return unit
end

---Begins a unit.
---@param read_only? boolean
---@return dbrun.dry.Unit
function Connection:begin(read_only)
    self:check()
    local holder <const> = self.turn.holder
    if holder and holder.busy then
        errors.fail("usage", "another task runs a statement on this connection",
            "one at a time; each task may take a connection of its own: engine:acquire()")
    end
    self.real:drained()
    return shield(begin, self, read_only)
end

--- Forgets a unit, and those in it.
local function leave(self, unit)
    for i = #self.units, 1, -1 do
        local last <const> = self.units[i] == unit
        self.units[i] = nil
        if last then break end
    end
    local depth <const> = #self.units
    for i = #self.marks, 1, -1 do
        if self.marks[i].depth > depth then self.marks[i] = nil end
    end
end

local function roll_back(self, unit, unread)
    local real <const> = self.real
    local _, _ = pcall(real.deadline, real, nil), pcall(real.drained, real)
    leave(self, unit)
    self.deferred = next(unit.changes) == nil and self.deferred
    if self.lost then return end
    local name <const> = unit.savepoint
    local ok <const>, results <const> = pcall(self.use, self, pipeline,
        { "ROLLBACK TO SAVEPOINT " .. name, "RELEASE SAVEPOINT " .. name, counts.SQL })
    if ok then
        if not unread then
            self.undone = counts.add(unit.undone, 1, counts.read(results[3]), unit.before)
        end
    elseif unit.top and not self.lost and not self.over then -- else the unit around it goes back
        self.lost = explain.lost(self, results, false)
    end
end

---Rolls a unit back. Raises nothing: a failure ends the dry run.
---@param unit dbrun.dry.Unit
---@param unread? boolean its counts are not known: it has not begun
function Connection:rollback(unit, unread)
    shield(roll_back, self, unit, unread)
end

local COMMIT <const> = "SET CONSTRAINTS ALL IMMEDIATE"

--- Simulates effects of the end of a transaction that the end of a savepoint does not have.
local function settle(self, unit)
    local ok <const>, e <const> = pcall(self.call, self, "exec", COMMIT)
    if not ok then error(transaction.at_commit(e), 0) end
    statements.settle_temporary(self, unit.temporary)
    for i = #unit.settings, 1, -1 do
        local setting <const> = unit.settings[i]
        self:call("query", catalog.sql "select {set_config}($1, $2, true)", setting[1], setting[2])
    end
end

local function add_changes(to, from)
    for name, n in pairs(from) do to[name] = (to[name] or 0) + n end
end

---Ends a unit as COMMIT would. Raises when COMMIT would; the caller rolls back then.
---@param unit dbrun.dry.Unit
function Connection:commit(unit)
    self.real:drained()
    self:check()
    if self.real:in_transaction() == "failed" then
        transaction.raise_nothing_done(unit.top and "nothing was committed"
            or "nothing of the nested transaction was kept")
    end
    if unit.top then settle(self, unit) end
    shield(statements.counted, self, function() self:use(transaction.release, unit.savepoint) end)
    leave(self, unit)
    local around <const> = self.units[#self.units]
    add_changes(around and around.changes or self.changes, unit.changes)
    if around then
        table.move(unit.settings, 1, #unit.settings, #around.settings + 1, around.settings)
        table.move(unit.temporary, 1, #unit.temporary, #around.temporary + 1, around.temporary)
    end
end

local Leaving <const> = { __close = function(self) self.turn:leave(self.holder) end }

---Takes the turn and opens the connection; closing the result releases the turn.
---@param what string the method, for messages
---@return table closable
function Connection:enter(what)
    self:check()
    local leaving <const> = setmetatable({ turn = self.turn, holder = false }, Leaving)
    leaving.holder = self.turn:enter(what)
    local ok <const>, e <const> = pcall(open, self)
    if not ok then
        self.turn:leave(leaving.holder)
        error(e, 0)
    end
    return leaving
end

---Runs fn(...) as a unit: kept until the end of the dry run when it returns, rolled back when it raises.
---@param what string|false the method, for messages; false: the caller has the turn
---@param read_only boolean|nil
---@param fn function
---@param ... any
---@return any ... what fn returned
function Connection:unit(what, read_only, fn, ...)
    local _ <close> = what and self:enter(what) or nil
    local unit <const> = self:begin(read_only)
    local result = table.pack(pcall(fn, ...))
    if result[1] then
        local ok <const>, e <const> = pcall(self.commit, self, unit)
        if ok then return table.unpack(result, 2, result.n) end
        result = { false, e }
    end
    self:rollback(unit)
    error(result[2], 0)
end

-- ---- statements ----

---The facts about an SQL text. Raises when a dry run refuses it.
---@param sql string
---@param inside boolean is the script in a transaction?
---@return dbrun.dry.Facts
function Connection:look(sql, inside)
    local escapes <const> = self.real and self.real:parameter "standard_conforming_strings" == "off"
    local facts <const> = sqls.facts(sql, escapes)
    local refused <const> = facts.refused
    if not refused and not inside then explain.outside(facts, sql) end
    if refused then
        errors.raise {
            kind = "usage", outcome = "not_sent", retryable = false, message = refused[1], hint = refused[2],
            statement = sql,
        }
    end
    if facts.defers then self.deferred = false end
    return facts
end

---Records several statements that something else sends.
---@param facts dbrun.dry.Facts
function Connection:note(facts)
    for _, statement in ipairs(facts.statements) do statements.note(self, statement) end
end

---Sends a statement: `fn(self, sql, ...)` does it.
---@param facts dbrun.dry.Facts
---@param fn function
---@param sql string
---@param ... any
---@return any ...
function Connection:send(facts, fn, sql, ...)
    local only <const> = facts.statements[1]
    if not only then return fn(self, sql, ...) end
    if #facts.statements == 1 then return statements.send(self, only, fn, sql, ...) end
    if not facts.savepoints and not facts.truncates then
        self:note(facts)
        return fn(self, sql, ...)
    end
    local result
    for _, statement in ipairs(facts.statements) do
        result = table.pack(statements.send(self, statement, fn, statement.sql, ...))
    end
    return table.unpack(result, 1, result.n)
end

-- ---- the end ----

---@class dbrun.dry.Found
---@field oids dbrun.dry.Counts
---@field names table<integer, { name: string, relation: string }>
---@field foreign? { name: string }[] tables that statements name
---@field wrote? boolean the transaction has written something
---@field problem? string

--- Seconds for a cancelled statement of another task to end.
local LAST_WAIT <const> = 2

--- Cancels the running statement of another task: otherwise the server would go on with it, and hold its locks, after
--- this process has ended.
---@return boolean? was there one
local function interrupt(self)
    local holder <const> = self.turn.holder
    if not (holder and holder.busy) then return end
    pcall(self.real.cancel, self.real)
    local limit <const> = now() + LAST_WAIT
    while holder.busy and now() < limit and pcall(core.task.sleep, 0.005) do end
    return true
end

local function count_all(self, unit)
    local real <const> = self.real
    if unit then -- the running statement is not kept
        self.undone = unit.undone
        pcall(real.drained, real)
        if real:in_transaction() then real:exec("ROLLBACK TO SAVEPOINT " .. unit.savepoint) end
        return counts.add(unit.before, -1, unit.undone, {})
    end
    return counts.add(counts.read(real:query(counts.SQL)), -1, self.undone, {})
end

local function names_of(real, found)
    local oids <const>, names <const> = {}, {}
    for oid in pairs(found) do oids[#oids + 1] = oid end
    for _, row in ipairs(real:query(counts.NAMES, params.array(oids, "oid"))) do names[row.oid] = row end
    return names
end

local UNLOCK <const> = catalog.sql "select {pg_advisory_unlock_all}()"

local function target_list(self)
    local list <const> = {}
    for name in pairs(self.targets) do list[#list + 1] = name end
    return list
end

local function finish(self, found)
    local real <const>, unit <const> = self.real, self.units[1]
    if interrupt(self) then found.problem = "a statement was under way: its transaction is not counted" end
    found.oids = count_all(self, unit)
    real:exec "SET LOCAL search_path TO DEFAULT" -- names do not depend on the script's settings
    found.names = names_of(real, found.oids)
    found.foreign = real:query(counts.FOREIGN, params.array(target_list(self), "text"))
    found.wrote = real:value(counts.WROTE)
    if self.advisory then real:query(UNLOCK) end -- a pooler keeps the session
    real:guard(false)
    real:exec "ROLLBACK"
end

---Rolls everything back. What it would have changed is in the result.
---@return dbrun.dry.Found? nil: it was never used
function Connection:finish()
    if self.over or not self.real then
        self.over = true
        return nil
    end
    self.over = true
    local found <const> = { oids = {}, names = {} }
    if not self.lost then
        pcall(self.real.deadline, self.real, nil)
        local ok <const>, e <const> = pcall(finish, self, found)
        if not ok then
            found.problem = explain.unfinished(self, e)
            pcall(self.real.cancel, self.real)
        end
    end
    pcall(self.real.invalidate, self.real) -- its end frees what the session holds
    pcall(self.real.release, self.real)
    return found
end

return M
