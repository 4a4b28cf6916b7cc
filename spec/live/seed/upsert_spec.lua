-- upsert: many rows at once, existing and new ones.
local db = require "dbrun.db"
local errors = require "dbrun.error"
local seed = require "dbrun.seed"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

describe("upsert", function()
    local engine

    before_each(function()
        engine = db.engine { url = (servers.database()), size = 2 }
        engine:exec [[create table t (id bigint primary key, name text, "odd col" int default 7);
            create table pairs (a int, b int, primary key (a, b))]]
    end)
    after_each(function() engine:dispose() end)

    local function upsert(...)
        local args = table.pack(...)
        return engine:transaction(function(tx) return seed.upsert(tx, table.unpack(args, 1, args.n)) end)
    end

    local function all()
        return engine:value [[select coalesce(string_agg(format('%s %s %s', id, name, "odd col"), ', ' order by id), '')
            from t]]
    end

    it("inserts missing rows and updates different ones, and counts both", function()
        assert.equal(2, upsert("t", { "id" }, { { id = 1, name = "a" }, { id = 2, name = "b" } }))
        assert.equal("1 a 7, 2 b 7", all())
        local rows = { { id = 1, name = "a" }, { id = 2, name = "c" }, { id = 3, name = "d" } }
        assert.equal(2, upsert("t", { "id" }, rows))
        assert.equal("1 a 7, 2 c 7, 3 d 7", all())
        assert.equal(0, upsert("t", { "id" }, { { id = 1, name = "a" }, { id = 3, name = "d" } }))
        assert.equal(0, upsert("t", { "id" }, engine:query "select id, name from t"))
        assert.equal(1, upsert("t", { "id" }, { { id = 3, name = db.null } }, { columns = { "id", "name" } }))
        assert.equal("1 a 7, 2 c 7, 3  7", all())
    end)

    it("does not write rows that are equal already", function()
        upsert("t", { "id" }, { { 1, "a", 1 }, { 2, "b", db.null } })
        local before = engine:value "select string_agg(xmin::text || ctid::text, ' ' order by id) from t"
        assert.equal(0, upsert("t", { "id" }, { { 1, "a", 1 }, { 2, "b", db.null } }))
        assert.equal(before, engine:value "select string_agg(xmin::text || ctid::text, ' ' order by id) from t")
    end)

    it("does not change existing rows with update = false, or without other columns than the key", function()
        upsert("t", { "id" }, { { 1, "a", 1 } })
        assert.equal(1, upsert("t", { "id" }, { { 1, "x", 1 }, { 2, "y", 2 } }, { update = false }))
        assert.equal("1 a 1, 2 y 2", all())
        assert.equal(2, upsert("pairs", { "a", "b" }, { { 1, 1 }, { 1, 2 } }))
        assert.equal(1, upsert("pairs", { "b", "a" }, { { a = 1, b = 1 }, { a = 2, b = 1 } }))
    end)

    it("refuses a list with a nil in it", function()
        assert.equal("seed.upsert: row 2 is nil, and others follow",
            pg.raised(upsert, "t", { "id" }, { { 1, "a", 1 }, nil, { 3, "c", 3 } }).message)
        assert.matches("^seed.upsert: the list of rows is an empty table whose content is in its metatable",
            pg.raised(upsert, "t", { "id" }, setmetatable({}, { __len = function() return 1 end })).message)
    end)

    it("takes rows from a function, one per call, and an empty list", function()
        local i = 0
        assert.equal(2500, upsert("t", { "id" }, function()
            i = i + 1
            return i <= 2500 and { i, "n" .. i } or nil
        end, { columns = { "id", "name" } }))
        assert.equal(2500, engine:value "select count(*) from t where name = 'n' || id")
        assert.equal(0, upsert("t", { "id" }, {}))
        assert.equal(0, upsert("t", { "id" }, function() end))
    end)

    it("works several times in a transaction, on columns with odd names and in other schemas", function()
        engine:exec [[create schema "My"; create table "My"."Ta.ble" ("K" int primary key, "v ""x" text)]]
        engine:transaction(function(tx)
            for n = 2, 4 do
                assert.equal(2, seed.upsert(tx, { "My", "Ta.ble" }, { "K" }, { { K = 1, ['v "x'] = "v" .. n },
                    { K = n, ['v "x'] = "v" .. n } }))
            end
        end)
        assert.equal("1 v4,2 v2,3 v3,4 v4", engine:value [[
            select string_agg("K" || ' ' || "v ""x", ',' order by "K") from "My"."Ta.ble"]])
    end)

    it("works without a join of the rows when the server does not support it", function()
        -- A policy refuses the join as Citus does.
        engine:exec [[
            create function unsupported() returns bool language plpgsql as $$ begin
                if current_query() like '%not exists%' then
                    raise sqlstate '0A000' using message = 'complex joins are not supported';
                end if;
                return true;
            end $$;
            create role upserter; grant all on t, pairs to upserter;
            alter table t enable row level security; create policy p on t using (unsupported());
            alter table pairs enable row level security; create policy p on pairs using (unsupported());
            insert into t values (1, 'a'), (2, 'b'); insert into pairs values (1, 1)]]
        engine:transaction(function(tx)
            tx:exec "set local role upserter"
            assert.equal(2, seed.upsert(tx, "pairs", { "a", "b" }, { { 1, 1 }, { 1, 2 }, { 1, 3 } }))
            local rows = { { id = 1, name = "a" }, { id = 2, name = "B" }, { id = 3, name = "c" } }
            assert.equal(2, seed.upsert(tx, "t", { "id" }, rows))
            assert.equal(1, seed.upsert(tx, "t", { "id" }, { { id = 1, name = "x" }, { id = 4, name = "d" } },
                { update = false }))
        end)
        assert.equal(3, engine:value "select count(*) from pairs")
        assert.equal("1 a 7, 2 B 7, 3 c 7, 4 d 7", all())
        engine:exec "drop owned by upserter; drop role upserter"
    end)

    it("compares types that have no operator =, or none in the search_path", function()
        engine:exec [[create schema ext; create extension hstore schema ext; create extension citext schema ext;
            create type ext.pair as (a int, j json); create domain ext.doc as json;
            create table things (id int primary key, j json, js json[], x xml, p point, b box, h ext.hstore,
                c ext.citext, pair ext.pair, d ext.doc, r int4range)]]
        local row = { id = 1, j = '{"a": 1}', js = { "[1]", "{}" }, x = "<a/>", p = "(1,2)", b = "(0,0),(1,1)",
            h = "a=>1", c = "X", pair = '(1,"{}")', d = "[]", r = "[1,3)" }
        assert.equal(1, upsert("things", { "id" }, { row }))
        assert.equal(0, upsert("things", { "id" }, { row }))
        local others = { j = '{"a": 2}', js = { "[1]", "[]" }, x = "<b/>", p = "(1,3)", b = "(5,5),(6,6)", h = "a=>2",
            c = "x", pair = '(1,"[]")', d = "{}", r = "[1,4)" }
        for name, value in pairs(others) do
            row[name] = value
            assert.equal(1, upsert("things", { "id" }, { row }), name)
        end
        assert.equal(0, upsert("things", { "id" }, { row }))
    end)

    it("gives identity columns the values of the rows", function()
        engine:exec "create table made (id bigint generated always as identity primary key, v int)"
        assert.equal(2, upsert("made", { "id" }, { { id = 7, v = 1 }, { id = 8, v = 1 } }))
        assert.equal(1, upsert("made", { "id" }, { { id = 7, v = 1 }, { id = 8, v = 2 } }))
        assert.equal("7 1, 8 2", engine:value "select string_agg(id || ' ' || v, ', ' order by id) from made")
    end)

    it("causes no server messages of its own", function()
        local said = {}
        engine:transaction(function(tx)
            tx:on_notice(function(notice) said[#said + 1] = notice.message end)
            for _ = 1, 2 do seed.upsert(tx, "t", { "id" }, { { id = 1, name = "a" } }) end
        end)
        assert.same({}, said)
    end)

    it("says what is wrong with the key or the rows", function()
        local function failure(...)
            local ok, e = pcall(upsert, ...)
            assert.is_false(ok)
            assert.is_true(errors.is(e), tostring(e))
            return e
        end
        local e = failure("t", { "name" }, { { 1, "a", 1 } })
        assert.equal("42P10", e.sqlstate)
        assert.matches("unique index on (name)", e.hint, 1, true)
        e = failure("t", { "id" }, { { 1, "a", 1 }, { 1, "b", 1 } })
        assert.equal("21000", e.sqlstate)
        assert.matches("two rows have the same (id)", e.hint, 1, true)
        assert.equal("usage", failure("t", {}, { { 1 } }).kind)
        assert.equal("usage", failure("t", { "id" }, { { name = "a" } }).kind)
        assert.equal("usage", failure("t", { "id" }, 5).kind)
        assert.equal("42P01", failure("nowhere", { "id" }, { { 1 } }).sqlstate)
        assert.equal("", all())
    end)
end)
