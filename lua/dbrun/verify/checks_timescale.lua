--- Hypertables: the length of their chunks, compression, and jobs that failed. Skipped without TimescaleDB.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

---Rows as JSON, because older releases lack some of the columns: the object then lacks the key.
local ROWS <const> = catalog.sql [[
select coalesce((select {jsonb_agg}({to_jsonb}(h) {||} {jsonb_build_object}('at',
                 {to_regclass}({format}('%I.%I', h.hypertable_schema, h.hypertable_name))::{oid}::{int8}))
            from timescaledb_information.hypertables h), '[]') as hypertables,
       coalesce((select {jsonb_agg}({to_jsonb}(d)) from timescaledb_information.dimensions d
                  where dimension_number {=} 1), '[]') as dimensions,
       coalesce((select {jsonb_agg}({to_jsonb}(j) {||} {to_jsonb}(s)) from timescaledb_information.jobs j
                   join timescaledb_information.job_stats s on s.job_id {=} j.job_id), '[]') as jobs,
       array(select {to_regclass}(n)::{oid}::{int8} from {unnest}({string_to_array}($1, E'\n')) n) as wanted]]

local function dimension_of(row, hypertable)
    for _, dimension in ipairs(row.dimensions) do
        if dimension.hypertable_schema == hypertable.hypertable_schema
            and dimension.hypertable_name == hypertable.hypertable_name then
            return dimension
        end
    end
    return {}
end

local function by_table(row)
    local found = {}
    for _, hypertable in ipairs(row.hypertables) do
        hypertable.interval = dimension_of(row, hypertable).time_interval
        found[hypertable.at] = hypertable
    end
    return found
end

local function failed_jobs(row)
    local lines = {}
    for _, job in ipairs(row.jobs) do
        if job.last_run_status == "Failed" then
            lines[#lines + 1] = ("job %s (%s%s) failed the last time, %s of %s runs"):format(tostring(job.job_id),
                tostring(job.proc_name), type(job.hypertable_name) == "string" and " of " .. job.hypertable_name or "",
                tostring(job.total_failures), tostring(job.total_runs))
        end
    end
    return lines
end

local function compare(fact, hypertable)
    if not hypertable then return { fact.table .. " is not a hypertable" } end
    local lines = {}
    if fact.chunk_interval and tostring(hypertable.interval) ~= fact.chunk_interval then
        lines[1] = ("%s: chunks of %s, expected %s"):format(fact.table, tostring(hypertable.interval),
            fact.chunk_interval)
    end
    if fact.compression ~= nil and (hypertable.compression_enabled == true) ~= fact.compression then
        lines[#lines + 1] = ("%s: compression is %s"):format(fact.table, fact.compression and "off" or "on")
    end
    return lines
end

---@type dbrun.verify.Check
M.hypertables = {
    name = "schema.hypertables",
    about = "TimescaleDB: chunk intervals and compression as expected, no failed job",
    needs = { "postgres.async", "postgres.server" },
    on_conn = true,
    after = { "schema.time_partitioning" },
    service = function(ctx) return require("dbrun.verify.checks_pg").async.service(ctx) end,
    run = function(ctx)
        local facts, names = {}, {}
        for _, fact in ipairs(ctx.expect.tables) do
            if fact.chunk_interval or fact.compression ~= nil then
                facts[#facts + 1], names[#names + 1] = fact, fact.table
            end
        end
        if not ctx.server.timescale then
            return { status = "SKIP", text = "TimescaleDB is not in this database" }
        end
        local row = ctx.conn:one(ROWS, table.concat(names, "\n"))
        local there, causes, failed = by_table(row), {}, failed_jobs(row)
        for i, fact in ipairs(facts) do
            for _, line in ipairs(compare(fact, there[row.wanted[i]])) do causes[#causes + 1] = line end
        end
        local text = ("%d hypertables, %d jobs"):format(#row.hypertables, #row.jobs)
        local remedy = {}
        if #failed > 0 then
            remedy[1] = "select * from timescaledb_information.job_errors order by start_time desc"
        end
        if #causes > 0 then
            remedy[#remedy + 1] = "set_chunk_time_interval(), alter table ... set (timescaledb.compress) in a migration"
        end
        local all = table.move(failed, 1, #failed, #causes + 1, causes)
        if #all == 0 then return text end
        return { status = #failed == #all and "WARN" or "INCOMPLETE", text = text, cause = table.concat(all, "\n"),
            remedy = remedy }
    end,
}

return M
