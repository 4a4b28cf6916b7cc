-- Imports with damaged or unusual tables of state, and repeated imports.
local advisory = require "dbrun.db.advisory"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local repeatable = require "dbrun.migrate.import.repeatable"

local GOOSE <const> = "create table %s (id serial primary key, version_id bigint not null, "
    .. "is_applied boolean not null); insert into %s (version_id, is_applied) values (0, true), (1, true), (2, true)"
local FLYWAY <const> = "create table flyway_schema_history (installed_rank int primary key, version text, type text,"
    .. " script text, checksum int, success boolean)"
local FILES <const> = {
    ["1_a.sql"] = "-- +goose Up\ncreate table a ();\n-- +goose Down\ndrop table a;\n",
    ["2_b.sql"] = "-- +goose Up\ncreate table b ();\n-- +goose Down\ndrop table b;\n",
}
local UP_FILES <const> = { ["1_a.up.sql"] = "create table a ();\n", ["1_a.down.sql"] = "drop table a;\n" }

describe("migrate import", function()
    local url, sql, root
    local place <const> = migrations.import(_ENV, function(...) url, sql = ... end)
    local run <const>, import <const>, written <const> = place.run, place.import, place.written

    local function project(files) root = place.project(files) end

    ---Checks that the import is refused with these words, and leaves no file.
    local function refused(status, words, ...)
        local result = import(...)
        assert.matches(words, result.stderr, result.stdout)
        assert.equal(status, result.code)
        assert.equal("", written())
        return result
    end

    it("says where the tool's table is, when it is in another schema or has another name", function()
        project(FILES)
        sql("create schema app; " .. GOOSE:format("app.goose_db_version", "app.goose_db_version"))
        local result = refused(1, "no goose_db_version in the search_path, but app.goose_db_version, with", "goose")
        assert.matches("hint: %-%-from%-table app.goose_db_version takes", result.stderr)
        result = import("goose", "--from-table", "app.goose_db_version")
        assert.equal(0, result.code, result.stderr)
        assert.matches("2 recorded as applied", result.stdout)
        project { ["V1__a.sql"] = "create table a ();\n" }
        sql((FLYWAY:gsub("flyway_schema_history", "schema_version")))
        refused(1, "no flyway_schema_history .* public.schema_version, with the columns of Flyway", "flyway")
        project(UP_FILES)
        sql "create table app.schema_migrations (version bigint, dirty boolean)"
        refused(1, "app.schema_migrations, with the columns of golang%-migrate", "golang-migrate")
        assert.equal(0, import("golang-migrate", "--files-only").code)
    end)

    it("refuses a table that is not the tool's", function()
        project(FILES)
        sql "create table goose_db_version (version_id bigint, installed_at timestamp)"
        refused(2, "public.goose_db_version has not the columns of goose %(id, version_id, is_applied%)", "goose")
        refused(2, "there is no table nosuch with the columns of goose", "goose", "--from-table", "nosuch")
        project { ["V1__a.sql"] = "" }
        sql(FLYWAY .. "; insert into flyway_schema_history values (1, 'abc', 'SQL', 'x', 1, true)")
        refused(1, "says that abc is applied, and there is no file for it", "flyway")
    end)

    it("does not record migrations again that were reverted since", function()
        project(FILES)
        sql(GOOSE:format("goose_db_version", "goose_db_version") .. "; create table a (); create table b ()")
        assert.equal(0, import("goose").code)
        assert.matches("0 recorded as applied", import("goose").stdout)
        assert.equal(0, run("down").code)
        local result = import "goose"
        assert.equal(1, result.code)
        assert.matches("recorded 1 of these migrations already, but not 2, which public.goose_db_version calls applied",
            result.stderr)
        assert.matches("dbrun migrate stamp VERSION", result.stderr)
        assert.equal("1", sql "select string_agg(version, ' ') from schema_migrations")
    end)

    it("moves golang-migrate's table only when dbrun's table takes its name, and replaces no other table", function()
        project(UP_FILES)
        local LEDGER <const> = "create table %s (version bigint primary key, dirty boolean);"
            .. " insert into %s values (1, false)"
        sql("create schema app; " .. LEDGER:format("app.schema_migrations", "app.schema_migrations"))
        local result = import("golang-migrate", "--from-table", "app.schema_migrations")
        assert.matches("1 recorded as applied.\n$", result.stdout, result.stderr)
        assert.equal("1", sql "select version from app.schema_migrations")
        sql("drop table schema_migrations, schema_migrations_dbrun; create table schema_migrations_golang_migrate (); "
            .. LEDGER:format("schema_migrations", "schema_migrations"))
        fs.rmtree(root .. "/scripts/migrations")
        refused(1, "and schema_migrations_golang_migrate, as it would be called, is there too", "golang-migrate")
    end)

    it("waits for the migration lock", function()
        project(FILES)
        sql(GOOSE:format("goose_db_version", "goose_db_version"))
        local engine <close> = db.engine { url = url, mode = "sync", size = 1 }
        local conn <close> = engine:acquire()
        local key <const> = advisory.hash 'dbrun migrate "public"."schema_migrations"'
        assert.is_true(conn:value(advisory.TRY, key))
        refused(1, "the migration lock was not free within 0.3 s", "goose", "--lock-wait", "0.3")
        conn:value(advisory.UNLOCK, key)
        assert.matches("2 recorded", import("goose", "--lock-wait", "0.3").stdout)
    end)

    it("chooses widths of versions with which new files come last", function()
        project { ["V1_5_2__a.sql"] = "", ["V4_99_1575367461__b.sql"] = "", ["V4_110__c.sql"] = "" }
        assert.equal(0, import("flyway", "--files-only").code)
        assert.equal(0, run("new", "later").code)
        assert.matches("^010050000000002_a.sql 040991575367461_b.sql 041100000000000_c.sql %d+_later.sql$", written())
    end)

    it("converts Flyway's files without a description and with rows, and refuses two that become one hook", function()
        project { ["V1.1.sql"] = "create table a ();\n", ["V2.sql"] = "create table b ();\n" }
        assert.equal(0, import("flyway", "--files-only").code)
        assert.equal("11.sql 20.sql", written())
        project {
            ["V1__c.sql"] = "create table c (t text);\ncopy c from stdin;\nx;'y\n\\.\ncreate table d ();\n",
        }
        assert.equal(0, import("flyway", "--files-only").code)
        assert.equal(0, run("up").code)
        assert.equal("x;'y", sql "select t from c, d right join (values (1)) v on true")
        project { ["V1.sql"] = "", ["a/R__v.sql"] = "select 1;\n", ["b/R__v.sql"] = "select 2;\n" }
        local result = import("flyway", "--files-only")
        assert.equal(1, result.code)
        assert.matches("refused +b/R__v.sql: scripts/hooks/afterVersioned__v.lua comes from another file, too",
            result.stdout)
        assert.equal("", written "scripts/hooks")
    end)

    it("accepts golang-migrate's files with any ending after the direction", function()
        project { ["1_a.up.pgsql"] = "create table a ();\n", ["1_a.down.pgsql"] = "drop table a;\n" }
        assert.matches("taken +1_a.down.pgsql, 1_a.up.pgsql", import("golang-migrate", "--files-only").stdout)
    end)

    it("makes the given folder of hooks", function()
        project { ["V1__a.sql"] = "create table a (id int);\n", ["R__view.sql"] = "create view v as select 1;\n" }
        local result = import("flyway", "--hooks", "my/hooks")
        assert.equal(0, result.code, result.stderr)
        assert.equal("afterVersioned__view.lua", written "my/hooks")
        assert.matches("there is no hooks folder 'nosuch'", run("up", "--hooks", "nosuch").stderr)
    end)

    it("compares Flyway's checksums; for repeatable files after replacing placeholders", function()
        project {
            ["V1__a.sql"] = "create table a ();\n", ["V2__b.sql"] = "create table ${n} ();\n",
            ["R__view.sql"] = "create view v as select ${x} as x;\n",
        }
        sql(FLYWAY)
        local function row(rank, version, script, sum)
            sql(("insert into flyway_schema_history values (%d, %s, 'SQL', '%s', %d, true)"):format(rank, version,
                script, sum))
        end
        row(1, "'1'", "V1__a.sql", repeatable.crc32 "create table other ();\n")
        row(2, "'2'", "V2__b.sql", repeatable.crc32 "create table ${n} ();\n")
        row(3, "null", "R__view.sql", repeatable.crc32 "create view v as select 1 as x;\n")
        local result = import("flyway", "--placeholder", "x=1", "--placeholder", "n=b")
        assert.equal(0, result.code, result.stderr)
        assert.matches("V1__a.sql %-> %S+ %(applied%): [^\n]*its text is not the one that was applied", result.stdout)
        assert.not_matches("V2__b.sql[^\n]*its text is not", result.stdout)
        assert.matches("afterVersioned__view.lua %(done%)", result.stdout)
    end)

    it("keeps all of a goose block, and reports the part that goose 3.9 to 3.14 did not send", function()
        project {
            ["1_a.sql"] = "-- +goose Up\n-- +goose StatementBegin\ncreate table a ();\n\nalter table a add b int\n"
                .. "-- +goose StatementEnd\ncreate table c ();\n-- +goose Down\n-- +goose StatementBegin\n"
                .. "drop table a; -- all; of it\n-- +goose StatementEnd\ndrop table c;\n",
            ["2_f.sql"] = "-- +goose Up\n-- +goose StatementBegin\ncreate function f() returns int "
                .. "language plpgsql as $$\nbegin\n  return 1;\nend\n$$\n-- +goose StatementEnd\n",
        }
        local result = import("goose", "--files-only")
        assert.equal(0, result.code, result.stdout)
        assert.matches("1_a.sql: up: goose 3.9 to 3.14 did not send [^\n]* block that ends in line 6\n", result.stdout)
        assert.not_matches("down:", result.stdout)
        assert.not_matches("2_f.sql: ", result.stdout)
        assert.equal(0, run("up").code)
        assert.equal("1", sql "select count(*) from information_schema.columns where table_name = 'a'")
        assert.equal("1", sql "select f()")
        assert.equal(0, run("down", "--steps", "2").code)
        assert.equal("", sql "select coalesce(string_agg(relname, ' '), '') from pg_class where relname in ('a', 'c')")
    end)
end)
