--- TimescaleDB's catalogs of a database, for the dump of its schema. Rows are JSON, so that a column that a release
--- does not have is nil. The caller has emptied search_path: every name in the answers has its schema.
local json = require "dbrun.json"

local M = {}

---@class dbrun.migrate.Hypertable
---@field id integer
---@field relation string its quoted name
---@field dimensions table[] rows of the catalog, the first one is the primary dimension
---@field tablespaces string[]
---@field compression? table row of the catalog
---@field row table row of the catalog

---@class dbrun.migrate.Aggregate a continuous aggregate
---@field id integer of its materialization hypertable
---@field relation string the view's quoted name
---@field definition string
---@field row table
---@field indexes { name: string, plain: string, sql: string, columns: integer }[]
---@field comments { on: string, text: string }[]
---@field hypertable dbrun.migrate.Hypertable the materialization

---@class dbrun.migrate.TimescaleFacts
---@field schema string quoted name of the schema with its functions
---@field hypertables dbrun.migrate.Hypertable[] without materializations
---@field aggregates dbrun.migrate.Aggregate[]
---@field jobs table[] rows of the catalog
---@field views { schema: string, name: string }[] that use continuous aggregates
---@field statistics string[] statements, for those on materialized views among these
---@field refused string[] objects that a dump cannot express

local function rows(conn, sql, ...)
    local list = {}
    for i, row in ipairs(conn:query(sql, ...)) do list[i] = json.decode(row.j) end
    for _, row in ipairs(list) do
        for key, value in pairs(row) do
            if value == json.null then row[key] = nil end
        end
    end
    return list
end

local function exists(conn, name)
    return conn:value("select to_regclass($1) is not null", "_timescaledb_catalog." .. name)
end

local HYPERTABLES <const> = [[
select to_jsonb(x)::text as j from (
    select h.*, format('%I.%I', h.schema_name, h.table_name) as relation,
           format('%I.%I', h.schema_name, h.table_name)::regclass::oid::bigint as oid, c.reltablespace::bigint as space
      from _timescaledb_catalog.hypertable h
      join pg_namespace n on n.nspname = h.schema_name
      join pg_class c on c.relnamespace = n.oid and c.relname = h.table_name
     where h.compression_state <> 2) x order by id]]

local DIMENSIONS <const> = [[
select to_jsonb(x)::text as j from (
    select d.*, d.column_type::oid::bigint = any (array['timestamp', 'timestamptz', 'date', 'uuid']::regtype[]::oid[])
           as is_time from _timescaledb_catalog.dimension d) x order by id]]

