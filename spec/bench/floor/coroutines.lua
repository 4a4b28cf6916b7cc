-- A floor of M1: waiting coroutines of stock Lua, with the same functions and nothing else:
-- `lua5.4 coroutines.lua COUNT`.
local count <const> = math.tointeger(arg[1])

local function resident()
    local f <close> = assert(io.open "/proc/self/statm")
    return math.tointeger(f:read "a":match "^%d+ (%d+)") * 4096
end

collectgarbage()
local before <const>, began <const> = resident(), os.clock()
local served, wrong, waiting = 0, 0, {}
for i = 1, count do
    waiting[i] = coroutine.create(function()
        local _ <close> = coroutine.yield()
        served = served + 1
        wrong = wrong + (served == i and 0 or 1)
    end)
    coroutine.resume(waiting[i])
end
local bytes <const> = (resident() - before) // count
for i = 1, count do coroutine.resume(waiting[i]) end
local spent <const> = os.clock() - began
print(('{"ops":%d,"checks":%d,"errors":%d,"seconds":%f,"cpu_us_per_op":%f,"bytes":%d}'):format(count, count,
    wrong + count - served, spent, spent * 1e6 / count, bytes))
