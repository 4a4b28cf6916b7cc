-- Writes that r:with{wait = ...} has confirmed still exist after the primary has died, whatever happened to the
-- replicas and the primary before; lost writes were never confirmed.
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_sentinels = require "spec.support.redis_sentinels"
local redis_server = require "spec.support.redis_server"
local rounds = require("spec.support.rounds").of
local task = require "dbrun.task"

local TASKS <const> = 20

--- The numbers that the tasks have written, each to its own set.
local function new_tally(name)
    local tally = { name = name, confirmed = {}, n = 0, few = 0, unknown = 0, not_sent = 0, longest = 0, stop = false }
    for i = 1, TASKS do
        tally.confirmed[i] = {}
    end
    return tally
end

local function failed(tally, e)
    if not errors.is(e) then
        error(e, 0)
    elseif e.code == "WAIT" then
        assert.equal("unknown", e.outcome)
        assert.equal(1, e.reply) -- the reply to the write itself
        tally.few = tally.few + 1
    elseif e.outcome == "unknown" then
        tally.unknown = tally.unknown + 1
    else
        tally.not_sent = tally.not_sent + 1
        assert.is_true(e.outcome == "not_sent" or e.kind == "redis" or e.kind == "pool", tostring(e))
    end
end

--- Twenty tasks write numbers, each number once, until `disturb` has returned.
local function write_while(name, client_of, limit, disturb)
    local tally <const> = new_tally(name)
    local g <close> = task.group()
    for i = 1, TASKS do
        g:spawn(function()
            local nonce = 0
            while not tally.stop do
                nonce = nonce + 1
                local began <const> = task.now()
                local w <const> = client_of(i)
                local ok <const>, e <const> = pcall(w.sadd, w, name .. i, nonce)
                tally.longest = math.max(tally.longest, task.now() - began)
                if ok then
                    assert.equal(1, e)
                    tally.n = tally.n + 1
                    table.insert(tally.confirmed[i], nonce)
                else
                    failed(tally, e)
                    task.sleep(0.005)
                end
            end
        end)
    end
    g:spawn(function()
        disturb(tally)
        tally.stop = true
    end)
    g:wait()
    assert.is_true(tally.n > 0, "no write was confirmed")
    assert.is_true(tally.longest < limit, ("a write took %g s"):format(tally.longest))
    return tally
end

--- The number of lost confirmed writes.
local function lost(tally, members_of)
    local n = 0
    for i, list in ipairs(tally.confirmed) do
        local there <const> = {}
        for _, nonce in ipairs(members_of(tally.name .. i)) do
            there[math.tointeger(tonumber(nonce))] = true
        end
        for _, nonce in ipairs(list) do
            n = n + (there[nonce] and 0 or 1)
        end
    end
    return n
end

