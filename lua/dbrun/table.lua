--- Rows, lists and maps as people and programs read them: aligned tables, one line a value, CSV, COPY's text, JSON,
--- Markdown.
---
---     local table_ = require "dbrun.table"
---     table_.print(db.async:query "select * from users")
---     table_.write(io.stdout, db.async:rows "select * from events", { format = "csv" })
---
--- In `table`, `vertical` and `md` a value never moves the cursor: control characters are escaped.
local args <const> = require "dbrun.args"
local errors <const> = require "dbrun.error"
local outs <const> = require "dbrun.table.out"
local source_of <const> = require "dbrun.table.source"
local tty <const> = require "dbrun.tty"

local M = {}

local FORMATS <const> = {
    table = function(...) return require "dbrun.table.box".new(...) end,
    vertical = function(...) return require "dbrun.table.vertical".new(...) end,
    csv = function(...) return require "dbrun.table.fields".csv(...) end,
    tsv = function(...) return require "dbrun.table.fields".tsv(...) end,
    json = function(...) return require "dbrun.table.json".list(...) end,
    jsonl = function(...) return require "dbrun.table.json".lines(...) end,
    md = function(...) return require "dbrun.table.markdown".new(...) end,
}

---The formats, in the order of the manual.
M.formats = { "table", "vertical", "csv", "tsv", "json", "jsonl", "md" }

---@class dbrun.table.Options
---@field format? "table"|"vertical"|"csv"|"tsv"|"json"|"jsonl"|"md" default table
---@field columns? (string|{name: string, type?: string, oid?: integer})[] which columns, and in which order; for rows
---that are lists: their names
---@field header? boolean false leaves the names of the columns out
---@field nulls? string the text of NULL: "NULL", in csv nothing; the other formats for programs have fixed ones
---@field title? string a line above it (table, vertical, md)
---@field limit? integer rows that are shown; the others are read, and counted in a last line
---@field text? boolean the values are the server's own text, as query({text = true}, ...) gives it
---@field width? integer|false width to which lines are cut; default: the terminal's width on a terminal; false: never
---@field cell_width? integer the width to which a value is cut
---@field color? boolean default: on a terminal
---@field delimiter? string of csv, one byte; default ","

local KNOWN <const> = {
    format = args.one_of(table.unpack(M.formats)), columns = "table", header = "boolean", nulls = "string",
    title = "string", limit = args.whole(0), text = "boolean", width = args.or_false(args.whole(1)),
    cell_width = args.whole(1), color = "boolean",
    delimiter = {
        function(v) return type(v) == "string" and #v == 1 and not v:find '[\r\n"]' end,
        "one byte, no quote or line end",
    },
}

local ONLY_FOR <const> = {
    title = { table = true, vertical = true, md = true }, delimiter = { csv = true },
    nulls = { table = true, vertical = true, md = true, csv = true },
}

local function options_of(fn, given)
    local opts <const> = {}
    for key, value in pairs(args.options(fn, given, KNOWN)) do opts[key] = value end
    opts.format = opts.format or "table"
    if opts.columns and not require "dbrun.table.columns".are_columns(opts.columns) then
        errors.usage(fn, "columns must be a list of names, or of tables with a name as result.columns has them")
    end
    for key, formats in pairs(ONLY_FOR) do
        if opts[key] ~= nil and not formats[opts.format] then
            errors.usage(fn, "the format %s has no option '%s'", opts.format, key)
        end
    end
    return opts
end

--- Options for a terminal: its width, colours.
local function for_terminal(opts, fd)
    if opts.width == nil and fd and tty.isatty(fd) then opts.width = tty.width(fd) end
    if opts.color == nil then opts.color = fd ~= nil and tty.colour(fd) end
end

