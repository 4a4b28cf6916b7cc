-- Locks whose task, connection, client, program or server is lost: no lock remains, and no two tasks hold one.
local command = require "spec.support.command"
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local redis_sentinels = require "spec.support.redis_sentinels"
local redis_server = require "spec.support.redis_server"
local rounds = require("spec.support.rounds").of
local task = require "dbrun.task"

local function seeded()
    local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
    math.randomseed(seed)
    return "DBRUN_TEST_SEED=" .. seed
end

describe("a lock", function()
    local server, admin
    redis_server.around(_ENV, function(...) server, admin = ... end)

    --- The locks on the server.
    local function held()
        local list = {}
        for key in admin:scan { match = "lock:*" } do
            if not key:find "fence" then list[#list + 1] = key end
        end
        return list
    end

    local function is_free()
        return #held() == 0
    end

    --- Tries to take a lock, and is cancelled or times out at some moment.
    local function give_up(r, i)
        local opts <const> = { ttl = 600, wait = math.random(0, 1), fence = math.random(2) == 1 }
        local name <const> = "lock:" .. (math.random(3) == 1 and i - 1 or i) -- sometimes it is held already
        local function hold()
            local l <close> = r:lock(name, opts)
            task.sleep(math.random() * 0.002)
            if math.random(2) == 1 then l:extend() end
            task.sleep(60)
        end
        local moment <const> = math.random() * 0.004
        if math.random(3) == 1 then
            pcall(task.timeout, moment, hold)
            return
        end
        local t <const> = task.spawn(function() pcall(hold) end)
        if math.random(2) == 1 then
            for _ = 1, math.random(0, 5) do task.sleep(0) end
        else
            task.sleep(moment)
        end
        t:cancel()
        pcall(t.join, t) -- it can be cancelled before it begins
    end

    it("that is cancelled at any moment is released at once", function()
        local seed <const> = seeded()
        local r <close> = redis.client { url = server.url }
        local n <const> = rounds(800)
        local list = {}
        for i = 1, n do list[i] = i end
        task.map(list, 4, function(i) give_up(r, i) end)
        assert.is_true(redis_server.wait_until(5, is_free), seed .. ": " .. table.concat(held(), " "))
        assert.equal(0, r:stats().in_flight)
    end)

    it("that is cancelled on a slow connection is released at once", function()
        local seed <const> = seeded()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path }
        for i = 1, rounds(200) do
            if i % 10 == 1 then
                proxy:delay("up", math.random() * 0.004)
                proxy:delay("down", math.random() * 0.004)
            end
            give_up(r, i)
        end
        assert.is_true(redis_server.wait_until(5, is_free), seed .. ": " .. table.concat(held(), " "))
    end)

    it("whose connection is cut at any byte is released at once, too", function()
        local seed <const> = seeded()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path }
        for i = 1, rounds(400) do
            if i % 2 == 0 then
                proxy:cut(math.random(2) == 1 and "up" or "down", math.random(0, 900))
            end
            give_up(r, i)
        end
        assert.is_true(redis_server.wait_until(10, is_free), seed .. ": " .. table.concat(held(), " "))
    end)

    it("whose reply was lost is found to be taken", function()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path }
        for round = 1, 20 do
            r:ping()
            assert.is_true(r:lock("lock:clock"):release()) -- the next one begins with its SET
            proxy:cut("down", 0)
            local l <const> = r:lock("lock:" .. round, { ttl = 20, fence = round % 2 == 0 })
            assert.is_true(l:valid())
            assert.equal(l.token, admin:get("lock:" .. round))
            assert.is_true(l:release())
        end
        assert.is_true(is_free())
    end)

    it("is released, and not lost, when its client sends commands again", function()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path, idempotent = true }
        local lock <const> = r:lock "lock:a"
        proxy:cut("down", 0)
        assert.is_true(lock:release())
        assert.equal("result", r:lock("lock:a", function()
            proxy:cut("down", 0)
            return "result"
        end))
        assert.is_true(is_free())
    end)

    --- A lock whose calls have little time, although it takes as long as it may to get it.
    local function quick_lock(quick, name)
        local lock
        pg.eventually(20, function()
            local ok <const>, got = pcall(quick.lock, quick, name, { ttl = 20 })
            if ok then lock = got else admin:del(name) end
            return ok
        end, "a lock")
        return lock
    end

    it("whose release was not answered can be released again", function()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path, command_timeout = 10 }
        local quick <const> = r:with { timeout = 0.3 }
        local l <const> = r:lock("lock:a", { ttl = 20 })
        proxy:cut("down", 0)
        assert.is_true(l:release()) -- a second time by itself
        local m <const> = quick_lock(quick, "lock:b")
        proxy:hold "down"
        assert.equal("unknown", fails("timeout", m.release, m).outcome)
        assert.matches("^%x+$", m.token)
        assert.is_false(m:valid()) -- another client can hold it by now
        assert.is_false(m:extend())
        proxy:pass "down"
        assert.is_true(m:release())
        assert.is_false(m.token)
        assert.is_true(is_free())
        -- What was not sent has released nothing.
        local n <const> = quick_lock(quick, "lock:c")
        proxy:refuse()
        proxy:cut()
        task.sleep(0.05)
        assert.equal("not_sent", fails("timeout", n.release, n).outcome)
        assert.is_true(n:valid())
        proxy:accept()
        assert.is_true(redis_server.wait_until(5, function() return (pcall(r.ping, r)) end))
        assert.is_true(n:release())
    end)

    it("whose block raises an error keeps that error, also when it cannot be released", function()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path, command_timeout = 0.2 }
        local ok, e = pcall(function()
            local _ <close> = quick_lock(r, "lock:a")
            proxy:hold "down"
            error("mine", 0)
        end)
        assert.is_false(ok)
        assert.equal("mine", e)
        proxy:pass "down"
        assert.is_true(redis_server.wait_until(5, is_free))
    end)

    it("whose function has ended tries to release it once, and reports the failure once", function()
        local r <close> = redis.client { url = server.url, command_timeout = 2 }
        local began
        local e <const> = fails("timeout", r.lock, r, "lock:a", { ttl = 600 }, function()
            server:freeze()
            began = task.now()
        end)
        local took <const> = task.now() - began
        server:thaw()
        assert.equal("unknown", e.outcome)
        assert.is_true(took < 3.9, tostring(took)) -- of 2 s for each attempt
        assert.is_true(redis_server.wait_until(5, is_free))
    end)

    it("is released where tasks cannot wait", function()
        local r <close> = redis.client { url = server.url }
        local co <const> = coroutine.create(function()
            local _ <close> = r:lock("lock:a", { ttl = 20 })
            coroutine.yield()
        end)
        assert.is_true(coroutine.resume(co))
        assert.equal(1, #held())
        assert.is_true(coroutine.close(co))
        assert.is_true(redis_server.wait_until(5, is_free))
    end)

    it("is released when its client is closed, or the program ends", function()
        for i = 1, rounds(200) do
            local r <const> = redis.client { url = server.url }
            local cancelled <const> = i % 3 == 0
            r:lock("lock:clock"):release()
            local t <const> = task.spawn(function() return pcall(r.lock, r, "lock:a", { ttl = 600 }) end)
            for _ = 1, i % 4 do task.sleep(0) end
            if cancelled then t:cancel() end
            r:close()
            local began <const>, ok <const> = pcall(t.join, t)
            if began and ok then admin:del "lock:a" end -- it had it already
            assert.is_true(redis_server.wait_until(5, is_free))
        end
        for _, ending in ipairs { "error 'over'", "os.exit(0)", "require 'dbrun.process'.pid()" } do
            local script <const> = ([[
                local task, r = require "dbrun.task", require "dbrun.redis".client{url = %q}
                r:lock("lock:clock"):release()
                for i = 1, 20 do
                    task.spawn(function() local l <close> = r:lock("lock:" .. i, {ttl = 600}) task.sleep(60) end)
                end
                task.spawn(function() r:lock("lock:0", {ttl = 600, wait = 60}) end):cancel()
                task.sleep(0)
                if %q:find "pid" then os.exit(require "dbrun.process".pid() > 0) end
                %s]]):format(server.url, ending, ending)
            command.run("lua s.lua", { ["s.lua"] = script })
            assert.is_true(redis_server.wait_until(5, is_free), ending .. ": " .. table.concat(held(), " "))
        end
    end)

    --- Another program, which waits for a lock on a frozen server.
    local function waits_for_frozen(ttl)
        local script <const> = ([[
            local r = require "dbrun.redis".client{url = %q}
            r:lock("lock:clock"):release()
            io.stdout:write("ready\n") io.stdout:flush()
            io.read "l"
            r:lock("lock:late", {ttl = %g, wait = 60})]]):format(server.url, ttl)
        local program <const> = require "dbrun.core".options.program
        local child <const> = process.start { program, "-e", script, stdin_from = "pipe", stdout = "capture",
            stderr = "inherit", pdeathsig = "KILL" }
        assert.equal("ready", child:read_line(10))
        server:freeze()
        child:write "\n"
        task.sleep(0.3)
        return child
    end

    it("that waits for a frozen server is not taken when the server resumes late", function()
        -- The program is killed: nothing can follow its SET.
        local child <const> = waits_for_frozen(0.5)
        child:kill "KILL"
        child:wait(5)
        child:close()
        task.sleep(0.6)
        server:thaw()
        assert.equal("PONG", admin:ping())
        task.sleep(0.05)
        assert.is_true(is_free())
    end)

    it("that waits for a frozen server is released when it resumes, if its task has given up", function()
        local r <const> = redis.client { url = server.url, command_timeout = 1 }
        for _, fence in ipairs { false, true } do
            r:lock("lock:clock", { fence = fence }):release()
            server:freeze()
            local e <const> = fails("timeout", r.lock, r, "lock:a", { ttl = 600, fence = fence })
            assert.equal("unknown", e.outcome)
            pcall(task.timeout, 0.1, r.lock, r, "lock:b", { ttl = 600, fence = fence })
            server:thaw()
            assert.equal("PONG", admin:ping())
            assert.is_true(redis_server.wait_until(5, is_free), table.concat(held(), " "))
        end
        -- Also when the client was closed meanwhile: the commands are in the server's socket.
        r:lock("lock:clock"):release()
        server:freeze()
        pcall(task.timeout, 0.1, r.lock, r, "lock:c", { ttl = 600 })
        r:close()
        server:thaw()
        assert.equal("PONG", admin:ping())
        assert.is_true(redis_server.wait_until(5, is_free), table.concat(held(), " "))
    end)

    it("that waits for a frozen server is released when it resumes, after the commands that fill its socket", function()
        -- The release finds the socket full. On another connection it would overtake the lock, which is
        -- behind commands that the server reads, and runs, in many turns.
        local SLOW <const> = "local n = 0 for i = 1, 1e6 do n = n + i end return #ARGV[1]"
        local r <close> = redis.client { url = server.url, command_timeout = 0.2 }
        local patient <const> = r:with { timeout = 10 }
        r:lock("lock:clock"):release()
        server:freeze()
        local g <close> = task.group()
        local function fill(size)
            g:spawn(patient.eval, patient, SLOW, 0, ("x"):rep(size))
            task.sleep(0.01)
        end
        for _ = 1, 12 do
            fill(15000)
        end
        g:spawn(fails, "timeout", r.lock, r, "lock:a", { ttl = 600 })
        task.sleep(0.01)
        fill(1e6)
        task.sleep(0.4)
        server:thaw()
        g:wait()
        assert.is_true(redis_server.wait_until(5, is_free), table.concat(held(), " "))
    end)

    it("waits no longer than its time limit for a frozen server", function()
        local r <close> = redis.client { url = server.url }
        r:lock("lock:clock"):release()
        server:freeze()
        local began <const> = task.now()
        local e <const> = fails("timeout", r.lock, r, "lock:a", { ttl = 600, wait = 1.2 })
        assert.matches("the command for the lock 'lock:a' was not answered", e.message)
        local took <const> = task.now() - began
        server:thaw()
        assert.is_true(took >= 1 and took < 10, tostring(took))
        assert.is_true(redis_server.wait_until(5, is_free))
    end)

    it("waits no longer than that when its connection is given up and no other can be opened", function()
        local r <close> = redis.client { url = server.url, alive_timeout = 0.5 }
        r:lock("lock:clock"):release()
        server:freeze()
        local began <const> = task.now()
        local ok, e = pcall(r.lock, r, "lock:a", { ttl = 600, wait = 5 })
        local took <const> = task.now() - began
        server:thaw()
        assert.is_false(ok)
        assert.is_true(errors.is(e) and took < 10, ("%g s: %s"):format(took, e))
        assert.is_true(redis_server.wait_until(10, is_free))
    end)

    it("waits for a server that is down for a moment", function()
        local r <close> = redis.client { url = server.url }
        r:lock("lock:clock"):release()
        server:kill()
        local g <close> = task.group()
        g:spawn(function()
            task.sleep(0.3)
            server:restart()
        end)
        local l <close> = r:lock("lock:a", { wait = 20 })
        assert.is_true(l:valid())
    end)

    it("is extended despite lost connections, and lost when the server is down for longer than its ttl", function()
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local r <close> = redis.client { url = "unix://" .. proxy.path }
        r:lock("lock:a", { ttl = 1.5, auto_extend = true }, function(l)
            for _ = 1, 10 do
                proxy:cut(math.random(2) == 1 and "up" or "down", math.random(0, 200))
                task.sleep(0.3)
                assert.is_true(l:valid())
            end
        end)
        local began
        local e <const> = fails("redis", r.lock, r, "lock:a", { ttl = 1, auto_extend = true }, function(l)
            proxy:hold "up"
            began = task.now()
            l:lost()
            assert.is_false(l:valid())
            task.sleep(60)
        end)
        assert.equal("LOCKLOST", e.code)
        assert.is_true(task.now() - began < 30)
        proxy:pass "up"
        assert.is_true(redis_server.wait_until(5, is_free))
    end)

    it("is never held by two, and its fence only grows", function()
        local seed <const> = seeded()
        local holder, last_fence, taken, overlaps = nil, 0, 0, 0
        local goal <const>, limit <const> = rounds(60), task.now() + 120
        local function is_over()
            return taken >= goal or task.now() > limit
        end
        local function work(r)
            while not is_over() do
                local ok, e = pcall(function()
                    local l <close> = r:lock("lock:a", { ttl = 0.05 + math.random() * 0.3, wait = 2, fence = true })
                    if holder and holder ~= l and holder:valid() and l:valid() then overlaps = overlaps + 1 end
                    assert(l.fence > last_fence, "the fence does not grow")
                    holder, last_fence, taken = l, l.fence, taken + 1
                    for _ = 1, math.random(3) do
                        task.sleep(math.random() * 0.1) -- sometimes longer than its ttl
                        if math.random(3) == 1 then l:extend() end
                        if l:valid() and holder ~= l and holder:valid() then overlaps = overlaps + 1 end
                    end
                end)
                if not ok and not errors.is(e) then error(e, 0) end
            end
        end
        local proxies <close> = setmetatable({}, { __close = function(list)
            for _, proxy in ipairs(list) do proxy:close() end
        end })
        local g <close> = task.group()
        for i = 1, 4 do
            local proxy <const> = fake.proxy { to = "unix:" .. server.socket }
            proxies[i] = proxy
            local r <const> = redis.client { url = "unix://" .. proxy.path, command_timeout = 2 }
            g:spawn(function()
                local own <close> = task.group()
                own:spawn(work, r)
                own:spawn(work, r)
                while not is_over() do
                    proxy:delay(math.random(2) == 1 and "up" or "down", math.random() * 0.03)
                    task.sleep(math.random() * 0.2)
                    if math.random(2) == 1 then
                        proxy:cut(math.random(2) == 1 and "up" or "down", math.random(0, 600))
                    end
                end
                proxy:delay("up", 0)
                proxy:delay("down", 0)
                own:wait()
                r:close()
            end)
        end
        g:wait()
        assert.equal(0, overlaps, seed)
        assert.is_true(taken >= goal, seed .. ": taken " .. taken)
        assert.is_true(redis_server.wait_until(5, is_free), seed)
    end)
end)

