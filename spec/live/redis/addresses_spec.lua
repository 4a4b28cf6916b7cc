-- The addresses that a cluster and sentinels report: IPv6, host names, missing ones.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redirect = require "dbrun.redis.redirect"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"

local function has_ipv6()
    local list <const> = fs.exists "/proc/net/if_inet6" and fs.read "/proc/net/if_inet6" or ""
    return ("\n" .. list):find("\n" .. ("0"):rep(31) .. "1 ", 1, true) ~= nil
end

local SLOT <const> = core.redis.slot "k"

--- Two primaries, each with half of the hash slots.
local function start_two(host)
    local nodes = {}
    for i = 1, 2 do
        nodes[i] = redis_server.start {
            tcp = true, args = {
                "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--bind", host,
                "--cluster-node-timeout", "2000", "--cluster-announce-hostname", "localhost",
            },
        }
        nodes[i].id = nodes[i]:cli("cluster", "myid"):gsub("%s", "")
    end
    nodes[1]:cli("cluster", "addslotsrange", "0", "8191")
    nodes[2]:cli("cluster", "addslotsrange", "8192", "16383")
    nodes[1]:cli("cluster", "meet", host, tostring(nodes[2].port))
    assert(redis_server.wait_until(20, function()
        for _, node in ipairs(nodes) do
            if not node:cli("cluster", "info"):find "cluster_state:ok"
                or select(2, node:cli("cluster", "nodes"):gsub("localhost", "")) ~= 2 then
                return false
            end
        end
        return true
    end), "the cluster does not come up")
    return nodes
end

--- The node of the two that has the slot.
local function owner_of(nodes)
    return nodes[1]:cli("get", "k"):find "MOVED" and 2 or 1
end

--- Commands, MOVED (the slot goes to the other node) and ASK (it is moving there).
local function follows(nodes, host)
    local url <const> = (host:find ":" and "redis+cluster://[%s]:%d" or "redis+cluster://%s:%d"):format(
        host, nodes[1].port)
    local r <close> = redis.client { url = url, command_timeout = 10 }
    for i = 1, 50 do
        assert.equal("OK", r:set("key" .. i, i))
    end
    assert.equal("OK", r:set("k", "here"))
    local from <const> = owner_of(nodes)
    local a <const>, b <const>, slot <const> = nodes[from], nodes[3 - from], tostring(SLOT)
    b:cli("cluster", "setslot", slot, "importing", a.id)
    a:cli("cluster", "setslot", slot, "migrating", b.id)
    a:cli("migrate", host, tostring(b.port), "k", "0", "5000")
    assert.equal("here", r:get "k") -- ASK
    local asked <const> = r:stats().redirects
    assert.is_true(asked > 0)
    for _, node in ipairs { b, a } do
        node:cli("cluster", "setslot", slot, "node", b.id)
    end
    assert.equal("here", r:get "k") -- MOVED
    assert.is_true(r:stats().redirects > asked)
    assert.equal("here", r:pipeline(function(p) p:get "k" end)[1])
    assert.equal("OK", r:multi(function(tx) tx:set("k", "there") end)[1])
    for _, node in ipairs(r:nodes()) do
        assert.is_true(node.port == nodes[1].port or node.port == nodes[2].port, node.name)
    end
    return r:nodes()[1].host
end

local function with_two(host, fn)
    local nodes <const> = start_two(host)
    local _ <close> = setmetatable({}, { __close = function()
        for _, node in ipairs(nodes) do node:stop() end
    end })
    fn(nodes)
end

local function prefer(nodes, what, name)
    for _, node in ipairs(nodes) do
        node:cli("config", "set", "cluster-preferred-endpoint-type", what)
        node:cli("config", "set", "cluster-announce-hostname", name)
    end
    assert(redis_server.wait_until(10, function()
        return (nodes[1]:cli("cluster", "nodes"):find("localhost", 1, true) ~= nil) == (name ~= "")
            and (nodes[2]:cli("cluster", "nodes"):find("localhost", 1, true) ~= nil) == (name ~= "")
    end))
end

