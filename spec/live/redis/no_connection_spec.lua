-- A call that gets no connection within its time limit: its duration and its error.
local bad_server = require "spec.support.bad_server"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

--- The error of `fn`, which must not take much longer than a client with timeout = 0.3 allows.
local function late(fn, ...)
    local given <const> = table.pack(...)
    local ok, e = pace.takes(0.29, 2, function()
        return pcall(fn, table.unpack(given, 1, given.n))
    end)
    assert.is_false(ok)
    assert.same({ "timeout", "not_sent", true }, { e.kind, e.outcome, e.retryable }, tostring(e))
    return e
end

local function nothing() end

describe("a call without a connection", function()
    it("ends at its own time limit, also when it needs a dedicated connection", function()
        local mute <close> = bad_server.start "sleep 60"
        local r <close> = redis.client { url = mute.url }
        local short <const> = r:with { timeout = 0.3 }
        assert.matches("GET could not be sent", late(short.get, short, "k").message)
        assert.matches("BLPOP could not be sent", late(short.blpop, short, "k", 1).message)
        assert.matches("transaction could not be sent",
            late(short.multi, short, { watch = "k", retry = 2 }, nothing).message)
        assert.matches("transaction could not be sent", late(short.multi, short, function(tx) tx:get "k" end).message)
        local sure <const> = short:with { wait = { replicas = 1, timeout = 0.1 } }
        assert.matches("could not be sent", late(sure.blpop, sure, "k", 1).message)
    end)

    it("names the holders of the connections when all are in use", function()
        local server <const> = redis_server.start()
        local r <close> = redis.client { url = server.url, max_connections = 1 }
        local short <const> = r:with { timeout = 0.3 }
        local held = false
        local holder <const> = task.spawn(function()
            local connection <close> = r:acquire() -- luacheck: ignore 211
            held = true
            task.sleep(60)
        end)
        assert.is_true(redis_server.wait_until(5, function() return held end))
        for _, call in ipairs {
            function() return short:blpop("k", 1) end,
            function() return short:multi({ watch = "k" }, nothing) end,
        } do
            local ok, e = pace.takes(0.29, 2, function() return pcall(call) end)
            assert.is_false(ok)
            assert.same({ "pool", "not_sent" }, { e.kind, e.outcome })
            assert.matches("within 0.3 s", e.message, 1, true)
            assert.matches("no_connection_spec", e.detail)
        end
        local e <const> = late(short.get, short, "k")
        assert.matches("all connections are in use", e.message)
        assert.matches("no_connection_spec", e.detail)
        assert.matches("max_connections", e.hint)
        holder:cancel()
        pcall(holder.join, holder)
        assert.is_nil(r:blpop("k", 0.01))
        server:stop()
    end)

    it("names the code of a server that loads its data, or has lost its primary", function()
        for _, code in ipairs { "LOADING", "MASTERDOWN" } do
            local server <close> = bad_server.start(([[while (sysread $c, my $x, 4096) {
                print $c qq{-%s not now\r\n} x (() = $x =~ /\*\d/g);
            }]]):format(code))
            local r <close> = redis.client { url = server.url }
            local short <const> = r:with { timeout = 0.3 }
            for _, call in ipairs {
                function() return short:get "k" end,
                function() return short:blpop("k", 1) end,
                function() return short:multi(function(tx) tx:get "k" end) end,
                function() return short:multi({ watch = "k" }, nothing) end,
                function() return short:lock("k", { ttl = 5 }) end,
            } do
                local e <const> = late(call)
                assert.equal(code, e.code)
                assert.matches("the server answers " .. code, e.message, 1, true)
                assert.matches(code == "LOADING" and "loading its data" or "lost its primary", e.hint)
            end
        end
    end)

    it("says why the last attempt failed when the server was reachable before", function()
        local server <const> = redis_server.start()
        local r <close> = redis.client { url = server.url }
        r:ping()
        server:kill()
        assert.is_true(redis_server.wait_until(5, function() return r:stats().losses == 1 end))
        local short <const> = r:with { timeout = 0.3 }
        local e <const> = late(short.get, short, "k")
        assert.matches("unix socket: ", e.detail)
        assert.matches("is REDIS_URL right", e.hint)
        server:restart()
        -- The pause before the next attempt to connect can be longer than the call's time limit.
        assert.is_true(redis_server.wait_until(5, function() return (pcall(short.get, short, "k")) end))
        server:stop()
    end)

    it("says that the server does not read when there is a connection", function()
        local server <const> = redis_server.start()
        local r <close> = redis.client { url = server.url, alive_timeout = 0 }
        r:ping()
        server:freeze()
        local short <const> = r:with { timeout = 0.3 }
        -- More than the buffers of the socket take.
        local writer <const> = task.spawn(function() return r:set("k", ("x"):rep(8 * 1024 * 1024)) end)
        task.sleep(0)
        local e <const> = late(short.get, short, "other")
        assert.matches("does not read what was sent before", e.hint)
        server:thaw()
        assert.equal("OK", writer:join())
        server:stop()
    end)
end)
