--- Leases: a connection that belongs to the script until it is released, used by one task at a time.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local task = require "dbrun.task"

local raised = pg.raised

local function pid_of(c)
    return c:value "select pg_backend_pid()"
end

--- Runs a script in a separate dbrun; returns its output and its log.
local function run_script(source)
    local result = process.run { require "dbrun.core".options.program or "build/dbrun", "--no-env", "-",
        stdin = source, env = { DATABASE_URL = pg.url() }, timeout = 30 }
    return result
end

pg.on_both(describe, function(_, open)
    describe("a lease", function()
        it("released twice is an error, and the connection is not shared", function()
            local e <close> = open { size = 2 }
            local c = e:acquire()
            c:release()
            local problem = raised(c.release, c)
            assert.is_true(errors.is(problem, "usage"))
            local a <close> = e:acquire()
            local b <close> = e:acquire()
            assert.not_equal(pid_of(a), pid_of(b))
        end)

        it("used after release is an error for every method", function()
            local e <close> = open()
            local c = e:acquire()
            c:release()
            for _, call in ipairs { { "query", "select 1" }, { "one", "select 1" }, { "value", "select 1" },
                { "exec", "select 1" }, { "release" }, { "invalidate" }, { "cancel" }, { "backend_pid" },
                { "in_transaction" }, { "copy_in", "t", {}, {} }, { "transaction", function() end } } do
                local problem = raised(c[call[1]], c, call[2], call[3], call[4])
                assert.is_true(errors.is(problem, "usage"), call[1] .. ": " .. tostring(problem))
                assert.matches("released", problem.message)
            end
        end)

        it("released by hand can still leave its block", function()
            local e <close> = open()
            do
                local c <close> = e:acquire()
                c:release()
            end
            assert.equal(1, e:stats().idle)
        end)

        it("released by code that runs while its parameters are read is an error", function()
            local e <close> = open()
            local c = e:acquire()
            local params = setmetatable({}, { __index = function()
                c:release()
                return 1
            end })
            assert.is_true(errors.is(raised(c.value, c, "select :a::int", params), "usage"))
            assert.equal(1, e:value "select 1")
        end)

    end)
end)

describe("[async] a lease", function()
    it("a leased connection is for one task at a time", function()
        local e <close> = pg.engine()
        local c <close> = e:acquire()
        local slow = task.spawn(c.value, c, "select 'slow' from pg_sleep(0.2)")
        task.sleep(0)
        local problem = raised(c.value, c, "select 'fast'")
        assert.is_true(errors.is(problem, "usage"))
        assert.matches("busy", problem.message)
        assert.equal("slow", slow:join())
        assert.equal("fast", c:value "select 'fast'")
    end)

    it("a connection released by another task ends the statement on it, with an error", function()
        local e <close> = pg.engine { size = 1, overflow = 0 }
        for _ = 1, 3 do
            local c = e:acquire()
            local slow = task.spawn(function()
                return raised(c.value, c, "select pg_sleep(10)")
            end)
            task.sleep(0.02)
            c:release()
            local problem = slow:join()
            assert.is_true(errors.is(problem, "usage"), tostring(problem))
            assert.matches("released", problem.message)
            local seconds, v = pg.timed(e.value, e, "select 1")
            assert.equal(1, v)
            assert(seconds < 5, seconds) -- of the 10 that the statement sleeps
        end
        pg.settled(e)
    end)

    it("a connection released while a task waits for its drain raises in that task", function()
        local e <close> = pg.engine { size = 1, overflow = 0 }
        local c = e:acquire()
        pcall(task.timeout, 0.02, c.value, c, "select pg_sleep(10)")
        local waiting = task.spawn(function()
            return raised(c.value, c, "select 1")
        end)
        local other = task.spawn(function()
            return raised(c.value, c, "select 2")
        end)
        task.sleep(0)
        c:release()
        assert.is_true(errors.is(waiting:join(), "usage"))
        assert.is_true(errors.is(other:join(), "usage"))
        assert.equal(1, e:value "select 1")
    end)

    it("a connection released in the middle of its rows makes the next row an error", function()
        local e <close> = pg.engine { size = 1, overflow = 0 }
        local c = e:acquire()
        local n = 0
        local problem = raised(function()
            for _ in c:rows "select generate_series(1, 100000)" do
                n = n + 1
                if n == 3 then
                    c:release()
                end
            end
        end)
        assert.is_true(errors.is(problem, "usage"), tostring(problem))
        assert.equal(3, n)
        assert.equal(1, e:value "select 1")
    end)

    it("conn:cancel ends the statement of another task with 57014", function()
        local e <close> = pg.engine { size = 2 }
        local c <close> = e:acquire()
        for _ = 1, 5 do
            local slow = task.spawn(function()
                return raised(c.value, c, "select pg_sleep(10)")
            end)
            pg.eventually(10, function() -- before it has begun, a server has nothing to cancel
                return e:value("select exists (select from pg_stat_activity where pid = $1::int and state = 'active' "
                    .. "and query = 'select pg_sleep(10)')", c:backend_pid())
            end, "the statement's begin")
            c:cancel()
            local problem = slow:join()
            assert.equal("57014", problem.sqlstate)
            assert.is_true(errors.is(problem, "cancelled"))
            assert.equal(1, c:value "select 1")
        end
        c:cancel() -- no statement runs: no effect
        assert.equal(1, c:value "select 1")
    end)
end)

