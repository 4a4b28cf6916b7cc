--- The positions of the server's WAL, by its own clock: one entry per second. The lag of a standby is read from this
--- list, because the server's own figure (replay_lag) is NULL for an idle standby and stays unchanged when a standby
--- falls silent.

local M = {}

local APART <const> = 0.5 -- seconds: the least distance of two entries
local MOST <const> = 1200 -- entries; beyond that, every other one of the older half is dropped

---@class dbrun.batch.Wal
---@field places integer[] bytes of WAL, growing
---@field clocks number[] seconds of the server's clock, growing
---@field place? integer the present position
---@field clock? number
local Wal = {}
local meta <const> = { __index = Wal, __name = "dbrun.batch.Wal" }

---@return dbrun.batch.Wal
function M.new()
    return setmetatable({ places = {}, clocks = {} }, meta)
end

local function thin(list)
    local kept <const> = {}
    for i, value in ipairs(list) do
        if i > MOST // 2 or i % 2 == 1 then kept[#kept + 1] = value end
    end
    return kept
end

---Forgets everything: positions of another server's WAL mean nothing here.
function Wal:clear()
    self.places, self.clocks, self.place, self.clock = {}, {}, nil, nil
end

---@param place integer
---@param clock number
function Wal:add(place, clock)
    -- The clock was set back, or it is another server: the recorded entries are no longer valid.
    if self.place and (place < self.place or clock < self.clock) then self:clear() end
    local n <const> = #self.clocks
    if n == 0 or clock - self.clocks[n] >= APART then
        self.places[n + 1], self.clocks[n + 1] = place, clock
        if n + 1 > MOST then self.places, self.clocks = thin(self.places), thin(self.clocks) end
    end
    self.place, self.clock = place, clock
end

---The last entry at or before a position; 0: none.
local function last_at(places, place)
    local low, high = 0, #places
    while low < high do
        local middle <const> = (low + high + 1) // 2
        if places[middle] <= place then low = middle else high = middle - 1 end
    end
    return low
end

---How long ago the WAL after this position was written. WAL that was written after the last look but one does not
---count, because the standby may be receiving it now.
---@param place integer that a standby has replayed
---@return number seconds
---@return boolean at_least it is older than the list
function Wal:behind(place)
    local places <const>, clocks <const> = self.places, self.clocks
    local n <const> = #places
    if n == 0 or place >= self.place then return 0, false end
    local i <const> = last_at(places, place)
    if i == 0 then return self.clock - clocks[1], true end
    if i >= n - 1 and self.clock - clocks[i] < 2 then return 0, false end
    local share <const> = (place - places[i]) / (places[i + 1] - places[i])
    return self.clock - (clocks[i] + share * (clocks[i + 1] - clocks[i])), false
end

---Bytes per second in the last seconds; nil while it is unknown.
---@param seconds number
---@return number?
function Wal:rate(seconds)
    local clocks <const> = self.clocks
    local i = #clocks
    while i > 1 and self.clock - clocks[i] < seconds do i = i - 1 end
    local span <const> = i > 0 and self.clock - clocks[i] or 0
    return span >= APART and (self.place - self.places[i]) / span or nil
end

return M
