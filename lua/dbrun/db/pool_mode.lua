--- The pool mode of a pooler between this program and the server. PgBouncer and similar poolers do not show it on an
--- ordinary connection, so it is tested: an idle connection keeps its backend only in session mode.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

---@alias dbrun.PoolMode "session"|"transaction"|"statement"

-- Other clients of the pooler can take a backend, and return it, between two looks: one look proves nothing.
local TIMES <const> = 5

local LOOK <const> = catalog.sql [[
select {pg_backend_pid}() as pid, (select query from {pg_stat_activity} where pid {=} $1) as query]]

---@class dbrun.PoolLook
---@field pid integer the backend that answers
---@field query? string the last statement of that backend

---Call it in a transaction on another connection than the one that M.of tests.
---@param conn table
---@param pid integer of a backend
---@return dbrun.PoolLook
function M.look(conn, pid)
    return conn:one(LOOK, pid)
end

---Whether a pooler has refused a transaction.
---@param e any
---@return boolean
function M.takes_no_transactions(e)
    return errors.is(e) and e.message:find("statement pooling", 1, true) ~= nil
end

---@param conn table a connection through a pooler, on which nothing runs
---@param elsewhere fun(pid: integer): dbrun.PoolLook|false|nil M.look in a transaction on another connection; false:
---    there is none; nil: the pooler takes no transactions
---@return dbrun.PoolMode
function M.of(conn, elsewhere)
    local token <const> = core.digest("sha256", ("%s %p %d"):format(os.time(), {}, math.random(0))):sub(1, 16)
    local mine <const> = ("/* %s */ "):format(token) .. catalog.sql "select {pg_backend_pid}()"
    local first <const> = conn:value(mine)
    for _ = 1, TIMES do
        local other <const> = elsewhere(first)
        if other == nil then return "statement" end
        if not other then return "session" end -- each connection keeps its own
        local used <const> = not (other.query and other.query:find(token, 1, true))
        if other.pid == first or used or conn:value(mine) ~= first then return "transaction" end
    end
    return "session"
end

return M
