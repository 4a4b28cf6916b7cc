-- scripts/verify.lua on healthy real servers.
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun verify", function()
    local pg, env, database
    local made = 0

    -- A well-configured server: the one that specs share runs without fsync, which is a warning.
    setup(function() pg = servers.postgres { settings = { fsync = "on" } } end)
    teardown(function() pg:close() end)
    before_each(function()
        made = made + 1
        database = "verified_" .. made
        pg:psql(("create database %s template template0"):format(database))
        env = { DATABASE_URL = pg:address { database = database }, REDIS_URL = (servers.redis_db()) }
    end)

    local function verify(...) return scripts.run("verify", { ... }, env) end
    local function migrate(...) assert.equal(0, scripts.run("migrate", { ... }, env).code) end
    local function sql(text) return pg:psql(text, database) end

    ---The lines of the report by the name of their check.
    local function lines(result)
        local found = {}
        for status, name, rest in result.stdout:gmatch "(%u%u%u%u)  (%S+)([^\n]*)" do found[name] = status .. rest end
        return found
    end

    it("passes on servers that meet the expectations", function()
        migrate "up"
        for _, args in ipairs { {}, { "--strict" } } do
            table.move({ "--skip", "postgres.end_of_life" }, 1, 2, #args + 1, args) -- that depends on the day
            local result = verify(table.unpack(args))
            assert.equal(0, result.code, result.text)
            assert.matches("47 of 48 passed, 1 skipped, in ", result.stdout)
            assert.equal("", result.stderr)
            local found = lines(result)
            assert.matches("PostgreSQL %d+.*pool of 20 %+ 10", found["postgres.async"])
            assert.matches("3 connections held at once", found["postgres.concurrency"])
            assert.matches("Redis %d+", found.redis)
            assert.matches("5 of 5 applied", found["schema.migrations"])
            assert.matches("%d+ partitions by observed_at", found["schema.time_partitioning"])
            for name, line in pairs(found) do
                local status = name == "schema.hypertables" and "SKIP" or "PASS"
                assert.matches("^" .. status .. " +[%d.]+ m?s  ", line)
            end
        end
    end)

    it("leaves no objects in the database", function()
        assert.equal(0, verify().code)
        assert.equal("0", servers.shared_redis():cli("-n", env.REDIS_URL:match "%d+$", "dbsize"))
        assert.equal("0", sql "select count(*) from pg_class where relnamespace = 'public'::regnamespace")
        assert.equal("0", sql [[select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()]])
    end)

    it("warns about missing objects, and fails with --strict, with a remedy each time", function()
        local basic = verify()
        assert.equal(0, basic.code, basic.text)
        local strict = verify "--strict"
        assert.equal(1, strict.code, strict.text)
        for _, name in ipairs { "schema.migrations", "schema.tables", "schema.time_partitioning" } do
            assert.matches("^WARN", lines(basic)[name])
            assert.matches("^FAIL", lines(strict)[name])
        end
        assert.matches("missing: sources, series, observations", strict.stdout)
        assert.matches("do +dbrun migrate up", strict.stdout)
    end)

    it("sees a pending migration, and one that was applied and lost its file", function()
        migrate "up"
        migrate "down"
        local pending = verify("--only", "schema.migrations", "--strict")
        assert.equal(1, pending.code)
        assert.matches("1 not applied: 20250101000400_create_latest_observations.sql", pending.stdout, 1, true)
        migrate "up"
        sql "insert into schema_migrations values ('20990101000000')"
        local missing = verify("--only", "schema.migrations")
        assert.equal(0, missing.code)
        assert.matches("WARN", missing.stdout)
        assert.matches("without a file in scripts/migrations: 20990101000000", missing.stdout, 1, true)
    end)

    it("compares the bytes of applied migrations, whatever they are", function()
        local text = "\xEF\xBB\xBF-- migrate:up\r\n-- \\ \\101 'a' \"b\" {c} [é] \x7f \1\r\nselect 1;\r\n"
            .. "-- migrate:down\r\n"
        local root = scripts.folder { ["m/20250101000000_a.sql"] = text }
        finally(function() fs.rmtree(root) end)
        env.DBRUN_MIGRATIONS_DIR = root .. "/m"
        migrate "up"
        local same = verify("--only", "schema.migrations")
        assert.matches("PASS  schema.migrations", same.stdout)
        fs.write(root .. "/m/20250101000000_a.sql", (text:gsub("\\101", "A")))
        assert.matches("changed after they were applied: 20250101000000_a.sql",
            verify("--only", "schema.migrations").stdout, 1, true)
    end)

    it("sees a table that is missing, one that is not split by time, and one without a partition for now", function()
        migrate "up"
        local file = fs.mkdtemp() .. "/expect.lua"
        finally(function() fs.rmtree(fs.dirname(file)) end)
        fs.write(file, [[return {
            { table = "sources", time_partitioned = "created_at" },
            { table = "observations", time_partitioned = "value" },
            { table = "past", time_partitioned = "at" },
            { table = "pg_catalog.nothing" },
        }]])
        sql [[create table past (at timestamptz) partition by range (at);
              create table past_1 partition of past for values from (minvalue) to ('2020-01-01')]]
        local result = verify("--expect", file, "--strict")
        assert.equal(1, result.code, result.text)
        assert.matches("missing: pg_catalog.nothing", result.stdout, 1, true)
        assert.matches("sources is neither a hypertable nor partitioned by range", result.stdout, 1, true)
        assert.matches("observations is split by observed_at, not by value", result.stdout, 1, true)
        assert.matches("past has no partition for now", result.stdout, 1, true)
    end)

    it("writes JSON for programs", function()
        local result = verify("--format", "json", "--strict")
        assert.equal(1, result.code)
        local report = json.decode(result.stdout)
        assert.is_false(report.ok)
        assert.is_true(report.strict)
        local by_name = {}
        for _, check in ipairs(report.checks) do by_name[check.name] = check end
        assert.equal("PASS", by_name.redis.status)
        assert.equal("FAIL", by_name["schema.tables"].status)
        assert.same({ "dbrun migrate up" }, { table.unpack(by_name["schema.tables"].remedy) })
        assert.equal(3, by_name["postgres.concurrency"].facts.connections)
    end)

    it("writes the report to a file and still shows it", function()
        local dir = fs.mkdtemp()
        finally(function() fs.rmtree(dir) end)
        local result = verify("--format", "json", "--output", dir .. "/report.json")
        assert.equal(0, result.code, result.text)
        assert.matches("^PASS  configuration", result.stdout)
        assert.equal(49, #json.decode(fs.read(dir .. "/report.json")).checks)
        local nowhere = verify("--output", dir .. "/no/such/folder")
        assert.equal(1, nowhere.code)
        assert.matches("^PASS  configuration", nowhere.stdout)
        assert.matches("no/such/folder", nowhere.stderr, 1, true)
    end)

    it("uses as many connections as the pool can have", function()
        for size = 1, 6 do
            env.DB_POOL_SIZE, env.DB_MAX_OVERFLOW = tostring(size), "0"
            local result = verify "--skip=schema.tables"
            assert.equal(0, result.code, result.text)
            assert.matches(math.min(size, 3) .. " connections? held at once, %d", result.stdout)
            assert.matches("schema.migrations", result.stdout)
        end
        env.DB_POOL_SIZE, env.DB_MAX_OVERFLOW = "0", "-1"
        assert.equal(0, verify().code)
    end)

    it("asks the server of MIGRATION_DATABASE_URL too", function()
        local other, name = servers.database()
        env.MIGRATION_DATABASE_URL = other
        local result = verify("--only", "postgres.sync")
        assert.equal(0, result.code, result.text)
        assert.matches("/" .. name .. " ", lines(result)["postgres.sync"], 1, true)
    end)

    it("runs the chosen checks", function()
        local result = verify("--only", "redis")
        assert.equal(0, result.code)
        assert.matches("10 of 10 passed", result.stdout)
        result = verify("--skip", "postgres,schema")
        assert.matches("11 of 11 passed", result.stdout)
        assert.matches("schema.tables +the tables", verify("--list").stdout)
    end)

    it("warns about a key that looks mistyped", function()
        local file = fs.mkdtemp() .. "/env"
        finally(function() fs.rmtree(fs.dirname(file)) end)
        fs.write(file, "DB_POOL_SIZ=3\n")
        local command = scripts.command("verify", { "--only", "configuration" }, env)
        command[2] = "--env-file"
        table.insert(command, 3, file)
        local result = require("dbrun.process").run(command)
        assert.equal(0, result.code, result.stderr)
        assert.matches("WARN", result.stdout)
        assert.matches("DB_POOL_SIZ", result.stdout)
    end)

    it("with wrong usage or configuration exits with 2 and says why", function()
        for _, args in ipairs { { "--foo" }, { "--only", "nothing" }, { "--format", "xml" }, { "--deadline", "0" },
            { "--deadline", "soon" }, { "extra" } } do
            local result = verify(table.unpack(args))
            assert.equal(2, result.code, result.text)
            assert.equal("", result.stdout)
            assert.matches("^verify: [^\n]+\n$", result.stderr)
        end
        env.DATABASE_URL = "postgresql://joe:hunter22@127.0.0.1:12x/x"
        local result = verify()
        assert.equal(2, result.code, result.text)
        assert.matches("DATABASE_URL (environment): ", result.stdout, 1, true)
        assert.matches("PASS  redis", result.stdout)
        assert.matches("needs configuration", result.stdout)
        assert.not_matches("hunter22", result.text)
        env.REDIS_URL, env.DB_POOL_SIZE, env.POSTGRES_PORT = "redis://x/y", "many", "shadowed"
        result = verify()
        assert.equal(2, result.code, result.text)
        assert.matches("FAIL  configuration +[%d.]+ m?s  3 wrong values", result.stdout)
        for _, key in ipairs { "DATABASE_URL", "REDIS_URL", "DB_POOL_SIZE" } do
            assert.matches(key .. " (environment): ", result.stdout, 1, true)
        end
        assert.not_matches("POSTGRES_PORT", result.stdout)
    end)

    -- The wait for the checks was settled by a task that ran just before the loop polled; the poll then slept on the
    -- idle connections forever.
    it("runs in a stock lua5.4 with dbrun/core.so, too", function()
        local build = require("dbrun.core").options.program:match "^(.*)/"
        if build:find "/asan$" then
            return -- stock lua5.4 does not contain the sanitizers' runtime
        end
        local root = fs.cwd()
        local command = scripts.command("verify", { "--skip", "postgres.end_of_life" }, env)
        command[1] = "lua5.4"
        table.remove(command, 2)
        command.env.LUA_PATH, command.env.LUA_CPATH = root .. "/lua/?.lua;;", build .. "/lib/?.so;;"
        command.timeout = 20
        local result = require("dbrun.process").run(command)
        assert.equal(0, result.code, result.stderr)
        assert.matches("41 of 48 passed, 3 warnings, 4 skipped", result.stdout)
    end)

    it("treats a broken file of expectations as a wrong configuration", function()
        local result = verify("--expect", "/nowhere")
        assert.equal(2, result.code, result.text)
        assert.matches("/nowhere: there is no such file", result.stdout, 1, true)
        assert.matches("SKIP  schema.columns +0.0 ms  needs expectations", result.stdout)
    end)

    it("reports an error in the expectations, whichever checks are chosen", function()
        local dir = fs.mkdtemp()
        finally(function() fs.rmtree(dir) end)
        fs.write(dir .. "/e.lua", "local x\nreturn { { table = x.y } }")
        local result = verify("--only", "redis.latency", "--expect", dir .. "/e.lua")
        assert.equal(2, result.code, result.text)
        assert.matches("FAIL  expectations +[%d.]+ ms  an error in the expectations\n +cause  [^\n]*e.lua:2: attempt",
            result.stdout)
        fs.write(dir .. "/e.lua", "return { { check = 'own', run = function()\nlocal x; return x.y end },\n"
            .. "{ check = 'odd', run = function(ctx) return ctx.warn(5) end } }")
        result = verify("--only", "own,odd", "--expect", dir .. "/e.lua")
        assert.equal(1, result.code, result.text)
        for _, name in ipairs { "own", "odd" } do
            assert.matches("FAIL  " .. name .. " +[%d.]+ ms  an error in [^\n]*e.lua\n", result.stdout)
        end
        assert.matches("cause  [^\n]*e.lua:2: attempt to index a nil value", result.stdout)
        assert.not_matches("traceback", result.stdout)
        assert.not_matches("bug", result.stdout)
    end)

    it("fails when its report cannot be written", function()
        local command = scripts.command("verify", {}, env, { stdout = "/dev/full", stderr = "capture" })
        local result = require("dbrun.process").run(command)
        assert.is_true(result.code ~= 0)
        assert.matches("No space left", result.stderr)
    end)
end)
