--- Sends one statement of a file unchanged, and for a COPY ... FROM stdin the rows after it.
local copy = require "dbrun.db.copy"
local errors = require "dbrun.error"
local stream = require "dbrun.sql.stream"

local M = {}

---Calls fn() while a function gets the server's messages (NOTICE, WARNING) of the connection.
---@param conn table
---@param on_notice? fun(notice: dbrun.Notice)
---@param fn fun(): any
---@return any
function M.listening(conn, on_notice, fn)
    if not on_notice then return fn() end
    conn:on_notice(on_notice)
    local ok, result = pcall(fn)
    pcall(conn.on_notice, conn, nil) -- the connection may be lost
    if not ok then error(result, 0) end
    return result
end

---Whether the program or the task was interrupted. A statement that was cancelled on the server (pg_cancel_backend) has
---the same kind, but it has an SQLSTATE and is an ordinary error.
---@param e any
---@return boolean
function M.is_interruption(e)
    return errors.is(e, "cancelled") and not e.sqlstate
end

---@param conn table
---@param statement dbrun.migrate.Statement
---@param on_notice? fun(notice: dbrun.Notice, statement: dbrun.migrate.Statement)
---@return integer rows affected
function M.send(conn, statement, on_notice)
    return M.listening(conn, on_notice and function(notice) on_notice(notice, statement) end, function()
        local data <const> = statement.data
        if not data then return conn:exec(statement.sql) end
        copy.look(conn, data.text, stream.form(statement.sql))
        return copy.text(conn, statement.sql, data.text)
    end)
end

return M