describe("a lease that is forgotten", function()
    for _, mode in ipairs { "async", "sync" } do
        it("[" .. mode .. "] is closed, not reused, and named in the log with its line", function()
            local result = run_script(([[
                local db = require "dbrun.db"
                local e <close> = db.engine { url = os.getenv "DATABASE_URL", mode = "%s", size = 1 }
                local function leak()
                    local c = e:acquire()
                    return c:value "select pg_backend_pid()"
                end
                local pid = leak()
                collectgarbage() collectgarbage()
                assert(e:value "select pg_backend_pid()" ~= pid)
                assert(e:stats().open == 1 and e:stats().leased == 0)
            ]]):format(mode))
            assert.equal("", result.stdout)
            assert.is_true(result.ok, result.stderr)
            assert.matches("stdin:4", result.stderr)
            assert.matches("never released", result.stderr)
        end)
    end

    it("that runs LISTEN is warned once in the log that it gets no notifications", function()
        local result = run_script [[
            local db = require "dbrun.db"
            for _, e in ipairs { db.async, db.sync } do
                local c = e:acquire()
                c:exec 'listen "the orders"'
                for _ = 1, 3 do c:exec 'notify "the orders"' end
                c:release()
                print(e:value "select 5")
            end
        ]]
        assert.equal("5\n5\n", result.stdout)
        local _, told = result.stderr:gsub("on the channel 'the orders' was dropped", "")
        assert.equal(2, told, result.stderr)
    end)

    it("at the end of the program is closed like the rest", function()
        local result = run_script [[
            local db = require "dbrun.db"
            c = db.async:acquire()
            s = db.sync:acquire()
            rows = db.async:rows "select generate_series(1, 1000000)"
            local e = db.engine { url = os.getenv "DATABASE_URL" }
            d = e:acquire()
            d:exec "begin"
        ]]
        assert.is_true(result.ok, result.stderr)
    end)

    it("with statements in flight when the program fails does no harm", function()
        for _ = 1, 5 do
            local result = run_script [[
                local db, task = require "dbrun.db", require "dbrun.task"
                for i = 1, 10 do
                    task.spawn(function() db.async:value "select pg_sleep(30)" end)
                    task.spawn(function() db.async:transaction(function(tx) tx:exec "select pg_sleep(30)" end) end)
                end
                task.sleep(0.05)
                error "the end"
            ]]
            assert.equal(1, result.code)
            assert.matches("the end", result.stderr)
        end
    end)

    it("that waits for its connection cannot be ended from outside of its task", function()
        local e <close> = pg.engine { size = 1, overflow = 0 }
        local held = e:acquire()
        local meta = getmetatable(held)
        local waiting, found, got
        do
            local g <close> = task.group()
            g:spawn(function()
                waiting = coroutine.running()
                local c <close> = e:acquire()
                got = c:value "select 7"
            end)
            repeat task.sleep(0) until e:stats().waiting == 1
            -- Only the debug library sees it: among the values of the C function that waits.
            for i = 1, 5 do
                local _, v = debug.getlocal(waiting, 0, i)
                if getmetatable(v) == meta then
                    found = v
                end
            end
            assert.is_truthy(found)
            meta.__gc(found)
            meta.__close(found)
            assert.matches("released", raised(found.value, found, "select 1").message)
            assert.equal(1, e:stats().waiting)
            held:release()
        end
        assert.equal(7, got)
        assert.same({ 0, 0 }, { e:stats().waiting, e:stats().leased })
    end)

    it("that still waits for its connection when the program ends is abandoned", function()
        local result = run_script [[
            local db, task = require "dbrun.db", require "dbrun.task"
            local e = db.engine { url = os.getenv "DATABASE_URL", size = 1, overflow = 0 }
            local held = e:acquire()
            for _ = 1, 3 do task.spawn(function() e:acquire(); print "never" end) end
            repeat task.sleep(0) until e:stats().waiting == 3
            os.exit(3, true)
        ]]
        assert.equal(3, result.code, result.stderr)
        assert.equal("", result.stdout)
    end)

    it("and os.exit in the middle of statements does no harm, either", function()
        for _, close in ipairs { "true", "false" } do
            local result = run_script(([[
                local db, task = require "dbrun.db", require "dbrun.task"
                for i = 1, 10 do
                    task.spawn(function() db.async:value "select pg_sleep(30)" end)
                end
                local c = db.async:acquire()
                pcall(task.timeout, 0.05, c.value, c, "select pg_sleep(30)")
                os.exit(7, %s)
            ]]):format(close))
            assert.equal(7, result.code, result.stderr)
        end
    end)
end)
