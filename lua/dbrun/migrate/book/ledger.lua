--- The table that says which migrations were applied: schema_migrations(version), as dbmate keeps it. Every function
--- takes a connection (or an engine): anything with `query`, `one`, `value` and `exec`.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

---@class dbrun.migrate.Ledger
---@field schema string
---@field name string
---@field sql string both, quoted
---@field exists boolean
---@field schema_exists boolean

M.DEFAULT_TABLE = "schema_migrations"

---The default place of the table, and whether it exists. (pg_settings would also show whether the URL set the
---search_path, but it reads every setting of the server.)
local LOCATE <const> = catalog.sql [[
select s.name as schema, {current_schema}()::{text} as current, {current_setting}('search_path') as path,
       {to_regclass}({quote_ident}(s.name) {||} '.' {||} {quote_ident}($1)) is not null as has_table,
       {to_regnamespace}({quote_ident}(s.name)) is not null as has_schema
  from (select coalesce({current_schema}()::{text}, 'public') as name) s]]

local PATH_OF_URL <const> = catalog.sql [[
select exists (select from {pg_settings} where name {=} 'search_path' and source {=} 'client')]]

local LOOK <const> = catalog.sql [[
select {to_regclass}($1) is not null as has_table, {to_regnamespace}($2) is not null as has_schema]]

local function quote(identifier)
    return '"' .. identifier:gsub('"', '""') .. '"'
end

---The first entry of a search_path as it is written: `"My App", public` -> My App.
local function first_of(path)
    local quoted = path:match '^%s*"(.-)"%s*,' or path:match '^%s*"(.*)"%s*$'
    if quoted then return (quoted:gsub('""', '"')) end
    return path:match "^%s*([^,]-)%s*," or path:match "^%s*(.-)%s*$"
end

---The first schema of the URL's search_path if it is not the current schema, because it may have to be made.
local function asked_for(conn, row)
    local first = first_of(row.path)
    if first == "" or first == "$user" or first == row.current then return nil end
    return conn:value(PATH_OF_URL) and first or nil
end

---Finds the table: the schema is the one in its name, else the first of the search_path in the URL, else the server's
---current schema, else public.
---@param conn table
---@param name string "schema_migrations" or "schema.table"
---@return dbrun.migrate.Ledger
function M.locate(conn, name)
    local function ledger(schema, table_name)
        return { schema = schema, name = table_name, sql = quote(schema) .. "." .. quote(table_name) }
    end
    local schema, rest = name:match "^([^.]+)%.(.+)$"
    if schema then return M.refresh(conn, ledger(schema, rest)) end
    local row = conn:one(LOCATE, name)
    local asked = asked_for(conn, row)
    if asked then return M.refresh(conn, ledger(asked, name)) end
    local found = ledger(row.schema, name)
    found.exists, found.schema_exists = row.has_table, row.has_schema
    return found
end

---Checks again whether table and schema exist.
---@param conn table
---@param ledger dbrun.migrate.Ledger
---@return dbrun.migrate.Ledger ledger the same one
function M.refresh(conn, ledger)
    local row = conn:one(LOOK, ledger.sql, quote(ledger.schema))
    ledger.exists, ledger.schema_exists = row.has_table, row.has_schema
    return ledger
end

---Makes the table, and its schema, where they are missing.
---@param conn table
---@param ledger dbrun.migrate.Ledger
function M.create(conn, ledger)
    if ledger.exists then return end
    if not ledger.schema_exists then
        conn:exec("create schema if not exists " .. quote(ledger.schema))
    end
    conn:exec(("create table if not exists %s (version varchar primary key)"):format(ledger.sql))
    ledger.exists, ledger.schema_exists = true, true
end

---The versions that were applied.
---@param conn table
---@param ledger dbrun.migrate.Ledger
---@return table<string, true>
function M.applied(conn, ledger)
    local set = {}
    if not ledger.exists then return set end
    for _, row in ipairs(conn:query(catalog.sql "select version::{text} as version from " .. ledger.sql)) do
        set[row.version] = true
    end
    return set
end

---@param conn table
---@param ledger dbrun.migrate.Ledger
---@param version string
function M.insert(conn, ledger, version)
    conn:query(("insert into %s (version) values ($1)"):format(ledger.sql), version)
end

---@param conn table
---@param ledger dbrun.migrate.Ledger
---@param version string
function M.delete(conn, ledger, version)
    conn:query((catalog.sql "delete from %s where version::{text} {=} $1"):format(ledger.sql), version)
end

return M
