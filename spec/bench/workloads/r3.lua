-- R3: SET and GET from one task, one command at a time.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local function measure(seconds)
    local redis <const> = require "dbrun.redis"
    local load <const> = require "bench.lib.load"
    local r <const> = redis.get()
    local i = 0

    local result <const> = load.alone(seconds, function()
        local wrong = 0
        for _ = 1, 16 do
            i = i + 1
            local value <const> = tostring(i)
            r:set("bench:0", value)
            if r:get "bench:0" ~= value then wrong = wrong + 1 end
        end
        return 32, wrong
    end)
    redis.close()
    return result
end

return {
    id = "R3", order = 13, title = "Redis SET and GET, one task", metric = "rate",
    measure = { set_get = measure },
    ours = { contender.ours("dbrun", "set_get") },
    others = {
        rivals.redis_benchmark(1),
        rivals.redis_floor(1),
        rivals.python { name = "redis-py", file = "redis_py_sync.py", modules = rivals.REDIS_PY },
    },
    targets = {
        { metric = "rate", against = "redis-benchmark", at_least = 1.1 },
    },
}
