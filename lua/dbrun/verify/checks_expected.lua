--- Expectations about columns, indexes and privileges of tables, and about extensions. One query reads all tables, and
--- only when there is something to compare.
local catalog = require "dbrun.db.catalog"
local column_types = require "dbrun.verify.column_types"
local expect = require "dbrun.verify.expect"
local relations = require "dbrun.verify.relations"
local server_check = require "dbrun.verify.server_check"

local M = {}

local DETAILS <const> = catalog.sql(([[
select t.name, coalesce(t.role, current_user) as role, t.at is not null as there,
       array(select array[attname::{text}, {format_type}(atttypid, atttypmod), attnotnull::{text}] from {pg_attribute}
              where attrelid {=} t.at and attnum {>} 0 and not attisdropped) as columns,
       array(select array[(select relname::{text} from {pg_class} where oid {=} indexrelid),
                          {pg_get_indexdef}(indexrelid), (indisvalid and indisready)::{text}]
               from {pg_index} where indrelid {=} t.at) as indexes,
       t.no_role, case when not t.no_role then %s::{regnamespace}::{text} end as closed,
       array(select p from {unnest}({string_to_array}(t.privileges, ',')) p
              where t.at is not null
                and not case when p {=} 'MAINTAIN' and {current_setting}('server_version_num')::int {<} 170000
                             then false
                             when t.role is null then {has_table_privilege}(t.at, p)
                             when t.no_role then false
                             else {has_table_privilege}(t.role::{name}, t.at, p) end) as lacking
  from (select name, role, privileges, %s as at,
               role is not null and {to_regrole}({quote_ident}(role)) is null as no_role
          from rows from ({unnest}($1::{text}[]), {unnest}($2::{text}[]), {unnest}($3::{text}[]))
               f (name, role, privileges) offset 0) t]]):format(
    relations.closed("t.at", "coalesce(t.role, current_user)"), relations.named "name"))

local function words(text)
    local list = {}
    for word in (text or ""):gmatch "[^,%s]+" do list[#list + 1] = word:upper() end
    return table.concat(list, ",")
end

---The tables with expectations beside their name, and their state on the server; read once.
local function details(ctx)
    if ctx.details then return ctx.details end
    local db = require "dbrun.db"
    local facts, names, roles, privileges = {}, {}, {}, {}
    for _, fact in ipairs(ctx.expect.tables) do
        if fact.columns or fact.indexes or fact.privileges then
            local n = #facts + 1
            facts[n], names[n], roles[n] = fact, fact.table, fact.role or db.null
            privileges[n] = fact.privileges and words(fact.privileges) or db.null
        end
    end
    local rows = #facts == 0 and {} or ctx.conn:query(DETAILS, db.array(names, "text"), db.array(roles, "text"),
        db.array(privileges, "text"))
    ctx.details = { facts = facts, rows = rows }
    return ctx.details
end

