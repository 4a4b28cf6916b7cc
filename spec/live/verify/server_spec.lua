-- The checks of the PostgreSQL server, each made to pass, to warn and to fail on real servers.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local pgbouncer = require "spec.support.pgbouncer"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

describe("dbrun verify, about the PostgreSQL server:", function()
    local pg, root

    setup(function() pg = servers.postgres { settings = { max_connections = 20, superuser_reserved_connections = 3,
        max_prepared_transactions = 2, wal_level = "replica" } } end)
    teardown(function() pg:close() end)
    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    ---Runs one check with these expectations; its status and the report.
    local function check(name, facts, opts)
        opts = opts or {}
        fs.write(root .. "/expect.lua", "return { " .. (facts or "") .. " }")
        local env = { DATABASE_URL = opts.url or pg.url, DB_POOL_SIZE = "5", DB_MAX_OVERFLOW = "5" }
        env.SYNC_POOL_SIZE = "2"
        for key, value in pairs(opts.env or {}) do env[key] = value end
        local result = scripts.run("verify", { "--only", name .. (opts.more and "," .. opts.more or ""), "--expect",
            root .. "/expect.lua", opts.strict and "--strict" or nil }, env)
        local status = result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " ")
        assert.equal(status == "FAIL" and 1 or 0, result.code, result.text)
        return status, result.stdout
    end

    ---Passes without the expectation, warns with it, and fails with --strict.
    local function incomplete(name, facts, cause, opts)
        opts = opts or {}
        local status, text = check(name, facts, opts)
        assert.equal("WARN", status, text)
        assert.matches(cause, text, 1, true)
        opts.strict = true
        assert.equal("FAIL", (check(name, facts, opts)))
    end

    it("version", function()
        assert.equal("PASS", (check "postgres.version"))
        assert.equal("PASS", (check("postgres.version", "{ postgresql = '>= 10' }")))
        incomplete("postgres.version", "{ postgresql = '>= 99' }", "version >= 99 is expected")
    end)

    --- Waits until no session is left: the previous run's can still be ending after its program has ended.
    local function alone()
        local deadline <const> = task.now() + 10
        repeat
            local others <const>, pid <const> = pg:psql([[select count(*) - 1, pg_backend_pid() from pg_stat_activity
                where backend_type = 'client backend']]):match "^(%d+)|(%d+)"
            while fs.exists("/proc/" .. pid) do task.sleep(0.005) end
            assert(task.now() < deadline, "sessions do not end")
        until others == "0"
    end

    it("room for the pools", function()
        local name, env = "postgres.capacity", {}
        assert.equal("PASS", (check(name)))
        env.DB_MAX_OVERFLOW = "14"
        alone()
        local status, text = check(name, "", { env = env })
        assert.equal("WARN", status, text)
        assert.matches("with all in use, 1 connections are missing (max_connections 20)", text, 1, true)
        env.DB_MAX_OVERFLOW = "-1"
        assert.equal("WARN", (check(name, "", { env = env })))
        env.DB_POOL_SIZE, env.DB_MAX_OVERFLOW = "19", "0"
        status, text = check(name, "", { env = env })
        assert.equal("FAIL", status, text)
        assert.matches("exceed the limit even without other sessions", text)
    end)

    it("room for the pools beside others, and under limits of a role", function()
        pg:psql "create role few login connection limit 10"
        finally(function() pg:psql "drop role few" end)
        local few = { url = pg:address { user = "few" } }
        local status, text = check("postgres.capacity", "", few)
        assert.equal("WARN", status, text)
        assert.matches("CONNECTION LIMIT 10 of the role", text, 1, true)
        local engine <close> = setmetatable({ db.engine { url = pg.url, size = 9 } }, { __close = function(t)
            t[1]:dispose()
        end })
        local held = {}
        for i = 1, 9 do held[i] = engine[1]:acquire() end
        status, text = check("postgres.capacity")
        assert.matches("others use 9", text)
        assert.equal("WARN", status)
        for i = 1, 9 do held[i]:release() end
    end)

    it("a pooler in between", function()
        assert.equal("PASS", (check "postgres.pooler"))
        incomplete("postgres.pooler", "{ pooler = true }", "a pooler is expected")
        if not pgbouncer.is_there() then return end
        local modes = {
            session = { "WARN", "each connection of this program holds one of the pooler's" },
            transaction = { "WARN", "what outlives a transaction is lost" },
            statement = { "FAIL", "transactions are refused" },
        }
        for mode, wanted in pairs(modes) do
            local bouncer <close> = pgbouncer.start(pg, { pool_mode = mode, default_pool_size = 20 })
            local through = { url = bouncer.url }
            local status, text = check("postgres.pooler", "", through)
            assert.equal(wanted[1], status, text)
            assert.matches("there is a pooler in between, in " .. mode .. " mode", text, 1, true)
            assert.matches(wanted[2], text, 1, true)
            status, text = check("postgres.capacity", "", { url = through.url })
            assert.equal("SKIP", status, text)
            through.strict = true
            assert.equal("FAIL", (check("postgres.pooler", "{ pooler = false }", through)))
            assert.equal("PASS", (check("postgres.pooler", "{ pooler = true }", through)))
            local few <close> = pgbouncer.start(pg, { pool_mode = mode, default_pool_size = 1 })
            text = select(2, check("postgres.pooler", "", { url = few.url }))
            assert.matches("in " .. mode .. " mode", text, 1, true)
            for _, other in ipairs { "session", "transaction" } do
                assert.equal(mode == other and "PASS" or "FAIL",
                    (check("postgres.pooler", ("{ pooler = '%s' }"):format(other), through)))
            end
        end
    end)

    it("sessions that cannot write", function()
        assert.equal("PASS", (check "postgres.writable"))
        pg:psql "create role reader login; alter role reader set default_transaction_read_only = on"
        finally(function() pg:psql "drop role reader" end)
        local reader = { url = pg:address { user = "reader" } }
        incomplete("postgres.writable", "", "migrations and seeds cannot run here", reader)
        assert.equal("PASS", (check("postgres.writable", "{ writable = false }", reader)))
    end)

    it("a standby, and standbys that are missing", function()
        local standby <close> = servers.postgres()
        standby:stop()
        fs.write(standby.data .. "/standby.signal", "")
        standby:start()
        incomplete("postgres.writable", "", "migrations and seeds cannot run here", { url = standby.url })
        local status, text = check("postgres.replication", "", { url = standby.url })
        assert.equal("WARN", status, text)
        assert.matches("no WAL receiver runs", text)
        assert.equal("PASS", (check "postgres.replication"))
        incomplete("postgres.replication", "{ replicas = 1 }", "1 expected")
    end)

    it("an inactive replication slot that keeps WAL", function()
        pg:psql "select pg_create_physical_replication_slot('left', true)"
        pg:psql "create table w as select generate_series(1, 999)"
        finally(function() pg:psql "select pg_drop_replication_slot('left'); drop table w" end)
        assert.equal("PASS", (check "postgres.replication"))
        local status, text = check("postgres.replication", "{ limit = 'postgres.slots', warn = 1000 }")
        assert.equal("WARN", status, text)
        assert.matches("the replication slot 'left' is not used", text, 1, true)
        assert.equal("FAIL", (check("postgres.replication", "{ limit = 'postgres.slots', fail = 1000 }")))
    end)

    it("a clock that goes wrong", function()
        assert.equal("PASS", (check "postgres.clock"))
        -- The server's clock is this machine's: a role that finds another clock_timestamp() first sees it go wrong.
        pg:psql [[create schema wrong; create role late login; grant usage on schema wrong to public;
            create function wrong.clock_timestamp() returns timestamptz language sql
                as $$ select pg_catalog.clock_timestamp() + current_setting('wrong.by')::interval $$;
            alter role late set search_path = wrong, pg_catalog]]
        finally(function() pg:psql "drop schema wrong cascade; drop role late" end)
        for by, expected in pairs { ["-5 s"] = "WARN", ["5 s"] = "WARN", ["1 h"] = "FAIL", ["0 s"] = "PASS" } do
            pg:psql(("alter role late set wrong.by = '%s'"):format(by))
            local status, text = check("postgres.clock", "", { url = pg:address { user = "late" } })
            assert.equal(expected, status, text)
        end
    end)

    it("encoding and time zone", function()
        pg:psql "create database ascii encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'"
        finally(function() pg:psql "drop database ascii" end)
        assert.equal("PASS", (check("postgres.encoding", "{ encoding = 'utf8' }")))
        local ascii = { url = pg:address { database = "ascii" } }
        assert.equal("WARN", (check("postgres.encoding", "", ascii)))
        incomplete("postgres.encoding", "{ encoding = 'UTF8' }", "UTF8 is expected", ascii)
        assert.equal("PASS", (check "postgres.timezone"))
        pg:psql "create role zoned login; alter role zoned set timezone = 'Asia/Tokyo'"
        finally(function() pg:psql "drop database ascii; drop role zoned" end)
        local zoned = { url = pg:address { user = "zoned" } }
        assert.equal("PASS", (check("postgres.timezone", "{ timezone = 'Asia/Tokyo' }", zoned)))
        incomplete("postgres.timezone", "{ timezone = 'UTC' }", "UTC is expected", zoned)
        pg:psql "alter role zoned set timezone = 'Etc/UTC'"
        zoned.strict = nil
        assert.equal("PASS", (check("postgres.timezone", "{ timezone = 'UTC' }", zoned)))
        incomplete("postgres.timezone", "{ timezone = 'No/Where' }", "knows no time zone 'No/Where'", zoned)
    end)

    it("a server without a function skips only the checks of that group", function()
        pg:psql [[create database managed; create role guest login]]
        pg:psql("revoke execute on function pg_stat_get_wal_senders(), pg_stat_get_archiver() from public", "managed")
        finally(function() pg:psql "drop database managed; drop role guest" end)
        local result = scripts.run("verify", { "--only", "postgres" },
            { DATABASE_URL = pg:address { user = "guest", database = "managed" }, DB_POOL_SIZE = "3" })
        assert.equal(0, result.code, result.text)
        for _, name in ipairs { "replication", "archiving" } do
            assert.matches("SKIP  postgres." .. name .. " +[%d.]+ ms  not offered here: permission denied for function",
                result.stdout)
        end
        assert.equal(2, select(2, result.stdout:gsub("not offered here", "")))
        assert.matches("PASS  postgres.wraparound", result.stdout)
    end)

    it("a transaction that stays open", function()
        assert.equal("PASS", (check "postgres.transactions"))
        local engine = db.engine { url = pg.url, application_name = "sleeper" }
        local session = engine:session()
        finally(function()
            session:rollback()
            engine:dispose()
        end)
        session:value "select 1"
        task.sleep(0.1)
        assert.equal("PASS", (check "postgres.transactions"))
        local status, text = check("postgres.transactions", "{ limit = 'postgres.transactions', warn = 0.05 }")
        assert.equal("WARN", status, text)
        assert.matches("'sleeper') has had one open for more than 0.05 s", text, 1, true)
        assert.equal("FAIL", (check("postgres.transactions", "{ limit = 'postgres.transactions', fail = 0.05 }")))
    end)

    it("transaction numbers that run out", function()
        assert.equal("PASS", (check "postgres.wraparound"))
        assert.equal("WARN", (check("postgres.wraparound", "{ limit = 'postgres.wraparound', warn = 1e-10 }")))
        assert.equal("FAIL", (check("postgres.wraparound", "{ limit = 'postgres.wraparound', fail = 1e-10 }")))
    end)

    it("a table of dead rows", function()
        assert.equal("PASS", (check "postgres.dead_rows"))
        pg:psql [[create table worn (n int) with (autovacuum_enabled = false);
            insert into worn select generate_series(1, 20000); delete from worn where n <= 15000]]
        finally(function() pg:psql "drop table worn" end)
        local function arrived(dead) -- before PostgreSQL 15 the statistics arrive later
            for _ = 1, 500 do
                if pg:psql "select n_dead_tup from pg_stat_user_tables where relname = 'worn'" == dead then return end
                task.sleep(0.02)
            end
        end
        arrived "15000"
        local status, text = check "postgres.dead_rows"
        assert.equal("WARN", status, text)
        assert.matches("worn: 15,000 dead, 5,000 alive", text, 1, true)
        assert.equal("FAIL", (check("postgres.dead_rows", "{ limit = 'postgres.dead_rows', fail = 0.5 }")))
        pg:psql "vacuum worn"
        arrived "0"
        assert.equal("PASS", (check "postgres.dead_rows"))
    end)

    it("an index that CREATE INDEX CONCURRENTLY left invalid", function()
        assert.equal("PASS", (check "postgres.invalid_indexes"))
        pg:psql "create table twice (n int); insert into twice values (1), (1)"
        finally(function() pg:psql "drop table twice" end)
        assert.is_false((pcall(pg.psql, pg, "create unique index concurrently twice_n on twice (n)")))
        incomplete("postgres.invalid_indexes", "", "twice_n: slows down writes and is never used")
        pg:psql "drop index twice_n"
        assert.equal("PASS", (check "postgres.invalid_indexes"))
    end)
end)
