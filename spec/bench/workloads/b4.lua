-- B4: a batch job of four processes under kills, crashes of the server, cut connections and a failover processes each
-- row once. The faults are those of spec/faults/batch/crash_spec.lua: a few of them here, a hundred kills and more in
-- the long form. As root, the long form also cuts a machine off ten times in one job (network_spec.lua).
local spec <const> = require "bench.lib.spec"

local CRASHES <const>, CUTS <const> = "spec/faults/batch/crash_spec.lua", "spec/faults/batch/network_spec.lua"

local function run(ctx)
    if ctx.seconds < 1 then
        return spec.run(ctx, { DBRUN_BATCH_ROWS = 20000, DBRUN_BATCH_FAULTS = 8 }, 600, CRASHES)
    end
    return spec.run(ctx, { DBRUN_BATCH_ROWS = 200000, DBRUN_BATCH_FAULTS = 200, DBRUN_BATCH_CUTS = 10 }, 3000, CRASHES,
        CUTS)
end

--- The number of faults in a line such as "kill 4, crash 2" or "free 15.2 s after the cut".
local function faults_of(line)
    if line:find "DBRUN_TEST_SEED" then return 0 end
    if line:find "after the cut" then return 1 end
    local faults = 0
    for n in line:gmatch "%l+ (%d+)" do faults = faults + n end
    return faults
end

return {
    id = "B4", order = 44, title = "a batch job under faults", metric = "wrong", alone = true, pairs = 1, round = 20,
    ours = {
        {
            name = "dbrun", kind = "ours", missing = spec.missing,
            run = function(ctx)
                local told <const>, cost <const> = run(ctx)
                local faults = 0
                for line in told:gmatch "[^\n]+" do faults = faults + faults_of(line) end
                if faults == 0 then error("the spec made no faults:\n" .. told, 0) end
                -- The spec compares each row; a wrong row fails the spec, and so this run.
                return { wrong = 0, faults = faults, time = cost.wall, memory = cost.rss_kib * 1024 }
            end,
        },
    },
    others = {},
    targets = { { metric = "wrong", limit = 0 } },
}
