--- Sessions that run or wait in the database, without those of this program and of batches on other machines. "2x" is
--- twice the average of the second before the first chunk.
local limits <const> = require "dbrun.batch.signals.limits"

local Active = { name = "active", kind = "sessions", critical = true, sees_sessions = true }
Active.__index = Active

local LOOKS <const> = 10 -- that make the average

Active.parts = { {
    name = "active",
    sql = [[
(select {count}(*)::int from {pg_stat_get_activity}(null)
         where datid {=} (select oid from {pg_database} where datname {=} {current_database}())
           and backend_type {=} 'client backend' and (state {=} 'active' or state {=} 'fastpath function call')
           and pid {<>} {pg_backend_pid}() and not pid {=} any (:ours::int[])
           and application_name {!~~} 'dbrun batch %')]],
} }

function Active.new()
    return setmetatable({ n = 0, average = 0 }, Active)
end

---The number of samples before the first chunk.
---@param limit any
---@param critical any
---@return integer
function Active:looks_before(limit, critical)
    return (limits.times(limit) or limits.times(critical)) and LOOKS - self.n or 0
end

---@param limit any 20 or "2x"
---@return number? nil: the average is not known yet
function Active:number(limit)
    local times <const> = limits.times(limit)
    if not times then return limit or nil end
    return self.n >= LOOKS and times * math.max(1, self.average) or nil
end

---@param answer dbrun.batch.Answer
---@return dbrun.batch.Reading
function Active:read(answer)
    if self.n < LOOKS then
        self.n = self.n + 1
        self.average = self.average + (answer.active - self.average) / self.n
    end
    return { value = answer.active, text = ("%d session%s active"):format(answer.active,
        answer.active == 1 and " is" or "s are") }
end

---@param limit any
---@return string
function Active:show(limit)
    local number <const> = self:number(limit)
    return limits.times(limit) and number and ("%g (%s of %.3g)"):format(number, limit, math.max(1, self.average))
        or limits.KINDS.sessions.show(limit)
end

return Active
