-- B5: 64 workers and a table of 10^9 rows, computed (lib/plan.lua): what they reach, and that it is not the job's own
-- state that limits them. Nothing runs; other costs and numbers of workers: `dbrun spec/bench/batch_plan.lua`.
local contender <const> = require "bench.lib.contender"

local WORKERS <const>, SIZE <const> = 64, 5000

local function planned(workers)
    return function()
        local plan <const> = require "bench.lib.plan"
        local costs <const>, cpu <const> = plan.costs(), os.clock()
        local r <const> = plan.simulate(costs, workers, SIZE)
        -- More than the cores or the workers can do is wrong, and so is a plan that waits for the job's row.
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
