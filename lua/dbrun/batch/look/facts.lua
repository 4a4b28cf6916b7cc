--- Catalog facts about a written table: triggers, foreign keys that reference it, indexes, row-level security,
--- publications. Nothing is judged here.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

local TABLE <const> = catalog.sql [[
select c.relkind::{text} as kind, {row_security_active}(c.oid) as is_secured, current_user::{text} as role,
    coalesce((select o.option_value::{int4} from {pg_options_to_table}(c.reloptions) o
        where o.option_name {=} 'fillfactor'), 100) as fillfactor,
    {pg_stat_get_tuples_updated}(c.oid) as updated, {pg_stat_get_tuples_hot_updated}(c.oid) as hot
from {pg_class} c where c.oid {=} $1::{oid}]]

local TRIGGERS <const> = catalog.sql [[
select t.tgname::{text} as name, t.tgtype::{int4} as type, t.tgfoid::{regproc}::{text} as function,
    t.tgdeferrable as is_deferrable, array(select a.attname::{text} from {pg_attribute} a
        where a.attrelid {=} t.tgrelid and a.attnum {=} any (t.tgattr) order by a.attnum) as columns
from {pg_trigger} t where t.tgrelid {=} $1::{oid} and not t.tgisinternal
    and t.tgenabled {=} any (case when {current_setting}('session_replication_role') {=} 'replica'
        then {string_to_array}('R,A', ',')::{char}[] else {string_to_array}('O,A', ',')::{char}[] end)
order by t.tgname]]

--- Foreign keys that reference the table, and tables that a deletion there empties by cascade. A key that a partition
--- inherits counts as its parent's.
local FOREIGN_KEYS <const> = catalog.sql [[
with recursive fk(con, child, parent, deletes, updates) as (
    select c.oid, c.conrelid, c.confrelid, c.confdeltype, c.confupdtype from {pg_constraint} c
    where c.contype {=} 'f' and c.confrelid {=} $1::{oid} and not exists (select from {pg_constraint} p
        where p.oid {=} c.conparentid and p.confrelid {=} c.confrelid)
    union
    select c.oid, c.conrelid, c.confrelid, c.confdeltype, c.confupdtype from fk join {pg_constraint} c
        on c.confrelid {=} fk.child where $2::{bool} and fk.deletes {=} 'c' and c.contype {=} 'f'
        and not exists (select from {pg_constraint} p
            where p.oid {=} c.conparentid and p.confrelid {=} c.confrelid))
select k.conname::{text} as name, fk.child,
    {quote_ident}(n.nspname) {||} '.' {||} {quote_ident}(c.relname) as relation,
    (select {string_agg}({quote_ident}(a.attname), ', ' order by u.n)
        from {unnest}(k.conkey) with ordinality u(number, n)
        join {pg_attribute} a on a.attrelid {=} k.conrelid and a.attnum {=} u.number) as quoted,
    n.nspname::{text} as schema, c.relname::{text} as table,
    c.relkind::{text} as kind, fk.parent {=} $1::{oid} as is_direct, pc.relname::{text} as parent,
    fk.deletes::{text} as on_delete, fk.updates::{text} as on_update,
    array(select a.attname::{text} from {unnest}(k.conkey) with ordinality u(number, n)
        join {pg_attribute} a on a.attrelid {=} k.conrelid and a.attnum {=} u.number order by u.n) as columns,
    array(select a.attname::{text} from {unnest}(k.confkey) with ordinality u(number, n)
        join {pg_attribute} a on a.attrelid {=} k.confrelid and a.attnum {=} u.number order by u.n) as referenced,
    x.name as index, coalesce(x.is_whole, false) as is_whole
from fk join {pg_constraint} k on k.oid {=} fk.con join {pg_class} c on c.oid {=} fk.child
join {pg_namespace} n on n.oid {=} c.relnamespace join {pg_class} pc on pc.oid {=} fk.parent
left join lateral (
    select ic.relname::{text} as name, not exists (select from {unnest}(k.conkey) u(number)
            where u.number {<>} all ((i.indkey::{int2}[])[0:({cardinality}(k.conkey) {-} 1)])) as is_whole
    from {pg_index} i join {pg_class} ic on ic.oid {=} i.indexrelid join {pg_am} am on am.oid {=} ic.relam
    where i.indrelid {=} fk.child and i.indisvalid and am.amname {=} any (array['btree', 'hash']::{name}[])
        and i.indkey[0] {=} any (k.conkey) and (i.indpred is null
            or {pg_get_expr}(i.indpred, i.indrelid) {=} {format}('(%I IS NOT NULL)', (select a.attname
                from {pg_attribute} a where a.attrelid {=} i.indrelid and a.attnum {=} i.indkey[0])))
    order by 2 desc, 1 limit 1) x on true
order by is_direct desc, c.relname, k.conname]]

