--- Parameters of a stated type, and identifiers.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"
local param <const> = core.pg.param

local M = {}

--- OIDs of the built-in types by their names in SQL (pg_type.dat): these need no query.
local oids <const> = {
    bool = 16, bytea = 17, ['"char"'] = 18, name = 19, int8 = 20, int2 = 21, int4 = 23, text = 25, oid = 26, json = 114,
    xml = 142, cidr = 650, float4 = 700, float8 = 701, money = 790, macaddr = 829, inet = 869, bpchar = 1042,
    varchar = 1043, date = 1082, time = 1083, timestamp = 1114, timestamptz = 1184, interval = 1186, timetz = 1266,
    bit = 1560, varbit = 1562, numeric = 1700, uuid = 2950, jsonb = 3802, pg_lsn = 3220, box = 603, point = 600,
    int4range = 3904, numrange = 3906, tsrange = 3908, tstzrange = 3910, daterange = 3912, int8range = 3926,
    int4multirange = 4451, nummultirange = 4532, tsmultirange = 4533, tstzmultirange = 4534, datemultirange = 4535,
    int8multirange = 4536,
    boolean = 16, bigint = 20, smallint = 21, int = 23, integer = 23, real = 700, ["double precision"] = 701,
    decimal = 1700, char = 1042, character = 1042, ["character varying"] = 1043, ["bit varying"] = 1562,
    ["timestamp with time zone"] = 1184, ["timestamp without time zone"] = 1114, ["time with time zone"] = 1266,
    ["time without time zone"] = 1083,
}
local array_oids <const> = {
    [16] = 1000, [17] = 1001, [18] = 1002, [19] = 1003, [20] = 1016, [21] = 1005, [23] = 1007, [25] = 1009,
    [26] = 1028, [114] = 199, [142] = 143, [600] = 1017, [603] = 1020, [650] = 651, [700] = 1021, [701] = 1022,
    [790] = 791, [829] = 1040, [869] = 1041, [1042] = 1014, [1043] = 1015, [1082] = 1182, [1083] = 1183, [1114] = 1115,
    [1184] = 1185, [1186] = 1187, [1266] = 1270, [1560] = 1561, [1562] = 1563, [1700] = 1231, [2950] = 2951,
    [3220] = 3221, [3802] = 3807, [3904] = 3905, [3906] = 3907, [3908] = 3909, [3910] = 3911, [3912] = 3913,
    [3926] = 3927, [4451] = 6150, [4532] = 6151, [4533] = 6152, [4534] = 6153, [4535] = 6155, [4536] = 6157,
}

---The OIDs of a built-in type and of its array; nil when the server must be asked.
---@param name string
---@return integer|nil oid
---@return integer|nil array_oid
function M.builtin(name)
    local oid <const> = oids[name]
    return oid, array_oids[oid]
end

local TYPE_NAME <const> = {
    function(v) return type(v) == "string" and v ~= "" and not v:find("\0", 1, true) end,
    'the name of a type ("int4", "app.mood")', shows = true,
}

local function check_name(fname, name)
    args.check(fname, "its second argument", name, TYPE_NAME)
end

local kept_marks <const> = { ["dbrun.array"] = true, ["dbrun.object"] = true, ["dbrun.pg.array"] = true }

--- Copies tables; wrapped values are never changed.
local function copy(fname, v, depth)
    if type(v) ~= "table" or literal.is_wrapped(v) then
        return v
    elseif depth > 100 then
        errors.usage(fname, "nested too deep: does the table contain itself?")
    end
    local lost <const>, hint <const> = core.rows.proxy(v)
    if lost then errors.fail("usage", ("%s: the value has %s"):format(fname, lost), hint) end
    local meta <const> = getmetatable(v)
    local out <const> = {}
    local is_result <const> = core.rows.kind(v) == "result"
    for key, value in next, v do
        if not is_result or math.type(key) == "integer" then
            out[key] = copy(fname, value, depth + 1)
        end
    end
    return type(meta) == "table" and kept_marks[meta.__name] and setmetatable(out, meta) or out
end

--- A parameter with the fields of its kind; `text` false: it is encoded when its type is known.
local function with_fields(text, oid, fields)
    local made <const> = param(text, oid, false)
    for key, value in pairs(fields) do
        made[key] = value
    end
    return made
end

--- A parameter of a kind; its text is encoded now if the type is built in.
local function stated(kind, v, name, extra)
    local fname <const> = "db." .. kind
    local oid <const>, array_oid <const> = M.builtin(name)
    local p = { kind = kind, name = name, value = copy(fname, v, 0) }
    for key, value in pairs(extra or {}) do
        p[key] = value
    end
    local own <const> = kind == "array" and array_oid or kind ~= "array" and oid or nil
    local text = false
    if v == nil or v == core.null then
        text = nil
    elseif own then
        local ok <const>, result <const> = pcall(literal.stated, core.pg.type_tree(own), p,
            { place = fname .. ": the value" })
        if not ok and not (errors.is(result) and kind == "typed" and type(v) == "table") then
            error(result, 0)
        end
        text = ok and result
    end
    return with_fields(text, own or 0, p)
