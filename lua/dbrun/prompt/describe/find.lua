--- The relations that match a pattern, and the message when none does.
local catalog <const> = require "dbrun.db.catalog"
local nearest <const> = require "dbrun.nearest"
local pattern <const> = require "dbrun.prompt.pattern"
local tty <const> = require "dbrun.tty"

local M = {}

---@class dbrun.prompt.Relation
---@field oid integer
---@field schema string
---@field name string
---@field kind string pg_class.relkind
---@field visible boolean found without its schema
---@field locked_by? integer process of another session that holds, or waits for, an exclusive lock on it or its table

--- A pattern without a schema means what the search_path finds.
local FIND <const> = catalog.sql [[
select c.oid::{int8} as oid, n.nspname::{text} as schema, c.relname::{text} as name, c.relkind::{text} as kind,
       {pg_table_is_visible}(c.oid) as visible,
       (select l.pid from {pg_locks} l where l.mode {=} 'AccessExclusiveLock' and l.pid {<>} {pg_backend_pid}()
           and l.database {=} (select d.oid from {pg_database} d where d.datname {=} {current_database}())
           and l.relation {=} coalesce((select i.indrelid from {pg_index} i where i.indexrelid {=} c.oid), c.oid)
         order by l.granted desc limit 1) as locked_by
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
 where ($1::{text} is null or c.relname {~} ($1::{text} collate {default}))
   and case when $2::{text} is null then {pg_table_is_visible}(c.oid)
            else n.nspname {~} ($2::{text} collate {default}) end
   and ($3 or (n.nspname {<>} 'pg_catalog' and n.nspname {<>} 'information_schema' and n.nspname {!~} '^pg_toast'))
 order by n.nspname, c.relname limit $4]]

---Whether the pattern includes system objects: `pg_class`, `pg_*` and `pg_catalog.*` do, `*` and `p*` do not.
---@param wanted dbrun.prompt.Pattern
---@return boolean
function M.wants_system(wanted)
    return wanted.schema ~= nil or wanted.plain ~= nil or wanted.name ~= nil and wanted.name:find "^%^%(pg_" ~= nil
end

---The relations that match.
---@param conn dbrun.Connection
---@param wanted dbrun.prompt.Pattern
---@param opts? { system?: boolean, limit?: integer }
---@return dbrun.prompt.Relation[]
function M.relations(conn, wanted, opts)
    opts = opts or {}
    return conn:query(FIND, wanted.name, wanted.schema, opts.system or M.wants_system(wanted), opts.limit or 1000)
end

--- Names that may be meant: those of user relations, and other objects with the name.
local ELSEWHERE <const> = catalog.sql [[
select 'relation' as what, n.nspname::{text} as schema, c.relname::{text} as name,
       {pg_table_is_visible}(c.oid) as visible
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
 where c.relkind {=} any ('{r, p,v,m,f,S}') and n.nspname {!~} '^pg_' and n.nspname {<>} 'information_schema'
 union all
(select 'function', n.nspname, p.proname, {pg_function_is_visible}(p.oid)
  from {pg_proc} p join {pg_namespace} n on n.oid {=} p.pronamespace
 where p.proname {=} $1 and {pg_function_is_visible}(p.oid) limit 1)
 union all
(select 'type', n.nspname, t.typname, {pg_type_is_visible}(t.oid)
  from {pg_type} t join {pg_namespace} n on n.oid {=} t.typnamespace
 where t.typname {=} $1 and t.typrelid {=} 0 and {pg_type_is_visible}(t.oid) limit 1)
 union all
select 'schema', n.nspname, n.nspname, true from {pg_namespace} n where n.nspname {=} $1
 limit 20000]]

local function full(row)
    local name <const> = pattern.quote(row.name)
    return row.visible and name or pattern.quote(row.schema) .. "." .. name
end

--- Up to `most` names, nearest first.
local function similar(word, rows, most)
    local names, by_name, found = {}, {}, {}
    for _, row in ipairs(rows) do
        if row.what == "relation" then
            if not by_name[row.name] then names[#names + 1] = row.name end
            by_name[row.name] = by_name[row.name] or row
        end
    end
    table.sort(names)
    while #found < most do
        local name <const> = nearest.find(word, names)
        if not name then break end
        found[#found + 1] = full(by_name[name])
        for i, other in ipairs(names) do
            if other == name then
                table.remove(names, i)
                break
            end
        end
    end
    if #found == 0 and #word >= 3 then -- a part of a name
        for _, name in ipairs(names) do
            if #found < most and name:lower():find(word:lower(), 1, true) then
                found[#found + 1] = full(by_name[name])
            end
        end
    end
    return found
end

local OTHER <const> = { ["function"] = "\\df", type = "\\dT", schema = "\\dt" }

---The error when no relation matches.
---@param conn dbrun.Connection
---@param wanted dbrun.prompt.Pattern
---@return string message
---@return string? hint
function M.missing(conn, wanted)
    local message <const> = ("there is no relation %s"):format(tty.printable(wanted.text))
    local word <const> = wanted.plain
    if not word then return message, "\\d lists all." end
    local rows <const> = conn:query(ELSEWHERE, word)
    local same = {}
    for _, row in ipairs(rows) do
        if row.what == "relation" and row.name:lower() == word:lower() then same[#same + 1] = full(row) end
    end
    if #same > 0 then
        return message, ("There is %s."):format(tty.printable(table.concat(same, ", ", 1, math.min(#same, 3))))
    end
    for _, row in ipairs(rows) do
        if row.what ~= "relation" then
            return message, ("It is a %s: %s %s"):format(row.what, OTHER[row.what],
                tty.printable(pattern.quote(row.name) .. (row.what == "schema" and ".*" or "")))
        end
    end
    local names <const> = similar(word, rows, 3)
    if #names == 0 then return message, "\\d lists all." end
    return message, ("Did you mean %s?"):format(tty.printable(table.concat(names, ", ")))
end

return M
