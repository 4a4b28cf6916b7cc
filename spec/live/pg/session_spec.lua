--- engine:session(): a transaction from the first statement to commit or rollback.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local task = require "dbrun.task"

local raised = pg.raised

pg.on_both(describe, function(mode, open)
    describe("a session", function()
        it("takes no connection before its first statement", function()
            local e <close> = open()
            local s <close> = e:session()
            assert.equal(0, e:stats().acquired)
            s:commit()
            s:rollback()
            assert.equal(0, e:stats().acquired)
        end)

        it("begins with the first statement and keeps its connection until commit", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local s <close> = e:session()
            s:query(("insert into %s values (1)"):format(t))
            assert.equal(1, e:stats().leased)
            local before = e:value(("select count(*) from %s"):format(t))
            assert.equal(0, before)
            assert.equal(1, s:value(("select count(*) from %s"):format(t)))
            s:commit()
            assert.equal(0, e:stats().leased)
            assert.equal(1, e:value(("select count(*) from %s"):format(t)))
        end)

        it("that is closed without commit is rolled back", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            do
                local s <close> = e:session()
                s:query(("insert into %s values (1)"):format(t))
            end
            assert.equal(0, pg.settled(e).leased)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("that is left by an error is rolled back", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local problem = raised(function()
                local s <close> = e:session()
                s:query(("insert into %s values (1)"):format(t))
                error("left", 0)
            end)
            assert.equal("left", problem)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("keeps rows usable after commit and close", function()
            local e <close> = open()
            local row, result
            do
                local s <close> = e:session()
                result = s:query "select i, i * 2 as double from generate_series(1, 3) i"
                row = result[2]
                s:commit()
            end
            e:value "select 1"
            assert.equal(4, row.double)
            assert.equal(3, #result)
            assert.equal("i", result.columns[1].name)
        end)

        it("begins again after commit and after rollback", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local s <close> = e:session()
            s:query(("insert into %s values (1)"):format(t))
            s:commit()
            s:query(("insert into %s values (2)"):format(t))
            s:rollback()
            s:query(("insert into %s values (3)"):format(t))
            s:commit()
            assert.equal(4, e:value(("select sum(i) from %s"):format(t)))
        end)

        it("sends nothing on its own", function()
            local e <close> = open()
            local s <close> = e:session()
            s:value "select 1"
            local pid = s:value "select pg_backend_pid()"
            local watcher <close> = open { size = 1 }
            local function last_query()
                return watcher:value("select query from pg_stat_activity where pid = $1", pid)
            end
            assert.equal("select pg_backend_pid()", last_query())
            s:commit()
            assert.equal("COMMIT", last_query())
        end)

        it("in which a statement failed commits nothing and says so", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local s <close> = e:session()
            s:query(("insert into %s values (1)"):format(t))
            assert.equal("22012", raised(s.query, s, "select 1/0").sqlstate)
            assert.equal("25P02", raised(s.query, s, "select 1").sqlstate)
            assert.equal("25P02", raised(s.commit, s).sqlstate)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            assert.equal(7, s:value "select 7")
            s:commit()
        end)

        it("has query, one, value, exec, copy_in and nested transactions", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local s <close> = e:session()
            assert.equal(2, s:exec(("insert into %s values (1), (2)"):format(t)))
            assert.equal(2, s:copy_in(t, { "i" }, { { 3 }, { 4 } }))
            raised(s.transaction, s, function(tx)
                tx:query(("delete from %s"):format(t))
                error "no"
            end)
            assert.same({ n = 4 }, s:one(("select count(*)::int as n from %s"):format(t)))
            assert.equal(10, s:value(("select sum(i) from %s"):format(t)))
            s:rollback()
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("refuses statements and commit after close, and closes twice without harm", function()
            local e <close> = open()
            local s = e:session()
            s:value "select 1"
            s:close()
            s:close()
            assert.is_true(errors.is(raised(s.query, s, "select 1"), "usage"))
            assert.is_true(errors.is(raised(s.commit, s), "usage"))
            assert.equal(0, pg.settled(e).leased)
        end)

        it("is ended only by commit and rollback, not by the script's SQL", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local s <close> = e:session()
            s:query(("insert into %s values (1)"):format(t))
            assert.equal("not_sent", pg.raised(s.exec, s, "commit").outcome)
            s:query(("insert into %s values (2)"):format(t))
            s:rollback()
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("whose connection was lost says so, and is usable after rollback", function()
            local e <close> = open { size = 2 }
            local t = pg.table(e, "i int")
            local s <close> = e:session()
            s:query(("insert into %s values (1)"):format(t))
            local pid = s:value "select pg_backend_pid()"
            e:value("select pg_terminate_backend($1, 2000)", pid)
            local problem = raised(s.query, s, ("insert into %s values (2)"):format(t))
            assert.is_true(errors.is(problem, "connect"), tostring(problem))
            -- It never continues silently without its transaction.
            assert.is_true(errors.is(raised(s.query, s, ("insert into %s values (3)"):format(t)), "connect"))
            assert.is_true(errors.is(raised(s.commit, s)))
            s:rollback()
            s:query(("insert into %s values (4)"):format(t))
            s:commit()
            assert.equal(4, e:value(("select sum(i) from %s"):format(t)))
        end)
    end)

    it("two sessions see each other's changes only after commit", function()
        local e <close> = open { size = 2 }
        local t = pg.table(e, "i int")
        local a <close> = e:session()
        local b <close> = e:session()
        a:query(("insert into %s values (1)"):format(t))
        assert.equal(0, b:value(("select count(*) from %s"):format(t)))
        a:commit()
        assert.equal(1, b:value(("select count(*) from %s"):format(t)))
    end)

    it("a session whose BEGIN was interrupted does not continue outside of a transaction", function()
        local e <close> = open { size = 1, command_timeout = 0.3 }
        local t = pg.table(e, "i int")
        local pid = e:value "select pg_backend_pid()"
        local s <close> = e:session()
        process.kill(pid, "STOP")
        local ok = pcall(s.query, s, ("insert into %s values (1)"):format(t))
        process.kill(pid, "CONT")
        assert.is_false(ok)
        task.sleep(0.05)
        pcall(s.query, s, ("insert into %s values (2)"):format(t))
        pcall(s.rollback, s)
        s:close()
        local outside <close> = pg.engine { mode = mode }
        assert.equal(0, outside:value(("select count(*) from %s"):format(t)))
    end)
end)
