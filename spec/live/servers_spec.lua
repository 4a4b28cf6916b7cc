--- The support code of other specs: real servers and peers that misbehave.
local daemon = require "dbrun.stack.daemon"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local servers = require "spec.support.servers"
local support = require "spec.support.pg"
local task = require "dbrun.task"

local function engine(url, opts)
    local e = db.engine { url = url, size = 1, overflow = 0, connect_timeout = opts and opts.connect_timeout or 5,
        timeout = 10, command_timeout = opts and opts.command_timeout or 5 }
    finally(function() e:close() end)
    return e
end

describe("servers for specs", function()
    it("give each caller a new empty database", function()
        local a, b = servers.database(), servers.database()
        assert.are_not.equal(a, b)
        local e = engine(a)
        e:exec("create table t (x int)")
        assert.are.equal(0, engine(b):value("select count(*) from pg_tables where tablename = 't'"))
    end)

    it("give each caller an empty Redis database number", function()
        local a, b = redis.client { url = servers.redis_db() }, redis.client { url = servers.redis_db() }
        finally(function() a:close() b:close() end)
        a:set("k", "v")
        assert.is_nil(b:get("k"))
        assert.are.equal("v", a:get("k"))
    end)

    it("start a PostgreSQL with the given settings, also over TCP", function()
        local pg <close> = servers.postgres { settings = { max_connections = 7 }, tcp = true }
        assert.are.equal("7", pg:psql("show max_connections"))
        assert.are.equal("7", engine(pg:address { tcp = true }):value("show max_connections"))
    end)

    it("require a password when pg_hba.conf says so", function()
        local pg <close> = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256" }
        pg:psql("create role app login password 'p@ss:/%#'")
        assert.are.equal("app", engine(pg:address { user = "app", password = "p@ss:/%#" }):value("select current_user"))
    end)

    it("start again after kill -9 and after an immediate stop", function()
        local pg <close> = servers.postgres()
        pg:psql("create table t as select 1 as x")
        pg:kill("KILL")
        assert.is_nil(pg.pid)
        pg:start()
        assert.are.equal("1", pg:psql("select x from t"))
        pg:restart("immediate")
        assert.are.equal("1", pg:psql("select x from t"))
    end)

    it("report the server's message when it cannot start", function()
        local ok, e = pcall(servers.postgres, { settings = { no_such_setting = 1 } })
        assert.is_false(ok)
        assert.matches("no_such_setting", e.detail)
    end)

    it("start a Redis with the given configuration", function()
        local r <close> = servers.redis { config = { maxclients = 17 } }
        assert.matches("17", r:cli("config", "get", "maxclients"))
    end)

    it("are told from processes that are just ending, which nobody can look into", function()
        local dir = fs.mkdtemp()
        finally(function() fs.rmtree(dir) end)
        fs.write(dir .. "/postgres", fs.read "/usr/bin/perl")
        fs.chmod(dir .. "/postgres", tonumber("755", 8))
        for _ = 1, 10 do
            local child <close> = process.start {
                dir .. "/postgres", "-e", [[my $large = "x" x 100000000; syswrite(STDOUT, "ready\n"); sleep(60)]],
                cwd = dir, stdout = "capture",
            }
            assert.are.equal("ready", child:read_line(20))
            assert.is_true(daemon.works_in(child.pid, "postgres", dir))
            process.kill(child.pid, "KILL")
            local deadline = task.now() + 10
            local works
            repeat -- without a pause: it takes a millisecond
                works = daemon.works_in(child.pid, "postgres", dir)
                assert.is_not_nil(works)
            until works == false or task.now() > deadline
            assert.is_false(works)
        end
    end)

    it("stop with their process, even when that is killed", function()
        local script = os.tmpname()
        fs.write(script, [[
            local s = require "spec.support.servers"
            io.write(s.postgres().data, "\n", s.redis().data, "\n", "ready\n")
            io.flush()
            require("dbrun.task").sleep(60)
        ]])
        finally(function() fs.unlink(script) end)
        local child <close> = process.start {
            require("dbrun.core").options.program, script, stdout = "capture",
        }
        local pg, r = child:read_line(30), child:read_line(10)
        assert.are.equal("ready", child:read_line(10))
        -- Test files run in parallel, and each removes what dead runs have left: none of them may do so first.
        local guard <close> = folder.guard()
        child:kill("KILL")
        assert.is_truthy(daemon.poll(10, function()
            return #daemon.processes("postgres", pg) == 0 and #daemon.processes("redis-server", r) == 0
        end))
        assert.is_true(fs.exists(pg), "the folder was removed before the next run")
        guard:release()
        local again = process.run { require("dbrun.core").options.program, "-e",
            'require("spec.support.servers.folder").run()' }
        assert.are.equal("", again.stderr)
        assert.is_false(fs.exists(pg), "the next run did not remove the folder")
    end)
end)

