-- Conditions of the PostgreSQL server that are easily overlooked: for a role with few rights, on a service without some
-- of the functions, in a database with odd names.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local support = require "spec.support.pg"

describe("dbrun verify, about conditions that are easily overlooked:", function()
    local pg, root

    setup(function()
        pg = servers.postgres { settings = { archive_mode = "on", archive_command = "", wal_level = "logical",
            max_connections = 40, superuser_reserved_connections = 3 } }
        pg:psql [[create role nobody login; create role watcher login; grant pg_monitor to watcher;
            create role few login connection limit 30; create table public.held (n int);
            grant insert on public.held to watcher]]
    end)
    teardown(function() pg:close() end)
    before_each(function()
        root = fs.mkdtemp()
        support.eventually(10, function() -- the sessions of a report can still be ending: they count as others
            return pg:psql "select count(*) from pg_stat_activity where backend_type = 'client backend'" == "1"
        end, "sessions of the test before stay")
    end)
    after_each(function() fs.rmtree(root) end)

    ---The checks by their names, as a role sees them.
    local function report(user, facts, opts)
        opts = opts or {}
        fs.write(root .. "/expect.lua", "return { " .. (facts or "") .. " }")
        local result = scripts.run("verify", { "--format", "json", "--only", "postgres", "--expect",
            root .. "/expect.lua" }, { DATABASE_URL = pg:address { user = user, database = opts.database },
            DB_POOL_SIZE = "5", DB_MAX_OVERFLOW = "15", SYNC_POOL_SIZE = "2" })
        local checks = {}
        for _, check in ipairs(json.decode(result.stdout).checks) do checks[check.name] = check end
        return checks, result
    end

    local function is(checks, name, status, cause)
        local check = checks[name]
        local shown = ("%s %s: %s\n%s"):format(name, check.status, check.text, check.cause or "")
        assert.equal(status, check.status, shown)
        if cause then assert.matches(cause, check.cause, 1, true) end
    end

    it("a session that has written holds the horizon by its transaction number, without a snapshot", function()
        local LIMIT <const> = "{ limit = 'postgres.xmin_horizon', warn = 0 }"
        is(report("nobody", LIMIT), "postgres.xmin_horizon", "PASS")
        local engine = db.engine { url = pg:address { user = "watcher" } }
        local conn = engine:acquire()
        conn:exec "begin; insert into public.held values (1)"
        for _ = 1, 3 do pg:psql "create table public.gone (); drop table public.gone" end
        local cause = ("the transaction of backend %d holds rows"):format(conn:backend_pid())
        for _, user in ipairs { "nobody", "watcher", "dbrun" } do
            is(report(user, LIMIT), "postgres.xmin_horizon", "WARN", cause)
        end
        conn:exec "rollback"
        conn:release()
        engine:close()
    end)

    it("only the role's sessions count against the role's limit", function()
        local engine = db.engine { url = pg:address { user = "watcher" }, size = 12 }
        local held = {}
        for i = 1, 12 do held[i] = engine:acquire() end
        local check = report("few")["postgres.capacity"]
        assert.matches("5 %+ 15 %+ 2 %(sync%) of 37, others use 1[2-4]", check.text) -- so 25 are left, of the role's 30
        pg:psql "alter role few connection limit 23"
        support.eventually(20, function() -- closed sessions of the role can still be ending
            check = report("few")["postgres.capacity"]
            return check.text:find("5 + 15 + 2 (sync) of 23, others use 0", 1, true)
        end, "the end of the role's sessions")
        assert.not_matches("missing", check.cause)
        for i = 1, 12 do held[i]:release() end
        engine:close()
    end)

    it("settings that only superusers see, and the effect of one that is off", function()
        is(report "watcher", "postgres.pending_restart", "PASS")
        pg:psql "alter system set shared_preload_libraries = 'auto_explain'"
        pg:psql "alter system set full_page_writes = off"
        pg:psql "alter system set autovacuum = off"
        pg:psql "select pg_reload_conf()"
        support.eventually(10, function()
            return pg:psql "select count(*) from pg_settings where pending_restart" == "1"
        end)
        local checks = report "nobody"
        is(checks, "postgres.pending_restart", "WARN", "cannot see settings")
        assert.same({ "grant pg_monitor to nobody;" }, { table.unpack(checks["postgres.pending_restart"].remedy) })
        is(report "watcher", "postgres.pending_restart", "WARN", "shared_preload_libraries")
        is(checks, "postgres.settings", "WARN", "full_page_writes: a crash of the machine")
        is(checks, "postgres.settings", "WARN", "autovacuum: tables grow")
        assert.same({ "alter system set fsync = on;", "alter system set full_page_writes = on;",
            "alter system set autovacuum = on;", "select pg_reload_conf();" },
            { table.unpack(checks["postgres.settings"].remedy) })
        for _, name in ipairs { "shared_preload_libraries", "full_page_writes", "autovacuum" } do
            pg:psql("alter system reset " .. name)
        end
        pg:psql "select pg_reload_conf()"
        support.eventually(10, function()
            return pg:psql "select current_setting('full_page_writes') || current_setting('autovacuum')" == "onon"
        end)
    end)

    it("archiving that is on without a command", function()
        is(report "nobody", "postgres.archiving", "WARN", "neither archive_command nor archive_library is set")
    end)

    it("a primary key that cannot identify the rows of a published table, and unenforced constraints", function()
        pg:psql [[create table public.later (n int primary key deferrable);
            create publication p for table public.later]]
        finally(function() pg:psql "drop publication p; drop table public.later" end)
        is(report "nobody", "postgres.replica_identity", "WARN", "later")
        if pg.major < 18 then return end
        pg:psql "alter table public.later add constraint meant check (n > 0) not enforced"
        local checks = report "nobody"
        is(checks, "postgres.unchecked", "WARN", "later: meant is not enforced")
        assert.not_matches("validate", checks["postgres.unchecked"].remedy[1])
    end)

    ---Without a function only these checks are skipped, and no other one's result changes.
    local function without(name, ...)
        local names = pg:psql(([[select string_agg(oid::regprocedure::text, ', ') from pg_proc
            where proname = '%s' and pronamespace = 'pg_catalog'::regnamespace]]):format(name))
        local before = report "nobody"
        pg:psql(("revoke execute on function %s from public"):format(names))
        local checks = report "nobody"
        pg:psql(("grant execute on function %s to public"):format(names))
        local skipped = {}
        for _, skip in ipairs { ... } do
            skipped["postgres." .. skip] = true
            is(checks, "postgres." .. skip, "SKIP")
            assert.matches("not offered here: permission denied for function", checks["postgres." .. skip].text, 1,
                true)
        end
        for check, result in pairs(before) do
            if not skipped[check] then is(checks, check, result.status) end
        end
    end

    it("a server without a function fails no check", function()
        without("pg_sleep", "concurrency")
        without "inet_server_port"
        without "pg_postmaster_start_time"
        without("inet_client_addr", "encryption")
        without("pg_is_in_recovery", "replication", "archiving")
        without("unnest", "settings", "archiving", "wraparound")
        without("pg_stat_get_archiver", "archiving")
    end)

    it("a name that is not UTF-8 hides only its own object", function()
        pg:psql "create database bytes encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'"
        finally(function() pg:psql "drop database bytes" end)
        pg:psql([[set client_encoding = 'SQL_ASCII';
            do $$ begin execute format('create table %I (n int)', E'caf\xe9');
            execute format('alter table %I add constraint c check (n > 0) not valid', E'caf\xe9'); end $$]], "bytes")
        local checks = report("nobody", "", { database = "bytes" })
        is(checks, "postgres.server", "PASS")
        is(checks, "postgres.unchecked", "WARN", "a name is not in the encoding of this database")
        is(checks, "postgres.encoding", "WARN", "SQL_ASCII")
    end)
end)
