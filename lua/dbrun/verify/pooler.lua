--- How a pooler between this program and the server gives out its connections. PgBouncer and its kind do not tell it
--- over an ordinary connection, so it is tried.
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

local ENOUGH <const> = 1.5 -- seconds that a pooler may take to give out another connection

local PID <const> = catalog.sql "select {pg_backend_pid}()"
local TIMES <const> = 3

---@alias dbrun.verify.PoolMode "session"|"transaction"|"statement"

---The backend of a transaction on another connection of the pool. False: the pooler has none to give. Nil: it takes
---no transactions.
local function elsewhere()
    local ok, pid = pcall(task.timeout, ENOUGH, function()
        local other <close> = require("dbrun.db").async:acquire()
        return other:transaction(function(tx) return tx:value(PID) end)
    end)
    if ok then return pid end
    if errors.is(pid, "timeout") then return false end
    if errors.is(pid) and pid.message:find "statement pooling" then return nil end
    error(pid, 0)
end

---An idle connection keeps its backend in session mode only: in the others another connection gets it, or the next
---statement has another one.
---@param conn dbrun.Connection a leased connection on which nothing runs
---@param first integer the backend that it had before
---@return dbrun.verify.PoolMode
function M.mode(conn, first)
    for _ = 1, TIMES do
        local mine = conn:value(PID)
        local other = elsewhere()
        if other == nil then return "statement" end
        if not other then break end -- each connection keeps its own
        if mine ~= first or mine == other then return "transaction" end
    end
    return "session"
end

return M
