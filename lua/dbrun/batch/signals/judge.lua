--- What a value means, for each signal alike: above the limit the job waits, below three quarters of it the job goes
--- on. Critical is what was above its own limit twice, five seconds apart and not once below it between.

local M = {}

local BACK <const> = 0.75 -- of the limit: there it goes on; and from there on it is near
local APART <const> = 5 -- seconds between the two looks that make it critical

---What a signal has seen at one look.
---@class dbrun.batch.Reading
---@field value? number compared with the limits; nil: nothing to compare
---@field text? string the value in words: "standby b is 12 s behind"
---@field wait? string why to wait, whatever the value is
---@field critical? string why this is critical, whatever the value is
---@field near? boolean close to a limit that is not one of waiting
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

---Why it waits; between both limits also when it goes on.
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

---Behind the looks of all signals: only then is it known whether the job waits.
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
