--- TimescaleDB itself: version, licence, the scheduler of its jobs; and continuous aggregates that are expected.
local catalog <const> = require "dbrun.db.catalog"
local cli <const> = require "dbrun.command_line"
local errors <const> = require "dbrun.error"
local intervals <const> = require "dbrun.verify.intervals"
local relations <const> = require "dbrun.verify.relations"
local server_check <const> = require "dbrun.verify.server_check"
local timescale <const> = require "dbrun.verify.checks_timescale"

local M = {}

-- ---- the extension ----

---`schedulers`: the processes for this database that this role can see; `hidden`: those that it cannot see. Uses only
---names that every release since 2.0 has.
local STATE <const> = catalog.sql [[
select (select default_version from {pg_available_extensions}() where name {=} 'timescaledb') as installed,
       {current_setting}('timescaledb.license', true) as license,
       {current_setting}('timescaledb.restoring', true) as restoring,
       {current_setting}('timescaledb.max_background_workers', true) as workers,
       array(select backend_type from {pg_stat_get_activity}(null) where backend_type {~~} 'TimescaleDB%Launcher'
                 or backend_type {~~} 'TimescaleDB%Scheduler' and datid {=}
                    (select oid from {pg_database} where datname {=} {current_database}())) as running,
       (select {count}(*)::int from {pg_stat_get_activity}(null)
         where backend_type is null and usesysid is not null) as hidden,
       (select {count}(*)::int from timescaledb_information.jobs where job_id {>=} 1000 and scheduled) as jobs]]

---Policies need the TimescaleDB licence; under the Apache licence they raise an error.
local function licensed(ctx, row)
    if row.license ~= "apache" then return true end
    local needed = #ctx.expect.aggregates > 0 or row.jobs > 0
    for _, fact in ipairs(ctx.expect.tables) do needed = needed or fact.compression or fact.retention end
    return not needed
end

local function scheduler_of(row)
    local launcher, scheduler = false, false
    for _, kind in ipairs(row.running) do
        launcher, scheduler = launcher or kind:find "Launcher$" ~= nil, scheduler or kind:find "Scheduler$" ~= nil
    end
    return launcher, scheduler
end