end

---A parameter of a stated type.
---@param v any string, number, boolean, nil or db.null; a table where the type is an array, a range, ...
---@param type_name string any type, as SQL writes it ("numeric", "timestamp with time zone", "app.mood", '"Mood"')
---@return table
---```lua
---print(db.async:value("select $1 + 1", db.typed("0.1", "numeric")))  --> 1.1
---```
function M.typed(v, type_name)
    check_name("db.typed", type_name)
    if type(v) == "function" or type(v) == "thread" or (type(v) == "userdata" and v ~= core.null) then
        errors.usage("db.typed", "a %s cannot be a value", type(v))
    end
    return stated("typed", v, type_name)
end

---Raw bytes.
---@param s string
---@return table
---```lua
---print(db.async:value("select length($1)", db.bytea "\0\1\255"))  --> 3
---```
function M.bytea(s)
    args.check("db.bytea", "its argument", s, "string")
    local p <const> = param(s, 17, true)
    p.kind, p.name = "bytea", "bytea"
    return p
end

---A JSON value; the server takes it as json or jsonb.
---@param v any what dbrun.json encodes
---@return table
---```lua
---print(db.async:value("select $1::jsonb ->> 'name'", db.json { name = "Ada" }))  --> Ada
---```
function M.json(v)
    local p <const> = param(require "dbrun.json".encode(v), 0, false)
    p.kind = "json"
    return p
end

--- Bytes that cannot occur in text, and texts that mean something else for some type: a backslash in bytea, a list of
--- points or boxes, whose arrays have other delimiters.
local function is_plain_text(s, alone)
    return not s:find "[\\\0]" and utf8.len(s) ~= nil and (alone or s:sub(1, 1) ~= "(")
end

--- Whether the list can be encoded without knowing its type, and the type that its elements state.
local function scan(list, found, level)
    for _, v in next, list do
        local t <const> = type(v)
        if literal.is_wrapped(v) then
            if v.name and found.name and v.name ~= found.name then
                errors.usage("db.array", "its elements state several types (%s, %s)", found.name, v.name)
            end
            found.name = found.name or v.name
        elseif t == "string" then
            found.unsure = found.unsure or not is_plain_text(v, rawlen(list) == 1)
        elseif t == "table" then
            if level == 6 then
                errors.usage("db.array", "more than 6 dimensions")
            elseif rawlen(v) == 0 then
                found.unsure = true
            end
            scan(v, found, level + 1)
        elseif t ~= "number" and t ~= "boolean" and v ~= core.null then
            errors.usage("db.array", "a %s cannot be a value", t)
        end
    end
end

local BOUND <const> = args.whole(-0x80000000, 0x7fffffff)
local BOUNDS <const> = {
    -- A list of sizes, as the decoder records it, gives the number of dimensions.
    dims = {
        function(v)
            local n <const> = type(v) == "table" and #v or v
            return math.type(n) == "integer" and n >= 1 and n <= 6
        end, "the number of dimensions, 1 to 6",
    },
    lower = {
        function(v) return type(v) == "table" or math.type(v) == "integer" end, "the first index, or a list of them",
    },
}

