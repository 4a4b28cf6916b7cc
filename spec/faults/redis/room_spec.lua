-- The limit of the send queue for a server that does not read, and the writers that wait for room.
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local resident = require "spec.support.resident"
local task = require "dbrun.task"

local MIB <const> = 1024 * 1024
local BOUND <const> = 4 * MIB
--- The address sanitizer keeps freed memory for a while.
local SLACK <const> = (os.getenv "ASAN_OPTIONS" and 256 or 16) * MIB
local wait_until <const> = redis_server.wait_until

describe("the send queue for a server that does not read", function()
    local server, r
    redis_server.around(_ENV, function(s) server = s end)
    before_each(function()
        r = redis.client { url = server.url, max_queued = BOUND, command_timeout = 30 }
        r:ping()
    end)
    after_each(function()
        server:thaw()
        r:close()
    end)

    --- Freezes the server and queues `n` commands of 1 MiB in tasks of the group, in this order.
    local function pile_up(g, n, value)
        server:freeze()
        for i = 1, n do
            g:spawn(function()
                r:rpush("list", i .. ":" .. value)
            end)
        end
        assert.is_true(wait_until(10, function() return r:stats().in_flight == n end))
    end

    local function order_of_list()
        local numbers = {}
        for i = 0, r:llen "list" - 1 do
            numbers[i + 1] = math.tointeger(r:lindex("list", i):match "^%d+")
        end
        return numbers
    end

    it("is bounded: 20 writers keep writing, and the memory does not grow", function()
        local value <const> = ("x"):rep(MIB)
        local g <close> = task.group()
        server:freeze()
        local writing = true
        for i = 1, 20 do
            g:spawn(function()
                while writing do
                    g:spawn(function() r:set("key" .. i, value) end)
                    task.sleep(0.02)
                end
            end)
        end
        assert.is_true(wait_until(20, function() return r:stats().in_flight >= 100 end))
        local before <const> = resident()
        assert.is_true(wait_until(60, function() return r:stats().in_flight >= 400 end))
        writing = false
        assert.is_true(resident() - before < SLACK, ("%d MiB more"):format((resident() - before) // MIB))
        assert.is_true(r:stats().queued_bytes <= BOUND)
        server:thaw()
        g:wait()
        assert.equal(20, r:dbsize())
    end)

    it("is bounded while tasks time out and retry", function()
        local value <const> = ("x"):rep(MIB)
        local short <const> = r:with { timeout = 0.05 }
        server:freeze()
        local before
        for round = 1, 12 do
            local g <close> = task.group()
            for i = 1, 20 do
                g:spawn(function()
                    local e <const> = fails("timeout", short.set, short, "key" .. i, value)
                    assert.equal(e.retryable, e.outcome == "not_sent")
                end)
            end
            g:wait()
            before = round == 3 and resident() or before
        end
        assert.is_true(resident() - before < SLACK, ("%d MiB more"):format((resident() - before) // MIB))
    end)

    it("is sent in order when the server reads again", function()
        local g <close> = task.group()
        pile_up(g, 24, ("x"):rep(MIB))
        assert.is_true(r:stats().queued_bytes <= BOUND)
        g:spawn(function() r:rpush("list", "25:small") end) -- does not overtake waiting ones
        task.sleep(0.05)
        server:thaw()
        g:wait()
        local expected = {}
        for i = 1, 25 do
            expected[i] = i
        end
        assert.same(expected, order_of_list())
    end)

    it("fails a writer that finds no room before its deadline: not sent", function()
        local g <close> = task.group()
        pile_up(g, 8, ("x"):rep(MIB))
        local quick <const> = r:with { timeout = 0.1 }
        for _, call in ipairs {
            function() quick:set("late", "1") end,
            function() quick:call("SET", "late", { "1" }) end,
            function() quick:pipeline(function(p) p:set("late", "1") end) end,
            function() quick:multi(function(tx) tx:set("late", "1") end) end,
        } do
            local e <const> = fails("timeout", call)
            assert.equal("not_sent", e.outcome)
            assert.is_true(e.retryable)
            assert.matches("could not be sent before its deadline: %d+ bytes were queued", e.message)
            assert.matches("max_queued", e.hint)
        end
        server:thaw()
        g:wait()
        assert.equal(0, r:exists "late")
        assert.equal(8, r:llen "list")
    end)

    it("drops a cancelled writer, and lets the next ones write", function()
        local g <close> = task.group()
        local cancelled <close> = task.group()
        pile_up(g, 8, ("x"):rep(MIB))
        local tasks = {}
        for i = 1, 20 do
            tasks[i] = cancelled:spawn(r.set, r, "cancelled", "1")
        end
        local last <const> = g:spawn(r.set, r, "last", "1")
        task.sleep(0.02)
        for _, t in ipairs(tasks) do
            t:cancel()
        end
        task.sleep(0)
        assert.equal(9, r:stats().in_flight)
        server:thaw()
        assert.equal("OK", last:join())
        g:wait()
        assert.equal(0, r:exists "cancelled")
    end)

    it("lets small writers write when cancelled ones make room, although the server is still frozen", function()
        local g <close> = task.group()
        local others <close> = task.group()
        pile_up(others, 8, ("x"):rep(MIB))
        local small <const> = g:spawn(r.set, r, "small", "1")
        task.sleep(0.02)
        local before <const> = r:stats().queued_bytes
        others:cancel()
        task.sleep(0.02)
        assert.is_true(r:stats().queued_bytes < before / 2)
        server:thaw()
        assert.equal("OK", small:join())
        assert.is_true(r:llen "list" <= 1) -- the one whose first bytes had been sent
    end)

    it("takes one command above the bound when nothing is queued", function()
        assert.equal("OK", r:set("large", ("x"):rep(3 * BOUND)))
        assert.equal(3 * BOUND, r:strlen "large")
        local p <const> = r:pipeline()
        for i = 1, 3 do
            p:append("parts", ("x"):rep(BOUND) .. i)
        end
        assert.equal(3 * BOUND + 3, p:execute()[3])
    end)

    it("fails the waiting writers when the client is closed", function()
        local outcomes = {}
        local g <close> = task.group()
        server:freeze()
        for i = 1, 8 do
            g:spawn(function()
                local e <const> = fails("pool", r.set, r, "k" .. i, ("x"):rep(MIB))
                outcomes[e.outcome] = (outcomes[e.outcome] or 0) + 1
            end)
        end
        assert.is_true(wait_until(10, function() return r:stats().in_flight == 8 end))
        r:close()
        g:wait()
        assert.same({ not_sent = 8 }, outcomes)
    end)

    it("keeps waiting commands when the connection is lost, and sends them on the next one", function()
        local g <close> = task.group()
        local done, unknown = 0, 0
        server:freeze()
        for i = 1, 12 do
            g:spawn(function()
                local ok, e = pcall(r.set, r, "k" .. i, ("x"):rep(MIB))
                done = done + (ok and 1 or 0)
                unknown = unknown + (not ok and e.outcome == "unknown" and 1 or 0)
            end)
        end
        assert.is_true(wait_until(10, function() return r:stats().in_flight == 12 end))
        server:restart()
        g:wait()
        assert.equal(12, done + unknown)
        assert.is_true(unknown <= 1) -- the one that was being sent
        assert.equal(done, r:dbsize())
    end)

    it("lets waiting writers write when earlier commands are lost, or given up", function()
        local function much(client, kind)
            local p <const> = client:pipeline()
            for i = 1, 3 do
                p:set("large" .. i, ("x"):rep(BOUND))
            end
            return fails(kind, p.execute, p)
        end
        for how, kind in pairs { lost = "connect", ["given up"] = "timeout" } do
            local g <close> = task.group()
            server:freeze()
            local large <const> = g:spawn(much, r:with { timeout = kind == "timeout" and 0.5 or 30 }, kind)
            assert.is_true(wait_until(5, function() return r:stats().queued_bytes > BOUND end))
            local small <const> = g:spawn(r.set, r, "small", how)
            assert.is_true(wait_until(5, function() return r:stats().in_flight == 2 end))
            if kind == "connect" then
                server:restart()
            end
            assert.equal("unknown", large:join().outcome)
            server:thaw()
            assert.equal("OK", small:join())
            assert.equal(how, r:get "small")
        end
    end)

    it("holds for a dedicated connection that several tasks use", function()
        local c <close> = r:acquire()
        local g <close> = task.group()
        server:freeze()
        local before <const> = resident()
        for i = 1, 40 do
            g:spawn(c.set, c, "k" .. i, ("x"):rep(MIB))
        end
        task.sleep(0.2)
        -- 40 MiB are the tasks' strings, one for each.
        assert.is_true(resident() - before < 44 * MIB + SLACK)
        server:thaw()
        g:wait()
        assert.equal(40, r:dbsize())
    end)

    it("refuses arguments that cannot be sent at once, also when there is no room", function()
        local g <close> = task.group()
        pile_up(g, 8, ("x"):rep(MIB))
        assert.matches("argument 2 of SET cannot be sent: a boolean", fails("usage", r.set, r, "k", true).message)
        server:thaw()
        g:wait()
    end)

    it("checks the option", function()
        for _, wrong in ipairs { 0, 65535, 1.5, "1", math.huge, -1 } do
            local e <const> = fails("usage", redis.client, { url = server.url, max_queued = wrong })
            assert.matches("max_queued must be a whole number of at least 65536", e.message)
        end
    end)
end)

describe("commands to a server that does not read, over TLS", function()
    local server, r
    setup(function()
        server = redis_server.start { tcp = true, tls = true }
        server.tls.command_timeout = 30
        r = redis.client(server.tls)
    end)
    teardown(function()
        r:close()
        server:stop()
    end)

    it("are run once, whatever others are cancelled between them", function()
        local N <const>, SIZE <const> = 6000, 3000
        local patient <close> = task.group()
        local others <close> = task.group()
        r:ping()
        server:freeze()
        for i = 1, N do
            local g <const> = i % 3 == 0 and patient or others
            g:spawn(r.rpush, r, "list", ("%d:%s"):format(i, ("x"):rep(SIZE)))
        end
        assert.is_true(wait_until(20, function() return r:stats().in_flight == N end))
        others:cancel()
        assert.is_true(wait_until(20, function() return r:stats().in_flight == N // 3 end))
        server:thaw()
        patient:wait()
        local times, cancelled = {}, 0
        for _, value in ipairs(r:lrange("list", 0, -1)) do
            local i <const> = math.tointeger(value:match "^(%d+):x+$")
            assert.equal(SIZE, #value - #tostring(i) - 1)
            times[i] = (times[i] or 0) + 1
        end
        for i = 1, N do
            assert.equal(i % 3 == 0 and 1 or times[i] and 1, times[i])
            cancelled = cancelled + (i % 3 ~= 0 and not times[i] and 1 or 0)
        end
        assert.is_true(cancelled > 0)
    end)
end)
