-- Import of other tools' migrations: their files, and their records of applied ones.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local process = require "dbrun.process"
local repeatable = require "dbrun.migrate.import.repeatable"

describe("migrate import", function()
    local sql, root
    local place <const> = migrations.import(_ENV, function(_, ask) sql = ask end)
    local run <const>, import <const>, written <const> = place.run, place.import, place.written

    local function project(files) root = place.project(files) end

    local function tables()
        return sql [[select coalesce(string_agg(relname, ' ' order by relname), '') from pg_class
            where relkind = 'r' and relname !~ 'schema_migrations' and relnamespace = 'public'::regnamespace]]
    end

    describe("golang-migrate", function()
        local FILES <const> = {
            ["1_a.up.sql"] = "create table a (id int);\n", ["1_a.down.sql"] = "drop table a;",
            ["2_b.up.sql"] = "begin;\ncreate table b (id int);\ncommit;\n", ["2_b.down.sql"] = "drop table b;",
            ["10_i.up.sql"] = "create index concurrently i on a (id)", ["README.md"] = "",
        }
        local LEDGER <const> = "create table schema_migrations (version bigint not null primary key,"
            .. " dirty boolean not null)"

        it("becomes files with versions of equal width, and its version the list of applied ones", function()
            project(FILES)
            sql "create table a (id int); create table b (id int)"
            sql(LEDGER .. "; insert into schema_migrations values (2, false)")
            local result = import "golang-migrate"
            assert.equal(0, result.code, result.text)
            assert.matches("taken +1_a.down.sql, 1_a.up.sql %-> 01_a.sql %(applied%)\n", result.stdout)
            assert.matches("02_b.sql %(applied%): up: transaction:false, because it has transactions", result.stdout)
            assert.matches("10_i.sql: up: transaction:false, because line 1 cannot run in a trans", result.stdout)
            assert.matches("left +README.md", result.stdout)
            assert.matches("2 recorded as applied. .*schema_migrations_golang_migrate", result.stdout)
            assert.equal("01_a.sql 02_b.sql 10_i.sql", written())
            assert.equal("01 02", sql "select string_agg(version, ' ' order by version) from schema_migrations")
            assert.equal("2", sql "select version from schema_migrations_golang_migrate")
            assert.matches("no table of golang-migrate: 2 of these are recorded as applied before, and that stays.",
                import("golang-migrate").stdout, 1, true)
            result = run "up"
            assert.matches("1 migration applied", result.stdout, result.stderr)
            assert.equal(0, run("verify").code)
            assert.equal(0, run("down", "--steps", "3").code)
            assert.equal("", tables())
        end)

        it("writes nothing when it is dirty, a file is missing, or a file cannot be converted", function()
            project(FILES)
            sql(LEDGER .. "; insert into schema_migrations values (2, true)")
            local result = import "golang-migrate"
            assert.equal(1, result.code)
            assert.matches("is dirty: the migration 2 failed half way", result.stderr)
            sql "update schema_migrations set version = 7, dirty = false"
            result = import "golang-migrate"
            assert.matches("says that 7 is applied, and there is no file for it", result.stderr)
            sql "update schema_migrations set version = 2"
            for text, words in pairs {
                ["select 1;\n-- migrate:down\n"] = "4_x.up.sql:2: this line would be a directive",
                ["begin;\nselect 1;\n"] = "4_x.up.sql:1: the transaction that 'begin' begins is never committed",
                ["select 1;\n/* open"] = "4_x.up.sql:2: this comment /%* has no end",
                ["copy a from stdin;\n"] = "4_x.up.sql:1: the rows of this COPY",
            } do
                fs.write(root .. "/old/4_x.up.sql", text)
                result = import "golang-migrate"
                assert.equal(1, result.code)
                assert.matches("refused +" .. words, result.stdout)
                assert.matches("1 of 4 migrations cannot be taken over: nothing was written", result.stderr)
            end
            fs.unlink(root .. "/old/4_x.up.sql")
            fs.write(root .. "/old/5_y.down.sql", "")
            assert.matches("refused +5_y.down.sql: there is no up file", import("golang-migrate").stdout)
            assert.equal("", written())
            assert.equal("2", sql "select version from schema_migrations")
        end)

        it("can be repeated, for another database", function()
            project(FILES)
            assert.equal(0, import("golang-migrate", "--files-only").code)
            sql(LEDGER .. "; insert into schema_migrations values (1, false)")
            local result = import "golang-migrate"
            assert.equal(0, result.code, result.text)
            assert.equal("01", sql "select version from schema_migrations")
            fs.write(root .. "/scripts/migrations/02_b.sql", "changed")
            assert.matches("02_b.sql is there already, with another text", import("golang-migrate").stdout)
        end)

        it("chooses a width with which new files come last", function()
            project { ["9_a.up.sql"] = "", ["30_b.up.sql"] = "" }
            assert.equal(0, import("golang-migrate", "--files-only").code)
            assert.equal("00000000000009_a.sql 00000000000030_b.sql", written())
        end)
    end)

    describe("goose", function()
        local TABLE <const> = "create table goose_db_version (id serial primary key, version_id bigint not null,"
            .. " is_applied boolean not null, tstamp timestamp default now())"

        it("becomes files, and the last row of each version says whether it is applied", function()
            project {
                ["00001_a.sql"] = "-- a remark\n-- +goose Up\ncreate table a (id int);\n-- +goose StatementBegin\n"
                    .. "create function f() returns int language plpgsql as $$ begin return 1; end $$ -- end\n"
                    .. "-- +goose StatementEnd\ncreate table b ();\n-- +goose Down\ndrop table b;\ndrop function f();\n"
                    .. "drop table a;\n",
                ["00002_i.sql"] = "-- +goose NO TRANSACTION\n-- +goose up\ncreate index concurrently i on a (id);\n"
                    .. "-- +goose down\ndrop index concurrently i;\n",
                ["00003_c.sql"] = "-- +goose Up\ncreate table c ();\n",
            }
            sql(TABLE)
            sql [[insert into goose_db_version (version_id, is_applied)
                values (0, true), (1, true), (3, true), (3, false)]]
            sql "create table a (id int); create table b ()"
            sql "create function f() returns int language sql as 'select 1'"
            local result = import "goose"
            assert.equal(0, result.code, result.text)
            assert.matches("1 recorded as applied", result.stdout)
            assert.equal("00001", sql "select version from schema_migrations")
            assert.equal(0, run("up").code)
            assert.equal(0, run("down", "--steps", "2").code)
            assert.equal(0, run("down").code)
            assert.equal("c goose_db_version", tables())
            result = run "up"
            assert.matches("c.* already exists", result.stderr) -- its down section is empty
            assert.equal("1", sql "select count(*) from pg_proc where proname = 'f'")
        end)

        it("is refused when it needs Go or the environment, or is not goose's", function()
            project {
                ["1_a.go"] = "package x", ["2_b.sql"] = "-- +goose ENVSUB ON\n-- +goose Up\nselect 1;\n",
                ["3_c.sql"] = "-- +goose Up\nbegin;\n", ["4_d.sql"] = "select 1;\n-- +goose Up\n",
                ["5_e.sql"] = "-- +goose Up\n-- +goose StatementBegin\nselect 1;\n",
                ["6_f.sql"] = "-- +goose Up\n-- +goose Nosuch\n", ["0_z.sql"] = "", ["7_g.sql"] = "\n",
                ["8_h.sql"] = "-- +goose Up\nselect 1;\n-- +goose Down\nselect 'x\n",
            }
            local result = import("goose", "--files-only")
            assert.equal(1, result.code)
            for _, words in ipairs {
                "1_a.go:1: a migration in Go", "2_b.sql:1: ENVSUB", "3_c.sql:2: 'begin' begins a transaction",
                "4_d.sql:1: a statement stands before", "5_e.sql:%d: '%-%- %+goose StatementBegin' without its end",
                "0_z.sql: goose runs no version 0",
                "6_f.sql:2: goose has no annotation 'nosuch'", "7_g.sql:%d: there is no '%-%- %+goose Up'",
                "8_h.sql:4: this string has no end",
            } do assert.matches("refused +" .. words, result.stdout) end
            assert.equal("", written())
        end)
    end)

    describe("Flyway", function()
        local TABLE <const> = "create table flyway_schema_history (installed_rank int primary key, version varchar(50),"
            .. " description varchar(200) not null, type varchar(20) not null, script varchar(1000) not null,"
            .. " checksum int, installed_by varchar(100) not null default '', installed_on timestamp default now(),"
            .. " execution_time int not null default 0, success boolean not null)"
        local VIEW <const> = "create or replace view v as\n\tselect id from a;\n"

        local function row(rank, version, kind, script, checksum, success)
            sql(("insert into flyway_schema_history values (%d, %s, '', '%s', '%s', %s, '', now(), 0, %s)"):format(rank,
                version and "'" .. version .. "'" or "null", kind, script, checksum or "null", success ~= false))
        end

        it("becomes files in the order of its versions, hooks, and records of applied ones", function()
            project {
                ["V1__a.sql"] = "create table ${Schema}.a (id int);\n", ["V1.1__b.sql"] = "create table b ();\n",
                ["more/V10__d.sql"] = "create table d ();\n", ["U10__d.sql"] = "drop table d;\n",
                ["V2__c.sql"] = "create table c ();\n", ["V2__c.sql.conf"] = "executeInTransaction=false\n",
                ["R__view.sql"] = VIEW, ["afterMigrate__x.sql"] = "create table if not exists hooked ()",
            }
            sql(TABLE)
            row(1, "1", "SQL", "V1__a.sql")
            row(2, "1.1", "SQL", "V1.1__b.sql")
            row(3, "2", "SQL", "V2__c.sql")
            row(4, "2", "UNDO_SQL", "U2__c.sql")
            row(5, nil, "SQL", "R__view.sql", "-1") -- with a different text
            sql "create table a (id int); create table b ()"
            local result = import("flyway", "--placeholder", "schema=public")
            assert.equal(0, result.code, result.text)
            assert.equal("010_a.sql 011_b.sql 020_c.sql 100_d.sql", written())
            assert.matches("^%-%- migrate:up\ncreate table public.a", fs.read(root .. "/scripts/migrations/010_a.sql"))
            assert.matches("^%-%- migrate:up transaction:false\n", fs.read(root .. "/scripts/migrations/020_c.sql"))
            assert.equal("afterMigrate__x.sql afterVersioned__view.lua", written "scripts/hooks")
            assert.matches("2 recorded as applied", result.stdout)
            assert.equal(0, run("up").code)
            assert.equal("a b c d flyway_schema_history hooked schema_repeatable", tables())
            sql "create or replace view v as select id from a union all select 1"
            run "up"
            assert.matches("UNION", sql "select pg_get_viewdef('v')") -- it did not run again
            local hook = root .. "/scripts/hooks/afterVersioned__view.lua"
            fs.write(hook, (fs.read(hook):gsub("select id from a", "select id from a where true")))
            run "up"
            assert.not_matches("UNION", sql "select pg_get_viewdef('v')")
            assert.equal(0, run("down").code)
            assert.equal("a b c flyway_schema_history hooked schema_repeatable", tables())
        end)

        it("recognises by Flyway's checksum that a repeatable migration ran, and handles a baseline", function()
            project {
                ["V1__a.sql"] = "create table a (id int);\n", ["V2__b.sql"] = "create table b ();\n",
                ["R__view.sql"] = VIEW,
            }
            sql(TABLE)
            row(1, "1", "BASELINE", "<< Flyway Baseline >>")
            assert.equal(-873187034, repeatable.crc32 "12345\r\n6789")
            row(2, nil, "SQL", "R__view.sql", repeatable.crc32(VIEW))
            local result = import "flyway"
            assert.equal(0, result.code, result.text)
            assert.matches("hook +scripts/hooks/afterVersioned__view.lua %(done%)", result.stdout)
            assert.equal("1", sql "select string_agg(version, ' ') from schema_migrations")
            assert.equal(0, run("up").code)
            assert.equal("", sql "select relname from pg_class where relname = 'v'")
        end)

        it("is refused after a failure, and for features that dbrun does not have", function()
            project {
                ["V1__a.sql"] = "select '${x}', '${flyway:filename}';\n", ["B1__b.sql"] = "", ["V2__C.java"] = "",
                ["U9__d.sql"] = "", ["V3__e.sql"] = "", ["V3.0__f.sql"] = "", ["V4__g.sql"] = "",
                ["V4__g.sql.conf"] = "outOfOrder=true",
            }
            local result = import("flyway", "--files-only")
            assert.equal(1, result.code)
            for _, words in ipairs {
                "V1__a.sql:1: ${x} has no value: %-%-placeholder x=VALUE", "B1__b.sql: a baseline",
                "V2__C.java: a migr",
                "U9__d.sql: there is no versioned migration 9", "V3__e.sql: V3.0__f.sql has the same version",
                "V4__g.sql: its .conf has outOfOrder",
            } do assert.matches("refused +" .. words:gsub("%$", "%%$"), result.stdout) end
            project { ["V1__a.sql"] = "select 1;\n" }
            sql(TABLE)
            row(1, "1", "SQL", "V1__a.sql", nil, false)
            assert.matches("says that V1__a.sql failed", import("flyway").stderr)
            assert.equal("", written())
        end)
    end)

    describe("Alembic", function()
        ---Whether there is a python3 with Alembic; Debian's can come after another one in PATH.
        local function python()
            for _, path in ipairs { os.getenv "PATH", "/usr/bin:" .. os.getenv "PATH" } do
                local found = process.run { "env", "python3", "-c", "import alembic, sqlalchemy", stderr = "null",
                    env = { PATH = path } }
                place.path = path
                if found.ok then return true end
            end
            return false
        end

        local ENV <const> = "from alembic import context\n"
            .. "context.configure(dialect_name='postgresql', literal_binds=True)\n"
            .. "with context.begin_transaction():\n    context.run_migrations()\n"

        local function revision(id, parent, up, down)
            return ("'''%s words'''\nfrom alembic import op\nimport sqlalchemy as sa\nrevision = '%s'\n"
                .. "down_revision = %s\ndef upgrade():\n    %s\ndef downgrade():\n    %s\n"):format(id, id,
                parent and "'" .. parent .. "'" or "None", up, down)
        end

        it("writes the SQL of each revision itself", function()
            if not python() then return pending "Alembic is not installed (python3-alembic)" end
            project {
                ["alembic.ini"] = "[alembic]\nscript_location = alembic\n", ["alembic/env.py"] = ENV,
                ["alembic/versions/a.py"] = revision("a1", nil, "op.create_table('a', sa.Column('id', sa.Integer))",
                    "op.drop_table('a')"),
                ["alembic/versions/b.py"] = revision("b2", "a1", "with op.get_context().autocommit_block():\n"
                    .. "        op.create_index('i', 'a', ['id'], postgresql_concurrently=True)", "op.drop_index('i')"),
            }
            sql "create table alembic_version (version_num varchar(32) primary key); create table a (id int)"
            sql "insert into alembic_version values ('a1')"
            local result = import "alembic"
            assert.equal(0, result.code, result.text)
            assert.equal("0001_a1_a1_words.sql 0002_b2_b2_words.sql", written())
            assert.not_matches("alembic_version", fs.read(root .. "/scripts/migrations/0001_a1_a1_words.sql"))
            assert.equal("0001", sql "select version from schema_migrations")
            assert.equal(0, run("up").code)
            assert.equal(0, run("down", "--steps", "2").code)
            assert.equal("alembic_version", tables())
        end)

        it("leaves out the table of versions that env.py names", function()
            if not python() then return pending "Alembic is not installed (python3-alembic)" end
            project {
                ["alembic.ini"] = "[alembic]\nscript_location = alembic\n",
                ["alembic/env.py"] = ENV:gsub("literal_binds", "version_table='revs', literal_binds"),
                ["alembic/versions/a.py"] = revision("a1", nil, "op.execute('create table a ()')", "pass"),
            }
            sql "create table revs (version_num varchar(32) primary key); insert into revs values ('a1')"
            local result = import("alembic", "--from-table", "revs")
            assert.equal(0, result.code, result.text)
            assert.not_matches("revs", fs.read(root .. "/scripts/migrations/0001_a1_a1_words.sql"))
            assert.equal("0001", sql "select version from schema_migrations")
        end)

        it("is refused with code that queries the database, and with several heads", function()
            if not python() then return pending "Alembic is not installed (python3-alembic)" end
            project {
                ["alembic.ini"] = "[alembic]\nscript_location = alembic\n", ["alembic/env.py"] = ENV,
                ["alembic/versions/a.py"] = revision("a1", nil, "list(op.get_bind().execute('select 1'))", "pass"),
            }
            local result = import("alembic", "--files-only")
            assert.equal(1, result.code)
            assert.matches("refused +a1: Alembic writes no SQL for it", result.stdout)
            fs.write(root .. "/old/alembic/versions/b.py", revision("b2", nil, "pass", "pass"))
            assert.matches("there are several heads: ", import("alembic", "--files-only").stderr)
        end)
    end)

    it("names what is wrong with its arguments", function()
        project { x = "" }
        assert.equal(2, run("import", "liquibase", "--from", "old").code)
        assert.matches("%-%-from FOLDER is missing", run("import", "goose").stderr)
        assert.matches("there is no folder 'nosuch'", run("import", "goose", "--from", "nosuch").stderr)
        assert.matches("no migrations of goose in old", import("goose").stderr)
        assert.matches("is the folder of goose itself", import("goose", "--dir", "old/").stderr)
    end)
end)