describe("confirmed writes to Redis", function()
    it("are on all replicas when the primary dies while replicas freeze and resume", function()
        local quick <const> = { "--repl-diskless-sync-delay", "0" }
        for _ = 1, rounds(4) do
            local primary <const> = redis_server.start { tcp = true, args = quick }
            local replicas <const> = {}
            for i = 1, 2 do
                replicas[i] = redis_server.start {
                    tcp = true, args = { quick[1], quick[2], "--replicaof", "127.0.0.1", tostring(primary.port) },
                }
            end
            finally(function()
                for _, server in ipairs { primary, table.unpack(replicas) } do
                    server:stop()
                end
            end)
            assert.is_true(redis_server.wait_until(20, function()
                return primary:cli("info", "replication"):find "slave1:[^\n]*state=online"
            end))
            local r <close> = redis.client { url = primary.url, command_timeout = 1 }
            local both <const> = r:with { wait = { replicas = 2, timeout = 0.3 } }
            local one <const> = r:with { wait = { replicas = 1, timeout = 0.3 } }
            local tally <const> = write_while("set", function(i) return i <= 15 and both or one end, 8, function()
                for _ = 1, 12 do
                    local server <const> = replicas[math.random(2)]
                    task.sleep(0.05 * math.random())
                    server:freeze()
                    task.sleep(0.4 * math.random())
                    server:thaw()
                end
                primary:kill()
            end)
            assert.is_true(tally.few > 0)
            local clients <const> = {}
            for at, server in ipairs(replicas) do
                clients[at] = redis.client { url = server.url }
            end
            local function in_one(key)
                local all <const>, more <const> = clients[1]:smembers(key), clients[2]:smembers(key)
                return table.move(more, 1, #more, #all + 1, all)
            end
            assert.equal(0, lost(tally, in_one))
            for i = 16, TASKS do
                tally.confirmed[i] = {}
            end
            for _, c in ipairs(clients) do
                assert.equal(0, lost(tally, function(key) return c:smembers(key) end))
                c:close()
            end
        end
    end)

    it("have an unknown outcome when the server became a replica before WAIT", function()
        local quick <const> = { "--repl-diskless-sync-delay", "0" }
        local primary <const> = redis_server.start { tcp = true, args = quick }
        local other <const> = redis_server.start { tcp = true, args = quick }
        local replica <const> = redis_server.start {
            tcp = true, args = { quick[1], quick[2], "--replicaof", "127.0.0.1", tostring(primary.port) },
        }
        local proxy <const> = fake.proxy { to = "unix:" .. primary.socket }
        finally(function()
            proxy:close()
            for _, server in ipairs { primary, other, replica } do server:stop() end
        end)
        local function online()
            return primary:cli("info", "replication"):find "slave0:[^\n]*state=online"
        end
        assert.is_true(redis_server.wait_until(20, online))
        local r <close> = redis.client { url = "unix://" .. proxy.path, command_timeout = 60 }
        local w <const> = r:with { wait = { replicas = 1, timeout = 30 } }
        assert.equal("OK", w:set("there", 1))
        proxy:delay("up", 5) -- also delays the WAIT after the write
        local t <const> = task.spawn(function() return fails("redis", w.set, w, "gone", 1) end)
        assert.is_true(redis_server.wait_until(20, function() return primary:cli("get", "gone"):find "1" end))
        primary:cli("replicaof", "127.0.0.1", tostring(other.port))
        assert.is_true(redis_server.wait_until(20, function()
            return primary:cli("info", "replication"):find "master_link_status:up"
        end))
        primary:cli("replicaof", "no", "one")
        assert.is_true(redis_server.wait_until(20, online))
        local e <const> = t:join()
        proxy:delay("up", 0)
        assert.equal("unknown", e.outcome)
        assert.equal(1, e.asked)
        assert.equal(0, r:exists "gone")
        assert.equal("OK", w:set("there", 2))
    end)

    it("survive failovers by sentinels", function()
        local set <const> = redis_sentinels.start()
        finally(function() set:stop() end)
        local function port() return set:master_port() end
        local function index() return port() == set.servers[1].port and 1 or 2 end
        local function in_sync()
            return redis_server.wait_until(60, function()
                local m <const> = index()
                return set:cli(m, "info", "replication"):find "slave0:[^\n]*state=online"
                    and set:cli(3 - m, "info", "replication"):find "master_link_status:up"
                    and set:sentinel_cli(1, "sentinel", "replicas", "main"):find "master%-link%-status\nok\n"
                    and set:sentinel_cli(1, "sentinel", "replicas", "main"):find "flags\nslave\n"
            end)
        end
        local r <close> = redis.client { url = set.url, command_timeout = 1 }
        for _, how in ipairs { "kill", "asked", "freeze" } do
            assert.is_true(in_sync(), "master and replica do not find together")
            local w <const> = r:with { wait = { replicas = 1, timeout = 0.5 } }
            assert.is_true(redis_server.wait_until(20, function() return (pcall(w.set, w, "ready", 1)) end))
            local tally <const> = write_while(how, function() return w end, 20, function()
                task.sleep(0.3 + 0.3 * math.random())
                local old <const>, server <const> = port(), set.servers[index()]
                if how == "kill" then
                    server:kill()
                elseif how == "freeze" then
                    server:freeze()
                end
                local moved <const> = redis_server.wait_until(60, function()
                    if port() ~= old then return true end
                    if how == "asked" then set:failover() end -- can be refused
                end)
                assert.is_true(moved, "no failover")
                task.sleep(0.5)
                if how == "freeze" then
                    server:thaw() -- it runs the commands in its socket's buffer
                elseif how == "kill" then
                    server:restart()
                end
                task.sleep(1)
            end)
            local c <close> = redis.client { url = "redis://127.0.0.1:" .. port() }
            assert.equal("master", c:role()[1])
            assert.equal(0, lost(tally, function(key) return c:smembers(key) end), "after " .. how)
        end
    end)

    it("survive the loss of a primary of a cluster", function()
        local cluster <const> = redis_cluster.start()
        finally(function() cluster:stop() end)
        local r <close> = redis.client { url = cluster.url, command_timeout = 2 }
        local w <const> = r:with { wait = { replicas = 1, timeout = 0.5 } }
        assert.equal("OK", w:set("k", "v"))
        assert.same({ "OK", "OK", "v" }, w:pipeline(function(p) p:set("a", 1):set("b", 2):get "k" end))
        assert.same({ "OK", 2 }, w:multi(function(tx) tx:set("{m}a", 1):incr "{m}a" end))
        assert.same({ 3 }, w:multi({ watch = "{m}a" }, function(tx) tx:incr "{m}a" end))
        assert.equal("OK", w:mset { x = 1, y = 2, z = 3 })
        assert.equal("OK", w:flushall())
        for i = 4, 6 do
            cluster.nodes[i]:freeze()
        end
        local quick <const> = r:with { wait = { replicas = 1, timeout = 0.1 } }
        for _, case in ipairs {
            { "OK", quick.set, "k", "v" },
            { "OK", quick.mset, { x = 1, y = 2, z = 3 } },
            { { "OK", "v", "1" }, quick.pipeline, function(p) p:set("x", 1):get("k"):get "x" end },
            { { 2 }, quick.multi, function(tx) tx:incr "x" end },
            { { 3 }, quick.multi, { watch = "x" }, function(tx) tx:incr "x" end },
        } do
            local ok <const>, e <const> = pcall(case[2], quick, table.unpack(case, 3))
            assert.is_false(ok)
            assert.equal("WAIT", e.code, tostring(e))
            assert.equal(0, e.acknowledged)
            assert.same(case[1], e.reply)
        end
        assert.equal("v", quick:get "k")
        for i = 4, 6 do
            cluster.nodes[i]:thaw()
        end
        assert.is_true(redis_server.wait_until(20, function() return cluster:is_whole() end))
        local tally <const> = write_while("set", function() return w end, 20, function()
            task.sleep(0.3 + 0.3 * math.random())
            cluster.nodes[2]:kill()
            assert.is_true(redis_server.wait_until(20, function()
                return cluster.nodes[5]:cli("role"):find "master"
            end), "no failover")
            task.sleep(1)
        end)
        assert.equal(0, lost(tally, function(key) return r:smembers(key) end))
    end)
end)
