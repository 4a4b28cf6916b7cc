--- engine:advisory_lock: one holder at a time, among all programs that use the same key, and always released.

local advisory = require "dbrun.db.advisory"
local db = require "dbrun.db"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

pg.on_both(describe, function(mode, open)
    --- The number of advisory locks held in this database.
    local function held(e)
        return e:value [[select count(*) from pg_locks where locktype = 'advisory' and granted
            and database = (select oid from pg_database where datname = current_database())]]
    end

    --- A session of another program that holds a key until its block ends.
    local function other(key)
        local e = pg.engine { mode = "sync", application_name = "the other" }
        local conn = e:acquire()
        assert.is_true(conn:value("select pg_try_advisory_lock($1)", key))
        return setmetatable({ conn = conn }, {
            __close = function()
                pcall(conn.release, conn)
                getmetatable(e).__close(e)
            end,
        })
    end

    describe("an advisory lock", function()
        it("is held by the connection that the function gets, and released when it returns", function()
            local e <close> = open()
            local a, b, c = e:advisory_lock("report", function(conn)
                assert.equal(1, held(conn))
                assert.equal(conn:backend_pid(), conn:value "select pid from pg_locks where locktype = 'advisory'")
                return 1, nil, "x"
            end)
            assert.same({ 1, nil, "x" }, { a, b, c })
            assert.equal(0, held(e))
            assert.equal(1, pg.settled(e).opened)
        end)

        it("has a number or a text as its key; the number of a text is documented", function()
            local e <close> = open()
            local function key_of(conn)
                return conn:value [[select (classid::bigint << 32) | objid::bigint from pg_locks
                    where locktype = 'advisory' and objsubid = 1]]
            end
            for _, key in ipairs { 0, 1, -1, math.maxinteger, math.mininteger } do
                assert.equal(key, e:advisory_lock(key, key_of))
            end
            assert.equal(advisory.hash "report", e:advisory_lock("report", key_of))
            assert.equal(0xaf63dc4c8601ec8c, advisory.hash "a") -- the published value of FNV-1a
        end)

        it("is released when the function raises, and the error is raised unchanged", function()
            local e <close> = open()
            for _, thing in ipairs { "text", { 1 }, 7, false } do
                assert.equal(thing, raised(e.advisory_lock, e, "report", function() error(thing, 0) end))
            end
            local err = raised(e.advisory_lock, e, "report", function(conn) conn:query "select 1 / 0" end)
            assert.equal("22012", err.sqlstate)
            assert.equal(0, held(e))
            assert.equal(1, pg.settled(e).opened)
        end)

        it("rolls back a transaction that the function left open before another gets the lock, and says so", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local err = raised(e.advisory_lock, e, "report",
                function(conn) conn:exec(("begin; insert into %s values (1)"):format(t)) end)
            assert.matches("the function left a transaction open, and it was rolled back", err.message)
            assert.equal(0, held(e))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            err = raised(e.advisory_lock, e, "report",
                function(conn) pcall(conn.exec, conn, "begin; select 1 / 0") end)
            assert.equal("usage", err.kind)
            assert.equal(0, held(e))
        end)

        it("waits for another program, which the error names after a timeout", function()
            local e <close> = open()
            local holder <close> = other(advisory.hash "report")
            local seconds, err = pg.timed(raised, e.advisory_lock, e, "report", { timeout = 0.2 }, function() end)
            assert.equal("timeout", err.kind)
            assert.matches("the advisory lock 'report' was not free within 0.2 s: it is held by process "
                .. holder.conn:backend_pid() .. " %(the other, role ", err.message)
            assert.is_true(err.retryable)
            assert.is_true(seconds >= 0.19 and seconds < 10)
            assert.equal(1, held(e))
            assert.equal(0, pg.settled(e).invalidated)
            assert.equal("timeout", raised(e.advisory_lock, e, "report", { timeout = 0 }, function() end).kind)
            e:advisory_lock("another", { timeout = 0 }, function() end)
            holder.conn:query("select pg_advisory_unlock_all()")
            e:advisory_lock("report", { timeout = 0 }, function() end)
        end)

        it("that was lost before the work ended is an error, unless the work raises its own", function()
            local e <close> = open()
            local killer <close> = pg.engine { mode = "sync" }
            for _, lose in ipairs {
                function(conn) killer:value("select pg_terminate_backend($1, 5000)", conn:backend_pid()) end,
                function(conn) conn:query "select pg_advisory_unlock_all()" end,
                function(conn) conn:release() end,
            } do
                local err = raised(e.advisory_lock, e, "report", lose)
                assert.equal("connect", err.kind)
                assert.equal("unknown", err.outcome)
                assert.matches("the advisory lock 'report' was lost before the function returned", err.message)
                assert.equal("mine", raised(e.advisory_lock, e, "other report", function(conn)
                    lose(conn)
                    error("mine", 0)
                end))
                e:invalidate() -- a connection that the function itself released still holds it
            end
            pg.eventually(10, function() return held(killer) == 0 end)
        end)

        it("on a leased connection can be taken again, and inside its transaction", function()
            local e <close> = open()
            local conn <close> = e:acquire()
            local t = pg.table(conn, "i int")
            conn:transaction(function(tx)
                tx:advisory_lock("report", function(inner)
                    inner:advisory_lock("report", function()
                        inner:query(("insert into %s values (1)"):format(t))
                    end)
                    assert.equal(1, held(inner))
                end)
                assert.equal(0, held(tx))
            end)
            assert.equal(1, conn:value(("select count(*) from %s"):format(t)))
        end)

        it("ends with the connection when the transaction around it failed", function()
            local e <close> = open()
            local err = raised(e.transaction, e, function(tx)
                tx:advisory_lock("report", function() pcall(tx.query, tx, "select 1 / 0") end)
            end)
            assert.equal("25P02", err.sqlstate)
            assert.equal(1, pg.settled(e).closed)
            pg.eventually(10, function() return held(e) == 0 end)
        end)

        it("refuses invalid arguments before it takes a connection", function()
            local e <close> = open()
            local function fn() end
            for _, args in ipairs { { 1.5, fn }, { {}, fn }, { nil, fn, n = 2 }, { "x" }, { "x", 5, fn },
                { "x", { timeout = -1 }, fn }, { "x", { timeout = "1" }, fn }, { "x", { wait = 1 }, fn } } do
                assert.equal("usage", raised(e.advisory_lock, e, table.unpack(args, 1, args.n or 3)).kind)
            end
            assert.equal(0, e:stats().opened)
        end)

        it("requested again by the same task is an error, not an endless wait", function()
            local e <close> = open()
            local err = raised(e.advisory_lock, e, "report", function()
                e:advisory_lock("report", function() end)
            end)
            assert.equal("usage", err.kind)
            assert.matches("would wait for itself", err.message)
            e:advisory_lock("report", function() e:advisory_lock("another", function() end) end)
            assert.equal(0, held(e))
        end)
    end)

    if mode == "sync" then return end

    describe("tasks that want the same lock", function()
        it("get it in the order they came, and only one of them holds a connection", function()
            local e <close> = open { size = 2 }
            local order, most, inside = {}, 0, 0
            task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, 8, function(i)
                e:advisory_lock("report", function(conn)
                    inside = inside + 1
                    most = math.max(most, inside)
                    order[#order + 1] = i
                    conn:query "select pg_sleep(0.002)"
                    assert.equal(1, e:value "select 1") -- there is a connection left for the work
                    inside = inside - 1
                end)
            end)
            assert.equal(1, most)
            assert.same({ 1, 2, 3, 4, 5, 6, 7, 8 }, order)
            assert.equal(0, held(e))
        end)

        it("wait no longer than their limit", function()
            local e <close> = open()
            local gate = task.queue()
            task.all {
                function() e:advisory_lock("report", function() gate:pop() end) end,
                function()
                    local err = pace.takes(0.04, 0.2, function()
                        return raised(e.advisory_lock, e, "report", { timeout = 0.05 }, print)
                    end)
                    assert.equal("timeout", err.kind)
                    assert.matches("another task of this program", err.message)
                    gate:push(true)
                end,
            }
            assert.equal(0, held(e))
        end)

        it("never hold it together with those of other programs", function()
            local url <const> = pg.url()
            local engines = {}
            local _ <close> = setmetatable({}, { __close = function()
                for _, engine in ipairs(engines) do engine:close() end
            end })
            for i = 1, 3 do engines[i] = db.engine { url = url, size = 4, overflow = 0 } end
            local t = pg.table(engines[1], "n int")
            engines[1]:query(("insert into %s values (0)"):format(t))
            local jobs = {}
            for i = 1, 30 do jobs[i] = i end
            task.map(jobs, 30, function(i)
                local e = engines[i % 3 + 1]
                e:advisory_lock("count", { timeout = 10 }, function()
                    local n = e:value(("select n from %s"):format(t))
                    task.sleep(0.001)
                    e:query(("update %s set n = $1"):format(t), n + 1)
                end)
            end)
            assert.equal(30, engines[1]:value(("select n from %s"):format(t)))
        end)
    end)

    it("an advisory lock is released by a cancellation at any moment", function()
        local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local e <close> = open { size = 3 }
        local watcher <close> = pg.engine { mode = "sync" }
        for _ = 1, 60 do
            local group <close> = task.group()
            local tasks = {}
            for i = 1, 3 do
                tasks[i] = group:spawn(function()
                    pcall(e.advisory_lock, e, "report", { timeout = 3 }, function(conn)
                        conn:query "select pg_sleep(0.001)"
                    end)
                end)
            end
            task.sleep(math.random() * 0.01)
            tasks[math.random(3)]:cancel()
            tasks[math.random(3)]:cancel()
        end
        local ok, why = pcall(e.advisory_lock, e, "report", { timeout = 3 }, function() end)
        assert(ok, ("seed %d: %s"):format(seed, tostring(why)))
        pg.settled(e)
        assert(held(watcher) == 0, "seed " .. seed)
    end)
end)
