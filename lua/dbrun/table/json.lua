--- JSON: a list of objects, or one object a line.
local value <const> = require "dbrun.table.value"

local M = {}

--- Columns of a row that differ from those of other rows, by name.
local function own_columns(row)
    local columns = {}
    for key in next, row do columns[#columns + 1] = { name = tostring(key), key = key } end
    table.sort(columns, function(a, b) return a.name < b.name end)
    return columns
end

--- Names of an object's members are different: the second `id` is `id_2`.
local function unique(columns)
    local seen, out = {}, {}
    for _, column in ipairs(columns) do seen[column.name] = (seen[column.name] or 0) + 1 end
    local taken <const> = {}
    for _, column in ipairs(columns) do
        local name, n = column.name, 1
        while taken[name] or n > 1 and seen[name] do
            n = n + 1
            name = ("%s_%d"):format(column.name, n)
        end
        taken[name] = true
        out[column] = value.json(name, {}) .. ":"
    end
    return out
end

--- The function that writes a row as JSON.
local function writer(source)
    local names <const> = source.closed and source.named and unique(source.columns) or {}
    local function name_of(column)
        return names[column] or value.json(column.name, {}) .. ":"
    end
    local function array(row)
        local parts = {}
        for i = 1, rawlen(row) do parts[i] = value.json(row[i], source.columns[i]) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    return function(row)
        if source.kind == "value" then
            return value.json(row[1], {})
        elseif source.kind == "values" and not source.asked then
            return value.json(row, {})
        elseif not source.named then
            return array(row)
        end
        local parts = {}
        for i, column in ipairs(source.closed and source.columns or own_columns(row)) do
            parts[i] = name_of(column) .. value.json(source.get(row, column), column)
        end
        return "{" .. table.concat(parts, ",") .. "}"
    end
end

---@param source dbrun.table.Source
---@param emit fun(line: string)
---@return dbrun.table.Format
function M.lines(source, _, emit)
    local json <const> = writer(source)
    return {
        head = function() end, tail = function() end,
        row = function(row) emit(value.printable_json(json(row))) end,
    }
end

---@param source dbrun.table.Source
---@param emit fun(line: string)
---@return dbrun.table.Format
function M.list(source, opts, emit)
    if source.kind == "row" or source.kind == "value" then return M.lines(source, opts, emit) end
    local json <const> = writer(source)
    local before = nil
    return {
        head = function() end,
        row = function(row)
            if before then emit(before .. ",") else emit "[" end
            before = value.printable_json(json(row))
        end,
        tail = function()
            if not before then return emit "[]" end
            emit(before)
            emit "]"
        end,
    }
end

return M
