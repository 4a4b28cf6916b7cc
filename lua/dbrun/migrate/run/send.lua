--- Sends one statement of a file: as it stands there, and, for a COPY ... FROM stdin, with the rows below it.
local copy = require "dbrun.db.copy"

local M = {}

---@param conn table
---@param statement dbrun.migrate.Statement
---@return integer rows affected
function M.send(conn, statement)
    local data <const> = statement.data
    if data then return copy.text(conn, statement.sql, data.text) end
    return conn:exec(statement.sql)
end

return M
