--- The values of -v NAME=VALUE: parameters of the statements that have :NAME, never text of them.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local nearest = require "dbrun.nearest"

local M = {}

---@class dbrun.sql.Variables
---@field values table<string, string>
---@field used table<string, boolean>
---@field names string[] as given
local Variables <const> = {}
Variables.__index = Variables

---Reads the values of the options.
---@param list string[] "NAME=VALUE" each
---@return dbrun.sql.Variables
---Raises an error of kind `usage`.
function M.new(list)
    local self <const> = setmetatable({ values = {}, used = {}, names = {} }, Variables)
    for _, text in ipairs(list) do
        local name <const>, value <const> = text:match "^([%a_][%w_]*)=(.*)$"
        if not name then
            errors.fail("usage", ("option '-v': expected NAME=VALUE, got '%s'"):format(text),
                "-v days=90, and :days in the SQL")
        elseif self.values[name] then
            errors.fail("usage", ("option '-v': '%s' is given twice"):format(name))
        end
        self.values[name], self.names[#self.names + 1] = value, name
    end
    return self
end

---A statement with $1 in the place of :NAME, and the values.
---@param sql string
---@return string sql
---@return string[] values
---@return string? unknown the first name that has no value: then sql is as it was
---@return string? hint
function Variables:bind(sql)
    local plan <const> = sql:find(":", 1, true) and core.pg.named(sql)
    if not plan then return sql, {} end
    local values <const> = {}
    for i = 2, #plan do
        local name <const> = plan[i]
        local value <const> = self.values[name]
        if not value then
            local near <const> = nearest.find(name, self.names)
            return sql, {}, name, near and ("did you mean ':%s'?"):format(near)
                or ("-v %s=VALUE gives it a value"):format(name)
        end
        self.used[name], values[i - 1] = true, value
    end
    return plan[1], values
end

---The first name that no statement has.
---@return string?
function Variables:unused()
    for _, name in ipairs(self.names) do
        if not self.used[name] then return name end
    end
end

return M
