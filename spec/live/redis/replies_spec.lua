-- Nothing of a reply is lost, and its values are of the kinds that the server means.
local core = require "dbrun.core"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a reply", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end)

    local function counts(n, list)
        assert.equal(n, #list)
        assert.equal(n, list.n or #list)
        return list
    end

    it("that ends with nil has its full length", function()
        r:set("a", 1)
        local list <const> = counts(3, r:mget("a", "b", "c"))
        assert.equal("1", list[1])
        assert.is_nil(list[3])
        counts(2, r:hmget("h", "x", "y"))
        counts(1, r:zmscore("z", "m"))
        counts(1, r:geopos("p", "m"))
        counts(3, r:mget("b", "c", "a"))
        assert.equal(0, #r:lrange("none", 0, -1))
    end)

    it("of a pipeline or a transaction that ends with nil has its full length", function()
        local function queue(p)
            p:set("a", 1)
            p:get "nothing"
        end
        assert.same({ "OK" }, counts(2, r:pipeline(queue)))
        counts(2, r:multi(queue))
        local replies <const> = r:pipeline(function(p) p:mget("x", "y") end)
        counts(2, replies[1])
    end)

    it("can be unpacked, iterated and sent again", function()
        r:set("a", 1)
        local list <const> = r:mget("a", "b")
        assert.equal(2, select("#", table.unpack(list)))
        assert.same({ [1] = "1" }, list)
        for name in pairs(list) do
            assert.equal(1, name)
        end
        assert.equal(1, r:rpush("l", { list[1] }))
    end)

    it("has each value of a stream's repeated field", function()
        r:xadd("s", "1-0", "f", 1, "g", "x", "f", 2, "f", 3)
        r:xadd("s", "2-0", { f = 4 })
        local want <const> = { { "1-0", { f = { "1", "2", "3" }, g = "x" } }, { "2-0", { f = "4" } } }
        assert.same(want, r:xrange("s", "-", "+"))
        assert.same({ s = want }, r:xread("STREAMS", "s", 0))
        r:xgroup("CREATE", "s", "g", 0)
        assert.same({ s = want }, r:xreadgroup("GROUP", "g", "c", "STREAMS", "s", ">"))
        assert.same(want, r:xautoclaim("s", "g", "d", 0, 0)[2])
        assert.same(want[1], r:xinfo("STREAM", "s")["first-entry"])
    end)

    it("does not mistake a key, a group or a member for an option", function()
        r:zadd("withscores", 1, "a", 2, "b")
        r:zadd("limit", 1, "a")
        assert.same({ "a", "b" }, r:zunion(1, "withscores"))
        assert.same({ "a", "b" }, r:zunion(2, "withscores", "limit"))
        assert.same({ { "a", 2.0 }, { "b", 2.0 } }, r:zunion(2, "withscores", "limit", "WITHSCORES"))
        assert.same({ "a" }, r:zrangebyscore("withscores", 0, 5, "limit", 0, 1))
        r:hset("withvalues", { a = 1, b = 2 })
        assert.equal("string", type(r:hrandfield("withvalues", 2)[1]))
        assert.same({ { "withscores", "1" } }, (function()
            r:hset("h", { withscores = 1 })
            return r:hrandfield("h", 1, "WITHVALUES")
        end)())
        r:xadd("s", "1-0", { f = 1 })
        r:xgroup("CREATE", "s", "streams", 0)
        assert.same({ s = { { "1-0", { f = "1" } } } },
            r:xreadgroup("GROUP", "streams", "block", "COUNT", 1, "STREAMS", "s", ">"))
        -- A stream called block does not block.
        r:xadd("block", "1-0", { f = 1 })
        assert.same({ block = { { "1-0", { f = "1" } } } }, r:xread("STREAMS", "block", 0))
    end)

    it("has numbers for the server's numbers", function()
        r:zadd("z", "inf", "a", "-inf", "b", 0.5, "c")
        assert.same({ { "b", -math.huge }, { "c", 0.5 }, { "a", math.huge } }, r:zrange("z", 0, -1, "WITHSCORES"))
        local seen <const> = {}
        for member, score in r:zscan "z" do
            seen[member] = score
        end
        assert.same({ a = math.huge, b = -math.huge, c = 0.5 }, seen)
        assert.equal(-math.huge, 1 / core.redis.float "-0") -- what some versions print for a score of -0
        local stats <const> = r:memory "STATS"
        assert.equal("float", math.type(stats["peak.percentage"]))
        assert.equal("integer", math.type(stats["db.0"]["overhead.hashtable.main"]))
    end)

    it("is a table by name for a map of the server", function()
        local docs <const> = r:command("DOCS", "XADD", "CONFIG")
        assert.equal("stream", docs.xadd.group)
        assert.equal("MAXLEN", docs.xadd.arguments[3].arguments[1].arguments[1].token)
        assert.equal("2.0.0", docs.config.subcommands["config|get"].since)
        assert.equal(1, r:command("INFO", "get")[1][9][1].begin_search.spec.index)
        for _, sub in ipairs(r:command("INFO", "xinfo")[1][10]) do
            for _, keys in ipairs(sub[9]) do
                assert.equal(2, keys.begin_search.spec.index)
            end
        end
        r:ping()
        assert.equal("integer", math.type(r:latency("HISTOGRAM", "ping").ping.calls))
    end)

    --- A script whose reply is a list within a list, ARGV[1] levels deep, around "core".
    local NEST <const> = "local t = 'core' for _ = 1, ARGV[1] do t = { t } end return t"

    local function depth_of(list)
        local depth = 0
        while type(list) == "table" do
            assert.equal(1, #list)
            list, depth = list[1], depth + 1
        end
        assert.equal("core", list)
        return depth
    end

    local function connections() return tonumber(r:info("stats"):match "total_connections_received:(%d+)") end

    it("can be nested 512 levels deep", function()
        local before <const> = connections()
        for _, depth in ipairs { 0, 1, 6, 7, 8, 9, 10, 100, 511, 512 } do
            assert.equal(depth, depth_of(r:eval(NEST, 0, depth)))
        end
        assert.is_true(#r:acl "CAT" > 10)
        local all <const> = r:command "DOCS"
        assert.equal("string", all.get.group)
        assert.equal("condition", all.set.arguments[3].name)
        assert.equal(before, connections())
    end)

    it("that is nested deeper fails alone", function()
        local before <const> = connections()
        local lists <const> = {}
        do
            local g <close> = task.group()
            for i = 1, 20 do
                g:spawn(function()
                    lists[i] = i % 2 == 0 and r:echo("hello " .. i) or { pcall(r.eval, r, NEST, 0, 510 + i) }
                end)
            end
            g:wait()
        end
        for i = 1, 20 do
            local e <const> = lists[i]
            if i % 2 == 0 then
                assert.equal("hello " .. i, lists[i])
            elseif i == 1 then
                assert.equal(511, depth_of(e[2]))
            else
                assert.is_false(e[1])
                assert.equal("protocol", e[2].kind)
                assert.equal("unknown", e[2].outcome)
                assert.is_false(e[2].retryable)
                assert.matches("512 levels", e[2].message)
            end
        end
        assert.equal(before, connections())
    end)

    it("that is nested deeper leaves the other replies of a pipeline, and of a transaction, in place", function()
        local function queue(p)
            p:echo "before"
            p:eval(NEST, 0, 2000)
            p:echo "between"
            p:eval("return { 1, redis.status_reply('OK'), {}, { 2, false } }", 0)
            p:eval(NEST, 0, 513)
            p:eval(NEST, 0, 512)
            p:echo "behind"
        end
        for _, replies in ipairs { r:pipeline(queue), r:multi(queue) } do
            assert.equal(7, #replies)
            assert.equal("before", replies[1])
            assert.equal("protocol", replies[2].kind)
            assert.equal("between", replies[3])
            assert.same({ 1, "OK", {}, { 2 } }, replies[4])
            assert.equal("protocol", replies[5].kind)
            assert.equal(512, depth_of(replies[6]))
            assert.equal("behind", replies[7])
        end
    end)
end)

-- Built with hiredis 1.x the client speaks RESP3, in which the server has a type for each of these.
describe("each type that a server can send", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end, { args = { "--enable-debug-command", "yes" } })

    it("is the same value in RESP2 and RESP3", function()
        local function kind(name) return r:debug("PROTOCOL", name) end
        assert.equal("Hello World", kind "string")
        assert.equal(12345, kind "integer")
        assert.equal("3.141", kind "double")
        assert.is_nil(kind "null")
        assert.same({ 0, 1, 2 }, kind "array")
        assert.same({ 0, 1, 2 }, kind "set")
        assert.same({ 0, 0, 1, 1, 2, 0 }, kind "map")
        assert.equal("This is a verbatim\nstring", kind "verbatim")
        assert.equal("1234567999999999999999999999999999999", kind "bignum")
        assert.equal(1, kind "true")
        assert.equal(0, kind "false")
    end)

    it("is the same value in a pipeline and after a push", function()
        local replies <const> = r:pipeline(function(p)
            p:debug("PROTOCOL", "map")
            p:debug("PROTOCOL", "push") -- in RESP2 an error
            p:debug("PROTOCOL", "verbatim")
            p:ping()
        end)
        assert.equal(4, #replies)
        assert.same({ 0, 0, 1, 1, 2, 0 }, replies[1])
        assert.equal("This is a verbatim\nstring", replies[3])
        assert.equal("PONG", replies[4])
    end)
end)
