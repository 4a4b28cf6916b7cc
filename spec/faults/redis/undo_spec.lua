-- The commands that undo the effects of an abandoned command, on a connection that is in the middle of other commands.
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local wait_until <const> = redis_server.wait_until

local MIB <const> = 1024 * 1024

describe("a lock that is being taken when its client is closed", function()
    local server, admin
    redis_server.around(_ENV, function(s, a) server, admin = s, a end)

    local function client()
        local r <const> = redis.client { url = server.url, command_timeout = 30 }
        r:lock("warm"):release() -- reads the clock
        return r
    end

    --- Sends the commands that take the lock to the frozen server.
    local function begin(g, r)
        server:freeze()
        local t <const> = g:spawn(function()
            return fails(nil, r.lock, r, "lock:a", { ttl = 600 })
        end)
        assert.is_true(wait_until(5, function() return r:stats().in_flight == 1 end))
        return t
    end

    local function is_gone_when_it_reads()
        server:thaw()
        return wait_until(5, function() -- "warm", and this one
            return tonumber(admin:info("commandstats"):match "cmdstat_set:calls=(%d+)") >= 2
        end) and wait_until(5, function() return admin:exists "lock:a" == 0 end)
    end

    it("is released, also on a connection that gets no more commands", function()
        local r <const> = client()
        local g <close> = task.group()
        local t <const> = begin(g, r)
        local quick <const> = r:with { timeout = 0.1 }
        for _ = 1, 2 do -- each abandons its connection
            fails("timeout", quick.get, quick, "k")
        end
        r:close()
        assert.equal("unknown", t:join().outcome)
        assert.is_true(is_gone_when_it_reads())
    end)

    it("is released, also when it was abandoned, with other commands before its release", function()
        local r <const> = client()
        local g <close> = task.group()
        local t <const> = begin(g, r)
        do
            local quick <const> = r:with { timeout = 0.2 }
            local others <close> = task.group()
            for _ = 1, 12 do -- more than the server reads at once
                others:spawn(fails, "timeout", quick.rpush, quick, "list", ("x"):rep(5000))
            end
        end
        t:cancel()
        task.sleep(0.02)
        r:close()
        assert.is_true(is_gone_when_it_reads())
    end)

    it("is released, also after a large command that was partly sent", function()
        for _, given_up in ipairs { false, true } do
            local r <const> = client()
            local g <close> = task.group()
            local t <const> = begin(g, r)
            local large <const> = g:spawn(function() return fails("pool", r.set, r, "large", ("x"):rep(8 * MIB)) end)
            local small <const> = g:spawn(function() return fails("pool", r.set, r, "small", "1") end)
            assert.is_true(wait_until(5, function() return r:stats().in_flight == 3 end))
            task.sleep(0.02)
            if given_up then t:cancel() end
            task.sleep(0.02)
            r:close()
            assert.equal("unknown", large:join().outcome) -- its rest goes before what releases the lock
            assert.equal("not_sent", small:join().outcome)
            assert.is_true(is_gone_when_it_reads())
            assert.equal(0, admin:exists "small")
            admin:flushall()
            admin:call("CONFIG", "RESETSTAT")
        end
    end)

    it("is released, also on a connection that was abandoned in the middle of a large command", function()
        for _, given_up in ipairs { false, true } do
            local r <const> = client()
            local g <close> = task.group()
            local t <const> = begin(g, r)
            local quick <const> = r:with { timeout = 0.3 }
            local left <const> = g:spawn(fails, "timeout", quick.get, quick, "k") -- it abandons the connection
            task.sleep(0.02)
            local large <const> = g:spawn(function() return fails("pool", r.set, r, "large", ("x"):rep(8 * MIB)) end)
            local small <const> = g:spawn(function() return fails("pool", r.set, r, "small", "1") end)
            left:join()
            task.sleep(0.02)
            if given_up then t:cancel() end
            task.sleep(0.02)
            r:close()
            assert.equal("unknown", large:join().outcome) -- its rest goes before what releases the lock
            assert.equal("not_sent", small:join().outcome)
            assert.is_true(is_gone_when_it_reads())
            assert.equal(8 * MIB, admin:strlen "large")
            assert.equal(0, admin:exists "small")
            admin:flushall()
            admin:call("CONFIG", "RESETSTAT")
        end
    end)
end)

describe("over TLS, after a record that was partly sent,", function()
    local server, options
    setup(function()
        server = redis_server.start { tcp = true, tls = true }
        options = server.tls
        options.command_timeout = 30
    end)
    before_each(function() server:cli "flushall" end)
    teardown(function() server:stop() end)

    local function client()
        local r <const> = redis.client(options)
        r:lock("warm"):release() -- reads the clock
        return r
    end

    --- Sends commands, one in each record, until the socket is full.
    local function fill(g, r)
        local n = 0
        repeat
            n = n + 1
            g:spawn(pcall, r.rpush, r, "list", ("%d:%s"):format(n, ("x"):rep(2000)))
            task.sleep(0)
        until r:stats().queued_bytes > 4000
    end

    --- Each command was run at most once, and none in part.
    local function check_list()
        local seen = {}
        local r <close> = client()
        for _, value in ipairs(r:lrange("list", 0, -1)) do
            local number <const>, rest <const> = value:match "^(%d+):(x+)$"
            assert.equal(2000, #rest)
            assert.is_nil(seen[number])
            seen[number] = true
        end
    end

    it("nothing more is sent when the client is closed", function()
        local r <const> = client()
        local g <close> = task.group()
        server:freeze()
        g:spawn(pcall, r.lock, r, "lock:a", { ttl = 600 })
        task.sleep(0.01)
        fill(g, r)
        r:close()
        server:thaw()
        g:wait()
        assert.is_true(wait_until(5, function()
            return server:cli("info", "clients"):find "connected_clients:1%s" ~= nil
        end))
        check_list()
    end)

    it("nothing more is sent on a connection that gets no more commands", function()
        local r <close> = client()
        r:set("k", "v")
        local g <close> = task.group()
        server:freeze()
        local lock <const> = g:spawn(pcall, r.lock, r, "lock:a", { ttl = 600 })
        local other <const> = g:spawn(r.get, r, "k")
        task.sleep(0.01)
        do
            local writers <close> = task.group()
            fill(writers, r:with { timeout = 0.5 })
        end
        lock:cancel()
        task.sleep(0.05)
        server:thaw()
        assert.equal("v", other:join())
        assert.equal("PONG", r:ping())
        check_list()
        -- The release follows the commands that its own connection still sends; the client uses another one.
        assert.is_true(wait_until(5, function() return r:exists "lock:a" == 0 end))
    end)
end)
