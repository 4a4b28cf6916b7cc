--- What happens to statements when the backend, the server, the network or the task ends early.

local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local raised = pg.raised

--- A server for the block, and a connection to it without the code under test.
local function server_with(settings)
    local server = servers.postgres { settings = settings }
    function server:terminate(pid)
        self:psql(("select pg_terminate_backend(%d, 5000)"):format(pid))
    end
    return server
end

local server

setup(function()
    server = server_with {}
end)

teardown(function()
    server:close()
end)

pg.on_both(describe, function(mode, open_any)
    local function open(opts)
        opts = opts or {}
        opts.url = opts.url or server.url
        return open_any(opts)
    end

    describe("a backend killed", function()
        it("while idle is not noticed by the script", function()
            local e <close> = open { size = 2 }
            for _ = 1, 10 do
                local pid = e:value "select pg_backend_pid()"
                server:terminate(pid)
                assert.not_equal(pid, e:value "select pg_backend_pid()")
            end
            assert.equal(10, e:stats().invalidated)
        end)

        it("while idle, with all the others, is not noticed either", function()
            local e <close> = open { size = 4 }
            for _ = 1, 5 do
                local leases = {}
                for i = 1, 4 do
                    leases[i] = e:acquire()
                end
                for i = 1, 4 do
                    leases[i]:value "select 1"
                    leases[i]:release()
                end
                server:psql [[select pg_terminate_backend(pid, 5000) from pg_stat_activity
                    where backend_type = 'client backend' and pid <> pg_backend_pid()]]
                for i = 1, 4 do
                    assert.equal(i, e:value("select $1::int", i))
                end
                pg.settled(e)
            end
        end)

        it("with SIGKILL, which takes the whole server through recovery, is survived", function()
            local own <close> = server_with {}
            local e <close> = open { url = own.url, size = 2 }
            local pid = e:value "select pg_backend_pid()"
            process.kill(pid, "KILL")
            pg.eventually(10, function() -- until it has noticed, it answers as if nothing had happened
                return own:log():find("reinitializing", 1, true) and pcall(own.psql, own, "select 1")
            end, "recovery")
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)

        if mode == "async" then
            it("in a statement is 57P01, and the connection is closed", function()
                local e <close> = open { size = 1 }
                local t = pg.table(e, "i int")
                for _ = 1, 5 do
                    local pid = e:value "select pg_backend_pid()"
                    local running = task.spawn(function()
                        return raised(e.query, e, ("insert into %s select 1 from pg_sleep(30)"):format(t))
                    end)
                    task.sleep(0.02)
                    server:terminate(pid)
                    local problem = running:join()
                    assert.equal("57P01", problem.sqlstate)
                    assert.is_true(errors.is(problem, "connect"))
                    assert.equal("failed", problem.outcome)
                    assert.not_equal(pid, e:value "select pg_backend_pid()")
                    assert.equal(0, e:value(("select count(*) from %s"):format(t)))
                    assert.equal(1, pg.settled(e).open)
                end
            end)
        end

        it("in its own statement is 57P01, and the connection is closed", function()
            local e <close> = open { size = 1 }
            for _ = 1, 5 do
                local problem = raised(e.value, e, "select pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")
                assert.equal("57P01", problem.sqlstate)
                assert.equal(1, e:value "select 1")
                assert.equal(1, e:stats().open)
            end
        end)

        it("in a transaction undoes all of it, and every later statement says so", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            local problem = raised(e.transaction, e, function(tx)
                tx:query(("insert into %s values (1)"):format(t))
                server:terminate(tx:backend_pid())
                local first = raised(tx.query, tx, ("insert into %s values (2)"):format(t))
                assert.is_true(errors.is(first, "connect"))
                assert.is_true(first.outcome == "failed" or first.outcome == "not_sent", first.outcome)
                local second = raised(tx.query, tx, ("insert into %s values (3)"):format(t))
                assert.is_true(errors.is(second, "connect"))
                assert.equal("not_sent", second.outcome)
                assert(#second.message > 10)
            end)
            assert.is_true(errors.is(problem, "connect"), tostring(problem))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)
    end)

    describe("a reply that is lost", function()
        it("of COMMIT has the outcome unknown, and nothing is run again", function()
            local proxy <close> = fake.proxy { to = server }
            local e <close> = open { url = proxy:address_of(server), size = 1 }
            local direct <close> = open { size = 1 }
            local t = pg.table(direct, "i int")
            for i = 1, 5 do
                local runs = 0
                local problem = raised(e.transaction, e, { retry = 5 }, function(tx)
                    runs = runs + 1
                    tx:query(("insert into %s values ($1)"):format(t), i)
                    proxy:cut("down", 0)
                end)
                assert.equal("unknown", problem.outcome)
                assert.is_true(errors.is(problem, "connect"), tostring(problem))
                assert.is_false(problem.retryable)
                assert.matches("OUTCOME:  unknown", tostring(problem), 1, true)
                assert.equal(1, runs)
            end
            -- The server had committed: that is why the outcome is unknown.
            assert.equal(5, direct:value(("select count(*) from %s"):format(t)))
        end)

        it("of a session's commit is unknown too", function()
            local proxy <close> = fake.proxy { to = server }
            local e <close> = open { url = proxy:address_of(server), size = 1 }
            local s <close> = e:session()
            s:value "select 1"
            proxy:cut("down", 0)
            assert.equal("unknown", raised(s.commit, s).outcome)
            assert.equal(1, e:value "select 1")
        end)

        it("in the middle of a transaction means that nothing was done", function()
            local proxy <close> = fake.proxy { to = server }
            local e <close> = open { url = proxy:address_of(server), size = 1 }
            local direct <close> = open { size = 1 }
            local t = pg.table(direct, "i int")
            local problem = raised(e.transaction, e, function(tx)
                proxy:cut("down", 0)
                tx:query(("insert into %s values (1)"):format(t))
            end)
            assert.equal("failed", problem.outcome)
            assert.equal(0, direct:value(("select count(*) from %s"):format(t)))
        end)

        it("of a text with several statements is unknown: one could have been COMMIT", function()
            local proxy <close> = fake.proxy { to = server }
            local e <close> = open { url = proxy:address_of(server), size = 1 }
            local direct <close> = open { size = 1 }
            local t = pg.table(direct, "s text")
            local function outcome(sql, before)
                local own <close> = e:acquire() -- transaction would not send a COMMIT
                own:exec "begin"
                if before then own:exec(before) end
                proxy:cut("down", 0)
                return raised(own.exec, own, sql:format(t)).outcome
            end
            assert.equal("unknown", outcome "insert into %s values ('a'); commit")
            -- A backslash escapes in this mode: the COMMIT inside a string is not a statement.
            local escapes <const> = "set local standard_conforming_strings = off"
            assert.equal("unknown", outcome("insert into %s values ('a\\'b'); commit; select ''", escapes))
            assert.equal("failed", outcome("insert into %s values ('c; d')", escapes))
            for _, sql in ipairs {
                "insert into %s values ('b');;", "insert into %s values ('b') -- one; no more",
                "insert into %s values ('b; c') /* ; */;", "insert into %s values (E'\\'; b')",
                "insert into %s values ($$;$$)",
            } do
                assert.equal("failed", outcome(sql), sql)
            end
            assert.equal(0, direct:value(("select count(*) from %s where s not like 'a%%'"):format(t)))
        end)

        it("of a statement by itself is unknown", function()
            local proxy <close> = fake.proxy { to = server }
            local e <close> = open { url = proxy:address_of(server), size = 1 }
            e:value "select 1"
            for _, n in ipairs { 0, 1, 5, 20, 40 } do
                proxy:cut("down", n)
                local problem = raised(e.value, e, "select 'a longer reply than that of most statements'::text")
                assert.equal("unknown", problem.outcome)
                assert.is_true(errors.is(problem, "connect"), tostring(problem))
                assert.equal(1, e:value "select 1")
            end
        end)

        it("while the connection was idle is noticed before anything is sent", function()
            local proxy <close> = fake.proxy { to = server }
            local e <close> = open { url = proxy:address_of(server), size = 2 }
            for _ = 1, 5 do
                e:value "select 1"
                proxy:cut()
                task.sleep(0.02)
                assert.equal(1, e:value "select 1")
                e:value "select 1"
                proxy:reset()
                task.sleep(0.02)
                assert.equal(1, e:value "select 1")
            end
        end)
    end)

    describe("a frozen backend", function()
        it("lets the statement's deadline fire in time", function()
            local e <close> = open { size = 1, command_timeout = 0.5 }
            local pids = {}
            local _ <close> = setmetatable({}, { __close = function()
                for _, pid in ipairs(pids) do process.kill(pid, "CONT") end
            end })
            local problem = pace.takes(0.49, 0.6, function()
                return raised(e.query, e, "select 1")
            end, function()
                pids[#pids + 1] = e:value "select pg_backend_pid()"
                process.kill(pids[#pids], "STOP")
            end)
            assert.is_true(errors.is(problem, "timeout"), tostring(problem))
        end)

        it("does not keep its place in the pool once it runs again, or for long", function()
            local e <close> = open { size = 1, command_timeout = 0.2 }
            for _ = 1, 2 do
                local pid = e:value "select pg_backend_pid()"
                process.kill(pid, "STOP")
                raised(e.query, e, "select 'lost'")
                local seconds, v = pg.timed(function()
                    -- The sync engine has opened a new connection; the async one opens it after its grace period.
                    for _ = 1, 50 do
                        local ok, v = pcall(e.value, e, "select 'found'")
                        if ok then
                            return v
                        end
                        task.sleep(0.1)
                    end
                end)
                process.kill(pid, "CONT")
                assert.equal("found", v)
                assert(seconds < 10, seconds)
                pg.settled(e)
            end
        end)

        it("in a transaction lets its time limit fire", function()
            local e <close> = open { size = 1 }
            local pid
            local problem = pace.takes(0.49, 0.6, function()
                local problem = raised(e.transaction, e, { timeout = 0.5 }, function(tx)
                    pid = tx:backend_pid()
                    process.kill(pid, "STOP")
                    tx:query "select 1"
                end)
                process.kill(pid, "CONT")
                return problem
            end, function()
                e:value "select 1"
            end)
            assert.is_true(errors.is(problem, "timeout"), tostring(problem))
            assert.equal(1, e:value "select 1")
        end)
    end)

    describe("connecting", function()
        it("to a peer that accepts and sends nothing ends at the deadline", function()
            local mute <close> = fake.mute()
            local mute_tcp <close> = fake.mute { tcp = true }
            for _, url in ipairs { "postgresql://u@/d?host=" .. mute.dir,
                ("postgresql://u@127.0.0.1:%d/d"):format(mute_tcp.port) } do
                local e <close> = open { url = url, size = 1, connect_timeout = 0.5 }
                local problem = pace.takes(0.49, 0.6, function() return raised(e.value, e, "select 1") end)
                assert.is_true(errors.is(problem, "timeout"), tostring(problem))
                assert.equal("not_sent", problem.outcome)
                assert.is_string(problem.hint)
                assert.equal(0, e:stats().open)
            end
        end)

        it("to a server that sends one byte at a time ends at the deadline", function()
            local proxy <close> = fake.proxy { to = server }
            proxy:drip(0.02)
            local e <close> = open { url = proxy:address_of(server), size = 1, connect_timeout = 0.5 }
            local problem = pace.takes(0.49, 0.6, function() return raised(e.value, e, "select 1") end)
            assert.is_true(errors.is(problem, "timeout"), tostring(problem))
            proxy:drip(0)
            pg.eventually(10, function() return pcall(e.value, e, "select 1") end)
        end)

        it("to a server that is not PostgreSQL is an error in time", function()
            local replies = { "HTTP/1.1 400 Bad Request\r\n\r\n", "E\0\0\0\5\0", "R\255\255\255\255", "R\0\0\0\4", "\0",
                "R\0\0\0\8\0\0\0\99", "-ERR unknown command\r\n" }
            for _, text in ipairs(replies) do
                local bad <close> = fake.say { text, text }
                local e <close> = open { url = "postgresql://u@/d?host=" .. bad.dir, size = 1, connect_timeout = 1 }
                local problem = pace.takes(0, 1.1, function() return raised(e.value, e, "select 1") end)
                assert.is_true(errors.is(problem, "connect") or errors.is(problem, "timeout"), tostring(problem))
                assert(utf8.len(tostring(problem)))
            end
            for seed = 1, 5 do
                local bad <close> = fake.garbage { seed = seed }
                local e <close> = open { url = "postgresql://u@/d?host=" .. bad.dir, size = 1, connect_timeout = 1 }
                local problem = pace.takes(0, 1.1, function() return raised(e.value, e, "select 1") end)
                assert.is_true(errors.is(problem), tostring(problem))
            end
        end)

        it("to a server that is starting waits until it has started", function()
            local message = "SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
            local starting <close> = fake.say { "E" .. string.pack(">I4", #message + 4) .. message }
            local url = ("postgresql://dbrun@/postgres?host=%s"):format(starting.dir)
            local e <close> = open { url = url, size = 1, connect_timeout = 0.5 }
            local problem = pace.takes(0.29, 0.6, function() return raised(e.value, e, "select 1") end)
            assert.equal("57P03", problem.sqlstate)
            assert.is_true(errors.is(problem, "connect"))
            assert.is_true(problem.retryable)
            assert.matches("wait", problem.hint)

            -- Now it starts while a task waits.
            local patient <close> = open { url = url, size = 1, connect_timeout = 10 }
            local took, v, swap
            took = pg.timed(function()
                swap = process.start { "sh", "-c", 'sleep 0.5; ln -sf "$1" "$2"', "sh",
                    server.sockdir .. "/.s.PGSQL.5432", starting.path }
                v = patient:value "select 42"
            end)
            swap:wait(5)
            swap:close()
            assert.equal(42, v)
            assert(took >= 0.3 and took < 10, took)
        end)
    end)

    describe("a server with no connection left", function()
        it("is 53300 with a hint, and the pool recovers", function()
            local small <close> = server_with { max_connections = 5, superuser_reserved_connections = 0 }
            local hog <close> = pg.engine { url = small.url, size = 5 }
            local leases = {}
            for i = 1, 5 do
                leases[i] = hog:acquire()
                leases[i]:value "select 1"
            end
            local e <close> = open { url = small.url, size = 3 }
            for _ = 1, 3 do
                local problem = raised(e.value, e, "select 1")
                assert.equal("53300", problem.sqlstate)
                assert.is_true(errors.is(problem, "connect"))
                assert.is_true(problem.retryable)
                assert.equal("not_sent", problem.outcome)
                assert.matches("DB_POOL_SIZE", problem.hint)
                assert.equal(0, e:stats().open)
            end
            hog:invalidate() -- so that they close when they are returned
            for i = 1, 5 do
                leases[i]:release()
            end
            pg.eventually(10, function()
                return (pcall(e.value, e, "select 1"))
            end)
        end)
    end)

    describe("a server that crashes and comes back", function()
        it("is reconnected to, and no task gets a wrong answer", function()
            local own <close> = server_with {}
            local e <close> = open { url = own.url, size = 3, connect_timeout = 5 }
            for i = 1, 3 do
                assert.equal(i, e:value("select $1::int", i))
                own:stop "immediate"
                local problem = raised(e.value, e, "select 1")
                assert.is_true(errors.is(problem, "connect"), tostring(problem))
                own:start()
                assert.equal(i, e:value("select $1::int", i)) -- within its connect_timeout
                pg.settled(e)
            end
        end)
    end)
end)

describe("[async] tasks", function()
    it("that run while the server crashes and starts again all end, and go on afterwards", function()
        local own <close> = server_with {}
        local e <close> = pg.engine { url = own.url, size = 5, overflow = 3, timeout = 5, connect_timeout = 5 }
        local stop, good, bad, wrong = false, 0, 0, 0
        local late = 0 -- since the last start
        local work = {}
        for i = 1, 20 do
            work[i] = task.spawn(function()
                while not stop do
                    local nonce = math.random(1 << 40)
                    local ok, v = pcall(e.value, e, "select $1::int8 from pg_sleep(0.002)", nonce)
                    if not ok then
                        assert.is_true(errors.is(v, "connect") or errors.is(v, "pool") or errors.is(v, "timeout"),
                            tostring(v))
                        bad = bad + 1
                        task.sleep(0.01)
                    elseif v ~= nonce then
                        wrong = wrong + 1
                    else
                        good, late = good + 1, late + 1
                    end
                end
            end)
        end
        task.sleep(0.3)
        for _ = 1, 3 do
            own:stop "immediate"
            task.sleep(0.1)
            own:start()
            late = 0
            pg.eventually(10, function()
                return late > 100
            end, "the return of service")
        end
        stop = true
        for i = 1, 20 do
            work[i]:join()
        end
        assert.equal(0, wrong)
        assert(good > 300 and bad > 0)
        pg.settled(e)
    end)

    it("are not delayed by frozen backends, a frozen server or silent peers", function()
        local own <close> = server_with {}
        local e <close> = pg.engine { url = own.url, size = 3, timeout = 1, connect_timeout = 1, command_timeout = 0.5 }
        local mute <close> = fake.mute()
        local deaf <close> = pg.engine { url = "postgresql://u@/d?host=" .. mute.dir, size = 3, connect_timeout = 0.5 }
        local pids = {}
        for i = 1, 2 do
            local c <close> = e:acquire()
            local c2 <close> = e:acquire()
            pids[i] = (i == 1 and c or c2):backend_pid()
        end
        local worst = pace.ticking(function()
            for _, pid in ipairs(pids) do
                process.kill(pid, "STOP")
            end
            process.kill(own.pid, "STOP") -- nobody answers cancel requests and connects
            local work = {}
            for i = 1, 10 do
                work[i] = task.spawn(function()
                    local seconds, ok, problem = pg.timed(pcall, e.value, e, "select 1")
                    assert(seconds < 5, seconds) -- 1 s for the pool, 0.5 s for the statement
                    if not ok then
                        assert.is_true(errors.is(problem, "timeout") or errors.is(problem, "pool"), tostring(problem))
                    end
                end)
                work[i + 10] = task.spawn(function()
                    pcall(deaf.value, deaf, "select 1")
                end)
            end
            for i = 1, 20 do
                work[i]:join()
            end
        end)
        process.kill(own.pid, "CONT")
        for _, pid in ipairs(pids) do
            process.kill(pid, "CONT")
        end
        assert(worst < 0.1, worst)
        pg.eventually(10, function()
            return (pcall(e.value, e, "select 1"))
        end)
        pg.settled(e, 4)
        assert(e:stats().open <= 3)
    end)

    it("get their first row while a request to cancel them is not answered", function()
        local own <close> = server_with {}
        local e <close> = pg.engine { url = own.url, size = 1, command_timeout = 20 }
        local c <close> = e:acquire()
        c:value "select 1"
        local first
        process.kill(own.pid, "STOP") -- the cancel request is accepted, and never answered
        local thaw <close> = setmetatable({}, { __close = function() process.kill(own.pid, "CONT") end })
        assert(thaw)
        task.timeout(10, task.all, {
            function()
                for row in c:rows "select i, pg_sleep(0.3 * (i % 3)) from generate_series(1, 3) i" do
                    first = first or row.i
                end
            end,
            function()
                task.sleep(0.1)
                c:cancel()
            end,
        })
        assert.equal(1, first)
        process.kill(own.pid, "CONT")
        pg.eventually(10, function() return (pcall(c.value, c, "select 1")) end, "the connection's next statement")
    end)

    it("wait in order for the few connections that the server has left", function()
        local small <close> = server_with { max_connections = 5, superuser_reserved_connections = 0 }
        local e <close> = pg.engine { url = small.url, size = 3, overflow = 0, timeout = 10 }
        local order = {}
        local work = {}
        for i = 1, 30 do
            work[i] = function()
                local c <close> = e:acquire()
                order[#order + 1] = i
                c:value "select pg_sleep(0.002)"
            end
        end
        task.all(work)
        for i = 1, 30 do
            assert.equal(i, order[i])
        end
        assert.equal(0, e:stats().failed)
    end)
end)

describe("[async] a cancelled statement", function()
    it("never cancels the next one, however late its cancel request comes", function()
        local proxy <close> = fake.proxy { to = server }
        local e <close> = pg.engine { url = proxy:address_of(server), size = 1 }
        local c <close> = e:acquire()
        c:value "select 1"
        for round = 1, 30 do
            proxy:delay("up", (round % 3) * 0.015)
            proxy:delay("down", (round % 2) * 0.015)
            pcall(task.timeout, 0.003 * (round % 10), c.value, c, "select 'wrong' from pg_sleep(0.02)")
            local nonce = "right " .. round
            assert.equal(nonce, c:value("select $1::text from pg_sleep(0.03)", nonce))
        end
    end)

    it("cancelled by conn:cancel at any moment never cancels the next one", function()
        local proxy <close> = fake.proxy { to = server }
        local e <close> = pg.engine { url = proxy:address_of(server), size = 1 }
        for round = 1, 20 do
            proxy:delay("up", (round % 3) * 0.01)
            local c = e:acquire()
            local running = task.spawn(function()
                pcall(c.value, c, "select 'wrong' from pg_sleep(0.01)")
                c:release()
            end)
            task.sleep(0.002 * (round % 12))
            pcall(c.cancel, c)
            running:join()
            local nonce = "right " .. round
            assert.equal(nonce, e:value("select $1::text from pg_sleep(0.02)", nonce))
        end
    end)

    it("is drained at each byte of its reply", function()
        local proxy <close> = fake.proxy { to = server }
        local e <close> = pg.engine { url = proxy:address_of(server), size = 1 }
        local c <close> = e:acquire()
        for round = 1, 10 do
            proxy:drip(0.001)
            pcall(task.timeout, 0.015 * round, c.query, c, "select 'wrong' as v from generate_series(1, 20)")
            proxy:drip(0)
            local nonce = "right " .. round
            assert.equal(nonce, c:value("select $1::text", nonce))
        end
    end)
end)
