--- Compares the job's own claim and commit with their usual time. It needs no right, and detects what no other signal
--- does: a disk, a network or a synchronous standby that became slow.
local Latency = { name = "latency", kind = "times", default = 10, critical = true, parts = {} }
Latency.__index = Latency

local IN_ROW <const> = 3
local ENOUGH <const> = 10 -- measurements before there is a usual time
local FLOOR <const> = 0.005 -- seconds: a usual time below it counts as this one
local WEIGHT <const> = 1 / 32 -- weight of the newest time in the average, once there are many
local CAP <const> = 2 -- longer times count in the average as this multiple of the usual one
local PAUSE <const>, LONGEST_PAUSE <const> = 5, 60 -- seconds until the next try

function Latency.new()
    return setmetatable({ n = 0, usual = 0, last = {}, pause = PAUSE, since = nil }, Latency)
end

---@param seconds number
function Latency:took(seconds)
    self.n = self.n + 1
    local counted <const> = self.n > ENOUGH and math.min(seconds, CAP * math.max(self.usual, FLOOR)) or seconds
    self.usual = self.usual + (counted - self.usual) * math.max(WEIGHT, 1 / self.n)
    table.insert(self.last, seconds)
    if #self.last > IN_ROW then table.remove(self.last, 1) end
end

--- While the job waits nothing is measured, so a wait ends by itself: the next chunk is a trial, and if it is slow
--- again, the next wait is twice as long.
local function try_again(self, now, waiting)
    self.since = waiting and (self.since or now) or nil
    if waiting and now - self.since >= self.pause then
        table.remove(self.last, 1)
        self.pause, self.since = math.min(LONGEST_PAUSE, self.pause * 2), nil
    end
end

---@param look dbrun.batch.Look
---@param limit number?
---@param waiting boolean
---@return dbrun.batch.Reading
function Latency:read(_, look, limit, waiting)
    try_again(self, look.now, waiting)
    if self.n < ENOUGH or #self.last < IN_ROW then return { value = 0 } end
    local usual <const>, least = math.max(self.usual, FLOOR), math.huge
    for _, seconds in ipairs(self.last) do least = math.min(least, seconds) end
    if limit and least <= limit * usual then self.pause = PAUSE end
    return { value = least / usual, text = ("claim and commit take %.0f ms, %.1fx of the usual %.0f ms"):format(
        least * 1000, least / usual, usual * 1000) }
end

return Latency
