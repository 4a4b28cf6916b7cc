--- Prepared statements in pipelines: used by name, stale, lost, more than the cache keeps.

local pg = require "spec.support.pg"

local raised = pg.raised

pg.on_both(describe, function(_, open_engine)
    local e

    before_each(function()
        e = open_engine { size = 1, overflow = 0 }
        e:exec [[create or replace function hidden(sql text) returns void language plpgsql as
            'begin execute sql; end']]
    end)
    after_each(function() e:dispose() end)

    --- Runs SQL without dbrun's knowledge, as another program would.
    local function behind(sql)
        e:value("select hidden($1)", sql)
    end

    local function prepared(like)
        return e:value("select count(*) from pg_prepared_statements where statement like $1", like)
    end

    local function pipeline(...)
        local list <const> = { ... }
        return e:pipeline(function(p)
            for _, item in ipairs(list) do p:query(table.unpack(item)) end
        end)
    end

    it("a statement is prepared when it runs again, and then runs by its name", function()
        for i = 1, 5 do
            assert.equal(i + 1, pipeline({ "select $1::int + 1 as v", i })[1][1].v)
            assert.equal(i > 1 and 1 or 0, prepared "select $1::int + 1%")
        end
        assert.equal(8, e:value("select $1::int + 1 as v", 7))
        assert.equal(1, prepared "select $1::int + 1%")
    end)

    it("the same statement many times in one pipeline gives each its own result", function()
        for round = 1, 3 do
            local list <const> = {}
            for i = 1, 50 do list[i] = { "select $1::int * 2 as v", i * round } end
            for i, result in ipairs(pipeline(table.unpack(list))) do assert.equal(i * round * 2, result[1].v) end
        end
    end)

    it("more statements than the cache keeps give the right results, repeatedly", function()
        local small <close> = open_engine { size = 1, overflow = 0, statement_cache = 3 }
        for _ = 1, 4 do
            local results <const> = small:pipeline(function(p)
                for i = 1, 12 do
                    p:query(("select %d as v, $1::int as w"):format(i % 8), i)
                end
            end)
            for i, result in ipairs(results) do assert.same({ v = i % 8, w = i }, result[1]) end
            assert.is_true(small:value "select count(*) from pg_prepared_statements" <= 6)
        end
    end)

    it("a statement that another program's change made stale runs again, with all of its pipeline", function()
        local t <const> = pg.table(e, "i int")
        local insert <const>, read <const> = ("insert into %s (i) values ($1)"):format(t), "select * from " .. t
        for i = 1, 3 do pipeline({ insert, i }, { read }) end
        behind(("alter table %s add j text default 'x'"):format(t))
        local results = pipeline({ insert, 4 }, { read })
        assert.equal(4, #results[2])
        assert.same({ i = 4, j = "x" }, results[2][4])
        behind(("alter table %s alter i type text"):format(t))
        results = pipeline({ insert, "five" }, { read })
        assert.equal(5, #results[2])
        assert.same({ i = "five", j = "x" }, results[2][5])
        assert.equal(5, e:value("select count(*) from " .. t))
    end)

    it("an error of the caller is raised, and the pipeline is rolled back", function()
        local t <const> = pg.table(e, "i int primary key")
        local insert <const> = ("insert into %s (i) values ($1)"):format(t)
        for i = 1, 3 do pipeline({ insert, i }) end
        local err <const> = raised(pipeline, { insert, 4 }, { insert, "five" })
        assert.equal("22P02", err.sqlstate)
        assert.equal(insert, err.statement)
        assert.matches("statement 2", err.context)
        assert.equal("failed", err.outcome)
        assert.equal("23505", raised(pipeline, { insert, 4 }, { insert, 1 }).sqlstate)
        assert.equal(3, e:value("select count(*) from " .. t))
    end)

    it("in a transaction a stale statement is an error that a retry fixes", function()
        local t <const> = pg.table(e, "i int")
        local read <const> = "select * from " .. t
        for _ = 1, 3 do pipeline({ read }) end
        behind(("alter table %s add j int"):format(t))
        local err <const> = raised(e.transaction, e, function(tx)
            tx:pipeline(function(p) p:query(read) end)
        end)
        assert.equal("0A000", err.sqlstate)
        assert.is_true(err.retryable)
        assert.matches("retry", err.hint)
        pipeline({ read })
        behind(("alter table %s add k int"):format(t))
        pipeline({ read }, { read })
        behind(("alter table %s add l int"):format(t))
        local runs = 0
        e:transaction({ retry = 1 }, function(tx)
            runs = runs + 1
            tx:pipeline(function(p) p:query(read) end)
        end)
        assert.equal(2, runs)
    end)

    it("after a BEGIN in the pipeline no name is used, because the pipeline could not run again", function()
        local t <const> = pg.table(e, "i int")
        local read <const>, insert <const> = "select * from " .. t, ("insert into %s (i) values ($1)"):format(t)
        for i = 1, 3 do pipeline({ "begin" }, { insert, i }, { read }, { "commit" }) end
        assert.equal(0, prepared("select * from " .. t))
        pipeline({ read })
        pipeline({ read })
        behind(("alter table %s add j int default 7"):format(t))
        local results <const> = pipeline({ "begin" }, { insert, 4 }, { read }, { "commit" })
        assert.same({ i = 4, j = 7 }, results[3][4])
    end)

    it("DDL in the pipeline applies to the statements after it", function()
        local t <const> = pg.table(e, "i int")
        local read <const> = "select * from " .. t
        for _ = 1, 3 do pipeline({ ("insert into %s (i) values (1)"):format(t) }, { read }) end
        for n = 1, 3 do
            local results <const> = pipeline({ read }, { ("alter table %s add c%d int default %d"):format(t, n, n) },
                { read })
            assert.is_nil(results[1][1]["c" .. n])
            assert.equal(n, results[3][1]["c" .. n])
        end
    end)

    it("names that the server has lost are given up, and nothing runs twice", function()
        local t <const> = pg.table(e, "i int")
        local insert <const> = ("insert into %s (i) values ($1)"):format(t)
        for i = 1, 3 do pipeline({ insert, i }, { insert, i }) end
        behind "deallocate all"
        pipeline({ ("insert into %s (i) values (0)"):format(t) }, { insert, 4 })
        assert.equal("0,1,1,2,2,3,3,4", e:value(("select string_agg(i::text, ',' order by i) from %s"):format(t)))
        pipeline({ insert, 5 })
        assert.equal(0, prepared(insert .. "%"))
    end)

    it("execute_many parses its statement each time", function()
        local t <const> = pg.table(e, "i int")
        local insert <const> = ("insert into %s (i) values ($1)"):format(t)
        for _ = 1, 3 do assert.equal(2, e:execute_many(insert, { { 1 }, { 2 } })) end
        assert.equal(0, prepared(insert))
        behind(("alter table %s alter i type text"):format(t))
        assert.equal(3, e:execute_many(insert, { { 1 }, { "two" }, { "three" } }))
        assert.equal(9, e:value("select count(*) from " .. t))
    end)
end)
