--- Bounds of chunks, read where the walked table is: in the database of the state, or in another one. Keys are written
--- as text under fixed settings, which the next statement of the transaction does not see.
local catalog = require "dbrun.db.catalog"
local define = require "dbrun.batch.define"

local M = {}

---@class dbrun.batch.Bounds
---@field walk dbrun.batch.Walk
---@field apart boolean the table is not in the database of the state
---@field alone boolean the step is a separate statement: the table is in another database, or a query on it cannot
---write the state
local Bounds = {}
Bounds.__index = Bounds

---@param walk dbrun.batch.Walk
---@param values table<string, any> parameters of `where`, and `started`
---@param source? dbrun.Engine where the table is; nil: where the state is
---@return dbrun.batch.Bounds
function M.new(walk, values, source)
    local self <const> = setmetatable({ walk = walk, values = values, source = source, steps = {} }, Bounds)
    self.apart = source ~= nil or walk.sql == false
    self.alone = self.apart or walk.citus ~= nil
    return self
end

---SQL that applies settings until the end of the transaction, and returns the values before.
local function settings(pins)
    local list <const> = {}
    for i, pin in ipairs(pins) do
        list[i] = ("{set_config}('%s', '%s', true)"):format(pin[1], pin[2])
    end
    return catalog.sql("select " .. table.concat(list, ", "))
end

---The statement that must run before keys are written in a transaction; nil when no key depends on a setting.
---@return string?
function Bounds:pin()
    if self.apart or #self.walk.pins == 0 then return nil end
    self.pin_sql = self.pin_sql or settings(self.walk.pins)
    return self.pin_sql
end

---Columns with the current values of the settings that Bounds:pin changes; "" when it changes none.
---@return string
function Bounds:present()
    if not self:pin() then return "" end
    local list <const> = {}
    for i, pin in ipairs(self.walk.pins) do
        list[i] = (", {current_setting}('%s') as pin_%d"):format(pin[1], i)
    end
    return table.concat(list)
end

---The statement that undoes Bounds:pin within the transaction, so that triggers at COMMIT do not see it.
---@param row table a row with the columns of Bounds:present
---@return string? sql
---@return table? values
function Bounds:unpin(row)
    if not self:pin() then return nil end
    local values <const> = {}
    for i in ipairs(self.walk.pins) do values["pin_" .. i] = row["pin_" .. i] end
    if not self.unpin_sql then
        local list <const> = {}
        for i, pin in ipairs(self.walk.pins) do list[i] = ("{set_config}('%s', :pin_%d, true)"):format(pin[1], i) end
        self.unpin_sql = catalog.sql("select " .. table.concat(list, ", "))
    end
    return self.unpin_sql, values
end

---All values of a statement: the job's and these.
---@param values table
---@return table
function Bounds:with(values)
    local all <const> = {}
    for key, value in pairs(self.values) do all[key] = value end
    for key, value in pairs(values) do all[key] = value end
    for _, key in ipairs { "after", "upto", "middle" } do
        if type(all[key]) == "table" then
            all["_" .. key] = all[key][1] -- for conditions on the key's first column alone
            all[key] = define.texts(all[key])
        end
    end
    return all
end

--- Up to this number of keys, keeping them is faster than planning a step that does not.
local FEW <const> = 500

---Selects the kind of step.
---@param open boolean without a lower bound
---@param by_where boolean
---@param size integer rows, or keys, that it counts
---@return string
function Bounds.step_key(open, by_where, size)
    return (open and "open" or "") .. (by_where and " where" or size <= FEW and " few" or "")
end

---The step as a query, for use inside of another statement.
---@param open boolean without a lower bound
---@param by_where boolean
---@param size integer rows, or keys, that it counts
---@return string
function Bounds:step_sql(open, by_where, size)
    local key <const> = Bounds.step_key(open, by_where, size)
    self.steps[key] = self.steps[key] or self.walk:step(open, by_where, size <= FEW)
    return self.steps[key]
end

---Runs a query of the walk where its table is; `how` is the connection's method.
local function ask(self, tx, sql, values, how)
    local function one(conn)
        local method <const> = conn[how or "one"]
        if values then return method(conn, sql, self:with(values)) end
        return method(conn, sql)
    end
    if not self.apart then
        local pin <const> = self:pin()
        if pin then tx:query(pin) end
        return one(tx)
    end
    return self.source:transaction({ isolation = "read committed", read_only = true }, function(other)
        if #self.walk.pins > 0 then other:query(settings(self.walk.pins)) end
        other:query(catalog.sql "select {set_config}('plan_cache_mode', 'force_custom_plan', true)")
        return one(other)
    end)
end

---The next bound, by a separate statement.
---@param tx table
---@param after? string[]
---@param upto string[]
---@param size integer
---@param look integer
---@param by_where boolean
---@return {bound: string[], fits: integer, looked: integer, final: boolean}? nil when there are no keys
function Bounds:step(tx, after, upto, size, look, by_where)
    if self.walk.sql == false then return self.walk:next_bound(after, size, upto) end
    return ask(self, tx, self:step_sql(after == nil, by_where, size),
        { after = after, upto = upto, size = size, look = look })
end

---A key in the middle of the next `keys` keys.
---@param tx table
---@param after? string[]
---@param upto string[]
---@param keys integer
---@return {middle?: string[], bound?: string[]}?
function Bounds:cut(tx, after, upto, keys)
    if self.walk.sql == false then return self.walk:cut_bound(after, upto, keys) end
    return ask(self, tx, self.walk:cut(after == nil), { after = after, upto = upto, keys = keys })
end

---Whether a key is still within a range and not its end.
---@param tx table
---@param middle string[]
---@param after string[]
---@param upto string[]
---@return boolean
function Bounds:is_between(tx, middle, after, upto)
    if self.walk.sql == false then return self.walk:is_between(middle, after, upto) end
    return ask(self, tx, self.walk:between(), { middle = middle, after = after, upto = upto }).inside
end

---The last key of the table.
---@param tx table
---@return string[]? nil for an empty table
function Bounds:last(tx)
    if self.walk.sql == false then return self.walk:last_bound() end
    local row <const> = ask(self, tx, self.walk:last())
    return row and row.bound
end

---Where a range is cut before it is worked on: the last keys of partitions, in the order of the key.
---@param tx table
---@param after? string[]
---@param upto string[]
---@return string[][] keys none: it is not cut
function Bounds:cuts(tx, after, upto)
    local sql <const> = self.walk.sql ~= false and self.walk:cuts(after == nil)
    if not sql then return {} end
    local keys <const> = {}
    for i, row in ipairs(ask(self, tx, sql, { after = after, upto = upto }, "query")) do keys[i] = row.bound end
    return keys
end

---SQL that orders rows by a column of bounds, as the key orders them.
---@param column string
---@return string
function Bounds:order(column)
    local list <const> = {}
    for i, key in ipairs(self.walk.key) do
        list[i] = ("cast(%s[%d] as %s)%s"):format(column, i, key.type,
            key.collation and " collate " .. key.collation or "")
    end
    return table.concat(list, ", ")
end

return M
