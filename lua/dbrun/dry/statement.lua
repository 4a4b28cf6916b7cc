--- A statement in a dry run's transaction: what is recorded before it is sent, and how the script's own savepoints
--- affect the counts.
local catalog <const> = require "dbrun.db.catalog"
local counts <const> = require "dbrun.dry.counts"
local explain <const> = require "dbrun.dry.explain"

local M = {}

local SETTING <const> = catalog.sql "select {current_setting}($1, true)"

---Records what the end of the unit has to undo, before the statement is sent.
---@param self dbrun.dry.Connection
---@param statement dbrun.dry.Statement
function M.note(self, statement)
    local unit <const> = self.units[#self.units]
    for _, name in ipairs(statement.targets) do self.targets[name] = true end
    self.advisory = self.advisory or statement.advisory
    self.truncated = self.truncated or statement.truncates
    if statement.notifies then
        explain.tell_once(self, "notify", "NOTIFY is not sent: it would come with a COMMIT")
    end
    if statement.isolation then
        explain.tell_once(self, "isolation", "isolation levels are not set: all runs in one transaction, which is "
            .. "read committed")
    end
    if not unit then return end
    if statement.changes then
        unit.changes[statement.changes] = (unit.changes[statement.changes] or 0) + 1
        self.deferred = false -- its constraints may have changed
    end
    if statement.drops or statement.empties then
        table.insert(unit.temporary, { name = statement.drops or statement.empties, drop = statement.drops ~= nil })
    end
    if #statement.settings == 0 or self.real:in_transaction() ~= "open" then return end
    for _, setting in ipairs(statement.settings) do
        local name <const> = setting:gsub('^"(.*)"$', "%1")
        table.insert(unit.settings, { name, self:call("value", SETTING, name) or "" })
    end
end

---@class dbrun.dry.Temporary a table
---@field name string as it is written
---@field drop boolean dropped by the end of its transaction; else each COMMIT empties it

local THERE <const> = catalog.sql "select {to_regclass}($1) is not null"

---What COMMIT does to temporary tables.
---@param self dbrun.dry.Connection
---@param list dbrun.dry.Temporary[] those that the transaction has made
function M.settle_temporary(self, list)
    for _, one in ipairs(list) do
        if one.drop then
            self:call("exec", "drop table if exists " .. one.name)
        else
            self.emptied[#self.emptied + 1] = one.name
        end
    end
    for _, name in ipairs(self.emptied) do
        if self:call("value", THERE, name) then self:call("exec", "truncate " .. name) end
    end
end

---TRUNCATE resets the server's counters of the table, and those of outer savepoints when its savepoint is released.
---This saves the counts: call it before a statement that may lose them.
---@param self dbrun.dry.Connection
---@return fun() keep to be called behind it
function M.counting(self)
    local before <const> = counts.read(self:call("query", counts.SQL))
    return function()
        self.undone = counts.add(self.undone, 1, counts.lost(before, counts.read(self:call("query", counts.SQL))), {})
    end
end

---Calls fn(...), which can reduce the counters if there was a TRUNCATE.
---@param self dbrun.dry.Connection
---@param fn fun(...): ...
---@param ... any
---@return any ...
function M.counted(self, fn, ...)
    if not self.truncated then return fn(...) end
    local keep <const> = M.counting(self)
    local result <const> = table.pack(fn(...))
    keep()
    return table.unpack(result, 1, result.n)
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
    local result
    if statement.truncates or statement.release then
        result = table.pack(M.counted(self, fn, self, statement.isolation or sql, ...))
    else
        result = table.pack(fn(self, statement.isolation or sql, ...))
    end
    if settles then settles() end
    return table.unpack(result, 1, result.n)
end

return M
