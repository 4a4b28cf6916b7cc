-- Locks: taking, holding, extending and releasing them, on one server and in a cluster.
local bad_server = require "spec.support.bad_server"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local pace = require "spec.support.pace"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

--- Names with braces of all kinds, which affect the hash slot of a key.
local NAMES <const> = {
    "job", "user:{7}", "{7}", "a}b", "{}x", "{", "}{", "a{b", "{a", "", "x{}y{z}", 7, 1.5, "{a}{b}",
}

describe("a lock", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("has one holder, until it is released", function()
        local l <const> = r:lock("job", { ttl = 5 })
        assert.matches("^%x+$", l.token)
        assert.equal(l.token, r:get "job")
        assert.equal(40, #l.token)
        local e <const> = fails("timeout", r.lock, r, "job")
        assert.matches("the lock 'job' is held by another client", e.message)
        assert.is_true(e.retryable)
        assert.equal("not_sent", e.outcome)
        assert.is_true(l:release())
        assert.is_false(l.token)
        assert.equal(0, r:exists "job")
        assert.is_false(l:release())
        assert.is_false(l:extend())
        assert.is_true(r:lock("job"):release())
        assert.same({}, r:keys "*")
    end)

    it("expires, and is not released when another client has it", function()
        local l <const> = r:lock("job", { ttl = 0.2 })
        task.sleep(0.25)
        assert.is_false(l:valid())
        local other <close> = r:lock "job"
        assert.is_false(l:extend())
        assert.is_false(l:release())
        assert.equal(other.token, r:get "job")
    end)

    it("waits its turn, up to its limit", function()
        local l <const> = r:lock("job", { ttl = 20 })
        local began <const> = task.now()
        fails("timeout", r.lock, r, "job", { wait = 0.1 })
        assert.is_true(task.now() - began >= 0.1)
        local g <close> = task.group()
        local got
        g:spawn(function()
            local other <close> = r:lock("job", { wait = 20 })
            got = other:valid()
        end)
        task.sleep(0.05)
        assert.is_nil(got)
        l:release()
        g:wait()
        assert.is_true(got)
    end)

    it("is valid for less than its ttl, counted from before the request", function()
        local before <const> = task.now()
        local l <close> = r:lock("job", { ttl = 10 })
        local valid <const>, left <const> = l:valid()
        assert.is_true(valid)
        assert.is_true(task.now() + left <= before + 10 * 0.99 - 0.002 + 0.001 + (task.now() - before))
        assert.is_true(l.valid_until <= task.now() + 9.9 - 0.002)
        assert.is_true(left > 5)
        assert.is_true(r:pttl "job" > left * 1000)
        assert.is_true(l:extend(30))
        assert.is_true(select(2, l:valid()) > 20)
        assert.is_true(r:pttl "job" > 25000)
        assert.is_true(l:extend(5))
        assert.is_true(select(2, l:valid()) < 5)
        assert.is_true(r:pttl "job" <= 5000)
    end)

    it("wakes tasks that wait for its loss", function()
        local l <const> = r:lock("job", { ttl = 0.3 })
        assert.is_false(l:lost(0))
        assert.is_true(l:lost())
        local m <const> = r:lock("other", { ttl = 20 })
        local lost
        local g <close> = task.group()
        g:spawn(function() lost = m:lost() end)
        task.sleep(0)
        r:set("other", "somebody else's")
        assert.is_false(m:extend())
        g:wait()
        assert.is_true(lost)
        local n <const> = r:lock("third", { ttl = 20 })
        g:spawn(function() lost = n:lost() end)
        task.sleep(0)
        assert.is_true(n:release())
        g:wait()
        assert.is_false(lost)
    end)

    it("has a fence that grows with each holder", function()
        local last = 0
        for i = 1, 20 do
            -- Requested with the lock, or later when needed.
            local l <close> = r:lock("job", { fence = i % 2 == 0 })
            assert.equal("integer", math.type(l.fence))
            assert.is_true(l.fence > last)
            last = l.fence
            assert.equal(last, l.fence)
        end
        assert.equal(20, last)
        assert.equal("20", r:get "{job}:fence")
        local l <const> = r:lock "job"
        r:set("job", "somebody else's")
        assert.equal("LOCKLOST", fails("redis", function() return l.fence end).code)
        assert.is_false(l:release())
        assert.matches("fence = true", fails("usage", function() return l.fence end).hint)
        assert.equal("20", r:get "{job}:fence")
    end)

    it("is not taken when its fence cannot be counted, or its key is something else", function()
        r:set("{job}:fence", "no number")
        local e <const> = fails("redis", r.lock, r, "job", { fence = true })
        assert.equal("ERR", e.code)
        assert.matches("the key '{job}:fence' counts the holders", e.hint)
        assert.equal(0, r:exists "job")
        r:hset("hash", "a", 1)
        assert.equal("WRONGTYPE", fails("redis", r.lock, r, "hash").code)
        assert.equal("WRONGTYPE", fails("redis", r.lock, r, "hash", { fence = true }).code)
        assert.equal("hash", r:type "hash")
        r:del "{job}:fence"
        r:lpush("{job}:fence", "no number")
        local fence <const> = fails("redis", r.lock, r, "job", { fence = true })
        assert.equal("WRONGTYPE", fence.code)
        assert.matches("the key '{job}:fence' counts its holders", fence.hint)
    end)

    it("is not left locked when its user has the right to take it but not to read it", function()
        r:call("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+@all", "-pttl")
        local poor <close> = redis.client { path = server.socket, username = "poor", password = "pw" }
        local e <const> = fails("redis", poor.lock, poor, "job")
        assert.equal("NOPERM", e.code)
        assert.is_true(redis_server.wait_until(5, function() return r:exists "job" == 0 end))
    end)

    it("that cannot be released, because its client is closed, says so", function()
        local c <const> = redis.client { url = server.url }
        local e <const> = fails("usage", function()
            local l <close> = c:lock "job" -- luacheck: ignore 211
            c:close()
        end)
        assert.matches("closed", e.message)
    end)

    it("has its fence in its own hash slot, for any name", function()
        for _, name in ipairs(NAMES) do
            local before <const> = #r:keys "*"
            local l <const> = r:lock(name, { fence = true })
            assert.equal(1, l.fence)
            l:release()
            for _, key in ipairs(r:keys "*fence") do
                r:hset("slots", key, core.redis.slot(key))
            end
            assert.is_true(#r:keys "*" > 0 and before >= 0)
            assert.equal(core.redis.slot(name), tonumber(r:hget("slots", l.fence_key)))
            r:flushall()
        end
        assert.equal("{job}:fence", r:lock("job", { fence = true }).fence_key)
        assert.equal("user:{7}:fence", r:lock("user:{7}", { fence = true }).fence_key)
    end)

    it("survives a script cache that the server has lost", function()
        local l <const> = r:lock("job", { fence = true })
        r:call("SCRIPT", "FLUSH")
        assert.is_true(l:extend())
        r:call("SCRIPT", "FLUSH")
        assert.is_true(l:release())
        r:call("SCRIPT", "FLUSH")
        assert.equal(2, r:lock("job", { fence = true }).fence)
    end)

    it("is taken although the server's clock was an hour behind when it was read", function()
        -- The server's clock is read once for each connection: this simulates one that was an hour behind then.
        local l <const> = r:lock("job", { ttl = 20 })
        local time <const> = core.redis.class("pipeline").__index
        local send <const> = time.send
        time.send = function(...)
            local replies <const> = send(...)
            if type(replies[1]) == "table" and #replies[1] == 2 then
                replies[1][1] = replies[1][1] - 3600
                time.send = send
            end
            return replies
        end
        local c <close> = redis.client { url = server.url }
        local ok <const>, failure <const> = pcall(function()
            local m <const> = c:lock("other", { ttl = 20 })
            assert.is_true(m:valid())
            assert.is_true(r:pttl "other" > 15000)
            assert.is_true(m:release())
        end)
        time.send = send
        assert.is_true(ok, tostring(failure))
        assert.is_true(l:release())
    end)

    it("asks for the server's clock once for all handles of a client", function()
        r:call("CONFIG", "RESETSTAT")
        for i = 1, 5 do
            assert.is_true(r:with { timeout = i }:lock("job"):release())
        end
        assert.matches("cmdstat_time:calls=1,", r:info "commandstats", 1, true)
    end)

    it("works with a server that has no SET NX GET", function()
        -- Older than 7.0: such a SET is a syntax error.
        local old <close> = bad_server.start(([[
            use IO::Select;
            socket(my $up, PF_UNIX, SOCK_STREAM, 0); connect($up, sockaddr_un("%s")) or exit;
            my $both = IO::Select->new($c, $up);
            while (1) {
                for my $from ($both->can_read) {
                    exit if !sysread $from, my $x, 65536;
                    $x =~ s/NX\r\n\$3\r\nGET/NX\r\n\$3\r\nGOT/g;
                    syswrite($from == $c ? $up : $c, $x);
                }
            }]]):format(server.socket))
        local c <close> = redis.client { url = old.url }
        local l <const> = c:lock("job", { ttl = 5 })
        assert.is_true(l:valid())
        fails("timeout", c.lock, c, "job")
        assert.is_true(l:extend(10))
        assert.is_true(r:pttl "job" > 5000)
        assert.is_true(l:release())
        assert.same({}, r:keys "*")
    end)

    it("is refused to a read-only program, and with wrong arguments", function()
        fails("usage", r.lock, r, {})
        for _, ttl in ipairs { 0, -1, 0 / 0, 0.002, 1e15, math.huge, "5" } do
            for _, fence in ipairs { false, true } do
                fails("usage", r.lock, r, "job", { ttl = ttl, fence = fence })
            end
        end
        for _, ttl in ipairs { 0.01, 1e12 } do
            local l <close> = r:lock("job", { ttl = ttl, fence = ttl > 1, wait = 10 })
            assert.matches("from 0.003 to 1e12", fails("usage", l.extend, l, 1e300).message)
        end
        r:del "{job}:fence"
        fails("usage", r.lock, r, "job", { wait = -1 })
        fails("usage", r.lock, r, "job", { fence = 1 })
        assert.matches("function", fails("usage", r.lock, r, "job", { auto_extend = true }).message)
        local e <const> = fails("usage", r.lock, r, "job", { ttl = 5, auto_extend = 5 }, function() end)
        assert.matches("less than the ttl of 5 s", e.message)
        fails("usage", r.lock, r, "job", {}, "no function")
        assert.matches("l:valid", fails("usage", function() return r:lock("job").owned end).hint)
        assert.equal(1, r:del "job")
    end)
end)

describe("a lock with a function", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end)

    it("is held while it runs, and returns its results", function()
        local a, b, c = r:lock("job", function(l)
            assert.equal(l.token, r:get "job")
            return 1, nil, 3
        end)
        assert.same({ 1, 3 }, { a, c })
        assert.is_nil(b)
        assert.equal(0, r:exists "job")
        local ok, e = pcall(r.lock, r, "job", { ttl = 5 }, function() error("mine", 0) end)
        assert.is_false(ok)
        assert.equal("mine", e)
        assert.equal(0, r:exists "job")
        local began <const> = task.now()
        local opts <const> = { ttl = 60, auto_extend = true }
        ok, e = pcall(task.timeout, 20, r.lock, r, "job", opts, function() error(nil, 0) end)
        assert.is_false(ok)
        assert.is_nil(e)
        assert.is_true(task.now() - began < 10)
        assert.equal(0, r:exists "job")
        r:lock("job", function(l) l:release() end)
    end)

    it("is extended while it runs, with auto_extend", function()
        for _, every in ipairs { true, 0.1 } do
            pace.kept(function()
                local opts <const> = { ttl = 0.6, auto_extend = every, fence = true, wait = 1 }
                local fence <const> = r:lock("job", opts, function(l)
                    task.sleep(1.5)
                    assert.is_true(l:valid())
                    assert.is_true(r:pttl "job" <= 600)
                    return l.fence
                end)
                assert.equal("integer", math.type(fence))
            end)
            assert.equal(0, r:exists "job")
        end
    end)

    it("is not shortened by auto_extend when the function has extended it", function()
        r:lock("job", { ttl = 5, auto_extend = 0.02 }, function(l)
            assert.is_true(l:extend(600))
            task.sleep(0.1)
            assert.is_true(r:pttl "job" > 500000)
            assert.is_true(select(2, l:valid()) > 500)
            assert.is_true(l:extend(5))
            assert.is_true(r:pttl "job" <= 5000)
        end)
    end)

    it("is held on while it cannot be extended for a moment", function()
        r:call("ACL", "SETUSER", "default", "-evalsha", "-eval")
        local ok, e = pcall(r.lock, r, "job", { ttl = 3, auto_extend = 0.1 }, function(l)
            task.sleep(0.5)
            assert.is_true(l:valid())
            r:call("ACL", "SETUSER", "default", "+@all")
            task.sleep(3)
            return "done"
        end)
        r:call("ACL", "SETUSER", "default", "+@all")
        assert.is_true(ok)
        assert.equal("done", e)
        e = fails("redis", r.lock, r, "job", { ttl = 0.5, auto_extend = 0.1 }, function()
            r:call("ACL", "SETUSER", "default", "-evalsha", "-eval")
            task.sleep(30)
        end)
        r:call("ACL", "SETUSER", "default", "+@all")
        assert.equal("LOCKLOST", e.code)
        assert.matches("could not be extended: NOPERM", e.message)
        r:del "job"
    end)

    it("ends with the server's reason, not with its last attempt's timeout", function()
        local pid <const> = math.tointeger(tonumber(r:call("INFO", "server"):match "process_id:(%d+)"))
        local e <const> = fails("redis", r.lock, r, "job", { ttl = 0.8, auto_extend = 0.1 }, function()
            r:call("ACL", "SETUSER", "default", "-evalsha", "-eval")
            task.sleep(0.4)
            process.kill(pid, "STOP")
            task.sleep(30)
        end)
        process.kill(pid, "CONT")
        r:call("ACL", "SETUSER", "default", "+@all")
        assert.equal("LOCKLOST", e.code)
        assert.matches("could not be extended: NOPERM", e.message)
        r:del "job"
    end)

    it("is not extended without it: its end cancels the function", function()
        local e <const> = fails("redis", r.lock, r, "job", { ttl = 0.2 }, function() task.sleep(30) end)
        assert.equal("LOCKLOST", e.code)
    end)

    it("cancels the function when it is lost", function()
        local stopped
        local g <close> = task.group()
        g:spawn(function()
            task.sleep(0.1)
            r:set("job", "somebody else's")
        end)
        local e <const> = fails("redis", r.lock, r, "job", { ttl = 0.6, auto_extend = true }, function(l)
            local ok, why = pcall(task.sleep, 30)
            stopped = not ok and errors.is(why, "cancelled") and not l:valid()
            error(why, 0)
        end)
        assert.equal("LOCKLOST", e.code)
        assert.equal("unknown", e.outcome)
        assert.matches("the lock 'job' was lost", e.message)
        assert.is_true(stopped)
        assert.equal("somebody else's", r:get "job")
    end)

    it("is an error when it was lost, also if the function ignored its cancellation, or did not wait", function()
        local e = fails("redis", r.lock, r, "job", { ttl = 0.2 }, function() pcall(task.sleep, 30) end)
        assert.equal("LOCKLOST", e.code)
        e = fails("redis", r.lock, r, "other", { ttl = 20 }, function() r:del "other" end)
        assert.equal("LOCKLOST", e.code)
    end)
end)

describe("a lock that replicas must acknowledge", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end, { tcp = true,
        args = { "--repl-diskless-sync-delay", "0" } })

    it("is taken only when they have it", function()
        local w <const> = r:with { wait = { replicas = 1, timeout = 0.3 } }
        for _, fence in ipairs { false, true } do
            local e <const> = fails("redis", w.lock, w, "job", { ttl = 60, fence = fence })
            assert.equal("WAIT", e.code)
            assert.is_true(redis_server.wait_until(5, function() return r:exists "job" == 0 end))
        end
        local replica <const> = redis_server.start {
            tcp = true, args = { "--replicaof", "127.0.0.1", tostring(server.port) },
        }
        local ok <const>, failure <const> = pcall(function()
            assert.is_true(redis_server.wait_until(20, function()
                return server:cli("info", "replication"):find "state=online"
            end))
            local slow <const> = r:with { wait = { replicas = 1, timeout = 10 } }
            local l <const> = slow:lock("job", { ttl = 60, fence = true })
            assert.matches(l.token, replica:cli("get", "job"))
            fails("timeout", slow.lock, slow, "job")
            assert.is_true(l:extend(90))
            assert.is_true(l:release())
            assert.equal(0, r:exists "job")
        end)
        replica:stop()
        assert.is_true(ok, tostring(failure))
    end)

    it("stays unlocked when it is cancelled while it waits for them", function()
        local w <const> = r:with { wait = { replicas = 1, timeout = 60 } }
        local function is_there(n)
            return redis_server.wait_until(10, function() return r:exists "job" == n end)
        end
        for _, fence in ipairs { false, true } do
            local opts <const> = { ttl = 600, fence = fence }
            local t <const> = task.spawn(w.lock, w, "job", opts)
            assert.is_true(is_there(1))
            t:cancel()
            fails("cancelled", t.join, t)
            assert.is_true(is_there(0))
            fails("timeout", task.timeout, 0.3, w.lock, w, "job", opts)
            assert.is_true(is_there(0))
        end
    end)
end)

