--- Counts the rows that a job's `where` still finds, in steps, each in its own read-only transaction; between two steps
--- it obeys the job's load limits.
local bounds_of <const> = require "dbrun.batch.state.bounds"
local compare <const> = require "dbrun.batch.look.compare"
local counting <const> = require "dbrun.batch.state.count"
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local jobs <const> = require "dbrun.batch.state.jobs"
local json <const> = require "dbrun.json"
local passes <const> = require "dbrun.batch.state.passes"
local reading <const> = require "dbrun.batch.look.reading"
local schema <const> = require "dbrun.batch.state.schema"
local signals <const> = require "dbrun.batch.signals"
local task <const> = require "dbrun.task"
local walks <const> = require "dbrun.batch.walk"

local M = {}

---@class dbrun.batch.Check
---@field name string
---@field state? string of the job; nil: it has not run in this database
---@field found? integer matching rows, without those below
---@field newer? integer matching rows after the job's last key
---@field failed? {first: any, last: any, rows: integer, sqlstate?: string, message?: string}[] failed ranges
---@field keeps? boolean finished rows still match
---@field keys integer keys that were read
---@field seconds number
---@field compared? dbrun.batch.Comparison of a copy

local NOW <const> = "select pg_catalog.clock_timestamp()"
local PATIENCE <const> = 60 -- seconds for the last key
local EVERY <const> = 1 -- seconds between two checks of the load limits

---Waits while a load limit of the job is exceeded.
local function yielder(conn, definition, values, walk, say)
    local health <const> = signals.new {
        throttle = values.throttle, blind = definition.blind, replicas = definition.replicas, oid = walk.oid,
        table = definition.table, say = say,
    }
    health:start(conn)
    local looked
    return function()
        if looked and task.now() - looked < EVERY then return end
        local said
        while true do
            health:sample(conn)
            looked = task.now()
            local why <const> = health:verdict()
            if not why then return end
            if why ~= said then
                said = why
                say("waiting: " .. why)
            end
            task.sleep(EVERY)
        end
    end
end

local function check_possible(definition)
    if definition.compare or definition.where and definition.table then return end
    if definition.source then
        errors.fail("usage", ("batch check: the job '%s' walks %s: nothing shows which of its keys are done"):format(
            definition.name, definition.source.text or "a source"), "dbrun batch status " .. definition.name)
    end
    errors.fail("usage", ("batch check: the job '%s' has no where: nothing shows which rows still need work"):format(
        definition.name), "dbrun batch status " .. definition.name)
end

---Counts in all stretches; failed ranges are listed separately.
local function count(report, conn, row, bounds, place, opts)
    local walk <const> = bounds.walk
    local last <const> = reading.read(conn, opts.definition, PATIENCE, function(tx) return bounds:last(tx) end)
    local function rows_in(first, upto)
        local found <const>, keys <const> = counting.rows(conn, bounds, { first = first, last = upto }, opts)
        report.keys = report.keys + keys
        return found
    end
    report.found, report.newer, report.failed = 0, 0, json.array {}
    if not row or not row.last then
        if last then report.found = rows_in(nil, last) end
        return
    end
    local store <const> = { place = place, name = row.name, bounds = bounds }
    for _, stretch in ipairs(passes.stretches(conn, store, row.last)) do
        report.found = report.found + rows_in(stretch.first, stretch.last)
    end
    for _, range in ipairs(jobs.ranges(conn, row.name)) do
        if range.state == "failed" then
            local e <const> = range.error or {}
            table.insert(report.failed, { first = walk.value(range.first), last = walk.value(range.last),
                rows = rows_in(range.first, range.last), sqlstate = e.sqlstate, message = e.message })
        end
    end
    if last then report.newer = rows_in(row.last, last) end
end

local function check(definition, engine, say)
    local conn <close> = engine:acquire()
    local place <const> = schema.place(conn)
    local row <const> = place.exists and jobs.find(conn, definition.name, place) or nil
    local started <const> = row and row.started or conn:value(NOW)
    local report <const> = { name = definition.name, state = row and row.state, keeps = row and row.keeps, keys = 0 }
    local values <const> = define.values(definition, row and row.set_values or {})
    local began <const> = task.now()
    if definition.compare then
        local source <close> = definition.source_engine:acquire()
        local walk <const> = walks.open(source, definition)
        report.compared = compare.of(source, conn, definition, walk, values, started,
            yielder(conn, definition, values, walk, say))
        report.keys = report.compared.keys
        report.compared.differing = json.array(report.compared.differing)
    else
        local walk <const> = walks.open(conn, definition)
        local differs <const> = row and walks.differs(row.identity, walk.identity)
        if differs then
            errors.fail("usage", ("the ranges of the job '%s' are not those of this table: %s"):format(row.name,
                differs), ("dbrun batch forget %s lets it be checked as a whole"):format(row.name))
        end
        count(report, conn, row, bounds_of.new(walk, define.named(definition, { started = started })), place, {
            definition = definition, look = values.look, duty = values.duty,
            between = yielder(conn, definition, values, walk, say),
        })
    end
    report.seconds = task.now() - began
    return report
end

---@param definition dbrun.batch.Definition
---@param say fun(text: string) what is said while it counts
---@return dbrun.batch.Check
---Raises an error of kind `usage` for a job of which nothing tells what is done.
function M.of(definition, say)
    check_possible(definition)
    return reading.with_engine(definition, function(engine) return check(definition, engine, say) end)
end

return M
