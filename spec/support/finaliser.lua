--- Finalisers at the worst moments: a finaliser acts at the n-th moment at which Lua can run finalisers, for n = 1, 2
--- and so on, up to the last moment.
---
--- A failure here ends the program, so it runs in a separate dbrun: M.run starts it.

local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"
local rounds <const> = require "spec.support.rounds"

local M = {}

--- Calls run(x) repeatedly, each time with a new x = prepare(). In the n-th call a finaliser calls act(x) at the n-th
--- moment at which Lua allocates (each allocation runs a whole collection). Ends with the first call that has fewer
--- than n such moments. check(x, ok, ...) gets the results of pcall(run, x), also of that last, undisturbed call.
--- Tries every fourth moment, from a random one of the first four on (make faults: every moment).
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

--- Runs a script of spec/support in a separate dbrun, with these arguments; fails with the script's output.
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
        return -- stock lua5.4 does not contain the sanitizers' runtime, which must be linked into the program
    end
    check({ script, ... }, process.run { "lua5.4", "spec/support/" .. script, timeout = 300, env = {
        LUA_PATH = "lua/?.lua;lua/?/init.lua;./?.lua;;", LUA_CPATH = build .. "/lib/?.so;;",
    }, ... })
end

return M
