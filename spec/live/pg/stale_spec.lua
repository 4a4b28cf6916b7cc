--- Prepared statements whose meaning has changed since they were parsed: types, tables, settings; changed by this
--- connection, by other connections of the program, by other programs.

local db = require "dbrun.db"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

--- The meaning of a parameter before and after a change. `loud`: the old meaning gives an error, not a wrong value.
local changes = {
    { name = "timestamp to timestamptz", before = "timestamp", after = "timestamptz", warm = "2024-01-01T12:00:00",
        value = "2024-01-01T12:00:00+05:00", stored = "2024-01-01 07:00:00" },
    { name = "date to timestamptz", before = "date", after = "timestamptz", warm = "2024-01-01",
        value = "2024-01-01T12:30:00+00:00", stored = "2024-01-01 12:30:00" },
    { name = "int to bigint", before = "int", after = "bigint", warm = 5, value = 5000000000, stored = "5000000000",
        loud = true },
    { name = "smallint to numeric", before = "smallint", after = "numeric", warm = 5, value = "1.25", stored = "1.25",
        loud = true },
    { name = "int to text", before = "int", after = "text", warm = 5, value = "five", stored = "five", loud = true },
    { name = "timestamp to text", before = "timestamp", after = "text", warm = "2024-01-01", value = "noon",
        stored = "noon", loud = true },
    { name = "int to int[]", before = "int", after = "int[] using array[v]", warm = 5, value = db.array { 1, 2 },
        stored = "{1,2}", loud = true },
}

