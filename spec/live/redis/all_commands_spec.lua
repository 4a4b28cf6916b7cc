-- A table of commands of all groups with their results. (commands_spec.lua tests some of them in detail.)
local redis_server = require "spec.support.redis_server"

--- In the table: {setup..., {command}, expected}. When the value is not predictable, a function
--- checks it.
local function matches(pattern)
    return function(v) return type(v) == "string" and v:find(pattern) ~= nil end
end
local function is(kind)
    return function(v) return (math.type(v) or type(v)) == kind end
end
local function list_of(kind)
    return function(v)
        if type(v) ~= "table" or #v == 0 then return false end
        for _, one in ipairs(v) do
            if (math.type(one) or type(one)) ~= kind then return false end
        end
        return true
    end
end
local function has(...)
    local names <const> = { ... }
    return function(v)
        for _, name in ipairs(names) do
            if type(v) ~= "table" or v[name] == nil then return false end
        end
        return true
    end
end
local function has_each(...)
    local one <const> = has(...)
    return function(v) return type(v) == "table" and #v > 0 and one(v[1]) end
end
local function near(x)
    return function(v) return math.type(v) == "float" and math.abs(v - x) < 0.001 end
end

local NONE <const> = {} -- stands for nil, which a list cannot hold

local K <const>, H <const> = { "set", "k", "value" }, { "hset", "h", { a = 1 } }
local L <const>, Z <const> = { "rpush", "l", "a", "b", "c" }, { "zadd", "z", 1, "a", 2, "b" }
local S <const>, T <const> = { "sadd", "s", "a", "b" }, { "sadd", "t", "b", "c" }
local X <const>, G <const> = { "xadd", "x", "1-0", { f = "v" } }, { "xgroup", "create", "x", "g", 0 }
local READ <const> = { "xreadgroup", "GROUP", "g", "c", "STREAMS", "x", ">" }
local P <const> = { "geoadd", "p", 13.5, 38, "a", 15, 37.5, "b" }
local LIBRARY <const> = "#!lua name=mylib\nredis.register_function{function_name='twice', callback=function(keys, args)"
    .. " return args[1] * 2 end, flags={'no-writes'}}"
local LOAD <const> = { "function", "load", "REPLACE", LIBRARY }

