--- engine:listen: notifications as they arrive, and a reported gap when some can be missing.

local db = require "dbrun.db"
local fs = require "dbrun.fs"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local resident = require "spec.support.resident"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local raised = pg.raised

--- The next n events, and what comes within 0.15 s behind them: "channel payload", or "gap".
local function heard(listener, n)
    local list = {}
    local function add(ev) list[#list + 1] = ev.kind == "gap" and "gap" or ev.channel .. " " .. ev.payload end
    for _ = 1, n or 0 do
        local ev <const> = listener:next(10)
        if not ev then return list end
        add(ev)
    end
    for ev in listener:events(0.15) do add(ev) end
    return list
end

pg.on_both(describe, function(mode, open)
    local sender

    setup(function() sender = db.engine { url = pg.url(), mode = "sync" } end)
    teardown(function() sender:close() end)

    local function notify(channel, payload)
        sender:query("select pg_notify($1, $2)", channel, payload or "")
    end

    --- Ends the connection of a listener from the server's side, and waits until it has ended.
    local function terminate(listener)
        assert.is_true(sender:value("select pg_terminate_backend($1, 5000)", listener:backend_pid()))
    end

    describe("a listener", function()
        it("receives everything from its start on, in order, with payload and sender", function()
            local e <close> = open()
            notify "news"
            local l <close> = e:listen("news", "sport")
            local expected = {}
            for i = 1, 500 do
                local channel = i % 3 == 0 and "sport" or "news"
                notify(channel, "n" .. i)
                notify("other", "not for us")
                expected[i] = channel .. " n" .. i
            end
            assert.same(expected, heard(l, #expected))
            local pid = sender:value "select pg_backend_pid() from (select pg_notify('news', 'ü')) x"
            assert.same({ kind = "notify", channel = "news", payload = "ü", pid = pid }, l:next(5))
        end)

        it("receives only committed notifications", function()
            local e <close> = open()
            local l <close> = e:listen "news"
            pcall(sender.transaction, sender, function(tx)
                tx:query "select pg_notify('news', 'undone')"
                error "no"
            end)
            sender:transaction(function(tx)
                tx:query "select pg_notify('news', 'done')"
                assert.is_nil(l:next(0.05))
            end)
            assert.same({ "news done" }, heard(l, 1))
        end)

        it("has a separate connection outside of the pool, which ends with its block", function()
            local e <close> = open { size = 1, overflow = 0 }
            local pid
            do
                local l <close> = e:listen "news"
                pid = l:backend_pid()
                assert.equal(0, e:stats().open)
                assert.not_equal(pid, e:value "select pg_backend_pid()")
                assert.equal(1, e:stats().open)
            end
            pg.eventually(10, function()
                return sender:value("select count(*) from pg_stat_activity where pid = $1", pid) == 0
            end)
        end)

        it("takes names as they are", function()
            local e <close> = open()
            local longest = ("ü"):rep(31) .. "x"
            local names = { "News", "a.b", 'say "hi"', "x; drop table y", "'", " ", longest }
            local l <close> = e:listen(names)
            for _, name in ipairs(names) do notify(name, "1") end
            notify("news", "another one")
            local expected = {}
            for i, name in ipairs(names) do expected[i] = name .. " 1" end
            assert.same(expected, heard(l, #expected))
        end)

        it("refuses names that the server would cut off or misread", function()
            local e <close> = open()
            local wrong = { {}, { "" }, { ("x"):rep(64) }, { "a\0b" }, { 7 }, { "a", false }, { {} }, { {}, "a" } }
            for _, args in ipairs(wrong) do
                local err = raised(e.listen, e, table.unpack(args))
                assert.equal("usage", err.kind)
                assert.matches("^listen: ", err.message)
            end
            assert.equal(0, e:stats().opened)
        end)

        it("waits up to its limit, and stays usable afterwards", function()
            local e <close> = open()
            local l <close> = e:listen "news"
            assert.is_nil(pace.takes(0.09, 0.2, function() return l:next(0.1) end))
            assert.is_nil(l:next(0))
            notify("news", "x")
            assert.equal("x", l:next(5).payload)
            assert.equal("usage", raised(l.next, l, -1).kind)
            assert.equal("usage", raised(l.next, l, "soon").kind)
        end)

        it("can add and remove channels", function()
            local e <close> = open()
            local l <close> = e:listen "a"
            l:listen("b", "a")
            l:unlisten "a"
            notify("a", "1")
            notify("b", "2")
            assert.same({ "b 2" }, heard(l, 1))
            l:unlisten "b"
            notify("b", "3")
            assert.same({}, heard(l))
            l:listen "c"
            terminate(l)
            notify("c", "missed")
            assert.equal("gap", l:next(5).kind)
            for _, channel in ipairs { "a", "b", "c" } do notify(channel, "4") end
            assert.same({ "c 4" }, heard(l, 1))
        end)

        it("ends when it is closed", function()
            local e <close> = open()
            local l = e:listen "news"
            notify "news"
            l:close()
            l:close()
            assert.is_nil(l:next())
            assert.same({}, heard(l))
            assert.matches("has been closed", raised(l.listen, l, "x").message)
        end)

        it("that was not closed is collected silently", function()
            local e <close> = open()
            local before = pg.descriptors()
            for _ = 1, 20 do e:listen "news" end
            collectgarbage()
            collectgarbage()
            pg.eventually(10, function() return pg.descriptors() <= before end)
        end)
    end)

    describe("a listener whose connection is lost", function()
        it("gives received events, then a gap with the reason, and then new ones", function()
            local e <close> = open()
            local l <close> = e:listen("news", "sport")
            sender:query "select pg_notify('news', i::text) from generate_series(1, 3) i"
            assert.equal("1", l:next(5).payload) -- and the others have arrived with it
            terminate(l)
            assert.equal("2", l:next(5).payload)
            assert.equal("3", l:next(5).payload)
            local gap = l:next(5)
            assert.equal("gap", gap.kind)
            assert.matches("terminating connection due to administrator command", gap.reason)
            notify("sport", "4")
            assert.same({ "sport 4" }, heard(l, 1))
        end)

        it("does so repeatedly, and leaks nothing", function()
            local e <close> = open()
            local l <close> = e:listen "news"
            local before
            for i = 1, 12 do
                terminate(l)
                notify("news", "missed")
                assert.equal("gap", l:next(5).kind)
                notify("news", "n" .. i)
                assert.equal("n" .. i, l:next(5).payload)
                before = before or pg.descriptors()
            end
            assert.equal(before, pg.descriptors())
            assert.equal(0, pg.settled(e).open)
        end)

        it("reconnects after a crash of the server, and keeps the caller's time limits meanwhile", function()
            local server <close> = servers.postgres()
            local e <close> = open { url = server.url }
            local l <close> = e:listen "news"
            server:stop "immediate"
            assert.is_nil(pace.takes(0.29, 0.4, function() return l:next(0.3) end))
            server:start()
            assert.equal("gap", l:next(5).kind)
            server:psql "notify news, 'back'"
            assert.same({ "news back" }, heard(l, 1))
        end)

        it("notices a server that is silent forever", function()
            local e <close> = open()
            local l <close> = e:listen "news"
            l.quiet, l.confirm = 0.1, 0.2
            assert.is_nil(l:next(0.4)) -- one that answers a request is alive
            local pid = l:backend_pid()
            process.kill(pid, "STOP")
            local seconds, ev = pg.timed(l.next, l, 5)
            process.kill(pid, "CONT")
            assert.equal("gap", ev.kind)
            assert.matches("does not answer", ev.reason)
            assert.is_true(seconds < 4, seconds)
            notify("news", "x")
            assert.same({ "news x" }, heard(l, 1))
        end)

        it("raises errors that no retry can fix", function()
            sender:exec "drop role if exists guest; create role guest login"
            local e <close> = open { url = servers.shared_postgres():address { user = "guest",
                database = sender:value "select current_database()" } }
            local l <close> = e:listen "news"
            sender:exec "alter role guest nologin"
            terminate(l)
            local err = raised(l.next, l, 5)
            assert.equal("28000", err.sqlstate)
            sender:exec "alter role guest login"
            assert.equal("gap", l:next(5).kind) -- but it can be retried
        end)

        it("ends with an error when its engine was closed", function()
            local engine = db.engine { url = pg.url(), mode = mode }
            local l <close> = engine:listen "news"
            engine:close()
            notify("news", "still there")
            assert.equal("still there", l:next(5).payload)
            terminate(l)
            local err = raised(l.next, l, 5)
            assert.equal("usage", err.kind)
            assert.matches("engine has been closed", err.message)
        end)
    end)

    -- AddressSanitizer keeps freed memory for a while.
    local maps <const> = fs.read "/proc/self/maps"
    local sanitized <const> = maps:find "libasan" or maps:find "\n0*7fff7000%-"
    local check <const> = sanitized and pending or it

    check("a consumer that is behind holds the server back, not the memory", function()
        local e <close> = open()
        local l <close> = e:listen "news"
        local filler, most, before = ("x"):rep(7000), 0, resident()
        local n = 6000 -- 42 MB
        for from = 1, n, 500 do
            sender:query("select count(pg_notify('news', i || ' ' || $1)) from generate_series($2::int, $3::int) i",
                filler, from, from + 499)
            task.sleep(0.05)
            most = math.max(most, resident() - before)
        end
        for i = 1, n do
            local ev = l:next(10)
            assert(ev and ev.kind == "notify" and ev.payload:match "^%d+" == tostring(i), i)
            if i % 100 == 0 then most = math.max(most, resident() - before) end
        end
        assert.is_true(most < 16 * 1024 * 1024, most)
    end)

    if mode == "sync" then return end

    it("two tasks cannot wait on one listener, but another task can change its channels", function()
        local e <close> = open()
        local l <close> = e:listen "a"
        local list = {}
        local consumer = task.spawn(function() list = heard(l, 1) end)
        task.sleep(0.01)
        assert.matches("another task is taking", raised(l.next, l, 1).message)
        l:listen "b"
        notify("b", "1")
        consumer:join()
        assert.same({ "b 1" }, list)
    end)

    it("closing ends the loop of another task, also while it reconnects", function()
        local server <close> = servers.postgres()
        local e <close> = open { url = server.url }
        for _, down in ipairs { false, true } do
            local l = e:listen "news"
            if down then server:stop "immediate" end
            local ended = false
            local consumer = task.spawn(function()
                for _ in l:events() do error "nothing should come" end
                ended = true
            end)
            task.sleep(0.1)
            assert.is_false(ended)
            l:close()
            task.timeout(10, consumer.join, consumer)
            assert.is_true(ended)
        end
    end)

    it("no notification is lost with a task that is cancelled while it waits", function()
        local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local e <close> = open()
        local l <close> = e:listen "news"
        local got, n = {}, 0
        for i = 1, 200 do
            local consumer = task.spawn(function()
                for ev in l:events() do got[#got + 1] = ev.payload end
            end)
            if math.random() < 0.5 then task.sleep(0) end
            notify("news", tostring(i))
            n = n + 1
            if math.random() < 0.5 then task.sleep(math.random() * 0.002) end
            consumer:cancel()
            pcall(consumer.join, consumer)
        end
        while #got < n do got[#got + 1] = assert(l:next(10), "seed " .. seed).payload end
        for ev in l:events(0.1) do got[#got + 1] = ev.payload end
        assert.equal(n, #got, "seed " .. seed)
        for i, payload in ipairs(got) do assert(payload == tostring(i), "seed " .. seed) end
    end)

    it("a limit around the loop ends it while it waits for a connection of the pool", function()
        local e <close> = open { size = 1, overflow = 0 }
        local l <close> = e:listen "news"
        local g <close> = task.group()
        local taken <const>, enough <const> = task.queue(1), task.queue(1)
        g:spawn(function()
            local _ <close> = e:acquire()
            taken:push(true)
            enough:pop(5)
        end)
        taken:pop(10)
        local other <close> = open()
        assert.is_true(other:value("select pg_terminate_backend($1, 5000)", l:backend_pid()))
        local began <const> = task.now()
        local problem <const> = raised(task.timeout, 0.2, function()
            for _ in l:events() do error "nothing should come" end
        end)
        assert.same({ "timeout", true }, { problem.kind, task.now() - began < 4 })
        enough:push(true)
    end)

    it("a limit around the loop ends it, also while it reconnects", function()
        local server <close> = servers.postgres()
        local e <close> = open { url = server.url }
        local l <close> = e:listen "news"
        local function endless()
            for _ in l:events() do error "nothing should come" end
        end
        assert.equal("timeout", raised(task.timeout, 0.1, endless).kind)
        server:stop "immediate"
        for _ = 1, 5 do
            pace.takes(0.09, 0.2, function()
                assert.equal("timeout", raised(task.timeout, 0.1, endless).kind)
            end)
        end
    end)
end)
