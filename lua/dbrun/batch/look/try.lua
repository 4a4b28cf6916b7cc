--- The first chunk of a job, done for real in a transaction that is rolled back.
local bounds_of <const> = require "dbrun.batch.state.bounds"
local catalog <const> = require "dbrun.db.catalog"
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local guarded <const> = require "dbrun.batch.state.guarded"
local jobs <const> = require "dbrun.batch.state.jobs"
local json <const> = require "dbrun.json"
local locks_of <const> = require "dbrun.batch.look.locks"
local reading <const> = require "dbrun.batch.look.reading"
local sample <const> = require "dbrun.batch.look.sample"
local schema <const> = require "dbrun.batch.state.schema"
local settings <const> = require "dbrun.batch.state.settings"
local task <const> = require "dbrun.task"
local transaction <const> = require "dbrun.db.transaction"
local walks <const> = require "dbrun.batch.walk"

local M = {}

---@class dbrun.batch.Try
---@field name string
---@field chunk? {first: any, last: any, keys: integer} nil: no row fits
---@field rows? integer
---@field seconds? number
---@field wal_bytes? integer with what others wrote meanwhile
---@field locks? dbrun.batch.Lock[]
---@field other_locks? integer
---@field keeps? boolean `where` still holds for rows of the chunk; nil: no `where`, or no rows were done
---@field still? integer rows of the chunk for which it does
---@field total? {rows: integer, fits: integer, seconds: number} estimated
---@field error? {message: string, sqlstate?: string, hint?: string}
---@field left_out? string what was not tried

local NOW <const> = "select pg_catalog.clock_timestamp()"
local WAL <const> = catalog.sql "select {pg_current_wal_insert_lsn}()::{text}"
local DIFFERENCE <const> = catalog.sql
    "select {pg_wal_lsn_diff}({pg_current_wal_insert_lsn}(), $1::{text}::{pg_lsn})::{int8}"
local STANDBY <const> = catalog.sql "select {pg_is_in_recovery}()"
local STILL <const> = "select pg_catalog.count(*) from %s as %s where %s"
local STEP_PATIENCE <const> = 30 -- seconds for a step of the way to the first chunk

---The part of a job that a trial does in place of the whole, because the rest would be kept.
local function stand_in(definition)
    local to <const> = definition.kind == "archive" and definition.to
    if not to or type(to) == "string" then return definition end
    local part <const> = {}
    for name, value in pairs(definition) do part[name] = value end
    part.work = function(walk)
        return function(tx, chunk)
            local sql <const> = define.expand(definition, walk, ("delete from %s as %s where :chunk"):format(
                walk.relation, walk.alias), chunk.open)
            return tx:query(sql, define.named(definition, chunk)).affected
        end
    end
    return part, "the rows were not written to their archive, which would have kept them: only their deletion was tried"
end

---The first chunk: nil when no row fits.
local function find(conn, definition, bounds, values)
    local walk <const> = bounds.walk
    if walk.sql == false then
        local last <const> = walk:last_bound()
        local step <const> = last and walk:next_bound(nil, values.size, last)
        return step and { upto = step.bound, keys = step.looked }
    end
    local last <const> = reading.read(conn, definition, STEP_PATIENCE, function(tx) return bounds:last(tx) end)
    local after, step
    while last do
        step = reading.read(conn, definition, STEP_PATIENCE, function(tx)
            return bounds:step(tx, after, last, values.size, values.look, definition.where ~= nil)
        end)
        if not step or step.fits > 0 then break end
        after = step.bound
        if step.final then return nil end
    end
    return step and { after = after, upto = step.bound, keys = step.looked }
end

local function chunk_of(definition, walk, found, started)
    return {
        first = walk.value(found.after), last = walk.value(found.upto), number = 1, attempt = 1,
        id = guarded.id(definition.name, "try", table.concat(found.upto, "\1")),
        started = started, after = found.after, upto = found.upto, open = found.after == nil,
    }
end

local function measure(report, conn, definition, walk, chunk, values, work)
    local from <const> = conn:value(WAL)
    local began <const> = task.now()
    local rows <const> = guarded.run(conn, values.timeout, work, chunk)
    conn:exec "set constraints all immediate" -- as COMMIT would check them
    report.seconds, report.rows = task.now() - began, rows
    report.wal_bytes = conn:value(DIFFERENCE, from)
    report.locks, report.other_locks = locks_of.of(conn)
    if definition.where and rows > 0 and walk.sql ~= false and not definition.source_engine then
        report.still = conn:value(STILL:format(walk.relation, walk.alias,
            define.condition(definition, walk, chunk.open, true)), define.named(definition, chunk))
        report.keeps = report.still > 0
    end
end

