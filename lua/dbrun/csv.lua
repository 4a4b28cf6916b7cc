--- CSV (RFC 4180), read and written row by row.
---
---     local csv = require "dbrun.csv"
---     local reader = csv.reader("people.csv", { types = { id = "integer" } })
---     db.async:copy_in("people", reader.columns, reader)
---     for _, bad in ipairs(reader.bad) do print(bad.line, bad.reason) end
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local outs <const> = require "dbrun.table.out"
local parse <const> = require "dbrun.csv.parse"
local types <const> = require "dbrun.csv.types"

local M = {}

local BYTE <const> = {
    function(v) return type(v) == "string" and #v == 1 and not v:find "[\r\n]" end, "one byte that ends no line",
}
local HEADER <const> = {
    function(v) return type(v) == "boolean" or type(v) == "table" end, "true, false or a list of names",
}

-- ---- reading ----

---@class dbrun.csv.ReaderOptions
---@field header? boolean|string[] true (default): the first record has the names of the columns; a list: these are the
---names, and the first record is a row; false: rows are lists
---@field types? table<string|integer, string|fun(text: string): any, string?> by column: "string" (default), "integer",
---"number", "decimal" (the text of a number, for numeric: a number of Lua has 16 digits), "boolean", "date", or a
---function that gives the value, or nil and why it is wrong
---@field required? (string|integer)[] columns that must not be NULL; a row with a NULL there is bad
---@field delimiter? string one byte, default ","
---@field quote? string one byte, default '"'
---@field null? string the unquoted text that means NULL; default ""
---@field strict? boolean the first bad row is an error
---@field max_bad? integer more bad rows than that are an error; default: all are kept
---@field from? dbrun.csv.Place for a path: where to begin, as `reader.byte` and `reader.line` of an earlier reader gave
---it; the names of the columns are still read from the start of the file

---@class dbrun.csv.Bad
---@field line integer where the record begins
---@field reason string
---@field text string the record as it is in the source

---@class dbrun.csv.Reader
---@field columns string[]|nil the names of the columns
---@field bad dbrun.csv.Bad[] the bad records, in their order
---@field rows integer how many rows were returned
---@field byte integer how many bytes of the source precede the next record
---@field line integer the line where the next record begins
---@field package at? integer the line where the row that was given last began
---@overload fun(): table|nil the next row: by name, NULL being absent, or a list with db.null
local Reader = {}
local ReaderMeta <const> = { __index = Reader, __name = "dbrun.csv.Reader" }

local READER <const> = {
    header = HEADER, types = "table", required = "table", delimiter = BYTE, quote = BYTE, null = "string",
    strict = "boolean", max_bad = args.whole(0), from = "table",
}
local FROM <const> = { byte = args.whole(0), line = args.whole(1) }

local CHUNK <const> = 1 << 16

local function pieces_of(file)
    return function()
        local piece <const>, why <const> = file:read(CHUNK)
        if not piece and why then errors.fail("io", "csv.reader: cannot read: " .. why) end
        return piece
    end
end

--- The function that returns the source's pieces, and the file to close at the end.
local function source_of(source)
    if type(source) == "string" then
        local file, why = io.open(source, "rb")
        if not file then errors.fail("io", "csv.reader: " .. why) end
        return pieces_of(file), file
    elseif io.type(source) == "file" then
        return pieces_of(source)
    elseif io.type(source) == "closed file" then
        errors.usage("csv.reader", "the source is a closed file")
    elseif args.is_callable(source) then
        return function()
            local piece <const> = source()
            if piece ~= nil and type(piece) ~= "string" then
                errors.usage("csv.reader", "the source gave a %s, expected a piece of text, or nil at the end",
                    type(piece))
            end
            return piece
        end
    end
    return errors.usage("csv.reader",
        "the source must be a path, an open file, or a function that gives pieces of text")
end

