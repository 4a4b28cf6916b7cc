--- COPY FROM STDIN: rows, or text, from a producer that can wait.
local args <const> = require "dbrun.args"
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"
local params <const> = require "dbrun.db.params"
local sources <const> = require "dbrun.db.source"
local statement <const> = require "dbrun.db.copy_statement"
local told <const> = require "dbrun.db.told"
local types <const> = require "dbrun.db.types"

local M = {}

--- Texts of at least this size are sent in parts; shorter ones are collected first.
local LARGE <const> = 64 * 1024

--- The entry for arrays of a user-defined type.
local SOME_ARRAY <const> = 0xffffffff

-- ---- the table's columns ---------------------------------------------------------------------------

--- Replaces domains by their base types, and enums by text, whose binary form is the same.
local columns_sql <const> = catalog.sql [[
with recursive col(num, name, type) as (
    select a.attnum, a.attname, a.atttypid from {pg_attribute} a
    where a.attrelid {=} {to_regclass}($1) and a.attnum {>} 0 and not a.attisdropped and a.attgenerated {=} ''
    union all
    select c.num, c.name, t.typbasetype from col c join {pg_type} t on t.oid {=} c.type where t.typtype {=} 'd')
select c.name, case when t.typtype {=} 'e' then 25::{oid} else c.type end as oid, t.oid as own, t.typname as type,
    t.typcategory {=} 'A' as is_array
from col c join {pg_type} t on t.oid {=} c.type where t.typtype {<>} 'd' order by c.num]]

local COLUMN <const> = { name = "string", oid = "number", type = "string", is_array = "boolean" }

---@class dbrun.CopyPlan
---@field names string[]
---@field oids integer[] empty when a column does not exist: the server reports it
---@field types string[]

--- The trees of the columns' types, how values are encoded, and the columns whose scalars are encoded by type too.
local function add_trees(conn, plan, own)
    local w <const> = conn:values()
    plan.writing = { codecs = w.codecs, epoch = w.epoch or nil, outcome = "failed" }
    plan.trees, plan.special = {}, {}
    local trees <const> = types.trees_of(conn, { own })
    for i, oid in ipairs(own) do
        plan.trees[i] = trees[oid]
        plan.special[i] = literal.is_special(trees[oid], plan.writing) or nil
    end
end