---Why no job starts: the cause and the remedy; nil when jobs start, or the reason is unknown.
local function stopped(row)
    local launcher, scheduler = scheduler_of(row)
    if row.restoring == "on" then
        return "timescaledb.restoring is on: the database is being restored, and no job starts",
            "select timescaledb_post_restore();"
    end
    if row.workers == "0" then
        return "timescaledb.max_background_workers is 0: no job starts",
            "alter system set timescaledb.max_background_workers = 16;   (then restart the server)"
    end
    if scheduler or row.hidden > 0 then return nil end
    if launcher then
        return "the scheduler does not run in this database: no job starts",
            "select _timescaledb_functions.start_background_workers();   (are there free max_worker_processes?)"
    end
    return "the launcher of background workers does not run: no job starts",
        "is timescaledb in shared_preload_libraries? raise max_worker_processes, and restart the server"
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.state(ctx)
    local server = ctx.server
    local version = server.extensions.timescaledb
    local row = ctx.conn:one(STATE)
    local text = ("TimescaleDB %s, licence %s, %s"):format(version, row.license or "unknown",
        cli.plural(row.jobs, "job"))
    local causes, remedy, status = {}, {}, "WARN"
    local function add(cause, todo) causes[#causes + 1], remedy[#remedy + 1] = cause, todo end
    if row.installed and row.installed ~= version then
        add(("the server has TimescaleDB %s, this database still %s"):format(row.installed, version),
            "alter extension timescaledb update;   (the first statement of a new session)")
    end
    if not licensed(ctx, row) then
        add("under the Apache licence compression, retention and continuous aggregates do not work",
            "timescaledb.license = 'timescale' in postgresql.conf")
    end
    local idle, todo = stopped(row)
    if server.standby then
        idle = nil -- its primary runs the jobs
    elseif idle and row.jobs > 0 then
        status = "FAIL"
    end
    if idle then add(idle, todo) end
    local _, seen = scheduler_of(row)
    if not idle and not seen and not server.standby and row.jobs > 0 then
        local blind = assert(server_check.blind(server, row.hidden))
        add("cannot see the scheduler: processes are hidden from " .. server.role, blind.remedy[1])
    end
    if #causes == 0 then return text end
    return { status = status, text = text, cause = table.concat(causes, "\n"), remedy = remedy }
end

-- ---- continuous aggregates ----

local AGGREGATES <const> = catalog.sql(([[
select f.name, v.there, v.mat, v.refresh
  from rows from ({unnest}($1::{text}[])) with ordinality f (name, n)
  left join lateral (
       select true, a.materialization_hypertable_name::{text},
              (select coalesce({to_jsonb}(s), '{}') {||} {jsonb_build_object}('job_id', j.job_id,
                           'owner', j.owner::{text}, 'scheduled', j.scheduled,
                           'since', case when {isfinite}(s.last_successful_finish) then
                           extract(epoch from {clock_timestamp}() {-} s.last_successful_finish)::{float8} end)
                 from timescaledb_information.jobs j
                 left join timescaledb_information.job_stats s on s.job_id {=} j.job_id
                where j.proc_name {=} 'policy_refresh_continuous_aggregate'
                  and (j.hypertable_name {=} a.materialization_hypertable_name
                       or j.hypertable_name {=} a.view_name and j.hypertable_schema {=} a.view_schema)
                order by s.last_successful_finish desc nulls last limit 1)
         from timescaledb_information.continuous_aggregates a where %s {=} %s offset 0) v (there, mat, refresh) on true
 order by f.n]]):format(relations.at("a.view_schema", "a.view_name"), relations.named "f.name"))

---How far an aggregate is materialized, in seconds before now. Refreshing by hand leaves no other trace.
local WATERMARK <const> = catalog.sql [[
select extract(epoch from {clock_timestamp}() {-} _timescaledb_functions.to_timestamp(
           _timescaledb_functions.cagg_watermark(h.id)))::{float8}
  from _timescaledb_catalog.hypertable h
  join _timescaledb_catalog.dimension d on d.hypertable_id {=} h.id
 where h.table_name {=} $1 and h.schema_name {=} '_timescaledb_internal'
   and d.column_type {=} any (array['timestamp', 'timestamptz', 'date']::{regtype}[]) limit 1]]

---Errors of a server that has other functions, or does not let this role call them.
local UNKNOWN <const> = { ["42883"] = true, ["42501"] = true, ["42P01"] = true, ["3F000"] = true, ["42703"] = true,
    ["22008"] = true }

---@return number? seconds
---@return dbrun.Error? why it is not known
local function behind(ctx, row)
    local ok, seconds = pcall(ctx.conn.value, ctx.conn, WATERMARK, row.mat)
    if ok then return seconds end
    if not errors.is(seconds) or not UNKNOWN[seconds.sqlstate] then error(seconds, 0) end
    return nil, seconds
end

local POLICY <const> = "select add_continuous_aggregate_policy('%s', start_offset => ..., end_offset => ..., "
    .. "schedule_interval => ...);"

local NEVER <const> = 2000 * 365 * 86400 -- the mark of an aggregate without rows lies before all calendars

---Judges an aggregate that no job refreshes.
local function judge_by_hand(ctx, name, limit, row)
    local age, unknown = behind(ctx, row)
    if age and age <= limit then
        return ("%s: materialized up to %s ago"):format(name, cli.duration(math.max(age, 0)))
    end
    if unknown and unknown.sqlstate == "42501" then
        return name .. ": no policy", ("%s has no refresh policy, and %s cannot see how far it is materialized: %s")
            :format(name, ctx.server.role, unknown.message),
            ("grant select on %s to %s;"):format(name, server_check.ident(ctx.server.role))
    end
    local how = "up to " .. (age and cli.duration(age) .. " ago"
        or ("an unknown time (%s)"):format(unknown and unknown.message or "its time is a number"))
    if age and age > NEVER then how = "not at all" end
    return name .. ": no policy", ("%s has no refresh policy, and is materialized %s"):format(name, how),
        POLICY:format((name:gsub("'", "''")))
end

---@return string text
---@return string? cause
---@return string? todo
local function judge(ctx, fact, row)
    local name, wanted = fact.aggregate, fact.refreshed_within
    if not row.there then
        return name .. ": not there", name .. " is not a continuous aggregate", "create it in a migration"
    end
    if not wanted then return name .. " is there" end
    local limit = intervals.seconds(ctx.conn, wanted)
    if not limit then
        return name, ("refreshed_within of %s is '%s', no interval such as '2 hours'"):format(name, wanted),
            "correct " .. ctx.expect.file
    end
    local job = row.refresh
    if not job then return judge_by_hand(ctx, name, limit, row) end
    local since = type(job.since) == "number" and job.since or nil
    local text = ("%s: %s"):format(name, since and ("refreshed %s ago"):format(cli.duration(since))
        or "never refreshed by its job")
    if since and since <= limit then return text end
    local how = job.scheduled == false and " (its job is paused)"
        or job.last_run_status == "Failed" and " (its job failed the last time)" or ""
    return text, ("%s should be refreshed within %s, and was %s%s"):format(name, cli.duration(limit),
        since and ("%s ago"):format(cli.duration(since)) or "not, so far", how),
        job.scheduled == false and ("select alter_job(%d, scheduled => true);"):format(job.job_id)
        or ("call run_job(%d);   (shows why it fails, or refreshes)"):format(job.job_id)
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.aggregates(ctx)
    local facts, names = ctx.expect.aggregates, {}
    for i, fact in ipairs(facts) do names[i] = fact.aggregate end
    if not ctx.server.timescale then return timescale.absent(names) end
    local texts, causes, remedy, known = {}, {}, {}, {}
    for i, row in ipairs(ctx.conn:query(AGGREGATES, require("dbrun.db").array(names, "text"))) do
        local text, cause, todo = judge(ctx, facts[i], row)
        texts[i], causes[#causes + 1] = text, cause
        if todo and not known[todo] then remedy[#remedy + 1], known[todo] = todo, true end
    end
    if #causes == 0 then return table.concat(texts, "; ") end
    return { status = "INCOMPLETE", text = table.concat(texts, "; "), cause = table.concat(causes, "\n"),
        remedy = remedy }
end

return M
