--- The shown columns, their order, and how to read their values from a row.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local value <const> = require "dbrun.table.value"

local M = {}

---The columns of a row that a query returned; nil for other tables.
---@param row any
---@return dbrun.table.Column[]|nil
function M.of_row(row)
    return core.rows.columns(row)
end

---Whether it is a list of names, or of tables with a name, as result.columns.
---@param list any
---@return boolean
function M.are_columns(list)
    if type(list) ~= "table" or rawlen(list) == 0 then return false end
    for i = 1, #list do
        local one <const> = list[i]
        local name <const> = type(one) == "table" and one.name or one
        if type(name) ~= "string" then return false end
    end
    return true
end

local function wanted_of(list)
    local wanted = {}
    for i, one in ipairs(list) do
        wanted[i] = type(one) == "string" and { name = one } or { name = one.name, type = one.type, oid = one.oid }
    end
    return wanted
end

--- Whether one of the first rows is a list.
local function is_positional(rows, n)
    for i = 1, n do
        if type(rows[i]) == "table" and rawlen(rows[i]) > 0 then return true end
    end
    return false
end

local function are_scalars(rows, n)
    for i = 1, n do
        if type(rows[i]) ~= "table" then return true end
    end
    return false
end

local function by_position(rows, n)
    local most, columns = 0, {}
    for i = 1, n do most = math.max(most, rawlen(rows[i])) end
    for i = 1, most do columns[i] = { name = tostring(i), key = i } end
    return columns
end

local function by_keys(rows, n)
    local seen, columns = {}, {}
    for i = 1, n do
        for key in next, rows[i] do
            if not seen[key] then
                seen[key] = true
                columns[#columns + 1] = { name = tostring(key), key = key }
            end
        end
    end
    table.sort(columns, function(a, b) return a.name < b.name end)
    return columns
end

--- The columns of rows by name: each name once, as a row has one value of it; then the keys that the script has added.
local function with_added(known, rows, n)
    local seen, columns = {}, {}
    for _, column in ipairs(known) do
        if not seen[column.name] then
            -- Of columns with one name, the value of the last one counts.
            seen[column.name] = {}
            columns[#columns + 1] = seen[column.name]
        end
        local one <const> = seen[column.name]
        one.name, one.key, one.type, one.oid = column.name, column.name, column.type, column.oid
    end
    local hidden <const> = #known - #columns
    for _, column in ipairs(by_keys(rows, n)) do
        if not seen[column.key] then columns[#columns + 1] = column end
    end
    return columns, hidden
end

local function with_positions(known)
    local columns <const> = {}
    for i, column in ipairs(known) do
        columns[i] = { name = column.name, key = i, type = column.type, oid = column.oid }
    end
    return columns
end

--- The requested columns.
local function picked(fn, columns, wanted)
    local named, names = {}, {}
    for _, column in ipairs(columns) do
        if not named[column.name] then
            named[column.name], names[#names + 1] = column, column.name
        end
    end
    local found <const> = {}
    for i, want in ipairs(wanted) do
        local column <const> = named[want.name]
        if not column then
            local near <const> = require "dbrun.nearest".find(want.name, names)
            table.sort(names)
            errors.fail("usage", ("%s: there is no column '%s'"):format(fn, core.text.escape(want.name)),
                near and ("did you mean '%s'?"):format(near) or "the columns are " .. table.concat(names, ", "))
        end
        found[i] = {
            name = want.name, key = column.key, type = want.type or column.type, oid = want.oid or column.oid,
        }
    end
    return found
end

--- Raises unless the row is of the same kind as the rows before it, so that no value is left out.
local function checker(fn, positional, count, known_keys)
    return function(row, n)
        if type(row) ~= "table" then
            errors.usage(fn, "row %d is a %s, expected a table", n, type(row))
        elseif positional then
            local own <const> = rawlen(row)
            if own > count then
                errors.usage(fn, "row %d has %d values, and there are %d columns", n, own, count)
            elseif own == 0 and next(row) ~= nil then
                errors.usage(fn, "row %d is a table by name, and rows before it are lists", n)
            end
        elseif rawlen(row) > 0 and not (known_keys and known_keys[1]) then
            errors.usage(fn, "row %d is a list, and the rows before it are tables by name", n)
        elseif known_keys then
            for key in next, row do
                if not known_keys[key] then
                    errors.fail("usage", ("%s: row %d has a column '%s' that no row before it has"):format(fn, n,
                        core.text.escape(tostring(key))), "name all columns: columns = { ... }")
                end
            end
        end
    end
end

local function keys_of(columns)
    local keys <const> = {}
    for _, column in ipairs(columns) do keys[column.key] = true end
    return keys
end

local function by_key(row, column) return row[column.key] end
local function itself(row) return row end
local function none() end

---Sets the columns of a source, and how to read their values from a row.
---@param fn string
---@param source table kind, rows, count, next, known
---@param opts table
---@return dbrun.table.Source
function M.choose(fn, source, opts)
    local rows <const>, n <const> = source.rows, source.count
    local wanted <const> = opts.columns and wanted_of(opts.columns)
    if not source.known and are_scalars(rows, n) then
        source.kind, source.get, source.check = "values", itself, none
        source.columns, source.named, source.closed = wanted or { { name = "value" } }, true, true
        if #source.columns ~= 1 then
            errors.usage(fn, "the list has values that are no rows, and there are %d columns", #source.columns)
        end
    else
        local positional <const> = is_positional(rows, n)
        local count = source.known and #source.known
        local keys
        if source.known then
            local all
            if positional or n == 0 then all = with_positions(source.known)
            else all, source.hidden = with_added(source.known, rows, n) end
            source.columns = wanted and picked(fn, all, wanted) or all
            if wanted then source.hidden = 0 end
            keys = not wanted and keys_of(all) or nil
        elseif wanted then
            for i, column in ipairs(wanted) do column.key = positional and i or column.name end
            source.columns = wanted
        else
            source.columns = positional and by_position(rows, n) or by_keys(rows, n)
            keys = keys_of(source.columns)
        end
        source.named = wanted ~= nil or source.known ~= nil or not positional
        source.closed = wanted ~= nil or source.known ~= nil
        source.get, source.check = by_key, checker(fn, positional, count or #source.columns, not positional and keys)
    end
    for _, column in ipairs(source.columns) do value.describe(column) end
    return source
end

return M
