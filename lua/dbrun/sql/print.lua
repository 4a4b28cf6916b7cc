--- Prints the results of statements: tables and other formats (dbrun.table), or only values, as psql -At does. Formats
--- for programs have no command tags.
local core = require "dbrun.core"

local M = {}

---@class dbrun.sql.Printer
---@field output dbrun.Output
---@field format string
---@field values boolean -t: no header, no tags
---@field apart boolean an empty line comes before what is printed next
local Printer <const> = {}
local Metatable <const> = { __index = Printer }

---@param output dbrun.Output
---@param format "table"|"vertical"|"csv"|"tsv"|"json"|"jsonl"|"md"
---@param values boolean
---@return dbrun.sql.Printer
function M.new(output, format, values)
    return setmetatable({ output = output, format = format, values = values, apart = false }, Metatable)
end

---The values of a row in one line, as psql -At prints them.
local function print_values(output, next_row)
    local null <const> = core.null
    local show <const> = output.terminal and core.tty.printable or function(text) return text end
    for row in next_row do
        local texts <const> = {}
        for i = 1, #row do texts[i] = row[i] == null and "" or row[i] end
        output:write(show(table.concat(texts, "|")), "\n")
    end
end

---Plain rows, without the column names of a query, which can be duplicates.
local function plain(next_row)
    return function()
        local row <const> = next_row()
        return row and setmetatable(row, nil)
    end
end

local BETWEEN <const> = { table = true, vertical = true, md = true, csv = true, tsv = true }

---Prints rows.
---@param columns {name: string, type?: string, oid: integer}[]
---@param next_row fun(): string[]? values in the server's text, db.null for NULL
function Printer:rows(columns, next_row)
    local output <const> = self.output
    if self.values and (self.format == "table") then return print_values(output, next_row) end
    if self.apart then output:write "\n" end
    self.apart = BETWEEN[self.format] and not self.values
    require("dbrun.table").write(output.terminal and output.file or output, plain(next_row), {
        format = self.format, columns = columns, text = true,
        header = not self.values,
    })
end

local COUNTS <const> = {
    INSERT = "INSERT 0", UPDATE = "UPDATE", DELETE = "DELETE", MERGE = "MERGE", SELECT = "SELECT", COPY = "COPY",
    FETCH = "FETCH", MOVE = "MOVE",
}
local FOR_PEOPLE <const> = { table = true, vertical = true }

---Prints the tag of a statement without columns, in formats for people.
---@param command string
---@param affected integer
function Printer:command(command, affected)
    if self.values or not FOR_PEOPLE[self.format] then return end
    local counts <const> = COUNTS[command]
    if self.apart then self.output:write "\n" end
    self.output:write(counts and ("%s %d"):format(counts, affected) or command, "\n")
    self.apart = false
end

return M
