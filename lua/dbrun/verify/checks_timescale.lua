--- Hypertables: the length of their chunks, compression, retention, and the jobs that do these. Skipped without
--- TimescaleDB.
local catalog <const> = require "dbrun.db.catalog"
local cli <const> = require "dbrun.command_line"
local errors <const> = require "dbrun.error"
local intervals <const> = require "dbrun.verify.intervals"
local limits <const> = require "dbrun.verify.limits"
local relations <const> = require "dbrun.verify.relations"

local M = {}

---Rows as JSON, because older releases lack some of the columns: the object then lacks the key. Before 2.23 a job that
---has never run is not in job_stats.
local ROWS <const> = catalog.sql(([[
select coalesce((select {jsonb_agg}({to_jsonb}(h) {||} {jsonb_build_object}('at', %s::{int8}))
            from timescaledb_information.hypertables h), '[]') as hypertables,
       coalesce((select {jsonb_agg}({to_jsonb}(d)) from timescaledb_information.dimensions d
                  where dimension_number {=} 1), '[]') as dimensions,
       coalesce((select {jsonb_agg}(j.job {||} {jsonb_build_object}('late', case when {isfinite}(j.start)
                        then extract(epoch from {clock_timestamp}() {-} j.start)::{float8} end))
                   from (select {to_jsonb}(j) {||} coalesce({to_jsonb}(s), '{}'),
                                ({to_jsonb}(s) {->>} 'next_start')::{timestamptz}
                           from timescaledb_information.jobs j
                           left join timescaledb_information.job_stats s on s.job_id {=} j.job_id) j (job, start)),
                '[]') as jobs,
       array(select %s::{int8} from {unnest}({string_to_array}($1, E'\n')) n) as wanted]]):format(
    relations.at("h.hypertable_schema", "h.hypertable_name"), relations.named "n"))

---The last errors of jobs; a role sees those of its own jobs, the owner of the database those of all.
local ERRORS <const> = catalog.sql [[
select distinct on (job_id) job_id, err_message as message, sqlerrcode as state
  from timescaledb_information.job_errors where job_id {=} any ($1::{int4}[]) order by job_id, start_time desc]]

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
        local dimension = dimension_of(row, hypertable)
        hypertable.interval = intervals.text(dimension.time_interval) or intervals.text(dimension.integer_interval)
        if type(hypertable.at) == "number" then found[hypertable.at] = hypertable end
    end
    return found
end

-- ---- jobs ----

local function name_of(job)
    local table_name = intervals.text(job.hypertable_name)
    return ("job %s (%s%s)"):format(tostring(job.job_id), tostring(job.proc_name),
        table_name and " of " .. table_name or "")
end

---A failure of the telemetry job is not a problem of the database.
local function failed(job) return job.last_run_status == "Failed" and job.proc_name ~= "policy_telemetry" end

