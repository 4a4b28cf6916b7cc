--- engine:transaction: COMMIT when the function returns, ROLLBACK when it raises; nested ones, retries, deadlines.

local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

pg.on_both(describe, function(mode, open)
    local function count(e, t)
        return e:value(("select count(*) from %s"):format(t))
    end

    describe("a transaction", function()
        it("commits when the function returns, and returns what it returns", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local a, b, c = e:transaction(function(tx)
                tx:query(("insert into %s values ($1)"):format(t), 1)
                return 1, nil, "x"
            end)
            assert.same({ 1, nil, "x" }, { a, b, c })
            assert.equal(1, count(e, t))
        end)

        it("rolls back when it raises, and the error is raised unchanged", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            for _, thing in ipairs { "text", { 1 }, 7, false } do
                local problem = raised(e.transaction, e, function(tx)
                    tx:query(("insert into %s values (1)"):format(t))
                    error(thing, 0)
                end)
                assert.equal(thing, problem)
            end
            assert.equal(0, count(e, t))
            assert.equal(1, pg.settled(e).opened)
        end)

        it("rolls back when a statement fails, and the connection is used again", function()
            local e <close> = open()
            local t = pg.table(e, "i int primary key")
            local problem = raised(e.transaction, e, function(tx)
                tx:query(("insert into %s values (1)"):format(t))
                tx:query(("insert into %s values (1)"):format(t))
            end)
            assert.equal("23505", problem.sqlstate)
            assert.equal("failed", problem.outcome)
            assert.equal(0, count(e, t))
            assert.equal(1, e:stats().opened)
        end)

        it("whose failed statement was caught commits nothing and says so", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local problem = raised(e.transaction, e, function(tx)
                tx:query(("insert into %s values (1)"):format(t))
                pcall(tx.query, tx, "select 1/0")
            end)
            assert.equal("25P02", problem.sqlstate)
            assert.equal("failed", problem.outcome)
            assert.equal(0, count(e, t))
        end)

        it("keeps all its statements on one connection", function()
            local e <close> = open()
            e:transaction(function(tx)
                local pid = tx:backend_pid()
                for _ = 1, 5 do
                    assert.equal(pid, tx:value "select pg_backend_pid()")
                end
                assert.equal(1, e:stats().leased)
            end)
            assert.equal(0, e:stats().leased)
        end)

        it("accepts isolation, read_only and deferrable", function()
            local e <close> = open()
            e:transaction({ isolation = "serializable", read_only = true, deferrable = true }, function(tx)
                assert.equal("serializable", tx:value "show transaction_isolation")
                assert.equal("on", tx:value "show transaction_read_only")
                assert.equal("on", tx:value "show transaction_deferrable")
            end)
            e:transaction({ isolation = "repeatable read" }, function(tx)
                assert.equal("repeatable read", tx:value "show transaction_isolation")
            end)
            local problem = raised(e.transaction, e, { read_only = true }, function(tx)
                tx:exec "create table never (i int)"
            end)
            assert.equal("25006", problem.sqlstate)
        end)

        it("refuses unknown options and wrong arguments before a connection is taken", function()
            local e <close> = open()
            for _, args in ipairs { { { isolation = "chaos" } }, { { retries = 3 } }, { { retry = -1 } },
                { { retry = 1.5 } },
                { { timeout = "soon" } }, { { timeout = -1 } } } do
                local problem = raised(e.transaction, e, args[1], function() end)
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
            end
            assert.is_true(errors.is(raised(e.transaction, e), "usage"))
            assert.is_true(errors.is(raised(e.transaction, e, "BEGIN"), "usage"))
            assert.equal(0, e:stats().opened)
        end)

        it("on a leased connection leaves the connection leased and clean", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local c <close> = e:acquire()
            for i = 1, 3 do
                c:transaction(function(tx)
                    assert.equal("open", tx:in_transaction())
                    tx:query(("insert into %s values ($1)"):format(t), i)
                end)
                assert.equal(false, c:in_transaction())
                raised(c.transaction, c, function()
                    error "no"
                end)
                assert.equal(false, c:in_transaction())
            end
            assert.equal(3, count(c, t))
        end)
    end)

    describe("a nested transaction", function()
        it("is a savepoint: it is rolled back alone", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:transaction(function(tx)
                tx:query(("insert into %s values (1)"):format(t))
                local problem = raised(tx.transaction, tx, function(inner)
                    inner:query(("insert into %s values (2)"):format(t))
                    error("inner", 0)
                end)
                assert.equal("inner", problem)
                assert.equal("kept", tx:transaction(function(inner)
                    inner:query(("insert into %s values (3)"):format(t))
                    return "kept"
                end))
            end)
            assert.same({ { i = 1 }, { i = 3 } }, { table.unpack(e:query(("select i from %s order by i"):format(t))) })
        end)

        it("undoes a failed statement, and the outer one stays usable", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:transaction(function(tx)
                local problem = raised(tx.transaction, tx, function(inner)
                    inner:query "select 1/0"
                end)
                assert.equal("22012", problem.sqlstate)
                tx:query(("insert into %s values (1)"):format(t))
            end)
            assert.equal(1, count(e, t))
        end)

        it("whose failed statement was caught says that its work is lost", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:transaction(function(tx)
                local problem = raised(tx.transaction, tx, function(inner)
                    inner:query(("insert into %s values (1)"):format(t))
                    pcall(inner.query, inner, "select 1/0")
                end)
                assert.equal("25P02", problem.sqlstate)
                tx:query(("insert into %s values (2)"):format(t))
            end)
            assert.equal(2, e:value(("select i from %s"):format(t)))
        end)

        it("nests to any depth", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local function level(tx, n)
                tx:query(("insert into %s values ($1)"):format(t), n)
                if n < 10 then
                    local ok = pcall(tx.transaction, tx, function(inner)
                        level(inner, n + 1)
                        if n == 5 then
                            error "level 6 and below go"
                        end
                    end)
                    assert.equal(n ~= 5, ok)
                end
            end
            e:transaction(function(tx)
                level(tx, 1)
            end)
            assert.equal(5, count(e, t))
        end)

        it("is rolled back with the outer one", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            raised(e.transaction, e, function(tx)
                tx:transaction(function(inner)
                    inner:query(("insert into %s values (1)"):format(t))
                end)
                error "outer"
            end)
            assert.equal(0, count(e, t))
        end)
    end)

    describe("retry", function()
        it("runs the function again after a serialization failure, and only then", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local tries = 0
            assert.equal("done", e:transaction({ retry = 3 }, function(tx)
                tries = tries + 1
                tx:query(("insert into %s values ($1)"):format(t), tries)
                if tries < 3 then
                    tx:exec "do $$ begin raise exception 'again' using errcode = '40001'; end $$"
                end
                return "done"
            end))
            assert.equal(3, tries)
            assert.equal(1, count(e, t))
            assert.equal(3, e:value(("select i from %s"):format(t)))

            tries = 0
            local problem = raised(e.transaction, e, { retry = 3 }, function(tx)
                tries = tries + 1
                tx:query "select 1/0"
            end)
            assert.equal("22012", problem.sqlstate)
            assert.equal(1, tries)
        end)

        it("gives up after its number of tries, with the server's error", function()
            local e <close> = open()
            local tries = 0
            local problem = raised(e.transaction, e, { retry = 2 }, function(tx)
                tries = tries + 1
                tx:exec "do $$ begin raise exception 'again' using errcode = '40P01'; end $$"
            end)
            assert.equal("40P01", problem.sqlstate)
            assert.is_true(problem.retryable)
            assert.equal(3, tries)
        end)

        it("covers a COMMIT that fails", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:exec(([[create function %s_check() returns trigger language plpgsql as $$
                begin if new.i < 3 then raise exception 'again' using errcode = '40001'; end if; return new; end $$;
                create constraint trigger late after insert on %s deferrable initially deferred
                for each row execute function %s_check()]]):format(t, t, t))
            local tries = 0
            e:transaction({ retry = 5 }, function(tx)
                tries = tries + 1
                tx:query(("insert into %s values ($1)"):format(t), tries)
            end)
            assert.equal(3, tries)
            assert.equal(1, count(e, t))
        end)
    end)

    describe("timeout", function()
        it("ends the transaction at its deadline and rolls it back", function()
            local e <close> = open { size = 1, overflow = mode == "async" and 0 or nil }
            local t = pg.table(e, "i int")
            local problem = pace.takes(0.29, 0.4, function()
                return raised(e.transaction, e, { timeout = 0.3 }, function(tx)
                    tx:query(("insert into %s values (1)"):format(t))
                    tx:query "select pg_sleep(5)"
                end)
            end, function() e:value "select 1" end)
            assert.is_true(errors.is(problem, "timeout"), tostring(problem))
            assert.matches("0.3 s has passed (transaction)", problem.message, 1, true)
            assert.equal(0, count(e, t))
            assert.equal("idle", e:value [[select coalesce(max(state), 'idle') from pg_stat_activity
                where state = 'active' and pid <> pg_backend_pid() and backend_type = 'client backend'
                and datname = current_database()]])
        end)

        it("does not affect a faster transaction, or the work after it", function()
            local e <close> = open()
            local c <close> = e:acquire()
            pace.kept(function()
                assert.equal(1, c:transaction({ timeout = 0.3 }, function(tx)
                    return tx:value "select 1"
                end))
            end)
            c:value "select pg_sleep(0.5)"
        end)
    end)

    it("two transactions that collide both get true results", function()
        local e <close> = open { size = 2 }
        local t = pg.table(e, "k int primary key, v int")
        e:exec(("insert into %s values (1, 0)"):format(t))
        local other <close> = e:acquire()
        local problem = raised(e.transaction, e, { isolation = "repeatable read" }, function(tx)
            tx:value(("select v from %s"):format(t))
            other:query(("update %s set v = 5"):format(t))
            tx:query(("update %s set v = v + 1"):format(t))
        end)
        assert.equal("40001", problem.sqlstate)
        assert.is_true(problem.retryable)
        assert.equal(5, other:value(("select v from %s"):format(t)))
    end)
end)

