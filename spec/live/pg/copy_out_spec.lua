--- engine:copy_out: rows or text of a query or a table.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

local function all(iterator)
    local list = {}
    for item in iterator do list[#list + 1] = item end
    return list
end

local function text_of(iterator)
    return table.concat(all(iterator))
end

--- One value of each type that query supports, and a row of NULLs, for text and binary format.
local every_type <const> = [[
select true as b, 1::int2 as i2, -2::int4 as i4, 9007199254740993::int8 as i8, 7::oid as o, 0.1::float4 as f4,
    'NaN'::float8 as nan, '-infinity'::float8 as inf, 12.3400::numeric as n,
    E'tab\tnl\ncr\r\b\f\v\\ \\N ö'::text as s,
    'x'::char(3) as c, '\x00ff5c0a09'::bytea as y, '2024-02-29'::date as d, '12:30:00.5'::time as t,
    '2024-02-29 12:00'::timestamp as ts, '0044-03-15 12:00+00 BC'::timestamptz as tz,
    '{"a":[1,{}],"b":null}'::jsonb as j,
    '[]'::json as ja, '{1,NULL,3}'::int[] as a, '[0:1][5:5]={{a},{"b,\\\\"}}'::text[] as a2, '[1,5)'::int4range as r,
    '1 day'::interval as iv, '\N'::text as bn, ''::text as empty
union all select null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
    null, null, null, null, null, null, null]]

pg.on_both(describe, function(_, open)
    describe("copy_out of rows", function()
        it("gives the same values as query, in text and in binary", function()
            local e <close> = open()
            local expected = e:query(every_type)
            local binary = every_type:gsub("'[^']*'::int4range", "null::text"):gsub("12.3400::numeric", "null::text")
                :gsub("'1 day'::interval", "null::text")
            for _, sql in ipairs { every_type, binary } do
                local rows = all(e:copy_out(sql, sql == binary and { format = "binary" } or nil))
                assert.equal(2, #rows)
                assert.is_nil(next(rows[2]))
                assert.is_true(rows[1].nan ~= rows[1].nan)
                for key, value in pairs(rows[1]) do
                    if key ~= "nan" then assert.same(expected[1][key], value, key) end
                end
            end
        end)

        it("gives exactly the columns of query", function()
            local e <close> = open()
            local expected, got = e:query(every_type)[1], all(e:copy_out(every_type))[1]
            for key in pairs(expected) do assert.is_not_nil(got[key], key) end
        end)

        it("gives the same values in text and in binary on request", function()
            local e <close> = open()
            local sql = "select i, i / 7.0::float8 as f, 'n' || i as s, i % 2 = 0 as b from generate_series(1, 100) i"
            local text, binary = all(e:copy_out(sql, { format = "text" })), all(e:copy_out(sql, { format = "binary" }))
            assert.equal(100, #text)
            assert.same(text, binary)
        end)

        it("gives rows by position with db.null on request", function()
            local e <close> = open()
            assert.same({ { 1, db.null, "x" }, { db.null, 2.5, db.null } }, all(e:copy_out(
                "values (1, null::float8, 'x'), (null, 2.5, null)", { positional = true })))
        end)

        it("of a table gives all columns that are not generated, or the named ones", function()
            local e <close> = open()
            local t = pg.table(e, [[i int, twice int generated always as (i * 2) stored, "S x" text]])
            e:copy_in(t, { "i", "S x" }, { { 1, "a" }, { 2, "b" } })
            assert.same({ { i = 1, ["S x"] = "a" }, { i = 2, ["S x"] = "b" } }, all(e:copy_out(t)))
            assert.same({ { twice = 2 }, { twice = 4 } }, all(e:copy_out({ t }, { columns = { "twice" } })))
            assert.same({ { "a", 1 }, { "b", 2 } }, all(e:copy_out("public." .. t, { columns = { "S x", "i" },
                positional = true })))
        end)

        it("of a view and of a partitioned table works too", function()
            local e <close> = open()
            local t = pg.table(e, "i int) partition by range (i")
            e:exec((([[create table T_1 partition of T for values from (1) to (10);
                create view T_v as select i + 1 as j from T]]):gsub("%f[%w]T", t)))
            e:copy_in(t, { "i" }, { { 1 }, { 2 } })
            assert.same({ { i = 1 }, { i = 2 } }, all(e:copy_out(t)))
            assert.same({ { j = 2 }, { j = 3 } }, all(e:copy_out(t .. "_v")))
        end)

        it("of a query that changes data gives what it returns", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:copy_in(t, { "i" }, { { 1 }, { 2 }, { 3 } })
            assert.same({ { i = 1 }, { i = 2 } }, all(e:copy_out(("delete from %s where i < 3 returning i"):format(t))))
            assert.equal(1, e:value(("select count(*) from %s"):format(t)))
        end)

        it("accepts a semicolon and a comment at the end", function()
            local e <close> = open()
            assert.same({ { i = 1 } }, all(e:copy_out "select 1 as i; \n"))
            assert.same({ { i = 1 } }, all(e:copy_out "select 1 as i -- one"))
            assert.same({ { s = ";" } }, all(e:copy_out "select ';' as s; /* that */ ; -- was all;"))
        end)

        it("can be passed to copy_in directly", function()
            local e <close> = open()
            local a = pg.table(e, "i int, s text, y bytea, j jsonb, l int[], ts timestamptz")
            local b = pg.table(e, "i int, s text, y bytea, j jsonb, l int[], ts timestamptz")
            e:exec(([[insert into %s select i, 's' || i, decode(to_hex(i + 16), 'hex'), jsonb_build_object('i', i),
                array[i, null], '2024-01-01'::timestamptz + i * interval '1 s'
                from generate_series(1, 200) i]]):format(a))
            local columns = { "i", "s", "y", "j", "l", "ts" }
            assert.equal(200, e:copy_in(b, columns, e:copy_out(a)))
            assert.equal(200, e:copy_in(b, columns, e:copy_out(a, { positional = true })))
            assert.equal(0, e:value(("select count(*) from (select * from %s except select * from %s) q"):format(a, b)))
            assert.equal(400, e:value(("select count(*) from %s"):format(b)))
            pg.settled(e)
        end)

        it("supports composites, enums and custom codecs", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:exec((([[create type T_e as enum ('red'); create type T_c as (x int, y text);
                create domain T_d as int]]):gsub("%f[%w]T", t)))
            local sql = ([[select 'red'::T_e as e, row(1, 'two')::T_c as c, 5::T_d as d, array['red']::T_e[] as l]])
                :gsub("%f[%w]T", t)
            assert.same({ { e = "red", c = { x = 1, y = "two" }, d = 5, l = { "red" } } }, all(e:copy_out(sql)))
            e:set_codec("int4", { decode = function(text) return "<" .. text .. ">" end })
            assert.same({ { i = "<5>" } }, all(e:copy_out "select 5 as i"))
        end)

        it("keeps its connection while a codec runs", function()
            local e <close> = open()
            local rows
            e:set_codec("int4", { decode = function(text)
                assert.matches("a codec cannot continue", raised(rows).message)
                assert.matches("a codec cannot continue", raised(getmetatable(rows).__close, rows).message)
                return text == "2" and error("a two", 0) or "<" .. text .. ">"
            end })
            rows = e:copy_out "select generate_series(1, 3) as i"
            assert.same({ i = "<1>" }, rows())
            assert.equal("a two", raised(rows))
            assert.same({ i = "<3>" }, rows())
            assert.is_nil(rows())
        end)

        it("of many rows is complete, in little memory", function()
            local e <close> = open()
            collectgarbage()
            local n, sum, most = 0, 0, 0
            local before = collectgarbage "count"
            for row in e:copy_out "select i, repeat('x', 50) as s from generate_series(1, 200000) i" do
                n, sum = n + 1, sum + row.i
                if n % 50000 == 0 then
                    collectgarbage()
                    most = math.max(most, collectgarbage "count")
                end
            end
            assert.same({ 200000, 200000 * 200001 // 2 }, { n, sum })
            assert.is_true(most - before < 1024, (most - before) .. " KiB")
        end)

        it("supports wide and empty rows", function()
            local e <close> = open()
            local s = ("y"):rep(5000000)
            local rows = all(e:copy_out("select repeat('y', 5000000) as s from generate_series(1, 3)"))
            assert.same({ 3, true }, { #rows, rows[3].s == s })
            assert.same({}, all(e:copy_out "select 1 as i where false"))
            local list = {}
            for i = 1, 1600 do list[i] = i .. " as c" .. i end
            rows = all(e:copy_out("select " .. table.concat(list, ",")))
            assert.same({ 1, 1600 }, { rows[1].c1, rows[1].c1600 })
        end)
    end)

    describe("copy_out of text", function()
        it("gives pieces of text, CSV and the binary format", function()
            local e <close> = open()
            local sql = [[values (1, E'a\tb'), (null, 'c"d,')]]
            assert.equal("1\ta\\tb\n\\N\tc\"d,\n", text_of(e:copy_out(sql, { raw = true })))
            assert.equal('1,a\tb\n,"c""d,"\n', text_of(e:copy_out(sql, { raw = true, format = "csv" })))
            assert.matches("^PGCOPY\n\255\r\n\0", text_of(e:copy_out(sql, { raw = true, format = "binary" })))
        end)

        it("takes options for header, delimiter, quote and NULL", function()
            local e <close> = open()
            assert.equal("i;s\n1;'a;b'\n2;none\n", text_of(e:copy_out(
                "select 1 as i, 'a;b' as s union all select 2, null order by 1",
                { raw = true, format = "csv", header = true, delimiter = ";", quote = "'", null = "none" })))
        end)

        it("can be read back by copy_in", function()
            local e <close> = open()
            local a, b = pg.table(e, "i int, s text"), pg.table(e, "i int, s text")
            e:copy_in(a, { "i", "s" }, { { 1, "x\ny" }, { 2, nil }, { 3, "" } })
            for _, format in ipairs { "text", "csv", "binary" } do
                assert.equal(3, e:copy_in(b, { "i", "s" }, (e:copy_out(a, { raw = true, format = format })),
                    { format = format }))
            end
            assert.equal(3, e:value(("select count(*) from %s where s = E'x\\ny'"):format(b)))
            assert.equal(3, e:value(("select count(*) from %s where s is null"):format(b)))
        end)
    end)

    describe("a loop over copy_out", function()
        it("can be left early; the connection is used again", function()
            local e <close> = open { size = 1 }
            for round = 1, 5 do
                for row in e:copy_out "select generate_series(1, 10000000) as i" do
                    if row.i == round * 10 then break end
                end
                assert.equal(round, e:value("select $1::int", round))
            end
            pg.settled(e)
        end)

        it("can be left by an error", function()
            local e <close> = open { size = 1 }
            assert.equal("left", raised(function()
                for _ in e:copy_out "select generate_series(1, 10000000) as i" do error("left", 0) end
            end))
            assert.equal(1, e:value "select 1")
        end)

        it("keeps its connection with <close> and releases it at the end", function()
            local e <close> = open { size = 1 }
            do
                local rows <close> = e:copy_out "select 1 as i union all select 2"
                assert.same({ i = 1 }, rows())
                assert.equal(1, e:stats().leased)
            end
            assert.equal(1, e:value "select 1")
            local rows <close> = e:copy_out "select 1 as i"
            assert.same({ i = 1 }, rows())
            assert.is_nil(rows())
            assert.is_nil(rows())
            assert.equal(0, pg.settled(e).leased)
        end)

        it("that is forgotten does not keep its connection forever", function()
            local e <close> = open { size = 1 }
            e:copy_out "select generate_series(1, 10000000) as i"()
            collectgarbage()
            collectgarbage()
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)

        it("ends with the error of the row that fails", function()
            local e <close> = open { size = 1 }
            local seen = 0
            local err = raised(function()
                for _ in e:copy_out "select 1 / (100 - i) as q from generate_series(1, 200) i" do seen = seen + 1 end
            end)
            assert.same({ "22012", 99 }, { err.sqlstate, seen })
            assert.equal(1, e:value "select 1")
        end)

        it("in a transaction, session or lease uses its connection", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            e:transaction(function(tx)
                tx:exec(("insert into %s values (1)"):format(t))
                assert.same({ { i = 1 } }, all(tx:copy_out(t)))
                for row in tx:copy_out "select generate_series(1, 100000) as i" do -- the rest ends within 5 seconds
                    if row.i == 2 then break end
                end
                assert.equal(1, tx:value(("select count(*) from %s"):format(t)))
            end)
            assert.equal(1, e:value(("select count(*) from %s"):format(t)))
            local s <close> = e:session()
            assert.same({ { i = 1 } }, all(s:copy_out(t)))
        end)
    end)

    describe("an invalid copy_out", function()
        it("is refused before anything is copied", function()
            local e <close> = open { size = 1 }
            local function fails(text, ...)
                local err = raised(e.copy_out, e, ...)
                assert.is_true(errors.is(err, "usage"))
                assert.is_truthy(err.message:find(text, 1, true), err.message)
            end
            fails("must be a query or a table's name, got 5", 5)
            fails("returns no columns", "create table nothing_of_it (i int)")
            fails("`columns` is for a table", "select 1", { columns = { "a" } })
            fails("not as CSV", "select 1", { format = "csv" })
            fails("header is for text", "select 1", { header = true })
            fails("no binary decoder", "select '(1,2)'::point", { format = "binary" })
            fails("unknown option 'pos'", "select 1", { pos = true })
            fails('format must be "binary", "text" or "csv", got "xml"', "select 1", { format = "xml", raw = true })
            assert.equal("42P01", raised(e.copy_out, e, "nowhere").sqlstate)
            local err = raised(e.copy_out, e, "selec 1")
            assert.same({ "42601", 1 }, { err.sqlstate, err.position })
            assert.equal("42601", raised(e.copy_out, e, "selec 1", { raw = true }).sqlstate)
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)
    end)
end)

describe("copy_out on the async engine", function()
    it("slows the server down while the loop is slow", function()
        local e <close> = pg.engine { size = 2 }
        local rows <close> = e:copy_out "select i, repeat('x', 1000) as s from generate_series(1, 1000000) i"
        rows()
        pg.eventually(10, function()
            return e:value "select wait_event from pg_stat_activity where query like 'COPY (select i, repeat%'"
                == "ClientWrite"
        end, "a server that waits for its client")
        task.sleep(0.1)
        local state = e:value "select wait_event from pg_stat_activity where query like 'COPY (select i, repeat%'"
        assert.equal("ClientWrite", state)
    end)

    it("is cancelled with its task", function()
        local e <close> = pg.engine { size = 1 }
        local err = raised(task.timeout, 0.1, function()
            for _ in e:copy_out "select pg_sleep(i) from generate_series(0, 5) i" do task.sleep(0) end
        end)
        assert.is_true(errors.is(err, "timeout"))
        assert.equal(1, e:value "select 1")
        pg.settled(e, 3)
    end)

    it("raises when the connection is lost", function()
        local e <close> = pg.engine { size = 2 }
        local err = raised(function()
            local n = 0
            for _ in e:copy_out "select i, repeat('x', 1000) as s from generate_series(1, 100000) i" do
                n = n + 1
                if n == 10 then
                    e:query [[select pg_terminate_backend(pid, 5000) from pg_stat_activity
                        where query like 'COPY (select i, repeat%']]
                end
            end
        end)
        assert.equal("connect", err.kind, tostring(err))
        assert.equal(1, e:value "select 1")
        pg.settled(e)
    end)
end)
