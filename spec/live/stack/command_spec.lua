--- The private stack: its servers, and their recovery after all kinds of failures.
local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local own = require "spec.support.stack"
local task = require "dbrun.task"

local oct <const>, stack <const>, ok <const>, new_folder <const>, place_of <const>, pid_of <const>,
    servers_in <const>, urls <const>, psql <const>, redis_cli <const>, answers <const>, clean_up <const>,
    dbrun <const>, script <const>, is_root <const> =
    own.oct, own.stack, own.ok, own.new_folder, own.place_of, own.pid_of, own.servers_in, own.urls, own.psql,
    own.redis_cli, own.answers, own.clean_up, own.dbrun, own.script, own.is_root

describe("dbrun stack", function()
    local folder

    setup(function()
        folder = new_folder()
        own.forget()
        ok(stack(folder, "up"))
    end)

    teardown(function()
        own.remember(folder)
        clean_up()
    end)

    it("starts a PostgreSQL and a Redis that answer, with the database and the user `dbrun`", function()
        answers(folder)
    end)

    it("does nothing when both are up, hardly slower than a program that runs one statement", function()
        local before = { pid_of(folder), pid_of(folder, "redis") }
        local function seconds(run)
            local t = task.now()
            run()
            return task.now() - t
        end
        local best, once, tries = math.huge, math.huge, 0
        local env <const> = { DATABASE_URL = (urls(folder)) }
        local ask <const> = "assert(require('dbrun.db').sync:value 'select 1' == 1)"
        while best >= 3 * once and tries < 40 do
            tries = tries + 1
            once = math.min(once, seconds(function() ok(process.run { dbrun, "--no-env", "-e", ask, env = env }) end))
            best = math.min(best, seconds(function()
                local r = ok(stack(folder, "up"))
                assert.matches("PostgreSQL%s+is up already", r.stdout)
                assert.matches("Redis%s+is up already", r.stdout)
            end))
        end
        assert.are.same(before, { pid_of(folder), pid_of(folder, "redis") })
        assert.is_true(best < 3 * once, ("%.1f ms, asking once %.1f ms"):format(best * 1000, once * 1000))
    end)

    it("listens only on unix sockets, which no other user can open", function()
        assert.are.equal("", psql(folder, "show listen_addresses"))
        assert.are.equal("port\n0", redis_cli(folder, "config", "get", "port"))
        local at = place_of(folder)
        assert.are.equal(oct "700", fs.stat(at.sockets).mode)
        assert.are.equal(oct "700", fs.stat(at.data).mode)
        assert.are.equal(oct "700", fs.stat(at.sockets .. "/redis.sock").mode)
        assert.are.equal(oct "700", fs.stat(at.sockets .. "/.s.PGSQL.5432").mode)
    end)

    it("keeps data safe: fsync is on", function()
        assert.are.equal("on", psql(folder, "show fsync"))
        assert.are.equal("on", psql(folder, "show full_page_writes"))
    end)

    it("keeps itself out of version control", function()
        assert.are.equal("*\n", fs.read(folder .. "/.dbrun/.gitignore"))
    end)

    it("reports its state: exit status 0 when both answer", function()
        local r = ok(stack(folder, "status"))
        assert.matches("PostgreSQL%s+answers, process " .. pid_of(folder), r.stdout)
        assert.matches("Redis%s+answers, process " .. pid_of(folder, "redis"), r.stdout)
    end)

    it("prints lines that a shell can evaluate", function()
        local code = [[print(os.getenv "DATABASE_URL") print(os.getenv "REDIS_URL")]]
        local r = process.run {
            "sh", "-c", 'eval "$("$0" "$1" env --export)"; exec "$0" -e "$2"', dbrun, script, code, cwd = folder,
        }
        local pg, redis_url = urls(folder)
        assert.are.equal(pg .. "\n" .. redis_url .. "\n", r.stdout)
    end)

    it("runs a command with the URLs, and does not change its arguments and exit status", function()
        local code = 'echo "$DATABASE_URL|$REDIS_URL|$1|$2"; exit 7'
        local r = stack(folder, "run", "--", "sh", "-c", code, "sh", "a b", "--help")
        local pg, redis_url = urls(folder)
        assert.are.equal(("%s|%s|a b|--help\n"):format(pg, redis_url), r.stdout)
        assert.are.equal(7, r.code)
    end)

    it("lets psql and redis-cli find the servers, in any environment", function()
        local env = {
            PGHOST = "nowhere.example", PGPORT = "1", PGUSER = "nobody", PGDATABASE = "none", PGPASSWORD = "x",
            PGSSLMODE = "verify-full", PGTARGETSESSIONATTRS = "standby", PGGSSENCMODE = "require",
            REDISCLI_AUTH = "x",
            DATABASE_URL = "postgresql://nowhere.example/x", MIGRATION_DATABASE_URL = "postgresql://nowhere.example/x",
        }
        local function says(expected, ...)
            local words = { ... }
            words[#words + 1] = { env = env }
            local r = ok(stack(folder, table.unpack(words)))
            assert.are.equal(expected, r.stdout)
            assert.are.equal("", r.stderr)
        end
        local who <const> = "select current_user || '@' || current_database()"
        says("dbrun@dbrun\n", "run", "--", "psql", "-XAtc", who)
        says("dbrun@dbrun\n", "psql", "-XAtc", who)
        says("dbrun@dbrun\n", "psql", "--", "-XAtc", who)
        says("postgres\n", "psql", "-XAt", "-d", "postgres", "-c", "select current_database()")
        says("PONG\n", "run", "--", "redis-cli", "ping")
        says("PONG\n", "redis-cli", "ping")
        says("OK\n", "redis-cli", "-n", "3", "set", "-s", "value")
        says("value\n", "redis-cli", "-n", "3", "get", "-s")
        says("PONG\n", "run", "--", "sh", "-c", 'redis-cli -s "$REDIS_SOCKET" ping')
        says("dbrun\n", "run", "--", dbrun, "--no-env", "-e",
            "print(require 'dbrun.db'.sync:value 'select current_database()')")
        assert.are_not.equal(0, stack(folder, "redis-cli", "-h", "127.0.0.1", "-p", "1", "ping").code)
        assert.are.equal(3, stack(folder, "psql", "-v", "ON_ERROR_STOP=1", "-Xqf", "-",
            { stdin = "select 1/0;" }).code)
    end)

    it("names the missing package without psql", function()
        local r = stack(folder, "psql", { env = { PATH = "/nowhere", DBRUN_PG_BINDIR = "/usr/bin" } })
        assert.are.equal(2, r.code)
        assert.matches("psql is not installed.*apt%-get install postgresql%-client", r.stderr)
    end)

    it("runs the clients from the server's folder, and from no other", function()
        local bindir = require("dbrun.stack.programs").postgres().bindir
        if not fs.access(bindir .. "/psql", "x") then return pending "there is no psql beside the server" end
        for _, words in ipairs { { "psql" }, { "run", "--", "psql" } } do
            table.move({ "-XAtc", "select 1", { env = { PATH = "/nowhere" } } }, 1, 3, #words + 1, words)
            local r = ok(stack(folder, table.unpack(words)))
            assert.are.equal("1\n", r.stdout)
        end
    end)

    it("says which command cannot be run", function()
        local r = stack(folder, "run", "--", "no-such-program-here")
        assert.are.equal(1, r.code)
        assert.matches("cannot run 'no%-such%-program%-here'", r.stderr)
        assert.are.equal(2, stack(folder, "run").code)
    end)

    it("points --stack at its servers", function()
        local code = 'print(require("dbrun.db").sync:value("select current_user"))'
        local r = process.run { dbrun, "--no-env", "--stack", "-e", code, cwd = folder }
        assert.are.equal("dbrun\n", r.stdout, r.stderr)
    end)

    it("does not ask for the removal of data without a terminal", function()
        local r = stack(folder, "reset")
        assert.are.equal(2, r.code)
        assert.matches("%-%-force", r.stderr)
        answers(folder)
    end)

    it("refuses unknown commands and options", function()
        assert.are.equal(2, stack(folder, "start").code)
        assert.are.equal(2, stack(folder).code)
        local help = ok(stack(folder, "--help")).stdout
        assert.matches("^Usage.*\n$", help)
        for line in help:gmatch "[^\n]+" do assert.is_true(#line <= 100, line) end
    end)

    it("does not belong to a copy of its folder", function()
        local copy = new_folder("copy")
        finally(clean_up)
        ok(process.run { "cp", "-a", folder .. "/.dbrun", copy })
        assert.are.equal(1, stack(copy, "status").code)
        assert.matches("was not running", ok(stack(copy, "down")).stdout)
        ok(stack(copy, "reset", "--force"))
        answers(folder)
    end)
end)

describe("dbrun stack, after", function()
    local folder

    -- One stack is damaged repeatedly, until it cannot be repaired.
    before_each(function()
        if not folder then
            folder = new_folder()
            ok(stack(folder, "up", "-q"))
            psql(folder, "create table t as select 42 as x")
            redis_cli(folder, "set", "k", "v")
            redis_cli(folder, "save")
        end
        ok(stack(folder, "up", "-q"))
    end)
    teardown(clean_up)

    local function ruined()
        finally(function()
            clean_up()
            folder = nil
        end)
    end

    local function data_is_there()
        answers(folder)
        assert.are.equal("42", psql(folder, "select x from t"))
        assert.are.equal("v", redis_cli(folder, "get", "k"))
    end

    it("a new password: up gives a hint, and does not wait", function()
        ok(stack(folder, "redis-cli", "config", "set", "requirepass", "secret"))
        local result = stack(folder, "up")
        assert.equal(1, result.code)
        assert.matches("asks for a password.*dbrun stack down ends it", result.stderr)
        ok(stack(folder, "down"))
        ok(stack(folder, "up"))
    end)

    it("down: no server runs, status says so, and up keeps the data", function()
        local data = place_of(folder).data
        local r = ok(stack(folder, "down"))
        assert.matches("PostgreSQL%s+stopped", r.stdout)
        assert.matches("Redis%s+stopped", r.stdout)
        assert.are.equal(0, servers_in(data))
        assert.are.equal(1, stack(folder, "status").code)
        assert.matches("was not running", ok(stack(folder, "down")).stdout)
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("reset: everything is removed, and up creates it again", function()
        ruined()
        local at = place_of(folder)
        ok(stack(folder, "reset", "--force"))
        assert.is_false(fs.exists(at.data))
        assert.is_false(fs.exists(at.sockets))
        assert.are.equal(0, servers_in(at.data))
        ok(stack(folder, "up"))
        assert.are.equal("0", psql(folder, "select count(*) from pg_tables where tablename = 't'"))
    end)

    it("kill -9 of both servers, during a statement", function()
        local busy <close> = process.start {
            "psql", "-X", (urls(folder)), "-c", "select pg_sleep(60)", stdout = "null", stderr = "null",
        }
        local sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)' and state = 'active'"
        assert.is_truthy(daemon.poll(20, function() return psql(folder, sql) == "1" end))
        process.kill(pid_of(folder), "KILL")
        process.kill(pid_of(folder, "redis"), "KILL")
        ok(stack(folder, "up"))
        data_is_there()
        assert.is_truthy(busy)
    end)

    it("kill -9 of one: only that one is started", function()
        local redis_pid = pid_of(folder, "redis")
        process.kill(pid_of(folder), "KILL")
        local r = ok(stack(folder, "up"))
        assert.matches("PostgreSQL%s+started", r.stdout)
        assert.matches("Redis%s+is up already", r.stdout)
        assert.are.equal(redis_pid, pid_of(folder, "redis"))
        data_is_there()
    end)

    it("a crash whose process numbers were reused: the other processes are not touched", function()
        local stranger <close> = process.start { "sleep", "300" }
        local at = place_of(folder)
        ok(stack(folder, "down"))
        local file = at.data .. "/postgres/postmaster.pid"
        fs.write(file, ("%d\n%s/postgres\n1700000000\n5432\n%s\n\n  1 1\nready   \n"):format(stranger.pid, at.data,
            at.sockets))
        fs.write(at.data .. "/redis/redis.pid", stranger.pid .. "\n")
        if is_root then fs.chown(file, fs.stat(at.data).uid, fs.stat(at.data).gid) end
        assert.matches("is down.*is down", stack(folder, "status").stdout)
        assert.matches("was not running.*was not running", ok(stack(folder, "down")).stdout)
        assert.is_true(stranger:running())
        ok(stack(folder, "up"))
        data_is_there()
        assert.is_true(stranger:running())
    end)

    it("the loss of its sockets", function()
        local sockets = place_of(folder).sockets
        fs.unlink(sockets .. "/.s.PGSQL.5432")
        fs.unlink(sockets .. "/redis.sock")
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("the loss of the folder with the sockets", function()
        fs.rmtree(place_of(folder).sockets)
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("the loss of its pid files", function()
        local at = place_of(folder)
        fs.unlink(at.data .. "/redis/redis.pid")
        ok(stack(folder, "up"))
        data_is_there()
        assert.are.equal(1, #daemon.processes("redis-server", at.data .. "/redis"))
    end)

    it("a freeze of PostgreSQL: status reports it, down stops it nevertheless", function()
        local pid = pid_of(folder)
        process.kill(pid, "STOP")
        local t = task.now()
        local r = stack(folder, "status")
        assert.are.equal(1, r.code)
        assert.matches("process " .. pid .. " does not answer", r.stdout)
        assert.is_true(task.now() - t < 20)
        ok(stack(folder, "down"))
        assert.are.equal(0, servers_in(place_of(folder).data))
    end)

    it("a move of the folder", function()
        ruined()
        ok(stack(folder, "down"))
        local other = select(2, new_folder()) .. "/moved"
        fs.rename(folder, other)
        folder = other
        ok(stack(folder, "up"))
        data_is_there()
    end)

    it("damage to the cluster: the log's last lines are shown", function()
        ruined()
        ok(stack(folder, "down"))
        fs.rmtree(place_of(folder).data .. "/postgres/global")
        local r = stack(folder, "up")
        assert.are.equal(1, r.code)
        assert.matches("PostgreSQL did not start", r.stderr)
        assert.matches("global/pg_control", r.stderr)
    end)

    it("a change of PostgreSQL's version: it gives a hint", function()
        ruined()
        ok(stack(folder, "down"))
        fs.write(place_of(folder).data .. "/postgres/PG_VERSION", "9\n")
        local r = stack(folder, "up")
        assert.are.equal(2, r.code)
        assert.matches("PostgreSQL 9 is not installed any more", r.stderr)
        assert.matches("reset", r.stderr)
    end)
end)

describe("dbrun stack, in a folder where it was never started", function()
    after_each(clean_up)

    it("has nothing to stop, to remove or to report, and creates no folder", function()
        local folder = new_folder()
        assert.are.equal(1, stack(folder, "status").code)
        assert.matches("never been started", stack(folder, "env").stderr)
        assert.are.equal(1, stack(folder, "env").code)
        ok(stack(folder, "down"))
        assert.matches("nothing to remove", ok(stack(folder, "reset", "--force")).stdout)
        assert.are.same({}, fs.list(folder))
    end)

    it("is started by `run`", function()
        local folder = new_folder()
        local r = ok(stack(folder, "run", "--", "sh", "-c", 'psql -XAtq "$DATABASE_URL" -c "select 1"'))
        assert.are.equal("1\n", r.stdout)
    end)
end)
