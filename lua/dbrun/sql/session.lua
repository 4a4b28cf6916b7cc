--- The connection of a run of SQL: one, until the end. On a protected database it is read-only unless the target was
--- named.
local catalog = require "dbrun.db.catalog"
local check = require "dbrun.sql.check"
local config = require "dbrun.config"
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local target = require "dbrun.target"

local M = {}

---@class dbrun.sql.Session
---@field conn dbrun.Connection
---@field engine dbrun.Engine
---@field protected? string the database's name: it is protected, and the session is therefore read-only
---@field locked boolean the session is read-only, for that reason or by --read-only, and stays so
local Session <const> = {}
local Metatable <const> = { __index = Session }

local function open(on_notice)
    local engine <const> = db.engine {
        url = config.async_database_url, size = 1, overflow = 0, connect_timeout = config.DB_CONNECT_TIMEOUT,
        command_timeout = config.DB_STATEMENT_TIMEOUT, statement_cache = 0, on_notice = on_notice, large_result = 0,
    }
    local ok <const>, conn <const> = pcall(engine.acquire, engine)
    if not ok then
        engine:close()
        error(conn, 0)
    end
    return engine, conn
end

---Opens the connection.
---@param named? string the target as --target names it
---@param on_notice fun(notice: dbrun.Notice)
---@return dbrun.sql.Session
function M.open(named, on_notice)
    local engine, conn = open(on_notice)
    local self <const> = setmetatable({ engine = engine, conn = conn }, Metatable)
    local ok <const>, e <const> = pcall(target.check, conn, config.async_database_url, named)
    if not ok then
        if named or not errors.is(e, "usage") then
            self:close()
            error(e, 0)
        end
        self.protected = conn:value(catalog.sql "select {current_database}()")
        if not core.options.read_only then
            -- In the startup packet, so that RESET ALL and DISCARD ALL do not undo it.
            self:close()
            core.options.read_only = true
            self.engine, self.conn = open(on_notice)
        end
    end
    self.locked = core.options ~= nil and core.options.read_only or false
    self.conn:verbatim(true) -- settings of the SQL, such as DateStyle, stay for the next statement
    return self
end

---Raises when a statement would make a locked read-only session writable.
---@param sql string
function Session:allow(sql)
    if self.locked and check.asks_to_write(sql) then self:refuse() end
end

---Raises when a statement has made a locked read-only session writable.
function Session:check()
    local value <const> = self.locked and self.conn.parameters.default_transaction_read_only
    if value and value ~= "on" then self:refuse() end
end

---Raises the error that the session stays read-only.
function Session:refuse()
    local database <const> = self.protected
    if not database then
        errors.fail("usage", "this statement makes the session writable, and this program runs with --read-only",
            "leave the statement out, or --read-only")
    end
    errors.fail("usage", ("the database '%s' is protected (DBRUN_PROTECTED), and this session is read-only"):format(
        database), ("name it to change it: --target %s"):format(database))
end

---Closes the connection; an open transaction is rolled back.
function Session:close()
    self.conn:release()
    self.engine:close()
end
Metatable.__close = Session.close

return M