local function roll_back(conn)
    return setmetatable({}, { __close = function()
        task.shield(function()
            local ok <const> = pcall(function()
                conn:drained()
                conn:guard(false)
                if conn:in_transaction() then conn:exec "rollback" end
            end)
            if not ok then pcall(conn.invalidate, conn) end -- the server rolls back what it loses
        end)
    end })
end

local function notes_of(place, name)
    return function(with)
        local list <const> = {}
        for _, range in ipairs(place.exists and jobs.ranges(with, name) or {}) do list[#list + 1] = range.note end
        return list
    end
end

---The error of a failed statement as data; a mistake in the job itself is raised.
local function failure_of(e, values)
    if not errors.is(e) or e.kind == "usage" or e.kind == "config" or e.kind == "connect"
        or e.kind == "cancelled" and not e.sqlstate then
        error(e, 0)
    end
    local message, hint = e.message, e.hint
    if e.kind == "timeout" or e.sqlstate == "57014" then
        message = ("the first chunk took longer than its timeout, %g s"):format(values.timeout)
        hint = "a run halves it and tries again; size = ... begins with less"
    elseif e.sqlstate == "55P03" then
        hint = "somebody holds a lock on what it writes: a run gives way and tries again"
    end
    return { message = message, sqlstate = e.sqlstate, hint = hint }
end

---Runs all in one transaction, because a source makes its tables in it.
local function try_chunk(report, conn, definition, engine, place, started, values)
    local optional <const> = settings.optional(conn)
    local _ <close> = roll_back(conn)
    local walk, source
    if definition.source_engine then
        source = definition.source_engine:acquire()
    end
    local _ <close> = setmetatable({}, { __close = function() if source then source:release() end end })
    if not definition.source then walk = walks.open(source or conn, definition) end
    local named <const> = define.named(definition, { started = started })
    local found = walk and find(source or conn, definition, bounds_of.new(walk, named), values)
    if walk and not found then return end
    conn:exec(transaction.begin_sql { isolation = "read committed", read_only = false })
    reading.set(conn, settings.of(definition, values, 1, optional))
    if definition.source then
        walk = definition.source:open(conn, definition)
        found = M.first_of_source(conn, definition, walk, named, values)
        if not found then return end
    end
    local part <const>, left_out <const> = stand_in(definition)
    local work <const> = define.compile(part, walk, {
        engine = engine, place = place, name = definition.name, started = started, worker = 1,
        notes = notes_of(place, definition.name),
    })
    local chunk <const> = chunk_of(definition, walk, found, started)
    report.chunk = { first = chunk.first, last = chunk.last, keys = found.keys }
    report.left_out = left_out
    local ok <const>, e <const> = pcall(measure, report, conn, definition, walk, chunk, values, work)
    if not ok then report.error = failure_of(e, values) end
    if report.locks then report.locks = json.array(report.locks) end
    return walk, source
end

---The first chunk of a source, whose table only this transaction sees.
---@return {after?: string[], upto: string[], keys: integer}?
function M.first_of_source(conn, definition, walk, named, values)
    local bounds <const> = bounds_of.new(walk, named)
    if walk.sql == false then return find(conn, definition, bounds, values) end
    local last <const> = bounds:last(conn)
    local step <const> = last and bounds:step(conn, nil, last, values.size, values.look, false)
    return step and { upto = step.bound, keys = step.looked }
end

local function expect(report, conn, definition, started, values)
    if not report.rows or report.rows == 0 or not definition.table or definition.source_engine then return end
    local walk <const> = walks.open(conn, definition)
    local rows <const> = sample.of(conn, definition, walk, define.named(definition, { started = started }))
    report.total = { rows = rows.total, fits = rows.fits, is_exact = rows.is_all,
        seconds = math.max(rows.fits * report.seconds / report.rows / values.duty,
            values.rate and rows.fits / values.rate or 0) }
end

local function try(definition, engine)
    local conn <close> = engine:acquire()
    if conn:value(STANDBY) then
        errors.fail("usage", "the server is a standby: a batch writes where it works",
            "connect to the primary (target_session_attrs=read-write with several hosts), or promote it first")
    end
    local report <const> = { name = definition.name, kind = definition.kind }
    local place <const> = schema.place(conn)
    local row <const> = place.exists and jobs.find(conn, definition.name, place) or nil
    local started <const> = row and row.started or conn:value(NOW)
    local values <const> = define.values(definition, row and row.set_values or {})
    try_chunk(report, conn, definition, engine, place, started, values)
    expect(report, conn, definition, started, values)
    return report
end

---@param definition dbrun.batch.Definition
---@return dbrun.batch.Try
---Raises an error of kind `usage` for what a run would refuse.
function M.of(definition)
    return reading.with_engine(definition, function(engine) return try(definition, engine) end)
end

return M
