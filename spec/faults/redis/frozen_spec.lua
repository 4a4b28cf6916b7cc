-- A frozen primary that the other servers have replaced: a reply that it sends when it resumes is never a success, and
-- commands in flight have an unknown outcome long before.
local errors = require "dbrun.error"
local failover = require "spec.support.failover"
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_sentinels = require "spec.support.redis_sentinels"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

--- The results of tasks that wait for other commands at the primary.
local function wait_there(g, r, key)
    local seen = {}
    g:spawn(function()
        local ok, e = pcall(r.blpop, r, key .. ":queue", 0)
        seen.blpop = not ok and e
    end)
    g:spawn(function()
        local s <close> = r:ssubscribe(key .. ":channel")
        seen.subscribed = true
        seen.message = s:messages()()
    end)
    assert(redis_server.wait_until(5, function() return seen.subscribed end))
    return seen
end

local function check(result, seen)
    local said <const> = failover.text(result)
    assert.equal(0, result.lost_late, said)
    assert.equal(0, result.foreign, said)
    assert.equal(0, result.not_sent + result.failed, said)
    assert.is_true(result.unknown <= 20, said)
    assert.is_true(result.behind < 5, said)
    assert.is_true(result.longest < 9, said)
    assert.is_true(redis_server.wait_until(5, function() return seen.blpop and seen.message end))
    assert.is_true(errors.is(seen.blpop, "connect"), tostring(seen.blpop))
    assert.equal("unknown", seen.blpop.outcome)
    assert.equal("gap", seen.message.kind)
end

describe("a frozen primary", function()
    it("of a cluster is left for the new one", function()
        local cluster <const> = redis_cluster.start()
        local _ <close> = setmetatable({}, { __close = function() cluster:stop() end })
        local r <close> = redis.client { url = cluster.url, command_timeout = 10 }
        local probe <close> = redis.client { url = cluster.nodes[4].url, command_timeout = 1 }
        local g <close> = task.group()
        local key <const> = failover.tag()
        local seen <const> = wait_there(g, r, key)
        check(failover.run {
            client = r, probe = probe, key = key,
            act = function() cluster.nodes[1]:freeze() end, back = function() cluster.nodes[1]:thaw() end,
        }, seen)
    end)

    it("behind sentinels is left for the new one", function()
        local set <const> = redis_sentinels.start()
        local _ <close> = setmetatable({}, { __close = function() set:stop() end })
        local r <close> = redis.client { url = set.url, command_timeout = 10 }
        local probe <close> = redis.client { url = set.servers[2].url, command_timeout = 1 }
        local g <close> = task.group()
        local seen <const> = wait_there(g, r, "key")
        check(failover.run {
            client = r, probe = probe, key = "key", patience = 40,
            act = function() set.servers[1]:freeze() end, back = function() set.servers[1]:thaw() end,
        }, seen)
    end)
end)

describe("a master that the sentinels replace while it runs", function()
    it("gets no writes that are lost", function()
        local set <const> = redis_sentinels.start()
        local _ <close> = setmetatable({}, { __close = function() set:stop() end })
        local r <close> = redis.client { url = set.url, command_timeout = 10 }
        local probe <close> = redis.client { url = set.servers[2].url, command_timeout = 1 }
        r:ping()
        local result <const> = failover.run {
            client = r, probe = probe, key = "key", patience = 40, act = function()
                assert.is_true(redis_server.wait_until(30, function() return set:failover():find "OK" ~= nil end))
            end,
        }
        local said <const> = failover.text(result)
        -- A busy machine hears the sentinel late; without the sentinel about half of all writes were lost.
        assert.is_true(result.lost <= result.acknowledged / 20, said)
        assert.equal(0, result.foreign + result.not_sent + result.failed, said)
        assert.is_true(result.unknown <= 20, said)
        assert.is_true(result.longest < 9, said)
    end)
end)

describe("a frozen server without sentinels or a cluster", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("is given up when it does not answer a PING either, and its later replies are ignored", function()
        local c <close> = redis.client { url = server.url, alive_timeout = 0.3, connect_timeout = 1 }
        c:set("k", "before")
        server:freeze()
        local begun <const> = task.now()
        local e <const> = fails("connect", c.set, c, "k", "after")
        local took <const> = task.now() - begun
        server:thaw()
        assert.equal("unknown", e.outcome)
        assert.matches("PING", e.message)
        assert.matches("alive_timeout", e.hint)
        assert.is_true(took > 1 and took < 10, took .. " s")
        assert.is_true(redis_server.wait_until(5, function() return r:get "k" == "after" end)) -- it ran
        assert.equal("after", c:get "k")
    end)

    it("is not given up while it answers a PING", function()
        local c <close> = redis.client { url = server.url, alive_timeout = 0.3 }
        c:ping()
        local begun <const> = task.now()
        server:cli("client", "pause", "2000", "write")
        assert.equal("OK", c:set("k", 1))
        assert.is_true(task.now() - begun > 1.5)
    end)

    it("can be silent without a limit with alive_timeout=0", function()
        local c <close> = redis.client { url = server.url .. "?alive_timeout=0", connect_timeout = 0.5 }
        c:ping()
        server:freeze()
        local t <const> = task.spawn(function() return c:incr "n" end)
        task.sleep(2)
        server:thaw()
        assert.equal(1, t:join())
    end)

    it("is not suspected while commands that can block wait", function()
        local c <close> = redis.client { url = server.url, alive_timeout = 0.2 }
        assert.is_nil(c:blpop("queue", 1.6))
        assert.equal(0, c:stats().losses)
    end)
end)
