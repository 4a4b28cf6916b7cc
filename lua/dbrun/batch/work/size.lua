--- The number of rows in a chunk, and of keys to read to find them: both adapt to the time that they take. Uses no
--- database and no clock.
local M = {}

---Weight of the newest chunk in the average time per row.
local WEIGHT <const> = 0.3
---A chunk is full when it has this share of the requested rows.
local FULL <const> = 0.9

---@class dbrun.batch.Size
---@field rows integer of the next chunk
---@field look integer keys to read
---@field limits {min: integer, max: integer, look: integer, target: number}
local Size = {}
Size.__index = Size

---@param limits {size: integer, min: integer, max: integer, look: integer, target: number}
---@param from? integer rows of the last chunk of the job, where it goes on
---@return dbrun.batch.Size
function M.new(limits, from)
    local self <const> = setmetatable({ fast = 0, limits = limits, look = limits.look }, Size)
    self.rows = self:within(from or limits.size)
    return self
end

---The size for another range: the rows of its last worker. The known time for reading keys stays.
---@param from? integer
---@return dbrun.batch.Size
function Size:other(from)
    local size <const> = M.new(self.limits, from)
    size.look = self.look
    return size
end

---@param rows number
---@return integer
function Size:within(rows)
    local limits <const> = self.limits
    local least = limits.min
    if self.floor then -- a chunk of `min` rows took too long
        least = self.floor
        if rows >= limits.min then self.floor = nil end
    end
    return math.floor(math.max(least, math.min(limits.max, rows)) + 0.5)
end

---Other limits are in force from now on; a size that was set by hand is taken at once.
---@param limits {size: integer, min: integer, max: integer, look: integer, target: number}
function Size:configure(limits)
    local set <const> = limits.size ~= self.limits.size
    self.limits = limits
    self.look = math.min(self.look, limits.look)
    self.rows = self:within(set and limits.size or self.rows)
end

---Below the smallest size, where a conflict has brought it, the size doubles with each chunk that is done.
local function recover(self)
    self.rows = math.min(self.rows * 2, self.before)
    if self.rows >= self.before then self.before = nil end
end

local function follow(self, seconds, may_grow)
    local limits <const> = self.limits
    local ideal <const> = limits.target / self.per_row
    if seconds > 2 * limits.target then
        self.rows = self:within(math.min(self.rows, self.rows * limits.target / seconds))
        self.per_row = seconds / math.max(1, self.counted)
    elseif ideal < self.rows / 1.1 then
        self.rows = self:within(math.max(ideal, self.rows / 1.2))
    elseif self.fast >= 3 and may_grow then
        local more <const> = math.max(self.rows * 1.2, self.rows + 1) -- a fifth of one row is 0
        self.rows = self:within(math.max(self.rows, math.min(ideal, more)))
    end
end

---A chunk was done.
---@param rows integer that it changed
---@param wanted integer rows that it was to have
---@param seconds number from its first lock to its commit
---@param may_grow boolean no signal is near its limit
function Size:done(rows, wanted, seconds, may_grow)
    if self.before then return recover(self) end
    local counted <const> = math.max(1, rows)
    self.counted = counted
    local present <const> = seconds / counted
    self.per_row = self.per_row and (1 - WEIGHT) * self.per_row + WEIGHT * present or present
    local full <const> = rows >= FULL * wanted
    if seconds < 0.8 * self.limits.target then
        if full then self.fast = self.fast + 1 end
    else
        self.fast = 0
    end
    if full or seconds > 2 * self.limits.target then follow(self, seconds, may_grow) end
end

---Records a step: the search for the next bound has its own time.
---@param seconds number
function Size:stepped(seconds)
    local target <const> = self.limits.target
    if seconds > target then
        self.look = math.max(1, math.floor(self.look * target / seconds))
    elseif seconds < 0.5 * target then
        self.look = math.min(self.limits.look, self.look * 2)
    end
end

---Other sessions were in the way, or a row is bad: tries half, down to one row. The size recovers with success.
function Size:conflict()
    self.before = self.before or self.rows
    self.rows = math.max(1, self.rows // 2)
    self.fast = 0
end

---The chunk took too long and was cancelled: tries half, down to one row, and keeps that size.
function Size:too_long()
    self.before, self.per_row, self.fast = nil, nil, 0
    self.rows = math.max(1, self.rows // 2)
    self.floor = self.rows < self.limits.min and self.rows or nil
end

---After a wait the size begins at half.
function Size:waited()
    self.rows = self:within(self.rows / 2)
    self.fast = 0
end

return M
