--- Catalog facts about the walked table: the relation, its columns, its indexes. Nothing is judged here.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

local RELATION <const> = catalog.sql [[
select c.oid, c.relkind::{text} as kind, c.relpersistence::{text} as persistence, n.nspname::{text} as schema,
    c.relname::{text} as name, {pg_relation_size}(c.oid) {/} {current_setting}('block_size')::{int8} as pages,
    exists (select from {pg_inherits} h where h.inhparent {=} c.oid) as has_children,
    {to_regclass}('timescaledb_information.hypertables') is not null as has_timescale,
    {to_regclass}('pg_catalog.pg_dist_partition') is not null as has_citus,
    (select p.partattrs[0]::{int4} from {pg_partitioned_table} p where p.partrelid {=} c.oid
        and p.partstrat {=} any (array['r', 'l']::{char}[])) as partition_column
from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
where c.oid {=} {to_regclass}($1::{text})::{oid}]]

--- The rows of the table and all its children, estimated from the statistics and the present size, as the planner does.
local ESTIMATE <const> = catalog.sql [[
with recursive t(oid) as (select $1::{oid} union all
    select h.inhrelid from t join {pg_inherits} h on h.inhparent {=} t.oid)
select {sum}(c.reltuples::{float8} {*} ({pg_relation_size}(c.oid) {/} {current_setting}('block_size')::{float8})
    {/} c.relpages::{float8}) filter (where c.reltuples {>=} 0 and c.relpages {>} 0) as rows
from t join {pg_class} c on c.oid {=} t.oid where c.relkind {<>} 'p']]

local COLUMNS <const> = catalog.sql [[
with recursive base(attnum, oid, depth) as (
    select a.attnum, a.atttypid, 0 from {pg_attribute} a where a.attrelid {=} $1::{oid} and a.attnum {>} 0
        and not a.attisdropped
    union all select b.attnum, t.typbasetype, b.depth {+} 1 from base b join {pg_type} t on t.oid {=} b.oid
    where t.typtype {=} 'd')
select a.attnum::{int4} as number, a.attname::{text} as name, a.attnotnull as filled,
    {format_type}(a.atttypid, -1) as type, t.oid as base, t.typname::{text} as base_name,
    tn.nspname::{text} as base_schema, t.typtype::{text} as kind, a.attcollation::{int8} as collation_oid,
    case when a.attcollation {<>} 0::{oid} then {quote_ident}(cn.nspname) {||} '.' {||} {quote_ident}(c.collname) end
        as collation,
    exists (select from {pg_opclass} o join {pg_am} am on am.oid {=} o.opcmethod where am.amname {=} 'btree'
        and o.opcdefault and o.opcintype {=} t.oid) as has_class,
    case when c.collprovider {<>} 'd' then {pg_collation_actual_version}(c.oid) end as version
from {pg_attribute} a
join lateral (select b.oid from base b where b.attnum {=} a.attnum order by b.depth desc limit 1) b on true
join {pg_type} t on t.oid {=} b.oid join {pg_namespace} tn on tn.oid {=} t.typnamespace
left join {pg_collation} c on c.oid {=} a.attcollation left join {pg_namespace} cn on cn.oid {=} c.collnamespace
where a.attrelid {=} $1::{oid} and a.attnum {>} 0 and not a.attisdropped order by a.attnum]]

--- A row for each column of each index, with the operators of its operator class: > is strategy 5 of btree, <= is 2,
--- >= is 4, = is 3.
local INDEXES <const> = catalog.sql [[
select x.*, gt.oprname::{text} as gt, le.oprname::{text} as le, ge.oprname::{text} as ge,
    eq.oprname::{text} as eq, en.nspname::{text} as eq_schema,
    gn.nspname::{text} as gt_schema, ln.nspname::{text} as le_schema, gen.nspname::{text} as ge_schema,
    {format_type}(x.input, -1) as operand
from (select i.indexrelid as index, ic.relname::{text} as name, am.amname::{text} as method,
        i.indisunique as is_unique, i.indisprimary as is_primary, i.indisvalid and i.indisready and i.indislive
        as is_ready, i.indpred is not null as is_partial, k.n as position, i.indkey[k.n {-} 1]::{int4} as number,
        i.indoption[k.n {-} 1]::{int4} as option, i.indcollation[k.n {-} 1]::{int8} as collation_oid,
        o.opcdefault as is_default, o.opcintype as input,
        (select a.amopopr from {pg_amop} a where a.amopfamily {=} o.opcfamily and a.amoplefttype {=} o.opcintype
            and a.amoprighttype {=} o.opcintype and a.amopstrategy {=} 5 and a.amoppurpose {=} 's') as gt_oid,
        (select a.amopopr from {pg_amop} a where a.amopfamily {=} o.opcfamily and a.amoplefttype {=} o.opcintype
            and a.amoprighttype {=} o.opcintype and a.amopstrategy {=} 2 and a.amoppurpose {=} 's') as le_oid,
        (select a.amopopr from {pg_amop} a where a.amopfamily {=} o.opcfamily and a.amoplefttype {=} o.opcintype
            and a.amoprighttype {=} o.opcintype and a.amopstrategy {=} 4 and a.amoppurpose {=} 's') as ge_oid,
        (select a.amopopr from {pg_amop} a where a.amopfamily {=} o.opcfamily and a.amoplefttype {=} o.opcintype
            and a.amoprighttype {=} o.opcintype and a.amopstrategy {=} 3 and a.amoppurpose {=} 's') as eq_oid
    from {pg_index} i join {pg_class} ic on ic.oid {=} i.indexrelid join {pg_am} am on am.oid {=} ic.relam
    cross join lateral {generate_series}(1, i.indnkeyatts::{int4}) k(n)
    join {pg_opclass} o on o.oid {=} i.indclass[k.n {-} 1] where i.indrelid {=} $1::{oid}) x
left join {pg_operator} gt on gt.oid {=} x.gt_oid left join {pg_namespace} gn on gn.oid {=} gt.oprnamespace
left join {pg_operator} le on le.oid {=} x.le_oid left join {pg_namespace} ln on ln.oid {=} le.oprnamespace
left join {pg_operator} eq on eq.oid {=} x.eq_oid left join {pg_namespace} en on en.oid {=} eq.oprnamespace
left join {pg_operator} ge on ge.oid {=} x.ge_oid left join {pg_namespace} gen on gen.oid {=} ge.oprnamespace
order by x.name, x.index, x.position]]

