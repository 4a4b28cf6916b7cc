--- The values of -v NAME=VALUE: parameters of the statements that have :NAME, never part of their text.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local nearest = require "dbrun.nearest"

local M = {}

---@class dbrun.sql.Variables
---@field values table<string, string>
---@field used table<string, boolean>
---@field names string[] as given
---@field bound string[] the names that the last statement has, in the order of its parameters
local Variables <const> = {}
Variables.__index = Variables

---Reads the values of the options.
---@param list string[] "NAME=VALUE" each
---@return dbrun.sql.Variables
---Raises an error of kind `usage`.
function M.new(list)
    local self <const> = setmetatable({ values = {}, used = {}, names = {}, bound = {} }, Variables)
    for _, text in ipairs(list) do
        local name <const>, value <const> = text:match "^([%a_][%w_]*)=(.*)$"
        if not name then
            errors.fail("usage", ("option '-v': expected NAME=VALUE, got '%s'"):format(text),
                "-v days=90, and :days in the SQL")
        elseif self.values[name] then
            errors.fail("usage", ("option '-v': '%s' is given twice"):format(name))
        elseif not utf8.len(value) then
            errors.fail("usage", ("option '-v': the value of '%s' is not valid UTF-8"):format(name),
                "bytes: -v NAME=HEXADECIMAL, and decode(:NAME, 'hex') in the SQL")
        end
        self.values[name], self.names[#self.names + 1] = value, name
    end
    return self
end

---A statement with $1 in the place of :NAME, and the values.
---@param sql string
---@return string sql
---@return string[] values
---@return string? unknown the first name that has no value: then sql is unchanged
---@return string? hint
function Variables:bind(sql)
    self.bound = {}
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
        self.used[name], values[i - 1], self.bound[i - 1] = true, value, name
    end
    return plan[1], values
end

---The hint for an error of the last statement, which the server knows with $1 in place of :NAME.
---@param e table
---@return string? hint
function Variables:hint(e)
    if e.sqlstate == "08P01" and #self.bound == 0 then
        return "values have names here: :NAME in the place of $1, and -v NAME=VALUE"
    end
    local number <const> = e.message:match "%$%d+" or (e.context or ""):match "parameter (%$%d+)"
    local name <const> = self.bound[number and tonumber(number:sub(2)) or 1]
    if not name then return nil end
    if e.sqlstate == "42P02" or e.sqlstate == "42601" and number then
        return (":%s is a parameter, which stands for a value in SELECT, INSERT, UPDATE, DELETE, MERGE and VALUES: "
            .. "elsewhere write the value into the SQL"):format(name)
    elseif e.sqlstate == "42P18" or e.sqlstate == "42P08" then
        return ("%s is :%s: say its type, as :%s::text"):format(number or "$1", name, name)
    elseif number or e.position then
        local parts <const> = {}
        for i, one in ipairs(self.bound) do parts[i] = ("$%d is :%s"):format(i, one) end
        return table.concat(parts, ", ")
    end
end

---The first name that no statement has.
---@return string?
function Variables:unused()
    for _, name in ipairs(self.names) do
        if not self.used[name] then return name end
    end
end

return M
