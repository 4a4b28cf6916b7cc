-- Migrations that are killed, or fail, in the middle, and the next run.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local migrations = require "spec.support.migrations"
local rounds = require "spec.support.rounds"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local PROJECT <const> = {
    ["1_tables.sql"] = [[
-- migrate:up
create table a (id int primary key, v int);
insert into a select n, n from generate_series(1, 50) n;
-- migrate:down
drop table a;
]],
    ["2_mixed.sql"] = [[
-- migrate:up transaction:false
create table runs (what text);
insert into runs values ('first');
create index concurrently a_v_idx on a (v);
insert into runs values ('second');
create index concurrently on a (v, id);
vacuum a;
set search_path = public;
begin;
insert into runs values ('third');
insert into runs values ('fourth');
commit;
drop index concurrently a_v_idx;
update a set v = v + 1;
-- migrate:down
]],
    ["3_backfill.lua"] = [[
return { up = function(ctx)
    ctx.db:exec "alter table a add w int"
    ctx.db:query("update a set w = v * $1", 2)
end }
]],
    ["4_last.sql"] = "-- migrate:up\ninsert into runs values ('last');\n-- migrate:down\n",
}

---The contents of the database, as text to compare.
local STATE <const> = [[
    select (select string_agg(version, ' ' order by version) from schema_migrations) || E'\n'
        || (select string_agg(what, ' ' order by what) from runs) || E'\n'
        || (select count(*) || ' ' || sum(v) || ' ' || sum(w) from a) || E'\n'
        || (select string_agg(indexrelid::regclass || ' ' || indisvalid, ',' order by indexrelid::regclass::text)
              from pg_index where indrelid = 'a'::regclass) || E'\n'
        || (select string_agg(concat(version, direction, done, at_work), ' ' order by version)
              from schema_migrations_dbrun)]]

