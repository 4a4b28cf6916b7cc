--- The first lines of the prompt: server, database and role. The prompt does not wait for a server that does not answer
--- at once.
local config = require "dbrun.config"
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local target = require "dbrun.target"
local task = require "dbrun.task"

local M = {}

--- Seconds to wait for the server's answer.
local PATIENCE <const> = 0.5

--- The same if there are protected databases.
local LONG_PATIENCE <const> = 10

---Whether a server is configured. If not, the prompt is Lua's until the first SQL.
---@return boolean
function M.is_configured()
    for _, key in ipairs { "PGHOST", "PGDATABASE", "PGSERVICE", "PGHOSTADDR", "PGPORT", "PGUSER" } do
        if os.getenv(key) then return true end
    end
    return config.async_database_url ~= nil and config.async_database_url:find "%S" ~= nil
end

local function ask(patience)
    local url <const> = config.async_database_url
    local engine <const> = db.engine { url = url, size = 1, overflow = 0, connect_timeout = patience * 4 }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local conn <close> = engine:acquire()
    local where <const> = target.describe(conn, url or "")
    local ok, e = pcall(target.check, conn, url or "", core.options.target)
    if not ok and not errors.is(e, "usage") then error(e, 0) end
    return where, not ok and not core.options.target, not ok and core.options.target and e or nil
end

--- Whether there are protected databases. Then the prompt must know which database this is before anything can change
--- it.
local function may_be_protected()
    return (config.DBRUN_PROTECTED or ""):find "%S" ~= nil
end

--- The known facts about the server, as text.
local function known(where, protected, wrong)
    if protected or wrong then core.options.read_only = true end
    local marks = where
    if core.options.read_only then marks = marks .. " READ-ONLY" end
    if protected then marks = marks .. " PROTECTED (to change it: dbrun --target NAME)" end
    if wrong then marks = ("%s: %s"):format(marks, wrong.message) end
    return marks
end

---The line about the server. If the database is protected and was not named, or --target names another one, or neither
---could be determined, all later connections are read-only.
---@return string
function M.server()
    if not M.is_configured() then
        return "No server is configured (dbrun config): the first SQL asks libpq's own default."
    end
    local patience <const> = may_be_protected() and LONG_PATIENCE or PATIENCE
    local ok, where, protected, wrong = pcall(task.timeout, patience, ask, patience)
    if ok then return known(where, protected, wrong) end
    local e <const> = where
    if errors.is(e, "cancelled") then error(e, 0) end
    local why <const> = errors.is(e) and e.message or tostring(e)
    local line = (errors.is(e, "timeout") and "The server has not answered yet" or "No connection: " .. why)
        .. ". The first SQL opens one."
    if may_be_protected() then
        core.options.read_only = true
        line = line .. " READ-ONLY: it may be protected (DBRUN_PROTECTED)."
    end
    return line
end

return M
