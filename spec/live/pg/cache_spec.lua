--- The statement cache: repeated statements are prepared, and their results stay right.

local core = require "dbrun.core"
local db = require "dbrun.db"
local pg = require "spec.support.pg"

local raised = pg.raised

pg.on_both(describe, function(_, open)
    describe("the statement cache", function()
        local names = "select count(*) from pg_prepared_statements where name like 'dbrun%'"

        it("prepares statements that run a second time, at most as many as its size", function()
            local e <close> = open { statement_cache = 5 }
            local c <close> = e:acquire()
            assert.equal(0, c:value(names))
            for i = 1, 20 do
                for _ = 1, 3 do
                    assert.equal(i, c:value(("select %d"):format(i)))
                end
            end
            c:exec "select 1" -- not counted
            local kept = c:value(names)
            assert(kept <= 5, kept)
        end)

        it("of 0 prepares nothing", function()
            local e <close> = open { statement_cache = 0 }
            local c <close> = e:acquire()
            for _ = 1, 5 do
                assert.equal(7, c:value("select $1::int", 7))
            end
            assert.equal(0, c:value(names))
        end)

        it("does not grow on the server when the program changes its statements", function()
            local e <close> = open { statement_cache = 30 }
            local c <close> = e:acquire()
            for phase = 1, 8 do
                for _ = 1, 3 do
                    for i = 1, 30 do
                        assert.equal(i, c:value(("select %d -- phase %d"):format(i, phase)))
                    end
                end
            end
            assert(c:value(names) <= 31)
        end)

        it("notices that a column changed its type", function()
            local e <close> = open()
            local t = pg.table(e, "v int")
            e:exec(("insert into %s values (42)"):format(t))
            local c <close> = e:acquire()
            for n = 0, 4 do
                local sql = ("select * from %s -- %d"):format(t, n)
                for _ = 1, n do
                    assert.equal(42, c:one(sql).v)
                end
                e:exec(("alter table %s alter v type numeric(10, 2)"):format(t))
                assert.equal("42.00", c:one(sql).v)
                assert.equal("42.00", c:one(sql).v)
                e:exec(("alter table %s alter v type text"):format(t))
                assert.equal("42.00", c:one(sql).v)
                e:exec(("alter table %s alter v type int using v::numeric::int"):format(t))
            end
        end)

        it("notices that a column was added or dropped", function()
            local e <close> = open()
            local t = pg.table(e, "a int")
            e:exec(("insert into %s values (1)"):format(t))
            local c <close> = e:acquire()
            local sql = ("select * from %s"):format(t)
            for _ = 1, 4 do
                assert.same({ a = 1 }, c:one(sql))
            end
            e:exec(("alter table %s add b text default 'x'"):format(t))
            for _ = 1, 4 do
                assert.same({ a = 1, b = "x" }, c:one(sql))
                assert.equal(2, #c:query(sql).columns)
            end
            e:exec(("alter table %s drop a"):format(t))
            for _ = 1, 4 do
                assert.same({ b = "x" }, c:one(sql))
            end
        end)

        it("does not confuse the rows of a pipeline with those of the iteration before", function()
            local e <close> = open { size = 1 }
            local c <close> = e:acquire()
            for n = 1, 4 do
                local seen = 0
                for row in c:rows "select generate_series(1, 3) as i" do
                    seen = seen + row.i
                end
                assert.equal(6, seen)
                local results = c:pipeline(function(p)
                    p:query("select $1::int as v", n)
                    p:query "select generate_series(1, 2) as v"
                end)
                assert.same({ { v = n } }, { table.unpack(results[1]) })
                assert.equal(2, #results[2])
            end
        end)

        it("notices changes in rows() and columns(), too", function()
            local e <close> = open()
            local t = pg.table(e, "a int")
            e:exec(("insert into %s values (1)"):format(t))
            local c <close> = e:acquire()
            local function rows_of(sql)
                local list = {}
                for row in c:rows(sql) do
                    list[#list + 1] = row
                end
                return list
            end
            for n = 0, 4 do
                local sql = ("select * from %s -- %d"):format(t, n)
                for _ = 1, n do
                    assert.same({ { a = 1 } }, rows_of(sql))
                    assert.same({ a = { 1 } }, (c:columns(sql)))
                end
                c:exec(("alter table %s add b numeric default 1.5"):format(t))
                for _ = 1, 3 do
                    assert.same({ { a = 1, b = "1.5" } }, rows_of(sql))
                    assert.same({ a = { 1 }, b = { "1.5" } }, (c:columns(sql)))
                end
                c:exec(("alter table %s drop b; do $$ begin execute 'deallocate all'; end $$"):format(t))
                core.log.level "error"
                assert.same({ { a = 1 } }, rows_of(sql))
                core.log.level "warn"
            end
        end)

        it("does not mistake another table of the same name", function()
            local e <close> = open()
            local c <close> = e:acquire()
            for n = 1, 4 do
                local sql = ("select v from shadow -- %d"):format(n)
                c:exec "create temp table shadow (v int); insert into shadow values (1)"
                for _ = 1, n do
                    assert.equal(1, c:value(sql))
                end
                c:exec "drop table shadow; create temp table shadow (v numeric); insert into shadow values (1.5)"
                for _ = 1, 3 do
                    assert.equal("1.5", c:value(sql))
                end
                c:exec "drop table shadow"
            end
        end)

        it("does not mistake another cursor of the same name", function()
            local e <close> = open()
            e:transaction(function(tx)
                for _, kind in ipairs { { "1::int", 1 }, { "1.5::numeric", "1.5" }, { "'x'::text", "x" } } do
                    tx:exec(("declare c cursor for select %s as v from generate_series(1, 9)"):format(kind[1]))
                    for _ = 1, 4 do
                        assert.equal(kind[2], tx:value "fetch next from c")
                    end
                    tx:exec "close c"
                end
            end)
        end)

        it("gives a parameter the type it has now, not the one it had before", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local sql = "select $1 as v"
            for n = 1, 4 do
                for _ = 1, n do
                    assert.same({ v = "5" }, c:one(sql, "5"))
                end
                for _ = 1, n do
                    assert.same({ v = 5 }, c:one(sql, db.typed(5, "int8")))
                end
                assert.equal("bytea", c:query(sql, db.bytea "5").columns[1].type)
                assert.same({ v = "\0\255" }, c:one(sql, db.bytea "\0\255"))
            end
        end)

        for _, words in ipairs { "DISCARD ALL", "discard all", "DEALLOCATE ALL", "deallocate prepare all" } do
            it("survives " .. words .. " and goes on caching", function()
                local e <close> = open { statement_cache_age = 0 }
                local c <close> = e:acquire()
                for round = 1, 3 do
                    for _ = 1, 4 do
                        assert.equal(round, c:value("select $1::int", round))
                    end
                    c:exec(words)
                    assert.equal(0, c:value(names))
                    for _ = 1, 4 do
                        assert.equal(round, c:value("select $1::int", round))
                    end
                    c:query(words)
                end
                for _ = 1, 4 do
                    c:value "select 1 as again"
                end
                assert(c:value(names) >= 1)
            end)
        end

        it("survives an unnoticed DEALLOCATE ALL", function()
            local e <close> = open()
            local c <close> = e:acquire()
            for _ = 1, 4 do
                assert.equal(5, c:value("select $1::int", 5))
            end
            c:exec "do $$ begin execute 'deallocate all'; end $$"
            core.log.level "error" -- it is logged once
            for _ = 1, 4 do
                assert.equal(6, c:value("select $1::int", 6))
            end
            core.log.level "warn"
        end)

        it("runs a statement that failed before", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local t = pg.table(e, "i int primary key")
            local sql = ("insert into %s values ($1)"):format(t)
            for i = 1, 5 do
                assert.equal(1, c:query(sql, i).affected)
                assert.equal("23505", raised(c.query, c, sql, i).sqlstate)
            end
            for _ = 1, 4 do
                assert.equal("42P01", raised(c.query, c, "select * from not_yet_there").sqlstate)
            end
            c:exec "create temp table not_yet_there (i int)"
            for _ = 1, 4 do
                assert.equal(0, #c:query "select * from not_yet_there")
            end
        end)

        it("runs utility statements many times, also when others were just evicted", function()
            local e <close> = open { statement_cache = 2 }
            local c <close> = e:acquire()
            local t = pg.table(e, "i int")
            for i = 1, 6 do
                for _ = 1, 3 do
                    c:value(("select %d"):format(i))
                end
                c:query("vacuum " .. t)
                c:query("vacuum " .. t)
                assert.equal("UTF8", c:value "show server_encoding")
                c:query("explain select 1")
            end
        end)

        it("works in a failed transaction as far as possible", function()
            local e <close> = open()
            local c <close> = e:acquire()
            for n = 1, 3 do
                c:exec "begin"
                raised(c.query, c, "select 1/0")
                for _ = 1, n do
                    assert.equal("25P02", raised(c.query, c, "select 1 as failed").sqlstate)
                end
                c:exec "rollback"
                assert.equal(1, c:value "select 1 as failed")
            end
        end)
    end)
end)
