--- Runs the work of a job in the transaction of a chunk: it must not end the transaction, leave a statement in flight
--- or hide that one failed, and it has its own time limit, because a function can send several statements.
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

---Longer than `timeout`, so that a single statement is ended by the server's own limit, with its own message.
local GRACE <const> = 0.25

local ROWS <const> = args.whole(0)

---Undoes the guard around the work.
local function settle(conn)
    conn:drained()
    local _, ended <const> = conn:guard(false)
    if ended then
        errors.fail("usage", "the transaction of a chunk was ended inside of it: what it did before may be committed",
            "dbrun commits each chunk; run has no COMMIT, ROLLBACK or BEGIN")
    end
    if conn:in_transaction() == "failed" then
        errors.raise {
            kind = "query", sqlstate = "25P02", outcome = "failed",
            message = "a statement of the chunk failed and its error was caught: nothing of the chunk was kept",
            hint = "Catch the error outside of run, or put the statement into tx:transaction (a savepoint).",
        }
    end
end

---The id of a chunk: the same for the same bounds.
---@param ... string
---@return string
function M.id(...)
    return core.digest("sha256", table.concat({ ... }, "\2")):sub(1, 32)
end

---Does the work of a chunk in the open transaction.
---@param conn table
---@param timeout number seconds
---@param work fun(conn: table, chunk: table): integer, table?
---@param chunk table
---@return integer rows
---@return table? note
---Raises errors of the work and of the server; the guard is then still on.
function M.run(conn, timeout, work, chunk)
    conn:guard(true)
    local rows <const>, note <const> = task.timeout(timeout + GRACE, work, conn, chunk)
    args.check("batch run", "the number of rows it returns", rows, ROWS)
    settle(conn)
    return rows, note
end

return M
