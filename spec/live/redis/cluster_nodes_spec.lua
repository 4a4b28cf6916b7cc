-- Commands that concern all nodes of a cluster: which nodes they reach, and how their replies become one.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local keys = require "dbrun.redis.keys"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a command for all nodes of a cluster", function()
    local cluster, r

    --- Whether all nodes list all replicas, as they do once they know the replicas' offsets.
    local function tells_replicas()
        for _, node in ipairs(cluster.nodes) do
            local _, n <const> = node:cli("CLUSTER", "SLOTS"):gsub("127.0.0.1", "")
            if n ~= 6 then
                return false
            end
        end
        return true
    end

    setup(function()
        cluster = redis_cluster.start()
        for i = 1, 3 do
            cluster.nodes[i]:cli "FLUSHALL" -- which takes them somewhere
        end
        assert(redis_server.wait_until(20, tells_replicas))
    end)
    teardown(function()
        cluster:stop()
    end)
    before_each(function()
        r = redis.client { url = cluster.url }
        r:flushall()
    end)
    after_each(function()
        r:close()
    end)

    --- The output of redis-cli on each node, primaries first.
    local function on_all(...)
        local list = {}
        for i, node in ipairs(cluster.nodes) do
            list[i] = node:cli(...):gsub("%s+$", "")
        end
        return table.concat(list, " ")
    end

    it("also reaches replicas when necessary: SCRIPT LOAD, SCRIPT FLUSH, CONFIG SET", function()
        local sha <const> = r:call("SCRIPT", "LOAD", "return 7")
        assert.equal("1 1 1 1 1 1", on_all("SCRIPT", "EXISTS", sha))
        assert.same({ 1 }, r:call("SCRIPT", "EXISTS", sha))
        cluster.nodes[2]:cli("SCRIPT", "FLUSH")
        assert.same({ 0 }, r:call("SCRIPT", "EXISTS", sha))
        r:call("script", "flush")
        assert.equal("0 0 0 0 0 0", on_all("SCRIPT", "EXISTS", sha))
        r:config("SET", "slowlog-max-len", 77)
        for _, node in ipairs(cluster.nodes) do
            assert.is_truthy(node:cli("CONFIG", "GET", "slowlog-max-len"):find "77")
        end
    end)

    it("raises an error of any node", function()
        local e <const> = fails("redis", r.config, r, "SET", "no-such-setting", 1)
        assert.equal("ERR", e.code)
    end)

    it("that must succeed on only one node fails when it succeeds on none: SCRIPT KILL", function()
        assert.equal("NOTBUSY", fails("redis", r.call, r, "SCRIPT", "KILL").code)
        assert.equal("NOTBUSY", fails("redis", r.call, r, "FUNCTION", "KILL").code)
        r:config("SET", "busy-reply-threshold", 20)
        local busy <const> = task.spawn(function()
            return pcall(r.eval, r, "while true do end", 1, "key")
        end)
        local killed
        assert.is_true(redis_server.wait_until(10, function()
            local ok, reply = pcall(r.call, r, "SCRIPT", "KILL")
            killed = ok and reply
            return ok
        end))
        assert.equal("OK", killed)
        local ok, e <const> = table.unpack(table.pack(busy:join()), 1, 2)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "redis"), tostring(e))
    end)

    it("counts the subscribers of all nodes", function()
        local nodes <const> = r:nodes()
        local one <close> = nodes[1].client:subscribe("news", "a")
        local two <close> = nodes[#nodes].client:subscribe "news"
        local three <close> = nodes[2].client:subscribe "b"
        assert.same({ news = 2, a = 1, nobody = 0 }, r:pubsub("NUMSUB", "news", "a", "nobody"))
        assert.same({ "news", 2, "a", 1, "nobody", 0 },
            r:with({ typed = true }):pubsub("NUMSUB", "news", "a", "nobody"))
        local channels <const> = r:pubsub "CHANNELS"
        table.sort(channels)
        assert.same({ "a", "b", "news" }, channels)
        local pattern <close> = nodes[3].client:psubscribe "n*"
        assert.equal(1, r:pubsub "NUMPAT")
        assert.is_truthy(one and two and three and pattern)
    end)

    it("adds up numbers and joins lists of the nodes", function()
        for i = 1, 50 do
            r:set("key" .. i, i)
        end
        assert.equal(50, r:dbsize())
        assert.equal(50, #r:keys "key*")
        r:call("SLOWLOG", "RESET")
        r:config("SET", "slowlog-log-slower-than", 0)
        r:mget("key1", "key2", "key3", "key4")
        r:config("SET", "slowlog-log-slower-than", -1)
        local n <const> = r:slowlog "LEN"
        assert.is_true(n >= 6, tostring(n))
        assert.equal(n, #r:slowlog("GET", -1))
    end)

    it("asks the node of a slot about its keys", function()
        for i = 1, 12 do
            r:set("key" .. i, i)
            local slot <const> = r:cluster("KEYSLOT", "key" .. i)
            assert.equal(1, r:cluster("COUNTKEYSINSLOT", slot))
            assert.same({ "key" .. i }, r:cluster("GETKEYSINSLOT", slot, 10))
            assert.equal(1, r:pipeline(function(p) p:cluster("countkeysinslot", tostring(slot)) end)[1])
        end
        for _, slot in ipairs { -1, 16384, "x", 1.5 } do
            assert.is_true(errors.is(select(2, pcall(r.cluster, r, "COUNTKEYSINSLOT", slot)), "redis"))
        end
    end)

    it("that no node knows is refused by one, also for a user without the right to COMMAND INFO", function()
        assert.matches("unknown command", fails("redis", r.call, r, "NO.SUCH", "k").message)
        for _, node in ipairs(cluster.nodes) do
            node:cli("acl", "setuser", "bob", "on", ">pw", "~*", "+@all", "-command")
        end
        local bob <close> = redis.client { url = (cluster.url:gsub("://", "://bob:pw@")) }
        assert.matches("unknown command", fails("redis", bob.call, bob, "NO.SUCH", "k").message)
        assert.matches("unknown subcommand", fails("redis", bob.object, bob, "NOSUCH", "k").message)
    end)

    it("with a key without a value sets none: MSET", function()
        assert.matches("wrong number", fails("redis", r.mset, r, "key1", 1, "key2", 2, "key3").message)
        assert.matches("wrong number", fails("redis", r.pipeline, r, function(p)
            p:mset("key1", 1, "key2", 2, "key3")
        end).message)
        assert.equal(0, r:dbsize())
    end)

    it("can be called like any other in a pipeline, and in a transaction: CLUSTER", function()
        assert.matches("cluster_state:ok", r:pipeline(function(p) p:cluster "INFO" end)[1])
        assert.matches("cluster_state:ok", r:multi(function(tx) tx:cluster "INFO" end)[1])
        for _, name in ipairs(require "dbrun.redis.keys".commands()) do
            if not name:find "[ ]" and name ~= "SCRIPT" and name ~= "SYNC" then
                assert.is_function(r:pipeline()[name:lower()], name)
                assert.is_function(r[name:lower()], name)
            end
        end
    end)

    it("has a cursor of one node, and is refused: SCAN", function()
        for _, fn in ipairs { function() r:call("SCAN", 0) end, function() r:pipeline():call("scan", 0) end } do
            assert.matches("r:scan{match = ...} goes through all primaries", fails("usage", fn).hint, 1, true)
        end
        assert.equal("0", r:nodes()[1].client:call("SCAN", 0)[1])
    end)

    it("finds the one key of the cluster: RANDOMKEY", function()
        assert.is_nil(r:randomkey())
        r:set("only", 1)
        for _ = 1, 20 do
            assert.equal("only", r:randomkey())
        end
    end)

    it("is refused on a shared connection: WAIT", function()
        assert.is_truthy(fails("usage", r.wait, r, 1, 100).hint:find("dedicated", 1, true))
    end)

    it("reaches a primary that is new", function()
        local new <const> = redis_server.start {
            tcp = true, args = { "--cluster-enabled", "yes", "--cluster-node-timeout", "500" },
        }
        finally(function()
            cluster.nodes[7] = nil
            new:stop()
        end)
        for _, node in ipairs(cluster.nodes) do
            node:cli("cluster", "meet", "127.0.0.1", tostring(new.port))
        end
        cluster.nodes[7], cluster.ids[7] = new, new:cli("cluster", "myid"):gsub("%s", "")
        local function all_know(words)
            return redis_server.wait_until(20, function()
                for _, node in ipairs(cluster.nodes) do
                    if not node:cli("cluster", "nodes"):find(cluster.ids[7] .. words) then return false end
                end
                return true
            end)
        end
        assert.is_true(all_know "[^\n]* connected")
        -- With an older epoch its claim to a slot would not last. Epochs rise while a node waits for the processor and
        -- its replica stands for election.
        local function epoch_of(node) return tonumber(node:cli("cluster", "info"):match "current_epoch:(%d+)") end
        assert.is_true(redis_server.wait_until(20, function()
            local newest = 0
            for i = 1, 6 do newest = math.max(newest, epoch_of(cluster.nodes[i])) end
            return epoch_of(new) >= newest
        end))
        assert.equal(0, r:dbsize())
        local slot <const> = core.redis.slot "new"
        local from <const> = 1 + slot // 5461
        cluster:migrate(slot, from, 7)
        assert.is_true(all_know("[^\n]* connected " .. slot))
        local other <close> = redis.client { url = cluster.url }
        other:set("new", 1)
        r.state.topology.refreshed_at = task.now() - 2 -- that long ago
        assert.equal(1, r:dbsize())
        assert.equal("new", r:scan()())
        assert.equal("OK", r:flushall())
        assert.is_nil(other:get "new")
        cluster:migrate(slot, 7, from)
    end)

    it("that is newer than the table is known by its tips", function()
        local function of(flags, first, last, tips)
            return keys.of_info { "new", -2, flags, first, last, first > 0 and 1 or 0, {}, tips }
        end
        assert.same({ keys = false, reads = true, everywhere = "sum", replicas = true },
            of({ "readonly" }, 0, 0, { "request_policy:all_nodes", "response_policy:agg_sum" }))
        assert.same({ keys = false, reads = false, everywhere = "join" }, of({}, 0, 0, { "request_policy:all_shards" }))
        assert.same({ keys = false, reads = false },
            of({}, 0, 0, { "request_policy:all_shards", "response_policy:special" }))
        assert.same({ "a", "b" }, keys.of(of({}, 1, -1), { "a", "b" }, 2))
        assert.is_true(of({}, 1, 1).single)
    end)
end)

describe("a client of a cluster", function()
    it("keeps the length of a list that ends with nil, and refuses a list of fields", function()
        local cluster <const> = redis_cluster.start()
        local r <const> = redis.client { url = cluster.url }
        finally(function()
            r:close()
            cluster:stop()
        end)
        r:set("key1", 1)
        local list <const> = r:mget("no1", "no2", "key1", "no3", "no4")
        assert.equal(5, #list)
        assert.equal("1", list[3])
        local replies <const> = r:pipeline(function(p)
            p:get "key1"
            p:get "no1"
            p:mget("key1", "no2", "no3")
        end)
        assert.equal(3, #replies)
        assert.equal(3, #replies[3])
        assert.equal(2, #r:pipeline(function(p)
            p:get "key1"
            p:get "no1"
        end))
        fails("usage", r.hset, r, "h", { "a", "b" })
        fails("usage", r.pipeline, r, function(p) p:hset("h", { "a", "b" }) end)
        r:pipeline(function(p) p:hset("h", { a = "b" }) end)
        assert.same({ a = "b" }, r:hgetall "h")
    end)
end)
