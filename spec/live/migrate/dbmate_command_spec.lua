-- dbmate's command line: the same options, output and exit statuses. dbmate 2.35.0 printed the expected output.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

local HIDDEN <const> = {
    "DBMATE_DRIVER", "DBMATE_MIGRATIONS_DIR", "DBMATE_MIGRATIONS_TABLE", "DBMATE_SCHEMA_FILE", "DBMATE_NO_DUMP_SCHEMA",
    "DBMATE_WAIT", "DBMATE_WAIT_TIMEOUT", "DBMATE_STRICT", "DBMATE_VERBOSE", "DATABASE_URL", "MIGRATION_DATABASE_URL",
    "DBRUN_MIGRATIONS_DIR", "DBRUN_PROTECTED", "DBRUN_HOOKS_DIR", "PGSSLMODE",
}
local A <const> = "-- migrate:up\ncreate table a (id int);\ninsert into a values (1), (2);\n"
    .. "-- migrate:down\ndrop table a;\n"
local B <const> = "-- migrate:up\nupdate a set id = 3 where id = 1;\n-- migrate:down\n"
local BAD <const> = "-- migrate:up\n\nselect 1/0;\n-- migrate:down\n"

describe("dbrun dbmate", function()
    local url, database, sql, folder
    migrations.around(_ENV, function(...) url, database, sql = ... end)
    before_each(function() folder = migrations.folder {} end)

    local function write(files)
        for path, text in pairs(files) do
            fs.mkdir_p(fs.dirname(folder .. "/" .. path))
            fs.write(folder .. "/" .. path, text)
        end
    end

    local function run(args, env, more)
        local spec = {
            core.options.program, fs.realpath "scripts" .. "/dbmate.lua", cwd = folder, env = {}, timeout = 60,
        }
        for key, value in pairs(more or {}) do spec[key] = value end
        table.move(args, 1, #args, #spec + 1, spec)
        for _, name in ipairs(HIDDEN) do spec.env[name] = false end
        spec.env.DATABASE_URL = url
        for name, value in pairs(env or {}) do spec.env[name] = value end
        local result = process.run(spec)
        result.text = result.stdout .. result.stderr
        return result
    end

    local function expect(status, output, args, env)
        local result = run(args, env)
        assert.equal(output, (result.stdout:gsub(" in [%d.µmnsh]+\n", " in T\n")), result.stderr)
        assert.equal(status, result.code, result.text)
        return result
    end

    local lacking <const> = servers.pg_dump_lacks()

    it("migrates, lists and rolls back with dbmate's messages, and writes the schema file", function()
        if lacking then return pending(lacking) end
        write { ["db/migrations/1_a.sql"] = A, ["db/migrations/2_b.sql"] = B }
        expect(1, "[ ] 1_a.sql\n[ ] 2_b.sql\n\nApplied: 0\nPending: 2\n", { "status", "--exit-code" })
        expect(1, "", { "status", "--quiet" })
        expect(0, "[ ] 1_a.sql\n[ ] 2_b.sql\n\nApplied: 0\nPending: 2\n", { "status" })
        expect(0, "Applying: 1_a.sql\nRows affected: 2\nApplied: 1_a.sql in T\nApplying: 2_b.sql\nRows affected: 1\n"
            .. "Applied: 2_b.sql in T\nWriting: ./db/schema.sql\n", { "up", "-v" })
        local text = fs.read(folder .. "/db/schema.sql")
        assert.matches("^\\restrict dbmate\n\n%-%- Dumped from", text)
        assert.matches("\n%-%- Dbmate schema migrations\n%-%-\n\n"
            .. "INSERT INTO public.schema_migrations %(version%) VALUES\n"
            .. "    %('1'%),\n    %('2'%);\n$", text)
        assert.not_matches("_dbrun", text)
        expect(0, "Writing: ./db/schema.sql\n", { "migrate" })
        expect(0, "", { "--no-dump-schema", "migrate" })
        expect(0, "Rolling back: 2_b.sql\nRolled back: 2_b.sql in T\nWriting: x/y.sql\n", { "-s", "x/y.sql", "down" })
        assert.matches("%('1'%);\n$", fs.read(folder .. "/x/y.sql"))
        expect(0, "Rolling back: 1_a.sql\nRolled back: 1_a.sql in T\n", { "rollback" }, { DBMATE_NO_DUMP_SCHEMA = "1" })
        local result = expect(2, "", { "rollback" })
        assert.matches("^Error: can't rollback: no migrations have been applied\n", result.stderr)
    end)

    it("says Applied only of applied files", function()
        write { ["db/migrations/1_a.sql"] = A, ["db/migrations/2_bad.sql"] = BAD }
        local result = expect(2, "Applying: 1_a.sql\nApplied: 1_a.sql in T\nApplying: 2_bad.sql\n", { "up" })
        assert.matches("^Error: db/migrations/2_bad.sql:3: division by zero", result.stderr)
        assert.is_false(fs.exists(folder .. "/db/schema.sql"))
        assert.equal("1", sql "select version from schema_migrations")
    end)

    it("creates the database with up, not with migrate; create and drop say whether it exists", function()
        local other = database .. "_new"
        finally(function() servers.shared_postgres():psql("drop database if exists " .. other) end)
        local env = { DATABASE_URL = (url:gsub("/" .. database, "/" .. other)) }
        write { ["db/migrations/1_a.sql"] = A }
        assert.matches("does not exist", expect(2, "", { "migrate" }, env).stderr)
        expect(0, "", { "wait" }, env) -- the server answers
        expect(0, ("Creating: %s\nApplying: 1_a.sql\nApplied: 1_a.sql in T\n"):format(other),
            { "--no-dump-schema", "up" }, env)
        assert.matches("already exists", expect(2, ("Creating: %s\n"):format(other), { "create" }, env).stderr)
        env.DBRUN_PROTECTED = "*_new"
        for _, command in ipairs { "drop", "migrate", "up", "rollback" } do
            assert.matches("is protected", expect(2, "", { command }, env).stderr)
        end
        assert.equal("1", servers.shared_postgres():psql("select count(*) from a where id = 1", other))
        expect(0, ("Dropping: %s\n"):format(other), { "drop", "--target", other }, env)
        assert.matches("is protected.*hint: name it to change it: %-%-target ",
            expect(2, "", { "create" }, env).stderr)
        assert.matches("is protected", expect(2, "", { "up" }, env).stderr)
        env.DBRUN_PROTECTED = nil
        expect(0, ("Dropping: %s\n"):format(other), { "drop" }, env)
    end)

    it("loads a schema file as psql does, and keeps strings as they are", function()
        write { ["db/schema.sql"] = "\\restrict x\n\nset check_function_bodies = false;\ncreate table t (s text);\n"
            .. "insert into t values ('a\n\\unrestrict b\n');\ncreate function f() returns text language sql as $$\n"
            .. "select ';'\n$$;\n\\unrestrict x\n" }
        expect(0, "Reading: ./db/schema.sql\n", { "load" })
        assert.equal("a|\\unrestrict b|", sql "select replace(s, e'\\n', '|') from t")
        write { ["db/schema.sql"] = "create table u ();\nselect 1/0;" }
        assert.matches("schema.sql:2: division by zero", expect(2, "Reading: ./db/schema.sql\n", { "load" }).stderr)
        assert.equal("", sql "select relname from pg_class where relname = 'u'")
        write { ["db/schema.sql"] = "select 1;\n\\connect x\n" }
        assert.matches("schema.sql:2: '\\connect' is a command of psql", run({ "load" }).stderr)
        assert.matches("Error: stat nosuch.sql", expect(2, "", { "-s", "nosuch.sql", "load" }).stderr)
    end)

    it("writes the schema to the target of a link, and to standard output", function()
        if lacking then return pending(lacking) end
        write { ["db/migrations/1_a.sql"] = A, ["shared/s.sql"] = "old" }
        fs.symlink("../shared/s.sql", folder .. "/db/schema.sql")
        assert.equal(0, run({ "up" }).code)
        assert.equal("link", fs.stat(folder .. "/db/schema.sql", true).kind)
        assert.matches("CREATE TABLE public.a", fs.read(folder .. "/shared/s.sql"))
        -- A separate link: an error must not replace the machine's.
        fs.symlink("/proc/self/fd/1", folder .. "/out")
        local result = run { "-s", "out", "dump" }
        assert.matches("^Writing: out\n.*CREATE TABLE public.a", result.stdout, result.stderr)
        assert.equal("link", fs.stat(folder .. "/out", true).kind)
        write { ["x.sql"] = "create table z ();\nvacuum z;\n" }
        assert.matches("x.sql:2: VACUUM .*hint: load runs the file in one transaction; .*psql %-f x.sql",
            expect(2, "Reading: x.sql\n", { "-s", "x.sql", "load" }).stderr)
    end)

    it("loads the rows after COPY", function()
        write { ["db/schema.sql"] = "create table t (a text, b int);\nCOPY public.t (a, b) FROM stdin;\n"
            .. "x;y\t1\n\\restrict\t2\n\\.\n\ncopy t from stdin;\n\\.\nselect 1/0;\n" }
        assert.matches("schema.sql:9: division by zero", run({ "load" }).stderr)
        write { ["db/schema.sql"] = fs.read(folder .. "/db/schema.sql"):gsub("select 1/0;\n", "") }
        assert.equal(0, run({ "load" }).code)
        assert.equal("x;y,\restrict", sql "select string_agg(a, ',' order by b) from t")
        write { ["db/schema.sql"] = "COPY t FROM stdin;\n1\n" }
        assert.matches("schema.sql:1: the data of this COPY do not end", run({ "load" }).stderr)
    end)

    it("uses scripts/migrations when only that exists, and refuses to choose between both", function()
        write { ["scripts/migrations/1_a.sql"] = A }
        expect(0, "[ ] 1_a.sql\n\nApplied: 0\nPending: 1\n", { "status" })
        write { ["db/migrations/2_b.sql"] = B }
        for _, command in ipairs { "status", "up", "rollback" } do
            assert.matches("there are two folders of migrations.*hint: name one with %-%-migrations%-dir or DBMATE",
                expect(2, "", { command }).stderr)
        end
        assert.equal(2, run({ "new", "x" }).code)
        expect(0, "", { "wait" }) -- it needs none
        expect(0, "[ ] 2_b.sql\n\nApplied: 0\nPending: 1\n", { "-d", "db/migrations", "status" })
    end)

    it("writes a schema file, of the schemas in search_path, from which load makes the same schema", function()
        if lacking then return pending(lacking) end
        write { ["db/migrations/1_a.sql"] = A }
        local env = { DATABASE_URL = url .. "&search_path=app,public" }
        expect(0, "Creating schema: app\nApplying: 1_a.sql\nApplied: 1_a.sql in T\nWriting: ./db/schema.sql\n",
            { "up" }, env)
        sql "create schema other; create table other.hidden ()"
        expect(0, "Writing: ./db/schema.sql\n", { "dump" }, env)
        local text = fs.read(folder .. "/db/schema.sql")
        assert.matches("CREATE TABLE app.a", text)
        assert.matches("INSERT INTO app.schema_migrations", text)
        assert.not_matches("hidden", text)
        local again = run({ "dump", "--", "--no-comments", "--exclude-table=app.a" }, env)
        assert.equal(0, again.code, again.text)
        assert.not_matches("CREATE TABLE app.a", fs.read(folder .. "/db/schema.sql"))
    end)

    it("makes migrations with the given name, and needs no database for it", function()
        local env = { DATABASE_URL = false }
        assert.matches("please specify a name", expect(2, "", { "new" }, env).stderr)
        local first = run({ "new", "two words" }, env)
        assert.matches("^Creating migration: db/migrations/%d+_two words.sql\n$", first.stdout)
        local second = run({ "n", "two words" }, env)
        assert.equal(0, second.code)
        assert.not_equal(first.stdout, second.stdout)
        assert.equal("-- migrate:up\n\n\n-- migrate:down\n\n", fs.read(folder .. "/" .. first.stdout:match ": (.-)\n"))
        assert.equal(2, run({ "new", "a/b" }, env).code)
    end)

    it("accepts dbmate's options and names, and refuses what dbmate refuses", function()
        if lacking then return pending(lacking) end
        write { ["m/1_a.sql"] = A, ["n/2_b.sql"] = B }
        local both <const> = "[ ] 1_a.sql\n[ ] 2_b.sql\n\nApplied: 0\nPending: 2\n"
        expect(0, both, { "-d", "m", "--migrations-dir=n", "status" })
        expect(0, both, { "status" }, { DBMATE_MIGRATIONS_DIR = "m,n" })
        expect(0, both, { "-d", "m,n", "--url", url, "status" }, { DATABASE_URL = "postgres://nowhere.invalid/x" })
        expect(0, both, { "-d", "m,n", "-e", "OTHER", "status" }, { DATABASE_URL = false, OTHER = url })
        expect(0, both, { "-d", "m,n", "--driver", "postgres", "--wait", "status" })
        expect(0, "Creating schema: app\nApplying: 1_a.sql\nApplied: 1_a.sql in T\nApplying: 2_b.sql\n"
            .. "Applied: 2_b.sql in T\n", { "-d", "m,n", "--no-dump-schema", "--migrations-table", "app.v", "up" })
        assert.equal("2", sql "select count(*) from app.v")
        assert.equal(0, run({ "dump" }).code)
        assert.not_matches("_dbrun", fs.read(folder .. "/db/schema.sql"))
        for words, args in pairs {
            ["flag provided but not defined: %-nosuch"] = { "--nosuch" },
            ["flag provided but not defined: %-d"] = { "up", "-d", "x" },
            ["flag needs an argument: %-url"] = { "--url" },
            ["bad flag syntax: %-%-%-x"] = { "---x" },
            ['invalid value "1" for flag %-wait%-timeout'] = { "--wait-timeout", "1", "wait" },
            ['invalid boolean value "x" for %-wait'] = { "--wait=x", "status" },
        } do
            local result = run(args)
            assert.equal(2, result.code)
            assert.matches("^Error: " .. words, result.stderr)
            assert.matches("^Incorrect Usage: " .. words, result.stdout)
        end
        assert.equal(2, run({ "status" }, { DBMATE_WAIT = "maybe" }).code)
        assert.equal("No help topic for 'nosuch'\n", expect(3, "", { "nosuch" }).stderr)
        assert.equal(3, run({ "help", "nosuch" }).code)
        assert.matches("^dbmate version 2%.35%.0 %(dbrun [%d.]+%)\n$", run({ "--version" }).stdout)
        for _, args in ipairs { {}, { "h" }, { "--help" }, { "help", "down" }, { "up", "--help" } } do
            local result = run(args, { DATABASE_URL = false })
            assert.equal(0, result.code)
            assert.matches("^NAME:\n   dbmate", result.stdout)
        end
        for _, args in ipairs { { "up", "h" }, { "dump", "help" }, { "new", "h" } } do
            assert.matches("^NAME:\n   dbmate " .. args[1] .. " ", expect(0, run(args).stdout, args).stdout)
        end
        expect(0, both, { "-d", "m,n", "status" }, { DATABASE_URL = url:gsub("^postgres%l*", string.upper) })
        local with_settings = url .. "&statement_timeout=5s&TimeZone=UTC&search_path=public"
        expect(0, both, { "-d", "m,n", "status" }, { DATABASE_URL = with_settings })
        expect(0, "Writing: ./db/schema.sql\n", { "dump" }, { DATABASE_URL = with_settings })
        local refused = expect(2, "", { "-d", "m", "status" }, { DATABASE_URL = url .. "&nosuch=1" }).stderr
        assert.matches('unrecognized configuration parameter "nosuch" %(SQLSTATE 42704%)\n  hint: The server refuses a',
            refused)
        assert.matches("did you mean 'sslmode'", expect(2, "", { "status" },
            { DATABASE_URL = url .. "&sslmod=x" }).stderr)
        local opaque = url:gsub("^%w+://[^/]*/", "postgres:/")
        assert.matches("cannot connect", expect(2, "", { "status" }, { DATABASE_URL = opaque .. "&port=1" }).stderr)
        assert.matches("there is no // after", expect(2, "", { "status" }, { DATABASE_URL = "postgres:x" }).stderr)
        assert.matches("the URL names no database", expect(2, "Dropping: \n", { "drop" },
            { DATABASE_URL = url:gsub("/[%w_]+%?", "/?") }).stderr)
        assert.matches("unsupported driver: POSTGRES", expect(2, "", { "--driver", "POSTGRES", "status" }).stderr)
        for name, words in pairs {
            ["mysql://h/d"] = "unsupported driver: mysql", [""] = "invalid url", foo = "invalid url",
            ["redshift://h/d"] = "unsupported driver: redshift", ["sqlite:x"] = "unsupported driver: sqlite",
        } do
            local result = run({ "status" }, { DATABASE_URL = name })
            assert.equal(2, result.code)
            assert.matches("^Error: " .. words, result.stderr)
        end
        assert.matches("could not find migrations directory `./db/migrations`", expect(2, "", { "status" }).stderr)
        write { ["empty/x"] = "" }
        assert.matches("no migration files found", expect(2, "", { "-d", "empty", "up" }).stderr)
        expect(0, "\nApplied: 0\nPending: 0\n", { "-d", "empty", "status" })
        assert.equal(0, run({ "-d", "n", "--no-dump-schema", "up" }).code)
        assert.matches("1_a.sql is pending, but the later 2_b.sql is applied",
            expect(2, "", { "-d", "m,n", "up", "--strict" }).stderr)
        assert.equal(2, run({ "-d", "m,n", "migrate" }, { DBMATE_STRICT = "t" }).code)
    end)

    it("reads the files that --env-file names; the environment wins, then the first file", function()
        write {
            ["db/migrations/1_a.sql"] = A, [".env"] = ("DATABASE_URL='%s'\n"):format(url),
            ["x.env"] = ("URL='%s'\nDBMATE_MIGRATIONS_DIR=m\n"):format(url),
            ["y.env"] = "DBMATE_MIGRATIONS_DIR=nosuch\n",
            ["pg.env"] = ("URL='%s'\nPGUSER=nosuch_role\n"):format((url:gsub("//[^/@]*@", "//"))),
            ["m/5_x.sql"] = A, ["bad.env"] = "X Y Z\n", ["open.env"] = "P=x\nDATABASE_URL=postgres:///$P\n",
        }
        local none = { DATABASE_URL = false }
        expect(0, "[ ] 1_a.sql\n\nApplied: 0\nPending: 1\n", { "status" }, none)
        expect(0, "[ ] 5_x.sql\n\nApplied: 0\nPending: 1\n", { "--env-file", "nosuch.env", "--env-file", "x.env",
            "--env-file", "y.env", "-e", "URL", "status" }, none)
        expect(0, "[ ] 1_a.sql\n\nApplied: 0\nPending: 1\n", { "--env-file", "x.env", "-e", "URL", "status" },
            { DATABASE_URL = false, DBMATE_MIGRATIONS_DIR = "db/migrations" })
        assert.matches("bad.env line 1", expect(3, "", { "--env-file", "bad.env", "status" }, none).stderr)
        assert.matches("open.env line 2: .*dbrun does not", expect(2, "", { "--env-file", "open.env", "status" }, none)
            .stderr)
        assert.matches("invalid url", expect(2, "", { "--env-file", "y.env", "status" }, none).stderr)
        local as_other = expect(2, "", { "--env-file", "pg.env", "-e", "URL", "status" }, { DATABASE_URL = false,
            PGUSER = false })
        assert.matches('role "nosuch_role" does not exist', as_other.stderr)
    end)

    it("reads only those files, also for dbrun's own keys, and KEY: value in them", function()
        write {
            ["db/migrations/1_a.sql"] = A, [".env"] = "this is broken\n",
            ["x.env"] = ("DATABASE_URL: '%s'\n"):format(url),
            ["y.env"] = ("DATABASE_URL=%s\nDBRUN_MIGRATIONS_DIR: m # mine\n"):format(url), ["m/5_x.sql"] = A,
        }
        local none = { DATABASE_URL = false }
        expect(0, "[ ] 1_a.sql\n\nApplied: 0\nPending: 1\n", { "--env-file", "x.env", "status" }, none)
        expect(0, "[ ] 5_x.sql\n\nApplied: 0\nPending: 1\n", { "--env-file", "y.env", "status" }, none)
        expect(0, "Applying: 1_a.sql\nApplied: 1_a.sql in T\n", { "--env-file", "x.env", "--no-dump-schema", "up" },
            none)
        assert.equal(0, run({ "--env-file", "x.env", "new", "b" }, none).code)
        assert.matches(".env line 1", expect(3, "", { "status" }, none).stderr)
        assert.matches("^Error: flag needs an argument: %-env%-file", run({ "--env-file" }, none).stderr)
    end)

    it("passes extra words to pg_dump only with dump, and prints its first line before it connects", function()
        if lacking then return pending(lacking) end
        write { ["db/migrations/1_a.sql"] = A }
        expect(0, "Applying: 1_a.sql\nApplied: 1_a.sql in T\nWriting: ./db/schema.sql\n", { "up", "extra", "words" })
        expect(0, "Rolling back: 1_a.sql\nRolled back: 1_a.sql in T\nWriting: ./db/schema.sql\n", { "down", "x" })
        assert.equal(2, run({ "dump", "--", "extra", "words" }).code)
        local nowhere = { DATABASE_URL = "postgres://127.0.0.1:1/x" }
        expect(2, "Creating: x\n", { "create" }, nowhere)
        expect(2, "Dropping: x\n", { "drop" }, nowhere)
        expect(2, "Reading: ./db/schema.sql\n", { "load" }, nowhere)
        assert.matches("stat nosuch.sql: no such file", expect(2, "", { "-s", "nosuch.sql", "load" }, nowhere).stderr)
    end)

    it("waits for the server up to its limit", function()
        local env = { DATABASE_URL = "postgres://127.0.0.1:1/x" }
        assert.matches("^Error: unable to connect to database: ", expect(2, "Waiting for database..\n",
            { "--wait-timeout", "1500ms", "wait" }, env).stderr)
        expect(2, "Waiting for database.\n", { "--wait", "status" }, { DATABASE_URL = env.DATABASE_URL,
            DBMATE_WAIT_TIMEOUT = "1s" })
        assert.equal(2, run({ "status", "--exit-code" }, env).code)
        expect(0, "", { "wait" })
    end)

    it("runs through a link named dbmate, wherever the link is", function()
        -- A separate installation: a build's scripts can be in another place.
        fs.mkdir_p(folder .. "/opt/bin")
        fs.mkdir_p(folder .. "/opt/share/dbrun")
        assert.equal(0, process.run { "cp", core.options.program, folder .. "/opt/bin/dbrun" }.code)
        fs.symlink(fs.cwd() .. "/scripts", folder .. "/opt/share/dbrun/scripts")
        fs.symlink("opt/bin/dbrun", folder .. "/dbmate")
        write { ["db/migrations/1_a.sql"] = A }
        local result = process.run { "./dbmate", "--no-dump-schema", "up", cwd = folder, timeout = 60,
            env = { DATABASE_URL = url } }
        assert.equal(0, result.code, result.stderr)
        assert.matches("^Applying: 1_a.sql\n", result.stdout)
        result = process.run { "./dbmate", "--version", cwd = folder }
        assert.matches("^dbmate version 2.35.0", result.stdout)
    end)
end)
