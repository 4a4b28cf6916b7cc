--- How long something takes, on a machine that can be busy with other programs.
---
--- A busy machine can delay any run, so it is enough that one of a few tries keeps a limit, while a much larger limit
--- holds for each try. A pause of the loop counts only if another program, which does nothing but read the clock, had
--- none at that time.

local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"
local task <const> = require "dbrun.task"

local M <const> = {}

local TRIES <const> = 5
local PATIENCE <const> = 10 -- no try may take longer than the limit and these seconds
local TICK <const> = 0.01

--- Runs fn until one run took no longer than `most`; none may take less than `least`.
---@param least number seconds
---@param most number seconds
---@param fn fun(prepared: any): ...
---@param prepare? fun(): any runs before each try, and is not measured
---@return any ... what fn returned last
function M.takes(least, most, fn, prepare)
    local list <const> = {}
    for _ = 1, TRIES do
        local prepared <const> = prepare and prepare()
        local began <const> = task.now()
        local result <const> = table.pack(fn(prepared))
        local took <const> = task.now() - began
        list[#list + 1] = ("%.3f"):format(took)
        if took < least or took > most + PATIENCE then
            error(("took %.3f s, expected %g to %g s"):format(took, least, most), 2)
        elseif took <= most then
            return table.unpack(result, 1, result.n)
        end
    end
    error(("took %s s, expected %g to %g s"):format(table.concat(list, ", "), least, most), 2)
end

--- Runs fn with a limit of time that is to be over while a program is at some point, and with a longer one while it was
--- over before: how long a program takes to begin is up to the machine.
---@param seconds number the limit of a quiet machine
---@param fn fun(seconds: number): any its first value says whether the program came to that point
---@return any ... what fn returned last
function M.long_enough(seconds, fn)
    local result
    for _ = 1, 4 do
        result = table.pack(fn(seconds))
        if result[1] then break end
        seconds = seconds * 5
    end
    return table.unpack(result, 1, result.n)
end

--- Runs fn until it raises nothing, at most three times: for a duty that is kept in time whenever the machine lets it,
--- as the renewal of a lock. What is wrong each time is raised.
---@param fn fun()
function M.kept(fn)
    local ok, problem
    for _ = 1, 3 do
        ok, problem = pcall(fn)
        if ok then return end
    end
    error(problem, 0)
end

local OBSERVER <const> = [[
    io.stdout:setvbuf "line"
    local task = require "dbrun.task"
    local worst, last = 0, task.now()
    print(0)
    while true do
        task.sleep(0.01)
        local now = task.now()
        if now - last > worst then
            worst = now - last
            print(worst)
        end
        last = now
    end
]]

local function observe(fn)
    local child <close> = process.start {
        core.options.program, "--no-env", "-e", OBSERVER, stdout = "capture", pdeathsig = "KILL",
    }
    assert(child:read_line(30), "the observer does not start")
    local results <const> = table.pack(fn())
    child:kill "KILL"
    child:wait(10)
    local worst = 0
    for line in function() return child:read_line(0) end do
        worst = tonumber(line) or worst
    end
    return worst, results
end

--- Runs fn beside a task that ticks every 10 ms.
---@param fn fun(): ...
---@return number pause the longest time between two ticks, in seconds, without pauses of the machine
---@return any ... what fn returned
function M.ticking(fn)
    local worst = 0
    local others <const>, results <const> = observe(function()
        local last, stop = task.now(), false
        local ticker <const> = task.spawn(function()
            while not stop do
                task.sleep(TICK)
                local now <const> = task.now()
                worst, last = math.max(worst, now - last), now
            end
        end)
        local results = table.pack(pcall(fn))
        stop = true
        ticker:join()
        if not results[1] then
            error(results[2], 0)
        end
        return table.unpack(results, 2, results.n)
    end)
    return worst - math.max(0, others - TICK), table.unpack(results, 1, results.n)
end

return M
