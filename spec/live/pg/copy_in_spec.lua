--- engine:copy_in: rows and text into a table, from lists, iterators, strings and files.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(0, 999)
math.randomseed(seed)
print("# DBRUN_TEST_SEED=" .. seed)

--- An iterator over n rows that fn(i) makes.
local function generate(n, fn)
    local i = 0
    return function()
        i = i + 1
        if i <= n then
            return fn(i)
        end
    end
end

--- A temporary file with this text, open for reading, as for psql's \copy.
local function file_with(text)
    local file = assert(io.tmpfile())
    file:write(text)
    file:seek "set"
    return setmetatable({ file = file }, { __close = function() file:close() end })
end

local formats = { "auto", "binary", "text", "csv" }

local function option(format)
    return format ~= "auto" and { format = format } or nil
end

pg.on_both(describe, function(_, open)
    describe("copy_in of rows", function()
        it("takes a list and returns how many rows the server accepted", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            assert.equal(3, e:copy_in(t, { "i", "s" }, { { 1, "a" }, { 2, "b" }, { 3, "c" } }))
            assert.equal("1a 2b 3c", e:value(("select string_agg(i || s, ' ' order by i) from %s"):format(t)))
        end)

        it("of no rows copies none, but the table must exist", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            assert.equal(0, e:copy_in(t, { "i" }, {}))
            assert.equal(0, e:copy_in(t, { "i" }, function() end))
            assert.matches("copy_in: row 2 is nil, and others follow",
                raised(e.copy_in, e, t, { "i" }, { { 1 }, nil, { 3 } }).message)
            assert.equal("42P01", raised(e.copy_in, e, "nowhere", { "i" }, {}).sqlstate)
        end)

        it("without columns takes all of the table's, in its order, but not the generated ones", function()
            local e <close> = open()
            local t = pg.table(e, "i int, twice int generated always as (i * 2) stored, s text")
            for _, columns in ipairs { {}, false } do
                e:copy_in(t, columns or nil, { { 1, "a" } })
            end
            assert.equal("1 2 a, 1 2 a",
                e:value(("select string_agg(concat_ws(' ', i, twice, s), ', ') from %s"):format(t)))
        end)

        for _, format in ipairs(formats) do
            it("sends every scalar unchanged, format " .. format, function()
                local e <close> = open()
                local t = pg.table(e, "id int, i2 int2, i4 int4, i8 int8, o oid, f4 float4, f8 float8, b bool, s text,"
                    .. " v varchar(20), c char(5), y bytea, j json, jb jsonb, u uuid")
                local columns = { "id", "i2", "i4", "i8", "o", "f4", "f8", "b", "s", "v", "c", "y", "j", "jb", "u" }
                local uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
                assert.equal(4, e:copy_in(t, columns, {
                    { 1, -32768, -2147483648, math.mininteger, 0, -1.5, 5e-324, true, "tab\tnl\ncr\rbs\\ \"q\" 'x', ö",
                        "é", "ab", "\0\1\255\\", '{"a":1}', { list = { 1, 2 } }, uuid },
                    { 2, 32767, 2147483647, math.maxinteger, 4294967295, 0.1, 1.7976931348623157e308, false, "", "\\N",
                        "NULL", "", "[]", true, uuid:upper() },
                    { 3, 0, 0, 0, 1, 0 / 0, -math.huge, db.null, nil, "\\.", nil, db.bytea "\0x", 5,
                        db.json { 1 }, "{" .. uuid .. "}" },
                    { 4 },
                }, option(format)))
                local rows = e:query(("select *, c::text as ct from %s order by id"):format(t))
                local a, b, c, d = table.unpack(rows)
                assert.same({ -32768, -2147483648, math.mininteger, 0, -1.5, 5e-324, true },
                    { a.i2, a.i4, a.i8, a.o, a.f4, a.f8, a.b })
                assert.same({ "tab\tnl\ncr\rbs\\ \"q\" 'x', ö", "é", "ab", "\0\1\255\\", 1, 2, uuid },
                    { a.s, a.v, a.ct, a.y, a.j.a, a.jb.list[2], a.u })
                assert.same({ 32767, 2147483647, math.maxinteger, 4294967295, 1.7976931348623157e308, false, "",
                    "\\N" },
                    { b.i2, b.i4, b.i8, b.o, b.f8, b.b, b.s, b.v })
                assert.same({ "NULL", "", 0, true, uuid }, { b.ct, b.y, #b.j, b.jb, b.u })
                assert.is_true(c.f4 ~= c.f4)
                assert.same({ -math.huge, nil, nil, "\\.", nil, "\0x", 5, 1, uuid },
                    { c.f8, c.b, c.s, c.v, c.c, c.y, c.j, c.jb[1], c.u })
                assert.same({ id = 4 }, d)
            end)
        end

        for _, format in ipairs { "auto", "binary" } do
            it("sends numerics, dates, times and arrays unchanged, format " .. format, function()
                local e <close> = open()
                local t = pg.table(e, "n numeric, m numeric(10, 2), d date, h time, ts timestamp, tz timestamptz,"
                    .. " a int[], b text[], c bool[]")
                local columns = { "n", "m", "d", "h", "ts", "tz", "a", "b", "c" }
                e:copy_in(t, columns, {
                    { "-1234567890123456789.000000001", 12.345, "2024-02-29", "23:59:59.999999", "1969-07-20T20:17:40",
                        "2024-01-31 12:00:00+05:30", { 1, db.null, 3 }, { { "a", "b,}" }, { '"', "\\" } }, {} },
                    { "NaN", "-0.005", "0044-03-15 BC", "24:00", "infinity", "-infinity", { -5 }, {}, { true, false } },
                    { "1e-20", 100, "infinity", "00:00", "9999-12-31 23:59:59.5", "0001-01-01T00:00:00Z" },
                    { 5000000000, "1E2" },
                    { "0.00012345", "+.5" },
                }, option(format))
                local rows = e:query(("select *, a::text as at, b::text as bt from %s"):format(t))
                local r = rows[1]
                assert.same({ "-1234567890123456789.000000001", "12.35", "2024-02-29", "23:59:59.999999" },
                    { r.n, r.m, r.d, r.h })
                assert.same({ "1969-07-20T20:17:40", "2024-01-31T06:30:00+00:00" }, { r.ts, r.tz })
                assert.same({ "{1,NULL,3}", [[{{a,"b,}"},{"\"","\\"}}]], 0 }, { r.at, r.bt, #r.c })
                r = rows[2]
                assert.same({ "NaN", "-0.01", "0044-03-15 BC", "24:00:00", "infinity", "-infinity" },
                    { r.n, r.m, r.d, r.h, r.ts, r.tz })
                assert.same({ "{-5}", "{}", true, false }, { r.at, r.bt, r.c[1], r.c[2] })
                r = rows[3]
                assert.same({ "0.00000000000000000001", "100.00", "infinity", "00:00:00", "9999-12-31T23:59:59.5" },
                    { r.n, r.m, r.d, r.h, r.ts })
                assert.equal("0001-01-01T00:00:00+00:00", r.tz)
                assert.same({ "5000000000", "100.00" }, { rows[4].n, rows[4].m })
                assert.same({ "0.00012345", "0.50" }, { rows[5].n, rows[5].m })
            end)
        end

        it("writes any numeric exactly, with its scale", function()
            local e <close> = open()
            local t = pg.table(e, "s text, n numeric")
            local function digits(n)
                local list = {}
                for i = 1, n do list[i] = math.random(3) == 1 and "0" or tostring(math.random(0, 9)) end
                return table.concat(list)
            end
            local n = e:copy_in(t, { "s", "n" }, generate(2000, function()
                local text = ({ "", "-", "+" })[math.random(3)] .. digits(math.random(0, 30))
                if not text:find "%d" or math.random(2) == 1 then text = text .. "." .. digits(math.random(1, 30)) end
                if math.random(3) == 1 then text = text .. "e" .. math.random(-30, 30) end
                return { text, text }
            end), { format = "binary" })
            assert.equal(2000, n)
            assert.same({}, { table.unpack(e:query(([[select s, n::text from %s
                where s::numeric is distinct from n or s::numeric::text <> n::text limit 3]]):format(t))) })
        end)

        it("supports domains, enums and user-defined types", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            e:exec((([[create domain T_d as int check (value > 0); create type T_e as enum ('red', 'green');
                create type T_c as (x int, y text);
                alter table T add d T_d, add e T_e, add c T_c, add l T_e[], add r int4range]]):gsub("%f[%w]T", t)))
            e:copy_in(t, { "i", "d", "e" }, { { 1, 2, "green" } })
            e:copy_in(t, { "i", "d", "e" }, { { 1, 2, "red" } }, { format = "binary" })
            e:copy_in(t, { "i", "d", "c", "l", "r" }, { { 1, 2, "(1,x)", { "red", "green" }, "[1,5)" } })
            assert.equal(3, e:value(("select count(*) from %s where d = 2"):format(t)))
            assert.equal("(1,x) {red,green} [1,5)",
                e:value(("select concat_ws(' ', c, l, r) from %s where r is not null"):format(t)))
            local err = raised(e.copy_in, e, t, { "i", "d" }, { { 1, 0 } })
            assert.equal("23514", err.sqlstate)
            err = raised(e.copy_in, e, t, { "i", "e" }, { { 1, "blue" } })
            assert.equal("22P02", err.sqlstate)
        end)

        it("takes rows by column name, also from another query's rows", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            assert.equal(2, e:copy_in(t, { "s", "i" }, { { i = 1, s = "a" }, { i = 2 } }))
            local sql = "select i, 'n' || i as s from generate_series(1, 1000) i"
            assert.equal(1000, e:copy_in(t, { "i", "s" }, e:rows(sql)))
            assert.equal(1002, e:value(("select count(*) from %s where i is not null"):format(t)))
            assert.equal("n1000", e:value(("select s from %s where i = 1000"):format(t)))
            pg.settled(e)
        end)

        it("reads rows by column name through __index, and refuses a list that is empty but for that", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            local function over(row) return setmetatable({}, { __index = row }) end
            for _, format in ipairs { "binary", "text" } do
                local rows = { over { i = 1, s = "a" }, { i = 2 }, over { s = "c" } }
                assert.equal(3, e:copy_in(t, { "i", "s" }, rows, { format = format }))
                for _, row in ipairs { over { 1, "a" }, over {}, setmetatable({}, { __pairs = pairs }) } do
                    for _, list in ipairs { { row }, { { 3, "x" }, row }, { { i = 3 }, row } } do
                        local problem = raised(e.copy_in, e, t, { "i", "s" }, list, { format = format })
                        assert.equal("usage", problem.kind)
                        assert.matches(("row %d is an empty table whose content is in its metatable"):format(#list),
                            problem.message)
                    end
                end
            end
            assert.equal("1 a,2 -,- c,1 a,2 -,- c", e:value(([[select string_agg(coalesce(i::text, '-') || ' ' ||
                coalesce(s, '-'), ',') from %s]]):format(t)))
            assert.matches("the list of rows is an empty table whose content",
                raised(e.copy_in, e, t, {}, setmetatable({}, { __len = function() return 2 end })).message)
            assert.equal(1, e:copy_in(t, {}, over { { 1, "a" } }))
        end)

        it("refuses a row in place of the list of rows", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            for _, row in ipairs { { i = 1, s = "a" }, e:one "select null as i, null as s" } do
                assert.matches("expected a list of rows, got a table by name",
                    raised(e.copy_in, e, t, { "i", "s" }, row).message)
            end
            assert.equal(0, e:copy_in(t, { "i", "s" }, e:query "select 1 as i, 'a' as s limit 0"))
            assert.equal(0, e:copy_in(t, { "i", "s" }, table.pack()))
        end)

        it("takes what an iterator gives, while it queries on other connections", function()
            local e <close> = open()
            local t = pg.table(e, "i int8, s text")
            local n = e:copy_in(t, { "i", "s" }, generate(300, function(i)
                return { i, e:value("select 'row ' || $1::int", i) }
            end))
            assert.equal(300, n)
            assert.equal(300, e:value(("select count(*) from %s where s = 'row ' || i"):format(t)))
            assert.equal(2, pg.settled(e).open)
        end)

        it("takes a coroutine and a callable object as iterator", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            assert.equal(3, e:copy_in(t, { "i" }, coroutine.wrap(function()
                for i = 1, 3 do coroutine.yield { i } end
            end)))
            local object = setmetatable({ left = 2 }, { __call = function(self)
                self.left = self.left - 1
                return self.left >= 0 and { self.left } or nil
            end })
            assert.equal(2, e:copy_in(t, { "i" }, object))
        end)

        it("counts a hundred thousand rows that are longer than any buffer together", function()
            local e <close> = open()
            local t = pg.table(e, "i int8, s text")
            local n = e:copy_in(t, { "i", "s" }, generate(100000, function(i) return { i, ("x"):rep(i % 500) } end))
            assert.equal(100000, n)
            assert.same({ 100000, 100000 * 100001 // 2, 200 * 500 * 499 // 2 }, {
                e:value(("select count(*) from %s"):format(t)),
                e:value(("select sum(i)::int8 from %s"):format(t)),
                e:value(("select sum(length(s))::int8 from %s"):format(t)),
            })
        end)

        it("takes a value of many megabytes", function()
            local e <close> = open()
            local t = pg.table(e, "s text, y bytea")
            local s = ("0123456789abcdef"):rep(1 << 20)
            assert.equal(2, e:copy_in(t, { "s", "y" }, { { s, s }, { "x", "y" } }))
            assert.same({ #s, #s }, {
                e:value(("select max(length(s)) from %s"):format(t)),
                e:value(("select max(length(y)) from %s"):format(t)),
            })
        end)

        it("finds a table by a list of names, and by a name with dots and capitals", function()
            local e <close> = open()
            e:exec [[drop schema if exists "Odd.One" cascade; create schema "Odd.One";
                create table "Odd.One"."T ""x""" ("C 1" int)]]
            assert.equal(1, e:copy_in({ "Odd.One", 'T "x"' }, { "C 1" }, { { 1 } }))
            local t = pg.table(e, "i int")
            assert.equal(1, e:copy_in("public." .. t, { "i" }, { { 1 } }))
        end)

        it("in a transaction is part of it", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            raised(e.transaction, e, function(tx)
                tx:copy_in(t, { "i" }, { { 1 } })
                assert.equal(1, tx:value(("select count(*) from %s"):format(t)))
                error "undone"
            end)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("in a nested transaction that fails leaves the outer one usable", function()
            local e <close> = open()
            local t = pg.table(e, "i int primary key")
            e:transaction(function(tx)
                tx:copy_in(t, { "i" }, { { 1 } })
                local err = raised(tx.transaction, tx, function() tx:copy_in(t, { "i" }, { { 2 }, { 1 } }) end)
                assert.equal("23505", err.sqlstate)
                tx:copy_in(t, { "i" }, { { 3 } })
            end)
            assert.equal("1 3", e:value(("select string_agg(i::text, ' ' order by i) from %s"):format(t)))
        end)
    end)

    describe("copy_in of text", function()
        it("takes one string, in text, CSV and binary", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            assert.equal(2, e:copy_in(t, { "i", "s" }, "1\ta\n2\t\\N\n"))
            assert.equal(2, e:copy_in(t, { "i", "s" }, '3,"c, ""q"""\n4,\n', { format = "csv" }))
            local copied = {}
            for chunk in e:copy_out(t, { raw = true, format = "binary" }) do copied[#copied + 1] = chunk end
            assert.equal(4, e:copy_in(t, nil, table.concat(copied), { format = "binary" }))
            assert.equal("1a 2 3c, \"q\" 4 1a 2 3c, \"q\" 4",
                e:value(("select string_agg(i || coalesce(s, ''), ' ') from %s"):format(t)))
        end)

        it("takes CSV with a header, its own delimiter, quote and NULL", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            assert.equal(2, e:copy_in(t, { "i", "s" }, "any;thing\n1;'a;b'\n2;none\n", {
                format = "csv", header = true, delimiter = ";", quote = "'", null = "none",
            }))
            assert.equal("a;b", e:value(("select s from %s where i = 1"):format(t)))
            assert.is_nil(e:value(("select s from %s where i = 2"):format(t)))
            if e:value "show server_version_num" >= "150000" then
                local err = raised(e.copy_in, e, t, { "i", "s" }, "i,x\n", { format = "csv", header = "match" })
                assert.equal("22P04", err.sqlstate)
            end
        end)

        it("takes an open file, and leaves it open", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            local lines = {}
            for i = 1, 50000 do lines[i] = i .. "\trow " .. i .. "\n" end
            local source <close> = file_with(table.concat(lines))
            assert.equal(50000, e:copy_in(t, { "i", "s" }, source.file))
            assert.equal("file", io.type(source.file))
            assert.equal(50000, e:value(("select count(*) from %s where s = 'row ' || i"):format(t)))
        end)

        it("takes pieces that are cut anywhere", function()
            local e <close> = open()
            local t = pg.table(e, "i int, s text")
            local text = "1\tä\n22\tbb\n333\tccc\n"
            assert.equal(3, e:copy_in(t, { "i", "s" }, generate(#text, function(i) return text:sub(i, i) end)))
            local long = ("7\t" .. ("y"):rep(70000) .. "\n"):rep(20)
            local at = 1
            assert.equal(20, e:copy_in(t, { "i", "s" }, function()
                local piece = long:sub(at, at + 100000)
                at = at + #piece
                return #piece > 0 and piece or nil
            end))
            assert.equal(70000, e:value(("select max(length(s)) from %s"):format(t)))
        end)

        it("says which file cannot be read", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local file = assert(io.open "/")
            local err = raised(e.copy_in, e, t, { "i" }, file)
            assert.is_true(errors.is(err, "io"))
            assert.matches("directory", err.message)
            file:close()
            assert.matches("closed file", raised(e.copy_in, e, t, { "i" }, file).message)
        end)
    end)

    describe("a COPY that fails", function()
        it("in its producer keeps no rows, raises that error unchanged, and the connection is used again", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int8, s text")
            local pid = e:value "select pg_backend_pid()"
            for _, at in ipairs { 1, 2, 50000 } do
                for _, problem in ipairs { "plain", { of = "the script" } } do
                    local err = raised(e.copy_in, e, t, { "i", "s" }, generate(60000, function(i)
                        if i == at then error(problem, 0) end
                        return { i, "some text to fill the blocks" }
                    end))
                    assert.equal(problem, err)
                end
            end
            assert.equal(pid, e:value "select pg_backend_pid()")
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            pg.settled(e)
        end)

        it("at the server keeps no rows and names line and column", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int8 primary key, s text not null")
            local pid = e:value "select pg_backend_pid()"
            local rows = { { 1, "a" }, { 2, "b" }, { 1, "c" } }
            local err = raised(e.copy_in, e, t, { "i", "s" }, rows)
            assert.same({ "23505", "constraint", t .. "_pkey", t },
                { err.sqlstate, err.kind, err.constraint, err.table })
            assert.matches("line 3", err.context)
            err = raised(e.copy_in, e, t, { "i", "s" }, { { 1, "a" }, { 2 } })
            assert.same({ "23502", "s" }, { err.sqlstate, err.column })
            err = raised(e.copy_in, e, t, { "i", "s" }, "1\ta\nx\tb\n")
            assert.equal("22P02", err.sqlstate)
            assert.matches('line 2, column i: "x"', err.context, 1, true)
            err = raised(e.copy_in, e, t, { "i", "s" }, "1\n")
            assert.equal("22P04", err.sqlstate)
            assert.equal(pid, e:value "select pg_backend_pid()")
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("at the server early does not wait until the producer ends", function()
            local e <close> = open()
            local t = pg.table(e, "i int8 primary key, s text")
            local given = 0
            local err = raised(e.copy_in, e, t, { "i", "s" }, function()
                given = given + 1
                assert(given < 5000000, "the producer was not stopped")
                return { given % 1000, "some text to fill the blocks" }
            end)
            assert.equal("23505", err.sqlstate)
            assert.equal(1, e:value "select 1")
        end)

        it("for a value that its column cannot hold names row, column and type", function()
            local e <close> = open()
            local t = pg.table(e, "i int2, f float8, b bool, s text, y bytea, u uuid")
            local cases = {
                { { "i" }, { 40000 }, "22003", 'row 2, column "i": 40000 is out of range for int2' },
                { { "i" }, { 1.5 }, "22P02", 'column "i": 1.5 is not a valid value for int2' },
                { { "i" }, { "1x" }, "22P02", 'column "i": "1x" is not a valid value for int2' },
                { { "i" }, { {} }, "22P02", 'column "i": a table is not a valid value for int2' },
                { { "f" }, { true }, "22P02", 'column "f": true is not a valid value for float8' },
                { { "f" }, { "1e-400" }, "22003", 'column "f": "1e-400" is out of range for float8' },
                { { "b" }, { "maybe" }, "22P02", 'column "b": "maybe" is not a valid value for bool' },
                { { "s" }, { print }, "22P02", 'column "s": a function is not a valid value for text' },
                { { "s", "y" }, { "x", 5 }, "22P02", 'column "y": 5 is not a valid value for bytea' },
                { { "u" }, { "a0eebc99" }, "22P02", 'column "u": "a0eebc99" is not a valid value for uuid' },
            }
            for _, case in ipairs(cases) do
                local columns, bad, sqlstate, text = table.unpack(case)
                local err = raised(e.copy_in, e, t, columns, { {}, bad })
                assert.same({ "usage", sqlstate, "failed" }, { err.kind, err.sqlstate, err.outcome })
                assert.is_truthy(err.message:find(text, 1, true), err.message)
            end
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("in binary for a time that the server would round or refuse keeps no rows", function()
            local e <close> = open()
            local t = pg.table(e, "z timestamptz, c time, d date")
            for i, case in ipairs {
                { "z", "2020-01-01 00:00:00.1234567+00" }, { "c", "12:00:00.0000009" }, { "d", "294277-01-01" },
                { "z", "2020-01-01 00:00:00+16" }, { "z", "2020-01-01 00:00:00+01:60" },
            } do
                local err = raised(e.copy_in, e, t, { case[1] }, { { case[2] } }, { format = "binary" })
                assert.equal("22P02", err.sqlstate, i)
                assert.matches("Without the format the server reads it", err.hint, nil, nil, i)
                local ok <const>, why <const> = pcall(e.copy_in, e, t, { case[1] }, { { case[2] } })
                assert.equal(i <= 3, ok, tostring(why))
            end
            assert.equal("00:00:00.123457", e:value(("select z::time::text from %s where z is not null"):format(t)))
        end)

        it("converts texts for other types as the server does", function()
            local e <close> = open()
            local t = pg.table(e, "i int8, f float8, b bool, s text")
            e:copy_in(t, { "i", "f", "b", "s" }, {
                { " -9223372036854775808 ", " 1e300 ", "YES", 42 }, { "+7", "-inf", "of", 1.5 }, { 3.0, 4, 1, true },
            })
            assert.same({
                { i = math.mininteger, f = 1e300, b = true, s = "42" }, { i = 7, f = -math.huge, b = false, s = "1.5" },
                { i = 3, f = 4.0, b = true, s = "t" },
            }, { table.unpack(e:query(("select * from %s"):format(t)), 1, 3) })
        end)

        it("for an invalid row is a usage error", function()
            local e <close> = open()
            local t = pg.table(e, "i int, j int")
            local function fails(text, ...)
                local err = raised(e.copy_in, e, t, ...)
                assert.is_true(errors.is(err, "usage"))
                assert.is_truthy(err.message:find(text, 1, true), err.message)
            end
            fails("row 2 has 3 values for 2 columns", { "i", "j" }, { { 1, 2 }, { 1, 2, 3 } })
            fails("row 2 is a string, not a table", { "i", "j" }, { { 1, 2 }, "1\t2\n" })
            fails("the iterator returned a number", { "i", "j" }, { 1, 2 })
            fails("the iterator returned a table after pieces of text", { "i", "j" }, { "1\t2\n", { 1, 2 } })
            fails("the source must be rows or text from an iterator", { "i", "j" }, 5)
            fails("the source must be rows or text from an iterator", { "i", "j" })
            fails('format must be "binary", "text" or "csv", got "xml"', { "i" }, { { 1 } }, { format = "xml" })
            fails("unknown option 'fromat'", { "i" }, { { 1 } }, { fromat = "csv" })
            fails("header is for text", { "i" }, { { 1 } }, { header = true })
            e:exec(("alter table %s add p point"):format(t))
            fails('column "p" has the type point', { "p" }, { { "(1,2)" } }, { format = "binary" })
        end)

        it("for a value that would be lost is a usage error", function()
            local e <close> = open()
            local t = pg.table(e, "email text, name text, age int")
            local function fails(text, rows, columns)
                for _, format in ipairs(formats) do
                    local problem = raised(e.copy_in, e, t, columns, rows, option(format))
                    assert.is_true(errors.is(problem, "usage"), tostring(problem))
                    assert.is_truthy(problem.message:find(text, 1, true), problem.message)
                    assert.matches("The columns: email, name", problem.hint, 1, true)
                    assert.equal(0, e:value(("select count(*) from %s"):format(t)))
                end
            end
            fails('row 1 has a value for "nmae", which is not one of its columns', { { email = "a", nmae = "b" } })
            fails('row 2 has a value for "nmae"', { { email = "a" }, { email = "a", name = "b", nmae = "c" } })
            fails('row 1 has a value for "age"', { { email = "a", age = 7 } }, { "email", "name" })
            fails('row 2 has a value for 1', { { email = "a" }, { "b", "c" } })
            fails('row 1 is a list, but also has a value for "nmae"', { { nmae = "a" } })
            fails('row 2 is a list, but also has a value for "name"', { { "a", "b" }, { name = "c" } })
            fails('row 1 is a list, but also has a value for "name"', { { "a", name = "c" } })
            fails('row 3 is a list, but also has a value for "email"', { {}, { "b" }, { email = "c" } })
            fails('row 1 is a list, but also has a value for 5', { { "a", [5] = "b" } })
            fails('row 1 is a list, but also has a value for 0', { { [0] = "a", "b" } })
        end)

        it("accepts rows that are all NULL before it knows whether rows are lists or tables by name", function()
            local e <close> = open()
            local t = pg.table(e, "a text, b text")
            for _, format in ipairs(formats) do
                for _, row in ipairs { { b = "x" }, { db.null, "x" } } do
                    assert.equal(4, e:copy_in(t, { "a", "b" }, { {}, {}, row, {} }, option(format)))
                    local counts <const> = e:one("select count(*) as n, count(a) as a, count(b) as b from " .. t)
                    assert.same({ n = 4, a = 0, b = 1 }, counts)
                    e:exec("truncate " .. t)
                end
            end
            assert.equal(2, e:copy_in(t, { "a", "b" }, { {}, {} }))
        end)

        it("accepts every way to write a list with holes", function()
            local e <close> = open()
            local t = pg.table(e, "i int, j int, k int")
            local backwards = {}
            for i = 3, 1, -1 do backwards[i] = i end
            local n = 0
            for _, format in ipairs(formats) do
                n = n + e:copy_in(t, nil, { { 1, 2, 3 }, { nil, nil, 3 }, { 1, nil, 3 }, { [3] = 3 }, { [2] = 2 }, {},
                    { 1 }, backwards, table.pack(1, nil, nil), table.pack(nil, 2), { 1, db.null, db.null },
                }, option(format))
            end
            assert.equal(44, n)
            assert.same({ i = 6 * 4, j = 4 * 4, k = 5 * 4 },
                e:one(("select count(i) as i, count(j) as j, count(k) as k from %s"):format(t)))
        end)

        it("into columns and tables that do not exist is the server's error", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            assert.equal("42703", raised(e.copy_in, e, t, { "nope" }, { { 1 } }).sqlstate)
            assert.equal("42P01", raised(e.copy_in, e, t .. "x", { "i" }, { { 1 } }).sqlstate)
            assert.equal("42703", raised(e.copy_in, e, t, { "nope" }, "1\n").sqlstate)
        end)
    end)
end)

describe("copy_in on the async engine", function()
    it("lets other tasks run while its producer waits and while the socket is full", function()
        local e <close> = pg.engine()
        local t = pg.table(e, "i int8, s text")
        local ticks = 0
        local group <close> = task.group()
        local ticker = group:spawn(function()
            while true do
                task.sleep(0.002)
                ticks = ticks + 1
            end
        end)
        e:copy_in(t, { "i", "s" }, generate(50, function(i)
            task.sleep(0.002)
            return { i, ("z"):rep(100000) }
        end))
        ticker:cancel()
        assert.is_true(ticks > 20, ticks .. " ticks")
    end)

    it("is rolled back when its task is cancelled, in the producer or while it sends", function()
        local e <close> = pg.engine { size = 2 }
        local t = pg.table(e, "i int8, s text")
        for _, wait in ipairs { true, false } do
            local err = raised(task.timeout, 0.1, e.copy_in, e, t, { "i", "s" }, function()
                if wait then task.sleep(1) end
                return { 1, ("z"):rep(10000) }
            end)
            assert.is_true(errors.is(err, "timeout"), tostring(err))
        end
        pg.settled(e, 3)
        assert.equal(0, e:value(("select count(*) from %s"):format(t)))
    end)

    it("lets other tasks run, and deadlines pass, although its producer never waits", function()
        local e <close> = pg.engine { size = 2 }
        local t = pg.table(e, "i int8")
        local others, copied = 0, nil
        task.timeout(30, task.all, {
            function()
                copied = e:copy_in(t, { "i" }, function()
                    if others < 20 then return { 1 } end
                end)
            end,
            function()
                while others < 20 do
                    task.sleep(0.001)
                    others = others + 1
                end
            end,
        })
        assert.equal(copied, e:value(("select count(*) from %s"):format(t)))
        local start <const> = task.now()
        local err = raised(task.timeout, 0.2, e.copy_in, e, t, { "i" }, function() return { 1 } end)
        assert.equal("timeout", err.kind)
        assert(task.now() - start < 5, task.now() - start)
    end)

    it("loses no place in the pool when the server closes its connection", function()
        local e <close> = pg.engine { size = 2 }
        local t = pg.table(e, "i int8, s text")
        local conn <close> = e:acquire()
        local pid = conn:backend_pid()
        local err = raised(conn.copy_in, conn, t, { "i", "s" }, generate(1000000, function(i)
            if i == 5000 then
                e:query("select pg_terminate_backend($1, 5000)", pid)
            end
            return { i, "some text to fill the blocks" }
        end))
        assert.same({ "57P01", "failed" }, { err.sqlstate, err.outcome }, tostring(err))
        conn:release()
        assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        pg.settled(e)
    end)
end)
