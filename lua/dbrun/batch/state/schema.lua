--- The two tables that hold the state of all batch jobs of a database: where they are, and the SQL that makes them.
--- No column that a chunk changes is in an index, and half of each page is free, so that a chunk's new row version
--- needs no new index entry.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local ident = require("dbrun.db.params").ident

local M = {}

---@class dbrun.batch.Place
---@field schema string quoted
---@field jobs string quoted name of dbrun_batch_jobs, with its schema
---@field ranges string quoted name of dbrun_batch_ranges, with its schema
---@field exists boolean whether the tables exist

local LOCATE <const> = catalog.sql [[
select coalesce(n.nspname::{text}, {current_schema}()::{text}) as schema, n.nspname is not null as has
  from (select {to_regclass}($1) as oid) s left join {pg_class} c on c.oid {=} s.oid
  left join {pg_namespace} n on n.oid {=} c.relnamespace]]

---Where the tables are, or will be.
---@param conn table
---@return dbrun.batch.Place
---Raises an error of kind `config` when no schema can hold them.
function M.place(conn)
    local schema <const> = require("dbrun.config").DBRUN_BATCH_SCHEMA
    local name <const> = schema and ident { schema, "dbrun_batch_jobs" } or "dbrun_batch_jobs"
    local found <const> = conn:one(LOCATE, name)
    local where <const> = schema or found.schema
    if not where then
        errors.fail("config", "no schema for the tables of batch jobs: the search_path names none that exists",
            "name one with DBRUN_BATCH_SCHEMA")
    end
    return {
        schema = ident { where }, jobs = ident { where, "dbrun_batch_jobs" },
        ranges = ident { where, "dbrun_batch_ranges" }, exists = found.has,
    }
end

local OTHERS <const> = catalog.sql [[
select n.nspname::{text} as schema from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
 where c.relname {=} 'dbrun_batch_jobs' and c.relkind {=} 'r' and c.relpersistence {<>} 't'
   and c.oid is distinct from {to_regclass}($1)::{oid} and {has_schema_privilege}(n.oid, 'usage')
   and {has_table_privilege}(c.oid, 'select')]]
local SAME_JOB <const> = catalog.sql [[
select state from %s where name {=} $1 and (identity {->>} 'oid') {=} $2::{oid}::{text}]]

---The other schemas that have such tables, as those of a role with another search_path.
---@param conn table
---@param place dbrun.batch.Place
---@return string[]
function M.others(conn, place)
    local list <const> = {}
    for i, row in ipairs(conn:query(OTHERS, place.jobs)) do list[i] = row.schema end
    return list
end

---A job of this name on this table whose state is in another schema, as of a role with another search_path.
---@param conn table
---@param place dbrun.batch.Place
---@param name string
---@param oid integer of the table
---@return string? schema
---@return string? state
function M.elsewhere(conn, place, name, oid)
    for _, schema in ipairs(M.others(conn, place)) do
        local state <const> = conn:value(SAME_JOB:format(ident { schema, "dbrun_batch_jobs" }), name, oid)
        if state then return schema, state end
    end
end

---The table of keys of a job whose source is a list or a query.
---@param place dbrun.batch.Place
---@param name string of the job
---@return string relation quoted
function M.keys(place, name)
    return place.schema .. "." .. ident { "dbrun_batch_keys_" .. core.digest("sha256", name):sub(1, 16) }
end

local TABLES <const> = [[
create table %s (
    name text primary key,
    kind text not null,
    source text not null,
    definition jsonb not null,
    hash text not null,
    identity jsonb not null,
    state text not null default 'running'
        check (state in ('running', 'paused', 'stopped', 'cancelled', 'done')),
    reason text,
    pass integer not null default 1,
    started timestamp with time zone not null,
    pass_started timestamp with time zone not null,
    ended timestamp with time zone,
    last text[],
    barrier jsonb,
    keeps boolean,
    set_values jsonb not null default '{}',
    file_values jsonb not null default '{}',
    estimate bigint,
    found bigint,
    events jsonb not null default '[]'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create table %s (
    id bigint generated always as identity primary key,
    job text not null,
    pass integer not null,
    first text[],
    position text[],
    next text[],
    last text[] not null,
    state text not null default 'open' check (state in ('open', 'done', 'failed')),
    owner text,
    pid integer,
    backend_start timestamp with time zone,
    claimed timestamp with time zone,
    moved timestamp with time zone not null default clock_timestamp(),
    again timestamp with time zone,
    chunks bigint not null default 0,
    rows bigint not null default 0,
    looked bigint not null default 0,
    retried bigint not null default 0,
    taken integer not null default 0,
    worked double precision not null default 0,
    waited jsonb not null default '{}',
    durations real[] not null default '{}',
    sizes integer[] not null default '{}',
    size integer,
    waiting text,
    error jsonb,
    note jsonb
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create index on %s (job);
]]

---The SQL that makes the tables, to run once per database as a role that may.
---@param place dbrun.batch.Place
---@return string
function M.sql(place)
    return TABLES:format(place.jobs, place.ranges, place.ranges)
end

local EXISTS_ALREADY <const> = { ["42P07"] = true, ["23505"] = true } -- made by another machine at the same moment

---Makes the tables if they are missing.
---@param conn table a leased connection, in no transaction
---@return dbrun.batch.Place
---Raises an error of kind `query` when the role may not; its hint says what to do.
function M.ensure(conn)
    local place <const> = M.place(conn)
    if place.exists then return place end
    local ok, e = pcall(conn.transaction, conn, function(tx) tx:exec(M.sql(place)) end)
    if not ok then
        if not errors.is(e) or not EXISTS_ALREADY[e.sqlstate] then
            if errors.is(e) and e.sqlstate == "42501" then
                e.hint = "a role that may create tables runs once: dbrun batch init (--print shows the SQL)"
            end
            error(e, 0)
        end
    end
    place.exists = true
    return place
end

return M