local function check_names(names)
    local seen <const> = {}
    for i, name in ipairs(names) do
        if type(name) ~= "string" or name == "" then
            errors.fail("io", ("csv.reader: column %d has no name"):format(i),
                "header = { \"a\", \"b\", ... } gives names; header = false reads rows as lists")
        elseif name:find "\r[^\n]" or name:find "\r$" then
            -- Otherwise the whole file would be one header, without rows.
            errors.fail("io", ("csv.reader: the name of column %d has a carriage return"):format(i),
                "lines end with LF or CR LF; of a file whose lines end with CR alone: tr '\\r' '\\n'")
        elseif seen[name] then
            errors.fail("io", ("csv.reader: the columns %d and %d are both called '%s'"):format(seen[name], i, name),
                "header = { \"a\", \"b\", ... } gives names; header = false reads rows as lists")
        end
        seen[name] = i
    end
    return seen
end

local function near_text(name, names)
    local near <const> = type(name) == "string" and require "dbrun.nearest".find(name, names)
    return near and ("did you mean '%s'?"):format(near) or nil
end

--- The position of a column that an option names.
local function place_in(option, column, columns, places)
    local place <const> = math.type(column) == "integer" and column or places and places[column]
    if not place or columns and not columns[place] then
        errors.fail("usage", ("csv.reader: %s: there is no column '%s'"):format(option, tostring(column)),
            near_text(column, columns or {}))
    end
    return place
end

--- The positions of the columns that must not be NULL.
local function required_places(given, columns, places)
    local set <const> = {}
    for _, column in ipairs(given or {}) do set[place_in("required", column, columns, places)] = true end
    return set
end

--- The function for each column that has a type, by position.
local function converters(given, columns, places)
    local list <const> = {}
    for column, kind in pairs(given or {}) do
        local place <const> = place_in("types", column, columns, places)
        local known <const> = types.by_name[kind]
        if not known and not args.is_callable(kind) then
            errors.fail("usage", ("csv.reader: types: '%s' is not a type of column '%s'"):format(tostring(kind),
                tostring(column)), near_text(kind, types.names) or "types are " .. table.concat(types.names, ", "))
        end
        list[place] = known or { kind, "what its function takes" }
    end
    return list
end

local function to_row(self, record)
    local count <const> = self.columns and #self.columns or self.width
    if record.wrong then return nil, record.wrong end
    if count and record.n ~= count then
        return nil, ("it has %d field%s, expected %d"):format(record.n, record.n == 1 and "" or "s", count)
    end
    local row <const> = {}
    for i = 1, record.n do
        local text <const>, converter <const> = record.fields[i], self.converters[i]
        local value = text
        local name <const> = self.columns and self.columns[i]
        if text == self.null and not record.quoted[i] then
            if self.required[i] then return nil, ("%s: it is NULL, and required"):format(name or "field " .. i) end
            value = not name and core.null or nil
        elseif converter then
            local why
            value, why = converter[1](text)
            if value == nil then
                return nil, ("%s: %s"):format(name or "field " .. i, why
                    or ("'%s' is not %s"):format(core.text.cell(text, 60), converter[2]))
            end
        end
        row[name or i] = value
    end
    return row
end

