--- The calls that recreate hypertables, continuous aggregates, policies and jobs from the catalogs of TimescaleDB.
--- Objects that no call can recreate are refused by name.
local json = require "dbrun.json"

local M = {}

local function literal(text)
    text = tostring(text)
    return (text:find("\\", 1, true) and "E'" or "'") .. text:gsub("\\", "\\\\"):gsub("'", "''") .. "'"
end

local function ident(name)
    return '"' .. name:gsub('"', '""') .. '"'
end

local UNITS <const> = { { "days", 86400000000 }, { "hours", 3600000000 }, { "minutes", 60000000 },
    { "seconds", 1000000 } }

---An interval that the catalog has in microseconds.
local function interval(microseconds)
    for _, unit in ipairs(UNITS) do
        if microseconds % unit[2] == 0 then return ("%d %s"):format(microseconds // unit[2], unit[1]) end
    end
    return ("%d microseconds"):format(microseconds)
end

---The width of a dimension's ranges, as a value of SQL.
local function width(dimension, length)
    return dimension.is_time and "INTERVAL " .. literal(interval(length)) or "BIGINT " .. literal(length)
end

---A list of arguments: in order, each "value" or "name => value"; nil is left out.
local function call(schema, name, ...)
    local list = {}
    for _, value in pairs(table.pack(...)) do
        if type(value) == "string" then list[#list + 1] = value end
    end
    return ("%s.%s(%s)"):format(schema, name, table.concat(list, ", "))
end

local function named(name, value)
    return value ~= nil and ("%s => %s"):format(name, value) or false
end

-- ---- hypertables ----

local OWN_SCHEMAS <const> = { _timescaledb_functions = true, _timescaledb_internal = true }

---by_range(...) or by_hash(...)
local function dimension_call(schema, dimension)
    local own = dimension.partitioning_func and not OWN_SCHEMAS[dimension.partitioning_func_schema]
    local fn = own and literal(("%s.%s"):format(ident(dimension.partitioning_func_schema),
        ident(dimension.partitioning_func))) .. "::regproc" or nil
    if dimension.interval_length then
        return call(schema, "by_range", literal(dimension.column_name), width(dimension, dimension.interval_length),
            named("partition_func", fn))
    end
    return call(schema, "by_hash", literal(dimension.column_name), tostring(dimension.num_slices),
        named("partition_func", fn))
end

local function refuse_hypertable(facts, h)
    local function refuse(what, ...) facts.refused[#facts.refused + 1] = what:format(...) end
    local row = h.row
    if row.replication_factor and row.replication_factor ~= 0 then
        refuse("%s, a distributed hypertable", h.relation)
    end
    if row.associated_schema_name ~= "_timescaledb_internal" or row.associated_table_prefix ~= "_hyper_" .. row.id then
        refuse("%s, a hypertable with a schema or prefix of its own for its chunks", h.relation)
    end
    for _, d in ipairs(h.dimensions) do
        if d.interval_length and d.partitioning_func then
            refuse("%s, a hypertable by time with the partitioning function %s", h.relation, d.partitioning_func)
        end
    end
    if row.compression_state == 1 and not h.compression then
        refuse("%s, a compressed hypertable of a TimescaleDB before 2.14", h.relation)
    end
    for _, skip in ipairs(facts.skipping) do
        if skip.hypertable_id == h.id then
            refuse("chunk skipping of %s by the column %s", h.relation, skip.column_name)
        end
    end
end

---The calls that convert tables to hypertables: after the tables, before their indexes and foreign keys.
---@param facts dbrun.migrate.TimescaleFacts gets what is refused
---@return string[] statements
function M.hypertables(facts)
    local out, schema = {}, facts.schema
    local function add(...) out[#out + 1] = "SELECT " .. call(schema, ...) .. ";" end
    for _, h in ipairs(facts.hypertables) do
        refuse_hypertable(facts, h)
        local name = literal(h.relation)
        for i, dimension in ipairs(h.dimensions) do
            if i == 1 then
                add("create_hypertable", name, dimension_call(schema, dimension), "create_default_indexes => false")
            else
                add("add_dimension", name, dimension_call(schema, dimension))
            end
            if dimension.integer_now_func then
                add("set_integer_now_func", name, literal(("%s.%s"):format(ident(dimension.integer_now_func_schema),
                    ident(dimension.integer_now_func))))
            end
        end
        for _, space in ipairs(h.tablespaces) do
            add("attach_tablespace", literal(space), name, "if_not_attached => true")
        end
    end
    return out
end

-- ---- compression ----

local function order_by(settings)
    local list = {}
    for i, column in ipairs(settings.orderby) do
        list[i] = ("%s %s NULLS %s"):format(ident(column), settings.orderby_desc[i] and "DESC" or "ASC",
            settings.orderby_nullsfirst[i] and "FIRST" or "LAST")
    end
    return table.concat(list, ", ")
end

local function columns(list)
    local out = {}
    for i, column in ipairs(list) do out[i] = ident(column) end
    return table.concat(out, ", ")
end

---The sparse indexes that a user chose; others follow from the columns.
local function sparse_indexes(index)
    local list, chosen = {}, false
    for _, entry in ipairs(index or {}) do
        if entry.source == "config" then
            chosen = true
            if entry.type then
                list[#list + 1] = ("%s(%s)"):format(entry.type, columns(type(entry.column) == "table" and entry.column
                    or { entry.column }))
            end
        end
    end
    return chosen and table.concat(list, ", ") or nil
end

---The statement that switches compression on, as far as it is on.
local function compression(kind, relation, h)
    if h.row.compression_state ~= 1 then return nil end
    local settings, list = h.compression or {}, { "timescaledb.compress = true" }
    local function option(name, value)
        if value then list[#list + 1] = ("timescaledb.%s = %s"):format(name, literal(value)) end
    end
    option("compress_segmentby", settings.segmentby and columns(settings.segmentby))
    option("compress_orderby", settings.orderby and order_by(settings))
    option("compress_index", sparse_indexes(settings.index))
    local first = h.dimensions[1]
    local length = first.compress_interval_length
    option("compress_chunk_time_interval", length and (first.is_time and interval(length) or tostring(length)))
    return ("ALTER %s %s SET (%s);"):format(kind, relation, table.concat(list, ", "))
end

-- ---- continuous aggregates ----

---Whether the index has a generated name.
local function is_automatic(index, id)
    return index.plain:find(("_materialized_hypertable_%d_"):format(id), 1, true) == 1
end

---The default indexes of a materialization: on the bucket, and with a column of GROUP BY before it.
local function is_default(index, a)
    local bucket = (a.hypertable.dimensions[1].column_name:gsub("%W", "%%%0"))
    local list = index.sql:match "USING btree %((.*)%)$"
    if not list or not is_automatic(index, a.id) then return nil end
    local quoted <const> = '^"?' .. bucket .. '"? DESC$'
    if list:find(quoted) then return "bucket" end
    local group, last = list:match "^(.*), ([^,]*)$"
    return group and last:find(quoted) and index.columns == 2 and not group:find "[ (]" and "group" or nil
end

local function aggregate_indexes(a)
    local out, grouped = {}, false
    for _, index in ipairs(a.indexes) do
        local default = is_default(index, a)
        grouped = grouped or default == "group"
        if not default then
            local unique, rest = index.sql:match "^CREATE (U?N?I?Q?U?E? ?)INDEX .- USING (.*)$"
            local from = index.sql:find(" USING ", 1, true)
            local name = not is_automatic(index, a.id) and ident(index.plain) .. " " or ""
            out[#out + 1] = ("CREATE %sINDEX %sON %s USING %s;"):format(unique or "", name, a.relation,
                rest or index.sql:sub(from + 7))
        end
    end
    return out, grouped
end

local function aggregate(facts, out, a)
    local schema, h = facts.schema, a.hypertable
    if a.row.finalized == false then
        facts.refused[#facts.refused + 1] = a.relation .. ", a continuous aggregate of the old format"
    end
    if h.row.space ~= 0 then
        facts.refused[#facts.refused + 1] = a.relation .. ", a continuous aggregate in a tablespace of its own"
    end
    local indexes, grouped = aggregate_indexes(a)
    out[#out + 1] = ("CREATE MATERIALIZED VIEW %s\nWITH (timescaledb.continuous, timescaledb.materialized_only = %s, "
        .. "timescaledb.create_group_indexes = %s) AS\n%s\nWITH NO DATA;"):format(a.relation,
        a.row.materialized_only, grouped, (a.definition:gsub("%s*;%s*$", "")))
    local first = h.dimensions[1]
    out[#out + 1] = "SELECT " .. call(schema, "set_chunk_time_interval", literal(a.relation),
        width(first, first.interval_length)) .. ";"
    table.move(indexes, 1, #indexes, #out + 1, out)
    out[#out + 1] = compression("MATERIALIZED VIEW", a.relation, h)
    for _, comment in ipairs(a.comments) do
        out[#out + 1] = ("COMMENT ON %s IS %s;"):format(comment.place, comment.text)
    end
end

-- ---- policies and jobs ----

---The value of a key of a policy: an interval as text, or a whole number of the dimension's type.
local function offset(value, integer_type)
    if value == nil or value == json.null then return "NULL" end
    return (type(value) == "string" and "INTERVAL " or integer_type .. " ") .. literal(value)
end

local function scalar(value)
    if value == nil or value == json.null then return nil end
    return type(value) == "string" and literal(value) or tostring(value)
end

---By name of the procedure: the function that makes the policy, and its arguments by the keys of the configuration.
local POLICIES <const> = {
    policy_retention = { "add_retention_policy", drop_after = offset, drop_created_before = offset },
    policy_compression = { "add_compression_policy", compress_after = offset, compress_created_before = offset },
    policy_reorder = { "add_reorder_policy", index_name = scalar },
    policy_refresh_continuous_aggregate = {
        "add_continuous_aggregate_policy", start_offset = offset, end_offset = offset, include_tiered_data = scalar,
        buckets_per_batch = scalar, max_batches_per_execution = scalar, refresh_newest_first = scalar,
    },
}

local function is_own(job) return OWN_SCHEMAS[job.proc_schema] end

local function sorted_keys(config)
    local keys = {}
    for key in pairs(config) do
        if key ~= "hypertable_id" and key ~= "mat_hypertable_id" then keys[#keys + 1] = key end
    end
    table.sort(keys)
    return keys
end

---When a job with a fixed schedule begins.
local function schedule(job)
    local fixed = job.fixed_schedule ~= false and job.initial_start
    return named("initial_start", fixed and literal(job.initial_start) or nil),
        named("timezone", fixed and scalar(job.timezone) or nil)
end

---The call, wrapped in one that sets the properties of the job for which the call has no argument. The outer call
---resets the time zone if it is not given again.
local function altered(schema, job, inner)
    return "SELECT " .. call(schema, "alter_job", inner,
        "schedule_interval => INTERVAL " .. literal(job.schedule_interval),
        "max_runtime => INTERVAL " .. literal(job.max_runtime), "max_retries => " .. job.max_retries,
        "retry_period => INTERVAL " .. literal(job.retry_period), "scheduled => " .. tostring(job.scheduled),
        select(2, schedule(job))) .. ";"
end

---The keys of a policy's configuration that are not arguments.
local function more_config(facts, out, job, relation, more)
    if not next(more) then return end
    local config = literal(json.encode(more, { sort_keys = true }))
    out[#out + 1] = ("SELECT %s FROM timescaledb_information.jobs WHERE proc_name = %s "
        .. "AND format('%%I.%%I', hypertable_schema, hypertable_name) = %s;"):format(call(facts.schema, "alter_job",
        "job_id", ("config => config || %s::jsonb"):format(config), select(2, schedule(job))), literal(job.proc_name),
        literal(relation))
end

local DEFAULT_NAMES <const> = {
    ["Retention Policy"] = true, ["Compression Policy"] = true, ["Columnstore Policy"] = true,
    ["Reorder Policy"] = true, ["Refresh Continuous Aggregate Policy"] = true,
}

local function policy(facts, out, job, of)
    local known, h = POLICIES[job.proc_name], of[job.hypertable_id]
    local plain_name = job.application_name:gsub(" %[%d+%]$", "")
    if not known or not h or not DEFAULT_NAMES[plain_name] then
        facts.refused[#facts.refused + 1] = ("the job %s"):format(job.application_name)
        return
    end
    local relation, integer_type = h.materializes or h.relation, h.dimensions[1].column_type
    local arguments, more = { literal(relation) }, {}
    if job.proc_name == "policy_refresh_continuous_aggregate" then
        job.config.start_offset = job.config.start_offset or json.null
        job.config.end_offset = job.config.end_offset or json.null
        arguments[2] = "schedule_interval => INTERVAL " .. literal(job.schedule_interval)
    end
    for _, key in ipairs(sorted_keys(job.config)) do
        local value = job.config[key]
        if known[key] then arguments[#arguments + 1] = named(key, known[key](value, integer_type)) or nil
        else more[key] = value end
    end
    arguments[#arguments + 1] = schedule(job) or nil
    arguments[#arguments + 1] = select(2, schedule(job)) or nil
    out[#out + 1] = altered(facts.schema, job, call(facts.schema, known[1], table.unpack(arguments)))
    more_config(facts, out, job, relation, more)
end

---A job of the user's own.
local function own_job(facts, out, job)
    if job.hypertable_id then
        facts.refused[#facts.refused + 1] = ("the job %s, which belongs to a hypertable"):format(job.application_name)
    end
    local name = job.application_name:gsub(" %[%d+%]$", "")
    local start, zone = schedule(job)
    out[#out + 1] = altered(facts.schema, job, call(facts.schema, "add_job", literal(job.proc),
        "INTERVAL " .. literal(job.schedule_interval),
        named("config", job.config and literal(json.encode(job.config, { sort_keys = true })) .. "::jsonb" or nil),
        start, named("check_config", job.check_name and literal(job.check_proc) or nil),
        "fixed_schedule => " .. tostring(job.fixed_schedule ~= false), zone,
        named("job_name", name ~= "User-Defined Action" and literal(name) or nil)))
end

---The calls at the end: compression, continuous aggregates, policies, jobs.
---@param facts dbrun.migrate.TimescaleFacts gets what is refused
---@return string[] statements
function M.rest(facts)
    local out, of = {}, {}
    for _, h in ipairs(facts.hypertables) do
        of[h.id] = h
        out[#out + 1] = compression("TABLE", h.relation, h)
    end
    for _, a in ipairs(facts.aggregates) do
        of[a.id] = a.hypertable
        aggregate(facts, out, a)
    end
    for _, job in ipairs(facts.jobs) do
        if is_own(job) then policy(facts, out, job, of) else own_job(facts, out, job) end
    end
    return out
end

return M
