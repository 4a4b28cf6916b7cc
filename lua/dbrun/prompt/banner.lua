--- The first lines of the prompt: which server, database and role. A server that does not answer at once is not waited
--- for.
local config = require "dbrun.config"
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local target = require "dbrun.target"
local task = require "dbrun.task"

local M = {}

--- Seconds for the server to say who it is.
local PATIENCE <const> = 0.5

--- The same where databases are protected.
local LONG_PATIENCE <const> = 10

---Is a server configured? Else the prompt is Lua's until the first SQL.
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

--- Are databases protected? Then it must be known which one this is, before anything can change it.
local function may_be_protected()
    return (config.DBRUN_PROTECTED or ""):find "%S" ~= nil
end

--- What is known about the server, in the line's words.
local function known(where, protected, wrong)
    if protected or wrong then core.options.read_only = true end
    local marks = where
    if core.options.read_only then marks = marks .. " READ-ONLY" end
    if protected then marks = marks .. " PROTECTED (to change it: dbrun --target NAME)" end
    if wrong then marks = ("%s: %s"):format(marks, wrong.message) end
    return marks
end

---The line about the server. On a protected database that was not named, or where --target names another one, all that
---is opened later is read-only; also where that could not be found out.
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