---The work of a check over the tables that have `key`: `compare` returns what a table lacks, as lines.
---@return fun(ctx: dbrun.verify.Context): dbrun.verify.Found|string
local function table_check(key, compare, remedy)
    return function(ctx)
        local found, seen, absent, causes = details(ctx), {}, {}, {}
        for i, fact in ipairs(found.facts) do
            local row = found.rows[i]
            if fact[key] and not row.there then
                absent[#absent + 1] = fact.table -- schema.tables reports that
            elseif fact[key] then
                seen[#seen + 1] = fact.table
                for _, line in ipairs(compare(fact, row, ctx)) do
                    causes[#causes + 1] = ("%s: %s"):format(fact.table, line)
                end
            end
        end
        if #seen == 0 and #absent > 0 then
            return { status = "SKIP", text = "not there: " .. table.concat(absent, ", ") }
        end
        local text = ("as expected in %s"):format(table.concat(seen, ", "))
        if #causes == 0 then return text end
        return { status = "INCOMPLETE", text = ("%d not as expected"):format(#causes),
            cause = table.concat(causes, "\n"), remedy = { remedy, "or correct " .. ctx.expect.file } }
    end
end

-- ---- columns ----

local function compare_columns(fact, row, ctx)
    local there, lines = {}, {}
    for _, column in ipairs(row.columns) do there[column[1]] = { type = column[2], not_null = column[3] == "true" } end
    for _, wanted in ipairs(fact.columns) do
        local name, rest = wanted:match '^%s*"(.-)"%s*(.*)$'
        if not name then name, rest = wanted:match "^%s*(%S+)%s*(.*)$" end
        local type_text, not_null = rest:gsub("%s*[nN][oO][tT]%s+[nN][uU][lL][lL]%s*$", "")
        local column = there[name]
        if not column then
            lines[#lines + 1] = ("no column %s"):format(name)
        elseif type_text ~= "" and not column_types.same(ctx.conn, column.type, type_text) then
            lines[#lines + 1] = ("%s is %s, not %s"):format(name, column.type, column_types.canonical(type_text))
        elseif not_null > 0 and not column.not_null then
            lines[#lines + 1] = ("%s may be null"):format(name)
        end
    end
    return lines
end

M.columns = table_check("columns", compare_columns, "alter the table in a migration")

-- ---- indexes ----

---An expression without the server's additions: "lower((name)::text)" is lower(name).
local function bare(text)
    text = text:lower():gsub("::[%a_ ]+%f[^%a_ ]", ""):gsub('[%s()"]+', "")
    return text
end

---Whether the index has these columns, and is unique if required; and its condition (nil: it has all rows).
local function covers(index, unique, columns)
    if unique and not index[2]:find "^CREATE UNIQUE" then return false end
    local of, rest = index[2]:match "USING [%w_]+ (%b())(.*)$"
    return of ~= nil and bare(of) == bare(columns), rest and rest:match "%sWHERE%s(.*)$"
end

---The parts of "unique (a, b) where c"; the columns are nil for a name.
local function index_parts(wanted)
    local word, columns, rest = wanted:match "^%s*(%a*)%s*(%b())%s*(.-)%s*$"
    local condition = rest and rest:match "^[wW][hH][eE][rR][eE]%f[%W]%s*(.*)$"
    if not columns or rest ~= "" and not condition then return nil end
    if word ~= "" and word:lower() ~= "unique" then return nil end
    return columns, word ~= "", condition
end

---What is wrong with an expected index; nil when it exists. An index with a condition has only some of the rows, so it
---does not match one without.
local function missing_index(row, wanted)
    local columns, unique, condition = index_parts(wanted)
    local but = ""
    for _, index in ipairs(row.indexes) do
        local fits, only = not columns and index[1] == wanted, nil
        if columns then fits, only = covers(index, unique, columns) end
        local same = not columns or bare(only or "") == bare(condition or "")
        if fits and same and index[3] == "true" then return nil end
        if fits and same then
            but = (": the index %s is invalid"):format(index[1])
        elseif fits and but == "" then
            but = ("; %s is %s"):format(index[1], only and "only where " .. only or "for all rows")
        end
    end
    return ("no index %s%s"):format(wanted, but)
end

M.indexes = table_check("indexes", function(fact, row)
    local lines = {}
    for _, wanted in ipairs(fact.indexes) do lines[#lines + 1] = missing_index(row, wanted) end
    return lines
end, "create index concurrently ... in a migration")

-- ---- privileges ----

M.privileges = table_check("privileges", function(_, row)
    if row.no_role then return { ("the role %s does not exist"):format(row.role) } end
    local lines = {}
    if row.closed then lines[1] = ("%s may not use the schema %s"):format(row.role, row.closed) end
    if #row.lacking > 0 then
        local list = table.concat(row.lacking, ", "):gsub("MAINTAIN", "%0 (which PostgreSQL 17 and later have)")
        lines[#lines + 1] = ("%s may not %s"):format(row.role, list)
    end
    return lines
end, "grant ... on TABLE to ROLE; grant usage on schema SCHEMA to ROLE")

-- ---- extensions ----

local EXTENSIONS <const> = catalog.sql [[
select e.name, i.extversion as version,
       (select default_version from {pg_available_extensions}
         where name {=} e.name and i.extversion is null) as available
  from {unnest}($1::{text}[]) e (name) left join {pg_extension} i on i.extname {=} e.name]]

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.extensions(ctx)
    local wanted, names = ctx.expect.extensions, {}
    for i, fact in ipairs(wanted) do names[i] = fact.extension end
    local texts, causes, remedy = {}, {}, {}
    for i, row in ipairs(ctx.conn:query(EXTENSIONS, require("dbrun.db").array(names, "text"))) do
        local version = wanted[i].version
        texts[i] = row.version and ("%s %s"):format(row.name, row.version) or row.name .. " missing"
        if not row.version then
            causes[#causes + 1] = row.name .. (row.available and " is not in this database"
                or " is not installed on the server")
            remedy[#remedy + 1] = row.available and ("create extension %s;"):format(server_check.ident(row.name))
                or "install its package on the server"
        elseif version and not expect.version_fits(row.version, version) then
            causes[#causes + 1] = ("%s is %s, expected %s"):format(row.name, row.version, version)
            remedy[#remedy + 1] = ("alter extension %s update;"):format(server_check.ident(row.name))
        end
    end
    local text = table.concat(texts, ", ")
    if #causes == 0 then return text end
    return { status = "INCOMPLETE", text = text, cause = table.concat(causes, "\n"), remedy = remedy }
end

return M
