--- Finalisers at random moments, which do random things with any handle in use. DBRUN_FINALISER_SECONDS sets the
--- duration, DBRUN_TEST_SEED repeats a run.

local finaliser = require "spec.support.finaliser"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local SECONDS <const> = tonumber(os.getenv "DBRUN_FINALISER_SECONDS") or 5
local ROUND <const> = 30 -- seconds of one program; the next one has another seed

describe("a finaliser that does anything at any moment", function()
    it("gives no task a wrong reply and leaves no connection behind", function()
        local seed = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()
        local left = SECONDS
        repeat
            print(("seed %d"):format(seed))
            finaliser.run("finaliser_storm.lua", pg.url(), servers.redis_db(), tostring(math.min(left, ROUND)),
                tostring(seed))
            left, seed = left - ROUND, seed + 1
        until left <= 0
    end)
end)
