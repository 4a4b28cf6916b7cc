-- scripts/verify.lua on failing servers: lines instead of a traceback, within the deadline, and healthy servers are
-- still reported.
local bad_server = require "spec.support.bad_server"
local fake = require "spec.support.fake"
local folder = require "spec.support.servers.folder"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local NOWHERE <const> = "postgresql://joe:hunter22@"

---Runs verify; whatever happens, there is no traceback and no password, and every check has its line.
local function verify(env, ...)
    local began = task.now()
    local result = scripts.run("verify", { "--deadline", "2", ... }, env)
    result.seconds = task.now() - began
    assert.not_matches("traceback", result.text)
    assert.not_matches("hunter22", result.text)
    assert.is_true(result.seconds < 10, ("took %.1f s"):format(result.seconds))
    local count = 0
    for status, name, rest in result.stdout:gmatch "(%u%u%u%u)  (%S+)([^\n]*)" do
        result[name] = status .. rest
        count = count + 1
    end
    if select("#", ...) == 0 then assert.equal(49, count, result.text) end
    return result
end

describe("dbrun verify", function()
    local good

    before_each(function()
        good = { DATABASE_URL = (servers.database()), REDIS_URL = (servers.redis_db()) }
    end)

    local function with(changes)
        local env = {}
        for key, value in pairs(good) do env[key] = value end
        for key, value in pairs(changes) do env[key] = value end
        return env
    end

    ---PostgreSQL is unreachable for this cause; Redis passes; checks that depend on PostgreSQL print no errors.
    local function postgres_fails(env, layer, ...)
        local result = verify(env)
        assert.equal(1, result.code, result.text)
        assert.matches("^FAIL", result["postgres.async"])
        assert.matches("(" .. layer .. ")", result["postgres.async"], 1, true)
        for _, name in ipairs { "postgres.concurrency", "postgres.sync", "schema.migrations", "schema.tables" } do
            assert.matches("^SKIP +0.0 ms  needs postgres.async$", result[name])
        end
        assert.matches("^PASS", result.redis)
        assert.matches("^PASS", result["redis.round_trip"])
        for _, text in ipairs { ... } do assert.matches(text, result.stdout, 1, true) end
        return result
    end

    it("reports that no server listens, and which key sets the address", function()
        postgres_fails(with { DATABASE_URL = NOWHERE .. "127.0.0.1:1/x" }, "network", "Connection refused",
            "key    DATABASE_URL (environment)", "pg_isready -h 127.0.0.1 -p 1")
        postgres_fails({ REDIS_URL = good.REDIS_URL, POSTGRES_HOST = "/nowhere" }, "network",
            "key    POSTGRES_HOST (environment), POSTGRES_PORT (not set)")
    end)

    it("reports that a name does not resolve", function()
        postgres_fails(with { DATABASE_URL = NOWHERE .. "db.invalid/x" }, "name", "db.invalid",
            "getent hosts db.invalid")
    end)

    it("reports that the database or the role does not exist", function()
        local pg = servers.shared_postgres()
        postgres_fails(with { DATABASE_URL = pg:address { database = "none such" } }, "database", "SQLSTATE 3D000",
            "createdb", "'none such'")
        postgres_fails(with { DATABASE_URL = pg:address { user = "nobody" } }, "authentication", "SQLSTATE 28000")
    end)

    it("reports a wrong password without printing it", function()
        local pg <close> = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256" }
        pg:psql "create role joe login password 'right22'"
        postgres_fails(with { DATABASE_URL = pg:address { user = "joe", password = "hunter22" } }, "authentication",
            "SQLSTATE 28P01")
        local right = pg:address { user = "joe", password = "right22" }
        local result = verify(with { DATABASE_URL = right }, "--only", "postgres")
        assert.equal(0, result.code, result.text)
        assert.not_matches("right22", result.text)
    end)

    it("ends at its deadline when a server accepts and sends nothing", function()
        local pg <close> = servers.postgres()
        pg:kill "STOP"
        local result = postgres_fails(with { DATABASE_URL = pg.url }, "time",
            "gave no answer within the deadline of 2 s")
        assert.is_true(result.seconds >= 1.9)
        pg:kill "CONT"
        assert.equal(0, verify(with { DATABASE_URL = pg.url }).code)
    end)

    it("distinguishes a server that sends nothing from one with which TLS fails", function()
        local mute <close> = fake.mute { tcp = true }
        local env = with { DATABASE_URL = ("%s127.0.0.1:%d/x"):format(NOWHERE, mute.port), DB_CONNECT_TIMEOUT = "1" }
        postgres_fails(env, "time", "the host accepted the connection, but the server did not answer",
            "pg_isready -h 127.0.0.1")
    end)

    it("reports the message of a server that does not accept connections yet", function()
        local message = "SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
        local starting <close> = fake.say { "E" .. string.pack(">I4", #message + 4) .. message }
        local url = ("postgresql://dbrun@/postgres?host=%s"):format(starting.dir)
        postgres_fails(with { DATABASE_URL = url }, "server", "starting up (SQLSTATE 57P03)")
        postgres_fails(with { DATABASE_URL = url, DB_POOL_SIZE = "1", DB_MAX_OVERFLOW = "0" }, "server", "57P03")
    end)

    it("distinguishes a Redis that loads its data from a silent one", function()
        local loading <close> = bad_server.start [[
            while (sysread($c, my $line, 65536)) { syswrite($c, "-LOADING Redis is loading the dataset\r\n" x 20) }]]
        local result = verify(with { REDIS_URL = loading.url })
        assert.matches("^FAIL.*the server refuses %(server%)", result.redis)
        assert.matches("LOADING Redis is loading the dataset", result.stdout, 1, true)
    end)

    it("does not blame PostgreSQL for a Redis that sends nothing until the deadline", function()
        local r <close> = servers.redis()
        r:kill "STOP"
        local result = verify(with { REDIS_URL = r.url })
        assert.matches("^FAIL.*%(time%)", result.redis)
        assert.matches("^PASS", result["postgres.sync"], nil, result.text)
        r:kill "CONT"
    end)

    it("does not let a silent server of MIGRATION_DATABASE_URL delay the others", function()
        local pg <close> = servers.postgres()
        pg:kill "STOP"
        local result = verify(with { MIGRATION_DATABASE_URL = pg.url })
        assert.equal(1, result.code)
        assert.matches("^FAIL", result["postgres.sync"])
        assert.matches("key    MIGRATION_DATABASE_URL (environment)", result.stdout, 1, true)
        for _, name in ipairs { "postgres.async", "postgres.concurrency", "redis", "redis.round_trip" } do
            assert.matches("^PASS", result[name])
        end
        pg:kill "CONT"
    end)

    it("reports that the server has no connection left", function()
        local pg <close> = servers.postgres { settings = { max_connections = 4, superuser_reserved_connections = 1,
            max_wal_senders = 0 } }
        pg:psql "create role joe login"
        local db = require "dbrun.db"
        local engine = db.engine { url = pg:address { user = "joe" }, size = 3, overflow = 0 }
        local a <close> = engine:acquire()
        local b <close> = engine:acquire()
        local two = verify(with { DATABASE_URL = pg:address { user = "joe" } })
        assert.equal(1, two.code, two.text)
        assert.matches("^PASS", two["postgres.async"])
        assert.matches("^FAIL", two["postgres.concurrency"])
        assert.matches("SQLSTATE 53300", two.stdout, 1, true)
        assert.matches("max_connections", two.stdout, 1, true)
        local function last_slot() -- the backends of the previous verification can still be ending
            for _ = 1, 200 do
                local ok, conn = pcall(engine.acquire, engine)
                if ok then return conn end
                task.sleep(0.02)
            end
            return engine:acquire()
        end
        local c <close> = last_slot()
        local none = verify(with { DATABASE_URL = pg:address { user = "joe" } })
        assert.matches("^FAIL.*(server)", none["postgres.async"])
        assert.matches("^PASS", none.redis)
        assert.is_true(a:backend_pid() ~= b:backend_pid() and b:backend_pid() ~= c:backend_pid())
    end)

    it("fails when PostgreSQL is killed in the middle, and passes when it is back", function()
        local pg <close> = servers.postgres()
        local env = with { DATABASE_URL = pg.url }
        pg:kill "STOP" -- so that no check ends before
        local run = scripts.start("verify", { "--deadline", "5" }, env)
        task.sleep(0.4)
        pg:kill "KILL"
        local result = run.finish()
        assert.equal(1, result.code, result.text)
        assert.matches("FAIL  postgres.async", result.stdout)
        assert.matches("PASS  redis.round_trip", result.stdout)
        assert.not_matches("traceback", result.text)
        pg:start()
        result = scripts.run("verify", {}, env)
        assert.equal(0, result.code, result.text)
    end)

    it("fails when Redis is killed in the middle, and passes when it is back", function()
        local r <close> = servers.redis()
        local env = with { REDIS_URL = r.url }
        r:cli("client", "pause", "60000", "all")
        local run = scripts.start("verify", { "--deadline", "5" }, env)
        task.sleep(0.3)
        r:kill "KILL"
        local result = run.finish()
        assert.equal(1, result.code, result.text)
        assert.matches("FAIL  redis ", result.stdout)
        assert.matches("needs redis", result.stdout)
        assert.matches("PASS  postgres.sync", result.stdout)
        assert.not_matches("traceback", result.text)
        r:start()
        assert.equal(0, scripts.run("verify", {}, env).code)
    end)

    it("reports what is wrong with Redis", function()
        local cases = {
            { "redis://:hunter22@127.0.0.1:1/0", "network", "refused" },
            { "redis://:hunter22@redis.invalid:6379/0", "name", "redis.invalid" },
            { "unix:///nowhere/redis.sock", "network", "REDIS_URL (environment)" },
        }
        for _, case in ipairs(cases) do
            local result = verify(with { REDIS_URL = case[1] })
            assert.equal(1, result.code)
            assert.matches("^FAIL.*%(" .. case[2] .. "%)", result.redis)
            assert.matches(case[3], result.stdout, 1, true)
            assert.matches("^SKIP +0.0 ms  needs redis$", result["redis.round_trip"])
            assert.matches("^PASS", result["postgres.async"])
        end
    end)

    it("reports a wrong or missing password of Redis, a silent Redis, and one that refuses writes", function()
        local r <close> = servers.redis { config = { requirepass = "right22" } }
        for _, url in ipairs { r.url, r:address { password = "hunter22" } } do
            local result = verify(with { REDIS_URL = url })
            assert.matches("^FAIL.*%(authentication%)", result.redis)
        end
        assert.equal(0, verify(with { REDIS_URL = r:address { password = "right22" } }).code)
        r:kill "STOP"
        local mute = verify(with { REDIS_URL = r:address { password = "right22" } })
        assert.matches("^FAIL.*%(time%)", mute.redis)
        assert.matches("^PASS", mute["schema.tables"]:gsub("^WARN", "PASS"))
        r:kill "CONT"
        local full <close> = servers.redis { config = { maxmemory = "1mb" } }
        local refused = verify(with { REDIS_URL = full.url })
        assert.equal(1, refused.code, refused.text)
        assert.matches("^PASS", refused.redis)
        assert.matches("^FAIL", refused["redis.round_trip"])
        assert.matches("OOM", refused.stdout)
    end)

    it("reports everything at once when no server is reachable", function()
        local result = verify { DATABASE_URL = NOWHERE .. "127.0.0.1:1/x", REDIS_URL = "redis://127.0.0.1:1" }
        assert.equal(1, result.code)
        assert.matches("1 of 49 passed, 2 failed, 46 blocked by a failure", result.stdout, 1, true)
    end)

    it("--wait waits for servers that are starting", function()
        local pg <close> = servers.postgres()
        pg:stop()
        local run = scripts.start("verify", { "--wait", "20", "--deadline", "5" }, with { DATABASE_URL = pg.url })
        task.sleep(0.5)
        assert.is_true(run.child:running())
        pg:start()
        local result = run.finish()
        assert.equal(0, result.code, result.text)
    end)

    it("--wait ends, and the checks name what was unreachable", function()
        local began = task.now()
        local result = scripts.run("verify", { "--wait", "0.5", "--deadline", "2" },
            with { DATABASE_URL = NOWHERE .. "127.0.0.1:1/x" })
        assert.equal(1, result.code)
        assert.is_true(task.now() - began >= 0.5)
        assert.matches("Connection refused", result.stdout)
        assert.matches("PASS  redis", result.stdout)
    end)

    it("ends at once on Ctrl-C", function()
        local pg <close> = servers.postgres()
        pg:kill "STOP"
        local run = scripts.start("verify", { "--deadline", "30" }, with { DATABASE_URL = pg.url })
        task.sleep(0.3)
        local began = task.now()
        run.child:kill "INT"
        assert.equal(130, run.finish().code)
        assert.is_true(task.now() - began < 10) -- of 30
        pg:kill "CONT"
    end)

    it("does not take another program for a server", function()
        local port = folder.free_port()
        local r <close> = servers.redis { config = { port = port, bind = "127.0.0.1" } }
        local pg <close> = servers.postgres { tcp = true }
        local result = verify(with { DATABASE_URL = ("postgresql://x@127.0.0.1:%d/x"):format(port) })
        assert.equal(1, result.code)
        assert.matches("^FAIL", result["postgres.async"])
        result = verify(with { REDIS_URL = ("redis://127.0.0.1:%d"):format(pg.tcp_port) })
        assert.equal(1, result.code)
        assert.matches("^FAIL", result.redis)
        assert.is_true(r.pid ~= pg.pid)
    end)
end)