describe("the addresses of a Redis cluster", function()
    it("can have any preferred endpoint type", function()
        with_two("127.0.0.1", function(nodes)
            assert.equal("127.0.0.1", follows(nodes, "127.0.0.1"))
            prefer(nodes, "hostname", "localhost")
            assert.equal("localhost", follows(nodes, "127.0.0.1"))
            prefer(nodes, "unknown-endpoint", "localhost") -- no host: that of the node that answered
            assert.equal("127.0.0.1", follows(nodes, "127.0.0.1"))
            prefer(nodes, "hostname", "") -- a host name is preferred, and there is none: "?"
            assert.equal("127.0.0.1", follows(nodes, "127.0.0.1"))
        end)
    end)

    it("may be missing: a node whose place another one has taken", function()
        local id <const>, path <const> = ("b"):rep(40), fs.join(fs.mkdtemp(fs.join(fs.tempdir(), "nodes-")), "conf")
        fs.write(path, ("%s :0@0 myself,master - 0 0 1 connected 0-8191\n%s :0@0 master,noaddr - 0 0 2 disconnected "
            .. "8192-16383\nvars currentEpoch 2 lastVoteEpoch 0\n"):format(("a"):rep(40), id))
        local server <const> = redis_server.start { tcp = true, args = {
            "--cluster-enabled", "yes", "--cluster-config-file", path, "--cluster-require-full-coverage", "no",
            "--cluster-allow-reads-when-down", "yes",
        } }
        local r <close> = redis.client { url = ("redis+cluster://127.0.0.1:%d"):format(server.port) }
        finally(function()
            server:stop()
            fs.rmtree(path:match "^(.*)/")
        end)
        assert.is_nil(r:get "k")
        local quick <const> = r:with { timeout = 0.3 }
        local replies <const> = quick:pipeline(function(p) p:get "k" p:get "there" end)
        for _, e in ipairs { replies[2] or "nothing", select(2, pcall(quick.get, quick, "there")) } do
            assert.equal("CLUSTERDOWN no node has slot " .. core.redis.slot "there", e.message)
        end
        local e <const> = select(2, pcall(r:nodes()[1].client.get, r:nodes()[1].client, "there"))
        assert.equal("again", redirect.kind_of(e, false)) -- MOVED to such a node
        assert.matches("the node that has this slot has no address", e.hint)
    end)

    it("may be of IPv6", function()
        if not has_ipv6() then return pending "this machine has no IPv6" end
        with_two("::1", function(nodes)
            assert.equal("::1", follows(nodes, "::1"))
            prefer(nodes, "unknown-endpoint", "localhost")
            assert.equal("::1", follows(nodes, "::1"))
        end)
    end)
end)

describe("the address of a master", function()
    it("can be an IPv6 address, like that of its sentinel", function()
        if not has_ipv6() then return pending "this machine has no IPv6" end
        local server <const> = redis_server.start { tcp = true, args = { "--bind", "::1" } }
        local dir <const> = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-sentinel-"))
        local child
        local _ <close> = setmetatable({}, { __close = function()
            if child then
                child:kill "KILL"
                child:wait(5)
                child:close()
            end
            server:stop()
            fs.rmtree(dir)
        end })
        local port
        for _ = 1, 10 do -- another program can listen there
            port = math.random(45001, 55000)
            fs.write(dir .. "/s.conf", ("port %d\nbind ::1\ndir %s\nsentinel monitor main ::1 %d 1\n"):format(
                port, dir, server.port))
            child = process.start {
                "redis-server", dir .. "/s.conf", "--sentinel", stdout = dir .. "/log", stderr = "stdout",
                pdeathsig = "KILL",
            }
            redis_server.wait_until(10, function()
                return not child:running() or fs.read(dir .. "/log"):find "Sentinel ID"
            end)
            if child:running() then break end
            child:close()
        end
        local r <close> = redis.client { url = ("redis+sentinel://127.0.0.1:1,[::1]:%d/main/0"):format(port) }
        assert.is_true(redis_server.wait_until(30, function() return (pcall(r.ping, r)) end))
        assert.equal("master", r:role()[1])
        assert.equal("OK", r:set("k", 1))
    end)
end)

describe("a host with several addresses", function()
    it("is reached at the second one when the first is dead", function()
        -- localhost is ::1 and 127.0.0.1 with IPv6; the server listens on one of them.
        local server <const> = redis_server.start { tcp = true }
        local r <close> = redis.client { host = "localhost", port = server.port }
        assert.equal("PONG", r:ping())
        r:close()
        server:stop()
    end)
end)