---@return table<integer, string>? nil where the server does not tell any
local function error_texts(conn, jobs)
    local ids, texts = {}, {}
    for _, job in ipairs(jobs) do
        if failed(job) then ids[#ids + 1] = job.job_id end
    end
    if #ids == 0 then return texts end
    local ok, rows = pcall(conn.query, conn, ERRORS, require("dbrun.db").array(ids, "int4"))
    if not ok then
        if not errors.is(rows) or not (rows.sqlstate == "42P01" or rows.sqlstate == "42501") then error(rows, 0) end
        return texts
    end
    for _, row in ipairs(rows) do
        texts[row.job_id] = (row.message or "no text") .. (row.state and (" (SQLSTATE %s)"):format(row.state) or "")
    end
    return texts
end

local function why(job, texts)
    if texts[job.job_id] then return texts[job.job_id] end
    local owner = intervals.text(job.owner)
    return owner and ("only %s and the owner of the database may see why"):format(owner) or "the reason is unknown"
end

---What is wrong with the jobs: lines, remedies, and the worst status.
local function judge_jobs(ctx, jobs)
    local texts, lines, remedy, worst = error_texts(ctx.conn, jobs), {}, {}, "PASS"
    local function add(line, todo, status)
        lines[#lines + 1] = line
        if not remedy[todo] then remedy[#remedy + 1], remedy[todo] = todo, true end
        if worst ~= "FAIL" then worst = status or "WARN" end
    end
    for _, job in ipairs(jobs) do
        local late = type(job.late) == "number" and job.job_status == "Scheduled" and job.late or 0
        local status = limits.judge(ctx, "timescale.overdue", late)
        if failed(job) then
            add(("%s failed the last time, %s of %s runs: %s"):format(name_of(job), tostring(job.total_failures),
                tostring(job.total_runs), why(job, texts)),
                "select * from timescaledb_information.job_errors order by start_time desc")
        end
        if job.scheduled == false and job.job_id >= 1000 then
            add(name_of(job) .. " is paused", ("select alter_job(%d, scheduled => true);"):format(job.job_id))
        elseif status ~= "PASS" then
            add(("%s is overdue: it was to start %s ago"):format(name_of(job), cli.duration(late)),
                "does the scheduler run, are there workers left? timescaledb.max_background_workers, "
                .. "max_worker_processes; dbrun verify --only postgres.timescale", status)
        end
    end
    return lines, remedy, worst
end

-- ---- expectations ----

---The policies of a hypertable, and the configuration key of their interval.
local POLICIES <const> = {
    policy_compression = { "compress_after", "compress_created_before" },
    policy_retention = { "drop_after", "drop_created_before" },
}

---@return any after nil without such a policy; true when its time cannot be read
local function policy(row, hypertable, name)
    for _, job in ipairs(row.jobs) do
        if job.proc_name == name and job.hypertable_name == hypertable.hypertable_name
            and (job.hypertable_schema == nil or job.hypertable_schema == hypertable.hypertable_schema) then
            local config = type(job.config) == "table" and job.config or {}
            for _, key in ipairs(POLICIES[name]) do
                if intervals.text(config[key]) then return config[key] end
            end
            return true
        end
    end
end

local function compare_policy(ctx, what, wanted, after)
    if wanted == false then return after and ("there is a %s policy"):format(what) end
    if not after then return ("no %s policy"):format(what) end
    if wanted ~= true and not intervals.same(ctx.conn, after, wanted) then
        return ("%s after %s, expected %s"):format(what, intervals.text(after) or "an unknown time", tostring(wanted))
    end
end

---How a hypertable differs from the expectation.
local function compare(ctx, row, fact, hypertable)
    if not hypertable then return { fact.table .. " is not a hypertable" } end
    local lines, compression = {}, fact.compression
    local function add(text)
        if text then lines[#lines + 1] = ("%s: %s"):format(fact.table, text) end
    end
    if fact.chunk_interval and not intervals.same(ctx.conn, hypertable.interval, fact.chunk_interval) then
        add(("chunks of %s, expected %s"):format(tostring(hypertable.interval), tostring(fact.chunk_interval)))
    end
    if compression ~= nil then
        if (hypertable.compression_enabled == true) ~= (compression ~= false) then
            add("compression is " .. (compression and "off" or "on"))
        elseif type(compression) ~= "boolean" then
            add(compare_policy(ctx, "compression", compression, policy(row, hypertable, "policy_compression")))
        end
    end
    if fact.retention ~= nil then
        add(compare_policy(ctx, "retention", fact.retention, policy(row, hypertable, "policy_retention")))
    end
    return lines
end

---The facts about hypertables, and the names of those that native partitions cannot meet.
local function facts_of(ctx)
    local facts, names, only_here = {}, {}, {}
    for _, fact in ipairs(ctx.expect.tables) do
        if fact.chunk_interval or fact.compression ~= nil or fact.retention ~= nil then
            facts[#facts + 1], names[#names + 1] = fact, fact.table
            if not fact.time_partitioned then only_here[#only_here + 1] = fact.table end
        end
    end
    return facts, names, only_here
end

---The result without TimescaleDB.
---@param names string[] what needs it
---@return dbrun.verify.Found
function M.absent(names)
    if #names == 0 then return { status = "SKIP", text = "TimescaleDB is not in this database" } end
    return { status = "INCOMPLETE", text = "TimescaleDB is not in this database",
        cause = "expected of it: " .. table.concat(names, ", "),
        remedy = { "shared_preload_libraries = 'timescaledb' in postgresql.conf; then: create extension timescaledb;" },
    }
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.hypertables(ctx)
    local facts, names, only_here = facts_of(ctx)
    if not ctx.server.timescale then return M.absent(only_here) end
    local row = ctx.conn:one(ROWS, table.concat(names, "\n"))
    local there, causes = by_table(row), {}
    for i, fact in ipairs(facts) do
        local lines = compare(ctx, row, fact, there[row.wanted[i]])
        table.move(lines, 1, #lines, #causes + 1, causes)
    end
    local text = ("%d hypertables, %d jobs"):format(#row.hypertables, #row.jobs)
    local jobs, remedy, worst = judge_jobs(ctx, row.jobs)
    local differs = #causes > 0
    if differs then
        remedy[#remedy + 1] = "set_chunk_time_interval(), alter table ... set (timescaledb.compress), "
            .. "add_compression_policy(), add_retention_policy() in a migration"
    end
    table.move(jobs, 1, #jobs, #causes + 1, causes)
    if #causes == 0 then return text end
    return { status = worst == "FAIL" and worst or differs and "INCOMPLETE" or worst, text = text,
        cause = table.concat(causes, "\n"), remedy = table.move(remedy, 1, #remedy, 1, {}) }
end

return M
