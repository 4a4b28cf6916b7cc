--- A PgBouncer in transaction mode: each transaction can run in another session of the server, which does not know the
--- statements that an earlier session prepared.

local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local pgbouncer = require "spec.support.pgbouncer"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

if not pgbouncer.is_there() then
    pending("pgbouncer is not installed: its specs are skipped")
    return
end

local raised = pg.raised

--- The log of a separate dbrun.
local function log_of(url, source)
    local result = process.run { core.options.program, "--no-env", "-", stdin = source,
        env = { DATABASE_URL = url }, timeout = 30 }
    assert(result.ok, result.stderr)
    return result.stderr
end

pg.on_both(describe, function(mode, open)
    local server, bouncer

    setup(function()
        core.log.level "error" -- a separate program below checks the log
        server = servers.postgres()
        bouncer = pgbouncer.start(server)
    end)

    teardown(function()
        core.log.level "warn"
        getmetatable(bouncer).__close(bouncer)
        server:close()
    end)

    --- Makes the next transactions run in another session, by keeping this one busy.
    local function occupy(fn)
        local busy <close> = open { url = bouncer.url, size = 1, statement_cache = 0 }
        local c <close> = busy:acquire()
        c:exec "begin"
        fn()
        c:exec "rollback"
    end

    local function pid_of(e)
        return e:value "select pg_backend_pid()"
    end

    it("a statement that another session prepared still runs, every time", function()
        local e <close> = open { url = bouncer.url, size = 1 }
        local sql = "select $1::int8 + 0"
        local pids = {}
        for i = 1, 5 do
            assert.equal(i, e:value(sql, i))
        end
        for round = 1, 5 do
            occupy(function()
                pids[pid_of(e)] = true
                for i = 1, 5 do
                    assert.equal(i * round, e:value(sql, i * round))
                end
            end)
            pids[pid_of(e)] = true
            for i = 1, 5 do
                assert.equal(-i, e:value(sql, -i))
            end
        end
        assert(next(pids, next(pids)), "all ran in one session: nothing was tested")
    end)

    it("INSERT runs once, not twice", function()
        local e <close> = open { url = bouncer.url, size = 1 }
        e:exec "create table if not exists once (i int); truncate once"
        local n = 0
        for round = 1, 4 do
            local function insert()
                for _ = 1, 3 do
                    n = n + 1
                    assert.equal(1, e:query("insert into once values ($1)", n).affected)
                end
            end
            if round % 2 == 0 then
                occupy(insert)
            else
                insert()
            end
        end
        assert.same({ n = n, d = n }, e:one "select count(*)::int as n, count(distinct i)::int as d from once")
    end)

    it("in transactions it is one error at most, and then the cache is off", function()
        local e <close> = open { url = bouncer.url, size = 1 }
        local function run(n)
            return e:transaction(function(tx)
                tx:value "select 0"
                return tx:value("select $1::int8 * 2", n)
            end)
        end
        for i = 1, 4 do
            assert.equal(i * 2, run(i))
        end
        local failures = 0
        for round = 1, 6 do
            local function try()
                for i = 1, 3 do
                    local ok, v = pcall(run, i)
                    if not ok then
                        assert.equal("26000", v.sqlstate)
                        assert.matches("DB_STATEMENT_CACHE", v.hint)
                        failures = failures + 1
                    else
                        assert.equal(i * 2, v)
                    end
                end
            end
            if round % 2 == 1 then
                occupy(try)
            else
                try()
            end
        end
        assert(failures <= 1, failures)
    end)

    it("without a cache nothing is ever prepared", function()
        local e <close> = open { url = bouncer.url, size = 2, statement_cache = 0 }
        for i = 1, 10 do
            assert.equal(i, e:value("select $1::int8 /* never prepared */", i))
        end
        for _ = 1, 3 do
            assert.equal(0, e:value [[select count(*) from pg_prepared_statements
                where statement like '%never prepared%'
                and statement not like '%count%']])
        end
    end)

    it("two programs never run each other's statements", function()
        local a <close> = open { url = bouncer.url, size = 2 }
        local b <close> = open { url = bouncer.url, size = 2 }
        for i = 1, 30 do
            assert.equal("a" .. i, a:value("select 'a' || $1::int", i))
            assert.equal("b" .. i, b:value("select 'b' || $1::int", i))
            if i % 7 == 0 then
                occupy(function()
                    assert.equal("a" .. i, a:value("select 'a' || $1::int", i))
                    assert.equal("b" .. i, b:value("select 'b' || $1::int", i))
                end)
            end
        end
    end)

    it("is logged, once for an engine", function()
        local log = log_of(bouncer.url, ([[
            local db = require "dbrun.db"
            local e <close> = db.engine { url = os.getenv "DATABASE_URL", mode = "%s", size = 3 }
            local busy <close> = db.engine { url = os.getenv "DATABASE_URL", mode = "%s", size = 1,
                statement_cache = 0 }
            local a, b = e:acquire(), e:acquire()
            for round = 1, 4 do
                for i = 1, 5 do
                    assert(a:value("select $1::int", i) == i)
                    assert(b:value("select $1::int", i) == i)
                end
                local c = busy:acquire()
                c:exec "begin"
                for i = 1, 5 do
                    assert(a:value("select $1::int", i) == i)
                    assert(b:value("select $1::int", i) == i)
                end
                c:exec "rollback"
                c:release()
            end
            a:release()
            b:release()
        ]]):format(mode, mode))
        assert.equal(1, select(2, log:gsub("loses prepared statements", "")), log)
        assert.matches("DB_STATEMENT_CACHE=0", log, 1, true)
    end)

    it("a missing prepared statement of the script's is an error of the script", function()
        local e <close> = open { url = server.url, size = 1 }
        for _ = 1, 4 do
            assert.equal("26000", raised(e.query, e, "execute never_prepared").sqlstate)
            e:value "select 4 as kept"
        end
        local c <close> = e:acquire()
        assert(c:value "select count(*) from pg_prepared_statements" >= 1)
    end)

    for what, settings in pairs {
        refuses = {}, drops = { ignore_startup_parameters = "options" },
    } do
        it("a pooler that " .. what .. " the settings of the startup message changes no value", function()
            local own <close> = servers.postgres()
            for _, setting in ipairs { "extra_float_digits = -10", "array_nulls = off", "datestyle = 'German'" } do
                own:psql("alter database postgres set " .. setting)
            end
            settings.pool_mode = "session"
            local pooler <close> = pgbouncer.start(own, settings)
            local e <close> = open { url = pooler.url, size = 1, overflow = 0 }
            local c <close> = e:acquire()
            for _, sql in ipairs { "select 1", "reset all", "discard all", "set extra_float_digits = 0" } do
                c:exec(sql)
                for _ = 1, 3 do
                    assert.equal(0.1 + 0.2, c:value "select 0.1::float8 + 0.2")
                    assert.equal("2024-01-02", c:value "select date '2024-01-02'")
                    assert.same({ db.null }, c:value("select $1::text[]", db.array({ db.null }, "text")))
                end
            end
        end)
    end

    if mode == "async" then
        it("a storm of tasks gets only right answers", function()
            local e <close> = pg.engine { url = bouncer.url, size = 8, overflow = 0 }
            local stop = task.now() + 2
            local n = 0
            local work = {}
            for i = 1, 20 do
                work[i] = function()
                    while task.now() < stop do
                        local nonce = math.random(1 << 40)
                        local k = math.random(5)
                        local v = e:value(("select $1::int8 + %d"):format(k), nonce)
                        assert(v == nonce + k, "a wrong answer")
                        if math.random(5) == 1 then
                            local ok, problem = pcall(task.timeout, 0.003, e.value, e,
                                "select $1::int8 from pg_sleep(0.005)",
                                nonce)
                            assert(ok or errors.is(problem, "timeout"), tostring(problem))
                        end
                        n = n + 1
                    end
                end
            end
            task.all(work)
            assert(n > 200, n)
            pg.settled(e, 4)
        end)
    end
end)
