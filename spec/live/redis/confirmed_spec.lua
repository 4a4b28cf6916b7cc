-- r:with{wait = {replicas = n, timeout = s}}: writes return when replicas have them.
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local QUICK <const> = { "--repl-diskless-sync-delay", "0" }

describe("confirmed writes", function()
    local primary, replicas, r, w

    local function replica_of(server)
        return redis_server.start {
            tcp = true, args = { QUICK[1], QUICK[2], "--replicaof", "127.0.0.1", tostring(server.port) },
        }
    end

    local function in_sync(n)
        assert.is_true(redis_server.wait_until(20, function()
            local _, online = primary:cli("info", "replication"):gsub("state=online", "")
            return online == n
        end), "the replicas do not come up")
    end

    local function count_of_waits()
        return tonumber(r:info("commandstats"):match "cmdstat_wait:calls=(%d+)" or 0)
    end

    setup(function()
        primary = redis_server.start { tcp = true, args = QUICK }
        replicas = { replica_of(primary), replica_of(primary) }
    end)
    teardown(function()
        for _, server in ipairs { primary, table.unpack(replicas) } do
            server:stop()
        end
    end)
    before_each(function()
        r = redis.client { url = primary.url }
        in_sync(2)
        r:flushall()
        w = r:with { wait = { replicas = 1, timeout = 5 } }
    end)
    after_each(function()
        r:close()
        for _, server in ipairs(replicas) do
            server:thaw()
        end
    end)

    local function freeze()
        for _, server in ipairs(replicas) do
            server:freeze()
        end
    end

    --- Writes in a separate task. Returns a function that waits for it and raises its error.
    local function begin(fn, ...)
        local t <const> = task.spawn(pcall, fn, ...)
        return function()
            local ok <const>, result <const> = t:join()
            return ok and result or error(result, 0)
        end
    end

    --- The error of a write that no replica has acknowledged, within its time limit.
    local function unconfirmed(fn, ...)
        local began <const> = task.now()
        local e <const> = fails("redis", fn, ...)
        assert.equal("WAIT", e.code, tostring(e))
        assert.equal("unknown", e.outcome)
        assert.is_false(e.retryable)
        assert.is_true(task.now() - began < 4, "it took longer than its time")
        return e
    end

    it("return the command's result, and a replica has them", function()
        local both <const> = r:with { wait = { replicas = 2, timeout = 5 } }
        for i = 1, 50 do
            assert.equal("OK", both:set("k", i))
            assert.equal(tostring(i), (replicas[i % 2 + 1]:cli("get", "k"):gsub("%s", "")))
        end
        assert.equal(51, both:incr "k")
        assert.same({ "OK", "51" }, both:pipeline(function(p) p:set("j", 1):get "k" end))
        assert.equal("51", w:get "k")
    end)

    it("raise with the number of replicas that have them, and with the reply", function()
        freeze()
        w = r:with { wait = { replicas = 2, timeout = 0.3 } }
        r:set("n", 6)
        local e = unconfirmed(w.incr, w, "n")
        assert.equal(0, e.acknowledged)
        assert.equal(2, e.asked)
        assert.equal(7, e.reply)
        assert.equal("7", r:get "n")
        assert.matches("the primary has run the write, but 0 of 2 replicas", e.message)
        assert.matches("min%-replicas%-to%-write", e.hint)
        replicas[1]:thaw()
        assert.equal(8, r:with { wait = { replicas = 1, timeout = 20 } }:incr "n") -- the replica has resumed
        w = r:with { wait = { replicas = 2, timeout = 1 } }
        e = unconfirmed(w.incr, w, "n")
        assert.equal(1, e.acknowledged)
    end)

    it("are counted separately: one needs two replicas, another needs one", function()
        replicas[2]:freeze()
        local two <const> = r:with { wait = { replicas = 2, timeout = 0.8 } }
        local e
        task.all {
            function() e = unconfirmed(two.set, two, "a", 1) end,
            function()
                for i = 1, 10 do
                    task.sleep(0.02)
                    assert.equal("OK", w:set("b", i))
                end
            end,
        }
        assert.equal(1, e.acknowledged)
    end)

    it("are counted in time, however short it is, also while others wait for a lost replica", function()
        replicas[2]:freeze()
        local long <const> = r:with { wait = { replicas = 2, timeout = 1.5 } }
        local short <const> = r:with { wait = { replicas = 2, timeout = 0.3 } }
        pace.kept(function()
            local g <close> = task.group()
            g:spawn(unconfirmed, long.set, long, "a", 1)
            local right = 0
            for i = 1, 20 do
                g:spawn(function()
                    local e <const> = unconfirmed(short.set, short, "k" .. i, i)
                    right = right + (e.acknowledged == 1 and 1 or 0)
                end)
                task.sleep(0.025)
            end
            g:wait()
            assert.is_true(right >= 18, tostring(right))
        end)
    end)

    it("include every kind of write, and no reads", function()
        freeze()
        w = r:with { wait = { replicas = 1, timeout = 0.15 } }
        r:rpush("l", "a", "b")
        local incr <const> = w:script "return redis.call('incr', KEYS[1])"
        r:call("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function(keys) "
            .. "return redis.call('incr', keys[1]) end)")
        local cases <const> = {
            { "OK", w.set, w, "k", 1 },
            { 2, w.call, w, "incr", "k" },
            { 3, incr, { "k" } },
            { 4, w.fcall, w, "f", 1, "k" },
            { 5, w.eval, w, "return redis.call('incr', KEYS[1])", 1, "k" },
            { "b", w.blmove, w, "l", "m", "RIGHT", "LEFT", 1 },
            { { "l", "a" }, w.blpop, w, "l", 1 },
            { { 6, "6" }, w.pipeline, w, function(p) p:incr("k"):get "k" end },
            { { 7 }, w.multi, w, function(tx) tx:incr "k" end },
            { { 8 }, w.multi, w, { watch = "k" }, function(tx) tx:incr "k" end },
            { "OK", w.set, w, { "t", "v" } },
        }
        for _, case in ipairs(cases) do
            local e <const> = unconfirmed(table.unpack(case, 2))
            assert.same(case[1], e.reply)
            assert.equal(0, e.acknowledged)
        end
        local p <const> = w:pipeline()
        p:incr "k"
        assert.same({ 9 }, unconfirmed(p.execute, p).reply)
        assert.equal(0, #p)
        local waits <const> = count_of_waits()
        assert.equal("9", w:get "k")
        assert.equal("PONG", w:ping())
        assert.equal("9", w:eval_ro("return redis.call('get', KEYS[1])", 1, "k"))
        assert.same({ "9" }, w:pipeline(function(q) q:get "k" end))
        assert.is_nil(w:multi({ watch = "k", retry = 0 }, function(tx, c) tx:get "k"; c:get "k" end)[2])
        for key in w:scan { match = "k" } do
            assert.equal("k", key)
        end
        r:call("FUNCTION", "DELETE", "lib")
        assert.is_true(count_of_waits() - waits <= 8) -- the WAITs of the transaction
    end)

    it("do not include commands that could write, but did not", function()
        r:rpush("l", "b", "a")
        r:set("k", 1)
        r:geoadd("g", 13, 38, "p")
        freeze()
        w = r:with { wait = { replicas = 1, timeout = 0.15 } }
        assert.same({ "a", "b" }, w:sort("l", "ALPHA"))
        assert.equal("1", w:getex "k")
        assert.same({ 49 }, w:bitfield("k", "GET", "u8", 0))
        assert.same({ "p" }, w:georadius("g", 13, 38, 1, "km"))
        assert.same({ { "a", "b" }, "1" }, w:pipeline(function(p) p:sort("l", "ALPHA"):getex "k" end))
        assert.is_nil(w:blpop("none", 0.05)) -- no element
        assert.is_nil(w:blmove("none", "m", "RIGHT", "LEFT", 0.05))
        unconfirmed(w.sort, w, "l", "ALPHA", "STORE", "m")
        unconfirmed(w.sort, w, "l", "ALPHA", "store", "m")
        unconfirmed(w.getex, w, "k", "EX", 60)
        unconfirmed(w.getex, w, { "k", "PERSIST" })
        unconfirmed(w.bitfield, w, "k", { "INCRBY", "u8", 0, 1 })
        unconfirmed(w.georadius, w, "g", 13, 38, 1, "km", "STORE", "m")
    end)

    it("include functions on the server, and what a worker for streams writes", function()
        local short <const> = r:with { wait = { replicas = 1, timeout = 0.5 } }
        local lib <const> = short:library("#!lua name=own\nredis.register_function('add', function(keys, values)\n"
            .. "return redis.call('incrby', keys[1], values[1]) end)")
        assert.equal(5, lib:call("add", { "n" }, { 5 }))
        local handled = {}
        local worker <const> = task.spawn(short.consume, short, {
            stream = "s", group = "g", consumer = "c", claim_idle = 0.2,
            handle = function(message)
                handled[#handled + 1] = message.fields.n
                if message.fields.n == "2" then
                    freeze()
                end
            end,
        })
        r:xadd("s", "*", "n", "1")
        assert.is_true(redis_server.wait_until(10, function() return #handled == 1 end))
        r:xadd("s", "*", "n", "2")
        assert.is_true(redis_server.wait_until(10, function() return #handled == 2 end))
        assert.equal(10, unconfirmed(lib.call, lib, "add", { "n" }, { 5 }).reply)
        for _, server in ipairs(replicas) do
            server:thaw()
        end
        r:xadd("s", "*", "n", "3") -- the worker continues
        assert.is_true(redis_server.wait_until(10, function()
            return #handled == 3 and r:xpending("s", "g")[1] == 0
        end))
        assert.same({ "1", "2", "3" }, handled)
        worker:cancel()
        pcall(worker.join, worker)
    end)

    it("that fail raise their own error without waiting", function()
        freeze()
        r:set("s", "text")
        local e = fails("redis", w.incr, w, "s")
        assert.equal("ERR", e.code)
        fails("usage", w.set, w, "k", nil)
        assert.equal("ERR", w:pipeline(function(p) p:incr "s" end)[1].code)
        e = fails("redis", w.multi, w, { watch = "s" }, function(tx)
            r:set("s", 1)
            tx:set("s", 2)
        end)
        assert.equal("WATCH", e.code)
    end)

    it("of tasks that wait at the same time are served by one WAIT", function()
        w:set("first", 1)
        local waits <const> = count_of_waits()
        local fns <const> = {}
        for i = 1, 100 do
            fns[i] = function() assert.equal("OK", w:set("k" .. i, i)) end
        end
        task.all(fns)
        assert.is_true(count_of_waits() - waits <= 10)
        assert.is_true(r:stats().open <= 3)
    end)

    it("delay no other task, and use only one connection", function()
        freeze()
        w = r:with { wait = { replicas = 1, timeout = 0.6 } }
        local g <close> = task.group()
        for i = 1, 20 do
            g:spawn(function() unconfirmed(w.set, w, "k" .. i, i) end)
        end
        local slowest, most, done = 0, 0, false
        g:spawn(function()
            while not done do
                local began <const> = task.now()
                r:get "k1"
                slowest = math.max(slowest, task.now() - began)
                most = math.max(most, r:stats().leased)
                task.sleep(0.005)
            end
        end)
        local pause = 0 -- the longest in which the loop did not turn
        g:spawn(function()
            while not done do
                local began <const> = task.now()
                task.sleep(0.005)
                pause = math.max(pause, task.now() - began)
            end
        end)
        g:spawn(function()
            task.sleep(0.4)
            done = true
        end)
        g:wait()
        assert.equal(2, most)
        assert.is_true(slowest < 0.3 + pause, ("a read took %g s"):format(slowest))
    end)

    it("without a replica raise with none", function()
        local alone <const> = redis_server.start()
        local c <close> = redis.client { url = alone.url }
        local e <const> = unconfirmed(function()
            c:with { wait = { replicas = 1, timeout = 0.2 } }:set("k", "v")
        end)
        assert.equal(0, e.acknowledged)
        assert.equal("v", c:get "k")
        alone:stop()
    end)

    it("end with their task, and leak nothing", function()
        freeze()
        for _ = 1, 5 do
            local e <const> = fails("timeout", task.timeout, 0.1, w.set, w, "k", "v")
            assert.is_nil(e.code)
        end
        local t <const> = task.spawn(w.set, w, "k", "w")
        task.sleep(0.1)
        t:cancel()
        fails("cancelled", t.join, t)
        for _, server in ipairs(replicas) do
            server:thaw()
        end
        assert.equal("OK", w:set("k", "x"))
        assert.is_true(redis_server.wait_until(5, function() return r:stats().leased <= 1 end))
    end)

    it("survive the loss of the waiting connection", function()
        freeze()
        local ended <const> = begin(w.set, w, "k", "v")
        task.sleep(0.1)
        for line in primary:cli("client", "list"):gmatch "[^\n]+" do
            if line:find "cmd=wait" then
                primary:cli("client", "kill", "id", line:match "id=(%d+)")
            end
        end
        task.sleep(0.1)
        for _, server in ipairs(replicas) do
            server:thaw()
        end
        assert.equal("OK", ended())
    end)

    it("have an unknown outcome when the server is frozen while they wait", function()
        freeze()
        w = r:with { wait = { replicas = 1, timeout = 0.5 } }
        local ended <const> = begin(w.set, w, "k", "v")
        task.sleep(0.1)
        primary:freeze()
        local e <const> = unconfirmed(ended)
        assert.equal("OK", e.reply)
        primary:thaw()
    end)

    it("have an unknown outcome when the server becomes a replica", function()
        freeze()
        local ended <const> = begin(w.set, w, "k", "v")
        task.sleep(0.1)
        primary:cli("replicaof", "127.0.0.1", "1")
        finally(function() primary:cli("replicaof", "no", "one") end)
        local e <const> = unconfirmed(ended)
        assert.equal("OK", e.reply)
        assert.matches("not known", e.message)
    end)

    for _, again in ipairs { false, true } do
        it(again and "have an unknown outcome when another process has taken the server's place"
            or "are unknown at once when the server has died", function()
            freeze()
            local ended <const> = begin(w.set, w, "k", "v")
            task.sleep(0.1)
            primary:kill()
            if again then
                primary:restart()
            end
            local e <const> = unconfirmed(ended)
            assert.equal("OK", e.reply)
            assert.matches("not known", e.message)
            if again then
                assert.is_nil(r:get "k") -- it was not sent again
            else
                primary:restart()
            end
        end)
    end

    it("work again after the server has come back", function()
        assert.equal("OK", w:set("k", "v"))
        primary:restart()
        in_sync(2)
        assert.is_true(redis_server.wait_until(10, function() return (pcall(r.ping, r)) end))
        assert.equal("OK", w:set("k", "w"))
    end)

    it("are not written when the login has no right to WAIT", function()
        for _, refused in ipairs { "-info", "-wait" } do
            r:call("ACL", "SETUSER", "poor", "reset", "on", ">pw", "~*", "&*", "+@all", refused)
            local c <close> = redis.client { path = primary.socket, username = "poor", password = "pw" }
            local e <const> = fails("redis", function() c:with { wait = { replicas = 1 } }:set("poor", 1) end)
            assert.equal("NOPERM", e.code)
            assert.equal("not_sent", e.outcome)
            assert.matches("INFO", e.hint)
            assert.equal(0, r:exists "poor")
        end
    end)

    it("check their options", function()
        for _, wait in ipairs {
            {}, { replicas = 0 }, { replicas = -1 }, { replicas = 1.5 }, { replicas = "1" }, { replica = 1 },
            { replicas = 1, timeout = 0 }, { replicas = 1, timeout = -1 }, { replicas = 1, timeout = math.huge },
            { replicas = 1, aof = 1 }, { aof = {} }, { aof = { primary = 2 } }, 1, true,
        } do
            local e <const> = fails("usage", r.with, r, { wait = wait })
            assert.matches("with", e.message)
        end
        assert.equal("OK", w:with { timeout = 3 }:set("k", 1))
        assert.equal("OK", w:with { wait = false }:set("k", 1))
        assert.is_true(errors.is(select(2, pcall(w.get))))
        fails("usage", w.set)
        assert.is_false(w:closed())
        assert.matches("redis client", tostring(w))
        local l <close> = w:lock "l"
        assert.is_true(l:extend(5))
        local s <close> = w:subscribe "ch"
        w:publish("ch", "x")
        assert.equal("x", s:messages()().payload)
        local c <close> = w:acquire()
        assert.equal("OK", c:set("k", 2))
        assert.equal(2, c:call("WAIT", 2, 1000))
    end)

    it("on disk need a server with WAITAOF and an append-only file; otherwise nothing is written", function()
        local disk <const> = r:with { wait = { replicas = 1, timeout = 5, aof = true } }
        local there <const> = r:call("COMMAND", "INFO", "WAITAOF")[1] ~= nil
        local e = fails("redis", disk.set, disk, "k", 1)
        assert.equal("WAITAOF", e.code)
        assert.equal("not_sent", e.outcome)
        assert.matches(there and "appendonly no" or "7%.2", e.message)
        assert.equal(0, r:exists "k")
        fails("redis", disk.pipeline, disk, function(p) p:set("k", 1) end)
        fails("redis", disk.multi, disk, { watch = "k" }, function(tx) tx:set("k", 1) end)
        assert.equal(0, r:exists "k")
        if not there then
            return
        end
        for _, server in ipairs { primary, table.unpack(replicas) } do
            server:cli("config", "set", "appendonly", "yes")
            server:cli("config", "set", "appendfsync", "always")
        end
        assert.is_true(redis_server.wait_until(10, function()
            return primary:cli("info", "persistence"):find "aof_rewrite_in_progress:0"
        end))
        assert.equal("OK", disk:set("k", 1))
        assert.same({ "OK", "2" }, disk:pipeline(function(p) p:set("k", 2):get "k" end))
        assert.same({ 3 }, disk:multi({ watch = "k" }, function(tx) tx:incr "k" end))
        freeze()
        local quick <const> = r:with { wait = { replicas = 1, timeout = 0.4, aof = true } }
        e = unconfirmed(quick.incr, quick, "k")
        assert.equal(4, e.reply)
        assert.equal("OK", r:with { wait = { aof = { primary = 1 } } }:set("k", 1))
        local memory <const> = r:with { wait = { replicas = 1, timeout = 0.4, aof = { primary = 1 } } }
        assert.matches("0 of 1 replicas acknowledged", unconfirmed(memory.incr, memory, "k").message)
        for _, server in ipairs(replicas) do
            server:thaw()
        end
        -- Its own time counts, not that of other commands.
        primary:cli("config", "set", "appendfsync", "everysec")
        local patient <const> = r:with { timeout = 0.3, wait = { replicas = 1, timeout = 10, aof = true } }
        for _ = 1, 3 do
            assert.equal("OK", patient:set("k", 1))
        end
        for _, server in ipairs { primary, table.unpack(replicas) } do
            server:thaw()
            server:cli("config", "set", "appendonly", "no")
        end
    end)

    it("are not sent when the server does not answer first whether it can confirm them", function()
        primary:cli("client", "kill", "type", "normal")
        assert.is_true(redis_server.wait_until(5, function() return pcall(r.ping, r) end))
        do
            local _ <close> = r:acquire() -- stays in the pool
        end
        primary:freeze()
        local _ <close> = setmetatable({}, { __close = function() primary:thaw() end })
        for _, wait in ipairs { { replicas = 1 }, { replicas = 1, aof = true } } do
            local quick <const> = r:with { timeout = 0.2, wait = wait }
            local ok <const>, e <const> = pcall(quick.set, quick, "k", 1)
            assert.is_false(ok)
            assert.equal("not_sent", e.outcome, tostring(e))
        end
    end)
end)
