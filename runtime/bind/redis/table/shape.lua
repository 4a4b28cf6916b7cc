--- Shapes of replies: made by hand, or from the `reply_schema` of a command, which describes RESP3.
local M = {}

---@class Shape
---@field kind "PLAIN"|"NUMBER"|"LIST"|"TUPLE"|"MAP"|"FIELDS"|"ROWS"
---@field each Shape? of elements and values that have no shape of their own
---@field parts Shape[]? of a tuple or of the columns of rows
---@field fields table<string, Shape>? of a map
---@field name string? of a shape that contains itself
---@field list boolean? a plain list, which is not the same as a plain value when two shapes become one

M.plain = { kind = "PLAIN" }
M.number = { kind = "NUMBER" }
M.fields = { kind = "FIELDS" }
local plain_list <const> = { kind = "PLAIN", list = true }

function M.list(each)
    return each.kind == "PLAIN" and plain_list or { kind = "LIST", each = each }
end

function M.rows(parts)
    return { kind = "ROWS", parts = parts }
end

function M.map(fields, each)
    return { kind = "MAP", fields = fields, each = each or M.plain }
end

function M.tuple(parts, each)
    return { kind = "TUPLE", parts = parts, each = each or M.plain }
end

function M.named(name, shape)
    shape.name = name
    return shape
end

--- Does it leave every value as it is?
local function is_plain(shape)
    return shape.kind == "PLAIN"
end
M.is_plain = is_plain

local merge

local function merge_fields(a, b)
    local fields = {}
    for name, shape in pairs(a) do
        fields[name] = b[name] and merge(shape, b[name]) or shape
    end
    for name, shape in pairs(b) do
        fields[name] = fields[name] or shape
    end
    return fields
end

local function merge_tuples(a, b)
    local parts = {}
    for i = 1, math.max(#a.parts, #b.parts) do
        parts[i] = merge(a.parts[i] or a.each, b.parts[i] or b.each)
    end
    return M.tuple(parts, merge(a.each, b.each))
end

--- One shape for two replies. Fails when they cannot be told apart by their values: then a rule is needed.
function merge(a, b)
    if a == b then
        return a
    elseif is_plain(b) and not b.list or (is_plain(a) and is_plain(b)) then
        return a.list and a or b.list and b or a
    elseif is_plain(a) and not a.list then
        return b
    elseif b.kind == "LIST" and a.list or a.kind == "LIST" and b.list then
        return M.list(merge(a.each or M.plain, b.each or M.plain))
    elseif a.kind == b.kind and a.kind == "LIST" then
        return M.list(merge(a.each, b.each))
    elseif a.kind == b.kind and a.kind == "TUPLE" then
        return merge_tuples(a, b)
    elseif a.kind == b.kind and a.kind == "MAP" then
        return M.map(merge_fields(a.fields, b.fields), merge(a.each, b.each))
    end
    error(("two replies look alike: %s%s and %s%s"):format(a.kind, a.list and "[]" or "", b.kind,
        b.list and "[]" or ""), 0)
end

local of

local function of_array(schema)
    local items <const> = schema.items
    if not items then
        return plain_list
    elseif not items[1] then
        return M.list(of(items))
    end
    local parts, all_plain = {}, true
    for i, item in ipairs(items) do
        parts[i] = of(item)
        all_plain = all_plain and is_plain(parts[i])
    end
    -- An entry of a stream: its ID, and its fields with their values in one list.
    if #items == 2 and parts[2].list and (items[1].pattern or ""):find("[0-9]+-[0-9]+", 1, true) then
        parts[2], all_plain = M.fields, false
    end
    local each <const> = schema.additionalItems and of(schema.additionalItems) or M.plain
    return all_plain and is_plain(each) and plain_list or M.tuple(parts, each)
end

local function of_object(schema)
    local fields, each = {}, M.plain
    for name, property in pairs(schema.properties or {}) do
        local shape <const> = of(property)
        if not is_plain(shape) then
            fields[name] = shape
        end
    end
    if type(schema.additionalProperties) == "table" then
        each = of(schema.additionalProperties)
    end
    for _, property in pairs(schema.patternProperties or {}) do
        each = merge(each, of(property))
    end
    return M.map(fields, each)
end

local SCALAR <const> = { string = true, integer = true, null = true, boolean = true }

---The shape that a reply schema describes.
---@param schema table
---@return Shape
function of(schema)
    local options <const> = schema.oneOf or schema.anyOf
    if options then
        local shape
        for _, option in ipairs(options) do
            local this <const> = of(option)
            shape = shape and merge(shape, this) or this
        end
        return shape
    elseif schema.type == "array" then
        return of_array(schema)
    elseif schema.type == "object" then
        return of_object(schema)
    elseif schema.type == "number" then
        return M.number
    elseif schema.const ~= nil or SCALAR[schema.type] or (schema.type == nil and next(schema) == nil) then
        return M.plain
    elseif schema.type == nil and not schema["$ref"] then
        return M.plain -- described in words only
    end
    error("a schema of an unknown kind", 0)
end
M.of = of

return M
