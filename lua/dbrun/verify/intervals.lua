--- Lengths of time in expectations: "7 days", "1 month", or a number. The server compares them by length: a month is 30
--- days, a day 24 hours.
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"

local M = {}

---The server's error for a text that is not an interval.
local NO_INTERVAL <const> = { ["22007"] = true, ["22008"] = true, ["22015"] = true }

local SAME <const> = catalog.sql "select $1::{interval} {=} $2::{interval}"
local SECONDS <const> = catalog.sql "select extract(epoch from $1::{interval})::{float8}"

local function ask(conn, sql, ...)
    local ok, found = pcall(conn.value, conn, sql, ...)
    if ok then return found end
    if not errors.is(found) or not NO_INTERVAL[found.sqlstate] then error(found, 0) end
    return nil
end

---A value of the catalog as text: an interval, or the number of an integer dimension; nil when there is none.
---@param value any
---@return string?
function M.text(value)
    if math.type(value) == "float" and math.tointeger(value) then value = math.tointeger(value) end
    local kind = type(value)
    return (kind == "string" or kind == "number") and tostring(value) or nil
end

---Whether the value on the server is the expected one.
---@param conn table
---@param there any of the catalog
---@param wanted string|number
---@return boolean
function M.same(conn, there, wanted)
    local one, other = M.text(there), assert(M.text(wanted))
    if not one then return false end
    if one == other:match "^%s*(.-)%s*$" then return true end
    if tonumber(one) or tonumber(other) then
        return tonumber(one) ~= nil and tonumber(one) == tonumber(other)
    end
    return ask(conn, SAME, one, other) == true
end

---@param conn table
---@param wanted string|number an interval, or seconds
---@return number? seconds nil when it is no interval
function M.seconds(conn, wanted)
    return tonumber(wanted) or ask(conn, SECONDS, wanted)
end

return M
