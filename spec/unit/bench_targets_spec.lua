-- The targets of the benchmarks.
package.path = "spec/?.lua;" .. package.path

local runner <const> = require "bench.lib.runner"
local shell <const> = require "bench.lib.shell"
local targets <const> = require "bench.lib.targets"

describe("the workloads that ship", function()
    -- The agreed targets. A change here changes dbrun's promises.
    local AGREED <const> = {
        P1 = { "rate pgbench >= 1.15 x", "rate SQLAlchemy + asyncpg >= 12 x", "cpu floor in C <= 1.3 x" },
        P2 = { "rate pgbench >= 4 x" },
        P3 = { "rate floor in C >= 0.97 x" },
        P4 = { "rate asyncpg >= 1.5 x", "rate asyncpg >= 2 x", "rate asyncpg >= 2.5 x",
            "cpu asyncpg >= 1.5 x faster", "cpu asyncpg >= 2 x faster", "cpu asyncpg >= 2.5 x faster",
            "memory asyncpg <= 1 x", "memory  <= 16.0 MiB" },
        P5 = { "rate psql \\copy in >= 1.4 x", "rate psql \\copy out >= 1 x" },
        P6 = { "time SQLAlchemy <= 0.25 us or >= 14 x" },
        M1 = { "memory  <= 1.50 KiB", "memory  <= 200 MiB", "rate  >= 200,000/s" },
        M2 = { "cpu dbrun, 20 tasks <= 1.2 x" },
        R1 = { "rate redis-benchmark >= 12 x" },
        R2 = { "rate redis-benchmark >= 1 x" },
        R3 = { "rate redis-benchmark >= 1.1 x" },
        S1 = { "time C, same libraries <= 1.15 x" },
        S2 = { "time SQLAlchemy, redis-py >= 6 x faster", "cpu SQLAlchemy, redis-py >= 20 x faster",
            "memory  <= 12.0 MiB" },
        S3 = { "time psql -1 -f <= 1.5 x" },
        B1 = { "rate procedure >= 0.9 x", "rate procedure >= 1.6 x", "rate count(*), 1 in 1000 >= 0.8 x",
            "rate count(*), 1 in 1000000 >= 0.8 x" },
        B2 = { "time  <= 2.00 ms", "memory  <= 40.0 MiB", "time dbrun, chunk 100 <= 1.5 x" },
        B3 = { "time  <= 2.00 s", "time  <= 2.00 s", "time without it <= 1.3 x", "time  <= 1.50 s" },
        B4 = { "wrong  <= 0" },
        B5 = {},
        B8 = { "memory procedure, wal <= 1.05 x", "memory procedure, size <= 1.05 x" },
    }

    local loaded <const> = {}
    for _, name in ipairs(shell.glob("spec/bench/workloads", "*.lua")) do
        local w <const> = dofile("spec/bench/workloads/" .. name)
        loaded[w.id] = w
    end

    it("are valid", function()
        for _, w in pairs(loaded) do runner.check(w) end
    end)

    it("have the targets that were agreed, unchanged", function()
        for id in pairs(loaded) do assert.truthy(AGREED[id], id) end
        for id, agreed in pairs(AGREED) do
            local found <const> = {}
            for i, t in ipairs(loaded[id].targets) do
                found[i] = ("%s %s %s"):format(t.metric, t.against or "", targets.text(t))
            end
            assert.same(agreed, found, id)
        end
    end)

    it("have different places in the table", function()
        local seen <const> = {}
        for id, w in pairs(loaded) do
            assert.is_nil(seen[w.order], id)
            seen[w.order] = id
        end
    end)
end)
