--- Turns on the one connection: one task at a time, in the order of requests. A task that has its turn gets it again at
--- once. A waiting task gets an error only when the task that has the turn has sent nothing for the time limit, because
--- it may itself wait for the other one.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = core.task

local M = {}

--- Seconds, without --lock-timeout.
local LIMIT <const> = 5

---@class dbrun.dry.Holder a task that has its turn, or waits for it
---@field task integer its number
---@field what string the method that it called
---@field place string? the line of the script
---@field depth integer how often it took the turn
---@field since number when it got the turn
---@field last number when it sent something last
---@field busy boolean a statement is under way
---@field ready any the condition that it waits for
---@field granted boolean

---@class dbrun.dry.Turn
---@field name string "db.async"
---@field sync boolean
---@field holder dbrun.dry.Holder|false
---@field queue dbrun.dry.Holder[]
local Turn <const> = {}
Turn.__index = Turn

---The seconds after which a wait is an error: --lock-timeout, or 5.
---@return number
function M.limit()
    return core.options.lock_timeout or LIMIT
end

---@param name string of the engine, for messages
---@param sync boolean
---@return dbrun.dry.Turn
function M.new(name, sync)
    return setmetatable({ name = name, sync = sync, holder = false, queue = {} }, Turn)
end

local function grant(turn, holder)
    holder.granted, holder.depth = true, 1
    holder.since = task.now()
    holder.last = holder.since
    turn.holder = holder
end

---The holder of the turn, for a message.
---@param holder dbrun.dry.Holder
---@return string "the transaction at tidy.lua:12 (task 3, for 7.2 s)"
local function shown(holder)
    return ("the %s%s (task %d, for %.1f s)"):format(holder.what, holder.place and " at " .. holder.place or "",
        holder.task, task.now() - holder.since)
end

local ADVICE <const> = "In a dry run all tasks share one connection and take turns. End that transaction, or release "
    .. "that connection, before its task waits for another one"

local function raise_busy(turn, what, seconds)
    local who <const> = shown(turn.holder)
    errors.raise {
        kind = "timeout", outcome = "not_sent", retryable = false,
        message = ("%s:%s "):format(turn.name, what) .. (seconds
            and ("waited %g s for its turn in the dry run: %s has it and sent nothing meanwhile"):format(seconds, who)
            or ("cannot wait for its turn in the dry run: %s has it"):format(who)),
        hint = ADVICE .. (seconds and "; --lock-timeout S waits longer." or "."),
    }
end

--- Waits until the turn is granted; raises when its holder is idle for too long.
local function wait(turn, mine)
    local limit <const> = M.limit()
    local left = limit
    while true do
        mine.ready:wait(left)
        if mine.granted then return end
        local holder <const> = turn.holder
        local idle <const> = task.now() - holder.last
        if not holder.busy and idle >= limit then raise_busy(turn, mine.what, limit) end
        left = math.max(0.01, holder.busy and limit or limit - idle)
    end
end

local function forget(turn, mine)
    for i, other in ipairs(turn.queue) do
        if other == mine then return table.remove(turn.queue, i) end
    end
end

---Takes the turn, after earlier requests.
---@param what string the method, for messages
---@return dbrun.dry.Holder holder for `leave`
function Turn:enter(what)
    local id <const> = task.id()
    local holder <const> = self.holder
    if holder and holder.task == id then
        holder.depth = holder.depth + 1
        return holder
    end
    local mine <const> = {
        task = id, what = what, place = core.log.place(), depth = 0, since = 0, last = 0, busy = false,
        ready = task.condition(), granted = false,
    }
    if not holder then
        grant(self, mine)
        return mine
    elseif self.sync then
        raise_busy(self, what)
    end
    self.queue[#self.queue + 1] = mine
    local ok <const>, e <const> = pcall(wait, self, mine)
    if ok then return mine end
    if mine.granted then self:leave(mine) else forget(self, mine) end
    error(e, 0)
end

---Gives the turn to the next task, unless it was taken more than once.
---@param holder dbrun.dry.Holder
function Turn:leave(holder)
    holder.depth = holder.depth - 1
    if holder.depth > 0 or self.holder ~= holder then return end
    local first <const> = table.remove(self.queue, 1)
    self.holder = false
    if not first then return end
    grant(self, first)
    first.ready:notify()
end

return M
