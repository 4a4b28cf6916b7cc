-- The checks of Redis, each made to pass, to warn and to fail on real servers.
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

describe("dbrun verify, about Redis:", function()
    local r, root

    setup(function() r = servers.redis() end)
    teardown(function() r:close() end)
    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function check(name, facts, opts)
        opts = opts or {}
        fs.write(root .. "/expect.lua", "return { " .. (facts or "") .. " }")
        local env = { REDIS_URL = opts.url or r.url, DATABASE_URL = "postgresql:///none?host=/nowhere" }
        for key, value in pairs(opts.env or {}) do env[key] = value end
        local result = scripts.run("verify", { "--only", name, "--expect", root .. "/expect.lua",
            opts.strict and "--strict" or nil }, env)
        local status = result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " ")
        assert.equal(status == "FAIL" and 1 or 0, result.code, result.text)
        return status, result.stdout
    end

    local function incomplete(name, facts, cause, opts)
        opts = opts or {}
        local status, text = check(name, facts, opts)
        assert.equal("WARN", status, text)
        assert.matches(cause, text, 1, true)
        opts.strict = true
        assert.equal("FAIL", (check(name, facts, opts)))
    end

    it("version", function()
        assert.equal("PASS", (check "redis.version"))
        assert.equal("PASS", (check("redis.version", "{ redis = '>= 5' }")))
        incomplete("redis.version", "{ redis = '< 5' }", "version < 5 is expected")
    end)

    it("rights, and a user who may not even query them", function()
        assert.equal("PASS", (check("redis.rights", "{ redis_can = { 'publish', 'EVAL' } }")))
        r:cli("acl", "setuser", "few", "on", ">secret22", "~*", "+@read", "+@write", "+@connection", "-info")
        finally(function() r:cli("acl", "deluser", "few") end)
        local few = { url = r:address { user = "few", password = "secret22" } }
        local status, text = check("redis.rights", "", few)
        assert.equal("PASS", status, text)
        assert.matches("user few may not run PUBLISH, EVAL, INFO", text, 1, true)
        incomplete("redis.rights", "{ redis_can = { 'GET', 'PUBLISH' } }", "user few may not run PUBLISH", few)
        incomplete("redis.rights", "{ redis_can = { 'FLUSHALL' } }", "no harmless call of FLUSHALL")
        status, text = check("redis.memory", "", few)
        assert.equal("SKIP", status, text)
        assert.not_matches("secret22", text)
    end)

    it("a missing right, and an expectation that cannot be checked", function()
        r:cli("acl", "setuser", "blind", "on", ">secret22", "~*", "+ping", "+get", "-info", "-config")
        r:cli("acl", "setuser", "noconfig", "on", ">secret22", "~*", "+@all", "-config")
        finally(function() r:cli("acl", "deluser", "blind", "noconfig") end)
        local blind = { url = r:address { user = "blind", password = "secret22" } }
        local status, text = check("redis.latency", "", { url = blind.url })
        assert.equal("PASS", status, text)
        assert.matches("WARN  redis +", text)
        assert.matches("redis-cli acl setuser blind +info", text, 1, true)
        status, text = check("redis.round_trip", "", blind)
        assert.equal("FAIL", status, text)
        assert.matches("a right is missing", text)
        assert.matches("redis-cli acl setuser blind +set", text, 1, true)
        incomplete("redis.version", "{ redis = '>= 5' }", ">= 5 is expected, and cannot be seen", { url = blind.url })
        incomplete("redis.eviction", "{ eviction = 'noeviction' }", "cannot be seen", { url = blind.url })
        local other = r:address { user = "noconfig", password = "secret22" }
        incomplete("redis.persistence", "{ persistence = 'rdb' }", "rdb is expected, and cannot be seen",
            { url = other })
    end)

    it("memory below maxmemory", function()
        assert.equal("PASS", (check "redis.memory"))
        local small <close> = servers.redis { config = { maxmemory = "10mb" } }
        local url = { url = small.url }
        assert.equal("PASS", (check("redis.memory", "", url)))
        small:cli("setrange", "big", "7400000", "x")
        local status, text = check("redis.memory", "", url)
        assert.equal("WARN", status, text)
        assert.matches("more than 80 %; then: writes are refused", text, 1, true)
        small:cli("config", "set", "maxmemory", "8mb")
        status, text = check("redis.memory", "", url)
        assert.equal("FAIL", status, text)
    end)

    it("eviction", function()
        assert.equal("PASS", (check("redis.eviction", "{ eviction = 'noeviction' }")))
        incomplete("redis.eviction", "{ eviction = 'allkeys-lru' }", "allkeys-lru is expected")
        local small <close> = servers.redis { config = { maxmemory = "3mb", ["maxmemory-policy"] = "allkeys-lru" } }
        assert.equal("PASS", (check("redis.eviction", "", { url = small.url })))
        for i = 1, 4 do small:cli("setrange", "big" .. i, "900000", "x") end
        local status, text = check("redis.eviction", "", { url = small.url })
        assert.equal("PASS", status, text)
        assert.matches("keys were evicted since the start, 0/s at present", text)
        local writer = require("dbrun.redis").client { url = small.url }
        do
            local group <close> = task.group()
            local done = false
            group:spawn(function()
                for i = 1, math.huge do
                    if done then break end
                    writer:set("key" .. i % 50, ("x"):rep(500000))
                    task.sleep(0.005)
                end
            end)
            status, text = check("redis.eviction", "", { url = small.url })
            done = true
        end
        writer:close()
        assert.equal("WARN", status, text)
        assert.matches("keys were evicted since the start, %d+/s at present", text)
        for i = 1, 4 do small:cli("setrange", "again" .. i, "700000", "x") end
        assert.equal("PASS", (check("redis.memory", "", { url = small.url }))) -- a cache is full
    end)

    it("persistence", function()
        local status, text = check "redis.persistence"
        assert.equal("PASS", status)
        assert.matches("none: a restart begins empty", text)
        incomplete("redis.persistence", "{ persistence = 'aof' }", "aof is expected")
        local kept <close> = servers.redis { config = { appendonly = "yes" } }
        for _, kind in ipairs { "aof", "any" } do
            local facts = ("{ persistence = '%s' }"):format(kind)
            assert.equal("PASS", (check("redis.persistence", facts, { url = kept.url })))
        end
    end)

    it("a save that failed", function()
        local broken <close> = servers.redis()
        fs.mkdir(broken.data .. "/dump.rdb") -- a folder cannot be replaced by a file
        broken:cli("bgsave")
        for _ = 1, 250 do
            if broken:cli("info", "persistence"):find "rdb_last_bgsave_status:err" then break end
            task.sleep(0.02)
        end
        local status, text = check("redis.persistence", "", { url = broken.url })
        assert.equal("FAIL", status, text)
        assert.matches("saving to disk failed the last time", text)
    end)

    it("room for the pool", function()
        assert.equal("PASS", (check "redis.clients"))
        local small <close> = servers.redis { config = { maxclients = 10 } }
        local env = { REDIS_MAX_CONNECTIONS = "5" }
        local opts = { url = small.url, env = env }
        assert.equal("PASS", (check("redis.clients", "", opts)))
        local others = {}
        local redis = require "dbrun.redis"
        for i = 1, 6 do
            others[i] = redis.client { url = small.url }
            others[i]:ping()
        end
        local status, text = check("redis.clients", "", opts)
        assert.equal("WARN", status, text)
        assert.matches("with all in use, 1 are missing", text)
        for i = 1, 6 do others[i]:close() end
        env.REDIS_MAX_CONNECTIONS = "11"
        assert.equal("FAIL", (check("redis.clients", "", opts)))
    end)

    it("replication", function()
        assert.equal("PASS", (check "redis.replication"))
        incomplete("redis.replication", "{ redis_replicas = 1 }", "1 expected")
        local master <close> = servers.redis { tcp = true }
        local replica <close> = servers.redis { config = { replicaof = { "127.0.0.1 " .. master.tcp_port } } }
        for _ = 1, 250 do
            if replica:cli("info", "replication"):find "master_link_status:up" then break end
            task.sleep(0.02)
        end
        local status, text = check("redis.replication", "", { url = replica.url })
        assert.equal("WARN", status, text)
        assert.equal("PASS", (check("redis.replication", "{ redis_replicas = 1 }", { url = master.url })))
        assert.equal("PASS", (check("redis.replication", "{ redis_replicas = 1 }", { url = replica.url })))
        master:kill "KILL"
        status, text = check("redis.replication", "", { url = replica.url })
        assert.equal("FAIL", status, text)
        assert.matches("the link to the master is down", text)
    end)

    it("reports a server that will not become ready, and one without TLS, long before the deadline", function()
        local sick <close> = servers.redis { tcp = true, config = { ["lua-time-limit"] = 50 } }
        local redis = require "dbrun.redis"
        local function told(url, ...)
            local result = scripts.run("verify", { "--only", "redis", "--deadline", "50" }, { REDIS_URL = url })
            assert.equal(1, result.code, result.text)
            for _, text in ipairs { ... } do assert.matches(text, result.stdout, 1, true) end
            assert.not_matches("deadline", result.stdout)
        end
        told("rediss://:hunter22@127.0.0.1:" .. sick.tcp_port, "speaks no TLS", "write redis://")
        local group <close> = task.group()
        local client = redis.client { url = sick.url }
        client:ping()
        group:spawn(function() pcall(client.call, client, "EVAL", "while true do end", 0) end)
        pg.eventually(20, function() return sick:cli("ping"):find "BUSY" end, "a script that runs")
        told(sick.url, "BUSY", "SCRIPT KILL or FUNCTION KILL stops it")
        sick:cli("script", "kill")
        client:close()
        pg.eventually(20, function() return sick:cli("ping") == "PONG" end, "the script has ended")
        assert.equal("OK", sick:cli("config", "set", "replica-serve-stale-data", "no"))
        assert.equal("OK", sick:cli("replicaof", "127.0.0.1", "1"))
        told(sick.url, "a replica without its master answers nothing", "replicaof no one")
    end)

    it("reports at once that a server uses TLS when the URL does not", function()
        local server = require("spec.support.redis_server").start { tls = true }
        finally(function() server:stop() end)
        local port = server.tls.port
        server:cli("config", "set", "requirepass", "hunter22")
        for _, clients in ipairs { "yes", "no" } do -- whether a client needs a certificate
            server:cli("-a", "hunter22", "--no-auth-warning", "config", "set", "tls-auth-clients", clients)
            local result = scripts.run("verify", { "--only", "redis", "--deadline", "50" },
                { REDIS_URL = "redis://:hunter22@127.0.0.1:" .. port })
            assert.equal(1, result.code, result.text)
            assert.matches("no encrypted connection (tls)", result.stdout, 1, true)
            assert.matches("speaks TLS, and closes connections without it", result.stdout, 1, true)
            assert.matches("write rediss:// instead of redis://", result.stdout, 1, true)
            assert.not_matches("deadline", result.stdout)
        end
        local e = pg.raised(function() require("dbrun.redis").client { url = "redis://127.0.0.1:" .. port }:ping() end)
        assert.matches("does it want TLS on this port (then use rediss://)", e.hint, 1, true)
    end)

    it("latency", function()
        assert.equal("PASS", (check "redis.latency"))
        assert.equal("WARN", (check("redis.latency", "{ limit = 'redis.latency', warn = 0 }")))
        assert.equal("FAIL", (check("redis.latency", "{ limit = 'redis.latency', fail = 0 }")))
    end)
end)
