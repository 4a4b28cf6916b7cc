--- Whether there is a pooler between this program and the server, and whether it keeps a session for each connection.
local errors = require "dbrun.error"
local lock = require "dbrun.migrate.run.lock"
local pool_mode = require "dbrun.db.pool_mode"
local settings = require "dbrun.migrate.run.settings"

local M = {}

---@alias dbrun.migrate.Mode
---| "direct"
---| "session" # a pooler that keeps a session for each connection
---| "transaction" # a pooler that can give each transaction another session

local BEGIN <const>, ROLLBACK <const> = "begin /* dbrun */", "rollback /* dbrun */"

---Looks from another connection.
local function look(other, pid)
    local ok, e = pcall(other.exec, other, BEGIN)
    if not ok then
        if pool_mode.takes_no_transactions(e) then return nil end
        error(e, 0)
    end
    local seen <const> = pool_mode.look(other, pid)
    other:exec(ROLLBACK)
    return seen
end

local function behind_pooler(conn, opts)
    local wait <const> = opts.lock_wait or 60
    local mode
    lock.limited(true, wait, function()
        local other, close = opts.sessions.second(math.max(1, wait))
        local ok, e = pcall(pool_mode.of, conn, function(pid) return look(other, pid) end)
        close()
        if not ok then error(e, 0) end
        mode = e
    end)
    if mode ~= "statement" then return mode end
    errors.fail("config", "the pooler before the server is in statement mode, which takes no transactions",
        "set MIGRATION_DATABASE_URL to the server itself, or pool_mode of the pooler to session or transaction")
end

---Asks once for a run.
---@param conn table of the migrations; no transaction is open
---@param opts dbrun.migrate.Options
---@return dbrun.migrate.Mode
function M.of(conn, opts)
    opts.mode = opts.mode or (settings.pooled(conn) and behind_pooler(conn, opts) or "direct")
    return opts.mode
end

return M
