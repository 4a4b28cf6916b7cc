--- copy_in: rows and text into a table, all or nothing.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

pg.on_both(describe, function(mode, open)
    local function count(e, t)
        return e:value(("select count(*) from %s"):format(t))
    end

    describe("copy_in", function()
        it("takes rows from an iterator and returns how many", function()
            local e <close> = open()
            local t = pg.table(e, "i int8, f float8, s text, b bool")
            local i = 0
            assert.equal(10000, e:copy_in(t, { "i", "f", "s", "b" }, function()
                i = i + 1
                return i <= 10000 and { i, i / 2, "row " .. i, i % 2 == 0 } or nil
            end))
            assert.same({ n = 10000, i = "50005000", f = 25002500.0, b = 5000, s = 10000 }, e:one(([[
                select count(*)::int as n, sum(i)::text as i, sum(f) as f, count(*) filter (where b)::int as b,
                       count(*) filter (where s = 'row ' || i)::int as s from %s]]):format(t)))
        end)

        it("takes a list of rows, and an empty one", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            assert.equal(2, e:copy_in(t, { "a", "b" }, { { 1, "x" }, { 2, "y" } }))
            assert.equal(0, e:copy_in(t, { "a", "b" }, {}))
            assert.equal(0, e:copy_in(t, { "a", "b" }, function() end))
            assert.equal(2, count(e, t))
        end)

        it("takes all columns in their order when none are named", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            assert.equal(1, e:copy_in(t, {}, { { 1, "x" } }))
            assert.same({ a = 1, b = "x" }, e:one(("select * from %s"):format(t)))
        end)

        it("takes columns and tables with special characters in their names", function()
            local e <close> = open()
            local name = 'co"py, me'
            e:exec(("drop table if exists %s; create table %s (%s int, %s int)"):format(db.ident { name },
                db.ident { name },
                db.ident { 'a"b' }, db.ident { "c d" }))
            assert.equal(1, e:copy_in({ name }, { "c d", 'a"b' }, { { 1, 2 } }))
            assert.same({ ['a"b'] = 2, ["c d"] = 1 }, e:one("select * from " .. db.ident { name }))
        end)

        it("keeps every character of text, and distinguishes NULL from empty", function()
            local e <close> = open()
            local t = pg.table(e, "n int, s text")
            local values = { "", "\\N", "\\.", "\\", "a\tb", "a\nb", "a\rb\r\n", "\\t", "größe 日本 🙂", "'\"",
                "\b\f\v\127",
                (" "):rep(3), "\\\\N", "x\\", ("y"):rep(300000) }
            local rows = {}
            for i, s in ipairs(values) do
                rows[i] = { i, s }
            end
            rows[#rows + 1] = { #values + 1, nil }
            rows[#rows + 1] = { #values + 2, db.null }
            e:copy_in(t, { "n", "s" }, rows)
            for i, s in ipairs(values) do
                assert(e:value(("select s from %s where n = $1"):format(t), i) == s, i)
            end
            assert.equal(2, e:value(("select count(*) from %s where s is null"):format(t)))
        end)

        it("keeps numbers, booleans and bytes exactly", function()
            local e <close> = open()
            local t = pg.table(e, "i int8, f float8, b bool, y bytea")
            local bytes = {}
            for b = 0, 255 do
                bytes[#bytes + 1] = string.char(b)
            end
            bytes = table.concat(bytes)
            e:copy_in(t, { "i", "f", "b", "y" }, {
                { math.maxinteger, 0.1, true, db.bytea(bytes) },
                { math.mininteger, -0.0, false, db.bytea "" },
                { 0, math.huge, nil, nil },
                { -1, 0 / 0, nil, nil },
                { 3.0, 7, nil, nil },
            })
            local r = e:query(("select * from %s"):format(t))
            assert.equal(math.maxinteger, r[1].i)
            assert.equal(math.mininteger, r[2].i)
            assert.equal(0.1, r[1].f)
            assert.equal(-math.huge, 1 / r[2].f)
            assert.equal(math.huge, r[3].f)
            assert(r[4].f ~= r[4].f)
            assert.equal(3, r[5].i)
            assert.equal(7.0, r[5].f)
            assert.is_true(r[1].b)
            assert(r[1].y == bytes)
            assert.equal("", r[2].y)
            assert.is_nil(r[3].b)
        end)

        it("never changes a value to make it fit: it is an error, and no rows stay", function()
            local e <close> = open()
            local bad = { { i2 = 70000 }, { i4 = 1 << 31 }, { i4 = 2 ^ 31 }, { i4 = true }, { i8 = 1.5 }, { i8 = "x" },
                { i8 = 1e30 }, { i8 = 2 ^ 63 }, { i8 = 0 / 0 }, { i2 = "" }, { b = "perhaps" }, { b = 2 },
                { s = "a\0b" },
                { s = "\255" }, { f4 = "x" }, { d = "no date" }, { u = "no uuid" } }
            -- The first table's rows can be sent in binary, the second's only as text.
            for _, columns in ipairs { "i2 int2, i4 int4, i8 int8, f4 float4, b bool, s text",
                "i2 int2, i4 int4, i8 int8, f4 float4, b bool, s text, d date, u uuid, v interval" } do
                local t = pg.table(e, columns)
                local names = {}
                for name in columns:gmatch "(%w+) %w+" do
                    names[#names + 1] = name
                end
                for _, row in ipairs(bad) do
                    local ok, problem = pcall(e.copy_in, e, t, names, { { i2 = 1, s = "x" }, row })
                    local name, value = next(row)
                    if columns:find(name .. " ", 1, true) then
                        assert.is_false(ok, ("%s = %s was taken"):format(name, value))
                        assert.is_true(errors.is(problem), tostring(problem))
                        assert.equal(0, count(e, t))
                    end
                end
            end
            assert.equal(1, e:stats().opened)
        end)

        it("takes values of stated types, arrays and JSON", function()
            local e <close> = open()
            local t = pg.table(e, "a int[], s text[], j jsonb, n numeric, ts timestamptz")
            e:copy_in(t, { "a", "s", "j", "n", "ts" }, {
                { db.array { 1, 2, db.null }, db.array { "a,b", 'c"d', "\\", "e\tf" }, db.json { k = { 1, "t\tab" } },
                    db.typed("1.50", "numeric"), "2024-02-29T12:00:00+00:00" },
            })
            local row = e:one(("select a::text, s::text, j, n, ts from %s"):format(t))
            assert.equal("{1,2,NULL}", row.a)
            assert.equal([[{"a,b","c\"d","\\","e]] .. "\t" .. [[f"}]], row.s)
            assert.same({ k = { 1, "t\tab" } }, row.j)
            assert.equal("1.50", row.n)
            assert.equal("2024-02-29T12:00:00+00:00", row.ts)
        end)

        it("takes text in one piece or many, cut anywhere", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            assert.equal(2, e:copy_in(t, { "a", "b" }, "1\tx\n2\t\\N\n"))
            local pieces = { "3\t", "y", "\n4", "\tz\n" }
            local i = 0
            assert.equal(2, e:copy_in(t, { "a", "b" }, function()
                i = i + 1
                return pieces[i]
            end))
            assert.same({ a = 4, b = "z" }, e:one(("select * from %s where a = 4"):format(t)))
        end)

        it("takes CSV", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            assert.equal(3, e:copy_in(t, { "a", "b" }, '1,"x, ""y""\nz"\n2,\n3,""\n', { format = "csv" }))
            assert.equal('x, "y"\nz', e:value(("select b from %s where a = 1"):format(t)))
            assert.is_nil(e:value(("select b from %s where a = 2"):format(t)))
            assert.equal("", e:value(("select b from %s where a = 3"):format(t)))
        end)

        it("refuses text behind the end marker, which the server would not read", function()
            local e <close> = open()
            local t = pg.table(e, "a text")
            local long = ("z"):rep(200000) .. "\n"
            for i, case in ipairs {
                { "x\n\\.\ny\n" }, { "x\n\\.\ny\n", { format = "csv" } }, { "x\\.\ny\n" },
                { long .. "\\.\n" .. long, { format = "csv" } },
                { "'x\n'\n\\.\n''\n", { format = "csv", quote = "'" } },
            } do
                local problem = raised(e.copy_in, e, t, { "a" }, case[1], case[2])
                assert.equal("usage", problem.kind, i)
                assert.matches("the server stops reading", problem.message, nil, nil, i)
            end
            local pieces <const> = { "x\n", "\\", ".", "\n", "y\n" }
            assert.matches("line 2 ", raised(e.copy_in, e, t, { "a" }, coroutine.wrap(function()
                for _, piece in ipairs(pieces) do coroutine.yield(piece) end
            end)).message)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            assert.equal(1, e:copy_in(t, { "a" }, "x\n\\.\n"))
            assert.equal(2, e:copy_in(t, { "a" }, '"\\."\ny\n', { format = "csv" }))
            assert.equal(1, e:copy_in(t, { "a" }, '"x\n\\.\ny"\n', { format = "csv" }))
            assert.equal(2, e:copy_in(t, { "a" }, "\\\\.\ny\n"))
            assert.equal(2, e:copy_in(t, { "a" }, { { "\\." }, { "y" } }, { format = "csv" }))
        end)

        it("takes 40 MB of text without keeping it", function()
            local e <close> = open()
            local t = pg.table(e, "s text")
            local line = ("z"):rep(1023) .. "\n"
            local block = line:rep(64)
            local n = 0
            assert.equal(640 * 64, e:copy_in(t, { "s" }, function()
                n = n + 1
                return n <= 640 and block or nil
            end))
            assert.equal(640 * 64 * 1023, e:value(("select sum(length(s))::int8 from %s"):format(t)))
        end)

        it("refuses a row that is too long, a value that is not a row, an unknown format", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            for _, rows in ipairs { { { 1, "x", "lost" } }, { { 1, {} } }, { { 1, print } }, { 7 }, { true },
                { { 1, "x" }, 7 }, { { 1, "x" }, "2\ty\n" } } do
                local problem = raised(e.copy_in, e, t, { "a", "b" }, rows)
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
                assert.equal(0, count(e, t))
            end
            assert.is_true(errors.is(raised(e.copy_in, e, t, { "a", "b" }, {}, { format = "xml" }), "usage"))
            assert.is_true(errors.is(raised(e.copy_in, e, t, { "a", "b" }, 7), "usage"))
            assert.is_true(errors.is(raised(e.copy_in, e, t, { "a", "b" }), "usage"))
            assert.equal(1, e:stats().opened)
        end)

        it("of rows can use CSV", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            local ok, problem = pcall(e.copy_in, e, t, { "a", "b" }, { { 1, 'a,"b"\t\n\\N' } }, { format = "csv" })
            if ok then
                assert.equal('a,"b"\t\n\\N', e:value(("select b from %s"):format(t)))
            else
                assert.is_true(errors.is(problem, "usage"))
            end
        end)

        it("whose producer raises leaves no rows, and raises that error", function()
            local e <close> = open()
            local t = pg.table(e, "a int")
            for _, n in ipairs { 0, 1, 100000 } do
                local i = 0
                local problem = raised(e.copy_in, e, t, { "a" }, function()
                    i = i + 1
                    if i > n then
                        error("the producer gave up", 0)
                    end
                    return { i }
                end)
                assert.equal("the producer gave up", problem)
                assert.equal(0, count(e, t))
            end
            assert.equal(1, e:stats().opened)
        end)

        it("with a row that the server refuses leaves no rows and names that row", function()
            local e <close> = open()
            local t = pg.table(e, "a int primary key, b int check (b < 10)")
            -- The refused row can be the last, or followed by megabytes.
            for _, n in ipairs { 2, 200000 } do
                for _, bad in ipairs { { { 1, 1 }, "23505" }, { { 2, 10 }, "23514" }, { { nil, 1 }, "23502" } } do
                    local i = 0
                    local problem = raised(e.copy_in, e, t, { "a", "b" }, function()
                        i = i + 1
                        if i == 1 then
                            return { 1, 1 }
                        elseif i == 2 then
                            return bad[1]
                        end
                        return i <= n and { i + 10, 1 } or nil
                    end)
                    assert.equal(bad[2], problem.sqlstate)
                    assert.is_true(errors.is(problem, "constraint"))
                    assert.equal("failed", problem.outcome)
                    assert.matches("line 2", problem.context)
                    assert.equal(0, count(e, t))
                end
            end
            assert.equal(1, e:stats().opened)
        end)

        it("into a missing table or column says so", function()
            local e <close> = open()
            local t = pg.table(e, "a int")
            assert.equal("42P01", raised(e.copy_in, e, "no_such_table", { "a" }, { { 1 } }).sqlstate)
            assert.equal("42703", raised(e.copy_in, e, t, { "nope" }, { { 1 } }).sqlstate)
            assert.equal("42P01", raised(e.copy_in, e, "no_such_table", { "a" }, "1\n").sqlstate)
            assert.equal(1, e:value "select 1")
            assert.equal(1, e:stats().opened)
        end)

        it("in a transaction is part of it", function()
            local e <close> = open()
            local t = pg.table(e, "a int")
            raised(e.transaction, e, function(tx)
                assert.equal(2, tx:copy_in(t, { "a" }, { { 1 }, { 2 } }))
                assert.equal(2, tx:value(("select count(*) from %s"):format(t)))
                error "no"
            end)
            assert.equal(0, count(e, t))
            e:transaction(function(tx)
                raised(tx.transaction, tx, function(inner)
                    inner:copy_in(t, { "a" }, { { 3 }, { "x" } })
                end)
                tx:copy_in(t, { "a" }, { { 4 } })
            end)
            assert.equal(4, e:value(("select a from %s"):format(t)))
        end)

        it("lets its producer query on another connection", function()
            local e <close> = open { size = 2 }
            local t = pg.table(e, "a int")
            local i = 0
            assert.equal(50, e:copy_in(t, { "a" }, function()
                i = i + 1
                return i <= 50 and { e:value("select $1::int * 2", i) } or nil
            end))
            assert.equal(2550, e:value(("select sum(a)::int from %s"):format(t)))
        end)

        it("refuses statements of its producer on the same connection, and continues", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "a int")
            local c <close> = e:acquire()
            local i, problem = 0, nil
            assert.equal(3, c:copy_in(t, { "a" }, function()
                i = i + 1
                if i > 1 then -- the producer gives the first row before the COPY begins
                    problem = raised(c.value, c, "select 1")
                end
                return i <= 3 and { i } or nil
            end))
            assert.is_true(errors.is(problem, "usage"), tostring(problem))
            assert.equal(3, count(c, t))
        end)
    end)

    describe("a connection lost in COPY", function()
        it("is an error, and no rows stay", function()
            local e <close> = open { size = 2 }
            local killer <close> = open { size = 1 }
            local t = pg.table(e, "a int")
            local c <close> = e:acquire()
            local pid = c:backend_pid()
            local i = 0
            local problem = raised(c.copy_in, c, t, { "a" }, function()
                i = i + 1
                if i == 1000 then
                    killer:value("select pg_terminate_backend($1, 5000)", pid)
                end
                return i <= 1000000 and { i } or nil
            end)
            assert.is_true(errors.is(problem, "connect"), tostring(problem))
            assert.equal(0, count(e, t))
            assert(mode)
        end)
    end)
end)

describe("[async] copy_in", function()
    it("that is cancelled leaves no rows, and the connection is used again", function()
        local e <close> = pg.engine { size = 1 }
        local t = pg.table(e, "a int")
        local pid = e:value "select pg_backend_pid()"
        for _, after in ipairs { 0, 10, 100000 } do
            local i = 0
            local problem = raised(task.timeout, 0.05, e.copy_in, e, t, { "a" }, function()
                i = i + 1
                if i > after then
                    task.sleep(10)
                end
                return { i }
            end)
            assert.is_true(errors.is(problem, "timeout"))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end
        assert.equal(pid, e:value "select pg_backend_pid()")
    end)

    it("right after a cancelled statement on the same connection waits until that has ended", function()
        local e <close> = pg.engine { size = 1 }
        local t = pg.table(e, "a int")
        local c <close> = e:acquire()
        for i = 1, 5 do
            pcall(task.timeout, 0.02, c.value, c, "select pg_sleep(10)")
            assert.equal(1, c:copy_in(t, { "a" }, { { i } }))
        end
    end)

    it("does not delay other tasks while the server reads slowly", function()
        local e <close> = pg.engine { size = 2 }
        local t = pg.table(e, "a text")
        e:exec(([[create function %s_slow() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.002); return new; end $$;
            create trigger slow before insert on %s for each row execute function %s_slow()]]):format(t, t, t))
        local i = 0
        local text = ("x"):rep(100000)
        local worst = pace.ticking(function()
            e:copy_in(t, { "a" }, function()
                i = i + 1
                return i <= 200 and { text } or nil
            end)
        end)
        assert(worst < 0.1, worst)
    end)
end)
