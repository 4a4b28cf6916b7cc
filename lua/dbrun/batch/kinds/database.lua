--- Another database, as an option of a job names it: an engine, or its address.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local url <const> = require "dbrun.url"

local M = {}

local ENGINE <const> = select(3, core.pg.classes())

---@class dbrun.batch.Database
---@field text string for people, and for the job's hash: without user and password, which can change
---@field engine dbrun.Engine

---Whether a text is the address of a database, not a table's name.
---@param text string
---@return boolean
function M.is_address(text)
    return text:find("://", 1, true) ~= nil or text:find("=", 1, true) ~= nil
end

---Is it an engine?
---@param value any
---@return boolean
function M.is_engine(value)
    return type(value) == "userdata" and getmetatable(value) == ENGINE
end

---@param fn string "batch.copy"
---@param option string
---@param value any an engine, or an address
---@return dbrun.batch.Database
---Raises kind `usage` for anything else.
function M.of(fn, option, value)
    if M.is_engine(value) then return { text = value:target(), engine = value } end
    if type(value) ~= "string" or not M.is_address(value) then
        errors.fail("usage", ("%s: %s must be an engine or the address of a database"):format(fn, option),
            option .. ' = "postgres://user@host/database"')
    end
    local parsed <const> = url.parse_postgres(value, fn .. ": " .. option)
    local engine <const> = require("dbrun.db").engine { url = value }
    return { text = ("%s/%s"):format(engine:target(), parsed.dbname or ""), engine = engine }
end

return M
