-- P1: a prepared point select from 20 tasks on the async engine, which checks out and returns one of 20
-- connections for each statement.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local TASKS <const> = 20

local function measure(seconds)
    local db <const> = require "dbrun.db"
    local load <const> = require "bench.lib.load"
    local engine <const>, sql <const>, random <const> = db.async, load.SELECT, math.random

    local function step()
        local wrong = 0
        for _ = 1, 16 do
            local aid <const> = random(1, load.ACCOUNTS)
            if engine:value(sql, aid) ~= aid then wrong = wrong + 1 end
        end
        return 16, wrong
    end
    local result <const> = load.tasks(TASKS, seconds, function() for _ = 1, 5 do step() end end, step)
    db.close()
    return result
end

return {
    id = "P1", order = 1, title = "point select, 20 tasks on 20 connections", metric = "rate",
    measure = { value = measure },
    ours = { contender.ours("dbrun", "value") },
    others = {
        contender.floor {
            source = "select_epoll", link = { "-lpq" },
            argv = function(ctx) return { ctx.servers.conninfo, TASKS, ctx.seconds } end,
        },
        rivals.pgbench(TASKS),
        rivals.python {
            name = "asyncpg", file = "asyncpg_select.py", args = { "pool" }, modules = rivals.ASYNCPG,
        },
        rivals.python {
            name = "asyncpg, connections kept", file = "asyncpg_select.py", args = { "kept" },
            modules = rivals.ASYNCPG,
        },
        rivals.python {
            name = "SQLAlchemy + asyncpg", file = "sqlalchemy_select.py", args = { "session" },
            modules = rivals.SQLALCHEMY_ASYNC,
        },
        rivals.python {
            name = "SQLAlchemy, no session", file = "sqlalchemy_select.py", args = { "connection" },
            modules = rivals.SQLALCHEMY_ASYNC,
        },
    },
    targets = {
        { metric = "rate", against = "pgbench", at_least = 1.15 },
        { metric = "rate", against = "SQLAlchemy + asyncpg", at_least = 12 },
        { metric = "cpu", against = "floor in C", at_most = 1.3 },
    },
}
