--- All that the catalogs say about relations, in one statement.
---
--- The functions that return definitions or sizes wait for another session's exclusive lock. The caller leaves out
--- locked relations; for locked relations below or beside one, the size and a view's definition are left out.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"

local M = {}

--- Each is a query of one relation `c`; its rows come as a list of objects in the order of `n`.
local LISTS <const> = {
    columns = [[
select a.attnum as n, a.attname as name, {format_type}(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
       a.attidentity as identity, a.attgenerated as generated,
       {pg_get_expr}(d.adbin, d.adrelid, true) as "default",
       (select case when ln.nspname {=} 'pg_catalog' then {quote_ident}(l.collname)
               else {quote_ident}(ln.nspname) {||} '.' {||} {quote_ident}(l.collname) end
          from {pg_collation} l join {pg_namespace} ln on ln.oid {=} l.collnamespace, {pg_type} t
         where l.oid {=} a.attcollation and t.oid {=} a.atttypid and a.attcollation {<>} t.typcollation) as collation,
       case when c.relkind {=} any ('{i, I}') then {pg_get_indexdef}(c.oid, a.attnum, true) end as definition,
       {array_to_string}(a.attfdwoptions, ', ') as options,
       {col_description}(c.oid, a.attnum) as comment
  from {pg_attribute} a
  left join {pg_attrdef} d on d.adrelid {=} a.attrelid and d.adnum {=} a.attnum and a.atthasdef
 where a.attrelid {=} c.oid and a.attnum {>} 0 and not a.attisdropped]],

    indexes = [[
select {row_number}() over (order by i.indisprimary desc, ic.relname) as n, ic.relname as name,
       i.indisprimary as is_primary, i.indisunique as is_unique, i.indisvalid and i.indisready and i.indislive as valid,
       i.indisclustered as clustered, i.indisreplident as identity, {pg_get_indexdef}(i.indexrelid, 0, true) as def,
       k.contype as type, k.condeferrable as deferrable, k.condeferred as deferred,
       case when k.contype {=} 'x' then {pg_get_constraintdef}(k.oid, true) end as "constraint"
  from {pg_index} i join {pg_class} ic on ic.oid {=} i.indexrelid
  left join {pg_constraint} k on k.conrelid {=} i.indrelid and k.conindid {=} i.indexrelid
                             and k.contype {=} any ('{p, u,x}')
 where i.indrelid {=} c.oid]],

    checks = [[
select {row_number}() over (order by k.conname) as n, k.conname as name, {pg_get_constraintdef}(k.oid, true) as def
  from {pg_constraint} k where k.conrelid {=} c.oid and k.contype {=} 'c']],

    foreign_keys = [[
select {row_number}() over (order by k.conname) as n, k.conname as name, {pg_get_constraintdef}(k.oid, true) as def
  from {pg_constraint} k where k.conrelid {=} c.oid and k.contype {=} 'f']],

    -- Each partition has a copy of a foreign key on the partitioned table (conparentid).
    referenced_by = [[
select {row_number}() over (order by k.conrelid::{regclass}::{text}, k.conname) as n, k.conname as name,
       k.conrelid::{regclass}::{text} as "from", {pg_get_constraintdef}(k.oid, true) as def
  from {pg_constraint} k
 where k.contype {=} 'f' and k.conparentid {=} 0
   and k.confrelid {=} any (array(select c.oid union all
        select p.relid from {pg_partition_ancestors}(c.oid) p where c.relispartition))]],

    triggers = [[
select {row_number}() over (order by t.tgname) as n, t.tgname as name, {pg_get_triggerdef}(t.oid, true) as def,
       t.tgenabled as enabled
  from {pg_trigger} t where t.tgrelid {=} c.oid and not t.tgisinternal]],

    rules = [[
select {row_number}() over (order by r.rulename) as n, r.rulename as name, {pg_get_ruledef}(r.oid, true) as def,
       r.ev_enabled as enabled
  from {pg_rewrite} r where r.ev_class {=} c.oid and r.rulename {<>} '_RETURN']],

    policies = [[
select {row_number}() over (order by p.polname) as n, p.polname as name, p.polpermissive as permissive,
       p.polcmd as command,
       case when p.polroles {<>} '{ 0}' then
            {array_to_string}(array(select {quote_ident}(r.rolname) from {pg_roles} r
                where r.oid {=} any (p.polroles) order by 1), ', ') end as roles,
       {pg_get_expr}(p.polqual, p.polrelid, true) as "using", {pg_get_expr}(p.polwithcheck, p.polrelid, true) as "check"
  from {pg_policy} p where p.polrelid {=} c.oid]],

    statistics = [[
select {row_number}() over (order by s.stxname) as n, {pg_get_statisticsobjdef}(s.oid) as def
  from {pg_statistic_ext} s where s.stxrelid {=} c.oid]],

    parents = [[
select i.inhseqno as n, i.inhparent::{regclass}::{text} as name
  from {pg_inherits} i where i.inhrelid {=} c.oid]],

    -- The first ones only: a table may have thousands.
    children = [[
select {row_number}() over (order by {pg_get_expr}(k.relpartbound, k.oid) {=} 'DEFAULT',
           k.oid::{regclass}::{text}) as n,
       k.oid::{regclass}::{text} as name, {pg_get_expr}(k.relpartbound, k.oid) as bound, k.relkind as kind
  from {pg_inherits} i join {pg_class} k on k.oid {=} i.inhrelid
 where i.inhparent {=} c.oid order by 1 limit 20]],

    sequences = [[
select {row_number}() over (order by d.refobjsubid) as n, d.objid::{regclass}::{text} as name, a.attname as "column"
  from {pg_depend} d join {pg_class} s on s.oid {=} d.objid and s.relkind {=} 'S'
  join {pg_attribute} a on a.attrelid {=} d.refobjid and a.attnum {=} d.refobjsubid
 where d.refobjid {=} c.oid and d.classid {=} 'pg_catalog.pg_class'::{regclass} and d.deptype {=} any ('{a, i}')
   and d.refclassid {=} 'pg_catalog.pg_class'::{regclass}]],

    publications = [[
select {row_number}() over (order by p.pubname) as n, p.pubname as name
  from {pg_publication} p
 where c.relkind {=} any ('{r, p}') and c.relpersistence {=} 'p' and (p.puballtables and c.oid {>=} 16384::{oid}
       or exists
     (select from {pg_publication_rel} x where x.prpubid {=} p.oid and x.prrelid {=} c.oid))]],
}

--- Single values of the relation `c`, by name.
local VALUES <const> = {
    owner = "{pg_get_userbyid}(c.relowner)",
    persistence = "c.relpersistence",
    row_security = "c.relrowsecurity",
    force_row_security = "c.relforcerowsecurity",
    replica_identity = "c.relreplident",
    options = "{array_to_string}(c.reloptions, ', ')",
    populated = "c.relispopulated",
    comment = "{obj_description}(c.oid, 'pg_class')",
    method = "(select m.amname from {pg_am} m where m.oid {=} c.relam)",
    tablespace = "(select s.spcname from {pg_tablespace} s where s.oid {=} c.reltablespace)",
    of_type = "case when c.reloftype {<>} 0 then {format_type}(c.reloftype, null) end",
    partition_key = "case when c.relkind {=} 'p' then {pg_get_partkeydef}(c.oid) end",
    bound = "case when c.relispartition then {pg_get_expr}(c.relpartbound, c.oid) end",
    detaching = [[case when c.relispartition then (select ({to_jsonb}(i) {->>} 'inhdetachpending')::{bool}
                  from {pg_inherits} i where i.inhrelid {=} c.oid) end]],
    children_count = "(select {count}(*) from {pg_inherits} i where i.inhparent {=} c.oid)",
    definition = [[case when c.relkind {=} any ('{v, m}') then case when exists (select from {pg_rewrite} w
            join {pg_depend} d on d.objid {=} w.oid and d.classid {=} 'pg_catalog.pg_rewrite'::{regclass}
                              and d.refclassid {=} 'pg_catalog.pg_class'::{regclass}
            join locked l on l.oid {=} d.refobjid where w.ev_class {=} c.oid)
        then '(another session has locked a relation below it exclusively)'
        else {pg_get_viewdef}(c.oid, true) end end]],
    server = [[(select f.srvname {||} {coalesce_options} from {pg_foreign_table} x
                join {pg_foreign_server} f on f.oid {=} x.ftserver where x.ftrelid {=} c.oid)]],
    sequence = [[(select {row_to_json}(s) from (select {format_type}(q.seqtypid, null) as type, q.seqstart as start,
            q.seqmin as minimum, q.seqmax as maximum, q.seqincrement as increment, q.seqcycle as cycles,
            q.seqcache as cache, case when {has_sequence_privilege}(c.oid, 'select, usage')
                then {pg_sequence_last_value}(c.oid::{regclass}) end as last
       from {pg_sequence} q where q.seqrelid {=} c.oid) s)]],
    owned_by = [[(select d.refobjid::{regclass}::{text} {||} '.' {||} {quote_ident}(a.attname) from {pg_depend} d
        join {pg_attribute} a on a.attrelid {=} d.refobjid and a.attnum {=} d.refobjsubid
       where d.objid {=} c.oid and c.relkind {=} 'S' and d.classid {=} 'pg_catalog.pg_class'::{regclass}
         and d.refclassid {=} 'pg_catalog.pg_class'::{regclass} and d.deptype {=} any ('{a, i}') limit 1)]],
    index_of = [[(select {row_to_json}(x) from (select i.indrelid::{regclass}::{text} as "table",
            i.indisprimary as is_primary, i.indisunique as is_unique,
            i.indisvalid and i.indisready and i.indislive as valid, {pg_get_indexdef}(c.oid, 0, true) as def,
            {pg_get_expr}(i.indpred, i.indrelid, true) as predicate
       from {pg_index} i where i.indexrelid {=} c.oid) x)]],
    toast_of = [[(select o.oid::{regclass}::{text} from {pg_class} o
       where o.reltoastrelid {=} c.oid and c.relkind {=} 't')]],
    -- Size and rows of the relation, and of all below it.
    size = [[(select {row_to_json}(z) from (select
            {sum}(s.bytes) filter (where s.own) as own, {sum}(s.indexes) filter (where s.own) as own_indexes,
            {sum}(s.bytes) as bytes, {sum}(s.indexes) as indexes, {count}(*) filter (where s.locked) as locked,
            {sum}(s.rows) filter (where s.own and s.rows {>=} 0) as own_rows,
            {sum}(s.rows) filter (where s.leaf and s.rows {>=} 0) as rows,
            {count}(*) filter (where s.leaf and s.rows {<} 0) as unknown
       from (select t.oid {=} c.oid as own, l.oid is not null as locked, k.relkind {<>} 'p' as leaf,
                    case when k.relpages {=} 0 and k.reltuples {=} 0 then -1 else k.reltuples end::{int8} as rows,
                    case when l.oid is null and k.relkind {=} any ('{r, m,t,i,S}') then {pg_table_size}(t.oid) end
                        as bytes,
                    case when l.oid is null and k.relkind {=} any ('{r, m,t}') then {pg_indexes_size}(t.oid) end
                        as indexes
               from tree t join {pg_class} k on k.oid {=} t.oid
               left join locked l on l.oid {=} t.oid
              where t.root {=} c.oid) s) z)]],
}

--- Locks of other sessions, including waiting ones, because later requests queue behind them.
local LOCKED <const> = [[locked (oid) as materialized (select distinct x.relation from {pg_locks} x
    where x.mode {=} 'AccessExclusiveLock' and x.locktype {=} 'relation' and x.pid {<>} {pg_backend_pid}()
      and x.database {=} (select d.oid from {pg_database} d where d.datname {=} {current_database}())) ]]

local function build()
    local parts = { "with recursive tree (root, oid) as (select r, r from {unnest}($1::{oid}[]) r union ",
        "select t.root, i.inhrelid from tree t join {pg_inherits} i on i.inhparent {=} t.oid), ",
        LOCKED,
        "select c.oid::{int8} as oid, {row_to_json}(f)::{text} as facts from {pg_class} c, lateral (select " }
    local names = {}
    for name in pairs(VALUES) do names[#names + 1] = name end
    table.sort(names)
    for i, name in ipairs(names) do
        names[i] = ("%s as %s"):format(VALUES[name], name)
    end
    local lists = {}
    for name in pairs(LISTS) do lists[#lists + 1] = name end
    table.sort(lists)
    for _, name in ipairs(lists) do
        names[#names + 1] = ("(select {json_agg}({row_to_json}(l) order by l.n) from (%s) l) as %s"):format(LISTS[name],
            name)
    end
    parts[#parts + 1] = table.concat(names, ",\n")
    parts[#parts + 1] = ") f where c.oid {=} any ($1::{oid}[])"
    local sql <const> = table.concat(parts):gsub("{coalesce_options}",
        [[coalesce(' (' {||} {array_to_string}(x.ftoptions, ', ') {||} ')', '')]])
    return catalog.sql(sql)
end

local sql

--- Without the nulls of JSON, which are true in Lua.
local function plain(value)
    if type(value) ~= "table" then return value end
    for key, inner in pairs(value) do
        if inner == core.null then
            value[key] = nil
        else
            plain(inner)
        end
    end
    return value
end

---The facts of relations, by oid.
---@param conn dbrun.Connection
---@param oids integer[]
---@return table<integer, table>
function M.read(conn, oids)
    local db <const>, json <const> = require "dbrun.db", require "dbrun.json"
    sql = sql or build()
    local by_oid = {}
    for _, row in ipairs(conn:query(sql, db.array(oids, "oid"))) do
        by_oid[row.oid] = plain(json.decode(row.facts))
    end
    return by_oid
end

return M
