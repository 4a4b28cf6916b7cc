-- Between migrations: session state of one file does not reach the next, in the run's own session and through a
-- transaction pooler; and the connection of the lock.
local migrations = require "spec.support.migrations"
local pg = require "spec.support.pg"
local pgbouncer = require "spec.support.pgbouncer"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

---State of a session that a new session does not have.
local LEFT <const> = [[
select concat_ws(' ', current_user = session_user, current_setting('work_mem'), current_setting('my.own', true),
    current_setting('search_path'), current_setting('lock_timeout'), current_setting('statement_timeout'),
    (select count(*) from pg_prepared_statements where from_sql),
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and objid = 77),
    to_regclass('pg_temp.scratch'), (select count(*) from pg_listening_channels()), (select count(*) from pg_cursors
    where is_holdable)) as x]]

local LEAKS <const> = [[
set role spec_between; set work_mem = '7MB'; set my.own = '1'; create temporary table scratch (); prepare p as select 1;
listen somewhere; set statement_timeout = '70s'; declare c cursor with hold for select 1;
select pg_advisory_lock(77), set_config('search_path', 'pg_catalog', false);
]]

describe("a migration after another one", function()
    local url, database, sql
    migrations.around(_ENV, function(...) url, database, sql = ... end)

    setup(function()
        servers.shared_postgres():psql "create role spec_between"
    end)

    teardown(function()
        servers.shared_postgres():psql "drop role spec_between"
    end)

    local function up(address, files, ...)
        return scripts.run("migrate", { "up", "--dir", migrations.folder(files), ... }, { DATABASE_URL = address })
    end

    local function section(text, options)
        return ("-- migrate:up%s\n%s\n-- migrate:down\n"):format(options or "", text)
    end

    local CHECK <const> = section("create table found as " .. LEFT .. ";")
    local CLEAN <const> = 't 4MB "$user", public 5s 0 0 0 0 0'

    ---`fn` gets the URL of the database through a PgBouncer.
    local function through(settings, fn)
        if not pgbouncer.is_there() then pending "pgbouncer is not installed" end
        local bouncer <close> = pgbouncer.start(servers.shared_postgres(), settings)
        fn((bouncer.url:gsub("/postgres%?", "/" .. database .. "?")))
    end

    ---The state of the session that a pooler gives next; an empty custom setting counts as unset.
    local function found() return (sql("select x from found"):gsub("  +", " ")) end

    it("finds a new session", function()
        for _, options in ipairs { "", " transaction:false" } do
            local result = up(url, { ["1_a.sql"] = section(LEAKS, options), ["2_b.sql"] = CHECK })
            assert.equal(0, result.code, result.text)
            assert.equal(CLEAN, found())
            assert.equal("1 2", sql "select string_agg(version, ' ' order by version) from schema_migrations")
            sql "drop table found, schema_migrations, schema_migrations_dbrun"
        end
    end)

    it("finds one after code, too, and after a failed migration", function()
        local result = up(url, {
            ["1_a.sql"] = section "do $$ begin perform set_config('my.own', '1', false); end $$;",
            ["2_b.lua"] = "return { up = function(c) c.db:exec [[" .. LEAKS .. "]] end }", ["3_c.sql"] = CHECK,
        })
        assert.equal(0, result.code, result.text)
        assert.equal(CLEAN, found())
        local pid = section "create table pid%d as select pg_backend_pid() as pid;"
        result = up(url, { ["4_a.sql"] = pid:format(1), ["5_b.sql"] = section "do $$ begin end $$;",
            ["6_c.sql"] = pid:format(2), ["7_d.sql"] = pid:format(3) })
        assert.equal(0, result.code, result.text)
        assert.equal("t t", sql "select concat_ws(' ', (table pid1) <> (table pid2), (table pid2) = (table pid3))")
    end)

    it("is recorded by the session's own role, even if the file ends under another role", function()
        local result = up(url, {
            ["1_a.sql"] = section "set role spec_between;",
            ["2_b.sql"] = section("set session authorization spec_between;", " transaction:false"),
            ["3_c.sql"] = section "set session authorization spec_between; set role none;",
        })
        assert.equal(0, result.code, result.text)
        assert.equal("1", sql "select count(distinct applied_by) from schema_migrations_dbrun")
        assert.equal("0", sql "select count(*) from schema_migrations_dbrun where applied_by = 'spec_between'")
    end)

    it("finds a new session through a transaction pooler", function()
        through({ default_pool_size = 2 }, function(pooled)
            local result = up(pooled, { ["1_a.sql"] = section(LEAKS), ["2_b.sql"] = CHECK })
            assert.equal(0, result.code, result.text)
            assert.equal(CLEAN, found())
        end)
    end)

    it("leaves no state in the pooler's session when it fails, either", function()
        through({ default_pool_size = 2 }, function(pooled)
            local result = up(pooled, { ["1_a.sql"] = section("set transaction isolation level serializable;\n" .. LEAKS
                .. "select 1 / 0;") })
            assert.equal(1, result.code, result.text)
            assert.matches("division by zero", result.stderr, 1, true)
            assert.equal("0", sql "select count(*) from pg_locks where locktype = 'advisory'")
            result = up(pooled, { ["2_b.sql"] = CHECK })
            assert.equal(0, result.code, result.text)
            assert.equal(CLEAN, found())
        end)
    end)

    it("runs its deferred triggers under its own settings through a pooler", function()
        through({ default_pool_size = 2 }, function(pooled)
            local result = up(pooled, { ["1_a.sql"] = section [[
create schema app; create table app.seen (path text); create table app.t (i int);
create function app.note() returns trigger language plpgsql as $$
begin insert into app.seen values (current_setting('search_path')); return null; end $$;
create constraint trigger late after insert on app.t deferrable initially deferred for each row
execute function app.note();
set search_path = app;
insert into t values (1);]] })
            assert.equal(0, result.code, result.text)
            assert.equal("app", sql "select path from app.seen")
        end)
    end)

    describe("with transaction:false through a transaction pooler", function()
        it("is refused when a statement would leave state in the session, before anything is written", function()
            through({ default_pool_size = 2 }, function(pooled)
                for what, text in pairs {
                    ["SET search_path"] = "set search_path = nothing;", ["SET role"] = "set role spec_between;",
                    ["SET work_mem"] = "begin; set work_mem = '7MB'; commit;",
                    ["a temporary table"] = "create temporary table scratch ();",
                    ["PREPARE p"] = "prepare p as select 1;",
                    ["LISTEN x"] = "listen x;", ["pg_advisory_lock()"] = "select pg_advisory_lock(77);",
                    ["set_config(..., false)"] = "select set_config('search_path', 'app', false);",
                    ["a cursor WITH HOLD"] = "declare c cursor with hold for select 1;",
                } do
                    local result = up(pooled,
                        { ["1_a.sql"] = section("create schema app;\n" .. text, " transaction:false") })
                    assert.equal(1, result.code, what)
                    assert.matches("1_a.sql:3: " .. what, result.stderr, 1, true)
                    assert.matches("MIGRATION_DATABASE_URL", result.stderr, 1, true)
                    assert.equal("f", sql "select to_regnamespace('app') is not null")
                end
            end)
        end)

        it("is refused at a SET that would change a setting at its place in the file", function()
            through({ default_pool_size = 2 }, function(pooled)
                local result = up(pooled, {
                    ["1_a.sql"] = section("create schema app;\nset search_path = public, app;\ncreate table app.a ();",
                        " transaction:false"),
                })
                assert.equal(1, result.code, result.text)
                assert.matches("1_a.sql:3: SET search_path", result.stderr, 1, true)
                assert.equal("t", sql "select to_regnamespace('app') is not null")
                assert.equal("f", sql "select to_regclass('app.a') is not null")
            end)
        end)

        it("runs with SET LOCAL and with a SET that changes nothing; undoes settings that a function leaves", function()
            sql "create function f() returns text language sql as $$ select set_config('my.own', '1', false) $$"
            through({ default_pool_size = 2 }, function(pooled)
                local result = up(pooled, { ["1_a.sql"] = section([[
create schema app;
set search_path = public;
begin; set local search_path = app; create table t (i int); create temporary table x () on commit drop; commit;
create index concurrently on app.t (i);
create table made as select f();]], " transaction:false"), ["2_b.sql"] = CHECK })
                assert.equal(0, result.code, result.text)
                assert.equal("t", sql "select to_regclass('app.t') is not null")
                assert.equal(CLEAN, found())
            end)
        end)
    end)

    it("through a pooler in session mode has its own sessions, and leaves them unchanged", function()
        through({ pool_mode = "session", default_pool_size = 2, server_reset_query = "" }, function(pooled)
            local session <const> = "set work_mem = '3MB';\ncreate temporary table z (i int);\n"
                .. "insert into z values (1);\nprepare p as select 1;\nlisten ch;\n"
            for round = 1, 3 do
                local result <const> = up(pooled, {
                    ["1_a.sql"] = section(session .. "create table made as select * from z;", " transaction:false"),
                    ["2_b.sql"] = CHECK,
                    ["3_c.sql"] = section("do $$ begin perform 1; end $$;\n" .. session, " transaction:false"),
                    ["4_d.sql"] = section "set session authorization pg_monitor; set role pg_monitor",
                })
                assert.equal(0, result.code, result.text)
                assert.equal("1", sql "select count(*) from made")
                assert.equal(CLEAN, found())
                local engine <close> = pg.engine { url = pooled, size = 2, statement_cache = 0 }
                local first <close> = engine:acquire()
                local second <close> = engine:acquire()
                for _, conn in ipairs { first, second } do
                    assert.equal("4MB none 0 0", conn:value [[select concat_ws(' ', current_setting('work_mem'),
                        current_setting('role'), (select count(*) from pg_locks where locktype = 'advisory'),
                        (select count(*) from pg_prepared_statements where from_sql))]], "round " .. round)
                end
                sql "drop schema public cascade; create schema public"
            end
        end)
    end)

    it("through a pooler in statement mode is an error that says so", function()
        through({ pool_mode = "statement" }, function(pooled)
            local result <const> = up(pooled, { ["1_a.sql"] = section "create table a ();" })
            assert.equal(2, result.code, result.text)
            assert.matches("in statement mode, which takes no transactions", result.stderr, 1, true)
            assert.matches("MIGRATION_DATABASE_URL", result.stderr, 1, true)
        end)
    end)

    for _, mode in ipairs { "transaction", "session" } do
        it("that gets only one connection of a pooler is an error within --lock-wait: " .. mode .. " mode", function()
            through({ pool_mode = mode, default_pool_size = 1 }, function(pooled)
                local began = task.now()
                local result = up(pooled, { ["1_a.sql"] = section "create table a ();" }, "--lock-wait", "2")
                assert.equal(1, result.code, result.text)
                assert.is_true(task.now() - began < 15)
                assert.matches("gave no second connection within 2 s", result.stderr, 1, true)
                assert.matches("default_pool_size", result.stderr, 1, true)
                assert.equal("f", sql "select to_regclass('a') is not null")
            end)
        end)
    end

    it("keeps its lock, whatever the file unlocks", function()
        sql "create table gate ()"
        local engine <close> = require("dbrun.db").engine { url = url, size = 1 }
        local keeper <close> = engine:acquire()
        keeper:exec "begin; lock table gate"
        local dir = migrations.folder { ["1_a.sql"] = section "select pg_advisory_unlock_all(); table gate;" }
        local first = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
        local give_up = task.now() + 20
        repeat
            task.sleep(0.02)
            assert.is_true(task.now() < give_up, "the file never ran")
        until sql "select count(*) from pg_stat_activity where query like '%gate%' and wait_event_type = 'Lock'" == "1"
        local result = scripts.run("migrate", { "up", "--dir", dir, "--lock-wait", "0.1" }, { DATABASE_URL = url })
        assert.equal(1, result.code, result.text)
        assert.matches("the migration lock was not free", result.stderr, 1, true)
        keeper:exec "rollback"
        assert.equal(0, first.finish().code)
    end)
end)
