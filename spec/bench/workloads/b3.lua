-- B3: other users of the server during a batch job: how soon the job stops for a standby that lags behind, and goes on
-- when it has caught up; and transactions during the job. spec/faults/batch/standby_spec.lua measures and checks this
-- on its own servers; one run of it gives all figures.
local spec <const> = require "bench.lib.spec"

local FILE <const> = "spec/faults/batch/standby_spec.lua"

--- Seconds of pgbench, alone and during the job.
local function length(seconds)
    return seconds < 1 and 3 or 30
end

local last, taken = nil, {}

--- A figure of the last run; makes a new run when the same figure is needed again.
local function figures(ctx, name)
    if not last or taken[name] then
        local told <const>, run <const> = spec.run(ctx, { DBRUN_BATCH_BESIDE = length(ctx.seconds) },
            120 + 4 * length(ctx.seconds), FILE)
        local stopped <const>, went <const> = told:match "stopped (%-?[%d.]+) s after the limit, went on ([%d.]+) s"
        local alone <const>, beside <const>, longest <const> =
            told:match "transactions: ([%d.]+) ms alone, ([%d.]+) ms beside .-the longest (%d+) ms"
        if not (stopped and longest) then error("the spec did not tell its figures:\n" .. told, 0) end
        last, taken = {
            stop = math.max(0, tonumber(stopped)), go = tonumber(went), alone = alone / 1000, beside = beside / 1000,
            longest = longest / 1000, memory = run.rss_kib * 1024,
        }, {}
    end
    taken[name] = true
    return { time = last[name], memory = last.memory }
end

local function figure(name, key, kind)
    return { name = name, kind = kind, missing = spec.missing, run = function(ctx) return figures(ctx, key) end }
end

return {
    id = "B3", order = 43, title = "beside a batch job", metric = "time", alone = true, pairs = 1, round = 30,
    ours = {
        figure("stops behind the limit", "stop", "ours"), figure("goes on", "go", "ours"),
        figure("99 % of transactions beside it", "beside", "ours"), figure("the longest of them", "longest", "ours"),
    },
    others = { figure("without it", "alone", "floor") },
    targets = {
        { metric = "time", ours = "stops behind the limit", limit = 2 },
        { metric = "time", ours = "goes on", limit = 2 },
        { metric = "time", ours = "99 % of transactions beside it", against = "without it", at_most = 1.3 },
        { metric = "time", ours = "the longest of them", limit = 1.5 }, -- the job's target and 1 s
    },
}
