--- The other tool's table of applied migrations: where it is, and how it is renamed if dbrun's table needs its name.
local errors = require "dbrun.error"

local M = {}

---@class dbrun.migrate.import.Place the other tool's table
---@field sql string schema and name, quoted
---@field schema string
---@field name string
---@field exists boolean

-- $1: the columns that identify the tool's table
local TABLES <const> = [[
select n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as sql,
       (select pg_catalog.count(*) from pg_catalog.pg_attribute a where a.attrelid = c.oid
           and a.attnum > 0 and not a.attisdropped and a.attname = any ($1)) = pg_catalog.cardinality($1) as fits
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v') and ]]
local NAMED <const> = TABLES .. [[c.relname = $2
   and (n.nspname = $3 or $3 is null and pg_catalog.pg_table_is_visible(c.oid))]]
local OTHERS <const> = "select schema, name, sql from (" .. TABLES .. [[
    n.nspname not in ('pg_catalog', 'information_schema') and c.relkind <> 'v') t where fits order by sql]]

---The new name of the tool's table when dbrun's table takes its name.
---@param tool table
---@param name string
---@return string
local function aside(tool, name)
    return name .. "_" .. tool.NAME:gsub("%-", "_")
end

---Raises when the tool's table has another name or is in another schema: otherwise nothing would count as applied.
local function check_others(conn, tool, columns)
    local found = {}
    for _, row in ipairs(conn:query(OTHERS, columns)) do
        if row.name ~= aside(tool, tool.TABLE) then found[#found + 1] = row.sql end
    end
    if #found == 0 then return end
    errors.fail("query", ("there is no %s in the search_path, but %s, with the columns of %s"):format(tool.TABLE,
        table.concat(found, " and "), tool.NAME), ("--from-table %s takes what it says is applied; if it is not about "
        .. "these files: --files-only"):format(found[1]:gsub('"', "")))
end

---Looks for the tool's table.
---@param conn table
---@param tool table the module of the tool
---@param from_table? string its name, with its schema or in the search_path (default: the usual name)
---@return dbrun.migrate.import.Place
---Raises when the named table does not exist or is not the tool's, and when the tool's table seems to be elsewhere.
function M.find(conn, tool, from_table)
    local name <const> = from_table or tool.TABLE
    local columns <const> = require("dbrun.db").array(tool.COLUMNS, "text")
    local schema, rest = name:match "^([^.]+)%.(.+)$"
    local row = conn:one(NAMED, columns, rest or name, schema)
    if row and row.fits then
        row.exists = true
        return row
    end
    -- A table of versions is dbrun's own, or is checked by dbrun itself.
    if from_table or row and not tool.SHARES_NAME then
        errors.fail("config", row and ("%s has not the columns of %s (%s)"):format(row.sql, tool.NAME,
            table.concat(tool.COLUMNS, ", "))
            or ("there is no table %s with the columns of %s"):format(name, tool.NAME))
    end
    check_others(conn, tool, columns)
    return { exists = false }
end

local PRIMARY_KEY <const> = [[
select conname::pg_catalog.text as name from pg_catalog.pg_constraint
 where conrelid = $1::pg_catalog.regclass and contype = 'p']]
local IS_THERE <const> = "select pg_catalog.to_regclass($1) is not null"

local function quote(name)
    return '"' .. name:gsub('"', '""') .. '"'
end

---Renames the other tool's table when it has the name of dbrun's.
---@param tx table
---@param place dbrun.migrate.import.Place
---@param tool table
---@param book dbrun.migrate.Ledger dbrun's table
---@return string? name what it is called now
function M.move_aside(tx, place, tool, book)
    if not place.exists or place.name ~= book.name or place.schema ~= book.schema then return nil end
    local name <const> = aside(tool, place.name)
    if tx:value(IS_THERE, quote(place.schema) .. "." .. quote(name)) then
        errors.fail("query", ("%s has the name of dbrun's table, and %s, as it would be called, is there too"):format(
            place.sql, name), "rename or drop that one, or give dbrun's another name with --table")
    end
    local key = tx:value(PRIMARY_KEY, place.sql)
    if key then
        tx:exec(("alter table %s rename constraint %s to %s"):format(place.sql, quote(key), quote(name .. "_pkey")))
    end
    tx:exec(("alter table %s rename to %s"):format(place.sql, quote(name)))
    return name
end

return M
