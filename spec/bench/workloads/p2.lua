-- P2: the statements of P1 from 200 tasks that share 4 connections, up to 16 in flight on each.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local TASKS <const>, CONNECTIONS <const>, DEPTH <const> = 200, 4, 16

local function measure(seconds)
    local config <const> = require "dbrun.config"
    local db <const> = require "dbrun.db"
    local load <const> = require "bench.lib.load"
    local engine <const> = db.engine {
        url = config.async_database_url, size = CONNECTIONS, overflow = 0, pipeline = DEPTH,
    }
    local sql <const>, random <const> = load.SELECT, math.random

    local function step()
        local wrong = 0
        for _ = 1, 16 do
            local aid <const> = random(1, load.ACCOUNTS)
            if engine:value(sql, aid) ~= aid then wrong = wrong + 1 end
        end
        return 16, wrong
    end
    local result <const> = load.tasks(TASKS, seconds, step, step)
    engine:close()
    return result
end

return {
    id = "P2", order = 2, title = "point select, 200 tasks on 4 shared connections", metric = "rate",
    measure = { value = measure },
    ours = { contender.ours("dbrun", "value") },
    others = {
        rivals.pgbench(20),
        contender.floor {
            source = "select_pipeline", link = { "-lpq" },
            argv = function(ctx) return { ctx.servers.conninfo, CONNECTIONS, DEPTH, ctx.seconds } end,
        },
    },
    targets = {
        { metric = "rate", against = "pgbench", at_least = 4 },
    },
}
