-- Checks of servers of Redis that work together, made to pass, to warn and to fail on a real cluster and sentinels.
local pg = require "spec.support.pg"
local redis_cluster = require "spec.support.redis_cluster"
local redis_sentinels = require "spec.support.redis_sentinels"
local redis_server = require "spec.support.redis_server"
local scripts = require "spec.support.scripts"

local function check(name, url)
    local result = scripts.run("verify", { "--only", name },
        { REDIS_URL = url, DATABASE_URL = "postgresql:///none?host=/nowhere" })
    return result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " "), result.stdout
end

---Retries until it is reported, because the servers need a moment to agree.
local function told(name, url, wanted, cause)
    local status, text
    pg.eventually(20, function()
        status, text = check(name, url)
        return status == wanted and (not cause or text:find(cause, 1, true))
    end, ("%s %s: %s"):format(wanted, name, cause or ""))
    return text
end

describe("dbrun verify, about a cluster of Redis:", function()
    local cluster

    setup(function() cluster = redis_cluster.start() end)
    teardown(function() cluster:stop() end)

    local function cli(i, ...) return cluster.nodes[i]:cli(...) end

    it("passes when it is whole, and says so when the URL names one node", function()
        told("redis.cluster", cluster.url, "PASS", "6 nodes, 16384 of 16384 slots")
        told("redis.cluster", "redis://" .. cluster:address(2), "WARN", "redis+cluster://HOST:PORT,HOST:PORT")
    end)

    it("sees slots that are being moved", function()
        cli(2, "cluster", "setslot", "7", "importing", cluster.ids[1])
        cli(1, "cluster", "setslot", "7", "migrating", cluster.ids[2])
        finally(function()
            for i = 1, 2 do cli(i, "cluster", "setslot", "7", "stable") end
        end)
        local text = told("redis.cluster", cluster.url, "WARN", cluster:address(1) .. ": 1 slot is being moved: [7->-")
        assert.matches(cluster:address(2) .. ": 1 slot is being moved: [7-<-", text, 1, true)
    end)

    it("sees a master without a replica, and slots without a node", function()
        cluster.nodes[6]:kill()
        told("redis.cluster", cluster.url, "WARN", cluster:address(3) .. " has no replica that follows it")
        told("redis.cluster", cluster.url, "WARN", cluster:address(6) .. " (replica) has failed")
        cluster.nodes[3]:kill()
        local text = told("redis.cluster", cluster.url, "FAIL", "cluster_state is fail")
        assert.matches(cluster:address(3) .. " (master) has failed", text, 1, true)
    end)
end)

describe("dbrun verify, about sentinels:", function()
    local set

    setup(function() set = redis_sentinels.start { password = "secret", sentinel_password = "other" } end)
    teardown(function() set:stop() end)

    it("passes when they agree", function()
        local text = told("redis.sentinels", set.url, "PASS", "3 sentinels of 3")
        assert.not_matches("secret", text)
    end)

    it("says that they refuse, and why, when others are silent", function()
        local url = set.url:gsub(set.hosts:gsub("%p", "%%%0"), "127.0.0.1:1," .. set.hosts)
        local text = told("redis.sentinels", (url:gsub("sentinel_password=other", "sentinel_password=wrong")), "FAIL",
            ("sentinel 127.0.0.1:%d refuses: "):format(set.ports[1]))
        assert.matches("WRONGPASS", text, 1, true)
        assert.matches("sentinel 127.0.0.1:1 does not answer", text, 1, true)
        assert.matches("?sentinel_password=...", text, 1, true)
        text = told("redis.sentinels", (url:gsub("/main/", "/nobody/")), "FAIL",
            "refuses: ERR No such master with that name")
        assert.matches("the NAME is the one in `sentinel monitor`", text, 1, true)
    end)

    it("sees one that does not know the others and has another master", function()
        local liar = set:start_liar(set.servers[2].port)
        local url = set.url:gsub(set.hosts:gsub("%p", "%%%0"), set.hosts .. "," .. liar)
        local text = told("redis.sentinels", url, "FAIL", "the sentinels name different masters")
        assert.matches("knows 1 sentinel: with fewer than 3", text, 1, true)
        assert.matches("says that it is a slave", text, 1, true)
    end)

    it("sees a replica that is down, then a quorum that is lost", function()
        set.servers[2]:kill()
        told("redis.sentinels", set.url, "WARN", "is down")
        for i = 2, 3 do
            set.children[i]:kill "KILL"
            set.children[i]:wait(5)
        end
        local text = told("redis.sentinels", set.url, "FAIL", "NOQUORUM")
        assert.matches(("redis-cli -h 127.0.0.1 -p %d sentinel ckquorum"):format(set.ports[1]), text, 1, true)
        assert.matches(("sentinel 127.0.0.1:%d does not answer"):format(set.ports[2]), text, 1, true)
    end)
end)

describe("dbrun verify, about a single server:", function()
    it("leaves both out of the report, unless they are requested", function()
        local server <close> = setmetatable({ it = redis_server.start {} }, { __close = function(s) s.it:stop() end })
        local url = server.it.url
        assert.equal("SKIP", (check("redis.cluster", url)))
        assert.equal("SKIP", (check("redis.sentinels", url)))
        local _, text = check("redis", url)
        assert.not_matches("redis.cluster", text, 1, true)
        assert.not_matches("redis.sentinels", text, 1, true)
    end)
end)
