--- One value as a text, or as JSON.
local core <const> = require "dbrun.core"
local nested <const> = require "dbrun.table.nested"

local M = {}

local NULL <const> = core.null

---@class dbrun.table.Column
---@field name string
---@field key? any where rows have it: a name, or a position
---@field type? string the type's name, such as "int8"
---@field oid? integer the type
---@field number? boolean|nil numbers are aligned right; nil: depends on the values
---@field bytes? boolean a bytea

local NUMBERS <const> = {
    int2 = "number", int4 = "number", int8 = "number", float4 = "float", float8 = "float", numeric = "number",
    oid = "number", xid = "number", cid = "number", money = "text", smallint = "number", integer = "number",
    int = "number", bigint = "number", real = "float", ["double precision"] = "float", decimal = "number",
    number = "number", smallserial = "number", serial = "number", bigserial = "number",
}
local OIDS <const> = { [20] = "int8", [21] = "int2", [23] = "int4", [26] = "oid", [700] = "float4", [701] = "float8",
    [790] = "money", [1700] = "numeric", [16] = "bool", [17] = "bytea", [114] = "json", [3802] = "jsonb" }

---The type's name without its modifier: "numeric(10,2)" is numeric.
---@param column dbrun.table.Column
---@return string|nil
local function type_of(column)
    local name <const> = column.type or OIDS[column.oid]
    return name and name:gsub("%s*%b()", ""):lower()
end

---Records how values of the type are shown.
---@param column dbrun.table.Column
function M.describe(column)
    local name <const> = type_of(column)
    column.kind = name and (NUMBERS[name] or (name == "bool" or name == "boolean") and "bool"
        or (name == "json" or name == "jsonb") and "json" or name == "bytea" and "bytea" or "text")
    if name then column.number = NUMBERS[name] ~= nil end
    column.bytes = name == "bytea"
end

---@param v any
---@return boolean
function M.is_null(v)
    return v == nil or v == NULL
end

local function hex(bytes)
    return "\\x" .. bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

--- The shortest text for the number, as PostgreSQL writes it, independent of the locale.
local function number_text(n)
    if math.type(n) == "integer" then
        return ("%d"):format(n)
    elseif n ~= n then
        return "NaN"
    elseif n == math.huge or n == -math.huge then
        return n > 0 and "Infinity" or "-Infinity"
    end
    return (core.json.encode(n):gsub("%.0$", ""))
end

---A value as a text, which can contain any bytes. Not for NULL.
---@param v any
---@param column dbrun.table.Column
---@return string
function M.text(v, column)
    local kind <const> = type(v)
    if kind == "string" then
        if column.bytes and not column.as_text then return hex(v) end
        return v
    elseif kind == "number" then
        return number_text(v)
    elseif kind == "table" then
        local meta <const> = getmetatable(v)
        if type(meta) == "table" and meta.__name and meta.__tostring then return tostring(v) end
        return nested.text(v)
    end
    return tostring(v)
end

---A JSON text in one line. Line ends stand only between the values of a JSON text.
---@param json string
---@return string
function M.one_line_json(json)
    return (json:gsub("[\r\n]", " "))
end

--- The server's text of a value as JSON, by its type.
local function server_json(text, kind)
    if kind == "number" and text:find "^%-?%d+%.?%d*$" then
        return text
    elseif kind == "float" and text:find "^%-?%d[%d.]*e?[+-]?%d*$" then
        return text
    elseif kind == "bool" and (text == "t" or text == "f") then
        return text == "t" and "true" or "false"
    elseif kind == "json" then
        return M.one_line_json(text)
    end
    return nil
end

--- Control characters that JSON does not require to escape.
local CONTROLS <const> = {
    "\x7f", "\xc2[\x80-\x9f]", "\xd8\x9c", "\xe2\x80[\x8e\x8f\xa8-\xae]", "\xe2\x81[\xa6-\xa9]",
    "\xef\xbb\xbf",
}
local function escaped(c) return ("\\u%04x"):format(utf8.codepoint(c)) end

---A JSON text with all control characters escaped, even those that JSON allows. A parser reads the same value.
---@param json string
---@return string
function M.printable_json(json)
    if json:find "[\x7f\xc2\xd8\xe2\xef]" then
        for _, control in ipairs(CONTROLS) do json = json:gsub(control, escaped) end
    end
    return json
end

---A value as JSON in one line. Bytes that are not UTF-8 become PostgreSQL's text of a bytea, NaN and infinities
---strings.
---@param v any
---@param column dbrun.table.Column
---@return string
function M.json(v, column)
    local kind <const> = type(v)
    if v == nil or v == NULL then
        return "null"
    elseif kind == "string" then
        local json <const> = column.as_text and server_json(v, column.kind)
        if json then return json end
        if column.bytes and not column.as_text or not utf8.len(v) then v = hex(v) end
        return core.json.encode(v)
    elseif kind == "number" then
        local text <const> = number_text(v)
        return text:find "^%-?%d" and core.json.encode(v) or '"' .. text .. '"'
    elseif kind == "boolean" then
        return tostring(v)
    elseif kind == "table" then
        return nested.json(v)
    end
    return core.json.encode(core.text.escape(tostring(v)))
end

return M
