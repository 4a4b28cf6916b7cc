--- Judges a value, in the same way for each signal: above the limit the job waits, below three quarters of it the job
--- goes on. A value is critical when it stays above its critical limit for five seconds.

local M = {}

local BACK <const> = 0.75 -- of the limit: below it the job goes on, above it the value is near
local APART <const> = 5 -- seconds that a value must stay above its critical limit

---A signal's reading at one look.
---@class dbrun.batch.Reading
---@field value? number compared with the limits; nil: nothing to compare
---@field text? string the value in words: "standby b is 12 s behind"
---@field wait? string why to wait, independent of the value
---@field critical? string why this is critical, independent of the value
---@field near? boolean close to a limit other than the one for waiting
---@field unread? dbrun.batch.Unread why it, or a part of it, cannot be read

---@class dbrun.batch.Judge
---@field waiting boolean
---@field near boolean
---@field text? string why it waits
---@field critical? string why that is critical, seen twice
---@field since? number when it was seen for the first time
local Judge = {}
local meta <const> = { __index = Judge, __name = "dbrun.batch.Judge" }

---@return dbrun.batch.Judge
function M.new()
    return setmetatable({ waiting = false, near = false }, meta)
end

local function waits(was, found, limit)
    local value <const> = found.value
    if found.wait then return true end
    if not value or not limit then return false end
    if was then return not (value < BACK * limit or value <= 0) end
    return value > limit
end

---The reason to wait; kept between the two limits.
local function told(found, limit, show)
    if found.wait then return found.wait end
    local text <const> = ("%s, limit %s"):format(found.text, show(limit))
    return found.value > limit and text or ("%s, goes on below %s"):format(text, show(BACK * limit))
end

---@param found dbrun.batch.Reading
---@param limit? number
---@param show? fun(limit: number): string
function Judge:look(found, limit, show)
    self.waiting = waits(self.waiting, found, limit)
    self.text = self.waiting and told(found, limit, show) or nil
    self.near = self.waiting or found.near or (found.value and limit and found.value > BACK * limit) or false
end

---Called after all signals were read, because it depends on whether the job waits.
---@param found dbrun.batch.Reading
---@param limit? number
---@param show? fun(limit: number): string
---@param now number monotonic
---@param counts boolean false: the job waits already
function Judge:look_critical(found, limit, show, now, counts)
    local above <const> = limit and found.value and found.value > limit
    local over <const> = found.critical or above and ("%s, critical above %s"):format(found.text, show(limit))
    if not over or not counts then
        self.since, self.critical = nil, nil
        return
    end
    self.since = self.since or now
    self.critical = now - self.since >= APART and over or nil
end

return M
