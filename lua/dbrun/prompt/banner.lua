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

---Is a server configured? Else the prompt is Lua's until the first SQL.
---@return boolean
function M.is_configured()
    for _, key in ipairs { "PGHOST", "PGDATABASE", "PGSERVICE", "PGHOSTADDR", "PGPORT", "PGUSER" } do
        if os.getenv(key) then return true end
    end
    return config.async_database_url ~= nil and config.async_database_url:find "%S" ~= nil
end

local function ask()
    local url <const> = config.async_database_url
    local engine <const> = db.engine { url = url, size = 1, overflow = 0, connect_timeout = PATIENCE * 4 }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local conn <close> = engine:acquire()
    local where <const> = target.describe(conn, url or "")
    local ok, e = pcall(target.check, conn, url or "", core.options.target)
    if not ok and not errors.is(e, "usage") then error(e, 0) end
    return where, not ok and not core.options.target, not ok and core.options.target and e or nil
end

---The line about the server. On a protected database that was not named, all that is opened later is read-only.
---@return string
function M.server()
    local ok, where, protected, wrong = pcall(function()
        if not M.is_configured() then return nil end
        return task.timeout(PATIENCE, ask)
    end)
    if ok and not where then
        return "No server is configured (dbrun config): the first SQL asks libpq's own default."
    end
    if ok then
        local marks = ""
        if protected then core.options.read_only = true end
        if core.options.read_only then marks = " READ-ONLY" end
        if protected then marks = marks .. " PROTECTED (to change it: dbrun --target NAME)" end
        if wrong then marks = marks .. " " .. tostring(wrong) end
        return where .. marks
    end
    local e <const> = where
    if errors.is(e, "cancelled") then error(e, 0) end
    local late <const> = errors.is(e, "timeout")
    local why <const> = errors.is(e) and e.message or tostring(e)
    return (late and "The server has not answered yet" or "No connection: " .. why) .. ". The first SQL opens one."
end

return M