local function by_hypertable(conn, hypertables)
    local of = {}
    for _, h in ipairs(hypertables) do of[h.id] = h end
    for _, row in ipairs(rows(conn, DIMENSIONS)) do
        local h = of[row.hypertable_id]
        if h then h.dimensions[#h.dimensions + 1] = row end
    end
    for _, row in ipairs(rows(conn, "select to_jsonb(t)::text as j from _timescaledb_catalog.tablespace t order by id"))
    do
        local h = of[row.hypertable_id]
        if h then h.tablespaces[#h.tablespaces + 1] = row.tablespace_name end
    end
    if not exists(conn, "compression_settings") then return of end
    for _, row in ipairs(rows(conn, [[select to_jsonb(s)::text as j from (
        select relid::oid::bigint as oid, x.* from _timescaledb_catalog.compression_settings x) s]])) do
        for _, h in ipairs(hypertables) do
            if h.row.oid == row.oid then h.compression = row end
        end
    end
    return of
end

local AGGREGATES <const> = [[
select to_jsonb(x)::text as j from (
    select a.*, format('%I.%I', a.user_view_schema, a.user_view_name) as relation,
           format('%I.%I', a.user_view_schema, a.user_view_name)::regclass::oid::bigint as oid,
           pg_get_viewdef(format('%I.%I', a.direct_view_schema, a.direct_view_name)::regclass) as definition
      from _timescaledb_catalog.continuous_agg a) x order by mat_hypertable_id]]

local INDEXES <const> = [[
select i.indexrelid::regclass::text as name, c.relname::text as plain, pg_get_indexdef(i.indexrelid) as sql,
       i.indnkeyatts::int as columns
  from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = $1::oid order by c.relname]]

local COMMENTS <const> = [[
select case when d.objsubid = 0 then 'VIEW ' || $2 else 'COLUMN ' || $2 || '.' || quote_ident(a.attname) end as place,
       quote_literal(d.description) as text
  from pg_description d left join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
 where d.classoid = 'pg_class'::regclass and d.objoid = $1::oid order by d.objsubid]]

local VIEWS <const> = [[
with recursive above (id) as (
    select unnest($1::oid[])
    union
    select r.ev_class from above
      join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = above.id
                      and d.classid = 'pg_rewrite'::regclass
      join pg_rewrite r on r.oid = d.objid
      join pg_class c on c.oid = r.ev_class
      join pg_namespace n on n.oid = c.relnamespace
     where n.nspname !~ '^_timescaledb')
select c.oid::bigint as oid, n.nspname::text as schema, c.relname::text as name
  from above join pg_class c on c.oid = above.id join pg_namespace n on n.oid = c.relnamespace
 where c.oid <> all ($1::oid[]) order by n.nspname, c.relname]]

---pg_dump --table leaves these out.
local STATISTICS <const> = [[
select pg_get_statisticsobjdef(oid) as sql from pg_statistic_ext where stxrelid = any ($1::oid[]) order by 1]]

---Other objects that depend on continuous aggregates and the views on them, and cannot be made before them.
local OTHERS <const> = [[
select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as what from pg_depend d
 where d.deptype = 'n' and d.classid = any (array['pg_proc', 'pg_policy', 'pg_trigger', 'pg_class',
                                                  'pg_attrdef']::regclass[]::oid[])
   and (d.refclassid = 'pg_class'::regclass and d.refobjid = any ($1::oid[])
        or d.refclassid = 'pg_type'::regclass
           and d.refobjid in (select reltype from pg_class where oid = any ($1::oid[])))
   and not (d.classid = 'pg_class'::regclass and d.objid = any ($1::oid[]))
 order by 1]]

local function oids(list)
    local out = {}
    for i, entry in ipairs(list) do out[i] = tostring(entry.row and entry.row.oid or entry.oid) end
    return "{" .. table.concat(out, ",") .. "}"
end

local function aggregates(conn, facts, of)
    for _, row in ipairs(rows(conn, AGGREGATES)) do
        local h = of[row.mat_hypertable_id]
        local comments = conn:query(COMMENTS, row.oid, row.relation)
        facts.aggregates[#facts.aggregates + 1] = {
            id = row.mat_hypertable_id, relation = row.relation, row = row, definition = row.definition, hypertable = h,
            indexes = conn:query(INDEXES, h.row.oid), comments = comments,
        }
        h.materializes = row.relation
    end
    if #facts.aggregates == 0 then return end
    facts.views = conn:query(VIEWS, oids(facts.aggregates))
    for i, row in ipairs(conn:query(STATISTICS, oids(facts.views))) do facts.statistics[i] = row.sql .. ";" end
    local above = table.move(facts.views, 1, #facts.views, #facts.aggregates + 1,
        table.move(facts.aggregates, 1, #facts.aggregates, 1, {}))
    for _, row in ipairs(conn:query(OTHERS, oids(above))) do
        facts.refused[#facts.refused + 1] = row.what .. ", which uses a continuous aggregate"
    end
end

---Reads the catalogs of TimescaleDB.
---@param conn table in a transaction, with an empty search_path
---@return dbrun.migrate.TimescaleFacts? facts nil where the extension is not in the database
function M.read(conn)
    local schema = conn:value [[select quote_ident(n.nspname) from pg_extension e
        join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb']]
    if not schema then return nil end
    local facts = { schema = schema, hypertables = {}, aggregates = {}, views = {}, statistics = {},
        refused = {} }
    local all = {}
    for i, row in ipairs(rows(conn, HYPERTABLES)) do
        all[i] = { id = row.id, relation = row.relation, row = row, dimensions = {}, tablespaces = {} }
    end
    local of = by_hypertable(conn, all)
    if exists(conn, "continuous_agg") then aggregates(conn, facts, of) end
    for _, h in ipairs(all) do
        if not h.materializes then facts.hypertables[#facts.hypertables + 1] = h end
    end
    facts.jobs = rows(conn, [[select to_jsonb(x)::text as j from (
        select b.*, format('%I.%I', b.proc_schema, b.proc_name) as proc,
               case when b.check_name <> '' then format('%I.%I', b.check_schema, b.check_name) end as check_proc
          from ]] .. (exists(conn, "bgw_job") and "_timescaledb_catalog" or "_timescaledb_config") .. [[.bgw_job b
         where b.id >= 1000) x order by id]])
    facts.skipping = exists(conn, "chunk_column_stats") and rows(conn, [[select to_jsonb(x)::text as j from (
        select distinct hypertable_id, column_name from _timescaledb_catalog.chunk_column_stats) x
        order by hypertable_id, column_name]]) or {}
    return facts
end

return M
