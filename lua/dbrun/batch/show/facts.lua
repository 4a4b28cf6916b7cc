--- The facts about a job, all from the database: its file may be on another machine.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local jobs = require "dbrun.batch.state.jobs"
local share = require "dbrun.batch.show.share"
local values = require "dbrun.batch.show.values"

local M = {}

---@class dbrun.batch.SeenWorker
---@field owner string "host:pid/worker"
---@field range integer
---@field chunk integer its number in the range
---@field since number seconds since the range moved
---@field here boolean whether its server process exists
---@field waiting? string
---@field size? integer
---@field durations number[] of the last chunks
---@field sizes integer[] of the last chunks

---@class dbrun.batch.Facts
---@field name string
---@field state string
---@field now number the server's clock, in seconds since 1970
---@field totals table see jobs.totals
---@field workers dbrun.batch.SeenWorker[]
---@field failed dbrun.batch.Failed[]
---@field values dbrun.batch.Value[]

---@class dbrun.batch.Failed
---@field range integer
---@field first? string[] the range's bounds: after the first, up to the last
---@field last string[]
---@field key? any
---@field sqlstate? string
---@field message? string
---@field at? string
---@field attempts? integer

---Seconds since 1970 of a time as an engine returns it.
---@param when any
---@return number?
function M.epoch(when)
    if when == nil then return nil end
    if type(when) ~= "string" then return type(when) == "number" and when or nil end
    local ok <const>, us <const> = pcall(require("dbrun.time").parse, when)
    return ok and us / 1e6 or nil
end

---The workers: the owned ranges whose server process exists.
local function workers_of(ranges, processes, now)
    local list <const> = {}
    for _, range in ipairs(ranges) do
        if range.state == "open" and range.owner then
            local start <const> = processes[range.pid]
            list[#list + 1] = {
                owner = range.owner:gsub("%.%x+$", ""), range = range.id, chunk = range.chunks + 1, pid = range.pid,
                since = math.max(0, now - (M.epoch(range.moved) or now)), waiting = range.waiting,
                here = start ~= nil and (start == true or start == range.backend_start),
                size = range.size, durations = range.durations or {}, sizes = range.sizes or {},
            }
        end
    end
    return list
end

---@param ranges table[]
---@return dbrun.batch.Failed[]
function M.failed_of(ranges)
    local list <const> = {}
    for _, range in ipairs(ranges) do
        if range.state == "failed" then
            local e <const> = range.error or {}
            local one <const> = { range = range.id, first = range.position or range.first, last = range.last }
            for _, name in ipairs { "key", "sqlstate", "message", "at", "attempts" } do
                if e[name] ~= core.null then one[name] = e[name] end
            end
            list[#list + 1] = one
        end
    end
    return list
end

local PROCESSES <const> = catalog.sql [[
select pid, backend_start from {pg_stat_activity} where pid {=} any ($1::int[])]]
local CLOCK <const> = catalog.sql "select extract(epoch from {clock_timestamp}())::float8"

---The server processes of the ranges that exist; those of another user may show no start time.
local function processes_of(conn, ranges)
    local pids <const>, there <const> = {}, {}
    for _, range in ipairs(ranges) do pids[#pids + 1] = range.state == "open" and range.pid or nil end
    if #pids == 0 then return there end
    for _, row in ipairs(conn:query(PROCESSES, require("dbrun.db").array(pids, "int4"))) do
        there[row.pid] = row.backend_start or true
    end
    return there
end

---Rows per second of all workers together while chunks run, without waits.
local function rate_of(workers)
    local rate
    for _, worker in ipairs(workers) do
        local seconds, rows = 0, 0
        for _, s in ipairs(worker.durations) do seconds = seconds + s end
        for _, n in ipairs(worker.sizes) do rows = rows + n end
        if worker.here and seconds > 0 then rate = (rate or 0) + rows / seconds end
    end
    return rate
end

---@param job dbrun.batch.JobRow
---@param conn table
---@return dbrun.batch.Facts
function M.of(conn, job)
    local ranges <const> = jobs.ranges(conn, job.name)
    local totals <const> = jobs.totals(conn, job.name)
    local now <const> = conn:value(CLOCK)
    local workers <const> = workers_of(ranges, processes_of(conn, ranges), now)
    local done <const>, left <const> = share.of(job, ranges)
    local active = 0
    for _, worker in ipairs(workers) do active = active + (worker.here and 1 or 0) end
    local seconds
    if left and job.state == "running" and active > 0 and totals.worked > 0 and totals.looked > 0 then
        seconds = left * (totals.worked / totals.looked) / active
    end
    local newest
    for _, range in ipairs(ranges) do
        if #(range.durations or {}) > 0 and (not newest or range.moved > newest.moved) then newest = range end
    end
    return {
        name = job.name, kind = job.kind, source = job.source, state = job.state, reason = job.reason,
        pass = job.pass, started = M.epoch(job.started), ended = M.epoch(job.ended), now = now,
        definition = job.definition, estimate = job.estimate, found = job.found, share = done, left = seconds,
        rate = rate_of(workers), totals = totals, workers = workers, failed = M.failed_of(ranges),
        newest = newest and { durations = newest.durations, sizes = newest.sizes },
        values = values.of(job), events = job.events or {},
    }
end

return M