local function plural(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

--- A line about what is not shown; nil if everything is.
local function left_out(rows, columns)
    local parts <const> = {}
    if rows > 0 then parts[1] = plural(rows, "more row") end
    if columns > 0 then
        parts[#parts + 1] = plural(columns, "column")
            .. " of equal names not in the rows: read them with { positional = true }"
    end
    return parts[1] and "(" .. table.concat(parts, "; ") .. ")" or nil
end

local FOR_PEOPLE <const> = { table = true, vertical = true, md = true }

--- Passes each line to `emit`. Returns the number of rows that it read, and of rows that it wrote.
local function run(fn, v, opts, emit)
    local meta <const> = args.is_callable(v) and getmetatable(v)
    local _ <close> = type(meta) == "table" and meta.__close and v or nil
    local source <const> = source_of.of(fn, v, opts)
    for _, column in ipairs(source.columns) do column.as_text = opts.text end
    source.asked = opts.columns ~= nil
    local hidden <const> = source.hidden or 0
    if hidden > 0 and not FOR_PEOPLE[opts.format] then
        errors.fail("usage", ("%s: %s of equal names not in the rows"):format(fn, plural(hidden, "column")),
            "name them in the SQL (as), or read by position: query({ positional = true }, ...)")
    end
    local format <const> = FORMATS[opts.format](source, opts, emit, fn)
    local shown = math.min(source.count, opts.limit or source.count)
    for i = 1, shown do
        source.check(source.rows[i], i)
        if format.measure then format.measure(source.rows[i]) end
    end
    format.head()
    for i = 1, shown do format.row(source.rows[i], i) end
    local left = (source.left or 0) + source.count - shown
    for row in source.next or function() end do
        if opts.limit and shown >= opts.limit then
            left = left + 1
        else
            shown = shown + 1
            source.check(row, shown)
            format.row(row, shown)
        end
    end
    format.tail(shown, left_out(left, hidden))
    return shown + left, shown
end

---A value as lines of text.
---@param v any a result, a row, a list of rows or values, a map, an iterator of rows, a value
---@param opts? dbrun.table.Options
---@return string[]
---Raises an error of kind `usage` for options that do not exist, and for a row that is of another kind than the others.
---```lua
---local tables = require "dbrun.table"
---print(tables.lines({ { id = 7, name = "Ada" } }, { format = "jsonl" })[1])  --> {"id":7,"name":"Ada"}
---```
function M.lines(v, opts)
    opts = options_of("table.lines", opts)
    for_terminal(opts, nil)
    local lines <const> = {}
    run("table.lines", v, opts, function(line) lines[#lines + 1] = line end)
    return lines
end

local FDS <const> = { [io.stdout] = 1, [io.stderr] = 2 }

local function write(fn, file, v, opts)
    opts = options_of(fn, opts)
    for_terminal(opts, FDS[file])
    local terminal <const> = FDS[file] ~= nil and tty.isatty(FDS[file])
    local guard <const> = terminal and (opts.format == "csv" or opts.format == "tsv")
    local out <close> = outs.new(fn, file, { at_once = terminal, guard = guard })
    local rows <const>, shown <const> = run(fn, v, opts, function(line) out:line(line) end)
    out:flush()
    return rows, shown
end

---Writes rows as they come: the widths of a table are those of the first 1,000, and no more rows are held in memory.
---@param file file* or an object with a method `write`, such as a child process
---@param v any as lines
---@param opts? dbrun.table.Options
---@return integer rows how many there were
---@return integer shown how many of them were written (`limit`)
---Raises an error of kind `io` when the file cannot be written, and what lines raises.
---```lua
---local tables = require "dbrun.table"
---local file <close> = io.open("ids.csv", "w")
---print(tables.write(file, db.async:rows "select 1 as id", { format = "csv" }))  --> 1  1
---```
function M.write(file, v, opts)
    outs.check("table.write", file)
    return write("table.write", file, v, opts)
end

---Prints a value on standard output. On a terminal lines are cut to its width.
---@param v any as lines
---@param opts? dbrun.table.Options
---Raises what write raises.
---```lua
---require("dbrun.table").print({ { id = 7, name = "Ada" } }, { format = "tsv" })
---```
function M.print(v, opts)
    write("table.print", io.stdout, v, opts)
end

return args.answer_for_names(M, "table", {
    format = "table.lines(v, opts)", tostring = "table.lines(v, opts)", show = "table.print(v)",
    csv = 'table.write(file, rows, { format = "csv" })', render = "table.lines(v, opts)",
    concat = "the table library of Lua is hidden here: local tables = require \"dbrun.table\"",
    insert = "the table library of Lua is hidden here: local tables = require \"dbrun.table\"",
    unpack = "the table library of Lua is hidden here: local tables = require \"dbrun.table\"",
    sort = "the table library of Lua is hidden here: local tables = require \"dbrun.table\"",
})
