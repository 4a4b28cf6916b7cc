-- Results of commands, and the arguments that they accept.
local errors = require "dbrun.error"
local redis_server = require "spec.support.redis_server"

describe("Redis commands", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end)

    --- Each: the commands before it, the command, its result. `call` is {name, arguments...}.
    local function gives(words, expected, ...)
        local steps <const> = { ... }
        it(words, function()
            local got
            for _, step in ipairs(steps) do
                got = r[step[1]](r, table.unpack(step, 2, step.n or #step))
            end
            assert.same(expected, got)
            assert.equal(math.type(expected), math.type(got))
        end)
    end

    describe("of strings", function()
        gives("set says OK", "OK", { "set", "k", "v" })
        gives("set with options", "OK", { "set", "k", "v", "EX", 5, "NX" })
        gives("set that is not done is nil", nil, { "set", "k", "v" }, { "set", "k", "w", "NX" })
        gives("set with GET gives the old value", "v", { "set", "k", "v" }, { "set", "k", "w", "GET" })
        gives("get gives a string", "v", { "set", "k", "v" }, { "get", "k" })
        gives("get of nothing is nil", nil, { "get", "nothing" })
        gives("numbers are stored as their digits", "42", { "set", "k", 42 }, { "get", "k" })
        gives("the largest integer is exact", "9223372036854775807", { "set", "k", math.maxinteger }, { "get", "k" })
        gives("the least integer is exact", "-9223372036854775808", { "set", "k", math.mininteger }, { "get", "k" })
        gives("floats are stored in their shortest form", "0.1", { "set", "k", 0.1 }, { "get", "k" })
        gives("whole floats are stored without a fraction", "3", { "set", "k", 3.0 }, { "get", "k" })
        gives("incr gives an integer", 1, { "incr", "n" })
        gives("incrby", 11, { "set", "n", 1 }, { "incrby", "n", 10 })
        gives("decr", -1, { "decr", "n" })
        gives("incrbyfloat gives a string", "1.5", { "incrbyfloat", "n", 1.5 })
        gives("append", 4, { "append", "k", "abcd" })
        gives("strlen", 3, { "set", "k", "abc" }, { "strlen", "k" })
        gives("getrange", "bc", { "set", "k", "abcd" }, { "getrange", "k", 1, 2 })
        gives("setrange", 5, { "set", "k", "hello" }, { "setrange", "k", 1, "a" })
        gives("getdel", "v", { "set", "k", "v" }, { "getdel", "k" })
        gives("mset takes a table", "OK", { "mset", { a = 1, b = 2 } })
        gives("mget gives a list", { "1", "2" }, { "mset", { a = 1, b = 2 } }, { "mget", "a", "b" })
        gives("mget takes a list", { "1", "2" }, { "mset", { a = 1, b = 2 } }, { "mget", { "a", "b" } })
        gives("mget leaves out what is not there", { "1", nil, "2" }, { "mset", { a = 1, b = 2 } },
            { "mget", "a", "x", "b" })
        gives("setbit and getbit", 1, { "setbit", "k", 7, 1 }, { "getbit", "k", 7 })
        gives("bitcount", 1, { "setbit", "k", 7, 1 }, { "bitcount", "k" })
        gives("lcs", "mytext", { "mset", { a = "ohmytext", b = "mynewtext" } }, { "lcs", "a", "b" })
        gives("lcs with IDX is a table", { matches = { { { 4, 7 }, { 5, 8 } }, { { 2, 3 }, { 0, 1 } } }, len = 6 },
            { "mset", { a = "ohmytext", b = "mynewtext" } }, { "lcs", "a", "b", "IDX" })
    end)

    describe("of keys", function()
        gives("del counts", 2, { "mset", { a = 1, b = 2 } }, { "del", "a", "b", "c" })
        gives("exists", 1, { "set", "k", 1 }, { "exists", "k" })
        gives("expire", 1, { "set", "k", 1 }, { "expire", "k", 10 })
        gives("ttl of what stays", -1, { "set", "k", 1 }, { "ttl", "k" })
        gives("type is a string", "string", { "set", "k", 1 }, { "type", "k" })
        gives("keys", { "k" }, { "set", "k", 1 }, { "keys", "*" })
        gives("dbsize", 1, { "set", "k", 1 }, { "dbsize" })
        gives("rename", "OK", { "set", "k", 1 }, { "rename", "k", "l" })
        gives("object encoding", "int", { "set", "k", 1 }, { "object", "encoding", "k" })
        gives("ping", "PONG", { "ping" })
        gives("echo", "hello", { "echo", "hello" })
    end)

    describe("of hashes", function()
        gives("hset takes a table and counts", 2, { "hset", "h", { a = 1, b = "x" } })
        gives("hset takes names and values", 1, { "hset", "h", "a", 1 })
        gives("hget", "1", { "hset", "h", { a = 1 } }, { "hget", "h", "a" })
        gives("hgetall is a table", { a = "1", b = "2" }, { "hset", "h", { a = 1, b = 2 } }, { "hgetall", "h" })
        gives("hgetall of nothing is an empty table", {}, { "hgetall", "nothing" })
        gives("hmget", { "1", nil, "2" }, { "hset", "h", { a = 1, b = 2 } }, { "hmget", "h", "a", "x", "b" })
        gives("hkeys", { "a" }, { "hset", "h", { a = 1 } }, { "hkeys", "h" })
        gives("hvals", { "1" }, { "hset", "h", { a = 1 } }, { "hvals", "h" })
        gives("hincrby", 5, { "hincrby", "h", "a", 5 })
        gives("hdel", 1, { "hset", "h", "a", 1 }, { "hdel", "h", "a" })
        gives("hrandfield gives names", { "a" }, { "hset", "h", "a", 1 }, { "hrandfield", "h", 1 })
        gives("hrandfield WITHVALUES gives pairs", { { "a", "1" } }, { "hset", "h", "a", 1 },
            { "hrandfield", "h", 1, "withvalues" })
    end)

    describe("of lists and sets", function()
        gives("rpush counts", 3, { "rpush", "l", "a", "b", "c" })
        gives("rpush takes a list", 3, { "rpush", "l", { "a", "b", "c" } })
        gives("lrange", { "a", "b" }, { "rpush", "l", "a", "b" }, { "lrange", "l", 0, -1 })
        gives("lpop", "a", { "rpush", "l", "a", "b" }, { "lpop", "l" })
        gives("lpop with a count", { "a", "b" }, { "rpush", "l", "a", "b" }, { "lpop", "l", 2 })
        gives("lpos of nothing is nil", nil, { "rpush", "l", "a" }, { "lpos", "l", "x" })
        gives("lmpop", { "l", { "a" } }, { "rpush", "l", "a", "b" }, { "lmpop", 1, "l", "LEFT" })
        gives("sadd", 2, { "sadd", "s", "a", "b" })
        gives("smembers is a list", { "a" }, { "sadd", "s", "a" }, { "smembers", "s" })
        gives("sismember", 1, { "sadd", "s", "a" }, { "sismember", "s", "a" })
        gives("smismember", { 1, 0 }, { "sadd", "s", "a" }, { "smismember", "s", "a", "b" })
        gives("sinter", { "b" }, { "sadd", "s", "a", "b" }, { "sadd", "t", "b" }, { "sinter", "s", "t" })
    end)

    describe("of sorted sets", function()
        local add <const> = { "zadd", "z", 1.5, "a", 2, "b" }
        gives("zadd counts", 2, add)
        gives("zadd INCR gives the score", 4.0, add, { "zadd", "z", "INCR", 2, "b" })
        gives("zscore is a float", 1.5, add, { "zscore", "z", "a" })
        gives("zscore of nothing is nil", nil, add, { "zscore", "z", "x" })
        gives("infinite scores", math.huge, { "zadd", "z", math.huge, "a" }, { "zscore", "z", "a" })
        gives("zmscore", { 1.5, nil, 2.0 }, add, { "zmscore", "z", "a", "x", "b" })
        gives("zincrby", 2.5, add, { "zincrby", "z", 1, "a" })
        gives("zrange", { "a", "b" }, add, { "zrange", "z", 0, -1 })
        gives("zrange WITHSCORES gives pairs in order", { { "a", 1.5 }, { "b", 2.0 } }, add,
            { "zrange", "z", 0, -1, "withscores" })
        gives("zrevrange WITHSCORES", { { "b", 2.0 }, { "a", 1.5 } }, add, { "zrevrange", "z", 0, -1, "WITHSCORES" })
        gives("zrangebyscore WITHSCORES", { { "a", 1.5 } }, add, { "zrangebyscore", "z", 0, 1.5, "WITHSCORES" })
        gives("a member may be called WITHSCORES", { "withscores" }, { "zadd", "withscores", 1, "withscores" },
            { "zrange", "withscores", 0, -1 })
        gives("zpopmin gives pairs", { { "a", 1.5 } }, add, { "zpopmin", "z" })
        gives("zpopmax with a count", { { "b", 2.0 }, { "a", 1.5 } }, add, { "zpopmax", "z", 2 })
        gives("bzpopmin", { "z", "a", 1.5 }, add, { "bzpopmin", "z", 1 })
        gives("zmpop", { "z", { { "a", 1.5 } } }, add, { "zmpop", 1, "z", "MIN" })
        gives("zrandmember WITHSCORES", { { "a", 1.0 } }, { "zadd", "z", 1, "a" },
            { "zrandmember", "z", 1, "WITHSCORES" })
        gives("zunion WITHSCORES", { { "a", 1.5 }, { "b", 2.0 } }, add, { "zunion", 1, "z", "WITHSCORES" })
        gives("zrank", 1, add, { "zrank", "z", "b" })
    end)

    describe("of streams", function()
        local add <const> = { "xadd", "s", "1-0", { f = "v" } }
        gives("xadd gives the id", "1-0", add)
        gives("xrange gives entries", { { "1-0", { f = "v" } } }, add, { "xrange", "s", "-", "+" })
        gives("xread gives a table of streams", { s = { { "1-0", { f = "v" } } } }, add,
            { "xread", "COUNT", 10, "STREAMS", "s", 0 })
        gives("xread of nothing is nil", nil, { "xread", "STREAMS", "s", 0 })
        gives("xreadgroup", { s = { { "1-0", { f = "v" } } } }, add, { "xgroup", "create", "s", "g", 0 },
            { "xreadgroup", "GROUP", "g", "c", "STREAMS", "s", ">" })
        gives("xclaim", { { "1-0", { f = "v" } } }, add, { "xgroup", "create", "s", "g", 0 },
            { "xreadgroup", "GROUP", "g", "c", "STREAMS", "s", ">" }, { "xclaim", "s", "g", "d", 0, "1-0" })
        gives("xautoclaim", { "0-0", { { "1-0", { f = "v" } } }, {} }, add, { "xgroup", "create", "s", "g", 0 },
            { "xreadgroup", "GROUP", "g", "c", "STREAMS", "s", ">" }, { "xautoclaim", "s", "g", "d", 0, 0 })
        gives("xlen", 1, add, { "xlen", "s" })
        it("xinfo gives tables", function()
            r:xadd("s", "1-0", { f = "v" })
            r:xgroup("create", "s", "g", 0)
            assert.equal(1, r:xinfo("stream", "s").length)
            assert.equal("g", r:xinfo("groups", "s")[1].name)
        end)
    end)

    describe("of geo sets", function()
        local add <const> = { "geoadd", "g", 13.5, 38, "here" }
        gives("geodist is a string", "0.0000", add, { "geodist", "g", "here", "here" })
        it("geopos gives floats", function()
            r:geoadd("g", 13.5, 38, "here")
            local places <const> = r:geopos("g", "here", "nowhere")
            assert.near(13.5, places[1][1], 0.001)
            assert.is_nil(places[2])
        end)
        it("geosearch WITHCOORD gives floats", function()
            r:geoadd("g", 13.5, 38, "here")
            local found <const> = r:geosearch("g", "FROMMEMBER", "here", "BYRADIUS", 1, "km", "ASC", "WITHCOORD")
            assert.equal("here", found[1][1])
            assert.near(38, found[1][2][2], 0.001)
        end)
    end)

    describe("about the server", function()
        gives("config get is a table", { maxmemory = "0" }, { "config", "get", "maxmemory" })
        gives("a name in any case", { maxmemory = "0" }, { "call", "config", "GET", "maxmemory" })
        gives("call takes any command", "OK", { "call", "SET", "k", "v" })
        gives("eval gives what the script returns", { 1, "two", { 3 } }, { "eval", "return {1,'two',{3}}", 0 })
        gives("pubsub numsub is a table", { ch = 0 }, { "pubsub", "numsub", "ch" })
        gives("time", 2, { "time" }, { "eval", "return #redis.call('time')", 0 })
        it("info and client list are texts", function()
            assert.matches("redis_version:", r:info "server")
            assert.matches("id=%d+ addr=", r:call("CLIENT", "LIST"))
        end)
        it("memory stats is a table", function()
            assert.is_number(r:memory "stats"["peak.allocated"])
        end)
        it("acl getuser is a table", function()
            assert.same({ "on", "nopass" }, r:acl("getuser", "default").flags)
        end)
        it("an error inside a script's reply is a value", function()
            local reply <const> = r:eval("return {1, redis.error_reply('OOPS nested')}", 0)
            assert.equal(1, reply[1])
            assert.is_true(errors.is(reply[2], "redis"))
            assert.equal("OOPS", reply[2].code)
        end)
    end)

    describe("with bytes", function()
        it("strings of all bytes come back unchanged", function()
            local bytes = {}
            for i = 0, 255 do
                bytes[#bytes + 1] = string.char(i)
            end
            local all <const> = table.concat(bytes):rep(3)
            r:set(all, all)
            assert.equal(all, r:get(all))
            assert.equal("", r:echo "")
            r:hset("h", { [all] = "\r\n" })
            assert.same({ [all] = "\r\n" }, r:hgetall "h")
        end)
        it("large values come back complete", function()
            for _, size in ipairs { 100, 16383, 16384, 65536, 5000000 } do
                local value <const> = ("x"):rep(size - 1) .. "y"
                r:set("k", value)
                assert.is_true(r:get "k" == value)
            end
        end)
        it("floats of every kind read back as themselves", function()
            for _, v in ipairs { 1 / 3, 1e300, 5e-324, -0.1, 2 ^ 53, 123456.789 } do
                r:set("k", v)
                assert.equal(v, tonumber(r:get "k") + 0.0)
            end
        end)
        it("a list of 100,000 comes back complete", function()
            local list = {}
            for i = 1, 100000 do
                list[i] = i
            end
            assert.equal(100000, r:rpush("l", list))
            local back <const> = r:lrange("l", 0, -1)
            assert.equal(100000, #back)
            assert.equal("99999", back[99999])
        end)
    end)

    describe("with wrong arguments", function()
        local function refused(pattern, ...)
            local ok, e = pcall(...)
            assert.is_false(ok)
            assert.is_true(errors.is(e, "usage"), tostring(e))
            assert.matches(pattern, e.message)
        end

        it("nil is refused with its number", function()
            refused("argument 2 of SET cannot be sent: nil", r.set, r, "k", nil)
            refused("argument 1 of GET cannot be sent: nil", r.get, r, nil)
        end)
        it("booleans, functions and nested tables are refused", function()
            refused("argument 2 of SET .*boolean", r.set, r, "k", true)
            refused("argument 2 of SET .*function", r.set, r, "k", print)
            refused("argument 1 of MSET .*table inside", r.mset, r, { a = {} })
            refused("argument 1 of MSET .*list without holes", r.mset, r, { 1, 2, a = 3 })
        end)
        it("an invalid command name is refused", function()
            refused("not the name of a command", r.call, r, "GET k")
            refused("call: the name of the command must be a string, got 5", r.call, r, 5)
            refused("get: must be called on a client, got a string", r.get, "k")
        end)
        it("a refused command sends nothing, and the next one works", function()
            pcall(r.set, r, "k", "v", nil)
            assert.equal(0, r:exists "k")
        end)
        it("commands that would change a shared connection are refused with an alternative", function()
            for name, hint in pairs {
                subscribe = "r:subscribe", psubscribe = "r:psubscribe", monitor = "redis%-cli monitor",
                multi = "r:multi",
                exec = "r:multi", discard = "r:multi", watch = "r:multi", unwatch = "r:multi", select = "URL",
                auth = "URL", hello = "URL", quit = "r:close", reset = "connection", sync = "connection",
            } do
                local ok, e = pcall(r.call, r, name, "x")
                assert.is_false(ok, name)
                assert.is_true(errors.is(e, "usage"), name)
                assert.matches(hint, e.hint, 1, false, name)
            end
            local ok, e = pcall(r.client, r, "reply", "off")
            assert.is_false(ok)
            assert.matches("CLIENT reply", e.message)
            assert.equal("PONG", r:ping())
        end)
    end)

    it("error replies are raised with their code", function()
        r:set("k", "v")
        local ok, e = pcall(r.lpush, r, "k", 1)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "redis"))
        assert.equal("WRONGTYPE", e.code)
        assert.equal("failed", e.outcome)
        assert.matches("^WRONGTYPE Operation", e.message)
        ok, e = pcall(r.call, r, "NONSENSE")
        assert.is_false(ok)
        assert.equal("ERR", e.code)
        for _, code in ipairs { "MOVED", "ASK", "LOADING", "READONLY", "OOM", "BUSY", "NOSCRIPT", "CLUSTERDOWN" } do
            ok, e = pcall(r.debug, r, "error", code .. " some text")
            assert.is_false(ok)
            assert.equal(code, e.code)
            assert.is_string(e.hint)
        end
        assert.equal("PONG", r:ping())
    end)
end)
