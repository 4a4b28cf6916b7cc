-- Pools of Redis connections: waiting, refusals, closing.
local bad_server = require "spec.support.bad_server"
local core = require "dbrun.core"
local fails = require "spec.support.fails"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a Redis client", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("treats huge time limits as no limit", function()
        for _, seconds in ipairs { 1e12, 1e300, math.huge } do
            local patient <close> = redis.client { url = server.url, connect_timeout = seconds, timeout = seconds,
                command_timeout = seconds }
            assert.equal("PONG", patient:ping())
        end
    end)

    describe("with a pool that is full", function()
        local pool, small
        before_each(function()
            pool = redis.pool { url = server.url, max_connections = 2, timeout = 0.3 }
            small = redis.client { pool = pool }
        end)
        after_each(function()
            small:close()
            pool:close()
        end)

        it("waits its turn, first come first served", function()
            local order = {}
            local a <const>, b <const> = small:acquire(), small:acquire()
            local g <close> = task.group()
            for i = 1, 5 do
                g:spawn(function()
                    local c <close> = small:acquire()
                    order[#order + 1] = i
                    c:ping()
                end)
                task.sleep(0)
            end
            task.sleep(0.02)
            assert.equal(5, pool:stats().waiting)
            a:close()
            b:close()
            g:wait()
            assert.same({ 1, 2, 3, 4, 5 }, order)
        end)

        it("gives up after its timeout and names the holders of the connections", function()
            local a <close> = small:acquire()
            local b <close> = small:acquire()
            local tries = 0
            local e <const> = pace.takes(0.29, 0.34, function()
                tries = tries + 1
                return fails("pool", function()
                    task.spawn(small.acquire, small):join()
                end)
            end)
            assert.matches("2 of 2 in use", e.message)
            assert.matches("^held at [^\n]*redis/pool_spec.lua:%d+ for [%d.]+ s\n +[^\n]*pool_spec.lua:%d+ for",
                e.detail)
            assert.matches("raise max_connections %(REDIS_MAX_CONNECTIONS%)%.$", e.hint)
            assert.equal("not_sent", e.outcome)
            assert.equal(tries, pool:stats().timeouts)
            assert.is_not_nil(a and b)
        end)

        it("does not mistake a later task for one that took a connection and ended", function()
            pool:close()
            pool = redis.pool { url = server.url, max_connections = 1, timeout = 10 }
            local client <close> = redis.client { pool = pool }
            for _ = 1, 10 do
                local kept
                task.spawn(function() kept = client:acquire() end):join()
                collectgarbage() -- the memory of that task is free: one of the next gets it
                local later <const> = {}
                for i = 1, 50 do
                    later[i] = task.spawn(function()
                        local c <close> = client:acquire()
                        return c:ping()
                    end)
                end
                task.sleep(0)
                kept:close()
                for _, t in ipairs(later) do
                    assert.equal("PONG", t:join())
                end
            end
        end)

        it("raises at once when the task itself holds all of them", function()
            local a <close> = small:acquire()
            local b <close> = small:acquire()
            pace.takes(0, 0.1, function() fails("pool", small.acquire, small) end)
            assert.is_not_nil(a and b)
        end)

        it('raises at once with on_full="error"', function()
            local eager <const> = redis.client {
                pool = redis.pool { url = server.url, max_connections = 1, on_full = "error" },
            }
            local a <close> = eager:acquire()
            pace.takes(0, 0.1, function()
                local e <const> = fails("pool", eager.acquire, eager)
                assert.matches("too many connections", e.message)
                assert.matches('raise max_connections %(REDIS_MAX_CONNECTIONS%), or use on_full="wait"', e.hint)
                fails("pool", eager.ping, eager)
            end)
            a:close()
            assert.equal("PONG", eager:ping())
            eager:close()
        end)

        it("has the statistics of a PostgreSQL pool, three of them also under another name", function()
            local st <const> = pool:stats()
            for _, name in ipairs { "size", "overflow", "open", "idle", "leased", "opening", "resetting", "waiting",
                "opened", "closed", "recycled", "invalidated", "timeouts", "failed", "acquired", "wait_count",
                "wait_sum", "wait_max" } do
                assert.is_number(st[name], name)
            end
            assert.equal(st.size, st.max_connections)
            assert.equal(st.wait_count, st.waits)
            assert.equal(st.wait_sum, st.wait_time)
        end)

        it("names the task that would wait forever, and says that a retry is useless", function()
            local e
            task.spawn(function()
                local a <close> = small:acquire()
                local b <close> = small:acquire()
                e = fails("pool", small.acquire, small)
                assert.is_not_nil(a and b)
            end):join()
            assert.matches("is held by a task that waits for another connection", e.message)
            assert.is_false(e.retryable)
            assert.matches("^Do not take a second connection in a task that holds one", e.hint)
        end)

        it("ordinary commands go on while others hold connections", function()
            assert.equal("PONG", small:ping())
            local a <close> = small:acquire()
            assert.equal("PONG", a:ping())
            assert.equal("PONG", small:ping())
        end)

        it("gives up its idle shared connection to another client of the pool", function()
            local common <close> = redis.pool { url = server.url, max_connections = 1, timeout = 5 }
            local one <close> = redis.client { pool = common }
            local two <close> = redis.client { pool = common }
            for i = 1, 3 do
                one:set("k", i)
                assert.equal(tostring(i), two:get "k")
            end
            local c <close> = one:acquire()
            assert.equal("3", c:get "k")
            assert.equal(1, common:stats().opened)
        end)

        it("gives up its idle shared connection also when no task waits for one", function()
            local one <close> = redis.client { url = server.url, max_connections = 1, on_full = "error" }
            assert.equal("PONG", one:ping())
            assert.is_nil(one:blpop("q", 0.02))
            local c <close> = one:acquire()
            assert.equal("PONG", c:ping())
            fails("pool", one.ping, one)
        end)

        it("gives up its shared connection to a task that needs a dedicated one", function()
            local one <const> = redis.client { pool = redis.pool { url = server.url, max_connections = 1 } }
            assert.equal("PONG", one:ping())
            assert.is_nil(one:blpop("q", 0.05))
            assert.equal("PONG", one:ping())
            one:close()
        end)
    end)

    describe("closed", function()
        local function connected()
            return tonumber(r:info("clients"):match "connected_clients:(%d+)")
        end

        -- Unclosed pools of other specs would count.
        before_each(function()
            collectgarbage()
            collectgarbage()
            redis_server.wait_until(10, function() return connected() == 1 end)
        end)

        it("refuses commands, and can be closed twice", function()
            local c <const> = redis.client { url = server.url }
            c:ping()
            c:close()
            c:close()
            assert.is_true(c:closed())
            assert.matches("client is closed", fails("usage", c.ping, c).message)
        end)

        it("fails commands in flight", function()
            local c <const> = redis.client { url = server.url }
            c:ping()
            local e
            task.all {
                function() e = fails("pool", c.call, c, "DEBUG", "SLEEP", 0.5) end,
                function()
                    task.sleep(0) -- it is sent now, and gets no reply for long
                    c:close()
                end,
            }
            assert.equal("unknown", e.outcome)
        end)

        it("that is invalidated moves its clients to new connections, and loses nothing", function()
            local pool <const> = redis.pool { url = server.url }
            local first <close>, second <const> = redis.client { pool = pool }, redis.client { pool = pool }
            local dedicated <const> = first:acquire()
            local function ids()
                return { first:call("CLIENT", "ID"), second:call("CLIENT", "ID"), dedicated:call("CLIENT", "ID") }
            end
            local before <const> = ids()
            local answers = task.all {
                function() return first:call("DEBUG", "SLEEP", 0.2) end,
                function() return first:echo "behind it" end,
                function()
                    task.sleep(0) -- both are sent
                    pool:invalidate()
                    return first:echo "after it"
                end,
            }
            assert.same({ "OK", "behind it", "after it", n = 3 }, answers)
            local now <const> = ids()
            assert.not_equal(before[1], now[1])
            assert.not_equal(before[2], now[2])
            assert.equal(before[3], now[3]) -- its holder keeps it until it is closed
            dedicated:close()
            assert.equal(2, pool:stats().open)
            pool:invalidate()
            pool:invalidate()
            assert.equal(0, pool:stats().open) -- nothing is in flight
            assert.equal("PONG", first:ping())
            second:close()
            pool:close()
        end)

        it("while it connects raises in the waiting task", function()
            local mute <close> = bad_server.start "sleep 60"
            local pool <const> = redis.pool { url = mute.url, connect_timeout = 30 }
            local c <const> = redis.client { pool = pool }
            local e = {}
            task.all {
                function() e[1] = fails("pool", c.ping, c) end,
                function() e[2] = fails("pool", c.acquire, c) end,
                function()
                    redis_server.wait_until(10, function() return pool:stats().opening == 2 end)
                    pool:close()
                end,
            }
            assert.equal("not_sent", e[1].outcome)
            assert.equal("not_sent", e[2].outcome)
            assert.equal(0, pool:stats().opening)
            c:close()
        end)

        it("does not close a pool that was passed in, and returns its connection", function()
            local pool <const> = redis.pool { url = server.url }
            local c <const> = redis.client { pool = pool }
            c:ping()
            c:close()
            assert.is_false(pool:closed())
            assert.equal(1, pool:stats().idle)
            local d <const> = redis.client { pool = pool }
            assert.equal("PONG", d:ping())
            assert.equal(1, pool:stats().opened)
            d:close()
            pool:close()
            fails("pool", function() redis.client { pool = pool }:ping() end)
        end)

        it("leaves no connection on the server", function()
            local c <const> = redis.client { url = server.url }
            c:ping()
            local a <const> = c:acquire()
            a:ping()
            a:close()
            c:close()
            assert.is_true(redis_server.wait_until(10, function()
                return connected() == 1
            end))
        end)

        it("forgotten clients and connections are closed by the collector", function()
            do
                local c = redis.client { url = server.url }
                c:ping()
                local level <const> = core.log.level()
                core.log.level "error" -- a connection that is never closed is logged
                local a = c:acquire()
                a:ping()
                c, a = nil, nil
                assert.is_nil(c or a)
                collectgarbage()
                collectgarbage()
                core.log.level(level)
            end
            assert.is_true(redis_server.wait_until(10, function()
                return connected() == 1
            end))
        end)
    end)
end)
