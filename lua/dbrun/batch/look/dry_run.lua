--- Reports what a job would do, without doing any of it.
local bounds_of <const> = require "dbrun.batch.state.bounds"
local counting <const> = require "dbrun.batch.state.count"
local dangers <const> = require "dbrun.batch.look.dangers"
local define <const> = require "dbrun.batch.define"
local effects <const> = require "dbrun.batch.look.effects"
local errors <const> = require "dbrun.error"
local facts <const> = require "dbrun.batch.look.facts"
local first <const> = require "dbrun.batch.look.first"
local jobs <const> = require "dbrun.batch.state.jobs"
local json <const> = require "dbrun.json"
local notes <const> = require "dbrun.batch.look.notes"
local partitions <const> = require "dbrun.batch.look.partitions"
local plans <const> = require "dbrun.batch.look.plan"
local reading <const> = require "dbrun.batch.look.reading"
local sample <const> = require "dbrun.batch.look.sample"
local schema <const> = require "dbrun.batch.state.schema"
local targets_of <const> = require "dbrun.batch.look.targets"
local walks <const> = require "dbrun.batch.walk"

local M = {}

local PATIENCE <const> = 0.5 -- seconds for the rows whose key is NULL

---@class dbrun.batch.DryRun
---@field name string
---@field kind string
---@field work table texts for people: table, where, run
---@field state {tables: "exist"|"made"|"missing", schema: string, job?: string, error?: string} made: by a run
---@field table? {name: string, key: string[], index: string}
---@field rows? dbrun.batch.Sample
---@field nulls? integer rows that are left out; -1: too many to count here
---@field chunks? {size: integer, count: integer, seconds: number, by: "target"|"rate", look_seconds?: number}
---@field first? table
---@field plans table[]
---@field targets? dbrun.batch.Effects[] nil: only a trial tells
---@field partitions? dbrun.batch.Partitions
---@field notes string[]
---@field refused dbrun.batch.Danger[]

local NOW <const> = "select pg_catalog.clock_timestamp()"

---Where the state is, and what it has of the job.
local function state_of(conn, name)
    local place <const> = schema.place(conn)
    local state <const> = { schema = (place.schema:sub(2, -2):gsub('""', '"')), tables = place.exists and "exist"
        or facts.may_create(conn, place.schema) and "made" or "missing" }
    if not place.exists then return state end
    local ok <const>, row <const> = pcall(jobs.find, conn, name, place)
    if not ok then
        if not errors.is(row) or not row.sqlstate then error(row, 0) end
        state.error = row.message
        return state
    end
    state.job = row and row.state
    return state, row
end

---Chunks and the time to expect: chunks adapt to `target`, so only a trial shows more.
local function expect(values, rows, found)
    local count <const> = math.ceil(rows.fits / values.size)
    local seconds, by = count * values.target / values.duty, "target"
    if values.rate and rows.fits / values.rate > seconds then seconds, by = rows.fits / values.rate, "rate" end
    local look
    if found.keys > 0 and not found.final then
        look = rows.total * found.seconds / found.keys / values.duty
    end
    return { size = values.size, count = count, seconds = seconds, by = by, look_seconds = look }
end

local function chunks_for(found, walk)
    local list <const> = {}
    for i, chunk in ipairs(found.chunks) do
        list[i] = { first = walk.value(chunk.after), last = walk.value(chunk.upto), rows = chunk.rows,
            keys = chunk.keys }
    end
    return { chunks = json.array(list), passed = found.passed, keys = found.keys, seconds = found.seconds,
        stopped = found.stopped, is_whole = found.final }
end

---Replaces the estimate by a count: the first chunks were all, or a count was requested.
local function count(rows, conn, definition, walk, values, found, named, wanted)
    if found.final then
        rows.fits, rows.by = 0, "counted"
        for _, chunk in ipairs(found.chunks) do rows.fits = rows.fits + chunk.rows end
    elseif wanted then
        rows.by, rows.fits = "counted", counting.rows(conn, bounds_of.new(walk, named), { last = found.last },
            { look = values.look, duty = values.duty })
        if not definition.where then rows.total, rows.is_all = rows.fits, true end
    end
end

local function nulls_of(conn, definition, walk)
    local sql <const> = walk.nulls and walk:nulls()
    if not sql then return nil end
    local n <const>, e <const> = reading.try(conn, definition, PATIENCE, function(tx) return tx:value(sql) end)
    if e and not reading.is_timeout(e) then error(e, 0) end
    return n or -1
end

---The walk's facts, read in the database of its table.
local function look_at_walk(report, conn, definition, started, set, counted)
    local walk <const> = walks.open(conn, definition)
    local values <const> = define.values(definition, set)
    local named <const> = define.named(definition, { started = started })
    local columns <const> = {}
    for i, k in ipairs(walk.key) do columns[i] = k.name end
    report.table = { name = walk.shown, key = json.array(columns), index = walk.index }
    report.rows = sample.of(conn, definition, walk, named)
    report.nulls = nulls_of(conn, definition, walk)
    local found <const> = first.of(conn, definition, walk, values, started)
    count(report.rows, conn, definition, walk, values, found, named, counted)
    report.first, report.chunks = chunks_for(found, walk), expect(values, report.rows, found)
    local chunk <const> = found.chunks[1] or not found.final and found.stretch
    if chunk then
        report.plans = json.array(plans.all(conn, definition, walk,
            define.named(definition, { after = chunk.after, upto = chunk.upto, started = started })))
    end
    return walk, named
end

local function look_at_targets(report, conn, definition, walk, named)
    local targets <const> = targets_of.of(conn, definition, walk)
    report.refused = json.array(targets and dangers.of(conn, definition, walk, targets) or {})
    if not targets then return end
    report.targets = json.array {}
    for i, target in ipairs(targets) do
        report.targets[i] = effects.of(conn, target)
        if walk and target.kind == "delete" and target.oid == walk.oid and not report.partitions then
            report.partitions = partitions.of(conn, definition, walk, named)
        end
    end
end

local function look(definition, engine, counted)
    local conn <close> = engine:acquire()
    local state <const>, row <const> = state_of(conn, definition.name)
    local report <const> = { name = definition.name, kind = definition.kind, work = definition.texts, state = state,
        plans = json.array {}, notes = json.array {} }
    local started <const> = row and row.started or conn:value(NOW)
    local set <const> = row and row.set_values or {}
    local walk, named
    if definition.source_engine then
        local source <close> = definition.source_engine:acquire()
        look_at_walk(report, source, definition, started, set, counted)
    elseif definition.table then
        walk, named = look_at_walk(report, conn, definition, started, set, counted)
    end
    look_at_targets(report, conn, definition, walk, named)
    report.notes = json.array(notes.of(definition, walk, report))
    return report
end

---@param definition dbrun.batch.Definition
---@param counted boolean matching rows are counted, which reads the whole table
---@return dbrun.batch.DryRun
---Raises an error of kind `usage` for what a run would refuse, and those of the server.
function M.of(definition, counted)
    return reading.with_engine(definition, function(engine) return look(definition, engine, counted) end)
end

return M
