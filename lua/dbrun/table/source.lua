--- The columns and rows to print, from any kind of value.
local args <const> = require "dbrun.args"
local columns_of <const> = require "dbrun.table.columns"
local core <const> = require "dbrun.core"

local M = {}

--- Rows of an iterator that are read before the first one is written.
local AHEAD <const> = 1000

---@class dbrun.table.Source
---@field kind "rows"|"row"|"map"|"values"|"value" rows; one row; a map by key and value; a list of scalars; one scalar
---@field columns dbrun.table.Column[]
---@field named boolean have the columns names of their own?
---@field closed boolean whether each row has exactly these columns, even if a value is absent
---@field rows any[] the first rows
---@field count integer how many of them are shown
---@field hidden? integer columns of equal names, of which rows by name have one
---@field next? fun(): any the rows behind them
---@field left? integer rows of a list that the limit leaves out
---@field get fun(row: any, column: dbrun.table.Column): any
---@field check fun(row: any, n: integer) raises when a value of the row would not be shown

--- Whether it is a list; an empty table is one.
local function is_list(t)
    return rawlen(t) > 0 or next(t) == nil or core.json.is_array(t)
end

---Whether it is the result of a query, with or without columns.
local function is_result(v) return core.rows.kind(v) == "result" and type(rawget(v, "columns")) == "table" end

--- The common columns of a list of rows that a query returned.
local function common(list)
    local first <const> = list[1] ~= nil and columns_of.of_row(list[1]) or nil
    for i = 2, first and #list or 0 do
        if columns_of.of_row(list[i]) ~= first then return nil end
    end
    return first
end

--- The first rows of an iterator, and whether there are no more.
local function take(iterator, n)
    local rows = {}
    while #rows < n do
        local row <const> = iterator()
        if row == nil then return rows, true end
        rows[#rows + 1] = row
    end
    return rows, false
end

local function none() end
local function by_position(row, column) return row[column.key] end

local function of_map(map)
    local keys, rows = {}, {}
    for key in next, map do keys[#keys + 1] = key end
    table.sort(keys, function(a, b)
        if type(a) == type(b) and (type(a) == "string" or type(a) == "number") then return a < b end
        return tostring(a) < tostring(b)
    end)
    for i, key in ipairs(keys) do rows[i] = { key, map[key] } end
    return {
        kind = "map", columns = { { name = "key", key = 1 }, { name = "value", key = 2 } }, named = true, closed = true,
        rows = rows, count = #rows, check = none, get = by_position,
    }
end

local function of_value(v)
    return {
        kind = "value", columns = { { name = "value", key = 1 } }, named = true, closed = true, rows = { { v } },
        count = 1, check = none, get = by_position,
    }
end

local AS_ROW <const> = { vertical = true, json = true, jsonl = true }
local FOR_PEOPLE <const> = { table = true, vertical = true, md = true }

local function of_table(fn, v, opts)
    local known <const> = columns_of.of_row(v)
    local result <const> = is_result(v)
    if result and v.columns[1] == nil and #v == 0 and FOR_PEOPLE[opts.format] then
        return of_value(v.affected and ("%s %d"):format(v.command, v.affected) or v.command)
    elseif not result and (known or not is_list(v)) then
        if not known and not opts.columns and not AS_ROW[opts.format] then return of_map(v) end
        return columns_of.choose(fn, { kind = "row", rows = { v }, count = 1, known = known }, opts)
    end
    local all <const> = #v
    local count <const> = math.min(all, opts.limit or all)
    return columns_of.choose(fn, {
        kind = "rows", rows = v, count = count, left = all - count, known = result and v.columns or common(v),
    }, opts)
end

---Examines the value to print.
---@param fn string the function as scripts call it
---@param v any
---@param opts table checked
---@return dbrun.table.Source
function M.of(fn, v, opts)
    if args.is_callable(v) then
        local rows <const>, ended <const> = take(v, math.min(AHEAD, opts.limit or AHEAD))
        local known <const> = rows[1] ~= nil and columns_of.of_row(rows[1]) or nil
        return columns_of.choose(fn, {
            kind = "rows", rows = rows, count = #rows, next = not ended and v or nil, known = known,
        }, opts)
    elseif type(v) == "table" then
        return of_table(fn, v, opts)
    end
    return of_value(v)
end

return M
