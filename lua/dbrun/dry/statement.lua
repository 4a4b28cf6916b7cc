--- A statement in a dry run's transaction: what is noted before it is sent, and what the script's own savepoints mean
--- for the counts.
local catalog <const> = require "dbrun.db.catalog"
local counts <const> = require "dbrun.dry.counts"
local explain <const> = require "dbrun.dry.explain"

local M = {}

local SETTING <const> = catalog.sql "select {current_setting}($1, true)"

---Notes what the end of the unit has to undo, before the statement is sent.
---@param self dbrun.dry.Connection
---@param statement dbrun.dry.Statement
function M.note(self, statement)
    local unit <const> = self.units[#self.units]
    for _, name in ipairs(statement.targets) do self.targets[name] = true end
    if statement.notifies then
        explain.tell_once(self, "notify", "NOTIFY is not sent: it would come with a COMMIT")
    end
    if statement.isolation then
        explain.tell_once(self, "isolation", "isolation levels are not set: all runs in one transaction, which is "
            .. "read committed")
    end
    if not unit then return end
    if statement.changes then unit.changes[statement.changes] = (unit.changes[statement.changes] or 0) + 1 end
    if statement.drops then
        table.insert(unit.temporary, "drop table if exists " .. statement.drops)
    elseif statement.empties then
        table.insert(unit.temporary, "truncate " .. statement.empties)
    end
    if statement.setting and self.real:in_transaction() == "open" then
        local name <const> = statement.setting:gsub('^"(.*)"$', "%1")
        table.insert(unit.settings, { name, self:call("value", SETTING, name) or "" })
    end
end

--- The script's own savepoints count as units do.
local function before_savepoint(self, statement)
    if statement.savepoint then
        local before <const> = counts.read(self:call("query", counts.SQL))
        return function()
            self.marks[#self.marks + 1] = {
                name = statement.savepoint, before = before, undone = self.undone, depth = #self.units,
            }
        end
    end
    return function()
        for i = #self.marks, 1, -1 do
            local one <const> = self.marks[i]
            if one.name == statement.back then
                self.undone = counts.add(one.undone, 1, counts.read(self:call("query", counts.SQL)), one.before)
                break
            elseif one.name == statement.release then
                self.marks[i] = nil
                break
            end
            if statement.back then self.marks[i] = nil end
        end
    end
end

---Sends a statement: `fn(self, sql, ...)` does it.
---@param self dbrun.dry.Connection
---@param statement dbrun.dry.Statement
---@param fn function
---@param sql string
---@param ... any
---@return any ...
function M.send(self, statement, fn, sql, ...)
    M.note(self, statement)
    local settles <const> = (statement.savepoint or statement.back or statement.release)
        and before_savepoint(self, statement)
    local result <const> = table.pack(fn(self, statement.isolation or sql, ...))
    if settles then settles() end
    return table.unpack(result, 1, result.n)
end

return M
