--- Parameters written as other libraries write them: the server's error gets a hint at $1 and :name.
local db = require "dbrun.db"
local pg = require "spec.support.pg"

local raised = pg.raised

local foreign <const> = {
    ["?"] = "select 1 where 1 = ?", ["%s"] = "select %s", ["%(n)s"] = "select 1 where 1 = %(n)s",
    ["@p1"] = "select @p1", ["$n"] = "select $n", [":1"] = "select :1",
}

local function hint(...)
    local e <const> = raised(...)
    return (e.hint or "no hint: " .. tostring(e))
end

pg.on_both(describe, function(mode, open)
    describe("a parameter of another library", function()
        for text, sql in pairs(foreign) do
            it(text .. " gets a hint with dbrun's notation", function()
                for _, opts in ipairs { {}, mode == "async" and { pipeline = 4 } or nil } do
                    local e <close> = open(opts)
                    for _, call in ipairs { e.query, e.one, e.value, e.columns } do
                        local told = hint(call, e, sql, 5)
                        assert.matches("$1", told, 1, true)
                        assert.matches("not as " .. text, told, 1, true)
                    end
                end
            end)
        end

        it("gets the hint in every kind of statement", function()
            local e <close> = open()
            local works = {
                rows = function() for _ in e:rows("select ?", 1) do end end,
                pipeline = function() e:pipeline(function(p) p:query("select ?", 1) end) end,
                execute_many = function() e:execute_many("select ?", { { 1 } }) end,
                cursor = function() e:transaction(function(tx) tx:cursor("select ?", 1) end) end,
                copy_out = function() e:copy_out "select ? from pg_class" end,
                ["copy_out of text"] = function() e:copy_out("select ? from pg_class", { raw = true }) end,
                ["a table of values"] = function() e:query("select ?", { id = 5 }) end,
                ["a list of values"] = function() e:query("select ?", { 5 }) end,
            }
            for name, work in pairs(works) do
                assert.matches("not as ?", hint(work), 1, true, name)
            end
        end)

        it("gets its hint before the server's own", function()
            local e <close> = open()
            local told = hint(e.query, e, "select @p1 from (select 1 as p2) t", 5)
            assert.matches("not as @p1%. .*p2", told)
        end)
    end)

    describe(":name", function()
        it("is named in errors of its value", function()
            local e <close> = open()
            local sql <const> = "select :a::int[], :b::text"
            for i, way in ipairs {
                function() e:query(sql, { a = {}, b = "\0" }) end, function() e:value(sql, { a = {}, b = "\xff" }) end,
                function() e:execute_many(sql, { { a = db.null, b = "\xff" } }) end,
                function() e:query("select :b::int", { b = {} }) end,
                function() e:pipeline(function(p) p:query("select :b::int", { b = {} }) end) end,
            } do
                assert.matches("parameter :b %(%$%d%) ", raised(way).message, nil, nil, i)
            end
            -- the same SQL, as it is sent, without names
            for i, way in ipairs {
                function() e:query("select $1::int[], $2::text", {}, "\0") end,
                function() e:execute_many("select $1::int[], $2::text", { { db.null, "\xff" } }) end,
                function() e:query("select $1::int", {}) end,
                function() e:pipeline(function(p) p:query("select $1::int", {}) end) end,
            } do
                assert.matches("parameter $", raised(way).message, 1, true, i)
            end
            assert.matches("parameter %$2 ", raised(e.query, e, "select $1, $2", 1, print).message)
        end)

        it("with a value passed by position is an error with a hint", function()
            local e <close> = open()
            assert.matches("{id = ...}", hint(e.query, e, "select :id", 5), 1, true)
            assert.matches("not as a list", hint(e.query, e, "select :id", { 5 }), 1, true)
        end)

        it("directly after a word is told, with what to write", function()
            local e <close> = open()
            for _, values in ipairs { { id = true }, { id = true, a = 1 } } do
                local sql <const> = ("select %s = 1 and:id"):format(values.a and ":a" or "1")
                local told <const> = hint(e.query, e, sql, values)
                assert.matches("and:id is no parameter", told, 1, true)
                assert.matches("put a blank there", told, 1, true)
            end
            assert.is_true(e:value("select 1 = 1 and :id", { id = true }))
        end)
    end)

    describe("$1, $2 and so on", function()
        it("are counted in the error when their number is wrong, and refused where none is allowed", function()
            local e <close> = open()
            local told <const> = {
                { "fewer values .* last one is %$2%.", "select $1::int, $2::int", 1 },
                { "fewer values .* last one is %$1%.", "select $1::int" },
                { "more values .* last one is %$1%.", "select $1::int", 1, 2 },
                { "has no parameter: %$1 in quotes", "select '$1'", "a" },
                { "has %$3, but no %$2:", "select $1::int, $3::int", 1, 2, 3 },
                { "%$1::type", "select $1 is null", 1 },
                { "db%.literal%(v%)", "set work_mem = $1", "4MB" },
                { "db%.literal%(v%)", "set work_mem = :m", { m = 1 } },
                { "db%.ident%(name%)", "select * from $1", "pg_class" },
                { "db%.literal%(v%)", "create view counted as select $1::int as a", 5 },
                { "db%.literal%(v%)", "do $$ begin perform $1; end $$", 5 },
            }
            for _, case in ipairs(told) do
                for _ = 1, 2 do assert.matches(case[1], hint(e.query, e, table.unpack(case, 2)), nil, nil, case[2]) end
            end
            assert.matches("last one is %$1%.", hint(e.execute_many, e, "select $1::int", { { 1 }, {} }))
            assert.matches("last one is %$1%.", hint(e.pipeline, e, function(p) p:query("select $1::int", 1, 2) end))
            assert.is_nil(raised(e.query, e, "select $1::int +", 1).hint)
        end)
    end)

    describe("the operator ? of jsonb", function()
        it("works, and another error in the statement has no hint", function()
            local e <close> = open()
            local sql = [[select d ? $1 as a, d ?| array['x', 'k'] as b from (select '{"k": 1}'::jsonb) t (d)]]
            assert.same({ a = true, b = true }, e:one(sql, "k"))
            assert.is_nil(raised(e.query, e, [[select '{}'::jsonb ? 'a', nothing_of_it]]).hint)
        end)
    end)
end)
