--- Measures for how long the machine ran no program, or not this one: a missed deadline is then no fault of the code.

local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"
local task <const> = require "dbrun.task"

local M <const> = {}

local OBSERVER <const> = [[
    io.stdout:setvbuf "line"
    local task = require "dbrun.task"
    local last = task.now()
    print "0 0"
    while true do
        task.sleep(0.01)
        local now = task.now()
        if now - last > 0.025 then print(("%.6f %.6f"):format(last + 0.01, now)) end
        last = now
    end
]]

---@class spec.Stalls
---@field child table
---@field list number[][] start and end of each pause of the observer
---@field turn dbrun.Semaphore only one task may read from the child
local Stalls <const> = {}
local meta <const> = { __index = Stalls }

--- Starts a program that only reads the clock; its pauses are pauses of the machine.
---@return spec.Stalls closable
function M.start()
    local child <const> = process.start {
        core.options.program, "--no-env", "-e", OBSERVER, stdout = "capture", pdeathsig = "KILL",
    }
    assert(child:read_line(30), "the observer does not start")
    return setmetatable({ child = child, list = {}, turn = task.semaphore(1) }, meta)
end

--- Seconds that this process has waited for a processor so far.
---@return number
function M.waited()
    local f <close> = io.open "/proc/self/schedstat"
    local ns <const> = f and f:read "a":match "^%d+ (%d+)"
    return ns and tonumber(ns) / 1e9 or 0
end

--- Seconds between these times in which the observer did not run.
---@param from number
---@param to number
---@return number
function Stalls:between(from, to)
    self.turn:with(function()
        while true do
            local line <const> = self.child:read_line(0)
            if not line then break end
            local first <const>, last <const> = line:match "^(%S+) (%S+)$"
            self.list[#self.list + 1] = { tonumber(first), tonumber(last) }
        end
    end)
    local sum = 0
    for _, pause in ipairs(self.list) do
        sum = sum + math.max(0, math.min(to, pause[2]) - math.max(from, pause[1]))
    end
    return sum
end

function Stalls:close()
    self.child:kill "KILL"
    self.child:wait(5)
    self.child:close()
end

meta.__close = Stalls.close

return M
