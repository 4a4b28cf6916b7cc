--- Statements and their results: query, one, value, exec, parameters.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"

local raised = pg.raised

pg.on_both(describe, function(_, open)
    describe("a statement", function()
        it("gives rows by column name", function()
            local e <close> = open()
            local r = e:query "select 1 as a, 'x' as b union all select 2, 'y' order by 1"
            assert.equal(2, #r)
            assert.same({ a = 1, b = "x" }, r[1])
            assert.same({ a = 2, b = "y" }, r[2])
        end)

        it("returns its columns, command and count", function()
            local e <close> = open()
            local r = e:query "select 1::int8 as a, 'x'::text as b"
            assert.same({ { name = "a", type = "int8", oid = 20 }, { name = "b", type = "text", oid = 25 } }, r.columns)
            assert.equal("SELECT", r.command)
            assert.equal(1, r.affected)
            local t = pg.table(e, "i int")
            r = e:query(("insert into %s select generate_series(1, 7)"):format(t))
            assert.equal("INSERT", r.command)
            assert.equal(7, r.affected)
            assert.same({}, r.columns)
            assert.equal(0, #r)
            r = e:query(("update %s set i = i + 1 where i > 4"):format(t))
            assert.equal("UPDATE", r.command)
            assert.equal(3, r.affected)
            assert.equal("CREATE TABLE", e:query(("create table %s_2 (i int)"):format(t)).command)
        end)

        it("leaves NULL out of a row by name", function()
            local e <close> = open()
            assert.same({ b = 2 }, e:query("select null as a, 2 as b")[1])
            assert.is_nil(e:value "select null::int")
        end)

        it("without rows gives an empty result", function()
            local e <close> = open()
            local r = e:query "select 1 as a where false"
            assert.equal(0, #r)
            assert.equal("a", r.columns[1].name)
            assert.equal(0, r.affected)
        end)

        it("can return rows from INSERT, UPDATE and DELETE", function()
            local e <close> = open()
            local t = pg.table(e, "id int generated always as identity, v text")
            assert.same({ id = 1, v = "x" }, e:one(("insert into %s (v) values ($1) returning *"):format(t), "x"))
            assert.equal(1, e:value(("delete from %s returning id"):format(t)))
        end)

        it("of many columns and rows is complete", function()
            local e <close> = open()
            local columns = {}
            for i = 1, 300 do
                columns[i] = ("g + %d as c%d"):format(i, i)
            end
            local r = e:query(("select %s from generate_series(1, 50) g"):format(table.concat(columns, ", ")))
            assert.equal(50, #r)
            assert.equal(300, #r.columns)
            for row = 1, 50 do
                for i = 1, 300 do
                    assert(r[row]["c" .. i] == row + i)
                end
            end
        end)

        it("of 100,000 rows is complete and in order", function()
            local e <close> = open()
            local r = e:query "select i, md5(i::text) as h from generate_series(1, 100000) i"
            assert.equal(100000, #r)
            for i = 1, #r, 997 do
                assert(r[i].i == i)
            end
            assert.equal("c4ca4238a0b923820dcc509a6f75849b", r[1].h)
        end)

        it("can carry a value of 20 MB in both directions", function()
            local e <close> = open()
            local big = ("0123456789"):rep(2 * 1024 * 1024)
            assert.equal(#big, e:value("select length($1::text)", big))
            assert(e:value("select $1::text", big) == big)
        end)

        it("of only comments, or empty, is no error", function()
            local e <close> = open()
            for _, sql in ipairs { "", "  ", "-- nothing", ";" } do
                local r = e:query(sql)
                assert.equal(0, #r)
                assert.equal(0, r.affected)
                assert.same({}, r.columns)
                assert.is_nil(e:value(sql))
                assert.is_nil(e:one(sql))
                assert.equal(0, e:exec(sql))
            end
        end)

        it("of several parts is refused by query, with a hint at exec", function()
            local e <close> = open()
            local problem = raised(e.query, e, "select 1; select 2")
            assert.equal("42601", problem.sqlstate)
            assert.matches("exec", problem.hint)
        end)

        it("that is not a string is a usage error, and nothing is sent", function()
            local e <close> = open()
            for _, sql in ipairs { 7, {}, true, print } do
                assert.is_true(errors.is(raised(e.query, e, sql), "usage"))
            end
            assert.is_true(errors.is(raised(e.query, e), "usage"))
            assert.is_true(errors.is(raised(e.query, e, "select 'a\0b'"), "usage"))
            assert.equal(0, e:stats().opened)
        end)
    end)

    describe("one", function()
        it("gives the row, or nil when there is none", function()
            local e <close> = open()
            assert.same({ a = 1 }, e:one "select 1 as a")
            assert.is_nil(e:one "select 1 as a where false")
        end)

        it("that gets more than one row says that the statement has run, and its outcome", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local sql = ("insert into %s values (1), (2) returning i"):format(t)
            for i = 1, 3 do
                local problem = raised(e.one, e, sql)
                assert.is_true(errors.is(problem, "usage"))
                assert.matches("returned 2 rows", problem.message)
                assert.matches("has run.*is committed", problem.detail)
                assert.equal("unknown", problem.outcome)
                assert.equal(2 * i, e:value(("select count(*) from %s"):format(t)))
            end
            local inside
            assert.is_false((pcall(e.transaction, e, function(tx)
                inside = raised(tx.one, tx, sql)
                error(inside, 0)
            end)))
            assert.matches("has run.*part of the open transaction", inside.detail)
            assert.equal(6, e:value(("select count(*) from %s"):format(t)))
        end)

        it("refuses more than one row and leaves the connection usable", function()
            local e <close> = open()
            local problem = raised(e.one, e, "select generate_series(1, 3)")
            assert.is_true(errors.is(problem, "usage"))
            assert.matches("3 rows", problem.message)
            assert.equal(1, e:value "select 1")
            assert.equal(1, e:stats().opened)
        end)
    end)

    describe("value", function()
        it("gives the first column of the first row", function()
            local e <close> = open()
            assert.equal(1, e:value "select 1, 2 union all select 3, 4 order by 1")
            assert.equal(false, e:value "select false")
        end)

        it("gives nil for no row, no column and NULL", function()
            local e <close> = open()
            assert.is_nil(e:value "select 1 where false")
            assert.is_nil(e:value "select")
            assert.is_nil(e:value "select null::text")
            assert.equal(1, select("#", e:value "select 1 where false"))
        end)
    end)

    describe("exec", function()
        it("runs several statements and counts the rows of the last", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            assert.equal(3, e:exec(("insert into %s values (1); insert into %s values (2), (3), (4)"):format(t, t)))
            assert.equal(4, e:value(("select count(*) from %s"):format(t)))
            assert.equal(0, e:exec(("create index on %s (i)"):format(t)))
        end)

        it("undoes all of them when one fails", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local problem = raised(e.exec, e, ("insert into %s values (1); select 1/0"):format(t))
            assert.equal("22012", problem.sqlstate)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("takes no parameters", function()
            local e <close> = open()
            assert.is_true(errors.is(raised(e.exec, e, "select $1", 1), "usage"))
        end)

        it("runs statements that cannot run inside a transaction", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            for _ = 1, 4 do
                e:exec("vacuum " .. t)
            end
        end)
    end)

    describe("parameters", function()
        it("are sent as $1, $2, ...", function()
            local e <close> = open()
            assert.equal("a-b-a", e:value("select $1::text || '-' || $2 || '-' || $1", "a", "b"))
        end)

        it("are sent as :name from a table, the same name once", function()
            local e <close> = open()
            assert.equal("a-b-a", e:value("select :x::text || '-' || :y || '-' || :x", { x = "a", y = "b" }))
            assert.equal(true, e:value("select :t and not :f", { t = true, f = false }))
        end)

        it("by name are not replaced in strings, casts and comments", function()
            local e <close> = open()
            assert.equal(":a7", e:value("select ':a' || :a::int::text -- :b\n /* :c */", { a = 7 }))
            assert.equal("5", e:value("select $$:x$$ || '' where false union all select :x::text", { x = 5 }))
        end)

        it("by name need each name, and a table of names needs :names", function()
            local e <close> = open()
            local problem = raised(e.value, e, "select :a, :b", { a = 1 })
            assert.is_true(errors.is(problem, "usage"))
            assert.matches(":b", problem.message, 1, true)
            assert.is_nil(e:value("select :a::int", { a = db.null }))
            assert.is_true(errors.is(raised(e.value, e, "select 1", { a = 1 }), "usage"))
            assert.is_true(errors.is(raised(e.value, e, "select $1", { 1, 2 }), "usage"))
        end)

        it("are never pasted into the SQL", function()
            local e <close> = open()
            for _, evil in ipairs { "'; drop table x; --", "\\", "$1", "$$", ":a", "\"", "E'\\''", "" } do
                assert.equal(evil, e:value("select $1::text", evil))
                assert.equal(evil, e:value("select :v::text", { v = evil }))
            end
        end)

        it("nil and db.null are NULL, also at the end", function()
            local e <close> = open()
            assert.equal(true, e:value("select $1::int is null and $2::text is null", nil, db.null))
            assert.equal(true, e:value("select $1::int = 1 and $2::text is null", 1, nil))
        end)

        it("numbers arrive exactly", function()
            local e <close> = open()
            for _, v in ipairs { 0, 1, -1, math.maxinteger, math.mininteger, 9007199254740993 } do
                assert.equal(v, e:value("select $1::int8", v))
            end
            for _, v in ipairs { 0.1, 1 / 3, 1e300, 5e-324, 2 ^ 53 + 1.0, 123456789.123456789, -0.0 } do
                local back = e:value("select $1::float8", v)
                assert(back == v and math.type(back) == "float" and 1 / back == 1 / v)
            end
            assert.equal(math.huge, e:value("select $1::float8", math.huge))
            assert.equal(-math.huge, e:value("select $1::float8", -math.huge))
            local nan = e:value("select $1::float8", 0 / 0)
            assert(nan ~= nan)
            assert.equal("0.1", e:value("select $1::numeric", 0.1))
        end)

        it("a float with a whole value can be sent to an integer column", function()
            local e <close> = open()
            assert.equal(3, e:value("select $1::int", 3.0))
            assert.equal("22P02", raised(e.value, e, "select $1::int", 3.5).sqlstate)
        end)

        it("of stated types: typed, array, json, bytea", function()
            local e <close> = open()
            assert.equal("numeric", e:value("select pg_typeof($1)::text", db.typed("1.50", "numeric")))
            assert.equal("1.50", e:value("select $1", db.typed("1.50", "numeric")))
            assert.equal("bigint[]", e:value("select pg_typeof($1)::text", db.array({ 1, 2 }, "int8")))
            assert.equal(2, e:value("select count(*) from unnest($1::int[]) i where i = any($2)", db.array { 1, 2, 3 },
                db.array({ 2, 3, 4 }, "int4")))
            assert.equal(3, e:value("select ($1::jsonb #>> '{a,1}')::int", db.json { a = { 2, 3 } }))
            assert.equal("\0\255\\x", e:value("select $1", db.bytea "\0\255\\x"))
            assert.equal(5, e:value("select length($1)", db.bytea "\0\0\0\0\0"))
        end)

        it("arrays keep quotes, commas, braces, NULL and dimensions", function()
            local e <close> = open()
            local hostile = { "a,b", "{c}", 'd"e', "f\\g", "", "NULL", " h ", db.null }
            local sql = "select $1::text[]::text"
            assert.equal([[{"a,b","{c}","d\"e","f\\g","","NULL"," h ",NULL}]], e:value(sql, db.array(hostile)))
            assert.equal("2", e:value("select (($1::int[])[2][1])::text", db.array { { 1 }, { 2 } }))
            assert.equal("{}", e:value("select $1::int[]::text", db.array {}))
            assert.equal("{t,f}", e:value("select $1::bool[]::text", db.array { true, false }))
        end)

        it("of impossible types are refused before anything is sent, naming the place", function()
            local e <close> = open()
            for _, v in ipairs { function() end, io.stdout, coroutine.create(print) } do
                local problem = raised(e.query, e, "select $1, $2", 1, v)
                assert.is_true(errors.is(problem, "usage"))
                assert.matches("$2", problem.message, 1, true)
            end
            local problem = raised(e.query, e, "select $1", "a\0b")
            assert.is_true(errors.is(problem, "usage"))
            assert.matches("NUL", problem.message)
            assert.equal("not_sent", problem.outcome)
            for _, bad in ipairs { "\255", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\xe2\x82" } do
                assert.matches("UTF%-8", raised(e.query, e, "select $1", bad).message)
            end
            assert.equal(0, e:stats().opened)
            -- The meaning of a table depends on the type that the server expects.
            for _, v in ipairs { {}, { 1 }, setmetatable({}, {}), { a = 1 } } do
                local refused = raised(e.query, e, "select $1::int, $2", 1, v)
                assert.same({ "usage", "not_sent" }, { refused.kind, refused.outcome })
                assert.matches("parameter $2 is a table, but its type is text", refused.message, 1, true)
                assert.matches("db.array", refused.hint, 1, true)
            end
        end)

        it("missing or too many are an error of the statement, not of the connection", function()
            local e <close> = open()
            for _ = 1, 3 do
                local problem = raised(e.query, e, "select $1::int, $2::int", 1)
                assert.is_true(errors.is(problem, "query"))
                assert.is_false(problem.retryable)
                assert.is_true(errors.is(raised(e.query, e, "select $1::int", 1, 2), "query"))
            end
            assert.equal(1, e:stats().opened)
        end)

        it("up to 65,535 work, 65,536 are refused and the connection stays usable", function()
            local e <close> = open()
            local values = {}
            for i = 1, 65535 do
                values[i] = i
            end
            -- No function takes so many arguments, but a VALUES list can.
            local list = {}
            for i = 1, 65535 do
                list[i] = ("($%d::int)"):format(i)
            end
            local sql = "select sum(i) from (values " .. table.concat(list, ",") .. ") v(i)"
            assert.equal(65535 * 65536 // 2, e:value(sql, table.unpack(values)))
            values[65536] = 1
            local problem = raised(e.value, e, sql, table.unpack(values))
            assert.is_true(errors.is(problem, "usage"))
            assert.matches("65,?535", problem.message)
            assert.equal(1, e:value "select 1")
            assert.equal(1, e:stats().opened)
        end)
    end)

    describe("identifiers", function()
        it("are quoted", function()
            assert.equal('"a"', db.ident "a")
            assert.equal('"a"."b"', db.ident "a.b")
            assert.equal('"a"."b.c"', db.ident { "a", "b.c" })
            assert.equal('"x""; drop"', db.ident 'x"; drop')
            assert.is_true(errors.is(raised(db.ident, ""), "usage"))
            assert.is_true(errors.is(raised(db.ident, "a\0b"), "usage"))
            assert.is_true(errors.is(raised(db.ident, {}), "usage"))
            assert.is_true(errors.is(raised(db.ident, "a..b"), "usage"))
        end)

        it("of any spelling name a table", function()
            local e <close> = open()
            local name = 'Ta"ble, with. $1 :x'
            e:exec(("create table %s (i int)"):format(db.ident { "public", name }))
            assert.equal(0, e:value(("select count(*) from %s"):format(db.ident { name })))
            e:exec("drop table " .. db.ident { name })
        end)
    end)

    describe("a leased connection", function()
        it("has the same methods, and is always the same one", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local pid = c:backend_pid()
            for _ = 1, 3 do
                assert.equal(pid, c:value "select pg_backend_pid()")
                assert.equal(pid, c:one("select pg_backend_pid() as pid").pid)
                assert.equal(pid, c:query("select pg_backend_pid() as pid")[1].pid)
            end
        end)

        it("returns the server's parameters", function()
            local e <close> = open()
            local c <close> = e:acquire()
            assert.equal(c:value "show server_version", c.parameters.server_version)
            assert.equal("UTF8", c.parameters.client_encoding)
            c:exec "set timezone = 'Asia/Kathmandu'"
            assert.equal("Asia/Kathmandu", c.parameters.TimeZone)
            assert.is_nil(c.parameters.no_such_parameter)
        end)

        it("is returned at the end of its block", function()
            local e <close> = open()
            do
                local c <close> = e:acquire()
                assert.equal(1, e:stats().leased)
                c:value "select 1"
            end
            assert.equal(0, e:stats().leased)
            assert.equal(1, e:stats().idle)
        end)
    end)
end)

describe("the async engine", function()
    it("says where tasks cannot wait, and names the sync engine", function()
        local e <close> = pg.engine()
        local problem = raised(table.sort, { 1, 2, 3 }, function(a, b)
            return e:value("select $1 < $2", a, b)
        end)
        assert.is_true(errors.is(problem, "usage"))
        assert.matches("db.sync", problem.message, 1, true)
        local sync <close> = pg.engine { mode = "sync" }
        local list = { 3, 1, 2 }
        table.sort(list, function(a, b)
            return sync:value("select $1::int < $2::int", a, b)
        end)
        assert.same({ 1, 2, 3 }, list)
    end)

    it("works inside the script's own coroutines", function()
        local e <close> = pg.engine()
        local next_value = coroutine.wrap(function()
            for i = 1, 3 do
                coroutine.yield(e:value("select $1::int", i))
            end
        end)
        assert.same({ 1, 2, 3 }, { next_value(), next_value(), next_value() })
    end)
end)
