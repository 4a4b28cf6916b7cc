--- COPY FROM STDIN: rows (or ready text) from a producer, in blocks.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"

local M = {}

--- Bytes that are collected before they are sent.
local BLOCK <const> = 256 * 1024

local function statement(table_name, columns, format)
    local list = {}
    for i, column in ipairs(columns) do
        list[i] = params.ident { column }
    end
    local names <const> = #list > 0 and " (" .. table.concat(list, ", ") .. ")" or ""
    return ("COPY %s%s FROM STDIN WITH (FORMAT %s)"):format(params.ident(table_name), names, format)
end

--- A producer as a function: of a list, a function, or one string.
local function producer_of(source)
    local t <const> = type(source)
    if t == "function" then
        return source
    elseif t == "string" then
        return function()
            local s <const> = source
            source = nil
            return s
        end
    elseif t == "table" then
        local i = 0
        return function()
            i = i + 1
            return source[i]
        end
    end
    errors.raise { kind = "usage", message = "copy_in: expected an iterator, a list of rows or a string, got " .. t }
end

local function send_all(conn, next_item, ncolumns, format)
    local encoder <const> = core.pg.copy_encoder()
    local add <const>, raw <const> = encoder.add, encoder.raw
    for item in next_item do
        local size
        if type(item) == "table" then
            if format ~= "text" then
                errors.raise { kind = "usage", message = ("copy_in: a row as a table goes in text format, not in %s")
                    :format(format) }
            end
            size = add(encoder, item, ncolumns > 0 and ncolumns or #item)
        else
            size = raw(encoder, item)
        end
        if size >= BLOCK then
            conn:copy_send(encoder)
        end
    end
    conn:copy_send(encoder)
end

---Copies rows into a table. A producer that raises ends the COPY: nothing of it stays, and its error goes on.
---@param conn table a leased connection
---@param table_name string
---@param columns string[] empty = all, in the table's order
---@param source function|table|string iterator of rows (sequences) or of pieces of text, a list, or one text
---@param opts? {format?: "text"|"csv"|"binary"} the format of pieces of text; rows are always text
---@return integer rows
function M.copy_in(conn, table_name, columns, source, opts)
    local format <const> = opts and opts.format or "text"
    if format ~= "text" and format ~= "csv" and format ~= "binary" then
        errors.raise { kind = "usage", message = ("copy_in: unknown format %q (text, csv or binary)"):format(
            tostring(format)) }
    end
    local next_item <const> = producer_of(source)
    conn:drained()
    conn:copy_begin(statement(table_name, columns or {}, format))
    local ok <const>, e <const> = pcall(send_all, conn, next_item, columns and #columns or 0, format)
    if ok then
        return conn:copy_end()
    end
    -- It is over already when the error is the server's own; else the server is told to undo it.
    core.task.shield(pcall, conn.copy_end, conn, "the producer of the rows failed")
    error(e, 0)
end

return M
