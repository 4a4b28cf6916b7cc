--- Pauses: for a share of the time (duty), and for a maximum number of rows per second (rate). Uses no database.
local M = {}

---@class dbrun.batch.Pace
local Pace = {}
Pace.__index = Pace

---@param now number seconds of a monotonic clock
---@return dbrun.batch.Pace
function M.new(now)
    return setmetatable({ free = now }, Pace)
end

---Records a finished chunk; returns when the next one may begin.
---@param now number
---@param seconds number the chunk took
---@param rows integer
---@param duty number share of the time, above 0 and up to 1
---@param rate? number rows a second for this worker
---@return number seconds to rest
function Pace:rest(now, seconds, rows, duty, rate)
    local rest = seconds * (1 / duty - 1)
    if rate then
        -- The time that the rows should take counts from when the previous ones should have been done.
        self.free = math.max(self.free, now - seconds - 1) + rows / rate
        rest = math.max(rest, self.free - now)
    end
    return rest
end

return M
