-- P3: a prepared point select on the sync engine, one connection, one statement at a time.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local function measure(seconds)
    local db <const> = require "dbrun.db"
    local load <const> = require "bench.lib.load"
    local engine <const>, sql <const>, random <const> = db.sync, load.SELECT, math.random

    local result <const> = load.alone(seconds, function()
        local wrong = 0
        for _ = 1, 16 do
            local aid <const> = random(1, load.ACCOUNTS)
            if engine:value(sql, aid) ~= aid then wrong = wrong + 1 end
        end
        return 16, wrong
    end)
    db.close()
    return result
end

return {
    id = "P3", order = 3, title = "point select, sync engine, one connection", metric = "rate",
    measure = { value = measure },
    ours = { contender.ours("dbrun", "value") },
    others = {
        contender.floor {
            source = "select_block", link = { "-lpq" },
            argv = function(ctx) return { ctx.servers.conninfo, ctx.seconds } end,
        },
        rivals.pgbench(1),
        rivals.python { name = "psycopg2", file = "psycopg2_select.py", modules = rivals.PSYCOPG2 },
    },
    targets = {
        { metric = "rate", against = "floor in C", at_least = 0.97 },
    },
}
