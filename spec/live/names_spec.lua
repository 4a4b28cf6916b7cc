--- dbrun's own statements mean PostgreSQL's types, tables, functions and operators, even when other objects have their
--- names and come first in the search path.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local scripts = require "spec.support.scripts"
local seed = require "dbrun.seed"
local servers = require "spec.support.servers"
local shadows = require "spec.support.shadows"

--- A database with user-defined types, in `public`.
local function database()
    local url <const>, name <const> = servers.database()
    local function psql(text) return servers.shared_postgres():psql(text, name) end
    psql [[create type mood as enum ('sad', 'happy'); create domain small as int check (value < 10);
        create type pair as (a int, b mood, c small); create type moods as range (subtype = mood);
        create table stock (id int primary key, m mood, p pair, s small, l mood[])]]
    return url, psql
end

local VALUES <const> = [[select 'sad'::public.mood m, (1, 'happy', 2)::public.pair p, 3::public.small s,
    '{sad,NULL}'::public.mood[] l, '["sad","happy")'::public.moods r]]
local READ <const> = {
    m = "sad", p = { a = 1, b = "happy", c = 2 }, s = 3, l = { "sad", db.null },
    r = { lower = "sad", upper = "happy", lower_inc = true, upper_inc = false },
}

pg.on_both(describe, function(mode)
    local url, psql
    setup(function() url, psql = database() end)

    describe("values of the database's own types, tables and locks", function()
        local function works(engine)
            engine:exec "truncate public.stock"
            assert.same(READ, engine:one(VALUES))
            for row in engine:rows(VALUES) do assert.same(READ, row) end
            engine:copy_in("public.stock", nil, { { id = 1, m = "sad", s = 2, l = { "happy" } } })
            for row in engine:copy_out "public.stock" do
                assert.same({ id = 1, m = "sad", s = 2, l = { "happy" } }, row)
            end
            assert.equal(7, engine:advisory_lock("names", function(conn)
                assert.matches("^process %d+", require("dbrun.db.advisory").holder(conn,
                    require("dbrun.db.advisory").hash "names"))
                return 7
            end))
        end

        local function open()
            return pg.engine { mode = mode, url = url, size = 1, overflow = 0 }
        end

        it("are read and written despite temporary tables with the names of types and catalogs", function()
            local engine <close> = open()
            shadows.temporary(engine)
            works(engine)
            engine:transaction(function(tx)
                assert.equal(1, seed.upsert(tx, "public.stock", { "id" }, { { 2, "happy", db.null, 1, db.null } }))
            end)
        end)

        it("are read and written with functions and operators in front of pg_catalog", function()
            shadows.schema(psql)
            local engine <close> = open()
            assert.matches("of the schema in front", pg.raised(engine.value, engine, "select lower('A')").message)
            assert.matches("of the schema in front", pg.raised(engine.value, engine, "select 1::oid = 2::oid").message)
            works(engine)
        end)
    end)
end)

describe("a user-defined type with the name of a type that dbrun knows", function()
    local engine
    setup(function()
        engine = pg.engine { size = 1 }
        engine:exec [[create type hstore as enum ('a', 'b'); create type vector as (x int, y text);
            create domain citext as int; create schema x; create extension if not exists hstore schema x]]
    end)
    teardown(function() engine:dispose() end)

    it("is read as its own type", function()
        for _ = 1, 3 do
            assert.same({ e = "b", c = { x = 1, y = "z" }, l = { "a", "b" }, d = 4, lc = { { x = 2, y = "t" } } },
                engine:one [[select 'b'::hstore e, (1, 'z')::vector c, '{a,b}'::hstore[] l, 4::citext d,
                    array[(2, 't')::vector] lc]])
        end
    end)

    it("does not hide the type of the extension, in any schema", function()
        assert.same({ a = "1", b = db.null }, engine:value [[select '"a"=>"1", "b"=>NULL'::x.hstore]])
    end)
end)

describe("commands in a database with functions and operators in front of pg_catalog", function()
    local url, psql, root, env
    setup(function()
        url, psql = database()
        shadows.schema(psql)
        root = fs.mkdtemp()
        env = { DATABASE_URL = url, REDIS_URL = (servers.redis_db()), DBRUN_MIGRATIONS_DIR = root .. "/migrations" }
        fs.mkdir(root .. "/migrations")
        fs.write(root .. "/migrations/1_t.sql", "-- migrate:up\ncreate table public.t (id int primary key, v int);\n" ..
            "-- migrate:down\ndrop table public.t;\n")
        fs.write(root .. "/migrations/2_i.sql", "-- migrate:up transaction:false\n" ..
            "create index concurrently t_v on public.t (v);\n-- migrate:down transaction:false\n" ..
            "drop index concurrently public.t_v;\n")
        fs.mkdir(root .. "/seeds")
        fs.write(root .. "/seeds/010_t.lua", [[return function(ctx)
            ctx.db:query("insert into public.t values (1, 1)")
        end]])
        fs.write(root .. "/expect.lua", [[return { { table = "public.t", columns = { "id int4 not null" },
            indexes = { "t_v" }, privileges = "select" }, { extension = "plpgsql" } }]])
    end)
    teardown(function() fs.rmtree(root) end)

    local function run(script, ...)
        local result <const> = scripts.run(script, { ... }, env)
        assert.equal(0, result.code, result.text)
        assert.not_matches("of the schema in front", result.text)
    end

    it("migrate, up and down and again", function()
        run("migrate", "up")
        run("migrate", "status")
        run("migrate", "down")
        run("migrate", "up")
    end)

    it("verify", function() run("verify", "--expect", root .. "/expect.lua") end)
end)
