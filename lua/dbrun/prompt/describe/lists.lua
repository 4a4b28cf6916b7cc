--- The queries of the commands that list: relations, functions, schemas, roles, databases, extensions, types.
---
--- Each takes $1 the name's regular expression, $2 the schema's (NULL: any), $3 whether to include system objects, $4
--- whether to show more (`+`), and $5 the kinds of relations. The columns of the result are the grid's.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

--- The condition on an object's name and schema; `%s` are the two columns, and the function that tells whether the
--- search_path finds it.
local function named(name, schema, visible)
    return (([[($1::{text} is null or %s {~} ($1::{text} collate {default}))
   and case when $2::{text} is null then %s else %s {~} ($2::{text} collate {default}) end
   and ($3::{bool} or (%s {<>} 'pg_catalog' and %s {<>} 'information_schema' and %s {!~} '^pg_toast'))]])
        :format(name, visible, schema, schema, schema, schema))
end

local function only_named(name)
    return ("($1::{text} is null or %s {~} ($1::{text} collate {default})) and $2::{text} is null"):format(name)
end

local RELATIONS <const> = [[
select n.nspname::{text} as "Schema", c.relname::{text} as "Name",
       case c.relpersistence when 'u' then 'unlogged ' when 't' then 'temporary ' else '' end {||}
       case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
            when 'm' then 'materialized view' when 'i' then 'index' when 'I' then 'partitioned index'
            when 'S' then 'sequence' when 'f' then 'foreign table' when 't' then 'TOAST table' else 'type' end
       {||} case when i.indisvalid and i.indisready and i.indislive then '' else coalesce(
            (select ', INVALID' where i.indexrelid is not null), '') end as "Type",
       {pg_get_userbyid}(c.relowner)::{text} as "Owner",
       (i.indrelid::{regclass})::{text} as "Table",
       case when c.relkind {=} any ('{r, m}') and (c.reltuples {>} 0 or c.reltuples {=} 0 and c.relpages {>} 0)
            then c.reltuples::{int8} end as "Rows (about)",
       case when c.relkind {=} any ('{r, m,i,t}') then case when exists (select from {pg_locks} l
            where l.relation {=} c.oid and l.mode {=} 'AccessExclusiveLock' and l.pid {<>} {pg_backend_pid}()
              and l.database {=} (select d.oid from {pg_database} d where d.datname {=} {current_database}()))
            then 'locked' else {pg_size_pretty}({pg_table_size}(c.oid)) end end as "Size",
       {obj_description}(c.oid, 'pg_class') as "Comment", {count}(*) over () as total
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace left join {pg_index} i on i.indexrelid {=} c.oid
 where {strpos}($5::{text}, c.relkind::{text}) {>} 0 and ]] .. named("c.relname", "n.nspname",
    "{pg_table_is_visible}(c.oid)") .. [[ and ($4::{bool} or true)
 order by n.nspname, c.relname limit 1000]]

local FUNCTIONS <const> = [[
select n.nspname::{text} as "Schema", p.proname::{text} as "Name", {pg_get_function_result}(p.oid) as "Result",
       {pg_get_function_arguments}(p.oid) as "Arguments",
       case p.prokind when 'a' then 'aggregate' when 'w' then 'window' when 'p' then 'procedure'
            else case when p.prorettype {=} 'pg_catalog.trigger'::{regtype} then 'trigger' else 'function' end end
            as "Kind",
       case when $4::{bool} then case p.provolatile when 'i' then 'immutable' when 's' then 'stable'
            else 'volatile' end end as "Volatility",
       case when $4::{bool} then case when p.prosecdef then 'definer' else 'invoker' end end as "Security",
       case when $4::{bool} then {pg_get_userbyid}(p.proowner)::{text} end as "Owner",
       case when $4::{bool} then (select l.lanname::{text} from {pg_language} l where l.oid {=} p.prolang) end
            as "Language",
       {obj_description}(p.oid, 'pg_proc') as "Comment", {count}(*) over () as total
  from {pg_proc} p join {pg_namespace} n on n.oid {=} p.pronamespace
 where ]] .. named("p.proname", "n.nspname", "{pg_function_is_visible}(p.oid)") .. [[ and $5::{text} is null
 order by n.nspname, p.proname, {pg_get_function_arguments}(p.oid) limit 1000]]

local SCHEMAS <const> = [[
select n.nspname::{text} as "Name", {pg_get_userbyid}(n.nspowner)::{text} as "Owner",
       case when $4::{bool} then {array_to_string}(n.nspacl, E'\n') end as "Privileges",
       {obj_description}(n.oid, 'pg_namespace') as "Comment", {count}(*) over () as total
  from {pg_namespace} n
 where ]] .. only_named "n.nspname" .. [[ and ($3::{bool} or (n.nspname {!~} '^pg_' and n.nspname {<>}
       'information_schema')) and $5::{text} is null order by n.nspname limit 1000]]

