-- Code that dbrun's side of the workloads shares: a clock, and tasks that work until the time is over.
local task <const> = require "dbrun.task"

local M = {}

M.ACCOUNTS = 100000 -- rows of pgbench_accounts at scale 1; each balance is the account's own number
M.SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1"

---@class bench.Load
---@field ops integer
---@field errors integer
---@field checks integer
---@field seconds number
---@field cpu number

--- Runs `count` tasks. Each calls `step(number)` repeatedly until the time is over; a step does some work and
--- returns its number of operations and of wrong answers. `warm(number)` runs before, in the same number of
--- tasks, outside of the measured time.
---@param count integer
---@param seconds number
---@param warm fun(number: integer)
---@param step fun(number: integer): integer, integer
---@return bench.Load
function M.tasks(count, seconds, warm, step)
    do
        local g <close> = task.group()
        for i = 1, count do g:spawn(warm, i) end
        g:wait()
    end
    local ops, wrong = 0, 0
    local begin <const>, cpu <const> = task.now(), os.clock()
    local deadline <const> = begin + seconds
    local function work(number)
        while task.now() < deadline do
            local done <const>, errors <const> = step(number)
            ops, wrong = ops + done, wrong + errors
        end
    end
    do
        local g <close> = task.group()
        for i = 1, count do g:spawn(work, i) end
        g:wait()
    end
    return { ops = ops, errors = wrong, checks = ops, seconds = task.now() - begin, cpu = os.clock() - cpu }
end

--- The same without tasks: `step` runs in the calling coroutine.
---@param seconds number
---@param step fun(): integer, integer
---@return bench.Load
function M.alone(seconds, step)
    step()
    local ops, wrong = 0, 0
    local begin <const>, cpu <const> = task.now(), os.clock()
    local deadline <const> = begin + seconds
    while task.now() < deadline do
        local done <const>, errors <const> = step()
        ops, wrong = ops + done, wrong + errors
    end
    return { ops = ops, errors = wrong, checks = ops, seconds = task.now() - begin, cpu = os.clock() - cpu }
end

return M
