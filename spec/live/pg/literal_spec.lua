-- Values written into SQL: db.literal, and the parameters of copy_out, compared with real parameters.
local db = require "dbrun.db"
local servers = require "spec.support.servers"

local ROUNDS <const> = 150

local TYPES <const> = { float = "float8", integer = "numeric", boolean = "bool", userdata = "text" }

local seed = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()

--- Random texts of characters that quoting can get wrong.
local PIECES <const> = {
    "'", "''", "\\", "\\\\", "\\'", '"', "$$", "$1", ":a", "--", "/*", "*/", ";", "\n", "\r", "\t", "\1",
    "\127", "E'", "U&'", "x", "é",
    "表", "\u{1F600}", "\u{a5}", "{", "}", ",", "NULL", " ", "\\u0041", "\\x41", "%s" }

local function hostile()
    local out = {}
    for i = 1, math.random(0, 8) do out[i] = PIECES[math.random(#PIECES)] end
    return table.concat(out)
end

describe("a value written into SQL", function()
    local engines
    setup(function()
        math.randomseed(seed)
        print("# DBRUN_TEST_SEED=" .. seed)
        local url = servers.database()
        local function engine(options)
            return db.engine { url = url, size = 2, on_connect = function(conn) conn:exec(options) end }
        end
        engines = { engine "set standard_conforming_strings = on",
            engine "set standard_conforming_strings = off; set escape_string_warning = off",
            engine "set backslash_quote = off" }
        engines[1]:exec [[create type mood as enum ('so''so', 'a\b'); create schema s;
            create type s."Odd" as (a int, b text); create table t (id int, name varchar(10), c char(4), at date)]]
        engines[1]:exec [[insert into t select i, 'n' || i, 'c' || i, date '2026-01-01' + i
            from generate_series(1, 9) i]]
    end)
    teardown(function()
        for _, engine in ipairs(engines) do engine:close() end
    end)

    --- The only row of a COPY.
    local function copied(engine, sql, ...)
        local rows = {}
        for row in engine:copy_out(sql, nil, ...) do rows[#rows + 1] = row end
        assert.equal(1, #rows)
        return rows[1].v
    end

    it("is equal to a parameter's value, for any text", function()
        for round = 1, ROUNDS do
            local text = hostile()
            local engine = engines[round % #engines + 1]
            local expected = engine:value("select $1::text", text)
            assert.equal(text, expected)
            assert.equal(text, copied(engine, ("select %s::text as v"):format(db.literal(text))))
            assert.equal(text, copied(engine, "select $1::text as v", text))
            assert.equal(text, copied(engine, "select :a::text as v -- :b $2", { a = text }))
        end
    end)

    it("is equal to a parameter's value, for each kind", function()
        for _, case in ipairs {
            { 5 }, { -5 }, { math.maxinteger }, { math.mininteger }, { 1.5 }, { -0.25 }, { 1e300 }, { 5e-324 },
            { true }, { false }, { db.null }, { 1 / 0 }, { -1 / 0 }, { 0 / 0 },
            { db.typed("1.50", "numeric(10,2)"), "numeric(10,2)" },
            { db.typed("1200", "numeric(3,-2)"), "numeric(3,-2)" },
            { db.typed("so'so", "mood"), "mood" }, { db.bytea "\0\1'\\\255é", "bytea" }, { db.bytea "", "bytea" },
            { db.array { 1, -2, db.null }, "int[]" },
            { db.array({ "a\\b", 'q"', "'", "", "NULL", db.null }, "text"), "text[]" },
            { db.array({ "so'so", "a\\b" }, "mood"), "mood[]" }, { db.array({ { 1, 2 }, { 3, 4 } }, "int4"), "int[]" },
            { db.json { a = "x'\\\"\n", b = { 1.5, true, db.null } }, "jsonb" },
            { db.range({ lower = 1, upper = 5 }, "int4range"), "int4range" },
            { db.typed("2026-01-31", "date"), "date" }, { "2026-01-31", "date" },
        } do
            for _, engine in ipairs(engines) do
                local kind = case[2] or TYPES[math.type(case[1]) or type(case[1])]
                local cast = case[2] and "::" .. kind or ""
                local expected = engine:value(("select ($1::%s)::text"):format(kind), case[1])
                local literal = ("select (%s%s)::text as v"):format(db.literal(case[1]), cast)
                assert.equal(expected, copied(engine, literal), literal)
                assert.equal(expected, engine:value((literal:gsub(" as v", ""))))
            end
        end
        assert.equal(8, engines[1]:value("select 3-" .. db.literal(-5)))
    end)

    it("has the type that the server expects as a parameter of copy_out", function()
        local function ids(sql, ...)
            local list = {}
            for row in engines[1]:copy_out(sql, {}, ...) do list[#list + 1] = row.id end
            return list
        end
        assert.same({ 3 }, ids("select id from t where id = $1", 3))
        assert.same({ 3 }, ids("select id from t where id = $1", "3"))
        assert.same({ 3 }, ids("select id from t where name = :n", { n = "n3" }))
        assert.same({ 3 }, ids("select id from t where c = $1", "c3")) -- char(4) is compared without its blanks
        assert.same({ 2, 5 }, ids("select id from t where id = any($1) order by id", { 5, 2 }))
        assert.same({ 8, 9 }, ids("select id from t where at > $1 order by id", "2026-01-08"))
        assert.same({}, ids("select id from t where name = $1", "x' or true --"))
        assert.same({}, ids("select id from t where id = $1", db.null))
        assert.same({ 1, 2 }, ids("select id from t order by id limit $1", 2))
        assert.same({ 7 }, ids("select ($1::int[])[2] as id", { 3, 7 }))
        assert.same({ 4 }, ids([[select ($1::s."Odd").a as id]], { a = 4, b = "x'\\" }))
        assert.same({ "so'so" }, ids("select $1::mood as id", "so'so"))
        assert.same({ { k = db.null } }, ids("select $1::jsonb as id", db.json { k = db.null }))
        assert.same({ "\0'\\" }, ids("select $1::bytea as id", db.bytea "\0'\\"))
        assert.same({ -5 }, ids("select 0 -$1::int as id", 5))
        assert.same({ "$1" }, ids("select '$1' as id where $1 = 'x'", "x"))
        local raw = {}
        for chunk in engines[1]:copy_out("select id, name from t where id < $1 order by 1",
            { raw = true, format = "csv" }, 3) do
            raw[#raw + 1] = chunk
        end
        assert.equal("1,n1\n2,n2\n", table.concat(raw))
    end)

    it("is refused when it cannot be written", function()
        local function refused(expected, fn, ...)
            local ok, e = pcall(fn, ...)
            assert.is_false(ok)
            assert.matches(expected, tostring(e), 1, true)
        end
        local e1 = engines[1]
        refused("contains a NUL byte", db.literal, "a\0b")
        refused("is a table", db.literal, { 1 })
        refused("is a function", db.literal, print)
        refused("the name of a type that is not valid in SQL", db.literal, db.typed("1", "int4); drop table t; --"))
        refused("the name of a type that is not valid in SQL", db.literal, db.typed("1", "int4 'x'"))
        refused("that only the server knows", db.literal, db.composite({ a = 1 }, "s.x"))
        refused("1 values for a query with 2 parameters", e1.copy_out, e1, "select $1::int, $2::int", nil, 1)
        refused("could not determine data type", e1.copy_out, e1, "select $1::int", nil, 1, 2)
        refused("invalid input syntax for type integer", e1.copy_out, e1, "select $1::int", nil, "1); drop table t; --")
        refused("parameters are for a query", e1.copy_out, e1, "t", nil, 1)
        refused("the parameter :b is passed in place of the options", e1.copy_out, e1, "select :b::int", { b = 1 })
        refused("parameters follow the options", e1.copy_out, e1, "select $1::int", 5)
        refused("is a function", e1.copy_out, e1, "select :b::int", nil, { b = print })
        refused("contains a NUL byte", e1.copy_out, e1, "select $1::text", nil, "\0")
        refused("the parameter :b has no value", e1.copy_out, e1, "select :b::int", nil, { a = 1 })
        assert.equal(9, e1:value "select count(*) from t")
    end)
end)
