--- COPY over the connection: rows come from the SQL text or from standard input, and go to the output.
local copy = require "dbrun.db.copy"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local stream = require "dbrun.sql.stream"

local M = {}

local PIECE <const> = 64 * 1024

---Sends the pieces; stops early when the server has refused the COPY, whose end then raises its error.
local function send(conn, sql, pieces)
    local encoder <const> = core.pg.copy.encoder("text", {}, {}, function() end)
    copy.watch(conn, encoder, stream.form(sql))
    for piece in pieces do
        if encoder:raw(piece) and not conn:copy_send(encoder) then return end
    end
    conn:copy_send(encoder)
end

---Runs a COPY ... FROM STDIN.
---@param conn dbrun.Connection
---@param sql string
---@param pieces fun(): string? text in the format of the COPY; nil at its end
---@return integer rows as the server counted them
function M.read(conn, sql, pieces)
    conn:copy_begin(sql)
    local ok <const>, e <const> = pcall(send, conn, sql, pieces)
    if ok then return conn:copy_end() end
    core.task.shield(pcall, conn.copy_end, conn, "the rows could not be read")
    error(e, 0)
end

---Standard input, piece by piece.
---@return fun(): string?
function M.stdin()
    return function()
        local piece <const>, why <const> = io.stdin:read(PIECE)
        if not piece and why then errors.fail("io", ("cannot read standard input: %s"):format(why)) end
        return piece
    end
end

---Runs a COPY ... TO STDOUT.
---@param conn dbrun.Connection
---@param sql string
---@param output dbrun.Output
function M.write(conn, sql, output)
    local pieces <close> = conn:copy_out_begin(sql, { raw = true, own = false })
    for piece in pieces do output:write(output.terminal and core.tty.printable(piece) or piece) end
end

return M