local DATABASE_VERSION <const> = catalog.sql [[
select {pg_database_collation_actual_version}(d.oid) from {pg_database} d where d.datname {=} {current_database}()]]

local OPERATOR <const> = catalog.sql "select {to_regoperator}($1::{text})::{oid}"

local HYPERTABLE <const> = [[
select exists (select from timescaledb_information.chunks c where c.is_compressed
        and c.hypertable_schema operator(pg_catalog.=) h.hypertable_schema
        and c.hypertable_name operator(pg_catalog.=) h.hypertable_name) as compressed,
    (select d.column_name::pg_catalog.text from timescaledb_information.dimensions d
        where d.dimension_number operator(pg_catalog.=) 1
        and d.hypertable_schema operator(pg_catalog.=) h.hypertable_schema
        and d.hypertable_name operator(pg_catalog.=) h.hypertable_name) as dimension
from timescaledb_information.hypertables h where h.hypertable_schema operator(pg_catalog.=) $1::pg_catalog.name
    and h.hypertable_name operator(pg_catalog.=) $2::pg_catalog.name]]

--- Node 0 is the coordinator.
local CITUS <const> = catalog.sql [[
select (select g.groupid::{int4} from pg_catalog.pg_dist_local_group g) as node,
    (select {count}(*) from pg_catalog.pg_dist_shard s where s.logicalrelid::{oid} {=} p.logicalrelid::{oid}) as shards,
    case when p.partkey is not null then pg_catalog.column_to_column_name(p.logicalrelid, p.partkey) end as column
from pg_catalog.pg_dist_partition p where p.logicalrelid::{oid} {=} $1::{oid}]]

---@param conn table
---@param name string as SQL writes it
---@return table? relation nil: there is none
function M.relation(conn, name)
    return catalog.rows(conn, RELATION, { oid = "number", kind = "string" }, name)[1]
end

--- For a distributed table: its rows are in tables of other nodes.
local SHARDS <const> = catalog.sql [[
select {sum}(r.result::{float8}) filter (where r.success and r.result::{float8} {>} 0::{float8}) as rows
from pg_catalog.run_command_on_shards($1::{oid}::{regclass},
    'select reltuples::pg_catalog.int8 from pg_catalog.pg_class where oid operator(pg_catalog.=) ''%s''::regclass') r]]

---@param conn table
---@param oid integer
---@param citus? table as of M.citus
---@return integer? rows nil: there are no statistics
function M.estimate(conn, oid, citus)
    local rows <const> = conn:value(citus and SHARDS or ESTIMATE, oid)
    return rows and math.tointeger(rows // 1)
end

---@return table[] columns
function M.columns(conn, oid)
    return catalog.rows(conn, COLUMNS, { name = "string", base_name = "string" }, oid)
end

---@return table[] indexes each with `columns`, one for each column of its key
function M.indexes(conn, oid)
    local list = {}
    for _, row in ipairs(catalog.rows(conn, INDEXES, { name = "string", position = "number" }, oid)) do
        if row.position == 1 then
            list[#list + 1] = {
                oid = row.index, name = row.name, method = row.method, is_unique = row.is_unique, columns = {},
                is_primary = row.is_primary, is_ready = row.is_ready, is_partial = row.is_partial,
            }
        end
        table.insert(list[#list].columns, row)
    end
    return list
end

---The version of the database's default collation; nil if the server does not tell.
---@return string? version
function M.database_version(conn)
    local major <const> = tonumber((conn.parameters.server_version or ""):match "^%d+")
    if not major or major < 15 then return nil end
    return conn:value(DATABASE_VERSION)
end

---@param conn table
---@param signature string ">(app.mood, app.mood)"
---@return integer? oid the operator that the session would use
function M.operator(conn, signature)
    return conn:value(OPERATOR, signature)
end

---@return {compressed: boolean, dimension: string}? hypertable nil: not a hypertable; dimension: its first one, time
function M.hypertable(conn, relation)
    if not relation.has_timescale then return nil end
    return conn:one(HYPERTABLE, relation.schema, relation.name)
end

---@return {node: integer, shards: integer, column?: string}? citus nil: not a table of Citus; column: its distribution
---column
function M.citus(conn, oid) return conn:one(CITUS, oid) end

return M