local ROLES <const> = [[
select r.rolname::{text} as "Name", {concat_ws}(', ', (select 'superuser' where r.rolsuper),
           (select 'no inheritance' where not r.rolinherit), (select 'create role' where r.rolcreaterole),
           (select 'create database' where r.rolcreatedb), (select 'cannot log in' where not r.rolcanlogin),
           (select 'replication' where r.rolreplication), (select 'bypasses row security' where r.rolbypassrls),
           (select {concat}('at most ', r.rolconnlimit, ' connections') where r.rolconnlimit {>=} 0),
           (select {concat}('password valid until ', r.rolvaliduntil) where r.rolvaliduntil is not null))
           as "Attributes",
       {array_to_string}(array(select g.rolname from {pg_auth_members} m join {pg_roles} g on g.oid {=} m.roleid
            where m.member {=} r.oid order by g.rolname), ', ') as "Member of",
       {shobj_description}(r.oid, 'pg_authid') as "Comment", {count}(*) over () as total
  from {pg_roles} r
 where ]] .. only_named "r.rolname" .. [[ and ($3::{bool} or r.rolname {!~} '^pg_') and ($4::{bool} or true)
   and $5::{text} is null order by r.rolname limit 1000]]

local DATABASES <const> = [[
select d.datname::{text} as "Name", {pg_get_userbyid}(d.datdba)::{text} as "Owner",
       {pg_encoding_to_char}(d.encoding)::{text} as "Encoding", d.datcollate::{text} as "Collation",
       d.datctype::{text} as "Character type", {array_to_string}(d.datacl, E'\n') as "Privileges",
       case when $4::{bool} then case when {has_database_privilege}(d.oid, 'connect')
            then {pg_size_pretty}({pg_database_size}(d.oid)) else 'no access' end end as "Size",
       {shobj_description}(d.oid, 'pg_database') as "Comment", {count}(*) over () as total
  from {pg_database} d
 where ]] .. only_named "d.datname" .. [[ and ($3::{bool} or true) and $5::{text} is null
 order by d.datname limit 1000]]

local EXTENSIONS <const> = [[
select e.extname::{text} as "Name", e.extversion as "Version",
       a.version as "Installed on the server", n.nspname::{text} as "Schema",
       {obj_description}(e.oid, 'pg_extension') as "Comment", {count}(*) over () as total
  from {pg_extension} e join {pg_namespace} n on n.oid {=} e.extnamespace
  left join lateral (select a.default_version as version from {pg_available_extensions}() a
      where a.name {=} e.extname and a.default_version {<>} e.extversion) a on true
 where ]] .. only_named "e.extname" .. [[ and ($3::{bool} or true) and ($4::{bool} or true) and $5::{text} is null
 order by e.extname limit 1000]]

local TYPES <const> = [[
select n.nspname::{text} as "Schema", {format_type}(t.oid, null) as "Name",
       case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'c' then 'composite' when 'r' then 'range'
            when 'm' then 'multirange' when 'p' then 'pseudo' else 'base' end as "Kind",
       coalesce((select {string_agg}(e.enumlabel, ', ' order by e.enumsortorder) from {pg_enum} e
            where e.enumtypid {=} t.oid),
           (select {concat_ws}(' ', {format_type}(t.typbasetype, t.typtypmod),
                (select 'not null' where t.typnotnull), 'default ' {||} t.typdefault,
                (select {string_agg}({pg_get_constraintdef}(k.oid, true), ' ') from {pg_constraint} k
                  where k.contypid {=} t.oid and k.contype {=} 'c')) where t.typtype {=} 'd')) as "Values",
       case when $4::{bool} then {pg_get_userbyid}(t.typowner)::{text} end as "Owner",
       {obj_description}(t.oid, 'pg_type') as "Comment", {count}(*) over () as total
  from {pg_type} t join {pg_namespace} n on n.oid {=} t.typnamespace
 where (t.typrelid {=} 0 or exists (select from {pg_class} c where c.oid {=} t.typrelid and c.relkind {=} 'c'))
   and not exists (select from {pg_type} e where e.oid {=} t.typelem and e.typarray {=} t.oid)
   and ($5::{text} is null or {strpos}($5::{text}, t.typtype::{text}) {>} 0) and ]]
    .. named("t.typname", "n.nspname", "{pg_type_is_visible}(t.oid)") .. [[
 order by n.nspname, 2 limit 1000]]

