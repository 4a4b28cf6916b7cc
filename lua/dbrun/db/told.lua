--- Lines of the log (--log debug) about work that is done in Lua: pipelines, execute_many, COPY. Single statements are
--- logged by the C half.
local core <const> = require "dbrun.core"
local task <const> = core.task

local M = {}

---When the work begins; false: the log does not want it.
---@return number|false
function M.begin()
    return core.log.level() == "debug" and task.now()
end

---The work has ended well.
---@param began number|false from M.begin
---@param what string
---@param counts table<string, integer|nil> fields
---@param sql? string
function M.done(began, what, counts, sql)
    if not began then return end
    local us <const> = math.floor((task.now() - began) * 1000000) -- whole, for the locale's point is not JSON's
    local list <const> = { "ms", "raw", ("%d.%03d"):format(us // 1000, us % 1000) }
    local function put(key, kind, text)
        list[#list + 1], list[#list + 2], list[#list + 3] = key, kind, text
    end
    for _, key in ipairs { "statements", "rows" } do
        if counts[key] then put(key, "raw", ("%d"):format(counts[key])) end
    end
    if sql then put("sql", "text", sql:sub(1, (utf8.offset(sql, 2000) or #sql + 1) - 1)) end
    local place <const> = core.log.place()
    if place then put("place", "text", place) end
    core.log.fields("debug", "postgres: " .. what, list)
end

return M
