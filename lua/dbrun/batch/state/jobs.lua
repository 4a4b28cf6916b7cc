--- The rows of jobs, as people see and control them: found by name, paused, set, cancelled, forgotten.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local nearest = require "dbrun.nearest"
local process = require "dbrun.process"
local schema = require "dbrun.batch.state.schema"

local M = {}

---@class dbrun.batch.JobRow
---@field name string
---@field kind string
---@field source string the table that is walked, as people write it
---@field definition table
---@field hash string
---@field identity table
---@field state "running"|"paused"|"stopped"|"cancelled"|"done"
---@field reason? string why it is paused or stopped
---@field pass integer
---@field started string
---@field pass_started string
---@field ended? string
---@field last? string[] last key of this pass; nil for an empty table
---@field barrier? table transactions that the next pass waits for
---@field set_values table<string, string>
---@field file_values table<string, any>
---@field estimate? integer rows by statistics, or counted, at the start
---@field found? integer rows that the last look found
---@field keeps? boolean `where` still holds for finished rows
---@field events table[]

local COLUMNS <const> = "name, kind, source, definition, hash, identity, state, reason, pass, started, pass_started, "
    .. "ended, last, barrier, set_values, file_values, estimate, found, keeps, events"

---The job of that name.
---@param conn table
---@param name string
---@param place? dbrun.batch.Place
---@return dbrun.batch.JobRow? nil when there is none
function M.find(conn, name, place)
    place = place or schema.place(conn)
    if not place.exists then return nil end
    return conn:one(catalog.sql(("select %s from %s where name {=} $1"):format(COLUMNS, place.jobs)), name)
end

---All jobs of the database, in the order of their start.
---@param conn table
---@return dbrun.batch.JobRow[]
function M.list(conn)
    local place <const> = schema.place(conn)
    if not place.exists then return {} end
    return conn:query(("select %s from %s order by started, name"):format(COLUMNS, place.jobs))
end

