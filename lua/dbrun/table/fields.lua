--- Lines for programs: CSV (RFC 4180), and the text format of PostgreSQL's COPY.
local encode <const> = require "dbrun.csv.encode"
local errors <const> = require "dbrun.error"
local value <const> = require "dbrun.table.value"

local M = {}

--- A format whose lines a function makes of a row's texts (false: NULL).
local function lines(source, opts, emit, line_of)
    local columns <const> = source.columns
    return {
        head = function()
            if opts.header == false then return end
            local names = {}
            for i, column in ipairs(columns) do names[i] = column.name end
            emit(line_of(names, #columns))
        end,
        row = function(row)
            local texts = {}
            for i, column in ipairs(columns) do
                local v <const> = source.get(row, column)
                texts[i] = not value.is_null(v) and value.text(v, column)
            end
            emit(line_of(texts, #columns))
        end,
        tail = function() end,
    }
end

---@param source dbrun.table.Source
---@param opts table
---@param emit fun(line: string)
---@return dbrun.table.Format
---@param fn string the function as scripts call it
function M.csv(source, opts, emit, fn)
    local dialect <const> = { delimiter = opts.delimiter or ",", quote = '"', nulls = opts.nulls or "" }
    if not encode.takes_nulls(dialect) then
        errors.usage(fn, "nulls is written without quotes, so it must have no delimiter, quote or line end")
    end
    return lines(source, opts, emit, encode.line(dialect))
end

local ESCAPES <const> = {
    ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\v"] = "\\v",
}

local function copy_line(texts, n)
    local out = {}
    for i = 1, n do out[i] = texts[i] and texts[i]:gsub("[\\\b\f\n\r\t\v]", ESCAPES) or "\\N" end
    return table.concat(out, "\t")
end

---@param source dbrun.table.Source
---@param opts table
---@param emit fun(line: string)
---@return dbrun.table.Format
function M.tsv(source, opts, emit)
    return lines(source, opts, emit, copy_line)
end

return M