describe("a lock behind sentinels", function()
    it("is held across a failover, or known to be lost; a cancelled one is released", function()
        local set <const> = redis_sentinels.start()
        local r <const> = redis.client { url = set.url }
        local ok, failure = pcall(function()
            r:lock("job", { ttl = 60, wait = 30, auto_extend = 0.5, fence = true }, function(l)
                set.servers[1]:kill()
                task.sleep(3)
                assert.is_true(l:valid())
            end)
            for i = 1, 40 do
                local t <const> = task.spawn(function()
                    local _ <close> = r:lock("lock:" .. i, { ttl = 60 })
                    task.sleep(60)
                end)
                for _ = 1, i % 5 do task.sleep(0) end
                t:cancel()
                pcall(t.join, t)
            end
            assert.is_true(redis_server.wait_until(10, function()
                return r:scan { match = "lock:*" }() == nil
            end))
        end)
        r:close()
        set:stop()
        if not ok and errors.is(failure, "redis") and failure.code == "LOCKLOST" then
            return -- the replica had not received it
        end
        assert.is_true(ok, tostring(failure))
    end)

    it("is released when it was cancelled while its master was frozen", function()
        local set <const> = redis_sentinels.start()
        local r <const> = redis.client { url = set.url }
        local ok, failure = pcall(function()
            r:lock("lock:clock"):release()
            set.servers[1]:freeze()
            local g <close> = task.group()
            for i = 1, 8 do
                local t <const> = g:spawn(function()
                    pcall(function()
                        local _ <close> = r:lock("lock:" .. i, { ttl = 600 })
                        task.sleep(60)
                    end)
                end)
                g:spawn(function()
                    task.sleep(i * 0.3) -- before and after the master counts as silent
                    t:cancel()
                end)
            end
            task.sleep(2.5)
            set.servers[1]:thaw()
            g:wait()
            assert.is_true(redis_server.wait_until(20, function()
                local told, key = pcall(r:scan { match = "lock:*" })
                return told and key == nil
            end))
        end)
        r:close()
        set:stop()
        assert.is_true(ok, tostring(failure))
    end)
end)
