--- Many statements of many tasks while backends are killed: each with a nonce that its reply must carry.
--- DBRUN_SOAK_STATEMENTS and DBRUN_SOAK_TASKS make it larger (1000000 and 10000 for the whole of it).

local pg = require "spec.support.pg"
local resident = require "spec.support.resident"
local rounds = require("spec.support.rounds").of
local task = require "dbrun.task"

local STATEMENTS <const> = math.tointeger(tonumber(os.getenv "DBRUN_SOAK_STATEMENTS") or rounds(40000))
local TASKS <const> = math.tointeger(tonumber(os.getenv "DBRUN_SOAK_TASKS" or 2000))

describe("an engine under many tasks and killed backends", function()
    for _, opts in ipairs { { name = "each statement on a connection of its own" },
        { name = "shared connections", pipeline = 16 } } do
        it("gives every statement its own reply or an error: " .. opts.name, function()
            local seed = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED" or os.time()))
            print(("# DBRUN_TEST_SEED=%d"):format(seed))
            math.randomseed(seed)
            local e <close> = pg.engine { size = 20, pipeline = opts.pipeline, timeout = 120, command_timeout = 60,
                application_name = "spec_soak" }
            local killer <close> = pg.engine { size = 1 }

            local answers, lost = 0, 0
            local function work(k)
                for i = 1, STATEMENTS // TASKS do
                    local nonce = k * 1000000 + i
                    local ok, v = pcall(e.value, e, "select $1::int8", nonce)
                    if ok then
                        assert(v == nonce, ("a crossed reply: %s instead of %d"):format(v, nonce))
                        answers = answers + 1
                    else
                        assert(v.kind == "connect", tostring(v))
                        lost = lost + 1
                    end
                end
            end
            local function storm()
                while true do
                    task.sleep(0.05 + math.random() * 0.1)
                    killer:query [[select pg_terminate_backend(pid) from pg_stat_activity
                        where application_name = 'spec_soak' order by random() limit 2]]
                end
            end
            --- Returns the number of descriptors without those of the pools' connections, and the memory in KiB.
            local function round()
                local g <close> = task.group()
                local killing = g:spawn(storm)
                local working <close> = task.group()
                for k = 1, TASKS do
                    working:spawn(work, k)
                end
                working:wait()
                killing:cancel()
                pcall(killing.join, killing)
                collectgarbage()
                -- First the pools: a connect or a cancel in progress has descriptors, too.
                local connections = pg.settled(e, 10).open + pg.settled(killer, 10).open
                return pg.descriptors() - connections, resident() // 1024
            end

            local descriptors, memory = round() -- buffers, threads and the string table reach their final size here
            local descriptors_after, memory_after = round()
            assert.equal(2 * (STATEMENTS // TASKS) * TASKS, answers + lost)
            assert.is_true(answers > lost)
            assert.is_true(descriptors_after <= descriptors + 2,
                ("%d descriptors after %d"):format(descriptors_after, descriptors))
            if not os.getenv "ASAN_OPTIONS" then -- the sanitizer's quarantine of freed memory counts as resident
                assert.is_true(memory_after <= memory * 1.25 + 8192, ("%d KiB after %d"):format(memory_after, memory))
            end
            print(("# %d answers, %d lost, %d KiB resident"):format(answers, lost, memory_after))
        end)
    end
end)
