-- Many tasks and a failing cluster: it is asked for its map seldom, a single node is not trusted, commands for all
-- nodes and transactions reach the right nodes.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local failover = require "spec.support.failover"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local stalls = require "spec.support.faults.stalls"
local task = require "dbrun.task"

describe("a failing Redis cluster", function()
    local cluster, r

    setup(function()
        cluster = redis_cluster.start()
    end)
    teardown(function()
        cluster:stop()
    end)
    before_each(function()
        assert.is_true(redis_server.wait_until(20, function() return cluster:is_whole() end))
        r = redis.client { url = cluster.url, command_timeout = 15 }
    end)
    after_each(function()
        r:close()
    end)

    --- How often the running nodes were asked for the map.
    local function times_asked()
        local n = 0
        for _, node in ipairs(cluster.nodes) do
            if node.child:running() then
                n = n + (tonumber(node:cli("info", "commandstats"):match "cluster|slots:calls=(%d+)") or 0)
            end
        end
        return n
    end

    local function epoch_of(i)
        return tonumber(cluster.nodes[i]:cli("cluster", "info"):match "cluster_my_epoch:(%d+)")
    end

    it("with one node that sends an old map: the map is not used", function()
        -- Only node 1 is told that a slot of the primary with the highest epoch belongs to another node.
        local owner, other = 2, 3
        if epoch_of(3) > epoch_of(2) then owner, other = 3, 2 end
        local slot <const> = owner == 2 and 5461 or 10923
        local i = 0
        repeat
            i = i + 1
        until core.redis.slot("k" .. i) == slot
        local key <const> = "k" .. i
        assert.matches("OK", cluster.nodes[1]:cli("cluster", "setslot", tostring(slot), "node", cluster.ids[other]))
        local c <close> = redis.client {
            url = ("redis+cluster://%s,%s,%s"):format(
                cluster:address(1), cluster:address(owner), cluster:address(other)),
        }
        assert.equal("OK", c:set(key, 1))
        assert.equal(0, c:stats().redirects)
        assert.is_true(redis_server.wait_until(10, function()
            return cluster.nodes[1]:cli("get", key):find("MOVED %d+ 127.0.0.1:" .. cluster.nodes[owner].port)
        end))
    end)

    it("where a slot migrates runs a transaction at the new node when all its keys are there", function()
        local tag <const> = failover.tag()
        local slot <const> = tostring(core.redis.slot(tag))
        r:mset { [tag .. "a"] = 1, [tag .. "b"] = 2 }
        local from <const>, to <const> = cluster.nodes[1], cluster.nodes[2]
        to:cli("cluster", "setslot", slot, "importing", cluster.ids[1])
        from:cli("cluster", "setslot", slot, "migrating", cluster.ids[2])
        from:cli("migrate", "127.0.0.1", tostring(to.port), "", "0", "5000", "KEYS", tag .. "a", tag .. "b")
        local begun <const> = task.now()
        local replies <const> = r:multi(function(tx)
            tx:incr(tag .. "a")
            tx:incr(tag .. "b")
            tx:mget(tag .. "a", tag .. "b")
        end)
        assert.same({ 2, 3, { "2", "3" } }, replies)
        assert.same({ 1 }, r:multi(function(tx) tx:incr(tag .. "new") end))
        assert.is_true(task.now() - begun < 5)
        -- A key on each side: the server replies TRYAGAIN, and the client waits.
        from:cli("cluster", "setslot", slot, "stable")
        to:cli("cluster", "setslot", slot, "stable")
        to:cli("cluster", "setslot", slot, "importing", cluster.ids[1])
        from:cli("set", tag .. "old", "7")
        from:cli("cluster", "setslot", slot, "migrating", cluster.ids[2])
        local t <const> = task.spawn(function()
            return r:multi(function(tx) tx:mget(tag .. "old", tag .. "a") end)
        end)
        -- One that has waited in vain has not run: the last attempt leaves time for its reply.
        do
            local quick <const> = r:with { timeout = 1 }
            local machine <close> = stalls.start()
            local told = 0
            local g <close> = task.group()
            for _ = 1, 100 do
                g:spawn(function()
                    task.sleep(math.random())
                    local began <const>, waited <const> = task.now(), stalls.waited()
                    local ok <const>, e <const> = pcall(quick.multi, quick, function(tx)
                        tx:mget(tag .. "old", tag .. "a")
                    end)
                    assert.is_false(ok)
                    if e.outcome == "failed" then
                        assert.matches("TRYAGAIN", e.detail)
                        told = told + 1
                    elseif e.outcome ~= "not_sent" then -- on a very busy machine no reply arrives in time
                        local stood <const> = machine:between(began, task.now()) + stalls.waited() - waited
                        assert.is_true(stood > 0.02, ("%s, the machine stood still for %g s"):format(e, stood))
                    end
                end)
            end
            g:wait()
            assert.is_true(told > 0)
        end
        from:cli("migrate", "127.0.0.1", tostring(to.port), "", "0", "5000", "KEYS", tag .. "old")
        assert.same({ { "7", "2" } }, t:join())
        for _, i in ipairs { 2, 1, 3 } do
            cluster.nodes[i]:cli("cluster", "setslot", slot, "node", cluster.ids[2])
        end
        assert.equal("2", r:get(tag .. "a"))
        r:del(tag .. "a", tag .. "b", tag .. "new", tag .. "old")
        cluster:migrate(math.tointeger(slot), 2, 1)
    end)

    it("whose replica loads its data: its reads go to the primary", function()
        local tag <const> = failover.tag()
        r:pipeline(function(p)
            for i = 1, 1000 do p:set(tag .. i, i) end
        end)
        local replica <const> = cluster.nodes[4]
        assert.is_true(redis_server.wait_until(10, function() return replica:cli("dbsize"):find "^1%d%d%d" end))
        local c <close> = redis.client { url = cluster.url, read_from = "replica", command_timeout = 10 }
        assert.equal("7", c:get(tag .. 7))
        assert.matches("OK", replica:cli("config", "set", "loading-process-events-interval-bytes", "1024"))
        assert.matches("OK", replica:cli("config", "set", "key-load-delay", "1000"))
        local reload <close> = process.start { "redis-cli", "-s", replica.socket, "debug", "reload", stdout = "null" }
        local loading, wrong = 0, 0
        assert.is_true(redis_server.wait_until(20, function()
            loading = loading + (replica:cli("ping"):find "LOADING" and 1 or 0)
            wrong = wrong + (c:get(tag .. 9) == "9" and 0 or 1)
            return not reload:running()
        end, 0.01))
        assert.is_true(loading > 0)
        assert.equal(0, wrong)
        replica:cli("config", "set", "key-load-delay", "0")
        r:flushall()
    end)

    it("and 200 tasks ask for its map ten times a second at most, and open four connections a node at once", function()
        local key <const>, stop, opening, sum = failover.tag(), false, 0, 0
        local seen <const> = {}
        local g <close> = task.group()
        r:ping()
        for i = 1, 200 do
            g:spawn(function()
                local n = 0
                while not stop do
                    n = n + 1
                    local ok, e
                    if i % 4 == 0 then -- on a dedicated connection
                        ok, e = pcall(r.blpop, r, key .. "queue" .. i, 0.01)
                    else
                        ok, e = pcall(r.set, r, key .. i, n)
                    end
                    if not ok then
                        assert(errors.is(e), e)
                        local what <const> = e.kind .. " " .. tostring(e.outcome)
                        seen[what] = (seen[what] or 0) + 1
                    else
                        sum = sum + 1
                    end
                    task.sleep(0.002)
                end
            end)
        end
        task.sleep(0.3)
        local before <const>, begun <const> = times_asked(), task.now()
        cluster.nodes[1]:kill()
        -- Commands for all nodes wait for the new primary.
        local loaded
        g:spawn(function()
            loaded = { r:call("SCRIPT", "LOAD", "return 29"), r:dbsize() }
        end)
        assert.is_true(redis_server.wait_until(20, function()
            opening = math.max(opening, r:stats().opening)
            return cluster.nodes[4]:cli("role"):find "^master"
        end, 0.01))
        task.sleep(1)
        local after <const>, done <const> = task.now() - begun, sum
        local asked <const> = times_asked() - before
        task.sleep(0.3)
        stop = true
        g:wait()
        assert.is_true(asked <= 10 * after + 3, ("%d in %.1f s"):format(asked, after))
        -- Four to each node; the keys use two nodes, the lost primary and the new one.
        assert.is_true(opening <= 8, opening .. " connects under way")
        assert.is_true(sum > done)
        assert.equal(0, r:stats().timeouts)
        for what in pairs(seen) do
            assert.equal("connect unknown", what)
        end
        assert.is_true(loaded[2] >= 0)
        assert.matches("1", cluster.nodes[4]:cli("script", "exists", loaded[1]))
        cluster.nodes[1]:restart()
    end)

    it("of which several nodes are silent is asked no more often than with one", function()
        local function lists_replicas()
            local n = 0
            local reader <close> = redis.client { url = cluster.url, read_from = "replica" }
            for _, node in ipairs(reader:nodes()) do n = n + (node.role == "replica" and 1 or 0) end
            return n == 3
        end
        -- A replica is in the map when it has told the others that it has received data.
        for i = 1, 60 do r:set("spread" .. i, i, "EX", 60) end
        assert.is_true(redis_server.wait_until(20, lists_replicas))
        local reader <close> = redis.client { url = cluster.url, read_from = "replica", command_timeout = 2 }
        local stop, frozen <const>, living <const> = false, {}, {}
        local g <close> = task.group()
        for i = 1, 60 do
            g:spawn(function()
                while not stop do
                    pcall(reader.get, reader, "spread" .. i)
                    pcall(reader.set, reader, "spread" .. i, i, "EX", 60)
                    task.sleep(0.005)
                end
            end)
        end
        task.sleep(0.3)
        -- Two primaries and one more: the cluster cannot agree on others.
        for _, node in ipairs(cluster.nodes) do
            local primary <const> = node:cli("role"):find "^master" ~= nil
            local list <const> = (#frozen < 2 and primary) and frozen or living
            list[#list + 1] = node
        end
        local function asked()
            local n = 0
            for _, node in ipairs(living) do
                n = n + (tonumber(node:cli("info", "commandstats"):match "cluster|slots:calls=(%d+)") or 0)
            end
            return n
        end
        frozen[3] = table.remove(living)
        for _, node in ipairs(frozen) do node:freeze() end
        local before <const>, begun <const> = asked(), task.now()
        task.sleep(4)
        local after <const>, took <const> = asked() - before, task.now() - begun
        for _, node in ipairs(frozen) do node:thaw() end
        stop = true
        g:wait()
        assert.is_true(after <= 10 * took + 3, ("%d in %.1f s"):format(after, took))
    end)
end)
