--- How values of a key are written as text, and how scripts see them.
local db_params <const> = require "dbrun.db.params"

local M = {}

--- Types whose text depends on no setting. Other types are written with all settings pinned, because they may contain
--- others, and types of extensions are unknown.
local PLAIN <const> = {}
for name in ([[int2 int4 int8 oid numeric text varchar bpchar name uuid bool char citext inet cidr macaddr macaddr8
    pg_lsn xid8 bit varbit jsonb time]]):gmatch "%S+" do
    PLAIN[name] = true
end

--- Types whose text is a name that depends on search_path, or a number for such a name.
local REGISTERED <const> = {}
for name in ([[regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure
    regrole regtype]]):gmatch "%S+" do
    REGISTERED[name] = true
end

local PINS <const> = {
    { "DateStyle", "ISO" }, { "IntervalStyle", "iso_8601" }, { "TimeZone", "UTC" }, { "bytea_output", "hex" },
    { "extra_float_digits", "1" }, { "lc_monetary", "C" },
}

local function quote(name) return db_params.ident { name } end

---The settings that must be in force when a key is written as text.
---@param columns table[]
---@return string[][] pins none when no type depends on them
function M.pins(columns)
    for _, column in ipairs(columns) do
        if column.kind ~= "e" and not PLAIN[column.base_name] and not REGISTERED[column.base_name] then
            local pins = {}
            for i, pin in ipairs(PINS) do pins[i] = { pin[1], pin[2] } end
            return pins
        end
    end
    return {}
end

---The type that a bound is cast to: never a domain, whose checks are irrelevant for the order, and without a length,
---which would truncate.
---@param column table
---@return string sql
function M.cast(column)
    if REGISTERED[column.base_name] then return '"pg_catalog"."oid"' end
    return quote(column.base_schema) .. "." .. quote(column.base_name)
end

---Whether SQL can compare the column with a list of values; not if it is an array, because there are no arrays of
---arrays.
---@param column table
---@return boolean
function M.has_lists(column)
    return (column.kind == "b" or column.kind == "e") and column.base_name:sub(1, 1) ~= "_"
        and not REGISTERED[column.base_name]
end

---SQL that writes a value as text.
---@param column table
---@param sql string
---@return string sql
function M.text(column, sql)
    if REGISTERED[column.base_name] then sql = ('cast(%s as "pg_catalog"."oid")'):format(sql) end
    return ('cast(%s as "pg_catalog"."text")'):format(sql)
end

local INTEGERS <const> = { int2 = true, int4 = true, int8 = true, oid = true }
local FLOATS <const> = { NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge }

---A bound as scripts see it: numbers and booleans as they come from a query, all else as text.
---@param column table
---@param text string
---@return any
function M.value(column, text)
    local name <const> = column.base_name
    if column.base_schema ~= "pg_catalog" then return text end
    if INTEGERS[name] then return math.tointeger(tonumber(text)) or text end
    if name == "float4" or name == "float8" then return FLOATS[text] or tonumber(text) or text end
    if name == "bool" then return text == "true" or text == "t" end
    return text
end

return M
