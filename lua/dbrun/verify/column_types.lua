--- Types of columns in expectations, as format_type writes them: "varchar(20)[]" is "character varying(20)[]".
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"

local M = {}

---Other names of types, without parentheses.
local ALIASES <const> = {
    int = "integer", int4 = "integer", int8 = "bigint", int2 = "smallint", float8 = "double precision", float4 = "real",
    float = "double precision", bool = "boolean", decimal = "numeric", dec = "numeric", varchar = "character varying",
    ["char varying"] = "character varying", ["national character varying"] = "character varying",
    ["national char varying"] = "character varying", ["nchar varying"] = "character varying",
    char = "character", nchar = "character", ["national character"] = "character", ["national char"] = "character",
    varbit = "bit varying", timestamptz = "timestamp with time zone", timestamp = "timestamp without time zone",
    timetz = "time with time zone", time = "time without time zone", serial = "integer", serial4 = "integer",
    bigserial = "bigint", serial8 = "bigint", smallserial = "smallint", serial2 = "smallint",
}

---The default for the parentheses of a type.
local USUAL <const> = { character = "1", bit = "1" }

---The parts of a type: its name, the content of its parentheses, and "[]" for an array.
local function split(text)
    local array, modifier
    text = text:gsub("%s*%[[%d%s]*%]", function()
        array = "[]"
        return ""
    end)
    text = text:gsub("%s+[aA][rR][rR][aA][yY]%s*$", function()
        array = "[]"
        return ""
    end)
    text = text:gsub("%s*%(([%d%s,-]*)%)", function(inside)
        modifier = inside:gsub("%s+", "")
        return " "
    end)
    return text:gsub("%s+", " "):match "^%s*(.-)%s*$", modifier, array or ""
end

---A name with its modifier, which format_type writes before "with time zone".
local function join(name, modifier, array)
    if not modifier then return name .. array end
    local word, zone = name:match "^(.-)( %a+ time zone)$"
    return ("%s(%s)%s%s"):format(word or name, modifier, zone or "", array)
end

---@param text string a type as SQL writes it
---@return string
function M.canonical(text)
    local name, modifier, array = split(text)
    local lower = name:lower()
    if lower == "float" and modifier then
        name, modifier = (tonumber(modifier) or 0) <= 24 and "real" or "double precision", nil
    elseif not name:find '"' then
        name = ALIASES[lower] or lower
    end
    if name == "numeric" and modifier and not modifier:find "," then modifier = modifier .. ",0" end
    return join(name, modifier or USUAL[name], array)
end

local RESOLVE <const> = catalog.sql "select {format_type}({to_regtype}($1), null)"

---The server's errors for a text that is not a type, and for a type in a schema that does not exist.
local NO_TYPE <const> = { ["42601"] = true, ["42704"] = true, ["3F000"] = true, ["22023"] = true, ["0A000"] = true }

---Whether a column's type is the expected one. The server is asked only for names that are unknown here: types of the
---project, which can have a schema.
---@param conn table
---@param there string of format_type
---@param wanted string
---@return boolean
function M.same(conn, there, wanted)
    if M.canonical(wanted) == there then return true end
    local name, modifier, array = split(wanted)
    if not name:find '[."]' then return false end
    local ok, found = pcall(conn.value, conn, RESOLVE, name)
    if not ok then
        if not errors.is(found) or not NO_TYPE[found.sqlstate] then error(found, 0) end
        return false
    end
    return type(found) == "string" and join(found, modifier, array) == there
end

return M
