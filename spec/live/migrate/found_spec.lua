-- The defaults of a command: the folder of migrations, and a table of versions that can be another tool's.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("without --dir", function()
    local url
    migrations.around(_ENV, function(...) url = ... end)

    local function run(files, name, ...)
        return scripts.run(name, { ... }, { DATABASE_URL = url }, { cwd = migrations.folder(files) })
    end

    it("migrations are found in db/migrations when there is no scripts/migrations", function()
        local result = run({ ["db/migrations/1_a.sql"] = migrations.table "a" }, "migrate", "up")
        assert.equal(0, result.code, result.text)
        result = run({ ["db/migrations/1_a.sql"] = migrations.table "a" }, "migrate", "status")
        assert.matches("%[X%] 1_a.sql", result.stdout)
        result = run({ ["db/migrations/1_a.sql"] = migrations.table "a" }, "migrate", "new", "b")
        assert.matches("^db/migrations/%d+_b.sql\n$", result.stdout)
        result = run({ ["db/migrations/2_b.sql"] = migrations.table "b" }, "verify", "--only", "schema.migrations")
        assert.matches("2_b.sql", result.stdout)
    end)

    it("both folders are an error that names them, unless one is chosen", function()
        local both = {
            ["db/migrations/1_a.sql"] = migrations.table "a", ["scripts/migrations/2_b.sql"] = migrations.table "b",
        }
        for _, command in ipairs { "up", "down", "status", "plan", "lint", "verify" } do
            local result = run(both, "migrate", command)
            assert.equal(2, result.code, command)
            assert.matches("two folders of migrations, scripts/migrations and db/migrations", result.stderr)
        end
        assert.equal(2, run(both, "migrate", "new", "x").code)
        assert.equal(0, run(both, "migrate", "up", "--dir", "db/migrations").code)
        local result = scripts.run("migrate", { "status" }, { DATABASE_URL = url,
            DBRUN_MIGRATIONS_DIR = "db/migrations" }, { cwd = migrations.folder(both) })
        assert.matches("%[X%] 1_a.sql", result.stdout)
    end)
end)

describe("the schema file", function()
    local url, sql
    migrations.around(_ENV, function(...)
        local _
        url, _, sql = ...
    end)

    it("is written after up, down and redo when it exists", function()
        local lacking = servers.pg_dump_lacks()
        if lacking then return pending(lacking) end
        local folder = migrations.folder { ["db/migrations/1_a.sql"] = migrations.table "a" }
        local function run(...) return scripts.run("migrate", { ... }, { DATABASE_URL = url }, { cwd = folder }) end
        run "up"
        assert.is_false(fs.exists(folder .. "/db/schema.sql"))
        run "down"
        fs.write(folder .. "/db/schema.sql", "old")
        assert.equal(0, run("up", "--no-dump-schema").code)
        assert.equal("old", fs.read(folder .. "/db/schema.sql"))
        assert.matches("Written: db/schema.sql", run("redo").stdout)
        assert.matches("%('1'%);\n$", fs.read(folder .. "/db/schema.sql"))
        run "down"
        assert.not_matches("CREATE TABLE public.a ", fs.read(folder .. "/db/schema.sql"))
    end)

    it("that cannot be written is a warning, and the migrations stay applied", function()
        local folder = migrations.folder { ["db/migrations/1_a.sql"] = migrations.table "a", ["db/schema.sql/x"] = "" }
        local result = scripts.run("migrate", { "up" }, { DATABASE_URL = url }, { cwd = folder })
        assert.equal(0, result.code, result.text)
        assert.matches("db/schema.sql was not written: ", result.stderr)
        assert.equal("1", sql "select version from schema_migrations")
    end)
end)

describe("migrate status --exit-code", function()
    it("is 2 when the server is unreachable", function()
        local folder = migrations.folder { ["db/migrations/1_a.sql"] = migrations.table "a" }
        local env = { DATABASE_URL = "postgres://127.0.0.1:1/x" }
        assert.equal(2, scripts.run("migrate", { "status", "--exit-code" }, env, { cwd = folder }).code)
        assert.equal(1, scripts.run("migrate", { "status" }, env, { cwd = folder }).code)
    end)

    it("and dbmate's commands name dbrun's equivalents", function()
        assert.matches("'dbrun migrate down'", scripts.run("migrate", { "rollback" }).stderr)
    end)
end)

describe("a table schema_migrations", function()
    local url, sql
    migrations.around(_ENV, function(...)
        local _
        url, _, sql = ...
    end)

    local function run(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url },
            { cwd = migrations.folder { ["scripts/migrations/1_a.sql"] = migrations.table "a" } })
    end

    it("of another tool is refused by every command, and nothing is written", function()
        local tables <const> = {
            ["golang%-migrate"] = "version bigint not null primary key, dirty boolean not null",
            Ecto = "version bigint primary key, inserted_at timestamp(0)",
            Diesel = "version varchar primary key, run_on timestamp not null default now()",
            ["is not text"] = "version int primary key",
            ["a column rank"] = "version text, rank int not null",
            ["no column version"] = "id text",
        }
        for words, columns in pairs(tables) do
            sql(("create table schema_migrations (%s)"):format(columns))
            for _, command in ipairs { "up", "down", "redo", "status", "plan", "verify", "repair", "dump" } do
                local result = run(command)
                assert.equal(2, result.code, words .. " " .. command .. result.text)
                assert.matches(words, result.stderr)
                assert.matches("dbrun migrate import", result.stderr)
            end
            assert.equal(2, run("stamp", "1").code)
            assert.equal("0", sql "select count(*) from schema_migrations")
            assert.equal("", sql "select relname from pg_class where relname in ('a', 'schema_migrations_dbrun')")
            sql "drop table schema_migrations"
        end
    end)

    it("of dbmate can have generated columns and defaults", function()
        sql "create table schema_migrations (version varchar primary key, at timestamptz default now(), note text)"
        local result = run "up"
        assert.equal(0, result.code, result.text)
        assert.equal("1", sql "select version from schema_migrations")
    end)
end)
