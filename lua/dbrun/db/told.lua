--- Lines of the log (--log debug) about work that is done in Lua: pipelines, execute_many, COPY. Single statements are
--- logged by the C half.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = core.task

local M = {}

---Called when the work begins; false: the log level does not include it.
---@return number|false
function M.begin()
    return core.log.level() == "debug" and task.now()
end

---Called when the work has ended.
---@param began number|false from M.begin
---@param what string
---@param counts table<string, integer|nil> fields
---@param sql? string
---@param e? any the error with which it failed
function M.done(began, what, counts, sql, e)
    if not began then return end
    local us <const> = math.floor((task.now() - began) * 1000000) -- no float: a locale may have no point
    local list <const> = { "ms", "raw", ("%d.%03d"):format(us // 1000, us % 1000) }
    local function put(key, kind, text)
        list[#list + 1], list[#list + 2], list[#list + 3] = key, kind, text
    end
    for _, key in ipairs { "statements", "rows" } do
        if counts[key] then put(key, "raw", ("%d"):format(counts[key])) end
    end
    if sql then put("sql", "text", sql:sub(1, (utf8.offset(sql, 2000) or #sql + 1) - 1)) end
    if errors.is(e) then
        if e.sqlstate then put("sqlstate", "text", e.sqlstate) end
        put("error", "text", e.message)
    end
    local place <const> = core.log.place()
    if place then put("place", "text", place) end
    core.log.fields("debug", "postgres: " .. what .. (e and " failed" or ""), list)
end

---Runs the work, and logs how it ended.
---@param what string
---@param counts fun(...): table<string, integer> from what it returned
---@param sql string|nil
---@param fn function
---@param ... any
---@return any ... what it returned
function M.run(what, counts, sql, fn, ...)
    local began <const> = M.begin()
    if not began then return fn(...) end
    local result <const> = table.pack(pcall(fn, ...))
    local ok <const> = result[1]
    M.done(began, what, ok and counts(table.unpack(result, 2, result.n)) or {}, sql, not ok and result[2] or nil)
    if not ok then error(result[2], 0) end
    return table.unpack(result, 2, result.n)
end

return M
