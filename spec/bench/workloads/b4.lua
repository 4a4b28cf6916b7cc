-- B4: a batch job of four processes under kills, crashes of the server, cut connections and a failover: each row is
-- done once. The faults are those of spec/faults/batch/crash_spec.lua: a few of them here, a hundred kills and more in
-- the long form. (`make batch-storm` has networks that are cut off, too, which takes root.)
local spec <const> = require "bench.lib.spec"

local FILE <const> = "spec/faults/batch/crash_spec.lua"

local function size(seconds)
    if seconds < 1 then return { DBRUN_BATCH_ROWS = 20000, DBRUN_BATCH_FAULTS = 8 } end
    return { DBRUN_BATCH_ROWS = 200000, DBRUN_BATCH_FAULTS = 200 }
end

return {
    id = "B4", order = 44, title = "a batch job under faults", metric = "wrong", alone = true, pairs = 1, round = 20,
    ours = {
        {
            name = "dbrun", kind = "ours", missing = spec.missing,
            run = function(ctx)
                local told <const>, run <const> = spec.run(ctx, FILE, size(ctx.seconds), 1800)
                local faults = 0
                for line in told:gmatch "[^\n]+" do
                    for n in (line:find "DBRUN_TEST_SEED" and "" or line):gmatch "%l+ (%d+)" do faults = faults + n end
                end
                if faults == 0 then error("the spec made no faults:\n" .. told, 0) end
                -- The spec compares each row; one that is wrong makes it fail, and with it this run.
                return { wrong = 0, faults = faults, time = run.wall, memory = run.rss_kib * 1024 }
            end,
        },
    },
    others = {},
    targets = { { metric = "wrong", limit = 0 } },
}