--- Each index with all columns that it uses: those of its key, of INCLUDE, of expressions and of its condition.
local INDEXES <const> = catalog.sql [[
select ic.relname::{text} as name, am.amname::{text} as method, i.indisprimary as is_primary,
    array(select a.attname::{text} from {pg_attribute} a where a.attrelid {=} i.indrelid and a.attnum {>} 0
        and (a.attnum {=} any (i.indkey) or exists (select from {pg_depend} d
            where d.classid {=} 'pg_catalog.pg_class'::{regclass}::{oid} and d.objid {=} i.indexrelid
                and d.refclassid {=} 'pg_catalog.pg_class'::{regclass}::{oid} and d.refobjid {=} i.indrelid
                and d.refobjsubid {=} a.attnum)) order by a.attnum) as columns
from {pg_index} i join {pg_class} ic on ic.oid {=} i.indexrelid join {pg_am} am on am.oid {=} ic.relam
where i.indrelid {=} $1::{oid} and i.indislive order by i.indisprimary desc, ic.relname]]

--- Stored columns that are generated from these.
local GENERATED <const> = catalog.sql [[
select distinct a.attname::{text} as name from {pg_attribute} a join {pg_attrdef} d on d.adrelid {=} a.attrelid
    and d.adnum {=} a.attnum
join {pg_depend} p on p.refclassid {=} 'pg_catalog.pg_class'::{regclass}::{oid} and p.refobjid {=} a.attrelid
    and (p.classid {=} 'pg_catalog.pg_attrdef'::{regclass}::{oid} and p.objid {=} d.oid
        or p.classid {=} 'pg_catalog.pg_class'::{regclass}::{oid} and p.objid {=} a.attrelid
            and p.objsubid {=} a.attnum)
join {pg_attribute} b on b.attrelid {=} a.attrelid and b.attnum {=} p.refobjsubid
where a.attrelid {=} $1::{oid} and a.attgenerated {=} 's' and b.attname {=} any ($2::{name}[])]]

local POLICIES <const> = catalog.sql [[
select p.polname::{text} as name from {pg_policy} p where p.polrelid {=} $1::{oid}
    and p.polcmd {=} any (array['*', 'r', $2::{text}]::{char}[])
    and (0::{oid} {=} any (p.polroles) or exists (select from {unnest}(p.polroles) r(oid)
        where r.oid {<>} 0::{oid} and {pg_has_role}(r.oid, 'usage')))
order by p.polname]]

--- Tables (partitions that hold rows) that are published for this operation, and have no replica identity.
local UNNAMED <const> = catalog.sql [[
with recursive t(oid) as (select {unnest}($1::{oid}[]) union
    select h.inhrelid from t join {pg_inherits} h on h.inhparent {=} t.oid)
select n.nspname::{text} as schema, c.relname::{text} as table, p.pubname::{text} as publication,
    c.relreplident::{text} as identity,
    {quote_ident}(n.nspname) {||} '.' {||} {quote_ident}(c.relname) as relation
from t join {pg_class} c on c.oid {=} t.oid join {pg_namespace} n on n.oid {=} c.relnamespace
join {pg_publication} p on case when $2::{text} {=} 'delete' then p.pubdelete else p.pubupdate end
where c.relkind {=} 'r' and c.relpersistence {=} 'p' and c.relreplident {<>} 'f'
    and not exists (select from {pg_index} i where i.indrelid {=} c.oid and i.indisvalid and i.indimmediate
        and case when c.relreplident {=} 'd' then i.indisprimary else c.relreplident {=} 'i' and i.indisreplident end)
    and (p.puballtables or exists (select from {pg_publication_tables} v
        join {pg_class} vc on vc.relname {=} v.tablename
        join {pg_namespace} vn on vn.oid {=} vc.relnamespace and vn.nspname {=} v.schemaname
        where v.pubname {=} p.pubname and (vc.oid {=} c.oid
            or vc.oid {=} any (select a.relid::{oid} from {pg_partition_ancestors}(c.oid) a))))
order by n.nspname, c.relname, p.pubname limit 20]]

