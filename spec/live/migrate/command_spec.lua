-- scripts/migrate.lua on a real server.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local A <const>, B <const>, C <const> = migrations.table "a", migrations.table "b", migrations.table "c"

describe("dbrun migrate", function()
    local folder <const> = migrations.folder
    local url, database, sql
    migrations.around(_ENV, function(...) url, database, sql = ... end)

    local function migrate(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url })
    end

    local function tables()
        return sql [[select string_agg(relname, ' ' order by relname) from pg_class
                      where relkind in ('r', 'p', 'v') and relnamespace = 'public'::regnamespace
                        and relname <> 'schema_migrations_dbrun']]
    end

    local function versions()
        return sql "select string_agg(version, ' ' order by version) from schema_migrations"
    end

    local function no_locks_left()
        assert.equal("0", sql "select count(*) from pg_locks where locktype = 'advisory'")
    end

    it("up names the database, and applies pending files in the order of their names", function()
        local dir = folder { ["1_a.sql"] = A, ["2_b.sql"] = B }
        local result = migrate("up", "--dir", dir)
        assert.equal(0, result.code, result.text)
        local target, a, b = result.stdout:match(
            "^(Target: [^\n]+)\n(applied  1_a.sql  [^\n]+)\n(applied  2_b.sql[^\n]+)\n")
        assert.is_string(target, result.stdout)
        assert.matches("/" .. database, target, 1, true)
        assert.matches("%d m?s$", a)
        assert.matches("%d m?s$", b)
        assert.matches("2 migrations applied", result.stdout)
        assert.equal("a b schema_migrations", tables())
        assert.equal("1 2", versions())
        no_locks_left()
    end)

    it("up a second time finds nothing to do", function()
        local dir = folder { ["1_a.sql"] = A }
        migrate("up", "--dir", dir)
        local result = migrate("up", "--dir", dir)
        assert.equal(0, result.code, result.text)
        assert.matches("Nothing to apply", result.stdout)
        assert.not_matches("Target", result.stdout)
    end)

    it("up --to and --steps stop where requested", function()
        local dir = folder { ["1_a.sql"] = A, ["2_b.sql"] = B, ["3_c.sql"] = C }
        assert.equal(0, migrate("up", "--dir", dir, "--to", "1").code)
        assert.equal("1", versions())
        assert.equal("Nothing to apply up to version 1.\n", migrate("up", "--dir", dir, "--to", "1").stdout)
        assert.equal("-- Nothing to apply up to version 1.\n", migrate("plan", "--dir", dir, "--to", "1").stdout)
        assert.equal(0, migrate("up", "--dir", dir, "--steps", "1").code)
        assert.equal("1 2", versions())
        local result = migrate("up", "--dir", dir, "--to", "9")
        assert.equal(2, result.code)
        assert.matches("no migration has the version '9'", result.stderr)
    end)

    it("up applies older files late, unless --strict", function()
        local dir = folder { ["2_b.sql"] = B }
        migrate("up", "--dir", dir)
        fs.write(dir .. "/1_a.sql", A)
        local result = migrate("up", "--dir", dir, "--strict")
        assert.equal(1, result.code)
        assert.matches("1_a.sql is pending, but the later 2_b.sql is applied", result.stderr)
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal("1 2", versions())
    end)

    it("treats several folders as one", function()
        local one, two = folder { ["1_a.sql"] = A, ["3_c.sql"] = C }, folder { ["2_b.sql"] = B }
        local result = migrate("up", "--dir", two, "--dir", one)
        assert.equal(0, result.code, result.text)
        assert.matches("1_a.*2_b.*3_c", result.stdout)
    end)

    describe("when a migration fails", function()
        local function failing(text)
            local dir = folder { ["1_a.sql"] = A, ["2_bad.sql"] = text, ["3_c.sql"] = C }
            local result = migrate("up", "--dir", dir)
            assert.equal(1, result.code, result.text)
            assert.matches("Nothing of this migration was kept.", result.stderr, 1, true)
            return result.stderr, dir
        end

        it("rolls it back, keeps the earlier ones, and runs no later one", function()
            failing "-- migrate:up\ncreate table b ();\ninsert into nowhere values (1);\n-- migrate:down\n"
            assert.equal("a schema_migrations", tables())
            assert.equal("1", versions())
            no_locks_left()
        end)

        it("names file, line and SQLSTATE and points at the place", function()
            local said, dir = failing(
                "-- migrate:up\ncreate table b ();\n\nselect 1,\n  ä, nope\nfrom b;\n-- migrate:down\n")
            assert.matches(dir .. '/2_bad.sql:5: column "ä" does not exist (SQLSTATE 42703)', said, 1, true)
            assert.matches("     5 |   ä, nope\n       |   ^\n", said, 1, true)
        end)

        it("names the statement's line when the server gives no position", function()
            local said = failing [[
-- migrate:up
create table b (id int unique);

insert into b values
  (1), (1);
-- migrate:down
]]
            assert.matches("2_bad.sql:4: duplicate key", said, 1, true)
            assert.matches("SQLSTATE 23505", said, 1, true)
            assert.matches("Key (id)=(1) already exists", said, 1, true)
        end)

        it("names it in a text that does not parse, too", function()
            local said = failing "-- migrate:up\ncreate table b ();\ncraete table c ();\n-- migrate:down\n"
            assert.matches("2_bad.sql:3: syntax error", said, 1, true)
            assert.matches("     3 | craete table c ()\n       | ^\n", said, 1, true)
        end)

        it("reports a failure at COMMIT", function()
            local said = failing [[
-- migrate:up
create table b (id int unique deferrable initially deferred);
insert into b values (1), (1);
-- migrate:down
]]
            assert.matches("SQLSTATE 23505", said, 1, true)
        end)

        it("refuses a COMMIT in the file before anything runs", function()
            local dir = folder {
                ["1_a.sql"] = A, ["2_bad.sql"] = "-- migrate:up\nselect 1;\ncommit;\n-- migrate:down\n",
            }
            local result = migrate("up", "--dir", dir)
            assert.equal(1, result.code)
            assert.matches("2_bad.sql:3: 'commit' would end", result.stderr, 1, true)
            assert.equal("", tables())
        end)

        it("names the line when the file is not a migration at all", function()
            local dir = folder { ["1_a.sql"] = "create table a ();\n-- migrate:up\n-- migrate:down\n" }
            local result = migrate("up", "--dir", dir)
            assert.equal(1, result.code)
            assert.matches("1_a.sql:1: a statement stands before", result.stderr, 1, true)
        end)
    end)

    it("runs the statements of a transaction:false migration one by one", function()
        local dir = folder { ["1_a.sql"] = [[
-- migrate:up transaction:false
create table a (id int);
create index concurrently a_id_idx on a (id);
vacuum a;
-- migrate:down transaction:false
drop index concurrently a_id_idx;
drop table a;
]] }
        local result = migrate("up", "--dir", dir)
        assert.equal(0, result.code, result.text)
        assert.equal("t", sql "select indisvalid from pg_index where indexrelid = 'a_id_idx'::regclass")
        assert.equal(0, migrate("down", "--dir", dir).code)
        assert.equal("schema_migrations", tables())
    end)

    it("says which statements of a transaction:false migration stay when one fails", function()
        local dir = folder { ["1_a.sql"] = [[
-- migrate:up transaction:false
create table a (id int);
create table b (id int);
select 1 / 0;
create table c (id int);
-- migrate:down
]] }
        local result = migrate("up", "--dir", dir)
        assert.equal(1, result.code)
        assert.matches("1_a.sql:4: division by zero (SQLSTATE 22012)", result.stderr, 1, true)
        assert.matches("2 of its 4 statements took effect (lines 2 to 3) and stay", result.stderr, 1, true)
        assert.equal("a b schema_migrations", tables())
        assert.equal("", versions())
    end)

    it("gives every migration the same session settings, whatever the one before has SET", function()
        local dir = folder {
            ["1_a.sql"] = "-- migrate:up\nselect set_config('search_path', '', false);\n-- migrate:down\n",
            ["2_b.sql"] = B,
        }
        local result = migrate("up", "--dir", dir)
        assert.equal(0, result.code, result.text)
        assert.equal("b schema_migrations", tables())
    end)

    describe("down", function()
        it("reverts the last one, or the given number", function()
            local dir = folder { ["1_a.sql"] = A, ["2_b.sql"] = B, ["3_c.sql"] = C }
            migrate("up", "--dir", dir)
            local result = migrate("down", "--dir", dir)
            assert.equal(0, result.code, result.text)
            assert.matches("undone  3_c.sql", result.stdout)
            assert.equal("1 2", versions())
            assert.equal(0, migrate("down", "--dir", dir, "--steps", "5").code)
            assert.equal("schema_migrations", tables())
            result = migrate("down", "--dir", dir)
            assert.equal(1, result.code)
            assert.matches("nothing to take back", result.stderr)
        end)

        it("says when a down section is empty", function()
            local dir = folder { ["1_a.sql"] = "-- migrate:up\ncreate table a ();\n-- migrate:down\n" }
            migrate("up", "--dir", dir)
            assert.matches("its down section is empty", migrate("down", "--dir", dir).stdout)
        end)

        it("that fails leaves the migration applied", function()
            local dir = folder {
                ["1_a.sql"] = "-- migrate:up\n-- migrate:down\ncreate table x ();\ndrop table nope;\n",
            }
            migrate("up", "--dir", dir)
            local result = migrate("down", "--dir", dir)
            assert.equal(1, result.code)
            assert.matches("1_a.sql:4: ", result.stderr, 1, true)
            assert.matches("Nothing of this migration was undone", result.stderr)
            assert.equal("1", versions())
            assert.equal("schema_migrations", tables())
        end)
    end)

    it("status lists the files as dbmate does, and writes nothing", function()
        local dir = folder { ["1_a.sql"] = A, ["2_b.sql"] = B }
        local result = migrate("status", "--dir", dir)
        assert.equal(0, result.code, result.text)
        assert.equal("[ ] 1_a.sql\n[ ] 2_b.sql\n\nApplied: 0\nPending: 2\n", result.stdout)
        assert.equal("", tables())
        assert.equal(1, migrate("status", "--dir", dir, "--exit-code").code)
        migrate("up", "--dir", dir, "--steps", "1")
        assert.equal("[X] 1_a.sql\n[ ] 2_b.sql\n\nApplied: 1\nPending: 1\n", migrate("status", "--dir", dir).stdout)
        migrate("up", "--dir", dir)
        assert.equal(0, migrate("status", "--dir", dir, "--exit-code").code)
        fs.unlink(dir .. "/2_b.sql")
        assert.matches("1 version in the database without a file: 2", migrate("status", "--dir", dir).stderr)
        for _, words in ipairs { { "plan", "--down" }, { "redo" }, { "down" } } do
            result = migrate(words[1], "--dir", dir, words[2])
            assert.equal(0, result.code, result.text)
            assert.matches("migrate: 2, which is applied too, has no file here: nothing of it is taken back",
                result.stderr, 1, true)
        end
    end)

    it("new makes a file that up accepts", function()
        local dir = folder {} .. "/sub"
        local result = migrate("new", "add some things", "--dir", dir)
        assert.equal(0, result.code, result.text)
        assert.matches("^" .. dir:gsub("%p", "%%%0") .. "/%d+_add_some_things%.sql\n$", result.stdout)
        assert.equal(0, migrate("up", "--dir", dir).code)
    end)

    describe("the table of versions", function()
        it("can be dbmate's", function()
            sql [[create table schema_migrations (version varchar(128) primary key);
                  insert into schema_migrations values ('1')]]
            local dir = folder { ["1_a.sql"] = A, ["2_b.sql"] = B }
            assert.equal(0, migrate("up", "--dir", dir).code)
            assert.equal("b schema_migrations", tables())
            assert.equal("1 2", versions())
        end)

        it("can be named with a schema, which is created", function()
            local dir = folder { ["1_a.sql"] = A }
            local result = migrate("up", "--dir", dir, "--table", "Ops.Versions")
            assert.equal(0, result.code, result.text)
            assert.equal("1", sql 'select version from "Ops"."Versions"')
            assert.matches("Pending: 0", migrate("status", "--dir", dir, "--table", "Ops.Versions").stdout)
        end)

        it("is in the first schema of the URL's search_path", function()
            local dir = folder { ["1_a.sql"] = A }
            local base = url
            url = url .. "&options=-c%20search_path%3Dapp,public"
            local result = migrate("up", "--dir", dir)
            url = base
            assert.equal(0, result.code, result.text)
            assert.equal("1", sql "select version from app.schema_migrations")
        end)

        it("is not created again in a schema with the role's name that was created since", function()
            local dir = folder { ["1_a.sql"] = A }
            assert.equal(0, migrate("up", "--dir", dir).code)
            local role = sql "select current_user"
            sql(('create schema "%s"'):format(role))
            for _, command in ipairs { "up", "status" } do
                local result = migrate(command, "--dir", dir)
                assert.equal(2, result.code, result.text)
                assert.matches(("the current schema %q has no table \"schema_migrations\", and the search_path shows "
                    .. "that of the schema \"public\""):format(role), result.stderr, 1, true)
            end
            local result = migrate("up", "--dir", dir, "--table", "public.schema_migrations")
            assert.matches("Nothing to apply", result.stdout)
            assert.equal(0, migrate("status", "--dir", dir, "--table", role .. ".schema_migrations").code)
            sql(('drop schema "%s"'):format(role))
        end)
    end)

    it("uses MIGRATION_DATABASE_URL when it is set", function()
        local other_url, other = servers.database()
        local dir = folder { ["1_a.sql"] = A }
        local result = scripts.run("migrate", { "up", "--dir", dir },
            { DATABASE_URL = url, MIGRATION_DATABASE_URL = other_url })
        assert.equal(0, result.code, result.text)
        assert.equal("", tables())
        assert.equal("1", servers.shared_postgres():psql("select version from schema_migrations", other))
    end)

    describe("with somebody else at work", function()
        local GATED <const> = "-- migrate:up\ncreate table a ();\ntable gate;\n-- migrate:down\n"

        ---Locks what GATED waits for; returns the connection that holds it until its rollback.
        local function shut()
            sql "create table gate ()"
            local keeper <const> = require("dbrun.db").engine({ url = url, size = 1 }):acquire()
            keeper:exec "begin; lock table gate"
            return keeper
        end

        it("one of two applies, the other waits, says for whom, and finds nothing", function()
            local dir = folder { ["1_a.sql"] = GATED }
            local env = { DATABASE_URL = url }
            local keeper <close> = shut()
            local first = scripts.start("migrate", { "up", "--dir", dir }, env)
            repeat task.sleep(0.02) until sql "select count(*) from pg_locks where not granted" == "1"
            local second = scripts.watch("migrate", { "up", "--dir", dir }, env)
            second.says "waiting for the migration lock"
            keeper:exec "rollback"
            local a, b = first.finish(), second.finish()
            assert.equal(0, a.code, a.text)
            assert.equal(0, b.code, b.text)
            local both = a.text .. b.text
            assert.matches("1 migration applied", both)
            assert.matches("Nothing to apply", both)
            assert.matches("waiting for the migration lock .* held by process %d+ %(dbrun migrate, role ", both)
            assert.equal("1", versions())
            no_locks_left()
        end)

        it("waits for longer than the server's limit for idle sessions", function()
            if tonumber(sql "show server_version_num") < 140000 then pending "idle_session_timeout is of 14" end
            local keeper <close> = shut()
            local dir = folder { ["1_a.sql"] = GATED }
            local env = { DATABASE_URL = url .. (url:find("?", 1, true) and "&" or "?")
                .. "options=-c%20idle_session_timeout%3D700ms" }
            local first = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
            repeat task.sleep(0.02) until sql "select count(*) from pg_locks where not granted" == "1"
            local second = scripts.watch("migrate", { "up", "--dir", dir }, env)
            second.says "waiting for the migration lock" -- when it has waited for a second
            keeper:exec "rollback"
            local result = second.finish()
            assert.equal(0, result.code, result.text)
            assert.matches("waiting for the migration lock", result.text, 1, true)
            assert.equal(0, first.finish().code)
        end)

        it("waits no longer than --lock-wait, and names the holder", function()
            local dir = folder { ["1_a.sql"] = GATED }
            local keeper <close> = shut()
            local first = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
            repeat task.sleep(0.02) until sql "select count(*) from pg_locks where locktype = 'advisory'" == "1"
            local began = task.now()
            local result = migrate("up", "--dir", dir, "--lock-wait", "0.3")
            assert.equal(1, result.code, result.text)
            assert.is_true(task.now() - began < 10)
            assert.matches("not free within 0.3 s: it is held by process %d+ %(dbrun migrate", result.stderr)
            keeper:exec "rollback"
            assert.equal(0, first.finish().code)
        end)

        it("gives up on a table in use after --lock-timeout", function()
            local dir = folder {
                ["1_a.sql"] = A, ["2_x.sql"] = "-- migrate:up\nalter table a add x int;\n-- migrate:down\n",
            }
            migrate("up", "--dir", dir, "--to", "1")
            local db = require "dbrun.db"
            local engine = db.engine { url = url, size = 1 }
            local conn <close> = engine:acquire()
            conn:exec "begin; lock table a"
            local result = migrate("up", "--dir", dir, "--lock-timeout", "0.2", "--lock-retries", "0")
            conn:exec "rollback"
            assert.equal(1, result.code, result.text)
            assert.matches("SQLSTATE 55P03", result.stderr)
            assert.matches("%-%-lock%-timeout", result.stderr)
            assert.equal(0, migrate("up", "--dir", dir).code)
        end)
    end)

    describe("interrupted in the middle", function()
        local function interrupted(signal)
            local dir = folder {
                ["1_a.sql"] = "-- migrate:up\ncreate table a ();\nselect pg_sleep(30);\n-- migrate:down\n",
            }
            local run = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
            repeat task.sleep(0.02) until sql [[select count(*) from pg_stat_activity
                where query like '%pg_sleep(30)%' and pid <> pg_backend_pid()]] == "1"
            local began = task.now()
            run.child:kill(signal)
            local result = run.finish()
            assert.is_true(task.now() - began < 10)
            return result
        end

        it("by Ctrl-C ends with 130, rolls back and holds no lock", function()
            local result <const> = interrupted "INT"
            assert.equal(130, result.code)
            assert.matches("migrate: interrupted in [^\n]*: 'dbrun migrate status' shows what is applied, and 'up' "
                .. "goes on there", result.stderr)
            assert.equal("schema_migrations", tables())
            assert.equal("", versions())
            no_locks_left()
        end)

        it("by SIGTERM ends with 143", function()
            assert.equal(143, interrupted("TERM").code)
        end)

        it("by kill -9 is rolled back, and the next run applies it", function()
            interrupted "KILL"
            assert.equal("", versions())
            sql "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbrun migrate'"
            local dir = folder { ["1_a.sql"] = A }
            local result = migrate("up", "--dir", dir)
            assert.equal(0, result.code, result.text)
            assert.equal("a schema_migrations", tables())
        end)
    end)

    it("reverts the sample schema completely, and applies it again", function()
        local lacking = servers.pg_dump_lacks()
        if lacking then return pending(lacking) end
        local function dump()
            local process = require "dbrun.process"
            local result = process.run { "pg_dump", "--schema-only", "--exclude-table=schema_migrations*", "-d", url }
            assert.equal(0, result.code, result.stderr)
            return (result.stdout:gsub("\n\\[un]*restrict [^\n]*", ""))
        end
        local empty = dump()
        assert.equal(0, migrate("up").code)
        local full = dump()
        assert.matches("observations", full)
        assert.equal(0, migrate("down", "--steps", "99").code)
        assert.equal(empty, dump())
        assert.equal(0, migrate("up").code)
        assert.equal(full, dump())
    end)

    it("works for a role that may only use its own database", function()
        local pg = servers.shared_postgres()
        local role = "owner_of_" .. database
        pg:psql(("create role %s login; alter database %s owner to %s"):format(role, database, role))
        sql(("alter schema public owner to %s"):format(role))
        local env = { DATABASE_URL = pg:address { user = role, database = database } }
        local result = scripts.run("migrate", { "up" }, env)
        assert.equal(0, result.code, result.text)
        result = scripts.run("migrate", { "down", "--steps", "9" }, env)
        assert.equal(0, result.code, result.text)
    end)

    it("with wrong usage or configuration exits with 2 and one line", function()
        for _, args in ipairs { { "sideways" }, { "up", "--foo" }, { "up", "--steps", "0" }, {}, { "new" },
            { "up", "--dir", "/nowhere/at/all" } } do
            local result = scripts.run("migrate", args, { DATABASE_URL = url })
            assert.equal(2, result.code, result.text)
            assert.equal("", result.stdout)
            assert.matches("^migrate: [^\n]+\n", result.stderr)
            assert.not_matches("traceback", result.stderr)
        end
    end)

    it("shows its help with --help", function()
        for _, command in ipairs { "", "up ", "down ", "status ", "new " } do
            local args = {}
            for word in (command .. "--help"):gmatch "%S+" do args[#args + 1] = word end
            local result = scripts.run("migrate", args)
            assert.equal(0, result.code)
            assert.matches("^Usage: dbrun migrate", result.stdout)
        end
    end)

    it("never prints a password", function()
        for _, bad in ipairs {
            "postgresql://joe:hunter22@127.0.0.1:1/x", "postgresql://joe:hunter22@nohost.invalid/x",
            "postgresql://joe:hunter22@127.0.0.1:nonsense/x", "host=127.0.0.1 port=1 user=joe password=hunter22",
        } do
            local result = scripts.run("migrate", { "up" }, { DATABASE_URL = bad })
            assert.is_true(result.code == 1 or result.code == 2)
            assert.not_matches("hunter22", result.text)
            assert.not_matches("traceback", result.text)
        end
    end)
end)
