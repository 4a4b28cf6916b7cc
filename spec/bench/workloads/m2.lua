-- M2: the cost of a statement against the number of tasks: P1 with 1, 10, 100, 1,000 and 10,000 tasks on the same 20
-- connections.
local contender <const> = require "bench.lib.contender"

local function with(tasks)
    return function(seconds)
        local db <const> = require "dbrun.db"
        local load <const> = require "bench.lib.load"
        local engine <const>, sql <const>, random <const> = db.async, load.SELECT, math.random

        local function step()
            local aid <const> = random(1, load.ACCOUNTS)
            return 1, engine:value(sql, aid) == aid and 0 or 1
        end
        local result <const> = load.tasks(tasks, seconds, step, step)
        db.close()
        return result
    end
end

--- The same with fewer tasks, to compare with.
local function fewer(name, variant)
    local one <const> = contender.ours(name, variant)
    one.kind = "floor"
    return one
end

return {
    id = "M2", order = 31, title = "point select, 10,000 tasks on 20 connections", metric = "cpu",
    measure = {
        one = with(1), ten = with(10), few = with(20), hundred = with(100), thousand = with(1000), many = with(10000),
    },
    ours = { contender.ours("dbrun, 10,000 tasks", "many") },
    others = {
        fewer("dbrun, 20 tasks", "few"), fewer("dbrun, 1 task", "one"), fewer("dbrun, 10 tasks", "ten"),
        fewer("dbrun, 100 tasks", "hundred"), fewer("dbrun, 1,000 tasks", "thousand"),
    },
    targets = {
        { metric = "cpu", against = "dbrun, 20 tasks", at_most = 1.2 },
    },
}