describe("a migration that was interrupted", function()
    local url, database, sql, dir
    migrations.around(_ENV, function(...) url, database, sql = ... end)

    local function migrate(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url })
    end

    local function state() return sql(STATE) end

    local END_STATE <const> = "1 2 3 4\nfirst fourth last second third\n50 1325 2650\n"
        .. "a_pkey true,a_v_id_idx true\n10 20 30 40"

    local function crash(at)
        return process.run { core.options.program, "--no-env", fs.realpath "spec/support/migrate/crash.lua",
            tostring(at), url, dir, timeout = 60 }
    end

    it("by kill -9 before each of its messages to the server ends the same after a plain up", function()
        dir = migrations.folder(PROJECT)
        local engine, up = require("dbrun.db").engine { url = url, size = 1 }, require("dbrun.migrate").up
        local stride, at = rounds.moments()
        local killed = 0
        while true do
            local result = crash(at)
            if result.code == 0 then break end
            assert.equal("KILL", result.signal and (result.signal:gsub("^SIG", "")), result.stderr)
            killed = killed + 1
            local ok, e = pcall(up, { url = url, dirs = { dir }, lock_wait = 20 })
            assert.is_true(ok, ("killed before message %d:\n%s"):format(at, tostring(e)))
            assert.equal(END_STATE, engine:value(STATE), ("killed before message %d"):format(at))
            engine:exec "drop table a, runs, schema_migrations, schema_migrations_dbrun"
            at = at + stride
        end
        engine:close()
        assert.is_true(killed > 60 // stride, killed .. " messages only")
        assert.equal(END_STATE, state())
    end)

    it("and killed repeatedly, at another message each time, ends the same", function()
        dir = migrations.folder(PROJECT)
        local kills = 0
        repeat
            kills = kills + 1
            local result = crash(25 + kills % 7)
        until result.code == 0 or kills > 40
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal(END_STATE, state())
    end)

    describe("at CREATE INDEX CONCURRENTLY", function()
        local FILES <const> = {
            ["1_t.sql"] = "-- migrate:up\ncreate table t (id int);\ninsert into t values (1), (1);\n"
                .. "-- migrate:down\n",
            ["2_i.sql"] = "-- migrate:up transaction:false\ncreate table before_it ();\n"
                .. "create unique index concurrently t_id on t (id);\ncreate table behind_it ();\n-- migrate:down\n",
        }

        local function index()
            return sql "select indisvalid from pg_index where indexrelid = to_regclass('t_id')"
        end

        it("by an error continues there once the cause is removed, and leaves no INVALID index", function()
            dir = migrations.folder(FILES)
            local result = migrate("up", "--dir", dir)
            assert.equal(1, result.code)
            assert.matches("2_i.sql:3: could not create unique index", result.stderr, 1, true)
            assert.matches("1 of its 3 statements took effect", result.stderr, 1, true)
            assert.not_matches("may leave", result.stderr, 1, true)
            assert.equal("", index())
            local findings = migrate("verify", "--dir", dir)
            assert.equal(1, findings.code)
            assert.matches("half done %(up%): 1 of its statements took effect", findings.stdout)
            assert.matches("[ ] 2_i.sql  half done (up): 1 of its statements took effect, number 2 was interrupted; "
                .. "'up' continues it\n",
                migrate("status", "--dir", dir).stdout, 1, true)
            local json <const> = require "dbrun.json".decode(migrate("status", "--dir", dir, "--format=json").stdout)
            assert.same({ direction = "up", statements = 1 }, json.files[2].half_done)
            sql "delete from t where ctid = '(0,1)'"
            result = migrate("up", "--dir", dir)
            assert.equal(0, result.code, result.text)
            assert.matches("2_i.sql was interrupted: 1 of its 3 statements took effect", result.stderr, 1, true)
            assert.equal("t", index())
        end)

        it("drops and rebuilds an INVALID index that another program has left", function()
            dir = migrations.folder(FILES)
            migrate("up", "--dir", dir, "--steps", "1")
            process.run { "psql", "-X", "-d", url, "-c", "create unique index concurrently t_id on t (id)" }
            assert.equal("f", index())
            sql "delete from t where ctid = '(0,1)'"
            local result = migrate("up", "--dir", dir)
            assert.equal(0, result.code, result.text)
            assert.equal("t", index())
        end)

        it("by kill -9 while the server still builds: the next run waits for that, and builds the index", function()
            dir = migrations.folder(FILES)
            migrate("up", "--dir", dir, "--steps", "1")
            sql "delete from t where ctid = '(0,1)'"
            local engine = require("dbrun.db").engine { url = url, size = 1 }
            local blocker <close> = engine:acquire()
            blocker:exec "begin; insert into t values (2)" -- the build waits for this transaction
            local run = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
            local give_up = task.now() + 20
            repeat
                task.sleep(0.02)
                assert.is_true(task.now() < give_up, "the build did not begin")
            until sql [[select count(*) from pg_stat_activity
                where query like 'create unique%' and state = 'active']] == "1"
            run.child:kill "KILL"
            run.finish()
            local again = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
            task.sleep(1.5)
            blocker:exec "commit"
            local result = again.finish()
            assert.equal(0, result.code, result.text)
            assert.equal("t", index())
            assert.equal("1 2", sql "select string_agg(version, ' ' order by version) from schema_migrations")
        end)
    end)

    it("in statements that have changed since is not continued", function()
        local first = "-- migrate:up transaction:false\ncreate table x ();\nselect 1 / 0;\n-- migrate:down\n"
        dir = migrations.folder { ["1_x.sql"] = first }
        assert.equal(1, migrate("up", "--dir", dir).code)
        fs.write(dir .. "/1_x.sql", (first:gsub("table x", "table y")))
        for _, command in ipairs { "plan", "up" } do
            local result = migrate(command, "--dir", dir)
            assert.equal(1, result.code, result.text)
            assert.matches("1 of its statements took effect, and were changed in the file since", result.stderr, 1,
                true)
        end
        assert.equal(0, migrate("repair", "--dir", dir, "--version", "1", "--statement", "3").code)
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal("f", sql "select to_regclass('y') is not null")
    end)

    it("at a procedure that commits by itself has an unknown outcome", function()
        dir = migrations.folder { ["1_p.sql"] = [[
-- migrate:up transaction:false
create table log (n int);
create procedure work() language plpgsql as $$
begin
    insert into log values (1);
    commit;
    perform pg_sleep(30);
    insert into log values (2);
end $$;
call work();
-- migrate:down
]] }
        local run = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url })
        local give_up = task.now() + 20
        repeat
            task.sleep(0.02)
            assert.is_true(task.now() < give_up, "the run never reached the procedure")
        until sql "select coalesce((select 1 from pg_class where relname = 'log'), 0)" == "1"
            and sql "select count(*) from log" == "1"
        run.child:kill "KILL"
        run.finish()
        local result = migrate("up", "--dir", dir)
        assert.equal(1, result.code, result.text)
        assert.matches("whether the statement took effect is not known", result.stderr, 1, true)
        assert.matches("repair --version 1 --statement 3", result.stderr, 1, true)
        assert.equal("1", sql "select count(*) from log")
        assert.equal(0, migrate("repair", "--dir", dir, "--version", "1", "--statement", "4").code)
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal("1", sql "select count(*) from log")
    end)

    it("of ten that start at once one applies and nine find nothing to do", function()
        dir = migrations.folder(PROJECT)
        local runs, applied = {}, 0
        for i = 1, 10 do runs[i] = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = url }) end
        for _, run in ipairs(runs) do
            local result = run.finish()
            assert.equal(0, result.code, result.text)
            if result.stdout:find "4 migrations applied" then applied = applied + 1
            else assert.matches("Nothing to apply", result.stdout) end
        end
        assert.equal(1, applied)
        assert.equal(END_STATE, state())
    end)

    describe("through a pooler in transaction mode", function()
        local pgbouncer = require "spec.support.pgbouncer"

        local function through(fn)
            if not pgbouncer.is_there() then pending "pgbouncer is not installed" end
            local bouncer <close> = pgbouncer.start(servers.shared_postgres())
            fn((bouncer.url:gsub("/postgres%?", "/" .. database .. "?")))
        end

        it("five at once: one applies", function()
            through(function(pooled)
                dir = migrations.folder(PROJECT)
                local runs, applied = {}, 0
                local env = { DATABASE_URL = pooled }
                for i = 1, 5 do runs[i] = scripts.start("migrate", { "up", "--dir", dir }, env) end
                for _, run in ipairs(runs) do
                    local result = run.finish()
                    assert.equal(0, result.code, result.text)
                    if result.stdout:find "4 migrations applied" then applied = applied + 1
                    else assert.matches("Nothing to apply", result.stdout) end
                end
                assert.equal(1, applied)
                assert.equal(END_STATE, state())
                assert.equal("0", sql "select count(*) from pg_locks where locktype = 'advisory'")
            end)
        end)

        it("a run without the pooler waits, too", function()
            through(function(pooled)
                sql "create table gate ()"
                local engine <close> = require("dbrun.db").engine { url = url, size = 1 }
                local keeper <close> = engine:acquire()
                keeper:exec "begin; lock table gate"
                dir = migrations.folder { ["1_s.sql"] = "-- migrate:up\ntable gate;\n-- migrate:down\n" }
                local run = scripts.start("migrate", { "up", "--dir", dir }, { DATABASE_URL = pooled })
                local give_up = task.now() + 20
                repeat
                    task.sleep(0.02)
                    assert.is_true(task.now() < give_up, "the lock was never taken")
                until sql "select count(*) from pg_locks where locktype = 'advisory'" == "1"
                local result = migrate("up", "--dir", dir, "--lock-wait", "0.2")
                assert.equal(1, result.code, result.text)
                assert.matches("the migration lock was not free", result.stderr, 1, true)
                keeper:exec "rollback"
                assert.equal(0, run.finish().code)
                assert.matches("Nothing to apply", migrate("up", "--dir", dir).stdout)
            end)
        end)
    end)
end)
