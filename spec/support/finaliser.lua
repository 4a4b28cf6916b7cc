--- Finalisers at the worst moments: one that acts at the n-th moment at which Lua may run finalisers, for each n
--- that there is.
---
--- What is tried here ends the program when it goes wrong, so it runs in a dbrun of its own: M.run starts it.

local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"
local rounds <const> = require "spec.support.rounds"

local M = {}

--- Calls run(x) again and again, each time with a new x = prepare(). In the n-th call a finaliser calls act(x) at the
--- n-th of the moments at which Lua allocates (each is a whole collection). Ends with the call that has no n-th.
--- check(x, ok, ...) gets what pcall(run, x) returned, also of that last call, which nobody disturbed.
--- Every fourth moment, from one of the first four on: each run tries others (make faults: every one).
---@param scene table prepare, run, act, check: functions
---@return integer n the last moment that was tried
function M.at_every_moment(scene)
    local stride <const>, first <const> = rounds.moments(4)
    local n = first - stride
    repeat
        n = n + stride
        local x <const> = scene.prepare()
        local moments, armed, acted = 0, true, false
        local function arm()
            setmetatable({}, { __gc = function()
                if not armed then
                    return
                end
                moments = moments + 1
                if moments < n then
                    arm()
                else
                    acted, armed = true, false
                    pcall(scene.act, x)
                end
            end })
        end
        collectgarbage()
        collectgarbage("incremental", 100, 1000, 30) -- a step is a whole collection, and the next one is due at once
        collectgarbage "stop"
        arm()
        collectgarbage "restart"
        local results <const> = table.pack(pcall(scene.run, x))
        armed = false
        collectgarbage("incremental", 200, 100, 13)
        scene.check(x, table.unpack(results, 1, results.n))
    until not acted
    return n - stride
end

local function check(words, result)
    if result.code ~= 0 then
        error(("%s: exit code %s, signal %s\n%s%s"):format(table.concat(words, " "), result.code, result.signal,
            result.stdout, result.stderr), 3)
    end
end

--- Runs a script of spec/support in a dbrun of its own, with these arguments; fails with what it wrote.
---@param script string
---@param ... string
function M.run(script, ...)
    check({ script, ... }, process.run { core.options.program, "--no-env", "spec/support/" .. script,
        timeout = 300, ... })
end

--- The same in a stock lua5.4.
---@param script string
---@param ... string
function M.run_stock(script, ...)
    local build <const> = core.options.program:match "^(.*)/"
    if build:find "/asan$" then
        return -- the sanitizers' runtime must be in the program itself
    end
    check({ script, ... }, process.run { "lua5.4", "spec/support/" .. script, timeout = 300, env = {
        LUA_PATH = "lua/?.lua;lua/?/init.lua;./?.lua;;", LUA_CPATH = build .. "/lib/?.so;;",
    }, ... })
end

return M
