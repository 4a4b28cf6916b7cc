-- A client of a cluster of six nodes: the node of each command, and refusals.
local db = require "dbrun.db"
local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local function fails(code, fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e), tostring(e))
    assert.equal(code, e.code or e.kind, tostring(e))
    return e
end

describe("a client of a Redis cluster", function()
    local cluster, r

    setup(function()
        cluster = redis_cluster.start()
    end)
    teardown(function()
        cluster:stop()
    end)
    before_each(function()
        r = redis.client { url = cluster.url }
        r:flushall()
    end)
    after_each(function()
        r:close()
    end)

    it("raises at once when its password has changed", function()
        for _, node in ipairs(cluster.nodes) do
            node:cli("acl", "setuser", "app", "on", ">first", "~*", "+@all")
        end
        local app <close> = redis.client { url = (cluster.url:gsub("//", "//app:first@")), command_timeout = 20 }
        app:set("k", "v")
        for _, node in ipairs(cluster.nodes) do
            node:cli("acl", "setuser", "app", "resetpass", ">second")
            node:cli("client", "kill", "user", "app")
        end
        local e
        pace.takes(0, 5, function()
            repeat -- the first can be the command that was in flight
                e = select(2, pcall(app.get, app, "k"))
            until e.outcome ~= "unknown"
        end)
        assert.same({ "connect", "WRONGPASS", false, "not_sent" }, { e.kind, e.code, e.retryable, e.outcome })
        for _, node in ipairs(cluster.nodes) do
            node:cli("acl", "deluser", "app")
        end
    end)

    it("finds the node of every key", function()
        for i = 1, 200 do
            r:set("key" .. i, i)
        end
        for i = 1, 200 do
            assert.equal(tostring(i), r:get("key" .. i))
        end
        assert.equal(200, r:dbsize())
        for i = 1, 3 do
            assert.is_true(tonumber(cluster.nodes[i]:cli "dbsize") > 20)
        end
        assert.equal(0, r:stats().redirects)
    end)

    it("accepts numbers, bytes and tags as keys", function()
        for _, key in ipairs { 12, -3, 1.5, "a\0b\r\n", "{tag}x", "{}y", "", "{a}{b}" } do
            r:set(key, "v")
            assert.equal("v", r:get(key))
        end
        assert.equal(0, r:stats().redirects)
    end)

    it("starts with any node that answers", function()
        local c = redis.client { url = "redis+cluster://127.0.0.1:1," .. cluster:address(2) }
        assert.equal("OK", c:set("k", "v"))
        c:close()
        c = redis.client { url = "redis+cluster://127.0.0.1:1", command_timeout = 0.5 }
        local e <const> = fails("connect", c.get, c, "k")
        assert.equal("not_sent", e.outcome)
        c:close()
    end)

    it("says when a server is not part of a cluster", function()
        local single <const> = redis_server.start { tcp = true }
        local c <const> = redis.client { url = ("redis+cluster://127.0.0.1:%d"):format(single.port) }
        local e <const> = fails("config", c.get, c, "k")
        assert.matches("redis://", e.hint, 1, true)
        c:close()
        single:stop()
    end)

    it("refuses a database number, and a pool", function()
        fails("config", redis.client, { url = cluster.url .. "/3" })
        fails("usage", redis.pool, { url = cluster.url })
    end)

    describe("with several keys", function()
        it("splits mset, mget, del, unlink, exists and touch by slot", function()
            local values, names = {}, {}
            for i = 1, 50 do
                values["k" .. i], names[i] = i, "k" .. i
            end
            assert.equal("OK", r:mset(values))
            local got <const> = r:mget(names)
            for i = 1, 50 do
                assert.equal(tostring(i), got[i])
            end
            assert.same({ "1", nil, "2" }, r:mget("k1", "nothing", "k2"))
            assert.equal(50, r:exists(names))
            assert.equal(50, r:touch(names))
            assert.equal(2, r:del("k1", "k2"))
            assert.equal(48, r:unlink(names))
        end)

        it("gives typed replies of several nodes to a client that requests types", function()
            local t <const> = r:with { typed = true }
            assert.same({ status = "OK" }, t:mset { a = 1, b = 2, c = 3 })
            assert.same({ "1", "2", db.null }, t:mget("a", "b", "missing"))
            assert.same({ "1", db.null }, t:mget("a", "{a}missing"))
            assert.equal(3, t:del("a", "b", "c"))
        end)

        it("sends them whole when they have one tag", function()
            r:mset { ["{t}a"] = 1, ["{t}b"] = 2 }
            assert.same({ "1", "2" }, r:mget("{t}a", "{t}b"))
            r:sadd("{s}1", "a", "b")
            r:sadd("{s}2", "b")
            assert.same({ "b" }, r:sinter("{s}1", "{s}2"))
            assert.equal(1, r:zadd("{z}1", 1, "m"))
            assert.equal(1, r:zunionstore("{z}3", 2, "{z}1", "{z}2"))
            assert.equal("OK", r:rename("{t}a", "{t}c"))
            assert.equal(3, r:eval("return #KEYS + #ARGV", 2, "{e}1", "{e}2", "x"))
            r:xadd("{x}1", "1-0", { f = "v" })
            assert.same({ ["{x}1"] = { { "1-0", { f = "v" } } } }, r:xread("STREAMS", "{x}1", "{x}2", 0, 0))
        end)

        it("explains why other commands cannot be split", function()
            for _, call in ipairs {
                { "sinter", "a", "b" }, { "rename", "a", "b" }, { "msetnx", "a", 1, "b", 2 }, { "pfmerge", "a", "b" },
                { "eval", "return 1", 2, "a", "b" }, { "zunionstore", "a", 2, "b", "c" }, { "bitop", "AND", "a", "b" },
                { "xread", "STREAMS", "a", "b", 0, 0 }, { "lmpop", 2, "a", "b", "LEFT" }, { "sort", "a", "STORE", "b" },
            } do
                local e <const> = fails("CROSSSLOT", r[call[1]], r, table.unpack(call, 2))
                assert.equal("not_sent", e.outcome)
                assert.matches("{order:7}", e.hint, 1, true)
            end
        end)

        it("asks the server about an unknown command", function()
            for i = 1, 10 do
                r:set("k" .. i, "v")
                assert.equal("OK", r:call("RESTORE-ASKING", "copy" .. i, 0, r:dump("k" .. i)))
                assert.equal("v", r:get("copy" .. i))
                fails("IOERR", r.call, r, "MIGRATE", "127.0.0.1", 1, "k" .. i, 0, 100) -- it reached the key's node
            end
            fails("ERR", r.nonsense, r, "k")
            assert.equal(0, r:stats().redirects)
        end)
    end)

    it("sends commands without a key to one node, and those about all keys to all nodes", function()
        assert.equal("PONG", r:ping())
        assert.equal("hello", r:echo "hello")
        assert.matches("cluster_state:ok", r:call("CLUSTER", "INFO"))
        assert.same({ maxmemory = "0" }, r:config("get", "maxmemory"))
        for i = 1, 30 do
            r:set("k" .. i, i)
        end
        assert.equal(30, #r:keys "k*")
        local n = 0
        for _ in r:scan { match = "k*", count = 3 } do
            n = n + 1
        end
        assert.equal(30, n)
        local sha <const> = r:call("SCRIPT", "LOAD", "return 7")
        for i = 1, 30 do
            assert.equal(7, r:evalsha(sha, 1, "k" .. i))
        end
        assert.same({ 1, 0 }, r:call("SCRIPT", "EXISTS", sha, ("0"):rep(40)))
        r:flushall()
        assert.equal(0, r:dbsize())
    end)

    it("runs pipelines over all nodes and keeps their order", function()
        local replies <const> = r:pipeline(function(p)
            for i = 1, 300 do
                p:set("k" .. i, i)
            end
            for i = 1, 300 do
                p:get("k" .. i)
            end
            p:mget("k1", "k2", "k3"):incr("k1"):lpush("k1", "x"):get "nothing"
        end)
        for i = 1, 300 do
            assert.equal("OK", replies[i])
            assert.equal(tostring(i), replies[300 + i])
        end
        assert.same({ "1", "2", "3" }, replies[601])
        assert.equal(2, replies[602])
        assert.equal("WRONGTYPE", replies[603].code)
        assert.is_nil(replies[604])
        local p <const> = r:pipeline():set("a", "x"):incr "a"
        assert.equal(2, #p)
        assert.is_false((pcall(p.execute, p, { raise = true })))
        assert.same({}, r:pipeline(function() end))
    end)

    it("says that other nodes may have done their part when one has failed", function()
        local few <close> = redis.client { url = cluster.url, max_connections = 1, timeout = 0.1 }
        local c <close> = few:acquire "a"
        c:ping()
        local replies <const> = few:pipeline(function(p) p:incr "a" p:incr "b" end)
        assert.equal("pool", replies[1].kind)
        assert.equal("not_sent", replies[1].outcome)
        assert.equal(1, replies[2])
        for _, call in ipairs {
            function() few:mset { a = 5, b = 5 } end,
            function() few:del("a", "b") end,
            function() few:flushall() end,
            function() error(few:pipeline(function(p) p:unlink("a", "b") end)[1], 0) end,
        } do
            local e <const> = fails("pool", call)
            assert.equal("unknown", e.outcome)
            assert.is_false(e.retryable)
            assert.matches("other nodes", e.hint)
        end
        assert.equal("not_sent", fails("pool", few.mget, few, "a", "b").outcome)
        assert.equal("not_sent", fails("pool", few.pipeline, few, function(p) p:incr "a" end).outcome)
        assert.equal(0, few:exists "b")
    end)

    it("refuses a pipeline with a command for all nodes, a blocking or a wrong one before anything is sent", function()
        for _, call in ipairs { { "flushall" }, { "blpop", "q", 1 }, { "set", "k", true }, { "sinter", "a", "b" } } do
            local ok, e = pcall(r.pipeline, r, function(p)
                p:set("before", 1)
                p[call[1]](p, table.unpack(call, 2))
            end)
            assert.is_false(ok)
            assert.is_true(errors.is(e))
            assert.equal(0, r:exists "before")
        end
    end)

    it("runs transactions whose keys are in one slot", function()
        assert.same({ "OK", 2 }, r:multi(function(tx)
            tx:set("{t}a", 1)
            tx:incr "{t}a"
        end))
        fails("CROSSSLOT", r.multi, r, function(tx)
            tx:set("a", 1)
            tx:set("b", 1)
        end)
        local rounds = 0
        local replies <const> = r:multi({ watch = "{t}a", retry = 3 }, function(tx, connection)
            rounds = rounds + 1
            local v <const> = connection:get "{t}a"
            if rounds == 1 then
                r:incr "{t}a"
            end
            tx:set("{t}a", v * 10)
        end)
        assert.same({ "OK" }, replies)
        assert.equal("30", r:get "{t}a")
        rounds = 0
        local _, crossed = pcall(r.multi, r, { watch = "a", retry = 3 }, function(tx) -- "b" is at another node
            rounds = rounds + 1
            tx:set("b", 1)
        end)
        assert.same({ "CROSSSLOT", "not_sent", 1 }, { crossed.code, crossed.outcome, rounds })
        local ok, e = pcall(r.multi, r, { watch = "k" }, function() error "mine" end)
        assert.is_false(ok)
        assert.matches("mine", tostring(e))
    end)

    it("has scripts, locks and blocking commands", function()
        assert.equal("v", r:script "return ARGV[1]"({ "key" }, { "v" }))
        local lock <close> = r:lock("report", { ttl = 5 })
        fails("timeout", r.lock, r, "report", { ttl = 5 })
        assert.is_true(lock:extend(6))
        assert.is_nil(r:blpop("q", 0.05))
        local got
        task.all {
            function() got = r:blpop("q", 5) end,
            function()
                task.sleep(0.02)
                r:rpush("q", "x")
            end,
        }
        assert.same({ "q", "x" }, got)
    end)

    it("subscribes to channels of any node, and to sharded ones at their node", function()
        do
            local s <close> = r:subscribe "news"
            task.sleep(0.05)
            r:publish("news", "one")
            assert.equal("one", s:messages()().payload)
        end
        for _, channel in ipairs { "a", "b", "c", "foo" } do
            local s <close> = r:ssubscribe(channel)
            r:spublish(channel, "two")
            assert.equal("two", s:messages()().payload)
        end
    end)

    --- Publishes in each channel until the first message of each has arrived; returns the payloads by channel.
    local function first_of_each(channels, next_message)
        for _, channel in ipairs(channels) do
            r:spublish(channel, "to " .. channel)
        end
        local got, n = {}, 0
        while n < #channels do
            local m <const> = next_message()
            if m.kind == "message" and not got[m.channel] then
                got[m.channel], n = m.payload, n + 1
            end
        end
        return got
    end

    local function expected_of(channels)
        local expected = {}
        for _, channel in ipairs(channels) do
            expected[channel] = "to " .. channel
        end
        return expected
    end

    it("subscribes to sharded channels in several slots at once", function()
        local channels = {}
        for i = 1, 12 do
            channels[i] = "news" .. i
        end
        local s <close> = r:ssubscribe(channels)
        local next_message <const> = s:messages()
        assert.same(expected_of(channels), first_of_each(channels, next_message))
        s:subscribe("later1", "later2", "news1")
        assert.same(expected_of { "later1", "later2" }, first_of_each({ "later1", "later2" }, next_message))
        s:unsubscribe("news2", "later1", "unknown")
        assert.is_true(redis_server.wait_until(5, function()
            return r:spublish("news2", "x") + r:spublish("later1", "x") == 0
        end))
        assert.equal(1, r:spublish("news1", "last"))
        repeat
            local m <const> = next_message()
        until m.payload == "last"
        s:close()
        s:close()
        assert.is_nil(next_message())
        assert.matches("has been closed", select(2, pcall(s.subscribe, s, "a")).message)
    end)

    it("keeps each channel's order, and stops reading when the messages are not read", function()
        local channels <const> = { "one", "two", "three" }
        local s <close> = r:ssubscribe(channels)
        for i = 1, 1000 do
            for _, channel in ipairs(channels) do
                r:spublish(channel, i)
            end
        end
        local last = { one = 0, two = 0, three = 0 }
        local n = 0
        for m in s:messages() do
            assert.equal(last[m.channel] + 1, math.tointeger(m.payload))
            last[m.channel], n = math.tointeger(m.payload), n + 1
            if n == 3000 then
                break
            end
        end
        assert.same({ one = 1000, two = 1000, three = 1000 }, last)
    end)

    it("continues with a slot in which a channel was refused", function()
        r:acl("setuser", "half", "on", ">halfpass", "~*", "+@all", "resetchannels", "&ok*")
        local half <close> = redis.client { url = (cluster.url:gsub("//", "//half:halfpass@")) }
        local s <close> = half:ssubscribe("ok{1}", "ok{2}")
        local next_message <const> = s:messages()
        s:subscribe "no{1}"
        fails("NOPERM", next_message)
        assert.equal(1, r:spublish("ok{1}", "still there"))
        assert.equal("still there", next_message().payload)
    end)

    it("says that each slot of a sharded subscription takes a connection", function()
        local few <close> = redis.client { url = cluster.url, max_connections = 2, timeout = 0.5 }
        local channels = {}
        for i = 1, 30 do channels[i] = "channel" .. i end
        local ok, e = pcall(few.ssubscribe, few, channels)
        assert.is_false(ok)
        assert.equal("pool", e.kind)
        assert.matches("ssubscribe has a connection for each hash slot, 30 here", e.hint)
        assert.is_true(few:set("still", "works") == "OK")
    end)

    it("closes a sharded subscription that is collected", function()
        do
            local s = r:ssubscribe("a", "b")
            s:messages()
            assert.equal(2, r:spublish("a", 1) + r:spublish("b", 1))
        end
        assert.is_true(redis_server.wait_until(5, function()
            collectgarbage()
            return r:spublish("a", 1) + r:spublish("b", 1) == 0
        end))
    end)

    it("reads from replicas on request, and writes to primaries", function()
        local c
        assert.is_true(redis_server.wait_until(10, function()
            if c then c:close() end
            c = redis.client { url = cluster.url, read_from = "replica" }
            return #c:nodes() == 6
        end))
        for i = 1, 50 do
            c:set("k" .. i, i)
        end
        local function reads(from, to)
            local n = 0
            for i = from, to do
                n = n + tonumber(cluster.nodes[i]:cli("info", "commandstats"):match "cmdstat_get:calls=(%d+)" or 0)
            end
            return n
        end
        local primaries <const>, replicas <const> = reads(1, 3), reads(4, 6)
        assert.is_true(redis_server.wait_until(5, function() return c:get "k50" == "50" end))
        for i = 1, 50 do
            c:get("k" .. i)
        end
        assert.equal(primaries, reads(1, 3))
        assert.is_true(reads(4, 6) >= replicas + 50)
        assert.equal("1", c:with { read_from = "primary" }:get "k1")
        assert.equal(primaries + 1, reads(1, 3))
        c:close()
    end)

    it("asks primaries about a worker's pending messages, also when it reads from replicas", function()
        local reader <close> = redis.client { url = cluster.url, read_from = "replica" }
        for _, node in ipairs(cluster.nodes) do
            node:cli("config", "resetstat")
        end
        r:xadd("s", "*", "n", 1)
        local done = false
        local worker <const> = task.spawn(reader.consume, reader, {
            stream = "s", group = "g", consumer = "me", handle = function() done = true end,
        })
        assert.is_true(redis_server.wait_until(5, function() return done end))
        worker:cancel()
        pcall(worker.join, worker)
        for _, node in ipairs(cluster.nodes) do
            local asked <const> = node:cli("info", "commandstats"):find("cmdstat_xpending", 1, true)
            assert.is_true(not asked or node:cli("role"):find "^master" ~= nil)
        end
    end)

    it("stays closed", function()
        r:get "k"
        r:close()
        r:close()
        assert.is_true(r:closed())
        fails("usage", r.get, r, "k")
    end)

    it("says what is wrong with arguments, as with one server", function()
        fails("usage", r.set, r, "k", nil)
        fails("usage", r.get, r, nil)
        fails("usage", r.get, r, true)
        fails("usage", r.call, r, 5)
        fails("usage", r.get, "k")
        fails("usage", r.multi, r, 5)
        fails("usage", r.call, r, "SUBSCRIBE", "x")
    end)
end)
