--- Values as the text that PostgreSQL reads, by their types: sections 8.15 to 8.17 of its manual. A type is a table as
--- core.pg.type_tree makes it: {kind=, name=, elem=, delim=, names=, fields=}. A value that the decoder
--- (runtime/bind/pg/decode.c) has read is written here as the same value.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local json <const> = require "dbrun.json"

local M = {}

local null <const> = core.null
local number_text <const> = core.pg.number_text

--- The name of the metatable of a list that keeps the dimensions and lower bounds of its array.
local ARRAY_MARK <const> = "dbrun.pg.array"
local DEEPEST <const> = 100

---@class dbrun.Writing what values are written for
---@field codecs? table<string, {encode?: fun(v: any): any}> of the engine
---@field epoch? boolean timestamps are numbers
---@field place string "parameter $1"
---@field outcome? string outcome of the error when a value is refused (not_sent)
---@field [integer] string|integer the keys down to the value that is written

local function refuse(w, what, hint)
    local place = w.place
    for _, key in ipairs(w) do
        if math.type(key) == "integer" then
            place = ("%s[%d]"):format(place, key)
        else
            key = tostring(key)
            place = place .. (key:find "^[%a_][%w_]*$" and #key <= 40 and "." .. key or "[a key]")
        end
    end
    errors.raise { kind = "usage", outcome = w.outcome or "not_sent", message = place .. " " .. what, hint = hint }
end
M.refuse = refuse

---Whether a value was made by db.array, db.json, ...
---@param v any
---@return boolean
function M.is_wrapped(v)
    local meta <const> = type(v) == "table" and getmetatable(v)
    return meta and meta.__name == "dbrun.pg.param" or false
end
local is_wrapped <const> = M.is_wrapped

--- The mark of a list, set by the decoder or by db.array: {dims=, lower=}.
local function mark_of(v)
    local meta <const> = getmetatable(v)
    return type(meta) == "table" and meta.__name == ARRAY_MARK and meta or nil
end

---A list with the dimensions and lower bounds of its array.
---@param t table
---@param dims integer|nil
---@param lower integer[]|nil
---@return table t
function M.mark(t, dims, lower)
    return setmetatable(t, { __name = ARRAY_MARK, dims = dims, lower = lower })
end

local function codec_of(w, tree)
    local codec <const> = w.codecs and w.codecs[tree.name]
    return codec and codec.encode
end

local text_of

---Whether the type, or one that it contains, needs its encoder even for scalars.
---@param tree table
---@param w dbrun.Writing
---@return boolean
function M.is_special(tree, w)
    if codec_of(w, tree) or (w.epoch and (tree.kind == "timestamp" or tree.kind == "timestamptz")) then
        return true
    elseif tree.elem and M.is_special(tree.elem, w) then
        return true
    end
    for _, field in pairs(tree.fields or {}) do
        if M.is_special(field, w) then
            return true
        end
    end
    return false
end

--- The text of a value inside the one that is being written.
local function below(tree, v, w, key)
    local depth <const> = #w
    if depth >= DEEPEST then
        refuse(w, "is nested too deep", "Does the table contain itself?")
    end
    w[depth + 1] = key
    local text <const> = text_of(tree, v, w)
    w[depth + 1] = nil
    return text
end

local function check_content(t, w)
    local lost <const>, hint <const> = core.rows.proxy(t)
    if lost then refuse(w, "is " .. lost, hint) end
end

---The length of a list; refuses holes and other keys.
local function length(t, w, what)
    check_content(t, w)
    local n = 0
    local is_result <const> = core.rows.kind(t) == "result"
    for key in next, t do
        local beside <const> = is_result and type(key) == "string" -- a field of a result beside its rows
        if not beside and (math.type(key) ~= "integer" or key < 1) then
            refuse(w, ("has the key %q: %s is a list"):format(tostring(key), what),
                "A list has the keys 1 to n; JSON is db.json(v), a composite value db.composite(t, type).")
        end
        n = beside and n or n + 1
    end
    for i = 1, n do
        if rawget(t, i) == nil then
            refuse(w, ("has no element %d: the list has a hole"):format(i), "Write NULL as db.null.")
        end
    end
    return n
end

-- ---- arrays ----------------------------------------------------------------------------------------

local table_like <const> = { json = true, composite = true, hstore = true, range = true, multirange = true,
    vector = true, array = true }

local function is_list_of_lists(v)
    local first <const> = rawget(v, 1)
    return type(first) == "table" and not is_wrapped(first)
end

--- The number of dimensions: as stated, or, if the elements are not tables, the depth of the lists.
local function dimensions(tree, v, w, stated)
    if stated then
        return stated
    elseif not tree.elem or table_like[tree.elem.kind] or codec_of(w, tree.elem) then
        return 1
    end
    local n = 1
    while n < 6 and is_list_of_lists(v) do
        v, n = rawget(v, 1), n + 1
    end
    return n
end

---An element of an array's text, or a part of an hstore's.
---@param text string
---@return string
function M.quoted(text)
    return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end
local quoted <const> = M.quoted

---An array without a known type: its elements are texts.
M.untyped = { kind = "array", delim = ",", name = "array", elem = { kind = "text", name = "text" } }

--- A list inside a json[] can be a JSON array or a second dimension.
local function check_json_element(tree, v, w)
    if tree.kind == "json" and type(v) == "table" and rawlen(v) > 0
        and (not getmetatable(v) or core.rows.columns(v)) then
        refuse(w, "is a list inside of a list: a JSON array or a second dimension?",
            "Wrap JSON values in db.json; state dimensions with db.array(t, type, {dims = n}).")
    end
end

local function put_dimension(tree, v, w, sizes, level, out)
    if type(v) ~= "table" or is_wrapped(v) then
        refuse(w, ("is not a list, but the array has %d dimensions"):format(#sizes))
    end
    local n <const> = length(v, w, "an array")
    sizes[level] = sizes[level] or n
    if n ~= sizes[level] then
        refuse(w, ("has %d elements, the list before it %d: an array is rectangular"):format(n, sizes[level]),
            "Elements that are lists themselves belong to a type like jsonb[] or a composite's array.")
    end
    out[#out + 1] = "{"
    for i = 1, n do
        if i > 1 then out[#out + 1] = tree.delim end
        local item <const> = rawget(v, i)
        if level < sizes.n then
            w[#w + 1] = i
            put_dimension(tree, item, w, sizes, level + 1, out)
            w[#w] = nil
        else
            w[#w + 1] = i
            check_json_element(tree.elem, item, w)
            w[#w] = nil
            local text <const> = below(tree.elem, item, w, i)
            out[#out + 1] = text == nil and "NULL" or quoted(text)
        end
    end
    out[#out + 1] = "}"
end

local function bounds(sizes, lower)
    local list = {}
    for i = 1, sizes.n do
        list[i] = ("[%d:%d]"):format(lower[i] or 1, (lower[i] or 1) + sizes[i] - 1)
    end
    return table.concat(list) .. "="
end

---The text of an array.
---@param tree table
---@param v table
---@param w dbrun.Writing
---@param opts? {dims?: integer, lower?: integer[]}
---@return string
function M.array(tree, v, w, opts)
    local mark <const> = mark_of(v) or {}
    local lower <const> = opts and opts.lower or mark.lower
    local stated <const> = opts and opts.dims or mark.dims or lower and #lower > 1 and #lower
    local sizes <const> = { n = dimensions(tree, v, w, stated) }
    local out <const> = {}
    if next(v) == nil then
        return "{}"
    end
    put_dimension(tree, v, w, sizes, 1, out)
    for i = 1, sizes.n do
        if (sizes[i] or 0) == 0 then
            return "{}"
        end
    end
    return (lower and bounds(sizes, lower) or "") .. table.concat(out)
end

-- ---- composites, ranges, hstore, vector ------------------------------------------------------------

local function field_text(text)
    return text and '"' .. text:gsub('[\\"]', "%0%0") .. '"' or ""
end

--- The fields in their order; `by_position`: the values are at 1 to n.
local function fields(tree, v, w, by_position)
    local out = {}
    for i, name in ipairs(tree.names) do
        local key <const> = by_position and i or name
        out[i] = field_text(below(tree.fields[name], rawget(v, key), w, key))
    end
    return "(" .. table.concat(out, ",") .. ")"
end

local function positional(tree, v, w)
    local n <const> = length(v, w, "a composite value by position")
    if n > #tree.names then
        refuse(w, ("has %d values, the type %s %d fields"):format(n, tree.name, #tree.names))
    end
    return fields(tree, v, w, true)
end

---@param v table by field name, or (`by_position`) a list
function M.composite(tree, v, w, by_position)
    if by_position and (rawlen(v) > 0) then
        return positional(tree, v, w)
    end
    for key in next, v do
        if not tree.fields[key] then
            local hint = ("The fields of %s: %s."):format(tree.name, table.concat(tree.names, ", "))
            if math.type(key) == "integer" then
                hint = "A composite value is a table by field name; by position it is db.composite(list, type)."
            end
            refuse(w, ("has the key %q, which is not a field of the type %s"):format(tostring(key), tree.name), hint)
        end
    end
    return fields(tree, v, w)
end

local range_keys <const> = { lower = "any", upper = "any", lower_inc = "boolean", upper_inc = "boolean",
    empty = "boolean" }

local function range(tree, v, w)
    for key, value in next, v do
        local expected <const> = range_keys[key]
        if not expected then
            refuse(w, ("has the key %q, which a range has not"):format(tostring(key)),
                "A range is {lower=, upper=, lower_inc=, upper_inc=} or {empty=true}.")
        elseif expected ~= "any" and type(value) ~= expected then
            refuse(w, ("has a %s as %s, which is true or false"):format(type(value), key))
        end
    end
    if next(v) == nil then
        refuse(w, "is an empty table, not a range",
            "A range is {lower=, upper=, lower_inc=, upper_inc=} or {empty=true}.")
    elseif v.empty then
        if v.lower ~= nil or v.upper ~= nil then
            refuse(w, "is an empty range with bounds")
        end
        return "empty"
    end
    local low <const>, high <const> = below(tree.elem, v.lower, w, "lower"), below(tree.elem, v.upper, w, "upper")
    return ("%s%s,%s%s"):format(v.lower_inc ~= false and low and "[" or "(", field_text(low), field_text(high),
        v.upper_inc and "]" or ")")
end

local function multirange(tree, v, w)
    local out = {}
    for i = 1, length(v, w, "a multirange") do
        local item <const> = rawget(v, i)
        if item == null then
            w[#w + 1] = i
            refuse(w, "is NULL: a multirange has no NULLs")
        end
        out[i] = below(tree.elem, item, w, i)
    end
    return "{" .. table.concat(out, ",") .. "}"
end

local function hstore(v, w)
    local out = {}
    for key, value in next, v do
        local kind <const> = type(value)
        if type(key) ~= "string" then
            refuse(w, ("has the key %s, a %s: the keys of an hstore are strings"):format(tostring(key), type(key)))
        end
        w[#w + 1] = key
        local text
        if kind == "string" then
            text = quoted(value)
        elseif kind == "number" then
            text = quoted(number_text(value))
        elseif kind == "boolean" then
            text = quoted(tostring(value))
        elseif value == null then
            text = "NULL"
        else
            refuse(w, ("is a %s: the values of an hstore are strings, numbers, booleans or db.null"):format(kind))
        end
        w[#w] = nil
        out[#out + 1] = quoted(key) .. "=>" .. text
    end
    return table.concat(out, ", ")
end

local function vector(v, w)
    local out = {}
    for i = 1, length(v, w, "a vector") do
        local x <const> = rawget(v, i)
        if type(x) ~= "number" then
            w[#w + 1] = i
            refuse(w, ("is a %s: a vector is a list of numbers"):format(type(x)))
        end
        out[i] = number_text(x)
    end
    return "[" .. table.concat(out, ",") .. "]"
end

-- ---- any value -------------------------------------------------------------------------------------

local function hex(s)
    return "\\x" .. s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

local function scalar_result(v, w)
    local t <const> = type(v)
    if t == "string" then
        return v
    elseif t == "number" then
        return number_text(v)
    elseif t == "boolean" then
        return tostring(v)
    elseif v == nil or v == null then
        return nil
    end
    refuse(w, ("is a %s: the codec's encode must return a string"):format(t))
end

local by_kind <const> = {
    array = M.array, composite = M.composite, range = range, multirange = multirange,
    hstore = function(_, v, w) return hstore(v, w) end,
    vector = function(_, v, w) return vector(v, w) end,
    json = function(_, v) return json.encode(v) end,
}

local function table_text(tree, v, w)
    local write <const> = by_kind[tree.kind]
    if not write then
        refuse(w, ("is a table, but its type is %s"):format(tree.name),
            "Pass a list as db.array(t), JSON as db.json(v), others as db.range or db.composite, or cast: $1::type.")
    end
    check_content(v, w)
    return write(tree, v, w)
end

--- A value of db.typed, db.array, ... inside another value whose type is known.
local function wrapped_text(tree, p, w)
    local mine <const> = p.kind == "json" or p.kind == "bytea"
    if p[1] == nil then
        return nil
    elseif p[3] then
        if tree.kind ~= "bytea" then
            refuse(w, ("is db.bytea, but its type is %s"):format(tree.name))
        end
        return hex(p[1])
    elseif p[1] and (mine or not (w.codecs or w.epoch)) then
        return p[1]
    end
    return M.stated(tree, p, w)
end

local function leaves(tree, v, w, level)
    local out <const> = {}
    for i = 1, length(v, w, "an array") do
        local item <const> = rawget(v, i)
        local is_raw <const> = tree.elem.kind == "bytea" and (type(item) == "string" or is_wrapped(item))
        if level > 1 then
            if type(item) ~= "table" or is_wrapped(item) then
                refuse(w, "is not a list, but the array has more dimensions")
            end
            w[#w + 1] = i
            out[i] = leaves(tree, item, w, level - 1)
            w[#w] = nil
        elseif is_raw then
            out[i] = item
        else
            local text <const> = below(tree.elem, item, w, i)
            out[i] = text == nil and null or core.pg.param(text, 0, false)
        end
    end
    return out
end

---An array as a list whose elements are texts in the input format of their type: for COPY in binary.
---@param tree table
---@param v any a list, or what db.array made
---@param w dbrun.Writing
---@return any
function M.list(tree, v, w)
    local opts = {}
    if is_wrapped(v) then
        if type(v.value) ~= "table" then
            return v
        end
        v, opts = v.value, v
    end
    local mark <const> = mark_of(v) or {}
    local lower <const> = opts.lower or mark.lower
    local dims <const> = dimensions(tree, v, w, opts.dims or mark.dims or lower and #lower)
    return M.mark(leaves(tree, v, w, dims), dims, lower)
end

---The text of a value of the type; nil = NULL.
---@param tree table
---@param v any
---@param w dbrun.Writing
---@return string|nil
function text_of(tree, v, w)
    local t <const> = type(v)
    if v == nil or v == null then
        return nil
    elseif t == "table" and is_wrapped(v) then
        return wrapped_text(tree, v, w)
    end
    local encode <const> = codec_of(w, tree)
    if encode then
        return scalar_result(encode(v), w)
    elseif t == "string" then
        return tree.kind == "bytea" and hex(v) or v
    elseif t == "table" then
        return table_text(tree, v, w)
    elseif t == "boolean" then
        return tostring(v)
    elseif t == "number" and tree.kind == "json" then
        return json.encode(v)
    elseif t == "number" then
        if w.epoch and (tree.kind == "timestamp" or tree.kind == "timestamptz") then
            return core.pg.timestamp_text(v, tree.kind == "timestamptz")
        end
        return number_text(v)
    end
    refuse(w, ("is a %s, which cannot be a value"):format(t))
end
M.text = text_of

---The text of a value whose wrapper states the type `tree`.
---@param tree table
---@param p table
---@param w dbrun.Writing
---@return string|nil
function M.stated(tree, p, w)
    local v <const> = p.value
    if p.kind == "typed" and type(v) == "string" and not codec_of(w, tree) then
        return v -- the text form, for bytea too
    elseif p.kind == "typed" then
        return text_of(tree, v, w)
    elseif codec_of(w, tree) then
        return text_of(tree, v, w)
    elseif p.kind ~= tree.kind and not (p.kind == "range" and tree.kind == "multirange") then
        refuse(w, ("is db.%s, but its type %s is none"):format(p.kind, tree.name))
    elseif p.kind == "array" then
        return M.array(tree, v, w, p)
    elseif p.kind == "composite" then
        return M.composite(tree, v, w, true)
    end
    return table_text(tree, v, w)
end

return M