describe("a lock in a cluster", function()
    local cluster, r
    setup(function()
        cluster = redis_cluster.start()
        r = redis.client { url = cluster.url }
    end)
    teardown(function()
        r:close()
        cluster:stop()
    end)

    it("has one holder, for any name", function()
        for _, name in ipairs(NAMES) do
            local l <const> = r:lock(name, { ttl = 20, fence = true })
            local fence <const> = l.fence -- 7 and "{7}" have the same
            fails("timeout", r.lock, r, name)
            assert.is_true(l:extend(30))
            assert.is_true(l:release())
            assert.equal(0, r:exists(name))
            assert.equal(fence + 1, r:lock(name, function(again) return again.fence end))
        end
    end)

    it("stays unlocked when it is cancelled", function()
        for i = 1, 60 do
            local t <const> = task.spawn(function()
                local _ <close> = r:lock("cancelled:" .. i, { ttl = 60, wait = 1, fence = i % 2 == 0 })
                task.sleep(60)
            end)
            for _ = 1, i % 7 do task.sleep(0) end
            t:cancel()
            pcall(t.join, t)
        end
        assert.is_true(redis_server.wait_until(10, function()
            local left = 0
            for key in r:scan { match = "cancelled:*" } do
                left = left + (key:find "fence" and 0 or 1)
            end
            return left == 0
        end))
    end)

    it("waits for replicas when its client does", function()
        local sure <const> = r:with { wait = { replicas = 1, timeout = 20 } }
        local l <const> = sure:lock("sure", { ttl = 60, fence = true })
        assert.is_true(l:extend())
        assert.is_true(l:release())
        local unsure <const> = r:with { wait = { replicas = 2, timeout = 0.2 } } -- there is one replica
        for _, fence in ipairs { false, true } do
            assert.equal("WAIT", fails("redis", unsure.lock, unsure, "sure", { ttl = 600, fence = fence }).code)
            assert.is_true(redis_server.wait_until(5, function() return r:exists "sure" == 0 end))
        end
        r:del "{sure}:fence"
    end)

    it("is taken while its slot migrates, and released in the background where it is by then", function()
        local slot <const> = core.redis.slot "moving"
        local from, to
        for i = 1, 3 do
            if cluster.nodes[i]:cli("get", "moving"):find "MOVED" then to = i else from = i end
        end
        local function take(way_out)
            local co <const> = coroutine.create(function()
                local _ <close> = r:lock("moving", { ttl = 600 })
                coroutine.yield()
            end)
            assert.is_true(coroutine.resume(co))
            way_out()
            assert.is_true(coroutine.close(co)) -- where nothing can wait
            assert.is_true(redis_server.wait_until(5, function() return r:exists "moving" == 0 end))
        end
        take(function()
            cluster:open_slot(slot, from, to)
            cluster:move(from, to, "moving")
        end)
        local l <const> = r:lock("moving", { ttl = 20 })
        assert.is_true(l:valid())
        fails("timeout", r.lock, r, "moving")
        assert.is_true(l:extend())
        assert.is_true(l:release())
        assert.equal(0, r:exists "moving")
        cluster:migrate(slot, from, to)
        take(function() cluster:migrate(slot, to, from) end)
    end)
end)
