--- The pool as scripts see it: sizes, waiting, holders, the state of a connection on return.

local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

--- Opens n connections without a time limit: the pool's limit applies only to later checkouts.
local function opened(e, n)
    pg.eventually(10, function()
        local held = {}
        for _ = 1, n do
            local ok, c = pcall(e.acquire, e)
            held[#held + 1] = ok and c or nil
        end
        for _, c in ipairs(held) do c:release() end
        return e:stats().idle == n
    end)
end

local function pid_of(c)
    return c:value "select pg_backend_pid()"
end

pg.on_both(describe, function(mode, open)
    describe("the pool", function()
        it("starts empty and opens on demand", function()
            local e <close> = open()
            assert.equal(0, e:stats().opened)
            e:value "select 1"
            local st = e:stats()
            assert.equal(1, st.opened)
            assert.equal(1, st.idle)
        end)

        it("uses the connection that was returned last", function()
            local e <close> = open { size = 3 }
            local a, b = e:acquire(), e:acquire()
            local first, second = pid_of(a), pid_of(b)
            assert.not_equal(first, second)
            a:release()
            b:release()
            assert.equal(second, pid_of(e))
            assert.equal(2, e:stats().opened)
        end)

        it("replaces a connection that is older than recycle", function()
            pace.kept(function()
                local e <close> = open { recycle = 0.2 }
                local first = pid_of(e)
                assert.equal(first, pid_of(e))
                task.sleep(0.3)
                assert.not_equal(first, pid_of(e))
                assert.equal(1, e:stats().recycled)
                assert.equal(1, e:stats().open)
            end)
        end)

        it("with pre_ping notices a connection that died while idle", function()
            local e <close> = open { pre_ping_idle = 0 }
            local other <close> = open()
            for _ = 1, 5 do
                local pid = pid_of(e)
                other:value("select pg_terminate_backend($1, 5000)", pid)
                assert.not_equal(pid, pid_of(e))
            end
            assert.equal(5, e:stats().invalidated)
            assert.equal(1, e:stats().open)
        end)

        it("one dead connection retires all of the same age or older", function()
            local e <close> = open { size = 3 }
            local other <close> = open()
            local list = {}
            for i = 1, 3 do
                list[i] = e:acquire()
            end
            local pids = {}
            for i = 1, 3 do
                pids[i] = pid_of(list[i])
                list[i]:release()
            end
            for i = 1, 3 do
                other:value("select pg_terminate_backend($1, 5000)", pids[i])
            end
            assert.equal(1, e:value "select 1")
            assert.equal(1, e:stats().open)
        end)

        it("invalidate replaces all connections, those in use on return", function()
            local e <close> = open { size = 2 }
            local c = e:acquire()
            local held = pid_of(c)
            local idle = pid_of(e)
            e:invalidate()
            assert.equal(held, pid_of(c))
            c:release()
            local a <close> = e:acquire()
            local b <close> = e:acquire()
            for _, pid in ipairs { pid_of(a), pid_of(b) } do
                assert(pid ~= held and pid ~= idle)
            end
            assert.equal(2, e:stats().invalidated)
        end)

        it("conn:invalidate closes this one on return", function()
            local e <close> = open()
            local c = e:acquire()
            local pid = pid_of(c)
            c:invalidate()
            assert.equal(pid, pid_of(c))
            c:release()
            assert.not_equal(pid, pid_of(e))
        end)

        it("dispose closes idle connections, and the pool stays usable", function()
            local e <close> = open { size = 2 }
            local c = e:acquire()
            e:value "select 1"
            local held = pid_of(c)
            e:dispose()
            assert.equal(1, e:stats().open)
            assert.equal(held, pid_of(c))
            c:release()
            assert.equal(0, e:stats().open)
            assert.equal(1, e:value "select 1")
        end)

        it("close ends it permanently; connections in use still work and close on return", function()
            local watcher <close> = open()
            local e = open { application_name = "closing " .. tostring({}) }
            local name = e:value "show application_name"
            local function alive()
                return watcher:value("select count(*) from pg_stat_activity where application_name = $1", name)
            end
            local c = e:acquire()
            e:close()
            assert.equal(1, c:value "select 1")
            assert.is_true(errors.is(raised(e.query, e, "select 1"), "usage"))
            assert.is_true(errors.is(raised(e.acquire, e), "usage"))
            assert.equal(1, alive())
            c:release()
            pg.eventually(10, function()
                return alive() == 0
            end, "the end of the last connection")
            e:close()
        end)

        it("close with idle connections ends them at once", function()
            local watcher <close> = open()
            local e = open { application_name = "idle " .. tostring({}) }
            local name = e:value "show application_name"
            e:close()
            pg.eventually(10, function()
                return watcher:value("select count(*) from pg_stat_activity where application_name = $1", name) == 0
            end)
        end)

        it("a connection used after its engine was collected works until it is released", function()
            local url = pg.url()
            local c = require "dbrun.db".engine { url = url, mode = mode }:acquire()
            collectgarbage()
            collectgarbage()
            assert.equal(1, c:value "select 1")
            c:release()
            assert.is_true(errors.is(raised(c.value, c, "select 1"), "usage"))
        end)
    end)

    describe("a returned connection", function()
        it("in a transaction is rolled back", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            local c = e:acquire()
            local pid = pid_of(c)
            c:exec(("begin; insert into %s values (1)"):format(t))
            c:release()
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            assert.equal(pid, pid_of(e))
        end)

        it("in a failed transaction is rolled back, too", function()
            local e <close> = open { size = 1 }
            local c = e:acquire()
            local pid = pid_of(c)
            c:exec "begin"
            raised(c.exec, c, "select 1/0")
            c:release()
            assert.equal(pid, pid_of(e))
        end)

        it("after a BEGIN without a lease is rolled back, too", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            assert.matches("left a transaction open",
                pg.raised(e.exec, e, ("begin; insert into %s values (1)"):format(t)).message)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("in COPY is closed", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            local c = e:acquire()
            local pid = pid_of(c)
            c:copy_begin(("copy %s from stdin"):format(t))
            c:release()
            assert.not_equal(pid, pid_of(e))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("after COPY as a statement, which is an error, is closed", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            for _, sql in ipairs { "copy %s from stdin", "copy %s to stdout" } do
                for _, method in ipairs { "query", "exec", "value" } do
                    local problem = raised(e[method], e, sql:format(t))
                    assert.is_true(errors.is(problem, "usage"))
                    assert.matches("copy_", problem.hint)
                    assert.equal(1, e:value "select 1")
                end
            end
        end)

        it("with reset=full has lost its settings, locks, temporary tables and channels", function()
            local e <close> = open { size = 1, reset = "full" }
            local c = e:acquire()
            local pid = pid_of(c)
            c:exec "set statement_timeout = 12345; create temp table mine (i int); listen somewhere"
            c:value "select pg_advisory_lock(42)"
            for _ = 1, 3 do
                c:value("select $1::int", 1)
            end
            c:release()
            assert.equal(pid, pid_of(e))
            assert.equal("0", e:value "show statement_timeout")
            assert.is_nil(e:value "select to_regclass('pg_temp.mine')")
            assert.equal(0, e:value "select count(*) from pg_locks where locktype = 'advisory'")
            assert.equal(0, e:value "select count(*) from pg_listening_channels()")
            for _ = 1, 3 do
                assert.equal(1, e:value("select $1::int", 1))
            end
        end)

        it("with reset=full from a transaction is rolled back first", function()
            local e <close> = open { size = 1, reset = "full" }
            local t = pg.table(e, "i int")
            local c = e:acquire()
            local pid = pid_of(c)
            c:exec(("begin; insert into %s values (1)"):format(t))
            c:release()
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            assert.equal(pid, pid_of(e))
        end)

        it("with reset=none stays unchanged", function()
            local e <close> = open { size = 1, reset = "none" }
            local c = e:acquire()
            c:exec "set application_name = 'kept'"
            c:release()
            assert.equal("kept", e:value "show application_name")
        end)
    end)
end)

describe("[async] the pool", function()
    it("opens at most size + overflow and closes connections above size on return", function()
        local e <close> = pg.engine { size = 2, overflow = 2 }
        local list = {}
        for i = 1, 4 do
            list[i] = e:acquire()
        end
        assert.equal(4, e:stats().open)
        for i = 1, 4 do
            list[i]:release()
        end
        assert.equal(2, e:stats().open)
        assert.equal(2, e:stats().idle)
    end)

    it("serves waiting tasks first come, first served", function()
        local e <close> = pg.engine { size = 2, overflow = 0 }
        local order = {}
        local work = {}
        for i = 1, 40 do
            work[i] = function()
                local c <close> = e:acquire()
                order[#order + 1] = i
                c:value "select pg_sleep(0.001)"
            end
        end
        task.all(work)
        for i = 1, 40 do
            assert.equal(i, order[i])
        end
        local st = e:stats()
        assert.equal(2, st.opened)
        assert.equal(0, st.waiting)
        assert.equal(40, st.acquired)
    end)

    it("does not serve a later task first", function()
        local e <close> = pg.engine { size = 1, overflow = 0 }
        local first = e:acquire()
        local order = {}
        local waiter = task.spawn(function()
            local mine <close> = e:acquire()
            order[#order + 1] = "waiter"
            mine:value "select 1"
        end)
        task.sleep(0.01)
        first:release()
        local c = e:acquire() -- in the same turn as the release
        order[#order + 1] = "newcomer"
        c:release()
        waiter:join()
        assert.same({ "waiter", "newcomer" }, order)
    end)

    it("gives up after its timeout and names the holders of the connections", function()
        local e <close> = pg.engine { size = 2, overflow = 0, timeout = 0.2 }
        opened(e, 2)
        local a <close> = e:acquire()
        a:value "select 'größe 日本', 1"
        local holder = task.spawn(function()
            e:value "select pg_sleep(3), 'a statement of its own'"
        end)
        pg.eventually(10, function() return e:stats().leased == 2 end)
        local tries = e:stats().timeouts
        local problem = pace.takes(0.2, 0.3, function()
            tries = tries + 1
            return raised(function()
                return task.spawn(e.value, e, "select 1"):join()
            end)
        end)
        assert.is_true(errors.is(problem, "pool"), tostring(problem))
        assert.equal("not_sent", problem.outcome)
        assert.is_true(problem.retryable)
        assert.matches("pool_spec%.lua:%d+ for %d", problem.detail)
        assert.matches("größe 日本", problem.detail, 1, true)
        assert.matches("a statement of its own", problem.detail, 1, true)
        assert.matches("2 in use", problem.message)
        assert.equal(tries, e:stats().timeouts)
        holder:join()
        assert.equal(1, e:value "select 1")
    end)

    it("never cuts a character of the statement that it shows", function()
        local e <close> = pg.engine { size = 1, overflow = 0, timeout = 0.2 }
        opened(e, 1)
        for pad = 0, 3 do
            local c <close> = e:acquire()
            c:value("select '" .. ("x"):rep(pad) .. ("日"):rep(60) .. "'")
            local problem = raised(function()
                return task.spawn(e.value, e, "select 1"):join()
            end)
            assert(utf8.len(problem.detail), "not UTF-8")
        end
    end)

    it("refuses at once a task that would wait for itself", function()
        local e <close> = pg.engine { size = 2, overflow = 0 }
        local a <close> = e:acquire()
        local b <close> = e:acquire()
        local problem = pace.takes(0, 0.1, function() return raised(e.value, e, "select 1") end)
        assert.is_true(errors.is(problem, "pool"))
        assert.matches("deadlock", problem.message)
        assert.equal(1, a:value "select 1")
        assert.equal(1, b:value "select 1")
    end)

    it("refuses the last of several tasks that wait for each other, and the others go on", function()
        local e <close> = pg.engine { size = 3, overflow = 0, timeout = 5 }
        local failed = 0
        local work = {}
        for i = 1, 3 do
            work[i] = function()
                local c <close> = e:acquire()
                task.sleep(0.02)
                local ok, problem = pcall(e.value, e, "select 1")
                if not ok then
                    assert.is_true(errors.is(problem, "pool"))
                    failed = failed + 1
                end
                c:value "select 1"
            end
        end
        local seconds = pg.timed(task.all, work)
        assert(seconds < 4, seconds) -- before the 5 s of the pool
        assert.equal(1, failed)
    end)

    it("does not mistake a connection handed to another task for a deadlock", function()
        local e <close> = pg.engine { size = 1, overflow = 0, timeout = 5 }
        for _ = 1, 20 do
            local c = task.spawn(e.acquire, e):join() -- that task has ended: its memory is used again
            local waiter = task.spawn(function()
                return e:value "select 1"
            end)
            task.sleep(0.001)
            c:release()
            assert.equal(1, waiter:join())
        end
    end)

    it("reports an unknown place for a lease that C code took", function()
        local e <close> = pg.engine { size = 1, overflow = 0, timeout = 0.02 }
        opened(e, 1)
        local c = task.spawn(e.acquire, e):join()
        collectgarbage()
        for _ = 1, 5 do
            local problem = raised(function()
                return task.spawn(e.value, e, "select 1"):join()
            end)
            assert.is_true(errors.is(problem, "pool"))
            assert.is_string(problem.detail)
        end
        c:release()
    end)

    it("a cancelled wait leaves the queue", function()
        local e <close> = pg.engine { size = 1, overflow = 0 }
        local c = e:acquire()
        for _ = 1, 5 do
            local t = task.spawn(e.value, e, "select 1")
            task.sleep(0.001)
            assert.equal(1, e:stats().waiting)
            t:cancel()
            task.sleep(0.001)
            assert.equal(0, e:stats().waiting)
        end
        c:release()
        assert.equal(1, e:value "select 1")
        assert.equal(1, e:stats().opened)
    end)

    it("closed while tasks wait raises in each of them", function()
        local e = pg.engine { size = 1, overflow = 0 }
        local c = e:acquire()
        local problems = {}
        local work = {}
        for i = 1, 5 do
            work[i] = task.spawn(function()
                problems[i] = raised(e.value, e, "select 1")
            end)
        end
        task.sleep(0.01)
        e:close()
        for i = 1, 5 do
            work[i]:join()
            assert.is_true(errors.is(problems[i], "pool"), tostring(problems[i]))
            assert.matches("closed", problems[i].message)
        end
        c:release()
    end)

    it("closed while it connects raises in the waiting task", function()
        for _ = 1, 10 do
            local e = pg.engine { size = 3 }
            local problems = {}
            local work = {}
            for i = 1, 5 do
                work[i] = task.spawn(function()
                    local ok, v = pcall(e.value, e, "select 1")
                    problems[i] = ok and "answered" or v
                end)
            end
            task.sleep(0)
            e:close()
            for i = 1, 5 do
                work[i]:join()
                -- A connect can be faster than the close: then the statement can succeed.
                assert.is_true(problems[i] == "answered" or errors.is(problems[i], "pool"), tostring(problems[i]))
            end
        end
        task.sleep(0.05)
    end)

    it("closed while statements run lets them end", function()
        local e = pg.engine { size = 3 }
        opened(e, 3)
        local work = {}
        for i = 1, 3 do
            work[i] = task.spawn(e.value, e, "select $1::int from pg_sleep(0.2)", i)
        end
        pg.eventually(10, function()
            return e:stats().leased == 3
        end)
        e:close()
        for i = 1, 3 do
            assert.equal(i, work[i]:join())
        end
    end)

    it("counts its events", function()
        local e <close> = pg.engine { size = 1, overflow = 0, timeout = 1 }
        local c = e:acquire()
        raised(function()
            task.spawn(e.value, e, "select 1"):join()
        end)
        c:release()
        local st = e:stats()
        assert.equal(1, st.size)
        assert.equal(0, st.overflow)
        assert.equal(1, st.timeouts)
        assert.equal(1, st.opened)
        assert.equal(1, st.acquired)
        assert(st.wait_count >= 1 and st.wait_sum >= 1 and st.wait_max >= 1 and st.wait_max < 10)
    end)

    it("does not count a cancelled task as one that timed out", function()
        local e <close> = pg.engine { size = 1, overflow = 0, timeout = 1e12 }
        local c <close> = e:acquire()
        local waiter <const> = task.spawn(function()
            task.sleep(0.01) -- its deadline has passed
            e:value "select 1"
        end)
        pg.eventually(10, function()
            return e:stats().waiting == 1
        end)
        waiter:cancel()
        raised(waiter.join, waiter)
        local st <const> = e:stats()
        assert.equal(0, st.waiting)
        assert.equal(0, st.timeouts)
        c:release()
        assert.equal(1, e:value "select 1")
    end)

    it("a failed connect raises in the waiting task, and the next task tries again", function()
        local e <close> = pg.engine { url = "postgresql:///nope?host=/nonexistent", size = 1 }
        for i = 1, 3 do
            local problem = raised(e.value, e, "select 1")
            assert.is_true(errors.is(problem, "connect"))
            assert.equal(i, e:stats().failed)
        end
        assert.equal(0, e:stats().open)
    end)
end)

describe("[sync] the pool", function()
    it("with all connections in use is an error at once: no other task can release one", function()
        local e <close> = pg.engine { mode = "sync", size = 2 }
        local a <close> = e:acquire()
        local b <close> = e:acquire()
        b:value "select 'held'"
        local problem = pace.takes(0, 0.1, function() return raised(e.value, e, "select 1") end)
        assert.is_true(errors.is(problem, "pool"))
        assert.matches("all 2 connections", problem.message)
        assert.matches("pool_spec%.lua:%d+", problem.detail)
        assert.matches("held", problem.detail)
        assert.equal(1, a:value "select 1")
    end)

    it("keeps 5 connections and no more by default", function()
        local e <close> = pg.engine { mode = "sync" }
        local list = {}
        for i = 1, 5 do
            list[i] = e:acquire()
        end
        assert.is_true(errors.is(raised(e.acquire, e), "pool"))
        for i = 1, 5 do
            list[i]:release()
        end
        assert.equal(5, e:stats().idle)
    end)
end)