--- The leaf tables of a table, with their sizes.
local LEAVES <const> = catalog.sql [[
with recursive t(oid) as (select h.inhrelid from {pg_inherits} h where h.inhparent {=} $1::{oid} union
    select h.inhrelid from t join {pg_inherits} h on h.inhparent {=} t.oid)
select n.nspname::{text} as schema, c.relname::{text} as name, c.relkind::{text} as kind,
    {pg_total_relation_size}(c.oid) as bytes
from t join {pg_class} c on c.oid {=} t.oid join {pg_namespace} n on n.oid {=} c.relnamespace
where c.relkind {=} any (array['r', 'f']::{char}[])
    and not exists (select from {pg_inherits} h where h.inhparent {=} c.oid)
order by n.nspname, c.relname]]

--- Pages of a table with all below it.
local PAGES <const> = catalog.sql [[
with recursive t(oid) as (select $1::{oid} union all
    select h.inhrelid from t join {pg_inherits} h on h.inhparent {=} t.oid)
select {sum}({pg_relation_size}(t.oid) {/} {current_setting}('block_size')::{int8})::{int8} from t]]

local MAY_CREATE <const> = catalog.sql [[
select {has_schema_privilege}({to_regnamespace}($1::{text})::{oid}, 'create')]]

---@param conn table
---@param oid integer
---@return table row
function M.table(conn, oid) return conn:one(TABLE, oid) end

---@param conn table
---@param oid integer
---@return table[] triggers that are on
function M.triggers(conn, oid) return catalog.rows(conn, TRIGGERS, { name = "string", type = "number" }, oid) end

---@param conn table
---@param oid integer
---@param cascades boolean include those that reference tables which a deletion empties by cascade
---@return table[] keys
function M.foreign_keys(conn, oid, cascades)
    return catalog.rows(conn, FOREIGN_KEYS, { name = "string", table = "string" }, oid, cascades)
end

---@param conn table
---@param oid integer
---@return table[] indexes
function M.indexes(conn, oid) return catalog.rows(conn, INDEXES, { name = "string" }, oid) end

---@param conn table
---@param oid integer
---@param columns string[]
---@return string[] columns with those generated from them
function M.with_generated(conn, oid, columns)
    local all <const> = table.move(columns, 1, #columns, 1, {})
    for _, row in ipairs(conn:query(GENERATED, oid, require("dbrun.db").array(columns, "name"))) do
        all[#all + 1] = row.name
    end
    return all
end

local COMMANDS <const> = { update = "w", delete = "d", insert = "a" }

---@param conn table
---@param oid integer
---@param kind dbrun.batch.WriteKind
---@return string[] names of policies that apply to the role
function M.policies(conn, oid, kind)
    local names <const> = {}
    for i, row in ipairs(conn:query(POLICIES, oid, COMMANDS[kind])) do names[i] = row.name end
    return names
end

---@param conn table
---@param oids integer[]
---@param kind "update"|"delete"
---@return table[] rows
function M.unnamed(conn, oids, kind)
    return catalog.rows(conn, UNNAMED, { table = "string" }, require("dbrun.db").array(oids, "oid"), kind)
end

---@param conn table
---@param oid integer
---@return {schema: string, name: string, kind: string, bytes: integer}[]
function M.leaves(conn, oid) return catalog.rows(conn, LEAVES, { name = "string" }, oid) end

---@param conn table
---@param oid integer
---@return integer pages
function M.pages(conn, oid) return conn:value(PAGES, oid) or 0 end

---@param conn table
---@param schema string quoted
---@return boolean
function M.may_create(conn, schema) return conn:value(MAY_CREATE, schema) == true end

return M
