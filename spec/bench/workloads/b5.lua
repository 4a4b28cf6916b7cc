-- B5: the computed speed of 64 workers on a table of 10^9 rows (lib/plan.lua), which the job's own state must not
-- limit. Nothing runs. `dbrun spec/bench/batch_plan.lua` computes it for other costs and numbers of workers.
local contender <const> = require "bench.lib.contender"

local WORKERS <const>, SIZE <const> = 64, 5000

local function planned(workers)
    return function()
        local plan <const> = require "bench.lib.plan"
        local costs <const>, cpu <const> = plan.costs(), os.clock()
        local r <const> = plan.simulate(costs, workers, SIZE)
        -- A plan is wrong when it exceeds what the cores or the workers can do, or waits for the job's row.
        local chunk <const> = costs.chunk / 1e3 + SIZE * costs.row / 1e6
        local most <const> = SIZE / chunk * math.min(workers, costs.cores)
        local fine <const> = r.rate > 0 and r.rate <= most and plan.limit_of(r) ~= "job's row" and r.waited < 0.05
        return {
            ops = math.tointeger(costs.rows), checks = 1, errors = fine and 0 or 1, seconds = costs.rows / r.rate,
            cpu = os.clock() - cpu,
        }
    end
end

local one <const> = contender.ours("1 worker", "one")
one.kind = "floor"

return {
    id = "B5", order = 45, title = "plan for 64 workers and 10^9 rows", metric = "rate", alone = true, pairs = 1,
    measure = { many = planned(WORKERS), one = planned(1) },
    ours = { contender.ours("dbrun", "many") },
    others = { one },
    targets = {},
}
