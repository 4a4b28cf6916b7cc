--- Errors of prepared statements: those that come from changed types, and the state of the transaction meanwhile.

local db = require "dbrun.db"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

--- A column's type before and after, a value that both take, and one that only the later type takes. None of these
--- errors says "invalid text".
local changes = {
    { "xml", "text", "<a/>", "<a" },
    { "jsonb", "json", "1", [["\u0000"]] },
    { "tsquery", "text", "a & b", "a b" },
    { "jsonpath", "text", "$.a", "a b" },
    { "interval", "text", "1 day", "5000000000000000 years" },
    { "timestamptz", "text", "2024-01-01", "2024-01-01 00:00 Nowhere/Else" },
    { "int4range", "text", "[1,2)", "[3,1)" },
    { "int[]", "text", "{1}", "[2:1]={1}" },
    { "regclass", "text", "pg_class", "no_such_table" },
    { "regtype", "text", "int4", "no_such_type" },
    { "positive", "int", 5, -5 },
    { "required", "int", 5, nil },
}

pg.on_both(describe, function(_, open_engine)
    local function open(opts)
        local e = open_engine(opts)
        e:exec [[create or replace function hidden_ddl(sql text) returns void language plpgsql as
            'begin execute sql; end'; drop domain if exists positive, required cascade;
            create domain positive as int check (value > 0); create domain required as int not null]]
        return e
    end

    for _, case in ipairs(changes) do
        local before, after, warm, value = table.unpack(case, 1, 4)
        local name = ("of %s when it has become %s is looked into"):format(before, after)

        local function prepare(e)
            local t = pg.table(e, "v " .. before)
            local sql = ("insert into %s values ($1)"):format(t)
            for _ = 1, 3 do
                e:query(sql, warm)
            end
            e:value("select hidden_ddl($1)", ("delete from %s; alter table %s alter v type %s using null")
                :format(t, t, after))
            return sql, ("select v::text from %s"):format(t)
        end

        it("an error " .. name, function()
            local e <close> = open { size = 1, statement_cache_age = 0 }
            local sql, read = prepare(e)
            e:query(sql, value)
            assert.equal(value and tostring(value), e:value(read))
        end)

        it("an error " .. name .. " after a transaction with retry", function()
            local e <close> = open { size = 1, statement_cache_age = 0 }
            local sql, read = prepare(e)
            e:transaction({ retry = 1 }, function(tx) tx:query(sql, value) end)
            assert.equal(value and tostring(value), e:value(read))
        end)
    end

    local names = "select string_agg(name, ' ' order by name) from pg_prepared_statements where statement = $1"

    it("does not trust a description that ran into a timeout", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local other <close> = pg.engine { size = 1 }
        local t = pg.table(e, "v int")
        local sql = ("insert into %s values ($1)"):format(t)
        e:exec "set lock_timeout = '50ms'"
        for _ = 1, 3 do
            e:query(sql, 1)
        end
        local before = e:value(names, sql)
        e:value("select hidden_ddl($1)", ("comment on table %s is ''"):format(t)) -- a description locks it now
        other:transaction(function(tx)
            tx:exec(("lock table %s in access exclusive mode"):format(t))
            local err = raised(e.query, e, sql, 5000000000)
            assert.equal("22003", err.sqlstate)
            assert.equal("failed", err.outcome)
        end)
        assert.equal(before, e:value(names, sql))
    end)

    it("does not retry a transaction for the types that its parameters declare", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local sql = "select $1 is null"
        for _ = 1, 3 do
            assert.is_false(e:value(sql, db.typed("1", "int4")))
        end
        local tries = 0
        local err = raised(e.transaction, e, { retry = 3 }, function(tx)
            tries = tries + 1
            tx:value(sql, db.typed("one", "int4"))
        end)
        assert.equal("22P02", err.sqlstate)
        assert.equal(1, tries)
    end)

    --- Types that dbrun does not read in binary; the last one has no binary form at all.
    for _, target in ipairs { "money using v::money", "interval using make_interval(secs => v)",
        "aclitem using makeaclitem(10, 10, 'SELECT', false)" } do
        it("reads columns that have become " .. target, function()
            for _, text in ipairs { "select v from %s", "update %s set v = v returning v",
                "with x as (update %s set v = v returning v) select v from x" } do
                local e <close> = open { size = 1, statement_cache_age = 0.2 }
                local t = pg.table(e, "v int")
                e:exec(("insert into %s values (5)"):format(t))
                local sql = text:format(t)
                for _ = 1, 3 do
                    assert.equal(5, e:value(sql))
                end
                e:value("select hidden_ddl($1)", ("alter table %s alter v type %s"):format(t, target))
                task.sleep(0.25)
                local expected = e:value(("select v::text from %s"):format(t))
                for _ = 1, 3 do
                    assert.equal(expected, e:value(sql))
                    assert.equal(expected, e:transaction(function(tx) return tx:value(sql) end))
                end
            end
        end)
    end

    it("does not fail a transaction for an old statement that a pooler has lost", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local c <close> = e:acquire()
        for _ = 1, 3 do
            c:value("select $1::int", 1)
        end
        c:value("select hidden_ddl($1)", "deallocate " .. c:value(names, "select $1::int"))
        c:exec "set timezone = 'UTC'"
        c:exec "begin"
        for n = 1, 4 do
            assert.equal(n, c:value("select $1::int", n))
        end
        c:exec "commit"
    end)

    it("closes old statements in a long transaction, too, when there are many", function()
        local e <close> = open { size = 1, statement_cache_age = 0, statement_cache = 5 }
        local most = 0
        e:transaction(function(tx)
            for n = 1, 30 do
                for _ = 1, 3 do
                    tx:value("select $1::int", n)
                end
                tx:exec "set local timezone = 'UTC'"
                most = math.max(most, tx:value "select count(*) from pg_prepared_statements where name like 'dbrun%'")
            end
        end)
        assert.is_true(most > 1 and most <= 10, tostring(most))
        for n = 1, 30 do
            e:value("select $1::int8", n)
            e:exec "set timezone = 'UTC'"
            e:value("select $1::int8", n)
            e:value("select $1::int8", n)
        end
        assert.is_true(e:value "select count(*) from pg_prepared_statements where name like 'dbrun%'" <= 10)
    end)

    it("gives the error of a transaction whose function has released the connection", function()
        local e <close> = open { size = 1 }
        local cause = raised(e.query, e, "select 'x'::int")
        local err = raised(e.transaction, e, { retry = 2 }, function(tx)
            tx:release()
            error(cause, 0)
        end)
        assert.equal(cause, err)
    end)
end)
