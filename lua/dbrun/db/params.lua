--- Parameters of a stated type, and identifiers.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local param <const> = core.pg.param

local M = {}

--- OIDs of the built-in types for db.typed and db.array (pg_type.dat).
local oids <const> = {
    bool = 16, bytea = 17, char = 18, name = 19, int8 = 20, int2 = 21, int4 = 23, text = 25, oid = 26, json = 114,
    xml = 142, cidr = 650, float4 = 700, float8 = 701, money = 790, macaddr = 829, inet = 869, bpchar = 1042,
    varchar = 1043, date = 1082, time = 1083, timestamp = 1114, timestamptz = 1184, interval = 1186, timetz = 1266,
    bit = 1560, varbit = 1562, numeric = 1700, uuid = 2950, jsonb = 3802,
    boolean = 16, bigint = 20, smallint = 21, int = 23, integer = 23, real = 700, ["double precision"] = 701,
    decimal = 1700,
}
local array_oids <const> = {
    [16] = 1000, [17] = 1001, [18] = 1002, [19] = 1003, [20] = 1016, [21] = 1005, [23] = 1007, [25] = 1009,
    [26] = 1028, [114] = 199, [142] = 143, [650] = 651, [700] = 1021, [701] = 1022, [790] = 791, [829] = 1040,
    [869] = 1041, [1042] = 1014, [1043] = 1015, [1082] = 1182, [1083] = 1183, [1114] = 1115, [1184] = 1185,
    [1186] = 1187, [1266] = 1270, [1560] = 1561, [1562] = 1563, [1700] = 1231, [2950] = 2951, [3802] = 3807,
}

local function oid_of(fname, name)
    local oid <const> = oids[name]
    if not oid then
        errors.fail("usage", ("%s: unknown type %q"):format(fname, tostring(name)),
            "Use a built-in type's name, or pass the plain value and cast it in the SQL ($1::mytype).")
    end
    return oid
end

--- The script's encoders (engine:set_codec), by type name: value -> text.
M.encoders = {}

local function text_of(fname, v)
    local t <const> = type(v)
    if t == "string" then
        return v
    elseif t == "number" then
        return core.pg.number_text(v) -- tostring and %g print the decimal point of the locale
    elseif t == "boolean" then
        return v and "t" or "f"
    elseif v == nil or v == core.null then
        return nil
    end
    errors.usage(fname, "a %s cannot be a value", t)
end

---A parameter of a stated type.
---@param v any string, number, boolean, nil or db.null
---@param type_name string a built-in type ("numeric", "timestamptz", ...)
---@return table
function M.typed(v, type_name)
    local encode <const> = M.encoders[type_name]
    if encode then
        return param(text_of("db.typed", encode(v)), 0, false)
    end
    return param(text_of("db.typed", v), oid_of("db.typed", type_name), false)
end

---Raw bytes.
---@param s string
---@return table
function M.bytea(s)
    if type(s) ~= "string" then
        errors.usage("db.bytea", "expected a string, got %s", type(s))
    end
    return param(s, 17, true)
end

---A JSON value; the server takes it as json or jsonb.
---@param v any what dbrun.json encodes
---@return table
function M.json(v)
    return param(require "dbrun.json".encode(v), 0, false)
end

local function array_element(v, depth, out)
    if type(v) == "table" then
        if depth == 6 then
            errors.usage("db.array", "more than 6 dimensions")
        end
        out[#out + 1] = "{"
        for i = 1, #v do
            if i > 1 then
                out[#out + 1] = ","
            end
            array_element(v[i], depth + 1, out)
        end
        out[#out + 1] = "}"
        return
    end
    local text <const> = text_of("db.array", v)
    if text == nil then
        out[#out + 1] = "NULL"
    elseif type(v) == "string" then
        out[#out + 1] = '"' .. text:gsub('[\\"]', "\\%0") .. '"'
    else
        out[#out + 1] = text
    end
end

---An array from a sequence (nested for several dimensions); db.null stands for NULL elements.
---@param t any[]
---@param type_name? string of the elements; without it the server infers it
---@return table
function M.array(t, type_name)
    if type(t) ~= "table" then
        errors.usage("db.array", "expected a list, got %s", type(t))
    end
    local out = {}
    array_element(t, 0, out)
    local oid <const> = type_name and array_oids[oid_of("db.array", type_name)] or 0
    return param(table.concat(out), oid, false)
end

local function quote(part)
    if type(part) ~= "string" or part == "" then
        errors.usage("db.ident", "expected a name, got an empty text")
    end
    if part:find("\0", 1, true) then
        errors.usage("db.ident", "a name cannot contain a NUL byte")
    end
    return '"' .. part:gsub('"', '""') .. '"'
end

---A quoted identifier: "schema.table" is split at the dots, {"schema", "ta.ble"} is not.
---@param name string|string[]
---@return string
function M.ident(name)
    local parts = {}
    if type(name) == "table" then
        for i, part in ipairs(name) do
            parts[i] = quote(part)
        end
    else
        for part in (tostring(name) .. "."):gmatch "(.-)%." do
            parts[#parts + 1] = quote(part)
        end
    end
    if #parts == 0 then
        errors.usage("db.ident", "expected at least one name")
    end
    return table.concat(parts, ".")
end

return M
