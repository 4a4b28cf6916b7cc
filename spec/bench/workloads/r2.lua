-- R2: explicit pipelines of 100 commands on one connection, SET and GET in turns.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local DEPTH <const> = 100
local ROUNDS <const> = 800 -- until values repeat

local function measure(seconds)
    local redis <const> = require "dbrun.redis"
    local load <const> = require "bench.lib.load"
    local r <const> = redis.get()
    local keys <const>, words <const>, values <const>, round = {}, {}, {}, 0
    for i = 1, DEPTH do keys[i] = "bench:" .. i end
    for i = 1, ROUNDS + DEPTH do words[i] = ("%03d"):format(i) end -- redis-benchmark's values have 3 bytes too

    local function set_all(p)
        for i = 1, DEPTH do p:set(keys[i], values[i]) end
    end
    local function get_all(p)
        for i = 1, DEPTH do p:get(keys[i]) end
    end
    local result <const> = load.alone(seconds, function()
        local wrong = 0
        round = round % ROUNDS + 1
        table.move(words, round + 1, round + DEPTH, 1, values)
        local stored <const> = r:pipeline(set_all)
        local read <const> = r:pipeline(get_all)
        for i = 1, DEPTH do
            if stored[i] ~= "OK" or read[i] ~= values[i] then wrong = wrong + 1 end
        end
        return 2 * DEPTH, wrong
    end)
    redis.close()
    return result
end

return {
    id = "R2", order = 12, title = "Redis pipelines of 100 on one connection", metric = "rate",
    measure = { pipelines = measure },
    ours = { contender.ours("dbrun", "pipelines") },
    others = {
        rivals.redis_benchmark(1, DEPTH),
        rivals.redis_floor(DEPTH),
        rivals.python {
            name = "redis-py", file = "redis_py_pipeline.py", args = { DEPTH }, modules = rivals.REDIS_PY,
        },
    },
    targets = {
        { metric = "rate", against = "redis-benchmark", at_least = 1.0 },
    },
}