pg.on_both(describe, function(mode, open_engine)
    local function open(opts)
        local e = open_engine(opts)
        e:exec [[create or replace function hidden_ddl(sql text) returns void language plpgsql as
            'begin execute sql; end']]
        return e
    end

    --- Runs DDL without dbrun's knowledge, as another program would: in a function that a SELECT calls.
    local function behind(engine, sql)
        engine:value("select hidden_ddl($1)", sql)
    end

    local function read(engine, t)
        return engine:value(("select v::text from %s"):format(t))
    end

    --- Every way to send a cached statement; each stores the value in `t`.
    local ways = {
        query = function(e, sql, value) e:query(sql, value) end,
        one = function(e, sql, value) assert.is_true(e:one(sql .. " returning true as done", value).done) end,
        value = function(e, sql, value) assert.is_true(e:value(sql .. " returning true", value)) end,
        columns = function(e, sql, value)
            assert.same({ true }, e:columns(sql .. " returning true as done", value).done)
        end,
        rows = function(e, sql, value)
            for row in e:rows(sql .. " returning true as done", value) do assert.is_true(row.done) end
        end,
        named = function(e, sql, value) e:query((sql:gsub("%$1", ":v")), { v = value }) end,
    }

    for _, case in ipairs(changes) do
        describe("a parameter from " .. case.name, function()
            local function prepare(e, way)
                local t = pg.table(e, ("v %s"):format(case.before))
                e:exec("set timezone = 'UTC'")
                for _ = 1, 3 do
                    way(e, ("insert into %s values ($1)"):format(t), case.warm)
                end
                return t, ("insert into %s values ($1)"):format(t)
            end

            local function check(e, way, t, sql)
                e:exec(("delete from %s"):format(t)) -- TRUNCATE would count as DDL
                way(e, sql, case.value)
                assert.equal(case.stored, (read(e, t):gsub("%+00$", "")))
            end

            for name, way in pairs(ways) do
                it(("is right at once when the connection changed it itself (%s)"):format(name), function()
                    local e <close> = open { size = 1, statement_cache_age = 0 }
                    local t, sql = prepare(e, way)
                    e:exec(("alter table %s alter v type %s"):format(t, case.after))
                    check(e, way, t, sql)
                end)

                it(("is right in the transaction that changed it (%s)"):format(name), function()
                    local e <close> = open { size = 1, statement_cache_age = 0 }
                    e:transaction(function(tx)
                        local t, sql = prepare(tx, way)
                        tx:exec(("alter table %s alter v type %s"):format(t, case.after))
                        check(tx, way, t, sql)
                    end)
                end)
            end

            it("is right again after the transaction that changed it was rolled back", function()
                local e <close> = open { size = 1, statement_cache_age = 0 }
                local t, sql = prepare(e, ways.query)
                raised(function()
                    e:transaction(function(tx)
                        tx:exec(("alter table %s alter v type %s"):format(t, case.after))
                        for _ = 1, 3 do
                            tx:query(sql, case.value)
                        end
                        error "undo"
                    end)
                end)
                for _ = 1, 3 do
                    e:query(sql, case.warm)
                end
                local c <close> = e:acquire()
                c:exec "begin; savepoint a"
                c:exec(("alter table %s alter v type %s"):format(t, case.after))
                for _ = 1, 3 do
                    c:query(sql, case.value)
                end
                c:exec "rollback to savepoint a"
                for _ = 1, 3 do
                    c:query(sql, case.warm)
                end
                c:exec "commit"
                c:query(sql, case.warm)
            end)

            it("is right from the COMMIT of another connection on", function()
                local e <close> = open { size = 2, statement_cache_age = 0 }
                local one <close> = e:acquire()
                local other <close> = e:acquire()
                local t, sql = prepare(one, ways.query)
                other:exec(("set timezone = 'UTC'; begin; alter table %s alter v type %s"):format(t, case.after))
                other:exec "commit"
                check(one, ways.query, t, sql)
            end)

            it("is right when another program changed it and the cache entry has expired", function()
                local e <close> = open { size = 1, statement_cache_age = 0.2 }
                local t, sql = prepare(e, ways.query)
                behind(e, ("alter table %s alter v type %s"):format(t, case.after))
                task.sleep(0.25)
                check(e, ways.query, t, sql)
            end)

            if case.loud then
                it("is noticed by its error when another program changed it", function()
                    local e <close> = open { size = 1, statement_cache_age = 0 }
                    local t, sql = prepare(e, ways.query)
                    behind(e, ("alter table %s alter v type %s"):format(t, case.after))
                    check(e, ways.query, t, sql)
                end)

                it("is noticed in a transaction with retry", function()
                    local e <close> = open { size = 1, statement_cache_age = 0 }
                    local t, sql = prepare(e, ways.query)
                    behind(e, ("alter table %s alter v type %s"):format(t, case.after))
                    local tries = 0
                    e:transaction({ retry = 3 }, function(tx)
                        tries = tries + 1
                        tx:query(sql, case.value)
                    end)
                    assert.equal(2, tries)
                end)
            end
        end)
    end

    it("keeps an entry when the input is bad and no type has changed", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local t = pg.table(e, "v int")
        local sql = ("insert into %s values ($1)"):format(t)
        for _ = 1, 3 do
            e:query(sql, 1)
        end
        local names = "select string_agg(name, ' ' order by name) from pg_prepared_statements where statement = $1"
        local before = e:value(names, sql)
        for value, state in pairs { [5000000000] = "22003", word = "22P02" } do
            local err = raised(e.query, e, sql, value)
            assert.equal(state, err.sqlstate)
            assert.equal("failed", err.outcome)
            assert.equal(sql, err.statement)
            assert.equal(state, raised(e.transaction, e, { retry = 5 }, function(tx) tx:query(sql, value) end).sqlstate)
        end
        assert.equal(before, e:value(names, sql))
        assert.equal(3, e:value(("select count(*) from %s"):format(t)))
    end)

    it("gives the new meaning's error when the statement is wrong now", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local t = pg.table(e, "v int")
        local sql = ("select v + $1 from %s"):format(t)
        for _ = 1, 3 do
            e:query(sql, 1)
        end
        behind(e, ("alter table %s alter v type text"):format(t))
        assert.equal("42883", raised(e.query, e, sql, 5000000000).sqlstate)
    end)

    for _, kind in ipairs {
        { "enum", "create type %s as enum ('a')", "create type %s as enum ('a', 'b')", "a", "b" },
        { "domain", "create domain %s as int", "create domain %s as text", "1", "b" },
        { "composite", "create type %s as (a int)", "create type %s as (a text)", "(1)", "(b)" },
    } do
        it("survives that a " .. kind[1] .. " is dropped and recreated", function()
            local e <close> = open { size = 1, statement_cache_age = 0 }
            for n, run in ipairs { e.exec, behind } do
                local name = ("again_%s_%s_%d"):format(mode, kind[1], n)
                e:exec(kind[2]:format(name))
                local sql = ("select $1::%s::text"):format(name)
                for _ = 1, 3 do
                    assert.equal(kind[4], e:value(sql, kind[4]))
                end
                run(e, ("drop %s %s"):format(kind[1] == "domain" and "domain" or "type", name))
                run(e, kind[3]:format(name))
                assert.equal(kind[5], e:value(sql, kind[5]))
            end
        end)
    end

    it("distinguishes two tables of one name by the search path", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        e:exec "drop schema if exists tenant1 cascade; drop schema if exists tenant2 cascade"
        e:exec "create schema tenant1; create schema tenant2"
        e:exec "create table tenant1.things (v int); create table tenant2.things (v text)"
        local sql = "insert into things values ($1) returning v"
        for _, set in ipairs {
            function(c, path) c:exec("set search_path = " .. path) end,
            function(c, path) c:value("select set_config('search_path', $1, false)", path) end,
            function(c, path) c:query("select pg_catalog.\"set_config\"('search_path', $1, false)", path) end,
            function(c, path) c:exec(("do $$ begin set search_path = %s; end $$"):format(path)) end,
        } do
            local c <close> = e:acquire()
            set(c, "tenant1")
            for _ = 1, 3 do
                assert.equal(7, c:value(sql, 7))
            end
            set(c, "tenant2")
            for _ = 1, 3 do
                assert.equal("seven", c:value(sql, "seven"))
            end
            set(c, "tenant1")
            assert.equal(7, c:value(sql, 7))
            c:exec "reset search_path"
        end
    end)

    for _, create in ipairs {
        "create temp table %s (v int)", "create temporary table %s as select 1 as v",
        "select 1 as v into temp %s", "with x as (select 1 as v) select v into temporary %s from x",
        "/* a comment */ create temp view %s as select 1 as v", "do $$ begin create temp table %s (v int); end $$",
        "explain analyze create temp table %s as select 1 as v",
    } do
        it("does not delete from the permanent table hidden by: " .. create, function()
            local e <close> = open { size = 1, statement_cache_age = 0 }
            local t = pg.table(e, "v int")
            e:exec(("insert into %s values (1)"):format(t))
            local c <close> = e:acquire()
            local sql = ("select count(*) from %s where v >= $1"):format(t)
            for _ = 1, 3 do
                assert.equal(1, c:value(sql, 1))
            end
            c:query(create:format(t))
            c:exec(("create or replace temp view %s_x as select 1"):format(t))
            if not create:find "view" then
                c:query(("delete from %s where v = $1"):format(t), 1)
            end
            assert.equal(1, c:value(("select count(*) from public.%s"):format(t)))
            c:exec(("drop %s pg_temp.%s"):format(create:find "view" and "view" or "table", t))
            for _ = 1, 3 do
                assert.equal(1, c:value(sql, 1))
            end
        end)
    end

    it("sees the permanent table again when a temporary one is dropped at COMMIT", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local t = pg.table(e, "v int")
        local sql = ("insert into %s values ($1)"):format(t)
        local c <close> = e:acquire()
        for _ = 1, 3 do
            c:query(sql, 1)
        end
        for _, finish in ipairs { "commit", "rollback", "commit and chain; rollback", "end" } do
            c:exec(("begin; create temp table %s (v int) on commit drop"):format(t))
            for _ = 1, 3 do
                c:query(sql, 2)
            end
            c:exec(finish)
            c:query(sql, 3)
        end
        assert.equal(7, c:value(("select count(*) from %s"):format(t)))
    end)

    it("reads literals by the current settings", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local c <close> = e:acquire()
        local sql = "select extract(epoch from timestamptz '2024-01-01 12:00')::bigint"
        local function hour()
            local value
            for _ = 1, 3 do
                value = c:value(sql)
            end
            return (value - 1704067200) // 3600
        end
        c:exec "set timezone = 'UTC'"
        assert.equal(12, hour())
        c:exec "set timezone = 'Asia/Tokyo'"
        assert.equal(3, hour())
        c:value "select set_config('TimeZone', 'UTC', false)"
        assert.equal(12, hour())
        for _, finish in ipairs { "commit", "rollback", "commit and chain; commit" } do
            c:exec "begin; set local timezone = 'Asia/Tokyo'"
            assert.equal(3, hour())
            c:exec(finish)
            assert.equal(12, hour())
        end
        c:exec "begin; savepoint a; set local timezone = 'Asia/Tokyo'"
        assert.equal(3, hour())
        c:exec "rollback to savepoint a"
        assert.equal(12, hour())
        c:exec "commit; set timezone = 'Asia/Tokyo'"
        assert.equal(3, hour())
        c:exec "discard all"
        c:exec "set timezone = 'UTC'"
        assert.equal(12, hour())
        -- the text does not show that a function sets it; the server reports the new value
        c:exec [[create or replace function to_tokyo() returns void language sql set search_path from current as
            $$ select pg_catalog.set_config('TimeZone', 'Asia/Tokyo', false) $$]]
        assert.equal(12, hour())
        c:query "select to_tokyo()"
        assert.equal(3, hour())
        c:exec "reset all"
    end)

    it("reads date literals by DateStyle", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local c <close> = e:acquire()
        local sql = "select extract(month from date '02/03/2024')::int"
        for _, case in ipairs { { "iso, mdy", 2 }, { "iso, dmy", 3 }, { "iso, mdy", 2 } } do
            c:exec(("set datestyle = '%s'"):format(case[1]))
            for _ = 1, 3 do
                assert.equal(case[2], c:value(sql))
            end
        end
    end)

    it("changes the columns of a statement in a transaction at most once", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local t = pg.table(e, "a int")
        e:exec(("insert into %s values (1)"):format(t))
        local sql = ("select * from %s"):format(t)
        for n = 1, 3 do
            for _ = 1, 3 do
                e:one(sql)
            end
            behind(e, ("alter table %s add column b%d int default %d"):format(t, n, n))
            local err = raised(e.transaction, e, function(tx) return tx:one(sql) end)
            assert.equal("0A000", err.sqlstate)
            assert.is_true(err.retryable)
            assert.matches("retry", err.hint)
            assert.equal(n, e:transaction(function(tx) return tx:one(sql)["b" .. n] end))
            behind(e, ("alter table %s add column c%d int default %d"):format(t, n, n))
            assert.equal(n, e:transaction({ retry = 1 }, function(tx) return tx:one(sql)["c" .. n] end))
        end
    end)

    it("reads columns that can no longer be read in binary", function()
        for _, target in ipairs { "interval using make_interval(secs => v)", "xml using xmlelement(name a, v)",
            "money using v::money", "inet using '127.0.0.1'::inet" } do
            local e <close> = open { size = 1, statement_cache_age = 0.2 }
            local t = pg.table(e, "v int")
            e:exec(("insert into %s values (5)"):format(t))
            local sql = ("select v from %s"):format(t)
            for _ = 1, 3 do
                assert.equal(5, e:value(sql))
            end
            behind(e, ("alter table %s alter v type %s"):format(t, target))
            task.sleep(0.25)
            local expected = e:value(("select v as text from %s"):format(t))
            assert.equal(expected, e:value(sql))
            for row in e:rows(sql) do
                assert.equal(expected, row.v)
            end
            assert.equal(expected, e:columns(sql).v[1])
        end
    end)

    it("keeps a statement prepared within its age", function()
        local e <close> = open { size = 1, statement_cache_age = 60 }
        local c <close> = e:acquire()
        local sql = "select $1::int"
        local name = "select string_agg(name, ' ') from pg_prepared_statements where statement = $1"
        for _ = 1, 5 do
            c:value(sql, 1)
        end
        local first = c:value(name, sql)
        assert.matches("^dbrun_[%w_]+$", first)
        c:value(sql, 1)
        assert.equal(first, c:value(name, sql))
    end)

    it("closes the old statement when it prepares a new one", function()
        local e <close> = open { size = 1, statement_cache_age = 0 }
        local c <close> = e:acquire()
        for n = 1, 20 do
            for _ = 1, 3 do
                assert.equal(n, c:value("select $1::int", n))
            end
            c:exec "set timezone = 'UTC'"
        end
        assert.equal(1, c:value "select count(*) from pg_prepared_statements where statement = 'select $1::int'")
    end)

    if mode == "async" then
        for _, case in ipairs(changes) do
            it("holds on shared connections: " .. case.name, function()
                local e <close> = open { size = 2, pipeline = 4, statement_cache_age = case.loud and 0 or 0.2 }
                local t = pg.table(e, ("v %s"):format(case.before))
                local sql = ("insert into %s values ($1) returning v::text"):format(t)
                local function storm(value)
                    local list = {}
                    for i = 1, 20 do
                        list[i] = function() return e:value(sql, value) end
                    end
                    return task.all(list)
                end
                for _ = 1, 10 do
                    storm(case.warm)
                end
                behind(e, ("alter table %s alter v type %s"):format(t, case.after))
                task.sleep(case.loud and 0 or 0.25)
                local expected
                for _, stored in ipairs(storm(case.value)) do
                    expected = expected or stored
                    assert.equal(expected, stored)
                end
                if case.loud then
                    assert.equal(case.stored, expected)
                end
                assert.equal(20, e:value(("select count(*) from %s where v::text = $1"):format(t), expected))
            end)
        end
    end
end)
