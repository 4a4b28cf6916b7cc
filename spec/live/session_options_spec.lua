--- --read-only, --statement-timeout, --lock-timeout: settings of every session of a program.

local core = require "dbrun.core"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

describe("dbrun", function()
    local env

    setup(function()
        env = { DATABASE_URL = (servers.database()), REDIS_URL = (servers.redis_db()) }
    end)

    local function run(options, code, more)
        local argv = { core.options.program, "--no-env" }
        table.move(options, 1, #options, #argv + 1, argv)
        argv[#argv + 1], argv[#argv + 2] = "-e", [[
            local db, redis = require "dbrun.db", require "dbrun.redis"
            local function fails(fn, ...) local ok, e = pcall(fn, ...) assert(not ok, "no error") return e end
            ]] .. code
        argv.env = more or {}
        for key, value in pairs(env) do argv.env[key] = argv.env[key] or value end
        argv.timeout = 60
        return process.run(argv)
    end

    local function prints(expected, options, code, more)
        local result = run(options, code, more)
        assert.equal(0, result.code, result.stderr)
        assert.equal(expected, result.stdout)
    end

    describe("--read-only", function()
        local READ_ONLY <const> = { "--read-only" }

        it("allows no writes to PostgreSQL, by any engine", function()
            prints("1\t25006\n1\t25006\n1\t25006\n", READ_ONLY, [[
                local own <close> = db.engine { url = os.getenv "DATABASE_URL", pipeline = 8, reset = "full" }
                for _, e in ipairs { db.async, db.sync, own } do
                    e:exec "discard all"
                    print(e:value "select 1", fails(e.exec, e, "create table t (i int)").sqlstate)
                end]])
        end)

        it("applies to transactions that request to write, also dbrun's own", function()
            local migrations <const> = "usage\tthis program runs with --read-only, and migrations write\n"
            prints("25006\n25006\n25006\n" .. migrations, READ_ONLY, [[
                local writes = { isolation = "read committed", read_only = false }
                local function make(tx) tx:exec "create table made (i int)" end
                print(fails(db.async.transaction, db.async, writes, make).sqlstate)
                print(fails(db.sync.transaction, db.sync, function(tx)
                    tx:transaction({ read_only = false }, make)
                end).sqlstate)
                local place = { jobs = "public.made_jobs", ranges = "public.made_ranges" }
                local conn <close> = db.sync:acquire()
                print(fails(require("dbrun.batch.state.schema").ensure, conn).sqlstate)
                local e = fails(require("dbrun.migrate").up, { dirs = { "scripts/migrations" } })
                print(e.kind, e.message)]])
        end)

        it("names its source in errors", function()
            prints("true\n", READ_ONLY, [[
                print(tostring(fails(db.sync.exec, db.sync, "create table t (i int)")):find "--read%-only" ~= nil)]])
        end)

        it("sends Redis no command that can write, however it is written", function()
            prints("OK\n", READ_ONLY, [[
                local r = redis.get()
                local function refused(fn, ...)
                    local e = fails(fn, ...)
                    assert(e.kind == "usage" and e.outcome == "not_sent" and e.message:find "--read%-only", tostring(e))
                end
                for _, c in ipairs { { "SET", "k", 1 }, { "del", "k" }, { "EVAL", "return 1", 0 }, { "FLUSHALL" },
                    { "CONFIG", "SET", "maxmemory", 0 }, { "config", { "set", "maxmemory", 0 } }, { "GETEX", "k" },
                    { "SORT", "l", "STORE", "m" }, { "XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">" },
                    { "UNKNOWN" }, { "BLPOP", "q", 1 }, { "SCRIPT", "FLUSH" } } do
                    refused(r.call, r, table.unpack(c))
                end
                for name in ("SORT BITFIELD GEORADIUS GEORADIUSBYMEMBER EVAL EVALSHA FCALL"):gmatch "%S+" do
                    local hint = fails(r.call, r, name, "k", 0).hint
                    assert(hint == name .. "_RO does the same, and never writes", hint)
                end
                assert(fails(r.call, r, "SET", "k", 0).hint == nil)
                refused(r.hset, r, "h", { a = 1 })
                refused(function() r:pipeline(function(p) p:get "k" p:incr "n" end) end)
                refused(function() r:multi(function(tx) tx:incr "n" end) end)
                refused(function() local c <close> = r:acquire() c:set("k", 1) end)
                assert(r:get "k" == nil and r:hgetall "h" and r:ping() == "PONG" and r:config("GET", "maxmemory"))
                -- Newer than the server: it refuses them itself, and the others are refused before.
                for _, c in ipairs { { "HTTL", "h", "FIELDS", 1, "f" }, { "DIGEST", "k" }, { "VSIM", "v", "ELE", "e" },
                    } do
                    local e = fails(r.call, r, table.unpack(c))
                    assert(e.kind == "redis" and e.message:find "unknown command", tostring(e))
                end
                refused(r.call, r, "HEXPIRE", "h", 1, "FIELDS", 1, "f")
                refused(r.call, r, "HGETEX", "h", "FIELDS", 1, "f")
                refused(r.call, r, "CLUSTER", "MIGRATESLOTS", "x")
                assert(#r:client("LIST") > 0 and r:pipeline(function(p) p:get "k" p:ttl "k" end)[2] == -2)
                print(r:dbsize() == 0 and "OK" or "something was written")]])
        end)

        it("verifies with reads, and skips checks that write", function()
            local result = process.run {
                core.options.program, "--no-env", "--read-only", "scripts/verify.lua", "--only",
                "redis.round_trip,postgres.writable", env = env, timeout = 60,
            }
            assert.equal(0, result.code, result.text)
            assert.matches("SKIP  redis.round_trip +[^\n]*--read%-only", result.stdout)
            assert.matches("SKIP  postgres.writable +[^\n]*--read%-only", result.stdout)
        end)
    end)

    it("--statement-timeout ends statements, --lock-timeout ends waits for locks", function()
        prints("57014\ttimeout\n55P03\n1500ms\t250ms\n", { "--statement-timeout=1.5", "--lock-timeout", "0.25" }, [[
            print(fails(db.async.query, db.async, "select pg_sleep(20)").sqlstate,
                fails(db.sync.query, db.sync, "select pg_sleep(20)").kind)
            db.sync:exec "create table if not exists locked (i int)"
            local holder <close> = db.sync:acquire()
            holder:exec "begin; lock table locked"
            print(fails(db.async.query, db.async, "select * from locked").sqlstate)
            local c <close> = db.async:acquire()
            c:exec "reset all"
            print(c:value "show statement_timeout", c:value "show lock_timeout")]])
    end)

    it("keeps the session settings of the URL and PGOPTIONS", function()
        local url = env.DATABASE_URL .. (env.DATABASE_URL:find "?" and "&" or "?")
        prints("7MB\ton\n", { "--read-only" }, [[
            print(db.sync:value "show work_mem", db.sync:value "show default_transaction_read_only")]],
            { PGOPTIONS = "-c work_mem=7MB" })
        prints("8MB\ton\n", { "--read-only" }, [[
            print(db.sync:value "show work_mem", db.sync:value "show default_transaction_read_only")]],
            { DATABASE_URL = url .. "options=-c%20work_mem%3D8MB" })
    end)

    it("refuses values that are not durations", function()
        for _, option in ipairs { "--statement-timeout", "--lock-timeout" } do
            for _, value in ipairs { "0", "-1", "x", "1e9", "nan", "" } do
                local result = run({ option, value }, "")
                assert.equal(2, result.code)
                assert.matches(option .. ": expected", result.stderr, 1, true)
            end
        end
    end)
end)