local PRIVILEGES <const> = [[
select n.nspname::{text} as "Schema", c.relname::{text} as "Name",
       case c.relkind when 'r' then 'table' when 'v' then 'view' when 'm' then 'materialized view'
            when 'S' then 'sequence' when 'f' then 'foreign table' else 'partitioned table' end as "Type",
       case when {array_length}(c.relacl, 1) is null and c.relacl is not null then '(none)'
            else {array_to_string}(c.relacl, E'\n') end as "Privileges",
       {array_to_string}(array(select a.attname {||} ': ' {||} {array_to_string}(a.attacl, ', ') from {pg_attribute} a
            where a.attrelid {=} c.oid and not a.attisdropped and a.attacl is not null), E'\n') as "Of columns",
       {array_to_string}(array(select p.polname from {pg_policy} p where p.polrelid {=} c.oid order by 1), ', ')
            as "Policies", {count}(*) over () as total
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
 where c.relkind {=} any ('{r, v,m,S,f,p}') and ($4::{bool} or true) and $5::{text} is null and ]]
    .. named("c.relname", "n.nspname", "{pg_table_is_visible}(c.oid)") .. [[
 order by n.nspname, c.relname limit 1000]]

---@class dbrun.prompt.List
---@field title string
---@field what string what is listed, for "there is no ..."
---@field sql string
---@field kinds? string of relations, or of types

--- By the command's name without the backslash.
---@type table<string, dbrun.prompt.List>
M.LISTS = {
    df = { title = "Functions", what = "function", sql = FUNCTIONS },
    dn = { title = "Schemas", what = "schema", sql = SCHEMAS },
    du = { title = "Roles", what = "role", sql = ROLES },
    l = { title = "Databases", what = "database", sql = DATABASES },
    dx = { title = "Extensions", what = "extension", sql = EXTENSIONS },
    dT = { title = "Types", what = "type", sql = TYPES },
    dD = { title = "Domains", what = "domain", sql = TYPES, kinds = "d" },
    dp = { title = "Privileges", what = "relation", sql = PRIVILEGES },
}
M.LISTS.dg, M.LISTS.z = M.LISTS.du, M.LISTS.dp

local KINDS <const> = { t = "rp", v = "v", m = "m", i = "iI", s = "S", E = "f" }
local NAMES <const> = {
    t = "table", v = "view", m = "materialized view", i = "index", s = "sequence", E = "foreign table",
}
local TITLES <const> = {
    t = "Tables", v = "Views", m = "Materialized views", i = "Indexes", s = "Sequences", E = "Foreign tables",
}

---The list of a command, `dt` or any set of such letters (`dtv`); nil for other commands.
---@param name string without backslash, `S` and `+`
---@return dbrun.prompt.List|nil
function M.find(name)
    if M.LISTS[name] then return M.LISTS[name] end
    if name == "d" then
        return { title = "Relations", what = "relation", sql = RELATIONS, kinds = "rpvmSf" }
    end
    local letters <const> = name:match "^d([tvmisE]+)$"
    if not letters then return nil end
    local kinds = {}
    for letter in letters:gmatch "." do kinds[#kinds + 1] = KINDS[letter] end
    local single <const> = #letters == 1
    return {
        title = single and TITLES[letters] or "Relations", what = single and NAMES[letters] or "relation",
        sql = RELATIONS, kinds = table.concat(kinds),
    }
end

local UNKEPT <const> = { total = true }

---The block of a list.
---@param conn dbrun.Connection
---@param list dbrun.prompt.List
---@param wanted? dbrun.prompt.Pattern
---@param opts { system: boolean, more: boolean }
---@return dbrun.prompt.Block
function M.block(conn, list, wanted, opts)
    local rows <const> = conn:query(catalog.sql(list.sql), wanted and wanted.name, wanted and wanted.schema,
        opts.system, opts.more, list.kinds)
    local block <const> = { title = list.title, columns = {}, rows = {} }
    for at, column in ipairs(rows.columns) do
        local says = at <= 2
        for _, row in ipairs(rows) do says = says or row[column.name] ~= nil and row[column.name] ~= "" end
        if says and not UNKEPT[column.name] then
            local n <const> = #block.columns + 1
            block.columns[n] = column.name
            for i, row in ipairs(rows) do
                block.rows[i] = block.rows[i] or {}
                block.rows[i][n] = row[column.name]
            end
        end
    end
    local total <const> = rows[1] and rows[1].total or 0
    if total > #rows then
        block.sections = { { title = "More", text = ("%d others; a pattern after the command shows fewer"):format(
            total - #rows) } }
    end
    return block
end

return M