---@return dbrun.CopyPlan
local function plan_columns(conn, target, columns)
    local found, all = {}, {}
    for i, row in ipairs(catalog.rows(conn, columns_sql, COLUMN, target)) do
        found[row.name], all[i] = row, row.name
    end
    local plan <const> = { names = #columns > 0 and columns or all, oids = {}, types = {} }
    local own <const> = {}
    for i, name in ipairs(plan.names) do
        local column <const> = found[name]
        if not column then
            plan.oids = {}
            break
        end
        local foreign <const> = column.is_array and not core.pg.copy.binary(column.oid)
        plan.oids[i], plan.types[i] = foreign and SOME_ARRAY or column.oid, column.type
        own[i] = column.own
    end
    add_trees(conn, plan, #plan.oids > 0 and own or {})
    return plan
end

--- The format for rows: binary if every column supports it.
local function format_of_rows(plan, wanted)
    if wanted == "text" or wanted == "csv" or #plan.oids == 0 then
        return wanted or "text"
    end
    for i, oid in ipairs(plan.oids) do
        local known <const> = core.pg.copy.binary(oid)
        if wanted == "binary" and not known then
            errors.fail("usage", ("copy_in: column %q has the type %s, for which there is no binary encoder"):format(
                plan.names[i], plan.types[i]),
                "Leave out the format: then text is used for such types.")
        elseif not wanted and (known ~= "always" or plan.special[i]) then
            return "text"
        end
    end
    return "binary"
end

-- ---- the source ------------------------------------------------------------------------------------

local function chunks_of_file(file)
    return function()
        local data <const>, why <const> = file:read(LARGE)
        if not data and why then
            errors.fail("io", "copy_in: the file cannot be read: " .. tostring(why))
        end
        return data
    end
end

--- The values for a generic `for`, for each kind of source.
---@param source any of copy_in
---@param state any
---@return function, any ...
function M.iterator_of(source, state)
    if args.is_callable(source) then
        return source, state
    elseif type(source) == "string" then
        return sources.items("copy_in", { source })
    elseif io.type(source) == "file" then
        return chunks_of_file(source)
    end
    return sources.items("copy_in", source)
end

--- Whether the row is a table by column name, not a sequence.
local function is_by_name(row, names)
    if core.rows.kind(row) == "row" then
        return true -- all of its columns may be NULL
    elseif #row == 0 then
        for _, name in ipairs(names) do
            if row[name] ~= nil then
                return true
            end
        end
    end
    return false
end

-- ---- sending ---------------------------------------------------------------------------------------

local table_like <const> = { array = true, composite = true, range = true, multirange = true, hstore = true,
    vector = true, json = true }

--- The function that encodes a value by its column's type. Values that it does not convert are refused by the C
--- encoder.
local function writer(plan, format)
    local w <const> = plan.writing
    return function(v, column, row)
        local tree <const> = plan.trees[column]
        local plain <const> = type(v) == "table" and not literal.is_wrapped(v)
        if plain and not table_like[tree.kind] and not plan.special[column] then
            return v
        end
        w.place = ("copy_in: row %d, column %q: the value"):format(row, plan.names[column])
        for i = #w, 1, -1 do w[i] = nil end
        if format == "binary" and tree.kind == "array" and type(v) == "table" then
            return literal.list(tree, v, w)
        end
        return core.pg.param(literal.text(tree, v, w), 0, false)
    end
end

local function nothing() end

--- Each sender stops early when the server has refused the COPY; the end of the COPY raises its error.
local function send_rows(conn, encoder, plan, first, f, state)
    local row, empty = first, 0
    -- A row of only NULLs does not show whether rows are lists or by name: the first other row does.
    while type(row) == "table" and next(row) == nil and core.rows.kind(row) ~= "row" and not core.rows.proxy(row) do
        row, empty = f(state, row), empty + 1
    end
    local add <const> = encoder:rows(type(row) == "table" and is_by_name(row, plan.names))
    for _ = 1, empty do
        if add {} and not conn:copy_send(encoder) then
            return
        end
    end
    while row ~= nil do
        if add(row) and not conn:copy_send(encoder) then
            return
        end
        row = f(state, row)
    end
    encoder:finish()
    conn:copy_send(encoder)
end

--- Sends a text in parts, so that a long one is never copied as a whole.
local function send_text(conn, text)
    local at = 0
    repeat
        at = conn:copy_send(text, at)
    until not at or at == #text
    return at
end

local function send_chunk(conn, encoder, chunk)
    if type(chunk) ~= "string" then
        errors.usage("copy_in", "the iterator returned a %s after pieces of text", type(chunk))
    elseif #chunk < LARGE then
        return not encoder:raw(chunk) or conn:copy_send(encoder)
    end
    encoder:look(chunk)
    return conn:copy_send(encoder) and send_text(conn, chunk)
end

local function send_chunks(conn, encoder, _, first, f, state)
    if not send_chunk(conn, encoder, first) then
        return
    end
    for chunk in f, state, first do
        if not send_chunk(conn, encoder, chunk) then
            return
        end
    end
    conn:copy_send(encoder)
end

local function transfer(conn, sql, send, ...)
    conn:copy_begin(sql)
    local ok <const>, e <const> = pcall(send, conn, ...)
    if ok then
        return conn:copy_end()
    end
    -- Fail the COPY, unless it has ended because the connection was lost or the task cancelled.
    core.task.shield(pcall, conn.copy_end, conn, "the producer of the rows failed")
    error(e, 0)
end

local function counts(rows)
    return { rows = rows }
end

local function run(conn, sql, send, ...)
    conn:drained()
    return told.run("copy_in", counts, sql, transfer, conn, sql, send, ...)
end

---Raises when data follows an end marker, because the server would not read it; see M.watch.
---@param conn dbrun.Connection
---@param text string
---@param csv? boolean
---@param quote? string
---@param escape? string
function M.look(conn, text, csv, quote, escape)
    local encoder <const> = core.pg.copy.encoder("text", {}, {}, nothing)
    M.watch(conn, encoder, csv, quote, escape)
    encoder:look(text)
end

---Runs a COPY ... FROM STDIN that is given as a statement, with a text in its format.
---@param conn dbrun.Connection
---@param sql string
---@param text string
---@return integer rows as the server counted them
function M.text(conn, sql, text)
    return run(conn, sql, send_text, text)
end

local function copy_rows(conn, call, first, f, state)
    if type(first) ~= "table" then
        errors.usage("copy_in", "the iterator returned a %s, expected a row (a table) or a piece of text",
            type(first))
    end
    local plan <const> = plan_columns(conn, call.target, call.columns)
    local format <const> = format_of_rows(plan, call.opts.format)
    local sql <const> = statement.copy_in(call.target, plan.names, { format = format })
    local encoder <const> = core.pg.copy.encoder(format, plan.oids, plan.names, writer(plan, format), plan.special)
    return run(conn, sql, send_rows, encoder, plan, first, f, state)
end

---Makes the encoder's raw and look raise an error for data after an end marker, which the server would not read.
---@param conn dbrun.Connection
---@param encoder table
---@param csv? boolean the data is CSV, not text; nil: neither
---@param quote? string of CSV
---@param escape? string of CSV
function M.watch(conn, encoder, csv, quote, escape)
    local newest <const> = tonumber(conn.parameters.server_version:match "^%d+") >= 18
    if csv == nil or csv and newest then return end -- there the marker is a value
    encoder:watch(csv, quote or '"', escape or quote or '"')
end

---@class dbrun.db.CopyIn
---@field target string the table's name, quoted
---@field columns string[] empty: all
---@field source any
---@field opts table
---@field state any
---@field closing any

local SOURCE <const> = {
    function(v)
        return type(v) == "table" or type(v) == "string" or args.is_callable(v) or io.type(v) == "file"
    end, "rows or text from an iterator, a list, a string or an open file",
}
local TAKES <const> = "takes (table, columns, rows, options)"
local HINT <const> = 'copy_in("t", { "a", "b" }, rows, { format = "csv" })'

---The arguments of copy_in, checked before anything is taken.
---@param table_name string|string[] "schema.table" or {"schema", "ta.ble"}
---@param columns string[]|nil nil or empty = all that are not generated, in the table's order
---@param source function|table|string|file* iterator of rows or of pieces of text (its state may follow, as
---other:rows(...) gives it), list of rows, one text, or an open file
---@param opts? dbrun.CopyInOptions
---@return dbrun.db.CopyIn
function M.arguments(table_name, columns, source, opts, ...)
    local target <const> = params.table_of("copy_in", table_name)
    args.optional("copy_in", "the columns", columns or nil, args.strings)
    if io.type(source) == "closed file" then
        errors.usage("copy_in", "the source is a closed file")
    end
    args.check("copy_in", "the source", source, SOURCE)
    local is_state <const> = args.is_callable(source) and (type(opts) ~= "table"
        or (getmetatable(opts) ~= nil and not core.rows.columns(opts)))
    local call <const> = { target = target, columns = columns or {}, source = source }
    if is_state then
        sources.check_rest("copy_in", TAKES, HINT, opts, ...)
        call.state, call.closing, opts = opts, (select(2, ...)), nil
    else
        args.no_more("copy_in", TAKES, HINT, ...)
    end
    call.opts = statement.check("copy_in", opts)
    return call
end

---Copies rows into a table, all or none. The producer can wait (query on other connections). An error in it ends the
---COPY and is raised.
---
---Rows are sequences in the order of `columns` (nil or db.null = NULL), or tables by column name. Values are as in
---query results: bytea as raw bytes; JSON and arrays also as tables.
---@param conn dbrun.Connection
---@param call dbrun.db.CopyIn
---@return integer rows as the server counted them
function M.copy_in(conn, call)
    local _ <close> = call.closing
    local f <const>, s <const> = M.iterator_of(call.source, call.state)
    local first <const> = f(s, nil)
    if first == nil then
        return run(conn, statement.copy_in(call.target, call.columns, { format = "text" }), function() end)
    elseif type(first) ~= "string" then
        statement.rows_only("copy_in", call.opts)
        return copy_rows(conn, call, first, f, s)
    end
    local encoder <const> = core.pg.copy.encoder("text", {}, {}, nothing)
    local opts <const> = call.opts
    if opts.format ~= "binary" then M.watch(conn, encoder, opts.format == "csv", opts.quote, opts.escape) end
    return run(conn, statement.copy_in(call.target, call.columns, call.opts), send_chunks, encoder, nil, first, f, s)
end

return M