---Raises an error of kind `usage` for a name that no job has, with similar names.
---@param conn table
---@param name string
function M.unknown(conn, name)
    local names <const> = {}
    for _, row in ipairs(M.list(conn)) do names[#names + 1] = row.name end
    if #names == 0 then
        errors.fail("usage", ("no job '%s': no batch job was ever started in this database"):format(name),
            "dbrun batch run FILE starts one")
    end
    local near <const> = nearest.find(name, names)
    errors.fail("usage", ("no job '%s' in this database"):format(name),
        near and ("did you mean '%s'? dbrun batch list shows all"):format(near) or "dbrun batch list shows all")
end

---Who acts, for the log of the job: the user and the machine.
---@return string
function M.who()
    local user <const> = os.getenv "USER" or os.getenv "LOGNAME"
    local host <const> = process.host_name()
    return user and user .. "@" .. host or host
end

---SQL of an events column with one more event, of which the last 100 are kept.
local EVENTS <const> = catalog.sql [[
(select coalesce({jsonb_agg}(e order by n), '[]') from (
    select e, n, {count}(*) over () as total from {jsonb_array_elements}(%s {||} {jsonb_build_array}(
        {jsonb_build_object}('at', {clock_timestamp}(), 'what', :what::{text}, 'who', :who::{text},
                             'text', :text::{text}))) with ordinality as x(e, n)) y where n {>} (total {-} 100))]]

---The SQL that adds an event (:what, :who, :text) to a job's events.
---@param column? string qualified; default events
---@return string
function M.with_event(column)
    return EVENTS:format(column or "events")
end

local function update(conn, place, name, what, text, assignments, condition, values)
    local all <const> = { name = name or core.null, what = what, who = M.who(), text = text or core.null }
    for key, value in pairs(values or {}) do all[key] = value end
    local where <const> = "where (:name::{text} is null or name {=} :name) " .. (condition or "")
    local sql <const> = catalog.sql(("update %s set %s %s returning name"):format(place.jobs, assignments, where))
    local names <const> = {}
    for i, row in ipairs(conn:query((sql:gsub("EVENTS", function() return M.with_event() end)), all)) do
        names[i] = row.name
    end
    return names
end

---Adds an event to a job's log.
---@param conn table
---@param name string
---@param what string "started", "paused", "set", "failed", ...
---@param text? string
---@param place? dbrun.batch.Place
function M.event(conn, name, what, text, place)
    update(conn, place or schema.place(conn), name, what, text, "events = EVENTS")
end

---Refuses what cannot be done to a job in its state; `done` says what was asked for.
local function refuse(name, state, done)
    errors.fail("usage", ("the job '%s' is %s: it cannot be %s"):format(name, state, done),
        "dbrun batch status " .. name)
end

---Changes the state of jobs; raises for an unknown name, and for a job whose state does not allow it.
local function steer(conn, name, what, text, assignments, states, done, values)
    local place <const> = schema.place(conn)
    if not place.exists then
        if name then M.unknown(conn, name) end
        return {}
    end
    local condition <const> = ("and state {=} any (array['%s'])"):format(table.concat(states, "', '"))
    local names <const> = update(conn, place, name, what, text, assignments, condition, values)
    if name and #names == 0 then
        local row <const> = M.find(conn, name, place)
        if not row then M.unknown(conn, name) end
        refuse(name, row.state, done)
    end
    return names
end

---Pauses a job, or all running ones. Workers finish the current chunk and wait.
---@param conn table
---@param name? string nil: all
---@param reason? string
---@return string[] names of the jobs that were paused
function M.pause(conn, name, reason)
    local text <const> = reason or "by " .. M.who()
    local place <const> = schema.place(conn)
    local row <const> = name and M.find(conn, name, place)
    if row and row.state == "paused" then return {} end
    return steer(conn, name, "paused", text, "state = 'paused', reason = :reason, events = EVENTS", { "running" },
        "paused", { reason = text })
end

---Lets a paused or stopped job go on.
---@param conn table
---@param name? string nil: all that are paused
---@return string[] names
function M.resume(conn, name)
    local row <const> = name and M.find(conn, name)
    if row and row.state == "running" then return {} end
    return steer(conn, name, "resumed", nil, "state = 'running', reason = null, events = EVENTS",
        name and { "paused", "stopped" } or { "paused" }, "resumed")
end

---Ends a job for good; its workers end after the current chunk.
---@param conn table
---@param name string
---@return string[] names
function M.cancel(conn, name)
    return steer(conn, name, "cancelled", nil,
        "state = 'cancelled', ended = {clock_timestamp}(), reason = null, events = EVENTS",
        { "running", "paused", "stopped" }, "cancelled")
end

---Raises for a job that will never have a worker again: a value that is set for it would mean nothing.
---@param conn table
---@param name string
function M.check_settable(conn, name)
    local row <const> = M.find(conn, name)
    if not row then M.unknown(conn, name) end
    if row.state ~= "cancelled" and (row.state ~= "done" or M.totals(conn, name).failed > 0) then return end
    errors.fail("usage", ("the job '%s' %s: no worker reads a value that is set now"):format(name,
        row.state == "done" and "is done" or "was cancelled"),
        ("dbrun batch forget %s lets a run start anew, with the values of its file"):format(name))
end

---Sets a value that workers read with their next claim, or unsets it (text = nil).
---@param conn table
---@param name string
---@param key string
---@param text? string
function M.set(conn, name, key, text)
    local place <const> = schema.place(conn)
    update(conn, place, name, "set", key .. " = " .. (text or "as in the file"),
        text and "set_values = set_values {||} {jsonb_build_object}(:key::{text}, :value::{text}), events = EVENTS"
            or "set_values = set_values {-} :key::{text}, events = EVENTS", nil,
        { key = key, value = text })
end

---Opens the failed ranges of a job again.
---@param conn table
---@param name string
---@return integer n ranges
function M.retry(conn, name)
    local place <const> = schema.place(conn)
    local row <const> = M.find(conn, name, place)
    if not row then M.unknown(conn, name) end
    local n
    conn:transaction({ isolation = "read committed", read_only = false }, function(tx)
        -- The present pass, because a range of an earlier pass would never be taken.
        local now <const> = tx:one(catalog.sql(
            ("select pass, state from %s where name {=} $1 for no key update"):format(place.jobs)), name)
        if now and now.state == "cancelled" then refuse(name, now.state, "retried") end
        n = tx:query(catalog.sql(([[
            update %s set state = 'open', pass = :pass, position = first, next = last, taken = 0, owner = null,
                          again = null, error = null
             where job {=} :name and state {=} 'failed']]):format(place.ranges)),
            { name = name, pass = now and now.pass or row.pass }).affected
        if n > 0 then
            update(tx, place, name, "retry", n == 1 and "1 failed range" or n .. " failed ranges",
                "state = case when state {=} 'paused' then state else 'running' end, ended = null, reason = null, "
                    .. "found = null, events = EVENTS")
        end
    end)
    return n
end

---Forgets a job: removes its rows from both tables. The finished work stays.
---@param conn table
---@param name string
function M.forget(conn, name)
    local place <const> = schema.place(conn)
    local row <const> = M.find(conn, name, place)
    if not row then M.unknown(conn, name) end
    if row.state == "running" then
        errors.fail("usage", ("the job '%s' is running: it cannot be forgotten"):format(name),
            "dbrun batch cancel " .. name .. " ends it")
    end
    conn:transaction({ isolation = "read committed", read_only = false }, function(tx)
        -- Deletes the job first, so that no range is given out any more. The next DELETE also sees new rows from a
        -- chunk or a split that it had to wait for; a range that stayed would be processed by the next job of that
        -- name.
        local gone <const> = tx:query(catalog.sql(
            ("delete from %s where name {=} $1 and state {<>} 'running'"):format(place.jobs)), name).affected
        if gone == 0 then
            errors.fail("usage", ("the job '%s' has changed in this moment: it was not forgotten"):format(name),
                "dbrun batch status " .. name)
        end
        local sql <const> = catalog.sql(("delete from %s where job {=} $1"):format(place.ranges))
        repeat until tx:query(sql, name).affected == 0
        local keys <const> = schema.keys(place, name)
        if tx:value(catalog.sql "select {to_regclass}($1) is not null", keys) then tx:exec("drop table " .. keys) end
    end)
end

---The ranges of a job, in the order in which they were made.
---@param conn table
---@param name string
---@return table[]
function M.ranges(conn, name)
    local place <const> = schema.place(conn)
    if not place.exists then return {} end
    return conn:query(catalog.sql(("select * from %s where job {=} $1 order by id"):format(place.ranges)), name)
end

local TOTALS <const> = [[
select coalesce({sum}(chunks), 0)::bigint as chunks, coalesce({sum}(rows), 0)::bigint as rows,
       coalesce({sum}(looked) filter (where pass {=} (
           select {max}(p.pass) from %s p where p.job {=} $1)), 0)::bigint as looked,
       coalesce({sum}(retried), 0)::bigint as retried,
       coalesce({sum}(worked), 0) as worked, {count}(*) filter (where state {=} 'failed') as failed,
       {count}(*) filter (where state {=} 'open') as open,
       (select coalesce({jsonb_object_agg}(key, total), '{}') from (
           select w.key, {sum}(w.value::double precision) as total
             from %s x, {jsonb_each_text}(x.waited) w where x.job {=} $1 group by w.key) s) as waited
  from %s where job {=} $1]]

---The totals of all ranges of a job: chunks, rows, looked (keys, in the present pass), retried, worked, waited
---(seconds by reason), and the numbers of failed and open ranges.
---@param conn table
---@param name string
---@return table totals
function M.totals(conn, name)
    local place <const> = schema.place(conn)
    if not place.exists then
        return { chunks = 0, rows = 0, looked = 0, retried = 0, worked = 0, failed = 0, open = 0, waited = {} }
    end
    return conn:one(catalog.sql(TOTALS:format(place.ranges, place.ranges, place.ranges)), name)
end

local BUSY <const> = [[
select {count}(*) from %s where job {=} $1 and state {=} 'open' and id {<>} all (coalesce((
    select {array_agg}(id) from (select id from %s where job {=} $1 and state {=} 'open' for no key update skip locked)
        free), '{}'))]]

---The number of chunks that run now, on all machines: rows of ranges that a worker has locked.
---@param conn table
---@param name string
---@return integer
function M.under_way(conn, name)
    local place <const> = schema.place(conn)
    if not place.exists then return 0 end
    return conn:value(catalog.sql(BUSY:format(place.ranges, place.ranges)), name)
end

return M