describe("a proxy", function()
    it("passes statements on, and counts the bytes", function()
        local pg = servers.shared_postgres()
        local proxy <close> = fake.proxy { to = pg }
        local e = engine(proxy:address_of(pg))
        assert.are.equal(("x"):rep(300000), e:value("select repeat('x', 300000)"))
        local stats = proxy:stats()
        assert.are.equal(1, stats.connections)
        assert.is_true(stats.down > 300000)
    end)

    it("delays the server's replies", function()
        local pg = servers.shared_postgres()
        local proxy <close> = fake.proxy { to = pg }
        local e = engine(proxy:address_of(pg))
        e:value("select 1")
        proxy:delay("down", 0.2)
        local t = task.now()
        e:value("select 1")
        assert.is_true(task.now() - t >= 0.2)
    end)

    it("drops a reply after the server has done the work", function()
        local pg = servers.shared_postgres()
        local proxy <close> = fake.proxy { to = pg }
        pg:psql("create table lost (x int)")
        local e = engine(proxy:address_of(pg))
        e:value("select 1")
        proxy:cut("down", 0)
        assert.has_error(function() e:exec("insert into lost values (1)") end)
        assert.are.equal("1", pg:psql("select count(*) from lost"))
    end)

    it("passes nothing on demand", function()
        local pg = servers.shared_postgres()
        local proxy <close> = fake.proxy { to = pg }
        local e = engine(proxy:address_of(pg), { command_timeout = 0.3 })
        support.eventually(20, function() return (pcall(e.value, e, "select 1")) end, "an answer")
        proxy:hold("down")
        local ok, problem = pcall(e.value, e, "select 1")
        assert.is_false(ok)
        assert.is_true(errors.is(problem, "timeout"), tostring(problem))
    end)
end)

describe("a fake server", function()
    it("accepts and sends nothing", function()
        local mute <close> = fake.mute()
        local e = engine("postgresql://x@/x?host=" .. mute.dir:gsub("/", "%%2F"), { connect_timeout = 1 })
        local t = task.now()
        local ok, problem = pcall(e.value, e, "select 1")
        assert.is_false(ok)
        assert.is_true(errors.is(problem, "timeout") or errors.is(problem, "connect"), tostring(problem))
        assert.is_true(task.now() - t < 10)
    end)

    it("sends the given replies", function()
        local said <close> = fake.say { "+PONG\r\n", tcp = true }
        local heard = process.run { "redis-cli", "-p", said.port, "ping", timeout = 10 }
        assert.are.equal("PONG\n", heard.stdout)
    end)

    it("sends garbage", function()
        local noise <close> = fake.garbage { seed = 7, tcp = true }
        local r = redis.client { url = ("redis://127.0.0.1:%d/0"):format(noise.port), command_timeout = 2 }
        finally(function() r:close() end)
        local ok, problem = pcall(r.call, r, "PING")
        assert.is_false(ok)
        assert.is_true(errors.is(problem), tostring(problem))
    end)
end)