describe("[async] a cancelled transaction", function()
    it("is rolled back at any point, and the connection is used again", function()
        local e <close> = pg.engine { size = 1 }
        local t = pg.table(e, "i int")
        local pid = e:value "select pg_backend_pid()"
        for _ = 1, 5 do
            local problem = raised(task.timeout, 0.1, e.transaction, e, function(tx)
                tx:query(("insert into %s values (1)"):format(t))
                tx:query "select pg_sleep(10)"
            end)
            assert.is_true(errors.is(problem, "timeout"))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end
        assert.equal(pid, e:value "select pg_backend_pid()")
    end)

    it("that was cancelled in its BEGIN leaves no open transaction behind", function()
        local e <close> = pg.engine { size = 1 }
        local t = pg.table(e, "i int")
        local c <close> = e:acquire()
        -- The moment of the cancel moves through BEGIN, the statement and COMMIT.
        local committed = 0
        for i = 0, 60 do
            local limit = i * 0.00002
            if pcall(task.timeout, limit, c.transaction, c, function(tx)
                    tx:query(("insert into %s values (1)"):format(t))
                end) then
                committed = committed + 1
            end
            c:transaction(function(tx)
                tx:query(("insert into %s values (2)"):format(t))
            end)
            assert.equal(false, c:in_transaction())
        end
        local outside <close> = pg.engine { size = 1 }
        local seen = outside:one(([[select count(*) filter (where i = 1) as one,
            count(*) filter (where i = 2) as two from %s]])
            :format(t))
        assert.equal(61, seen.two)
        assert(seen.one >= committed)
    end)

    it("waits out the rollback of a nested one that caught its cancellation", function()
        local e <close> = pg.engine { size = 1 }
        local t = pg.table(e, "i int")
        e:transaction(function(tx)
            tx:query(("insert into %s values (1)"):format(t))
            local problem = raised(tx.transaction, tx, function(inner)
                inner:query(("insert into %s values (2)"):format(t))
                pcall(task.timeout, 0.05, inner.query, inner, "select pg_sleep(10)")
            end)
            assert.equal("25P02", problem.sqlstate)
            tx:query(("insert into %s values (3)"):format(t))
        end)
        assert.equal(4, e:value(("select sum(i) from %s"):format(t)))
    end)
end)
