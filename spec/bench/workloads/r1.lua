-- R1: SET and GET from 50 tasks, each one command at a time.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local TASKS <const> = 50

local function measure(seconds)
    local redis <const> = require "dbrun.redis"
    local load <const> = require "bench.lib.load"
    local r <const> = redis.get()
    local counters <const> = {}

    local function step(number)
        local key <const>, counter <const> = "bench:" .. number, counters[number] or 0
        local wrong = 0
        for i = counter + 1, counter + 16 do
            local value <const> = tostring(i)
            r:set(key, value)
            if r:get(key) ~= value then wrong = wrong + 1 end
        end
        counters[number] = counter + 16
        return 32, wrong
    end
    local result <const> = load.tasks(TASKS, seconds, step, step)
    redis.close()
    return result
end

return {
    id = "R1", order = 11, title = "Redis SET and GET, 50 tasks, one command at a time each", metric = "rate",
    measure = { set_get = measure },
    ours = { contender.ours("dbrun", "set_get") },
    others = {
        rivals.redis_benchmark(TASKS),
        rivals.redis_floor(TASKS),
        rivals.python { name = "redis-py", file = "redis_py.py", args = { TASKS }, modules = rivals.REDIS_PY },
    },
    targets = {
        { metric = "rate", against = "redis-benchmark", at_least = 12 },
    },
}
