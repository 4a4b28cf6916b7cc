--- COPY TO STDOUT: rows, or raw text, with back-pressure.
local args <const> = require "dbrun.args"
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"
local statement <const> = require "dbrun.db.copy_statement"
local told <const> = require "dbrun.db.told"

local M = {}

local columns_sql <const> = catalog.sql [[
select a.attname::{text} as name from {pg_attribute} a
where a.attrelid {=} {to_regclass}($1) and a.attnum {>} 0 and not a.attisdropped and a.attgenerated {=} ''
order by a.attnum]]

--- A table is read by a SELECT: COPY of a table refuses views and partitioned tables, and returns no rows of a
--- hypertable.
local function query_of_table(conn, name, columns)
    local target <const> = params.table_of("copy_out", name)
    local list = columns or {}
    if #list == 0 then
        for i, row in ipairs(catalog.rows(conn, columns_sql, { name = "string" }, target)) do
            list[i] = row.name
        end
    end
    return ("SELECT %s FROM %s"):format(#list > 0 and statement.column_list(list) or "*", target)
end

--- A query without its final semicolons and what follows them, because COPY (..) does not allow them.
local function without_end(query)
    local stop = 0
    for behind, kind, at in core.sql.scan, query, 1 do
        local ends <const> = kind == "blank" or kind == "comment" or query:sub(at, behind - 1) == ";"
        if not ends then stop = behind - 1 end
    end
    return query:sub(1, stop)
end

--- A list, or a text without blanks and brackets, is a table's name; so is what begins with a quote, as no query does.
--- Any other text is a query.
local function is_table(source)
    return type(source) == "table" or not source:find "[%s()]" or source:find '^%s*"' ~= nil
end

---The query that reads the source.
---@param conn table
---@param source string|string[] a query, or a table's name
---@param opts dbrun.CopyOutOptions
---@return string
function M.query_of(conn, source, opts)
    if is_table(source) then
        return query_of_table(conn, source, opts.columns)
    elseif opts.columns then
        errors.usage("copy_out", "`columns` is for a table; a query selects its columns itself")
    end
    statement.refuse_copy(source, "copy_out")
    return without_end(source)
end

local types_sql <const> = catalog.sql [[
select {format_type}(t.oid, -1) as name from {unnest}($1::{oid}[]) with ordinality t(oid, place) order by t.place]]

local function has_escapes(conn) return conn.parameters.standard_conforming_strings == "off" end

--- COPY takes no parameters: they are written into the query as constants of the types that the server expects.
local function filled(conn, query, values)
    local prepare <const> = require "dbrun.db.values".prepare
    query, values = prepare(conn, query, values)
    local item <const> = { query }
    for i = 1, values.n do
        local v <const> = values[i]
        item[i + 1] = type(v) == "table" and v[2] or 0
    end
    local oids <const> = conn:parameter_types { item }[1]
    if #oids ~= values.n then
        errors.usage("copy_out", "%d values for a query with %d parameters", values.n, #oids)
    end
    local types <const> = {}
    for i, row in ipairs(catalog.rows(conn, types_sql, { name = "string" }, params.array(oids, "oid"))) do
        types[i] = row.name
    end
    return require "dbrun.db.quote".fill(query, values, types, has_escapes(conn))
end

local function open_raw(conn, query, opts, own, shown)
    return conn:copy_out_begin(statement.copy_out(query, opts), { raw = true, own = own, shown = shown })
end

local function open_rows(conn, query, opts, own, shown)
    statement.rows_only("copy_out", opts)
    local names, oids = {}, {}
    local columns <const> = conn:describe(query) or {}
    for i, column in ipairs(columns) do
        names[i], oids[i] = column.name, column.oid
    end
    if #names == 0 then
        errors.usage("copy_out", "the statement returns no columns")
    elseif opts.format == "csv" then
        errors.fail("usage", "copy_out: rows are sent as text or binary, not as CSV", "raw = true returns CSV.")
    end
    local readable <const> = conn:reads_binary(oids)
    if opts.format == "binary" and not readable then
        errors.fail("usage", "copy_out: a column's type has no binary decoder", "Leave out the format.")
    end
    local format <const> = opts.format or (readable and "binary" or "text")
    return conn:copy_out_begin(statement.copy_out(query, { format = format }), {
        binary = format == "binary", by_name = not opts.positional, own = own, oids = oids, names = names,
        columns = columns, shown = shown,
    })
end

local VALUE <const> = {
    function(v)
        local t <const> = type(v)
        return v == nil or v == core.null or t == "string" or t == "number" or t == "boolean" or t == "table"
    end, "a value: a string, number, boolean, nil, db.null, or a table",
}
---Raises when a table of :name parameters is passed in place of the options.
local function check_not_values(source, opts)
    local plan <const> = core.pg.named(source)
    for i = 2, plan and #plan or 1 do
        if opts[plan[i]] ~= nil then
            errors.fail("usage", ("copy_out: the parameter :%s is passed in place of the options"):format(plan[i]),
                "parameters follow the options: copy_out(sql, {}, { name = value })")
        end
    end
end

local SOURCE <const> = { args.string_or_strings[1], "a query or a table's name" }

---The options of copy_out, checked with its other arguments before anything is taken.
---@param source string|string[]
---@param opts? dbrun.CopyOutOptions
---@param ... any parameters
---@return table opts
function M.arguments(source, opts, ...)
    args.check("copy_out", "its first argument", source, SOURCE)
    if opts ~= nil and type(opts) ~= "table" then
        errors.fail("usage", "copy_out: the options must be a table, got a " .. type(opts),
            "parameters follow the options: copy_out(sql, {}, value, ...)")
    elseif select("#", ...) > 0 and is_table(source) then
        errors.usage("copy_out", "parameters are for a query, not for a table")
    end
    args.each("copy_out", "parameter", VALUE, ...)
    if select("#", ...) == 0 and type(source) == "string" and opts then check_not_values(source, opts) end
    return statement.check("copy_out", opts)
end

---Starts a COPY TO STDOUT. Leaving the loop early cancels it.
---@param conn dbrun.Connection
---@param source string|string[] a query, or a table's name
---@param opts dbrun.CopyOutOptions from M.arguments
---@param own boolean the iterator releases the connection at its end
---@param ... any parameters of the query: for $1, ..., or one table for :name
---@return fun(): table|string|nil iterator also closable (`<close>`)
---@return nil
---@return nil
---@return any closing for the generic `for`
function M.copy_out(conn, source, opts, own, ...)
    local query = M.query_of(conn, source, opts)
    local shown <const> = query -- for the log and the trace, without values
    local values <const> = table.pack(...)
    conn:drained()
    if values.n > 0 then
        query = filled(conn, query, values)
    end
    local began <const> = told.begin()
    local iterator <const> = (opts.raw and open_raw or open_rows)(conn, query, opts, own, shown)
    told.done(began, "copy_out", {}, shown)
    return iterator, nil, nil, iterator
end

return M