local function check_bounds(opts)
    opts = args.options("db.array", opts, BOUNDS)
    local dims, lower = opts.dims, opts.lower
    if type(dims) == "table" then
        dims = #dims
    end
    if type(lower) == "number" then
        lower = { lower }
    end
    for i, low in ipairs(lower or {}) do
        args.check("db.array", ("lower[%d]"):format(i), low, BOUND)
    end
    return { dims = dims or lower and #lower or nil, lower = lower and table.move(lower, 1, #lower, 1, {}) }
end

local LIST <const> = { function(v) return type(v) == "table" end, "a list" }

---An array from a sequence (nested for several dimensions); db.null stands for NULL elements.
---@param t any[]
---@param type_name? string of the elements; without it the type of the elements (db.typed) or the one that the server
---expects
---@param opts? {dims?: integer, lower?: integer|integer[]} number of dimensions, first index of each
---@return table
---```lua
---print(db.async:value("select cardinality($1)", db.array({ 7, 8 }, "int8")))  --> 2
---```
function M.array(t, type_name, opts)
    if literal.is_wrapped(t) then
        errors.usage("db.array", "expected a list, got a parameter")
    end
    args.check("db.array", "its first argument", t, LIST)
    local bounds <const> = check_bounds(opts)
    if type_name ~= nil then
        check_name("db.array", type_name)
        return stated("array", t, type_name, bounds)
    end
    local found <const> = {}
    scan(t, found, 1)
    if found.name then
        return stated("array", t, found.name, bounds)
    end
    local text = false
    if not found.unsure then
        text = literal.array(literal.untyped, t, { place = "db.array: the value" }, bounds)
    end
    return with_fields(text, 0,
        { kind = "array", value = copy("db.array", t, 0), dims = bounds.dims, lower = bounds.lower })
end

local function of_table(kind, t, type_name)
    local fname <const> = "db." .. kind
    if literal.is_wrapped(t) then
        errors.usage(fname, "expected a table, got a parameter")
    end
    args.check(fname, "its first argument", t, "table")
    if type_name ~= nil then
        check_name(fname, type_name)
        return stated(kind, t, type_name)
    end
    return with_fields(false, 0, { kind = kind, value = copy(fname, t, 0) })
end

local ANY <const> = { function() return true end, "a value" }
local RANGE <const> = { lower = ANY, upper = ANY, lower_inc = "boolean", upper_inc = "boolean", empty = "boolean" }

---A range (or, as a list of them, a multirange).
---@param t {lower?: any, upper?: any, lower_inc?: boolean, upper_inc?: boolean, empty?: boolean}|table[]
---@param type_name? string without it what the server expects
---@return table
---```lua
---print(db.async:value("select $1::text", db.range({ lower = 1, upper = 5 }, "numrange")))  --> [1,5)
---```
function M.range(t, type_name)
    if type(t) == "table" and not literal.is_wrapped(t) then
        for _, range in ipairs(#t > 0 and t or { t }) do
            args.options("db.range", range, RANGE)
        end
    end
    return of_table("range", t, type_name)
end

---A composite value: by field name, or a list of all fields in their order.
---@param t table
---@param type_name? string without it what the server expects
---@return table
---```lua
---db.async:exec "create type pair as (a int, b text)"
---print(db.async:value("select ($1).b", db.composite({ a = 1, b = "one" }, "pair")))  --> one
---db.async:exec "drop type pair"
---```
function M.composite(t, type_name)
    return of_table("composite", t, type_name)
end

--- Whether it is a column of a row by name that is NULL there.
local function is_null_column(row, name)
    if core.rows.kind(row) ~= "row" then return false end
    for _, column in ipairs(core.rows.names(row)) do
        if column == name then return true end
    end
    return false
end

--- The remedy for a table that has no value for a :name, by core.rows.kind.
local NO_VALUE <const> = {
    result = "this is a whole result: give one of its rows, result[1], or run the statement for all of them: "
        .. "execute_many(sql, result)",
    list = "this row was read by position: read it without positional = true",
}

---The values of a :name plan, in order.
---@param plan table {sql, name, ...}
---@param values table
---@return table
function M.named_row(plan, values)
    local row = { n = #plan - 1 }
    for i = 2, #plan do
        local v = values[plan[i]]
        if v == nil and is_null_column(values, plan[i]) then
            v = core.null
        elseif v == nil then
            errors.fail("usage", ("the parameter :%s has no value (pass SQL NULL as db.null)"):format(plan[i]),
                NO_VALUE[core.rows.kind(values)])
        end
        row[i - 1] = v
    end
    return row
end

local function quote(fn, part)
    if part == "" then
        errors.usage(fn, "expected a name, got an empty text")
    elseif part:find("\0", 1, true) then
        errors.usage(fn, "a name cannot contain a NUL byte")
    end
    return '"' .. part:gsub('"', '""') .. '"'
end

---A quoted identifier: "schema.table" is split at the dots, {"schema", "ta.ble"} is not.
---@param name string|number|string[]
---@return string
---```lua
---print(db.ident "app.my table", db.ident { "app", "ta.ble" })  --> "app"."my table"  "app"."ta.ble"
---```
function M.ident(name)
    return M.ident_of("db.ident", "the name", type(name) == "number" and tostring(name) or name)
end

---The same for an argument of another function.
---@param fn string the function that was called
---@param what string the argument
---@param name any
---@return string
function M.ident_of(fn, what, name)
    local parts = {}
    args.check(fn, what, name, args.string_or_strings)
    if type(name) == "table" then
        for i, part in ipairs(name) do
            parts[i] = quote(fn, part)
        end
    else
        for part in (name .. "."):gmatch "(.-)%." do
            parts[#parts + 1] = quote(fn, part)
        end
    end
    if #parts == 0 then
        errors.usage(fn, "expected at least one name")
    end
    return table.concat(parts, ".")
end

---The same for a table's name, which db.ident must not have quoted before: a quote would be a part of the name.
---@param fn string
---@param name any
---@return string
function M.table_of(fn, name)
    if type(name) == "string" and name:find('"', 1, true) then
        errors.fail("usage", ("%s: the table's name %s has quotes, and %s quotes it itself"):format(fn, name, fn),
            "schema.table, or { \"schema\", \"ta.ble\" } for a name with dots or quotes in it")
    end
    return M.ident_of(fn, "the table's name", name)
end

return M
