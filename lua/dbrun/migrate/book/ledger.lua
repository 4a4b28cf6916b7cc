--- The table of applied migrations: schema_migrations(version), as dbmate keeps it. Every function
--- takes a connection (or an engine): anything with `query`, `one`, `value` and `exec`.
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"

local M = {}

---@class dbrun.migrate.Ledger
---@field schema string
---@field name string
---@field sql string both, quoted
---@field exists boolean
---@field schema_exists boolean

M.DEFAULT_TABLE = "schema_migrations"

---A letter for each column of the table `t.id`: v for `version`, a text, as dbmate and dbrun make it, x for others.
local LETTERS <const> = [[
(select {string_agg}(case when a.attname {=} 'version' and (a.atttypid {=} 1043 or a.atttypid {=} 25)
    then 'v' else 'x' end, '') from {pg_attribute} a
  where a.attrelid {=} t.id and a.attnum {>} 0 and not a.attisdropped)]]

---The default place of the table, and whether it exists. (pg_settings would also show whether the URL set the
---search_path, but it reads every setting of the server.)
local LOCATE <const> = catalog.sql(([[
select s.name as schema, {current_schema}()::{text} as current, {current_setting}('search_path') as path,
       t.id is not null as has_table, {to_regnamespace}({quote_ident}(s.name)) is not null as has_schema,
       (select n.nspname::{text} from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
         where c.oid {=} {to_regclass}({quote_ident}($1))::{oid}) as shown, %s as columns
  from (select coalesce({current_schema}()::{text}, 'public') as name) s,
       lateral (select {to_regclass}({quote_ident}(s.name) {||} '.' {||} {quote_ident}($1)) as id) t]]):format(LETTERS))

---The columns of the table, and those that an insert of only a version would leave without a value.
local COLUMNS <const> = catalog.sql [[
select a.attname::{text} as name, t.typcategory {=} 'S' as is_text,
       a.attnotnull and not a.atthasdef and a.attidentity {=} '' as must_be_given
  from {pg_attribute} a join {pg_type} t on t.oid {=} a.atttypid
 where a.attrelid {=} {to_regclass}($1) and a.attnum {>} 0 and not a.attisdropped order by a.attnum]]

---Columns that identify tables of other tools. A team may have added columns with defaults to its own table.
local OTHERS <const> = {
    dirty = "golang-migrate", inserted_at = "Ecto", run_on = "Diesel", version_id = "goose", is_applied = "goose",
    installed_rank = "Flyway", version_num = "Alembic", execution_time = "sqlx", installed_on = "sqlx",
}
local IMPORTED <const> = { goose = true, ["golang-migrate"] = true, Flyway = true, Alembic = true }

---Raises when the table belongs to another tool: dbrun would mistake its versions for those of its own files.
local function check_columns(conn, ledger, letters)
    if not ledger.exists or letters == "v" then return end
    local tool, wrong, has_version
    for _, column in ipairs(conn:query(COLUMNS, ledger.sql)) do
        if column.name == "version" then
            has_version = true
            if not column.is_text then wrong = wrong or "its column version is not text" end
        else
            tool = tool or OTHERS[column.name]
            if OTHERS[column.name] or column.must_be_given then
                wrong = wrong or ("it has a column %s"):format(column.name)
            end
        end
    end
    if has_version and not wrong then return end
    local import = "'dbrun migrate import' takes over the files and the state of some tools"
    if IMPORTED[tool] then
        import = ("'dbrun migrate import %s --from FOLDER' takes over its files and its state"):format(tool:lower())
    end
    errors.fail("config", ("the table %s is not one of dbmate or dbrun: %s%s"):format(ledger.sql,
        wrong or "it has no column version", tool and (", as that of %s"):format(tool) or ""),
        import .. "; or name another table with --table")
end

local PATH_OF_URL <const> = catalog.sql [[
select exists (select from {pg_settings} where name {=} 'search_path' and source {=} 'client')]]

local LOOK <const> = catalog.sql(([[
select t.id is not null as has_table, {to_regnamespace}($2) is not null as has_schema, %s as columns
  from (select {to_regclass}($1) as id) t]]):format(LETTERS))

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

---Raises when there is no table in the current schema and the search_path shows one in a later schema: a schema that
---was made since, with the name of the role ("$user"), would hide all that was applied, and each migration would run
---again.
local function check_hidden(conn, found, shown)
    if found.exists or not shown or conn:value(PATH_OF_URL) then return end
    errors.fail("config", ("the current schema %s has no table %s, and the search_path shows that of the schema %s: "
        .. "its migrations would run again"):format(quote(found.schema), quote(found.name), quote(shown)),
        ("search_path=%s in the URL goes on with that one, or --table %s.%s (dbmate: --migrations-table); "
            .. "--table %s.%s begins anew"):format(shown, shown, found.name, found.schema, found.name))
end

---Finds the table: the schema is the one in its name, else the first of the search_path in the URL, else the server's
---current schema, else public.
---@param conn table
---@param name string "schema_migrations" or "schema.table"
---@param foreign? boolean the table may be another tool's
---@return dbrun.migrate.Ledger
---Raises an error of kind `config` when the table is another tool's.
function M.locate(conn, name, foreign)
    local function ledger(schema, table_name)
        return { schema = schema, name = table_name, sql = quote(schema) .. "." .. quote(table_name) }
    end
    local schema, rest = name:match "^([^.]+)%.(.+)$"
    if schema then return M.refresh(conn, ledger(schema, rest), foreign) end
    local row = conn:one(LOCATE, name)
    local asked = asked_for(conn, row)
    if asked then return M.refresh(conn, ledger(asked, name), foreign) end
    local found = ledger(row.schema, name)
    found.exists, found.schema_exists = row.has_table, row.has_schema
    if not foreign then
        check_hidden(conn, found, row.shown)
        check_columns(conn, found, row.columns)
    end
    return found
end

---Checks again whether table and schema exist.
---@param conn table
---@param ledger dbrun.migrate.Ledger
---@param foreign? boolean the table may be another tool's
---@return dbrun.migrate.Ledger ledger the same one
function M.refresh(conn, ledger, foreign)
    local row = conn:one(LOOK, ledger.sql, quote(ledger.schema))
    ledger.exists, ledger.schema_exists = row.has_table, row.has_schema
    if not foreign then check_columns(conn, ledger, row.columns) end
    return ledger
end

---Makes the table and its schema if they are missing.
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