local TABLE <const> = {
    strings = {
        { K, { "append", "k", "!" }, 6 }, { { "decr", "n" }, -1 }, { { "decrby", "n", 5 }, -5 },
        { K, { "get", "k" }, "value" }, { K, { "getdel", "k" }, "value" }, { K, { "getex", "k", "EX", 5 }, "value" },
        { K, { "getrange", "k", 0, 1 }, "va" }, { K, { "getset", "k", "w" }, "value" }, { { "incr", "n" }, 1 },
        { { "incrby", "n", 5 }, 5 }, { { "incrbyfloat", "n", 0.5 }, "0.5" }, { K, { "lcs", "k", "k" }, "value" },
        { K, { "mget", "k", "k" }, { "value", "value" } }, { { "mset", "a", 1, "b", 2 }, "OK" },
        { { "msetnx", { a = 1 } }, 1 }, { { "psetex", "k", 1000, "v" }, "OK" }, { { "set", "k", "v" }, "OK" },
        { { "setex", "k", 10, "v" }, "OK" }, { { "setnx", "k", "v" }, 1 }, { K, { "setrange", "k", 1, "x" }, 5 },
        { K, { "strlen", "k" }, 5 }, { K, { "substr", "k", 0, 1 }, "va" },
    },
    bits = {
        { K, { "bitcount", "k" }, 21 }, { { "bitfield", "k", "SET", "u8", 0, 7, "GET", "u8", 0 }, { 0, 7 } },
        { K, { "bitfield_ro", "k", "GET", "u8", 0 }, { 118 } }, { K, { "bitop", "NOT", "d", "k" }, 5 },
        { K, { "bitpos", "k", 1 }, 1 }, { K, { "getbit", "k", 1 }, 1 }, { { "setbit", "k", 1, 1 }, 0 },
    },
    keys = {
        { K, { "copy", "k", "k2" }, 1 }, { K, { "del", "k" }, 1 }, { K, { "dump", "k" }, is "string" },
        { K, { "exists", "k", "k" }, 2 }, { K, { "expire", "k", 5 }, 1 }, { K, { "expireat", "k", 4102444800 }, 1 },
        { K, { "expiretime", "k" }, -1 }, { K, { "keys", "*" }, { "k" } }, { K, { "move", "k", 1 }, 1 },
        { K, { "object", "encoding", "k" }, "embstr" }, { K, { "object", "idletime", "k" }, 0 },
        { K, { "object", "refcount", "k" }, 1 }, { K, { "persist", "k" }, 0 }, { K, { "pexpire", "k", 5000 }, 1 },
        { K, { "pexpireat", "k", 4102444800000 }, 1 }, { K, { "pexpiretime", "k" }, -1 }, { K, { "pttl", "k" }, -1 },
        { K, { "randomkey" }, "k" }, { K, { "rename", "k", "j" }, "OK" }, { K, { "renamenx", "k", "j" }, 1 },
        { K, { "call", "SCAN", 0 }, { "0", { "k" } } }, { L, { "sort", "l", "ALPHA", "DESC" }, { "c", "b", "a" } },
        { L, { "sort_ro", "l", "ALPHA" }, { "a", "b", "c" } }, { K, { "touch", "k" }, 1 }, { K, { "ttl", "k" }, -1 },
        { K, { "type", "k" }, "string" }, { K, { "unlink", "k" }, 1 },
    },
    hashes = {
        { H, { "hdel", "h", "a" }, 1 }, { H, { "hexists", "h", "a" }, 1 }, { H, { "hget", "h", "a" }, "1" },
        { H, { "hgetall", "h" }, { a = "1" } }, { H, { "hincrby", "h", "a", 2 }, 3 },
        { H, { "hincrbyfloat", "h", "a", 0.5 }, "1.5" }, { H, { "hkeys", "h" }, { "a" } }, { H, { "hlen", "h" }, 1 },
        { H, { "hmget", "h", "a", "b" }, { "1" } }, { { "hmset", "h", "a", 1 }, "OK" },
        { H, { "hrandfield", "h" }, "a" }, { H, { "call", "HSCAN", "h", 0 }, { "0", { "a", "1" } } },
        { { "hset", "h", "a", 1, "b", 2 }, 2 }, { { "hsetnx", "h", "a", 1 }, 1 }, { H, { "hstrlen", "h", "a" }, 1 },
        { H, { "hvals", "h" }, { "1" } },
    },
    lists = {
        { L, { "blmove", "l", "m", "LEFT", "RIGHT", 1 }, "a" },
        { L, { "blmpop", 1, 1, "l", "LEFT" }, { "l", { "a" } } }, { L, { "blpop", "l", 1 }, { "l", "a" } },
        { L, { "brpop", "l", 1 }, { "l", "c" } }, { L, { "brpoplpush", "l", "m", 1 }, "c" },
        { L, { "lindex", "l", 0 }, "a" }, { L, { "linsert", "l", "BEFORE", "b", "x" }, 4 }, { L, { "llen", "l" }, 3 },
        { L, { "lmove", "l", "m", "LEFT", "LEFT" }, "a" }, { L, { "lmpop", 1, "l", "RIGHT" }, { "l", { "c" } } },
        { L, { "lpop", "l" }, "a" }, { L, { "lpos", "l", "b" }, 1 }, { L, { "lpush", "l", "x" }, 4 },
        { { "lpushx", "l", "x" }, 0 }, { L, { "lrange", "l", 0, 1 }, { "a", "b" } }, { L, { "lrem", "l", 0, "a" }, 1 },
        { L, { "lset", "l", 0, "x" }, "OK" }, { L, { "ltrim", "l", 0, 0 }, "OK" }, { L, { "rpop", "l" }, "c" },
        { L, { "rpoplpush", "l", "m" }, "c" }, { L, { "rpush", "l", "d" }, 4 }, { L, { "rpushx", "l", "d" }, 4 },
    },
    sets = {
        { { "sadd", "s", "a" }, 1 }, { S, { "scard", "s" }, 2 }, { S, T, { "sdiff", "s", "t" }, { "a" } },
        { S, T, { "sdiffstore", "d", "s", "t" }, 1 }, { S, T, { "sinter", "s", "t" }, { "b" } },
        { S, T, { "sintercard", 2, "s", "t" }, 1 }, { S, T, { "sinterstore", "d", "s", "t" }, 1 },
        { S, { "sismember", "s", "a" }, 1 }, { S, { "smembers", "s" }, list_of "string" },
        { S, { "smismember", "s", "a", "x" }, { 1, 0 } }, { S, { "smove", "s", "t", "a" }, 1 },
        { S, { "spop", "s" }, is "string" }, { S, { "spop", "s", 2 }, list_of "string" },
        { S, { "srandmember", "s" }, is "string" }, { S, { "srem", "s", "a" }, 1 },
        { S, { "call", "SSCAN", "s", 0 }, is "table" }, { S, T, { "sunion", "s", "t" }, list_of "string" },
        { S, T, { "sunionstore", "d", "s", "t" }, 3 },
    },
    ["sorted sets"] = {
        { Z, { "bzmpop", 1, 1, "z", "MIN" }, { "z", { { "a", 1.0 } } } },
        { Z, { "bzpopmax", "z", 1 }, { "z", "b", 2.0 } }, { Z, { "bzpopmin", "z", 1 }, { "z", "a", 1.0 } },
        { Z, { "zcard", "z" }, 2 }, { Z, { "zcount", "z", 1, 1 }, 1 }, { Z, { "zdiff", 2, "z", "y" }, { "a", "b" } },
        { Z, { "zdiff", 2, "z", "y", "WITHSCORES" }, { { "a", 1.0 }, { "b", 2.0 } } },
        { Z, { "zdiffstore", "d", 2, "z", "y" }, 2 }, { Z, { "zincrby", "z", 1.5, "a" }, 2.5 },
        { Z, { "zinter", 2, "z", "z" }, { "a", "b" } }, { Z, { "zintercard", 2, "z", "z" }, 2 },
        { Z, { "zinterstore", "d", 2, "z", "z" }, 2 }, { Z, { "zlexcount", "z", "-", "+" }, 2 },
        { Z, { "zmpop", 1, "z", "MAX" }, { "z", { { "b", 2.0 } } } }, { Z, { "zmscore", "z", "a", "x" }, { 1.0 } },
        { Z, { "zpopmax", "z" }, { { "b", 2.0 } } }, { Z, { "zpopmin", "z" }, { { "a", 1.0 } } },
        { Z, { "zrandmember", "z" }, is "string" }, { Z, { "zrange", "z", 0, 0 }, { "a" } },
        { Z, { "zrangebylex", "z", "-", "+" }, { "a", "b" } }, { Z, { "zrangebyscore", "z", 2, 2 }, { "b" } },
        { Z, { "zrangestore", "d", "z", 0, -1 }, 2 }, { Z, { "zrank", "z", "b" }, 1 }, { Z, { "zrem", "z", "a" }, 1 },
        { Z, { "zremrangebylex", "z", "-", "+" }, 2 }, { Z, { "zremrangebyrank", "z", 0, 0 }, 1 },
        { Z, { "zremrangebyscore", "z", 1, 1 }, 1 }, { Z, { "zrevrange", "z", 0, 0 }, { "b" } },
        { Z, { "zrevrangebylex", "z", "+", "-" }, { "b", "a" } },
        { Z, { "zrevrangebyscore", "z", 2, 2, "WITHSCORES" }, { { "b", 2.0 } } }, { Z, { "zrevrank", "z", "b" }, 0 },
        { Z, { "call", "ZSCAN", "z", 0 }, { "0", { "a", "1", "b", "2" } } }, { Z, { "zscore", "z", "a" }, 1.0 },
        { Z, { "zunion", 2, "z", "y" }, { "a", "b" } }, { Z, { "zunionstore", "d", 1, "z" }, 2 },
    },
    streams = {
        { X, G, READ, { "xack", "x", "g", "1-0" }, 1 }, { { "xadd", "x", "5-1", { f = 1 } }, "5-1" },
        { X, { "xdel", "x", "1-0" }, 1 },
        { X, G, READ, { "xautoclaim", "x", "g", "d", 0, 0, "JUSTID" }, { "0-0", { "1-0" }, {} } },
        { X, G, READ, { "xclaim", "x", "g", "d", 0, "1-0", "JUSTID" }, { "1-0" } },
        { X, { "xgroup", "create", "x", "g", 0 }, "OK" }, { X, G, { "xgroup", "createconsumer", "x", "g", "c" }, 1 },
        { X, G, { "xgroup", "destroy", "x", "g" }, 1 },
        { X, G, READ, { "xinfo", "consumers", "x", "g" }, has_each("name", "pending", "idle") },
        { X, G, { "xinfo", "groups", "x" }, has_each("name", "consumers", "pending", "last-delivered-id") },
        { X, { "xinfo", "stream", "x" }, function(v) return v.length == 1 and v["first-entry"][2].f == "v" end },
        { X, G, READ, { "xinfo", "stream", "x", "FULL" },
            function(v) return v.entries[1][2].f == "v" and v.groups[1].consumers[1].name == "c"
                and v.groups[1].consumers[1].pending[1][1] == "1-0" end },
        { X, { "xlen", "x" }, 1 }, { X, G, READ, { "xpending", "x", "g" }, { 1, "1-0", "1-0", { { "c", "1" } } } },
        { X, G, READ, { "xpending", "x", "g", "-", "+", 10 },
            function(v) return v[1][1] == "1-0" and v[1][2] == "c" end },
        { X, { "xrange", "x", "-", "+" }, { { "1-0", { f = "v" } } } },
        { X, { "xread", "STREAMS", "x", 0 }, { x = { { "1-0", { f = "v" } } } } },
        { X, G, READ, { x = { { "1-0", { f = "v" } } } } },
        { X, { "xrevrange", "x", "+", "-" }, { { "1-0", { f = "v" } } } }, { X, { "xsetid", "x", "9-0" }, "OK" },
        { X, { "xtrim", "x", "MAXLEN", 0 }, 1 },
    },
    places = {
        { { "geoadd", "p", 1, 2, "a" }, 1 }, { P, { "geodist", "p", "a", "b", "km" }, matches "^%d+%.%d+$" },
        { P, { "geohash", "p", "a" }, list_of "string" },
        { P, { "geopos", "p", "a" }, function(v) return near(13.5)(v[1][1]) and near(38)(v[1][2]) end },
        { P, { "georadius", "p", 15, 37, 200, "km", "ASC" }, { "b", "a" } },
        { P, { "georadius_ro", "p", 15, 37, 200, "km", "ASC" }, { "b", "a" } },
        { P, { "georadiusbymember", "p", "a", 1, "km", "WITHDIST" }, { { "a", "0.0000" } } },
        { P, { "geosearch", "p", "FROMLONLAT", 15, 37, "BYRADIUS", 100, "km", "WITHCOORD" },
            function(v) return near(15)(v[1][2][1]) end },
        { P, { "geosearchstore", "d", "p", "FROMMEMBER", "a", "BYRADIUS", 1, "km" }, 1 },
    },
    ["approximate counts"] = {
        { { "pfadd", "pf", "a", "b" }, 1 }, { { "pfadd", "pf", "a", "b" }, { "pfcount", "pf" }, 2 },
        { { "pfmerge", "pf", "pg" }, "OK" },
    },
    ["scripts and functions"] = {
        { { "eval", "return {1, ARGV[1], {ok='fine'}}", 0, "x" }, { 1, "x", "fine" } },
        { { "eval_ro", "return #KEYS", 1, "k" }, 1 },
        { { "call", "SCRIPT", "LOAD", "return 1" }, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" },
        { { "call", "SCRIPT", "EXISTS", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" }, { 1 } },
        { { "evalsha", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0 }, 1 },
        { { "evalsha_ro", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0 }, 1 }, { { "call", "SCRIPT", "FLUSH" }, "OK" },
        { LOAD, "mylib" }, { LOAD, { "fcall", "twice", 0, 21 }, 42 }, { LOAD, { "fcall_ro", "twice", 0, 4 }, 8 },
        { LOAD, { "function", "list" },
            function(v) return v[1].library_name == "mylib" and v[1].functions[1].name == "twice" end },
        { LOAD, { "function", "stats" }, has "engines" }, { LOAD, { "function", "dump" }, is "string" },
        { LOAD, { "function", "delete", "mylib" }, "OK" }, { { "function", "flush" }, "OK" },
    },
    ["publishing"] = {
        { { "publish", "ch", "m" }, 0 }, { { "pubsub", "channels" }, {} }, { { "pubsub", "numpat" }, 0 },
        { { "pubsub", "numsub", "a" }, { a = 0 } }, { { "pubsub", "shardchannels" }, {} },
        { { "pubsub", "shardnumsub", "a" }, { a = 0 } }, { { "spublish", "ch", "m" }, 0 },
    },
    ["connections"] = {
        { { "client", "getname" }, NONE }, { { "call", "CLIENT", "ID" }, is "integer" },
        { { "call", "CLIENT", "INFO" }, matches "^id=" }, { { "call", "CLIENT", "LIST" }, matches "addr=" },
        { { "call", "CLIENT", "TRACKINGINFO" }, has "flags" }, { { "echo", "x" }, "x" }, { { "ping" }, "PONG" },
        { { "ping", "x" }, "x" },
    },
    ["the server"] = {
        { { "acl", "cat" }, list_of "string" }, { { "acl", "getuser", "default" }, has("flags", "keys") },
        { { "acl", "list" }, list_of "string" }, { { "acl", "users" }, { "default" } },
        { { "acl", "whoami" }, "default" }, { { "acl", "log" }, is "table" }, { { "command", "count" }, is "integer" },
        { { "command", "getkeys", "MSET", "a", 1, "b", 2 }, { "a", "b" } },
        { { "command", "info", "get" }, function(v) return v[1][1] == "get" end },
        { { "config", "get", "maxmemory*" }, has("maxmemory", "maxmemory-policy") },
        { { "config", "set", "timeout", 0 }, "OK" }, { { "config", "resetstat" }, "OK" }, { K, { "dbsize" }, 1 },
        { { "flushall" }, "OK" }, { { "flushdb" }, "OK" }, { { "info", "memory" }, matches "used_memory:" },
        { { "lastsave" }, is "integer" }, { { "latency", "latest" }, is "table" },
        { { "lolwut" }, matches "Redis ver" }, { { "memory", "doctor" }, is "string" },
        { { "memory", "stats" }, has("peak.allocated", "total.allocated") },
        { K, { "memory", "usage", "k" }, is "integer" }, { { "memory", "purge" }, "OK" }, { { "module", "list" }, {} },
        { { "role" }, function(v) return v[1] == "master" end }, { { "slowlog", "len" }, is "integer" },
        { { "slowlog", "get" }, is "table" }, { { "slowlog", "reset" }, "OK" }, { { "swapdb", 0, 0 }, "OK" },
        { { "time" }, list_of "string" },
    },
}

local WITH_SUB <const> = {
    ACL = true, CLIENT = true, COMMAND = true, CONFIG = true, FUNCTION = true, LATENCY = true, MEMORY = true,
    MODULE = true, OBJECT = true, PUBSUB = true, SCRIPT = true, SLOWLOG = true, XGROUP = true, XINFO = true,
}

local function name_of(command)
    local at <const> = command[1] == "call" and 2 or 1
    local name <const> = command[at]:upper()
    return WITH_SUB[name] and name .. " " .. command[at + 1]:upper() or name
end

describe("each Redis command gives its natural shape:", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end)
    local names <const> = {}

    local function check(case)
        r:flushall()
        local got
        for i = 1, #case - 1 do
            local command <const> = case[i]
            got = r[command[1]](r, table.unpack(command, 2))
        end
        local name <const>, expected <const> = name_of(case[#case - 1]), case[#case]
        names[name] = true
        if expected == NONE then
            assert.is_nil(got, name)
        elseif type(expected) == "function" then
            assert.is_true(expected(got), name)
        else
            assert.same(expected, got, name)
            assert.equal(math.type(expected), math.type(got), name)
        end
    end

    for group, cases in pairs(TABLE) do
        it(group, function()
            for _, case in ipairs(cases) do
                check(case)
            end
        end)
    end

    it("and these are more than 150", function()
        local n = 0
        for _, cases in pairs(TABLE) do
            for _, case in ipairs(cases) do
                local name <const> = name_of(case[#case - 1])
                n = n + (names[name] ~= "counted" and 1 or 0)
                names[name] = "counted"
            end
        end
        assert.is_true(n > 150, n .. " commands")
    end)
end)
