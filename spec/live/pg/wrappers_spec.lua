--- db.array, db.range, db.composite, db.typed, codecs, timestamps as numbers: values with the types that they state, or
--- that the server expects.
local db = require "dbrun.db"
local json = require "dbrun.json"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local raised = pg.raised

local MULTIRANGES <const> = servers.version() >= 14

pg.on_both(describe, function(_, open)
    describe("a wrapper", function()
        local e
        before_each(function()
            e = open()
            e:exec [[
                drop schema if exists app cascade; create schema app;
                create type app.pair as (n int, t text);
                create type app."Mood" as enum ('sad', 'ok');
                create domain app.small as int check (value < 100);
                create type app.span as range (subtype = text)]]
        end)
        after_each(function() e:close() end)

        local function type_of(p)
            return e:value("select pg_typeof($1)::text", p)
        end

        it("can state any SQL type", function()
            for name, value in pairs {
                ["timestamp with time zone"] = "2024-01-01T00:00:00Z", ["character varying"] = "x",
                ["pg_catalog.int4"] = 5,
                pg_lsn = "0/1", ["app.pair"] = "(1,x)", ['app."Mood"'] = "sad", ["app.small"] = 5,
                ["app.span"] = "[a,b)",
                ["int4[]"] = { 1, 2 },
                int4multirange = MULTIRANGES and { { lower = 1, upper = 2, lower_inc = true } } or nil,
                ['"char"'] = "x",
                ["double precision"] = 1.5, ["interval"] = "1 day",
            } do
                local expected = e:value("select format_type($1::regtype, null)", name)
                assert.equal(expected, type_of(db.typed(value, name)))
                if type(value) ~= "table" then
                    assert.equal(expected .. "[]", type_of(db.array({ value, db.null }, name)))
                end
            end
            assert.equal("app.pair", type_of(db.composite({ n = 1 }, "app.pair")))
            assert.equal("numrange", type_of(db.range({ lower = 1 }, "numrange")))
        end)

        it("of a type that does not exist is an error before anything is sent", function()
            local problem = raised(e.value, e, "select $1", db.typed(1, "app.none"))
            assert.same({ "usage", "not_sent" }, { problem.kind, problem.outcome })
            assert.matches('there is no type "app.none"', problem.message, 1, true)
        end)

        it("char is character, as in SQL, and \"char\" the type of one byte", function()
            assert.equal("ab", e:value("select $1", db.typed("ab", "char")))
            assert.equal("character", type_of(db.typed("ab", "char")))
            assert.equal('"char"', type_of(db.typed("a", '"char"')))
        end)

        it("of elements gives the array its type", function()
            local p = db.array { db.typed("1.5", "numeric"), db.null }
            assert.same({ "numeric[]", "{1.5,NULL}" }, { type_of(p), e:value("select $1::text", p) })
            p = db.array { db.typed("(1,x)", "app.pair") }
            assert.same({ "app.pair[]", '{"(1,x)"}' }, { type_of(p), e:value("select $1::text", p) })
            assert.matches("several types", raised(db.array, { db.typed(1, "int4"), db.typed(1, "int8") }).message)
        end)

        it("refuses holes and named keys", function()
            for _, list in ipairs { { a = 1 }, { 1, nil, 3 }, { 1, a = 2 } } do
                for _, name in ipairs { "int4", false } do
                    local problem = raised(function()
                        return e:value("select $1::int[]", db.array(list, name or nil))
                    end)
                    assert.equal("usage", problem.kind)
                end
                assert.equal("usage", raised(e.value, e, "select $1::int[]", list).kind)
            end
        end)

        it("refuses an empty table whose content is in its metatable", function()
            local proxy <const> = setmetatable({}, { __index = { 1, 2 }, __len = function() return 2 end })
            for _, way in ipairs {
                function() db.array(proxy) end, function() db.array(proxy, "int4") end,
                function() db.array { proxy } end, function() db.json(proxy) end,
                function() db.composite(proxy, "app.pair") end, function() db.typed(proxy, "int4[]") end,
                function() e:value("select $1::int[]", proxy) end,
                function() e:value("select $1::jsonb", { proxy }) end,
                function() e:value("select $1::int[]", { { 1, 2 }, proxy }) end,
            } do
                local problem = raised(way)
                assert.equal("usage", problem.kind)
                assert.matches("an empty table whose content is in its metatable", problem.message, 1, true)
                assert.matches("plain table", problem.hint)
            end
            assert.equal(3, e:value("select :a::int + :b::int", setmetatable({}, { __index = { a = 1, b = 2 } })))
        end)

        it("copies its value", function()
            local list, pair = { 1, 2 }, { n = 1 }
            local p = db.array(list, "app.small")
            local c = db.composite(pair, "app.pair")
            list[1], pair.n = 9, 9
            assert.equal("{1,2}", e:value("select $1::text", p))
            assert.equal("(1,)", e:value("select $1::text", c))
        end)

        it("of an array sets dimensions and first indexes", function()
            assert.equal("[0:1]={1,2}", e:value("select $1::text", db.array({ 1, 2 }, "int4", { lower = { 0 } })))
            assert.equal('{{"{}",[]}}', e:value("select $1::text",
                db.array({ { {}, json.array {} } }, "jsonb", { dims = 2 })))
        end)

        it("by position is possible only with db.composite", function()
            assert.equal("(1,x)", e:value("select $1::text", db.composite({ 1, "x" }, "app.pair")))
            assert.equal("(1,x)", e:value("select ($1::app.pair)::text", db.composite { 1, "x" }))
            assert.matches("db.composite", raised(e.value, e, "select $1::app.pair", { 1, "x" }).hint, 1, true)
        end)
    end)

    describe("a plain table", function()
        it("as the only argument is values by name, or the value of $1", function()
            local e <close> = open()
            assert.same({ 1, 2 }, e:value("select $1::int[]", { 1, 2 }))
            assert.equal(3, e:value("select :n::int", { n = 3 }))
            assert.matches("no :name and no $1", raised(e.value, e, "select 1", { 1 }).message, 1, true)
            assert.equal(2, e:pipeline(function(p) p:query("select ($1::int[])[2] as v", { 1, 2 }) end)[1][1].v)
        end)

        it("in json[] must be unambiguous", function()
            local e <close> = open()
            local problem = raised(e.value, e, "select $1::jsonb[]", { { 1, 2 } })
            assert.matches("a list inside of a list", problem.message, 1, true)
            assert.matches("db.json", problem.hint, 1, true)
            assert.equal('{"[1, 2]"}', e:value("select ($1::jsonb[])::text", { db.json { 1, 2 } }))
        end)

        it("of another shape than its type is refused with the place", function()
            local e <close> = open()
            e:exec "drop type if exists pair; create type pair as (n int, t text)"
            for _, case in ipairs {
                { "int4range", { lower = 1, uper = 2 }, "uper" }, { "int4range", {}, "empty table" },
                { "pair", { n = 1, x = 2 }, '"x"' }, { "int[]", { 1, { 2 } }, "[2]" },
                { "int[]", { { 1 }, { 2, 3 } }, "rectangular" },
                { "text", { 1 }, "its type is text" },
                MULTIRANGES and { "int4multirange", { db.null }, "no NULLs" } or nil,
            } do
                local problem = raised(e.value, e, "select $1::" .. case[1], case[2])
                assert.same({ "usage", "not_sent" }, { problem.kind, problem.outcome })
                assert.matches(case[3], problem.message, 1, true)
                assert.matches("parameter $1", problem.message, 1, true)
            end
        end)

        it("follows a type that has changed", function()
            local e <close> = open()
            e:exec "drop table if exists follows; create table follows (v int[])"
            local sql = "insert into follows values ($1)"
            e:query(sql, { 1 })
            e:exec "alter table follows alter v type jsonb using to_jsonb(v)"
            e:query(sql, { a = { true } })
            assert.same({ "[1]", '{"a": [true]}' }, e:columns("select v::text as v from follows").v)
        end)
    end)

    describe("a codec", function()
        it("encodes where the server expects its type, only on its engine", function()
            local coded <close> = open()
            local plain <close> = open()
            coded:set_codec("point", {
                decode = function(text)
                    local x, y = text:match "%((.-),(.-)%)"
                    return { x = tonumber(x), y = tonumber(y) }
                end,
                encode = function(p) return ("(%s,%s)"):format(p.x, p.y) end,
            })
            local p = { x = 1, y = 2 }
            assert.same(p, coded:value("select $1::point", p))
            assert.same({ p, db.null }, coded:value("select $1::point[]", { p, db.null }))
            assert.same(p, coded:value("select $1", db.typed(p, "point")))
            assert.equal(5, coded:value("select $1::int", 5))
            assert.equal("(3,4)", plain:value("select $1::point", "(3,4)"))
            assert.equal("usage", raised(plain.value, plain, "select $1::point", p).kind)
            coded:transaction(function(tx)
                tx:exec "create temp table points (p point, n int) on commit drop"
                tx:execute_many("insert into points values ($1, $2)", { { p, 1 } })
                tx:copy_in("points", nil, { { p, 2 } })
                tx:copy_in("points", { "p" }, { { p = p } }, { format = "csv" })
                assert.equal(3, tx:value "select count(*) from points where p ~= '(1,2)'")
            end)
        end)
    end)

    describe("a timestamp as number", function()
        it("can be sent back, also in arrays and ranges", function()
            local e <close> = open { timestamps = "epoch" }
            for _, sql in ipairs { "'2024-05-06 07:08:09.123456+02'::timestamptz", "'1900-01-01 00:00:00.5'::timestamp",
                "'infinity'::timestamptz", "array['2024-01-01 00:00:01'::timestamp, null]",
                "tstzrange('2024-01-01', '2024-02-01')" } do
                local v = e:value("select " .. sql)
                for _ = 1, 3 do
                    assert.is_true(e:value(("select $1 is not distinct from %s"):format(sql), v), sql)
                end
            end
            assert.is_true(e:value("select $1 = '2024-05-06 07:08:09+00'::timestamptz",
                db.typed(e:value "select '2024-05-06 07:08:09+00'::timestamptz", "timestamptz")))
            assert.equal(7, e:value("select $1::int", 7))
        end)
    end)

    describe("a number", function()
        it("of 1e15 and above is whole for an integer type", function()
            local e <close> = open()
            for _, n in ipairs { 1e15, 2 ^ 53, -1e18, 123456789012345680.0 } do
                assert.equal(math.tointeger(n), e:value("select $1::int8", n))
                assert.same({ math.tointeger(n) }, e:value("select $1::int8[]", { n }))
            end
            assert.equal("-0", e:value("select $1::float8::text", -0.0))
            assert.equal("NaN", e:value("select $1::text", 0 / 0))
        end)

        it("of JSON that no integer holds is a float, or with numbers=\"exact\" a string", function()
            local e <close> = open()
            local exact <close> = open { numbers = "exact" }
            local sql = [[select '{"n": 123456789012345678901, "d": 0.1, "x": 0.12345678901234567891}'::jsonb]]
            for _ = 1, 3 do
                assert.same({ n = 123456789012345678901.0, d = 0.1, x = 0.12345678901234567891 }, e:value(sql))
                assert.same({ n = "123456789012345678901", d = 0.1, x = "0.12345678901234567891" }, exact:value(sql))
            end
            assert.matches("exact", raised(e.value, e, "select '1e400'::jsonb").hint)
        end)
    end)
end)
