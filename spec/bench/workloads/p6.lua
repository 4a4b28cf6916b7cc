-- P6: check a connection out of the pool and return it, nothing in between.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local function measure(seconds)
    local db <const> = require "dbrun.db"
    local load <const> = require "bench.lib.load"
    local engine <const> = db.async

    local result <const> = load.alone(seconds, function()
        for _ = 1, 200 do
            local _ <close> = engine:acquire()
        end
        return 200, 0
    end)
    local stats <const> = engine:stats()
    if stats.leased ~= 0 or stats.open ~= 1 or engine:value "SELECT 1" ~= 1 then result.errors = result.errors + 1 end
    db.close()
    return result
end

return {
    id = "P6", order = 6, title = "acquire and release, nothing in between", metric = "time",
    measure = { acquire = measure },
    ours = { contender.ours("dbrun", "acquire") },
    others = {
        rivals.python {
            name = "SQLAlchemy", file = "sqlalchemy_pool.py", modules = rivals.SQLALCHEMY_SYNC,
        },
    },
    targets = {
        { metric = "time", against = "SQLAlchemy", at_least = 14, or_limit = 0.25e-6 },
    },
}