local function bad_row(self, record, reason)
    local bad <const> = { line = record.line, reason = reason, text = record.text }
    if self.strict or #self.bad >= self.max_bad then
        local n <const> = #self.bad
        local error_hint <const> = not self.strict and (n == 0 and "max_bad = 0 allows no bad row"
            or ("%d row%s before it %s bad too; max_bad allows more"):format(n, n == 1 and "" or "s",
                n == 1 and "was" or "were")) or nil
        self:close()
        errors.fail("io", ("line %d: %s"):format(bad.line, reason), error_hint)
    end
    self.bad[#self.bad + 1] = bad
end

function ReaderMeta:__call()
    if not self.next then return nil end
    while true do
        local record <const> = self.next()
        if not record then
            self:close()
            return nil
        end
        self.byte, self.line, self.at = record.stop, record.below, record.line
        -- A line without anything is a row of one column, which is NULL, and no row of several.
        local blank <const> = record.text == "" and (self.columns and #self.columns or self.width) ~= 1
        if not blank then
            if not self.columns and not self.width then self.width = record.n end
            local row <const>, reason <const> = to_row(self, record)
            if row then
                self.rows = self.rows + 1
                return row
            end
            bad_row(self, record, reason)
        end
    end
end

---Ends the reading, and closes the file that the reader has opened. Idempotent.
function Reader:close()
    args.self("close", self, ReaderMeta, "a reader", "reader")
    local file <const> = self.file
    self.next, self.file = nil, nil
    if file then file:close() end
end
ReaderMeta.__close = Reader.close

--- Where a reader of a file begins.
local function place_of(source, from)
    args.options("csv.reader", from, FROM)
    for _, name in ipairs { "byte", "line" } do args.check("csv.reader", "from." .. name, from[name], FROM[name]) end
    if type(source) ~= "string" then errors.usage("csv.reader", "from is for a path") end
    return from
end

---Reads CSV. The reader is an iterator of rows: `for row in reader do`, and a source of `copy_in`. A bad record (too
---few or too many fields, or a value that does not fit its type) is kept in `reader.bad` with its line.
---@param source string|file*|fun(): string|nil a path, an open file, or a function that returns pieces of text
---@param opts? dbrun.csv.ReaderOptions
---@return dbrun.csv.Reader
---Raises kind `io` when the source cannot be read, when a quote is never closed (with the line where it was opened),
---and for a header without usable names; kind `usage` for options.
function M.reader(source, opts)
    opts = args.options("csv.reader", opts, READER)
    if (opts.delimiter or ",") == (opts.quote or '"') then
        errors.usage("csv.reader", "delimiter and quote are the same")
    end
    if type(opts.header) == "table" then args.list("csv.reader", "header", opts.header, "string") end
    local from <const> = opts.from and place_of(source, opts.from)
    local read <const>, file <const> = source_of(source)
    local self <const> = setmetatable({
        next = parse.records(read, opts.delimiter or ",", opts.quote or '"'), file = file, bad = {}, rows = 0,
        null = opts.null or "", strict = opts.strict, max_bad = opts.max_bad or math.huge, byte = 0, line = 1,
    }, ReaderMeta)
    local ok <const>, e <const> = pcall(function()
        local places
        if opts.header ~= false then
            local first
            if type(opts.header) ~= "table" then
                repeat first = self.next() until not first or first.text ~= ""
            end
            if first and first.wrong then errors.fail("io", ("line %d: %s"):format(first.line, first.wrong)) end
            if first then self.byte, self.line = first.stop, first.below end
            local names <const> = type(opts.header) == "table" and opts.header or first and first.fields or {}
            places = check_names(names)
            self.columns = table.move(names, 1, #names, 1, {})
        end
        self.converters = converters(opts.types, self.columns, places)
        self.required = required_places(opts.required, self.columns, places)
        if from and from.byte > self.byte then
            if not self.columns then -- the first row sets the number of fields
                local first
                repeat first = self.next() until not first or first.text ~= ""
                self.width = first and first.n
            end
            file:seek("set", from.byte)
            self.byte, self.line = from.byte, from.line
            self.next = parse.records(read, opts.delimiter or ",", opts.quote or '"', from)
        end
    end)
    if not ok then
        self:close()
        error(e, 0)
    end
    return self
end

-- ---- writing ----

---@class dbrun.csv.WriterOptions
---@field columns? string[] the names, for rows by name and for the header; without it rows are lists
---@field header? boolean false: no header
---@field delimiter? string one byte, default ","
---@field quote? string one byte, default '"'
---@field null? string the text that is written for NULL, without quotes; default ""

---@class dbrun.csv.Writer
---@field rows integer how many rows were written
local Writer = {}
local WriterMeta <const> = { __index = Writer, __name = "dbrun.csv.Writer" }

local WRITER <const> = { columns = "table", header = "boolean", delimiter = BYTE, quote = BYTE, null = "string" }

local BYTEA <const> = 17
local BYTES <const>, PLAIN <const> = { bytes = true }, {}

---The bytea columns of a query's row, by name and by position: their values are written as COPY writes them.
local function describe(self, row)
    local columns <const> = core.rows.columns(row)
    if columns == self.described then return end
    self.described, self.bytes = columns, {}
    for i, column in ipairs(columns or {}) do
        if column.oid == BYTEA then self.bytes[i], self.bytes[column.name] = BYTES, BYTES end
    end
end

---Writes a row.
---@param row table by name (when the writer has columns), or a list
---Raises kind `usage` for a row with a key that is not a column, kind `io` when the file cannot be written.
function Writer:write(row)
    args.self("write", self, WriterMeta, "a writer", "writer")
    args.check("writer:write", "the row", row, "table")
    local value <const> = require "dbrun.table.value"
    local texts <const>, columns <const> = {}, self.columns
    local by_name <const> = columns and rawlen(row) == 0
    local n <const> = columns and #columns or rawlen(row)
    if columns and rawlen(row) > n then
        errors.usage("writer:write", "the row has %d values, and there are %d columns", rawlen(row), n)
    end
    if not columns and n == 0 and next(row) ~= nil then
        errors.fail("usage", "writer:write: the row is a table by name, and the writer has no columns",
            "csv.writer(file, { columns = { \"id\", \"name\" } })")
    end
    describe(self, row)
    for key in next, by_name and row or {} do
        if not self.known[key] then
            errors.fail("usage", ("writer:write: the row has a column '%s' that the writer does not have"):format(
                tostring(key)), near_text(key, columns))
        end
    end
    for i = 1, n do
        local key <const> = by_name and columns[i] or i
        local v <const> = row[key]
        if type(v) == "function" or type(v) == "thread" then
            errors.usage("writer:write", "the value of %s is a %s",
                by_name and ("'%s'"):format(key) or "column " .. key, type(v))
        end
        texts[i] = not value.is_null(v) and value.text(v, self.bytes[key] or PLAIN)
    end
    self.out:line(self.line(texts, n))
    self.rows = self.rows + 1
end

---Passes all rows to the system. Idempotent; the file stays open. Raises kind `io` when they cannot be written: a full
---disk is reported here, not before.
function Writer:flush()
    args.self("flush", self, WriterMeta, "a writer", "writer")
    self.out:flush()
end

---Flushes at the end of the writer's block; after an error in the block, that error is raised.
function WriterMeta:__close(problem)
    if problem == nil then self.out:flush() else pcall(self.out.flush, self.out) end
end

---Writes CSV into a file, row by row. To notice a full disk, use `local w <close> = csv.writer(...)`, `w:flush()` at
---the end, or the file's own `close`.
---@param file file* or an object with a method `write`, such as a child process
---@param opts? dbrun.csv.WriterOptions
---@return dbrun.csv.Writer
---Raises kind `usage` for options, kind `io` when the names cannot be written.
function M.writer(file, opts)
    opts = args.options("csv.writer", opts, WRITER)
    outs.check("csv.writer", file)
    if opts.columns then args.list("csv.writer", "columns", opts.columns, "string") end
    local encode <const> = require "dbrun.csv.encode"
    local dialect <const> = { delimiter = opts.delimiter or ",", quote = opts.quote or '"', nulls = opts.null or "" }
    if dialect.delimiter == dialect.quote then errors.usage("csv.writer", "delimiter and quote are the same") end
    if not encode.takes_nulls(dialect) then
        errors.usage("csv.writer", "null is written without quotes, so it must have no delimiter, quote or line end")
    end
    local self <const> = setmetatable({
        out = outs.new("csv.writer", file, { at_once = true }), rows = 0, columns = opts.columns,
        known = {}, bytes = {},
        line = encode.line(dialect),
    }, WriterMeta)
    for _, name in ipairs(opts.columns or {}) do self.known[name] = true end
    if opts.columns and opts.header ~= false then self.out:line(self.line(opts.columns, #opts.columns)) end
    return self
end

return args.answer_for_names(M, "csv", {
    read = "csv.reader(source, opts)", open = "csv.reader(path, opts)", rows = "csv.reader(source, opts)",
    parse = "csv.reader(source, opts)", write = "csv.writer(file, opts)", dictreader = "csv.reader(source, opts)",
    DictReader = "csv.reader(source, opts)", DictWriter = "csv.writer(file, { columns = ... })",
})
