--- Rests: work for a share of the time (duty), and at most so many rows a second (rate). Knows no database.
local M = {}

---@class dbrun.batch.Pace
local Pace = {}
Pace.__index = Pace

---@param now number seconds of a monotonic clock
---@return dbrun.batch.Pace
function M.new(now)
    return setmetatable({ free = now }, Pace)
end

---A chunk was done: when the next one may begin.
---@param now number
---@param seconds number the chunk took
---@param rows integer
---@param duty number share of the time, above 0 and up to 1
---@param rate? number rows a second for this worker
---@return number seconds to rest
function Pace:rest(now, seconds, rows, duty, rate)
    local rest = seconds * (1 / duty - 1)
    if rate then
        -- The time that the rows should have taken counts from when the last ones should have been done.
        self.free = math.max(self.free, now - seconds - 1) + rows / rate
        rest = math.max(rest, self.free - now)
    end
    return rest
end

return M
