-- The client gives RESP2's replies the shapes that the server uses in RESP3, with its maps and doubles; for each
-- command that can be called on a private server.
local errors = require "dbrun.error"
local redis_server = require "spec.support.redis_server"
local resp3 = require "spec.support.resp3"

--- A line is a case: commands that set up, and the one that is compared. With ~ only the kinds of the values are
--- compared, because the values are never the same twice.
local CASES <const> = [[
SET k abc; APPEND k d
SET k 5; DECR k
SET k 5; DECRBY k 2
SET k abc; GET k
GET nothing
SET k abc; GETDEL k
SET k abc; GETEX k EX 100
SET k abc; GETRANGE k 0 1
SET k abc; GETSET k d
INCR n
INCRBY n 4
INCRBYFLOAT n 1.5
SET k abcd; SET l xbcy; LCS k l
SET k abcd; SET l xbcy; LCS k l LEN
SET k abcd; SET l xbcy; LCS k l IDX WITHMATCHLEN
SET IDX abcd; LCS IDX IDX
SET k 1; MGET k nothing
MSET a 1 b 2
MSETNX a 1 b 2
PSETEX k 100000 v
SET k v
SET k v GET
SETEX k 100 v
SETNX k v
SETRANGE k 2 v
SET k v; STRLEN k
SET k v; SUBSTR k 0 0
SET k v; BITCOUNT k
BITFIELD k SET u8 0 7 GET u8 0
BITFIELD_RO k GET u8 0
SET k v; BITOP NOT d k
SET k v; BITPOS k 1
GETBIT k 1
SETBIT k 1 1
SET k v; COPY k l
SET k v; DEL k
SET k v; DUMP k
SET k v; EXISTS k k
SET k v; EXPIRE k 100
SET k v; EXPIREAT k 4102444800
SET k v; EXPIRETIME k
SET k v; KEYS *
SET k v; MOVE k 1
SET k v; OBJECT ENCODING k
OBJECT FREQ k
OBJECT HELP
SET k v; OBJECT IDLETIME k
SET k v; OBJECT REFCOUNT k
SET k v; PERSIST k
SET k v; PEXPIRE k 100000
SET k v; PEXPIREAT k 4102444800000
SET k v; PEXPIRETIME k
SET k v; PTTL k
SET k v; RANDOMKEY
SET k v; RENAME k l
SET k v; RENAMENX k l
RESTORE k 0 x
RESTORE-ASKING k 0 x
SET k v; SCAN 0
RPUSH l 2 1; SORT l
RPUSH l 2 1; SET store x; SORT l BY store
RPUSH l 2 1; SORT_RO l
SET k v; TOUCH k
SET k v; TTL k
SET k v; TYPE k
SET k v; UNLINK k
MIGRATE 127.0.0.1 1 nothing 0 10
HSET h a 1; HDEL h a
HSET h a 1; HEXISTS h a
HSET h a 1; HGET h a
HSET h a 1 b 2; HGETALL h
HGETALL nothing
HINCRBY h a 1
HINCRBYFLOAT h a 1.5
HSET h a 1; HKEYS h
HSET h a 1; HLEN h
HSET h a 1; HMGET h a b
HMSET h a 1
HSET h a 1; HRANDFIELD h
HSET h a 1; HRANDFIELD h 2
HSET h a 1 b 2; HRANDFIELD h 2 WITHVALUES
HSET withvalues a 1 b 2; HRANDFIELD withvalues 2
HSET h a 1; HSCAN h 0
HSET h a 1
HSETNX h a 1
HSET h a 1; HSTRLEN h a
HSET h a 1; HVALS h
RPUSH l a b; BLMOVE l m LEFT LEFT 1
RPUSH l a b; BLMPOP 1 1 l LEFT
RPUSH l a b; BLPOP l 1
RPUSH l a b; BRPOP l 1
RPUSH l a b; BRPOPLPUSH l m 1
RPUSH l a b; LINDEX l 0
RPUSH l a b; LINSERT l BEFORE b x
RPUSH l a b; LLEN l
RPUSH l a b; LMOVE l m LEFT LEFT
RPUSH l a b; LMPOP 1 l LEFT COUNT 2
RPUSH l a b; LPOP l
RPUSH l a b; LPOP l 2
RPUSH l a b; LPOS l b
RPUSH l a b; LPOS l b COUNT 0
LPUSH l a
LPUSHX l a
RPUSH l a b; LRANGE l 0 -1
RPUSH l a b; LREM l 0 a
RPUSH l a b; LSET l 0 x
RPUSH l a b; LTRIM l 0 0
RPUSH l a b; RPOP l
RPUSH l a b; RPOPLPUSH l m
RPUSH l a b
RPUSHX l a
SADD s a
SADD s a; SCARD s
SADD s a b; SADD t b; SDIFF s t
SADD s a b; SADD t b; SDIFFSTORE d s t
SADD s a b; SADD t b; SINTER s t
SADD s a b; SADD t b; SINTERCARD 2 s t
SADD s a b; SADD t b; SINTERSTORE d s t
SADD s a; SISMEMBER s a
SADD s a; SMEMBERS s
SADD s a; SMISMEMBER s a b
SADD s a; SMOVE s t a
SADD s a; SPOP s
SADD s a; SPOP s 2
SADD s a; SRANDMEMBER s
SADD s a; SRANDMEMBER s 2
SADD s a; SREM s a
SADD s a; SSCAN s 0
SADD s a; SADD t b; SUNION s t
SADD s a; SADD t b; SUNIONSTORE d s t
ZADD z 1 a; BZMPOP 1 1 z MIN
ZADD z 1 a; BZPOPMAX z 1
ZADD z 1 a; BZPOPMIN z 1
ZADD z 1 a
ZADD z INCR 1.5 a
ZADD z NX INCR inf a
ZADD z 1 INCR
ZADD z 1 a; ZCARD z
ZADD z 1 a; ZCOUNT z 0 2
ZADD z 1 a; ZDIFF 1 z
ZADD z 1 a -inf b; ZDIFF 1 z WITHSCORES
ZADD withscores 1 a 2 b; ZDIFF 1 withscores
ZADD z 1 a; ZDIFFSTORE d 1 z
ZINCRBY z 1.5 a
ZADD z 1 a; ZINTER 1 z
ZADD z 1 a; ZINTER 1 z WEIGHTS 2 AGGREGATE MAX WITHSCORES
ZADD z 1 a; ZINTERCARD 1 z
ZADD z 1 a; ZINTERSTORE d 1 z
ZADD z 1 a; ZLEXCOUNT z - +
ZADD z 1 a 2 b; ZMPOP 1 z MIN COUNT 2
ZADD z 1 a; ZMSCORE z a b
ZADD z 1 a 2.5 b; ZPOPMAX z 2
ZADD z 1 a 2.5 b; ZPOPMIN z 2
ZADD z 1 a; ZRANDMEMBER z
ZADD z 1 a; ZRANDMEMBER z 2
ZADD z 1 a 1 b; ZRANDMEMBER z 2 WITHSCORES
ZADD z 1 a; ZRANGE z 0 -1
ZADD z inf a -inf b 0.1 c; ZRANGE z 0 -1 WITHSCORES
ZADD z -0 a 3.0e-20 b 1e300 c; ZRANGE z 0 -1 WITHSCORES
ZADD withscores 1 a 2 b; ZRANGE withscores 0 -1 REV
ZADD z 1 a; ZRANGEBYLEX z - +
ZADD z 1 a; ZRANGEBYSCORE z 0 2
ZADD z 1 a; ZRANGEBYSCORE z 0 2 LIMIT 0 1 WITHSCORES
ZADD z 1 a; ZRANGESTORE d z 0 -1
ZADD z 1 a; ZRANK z a
ZADD z 1 a; ZREM z a
ZADD z 1 a; ZREMRANGEBYLEX z - +
ZADD z 1 a; ZREMRANGEBYRANK z 0 0
ZADD z 1 a; ZREMRANGEBYSCORE z 0 2
ZADD z 1 a; ZREVRANGE z 0 -1
ZADD z 1 a; ZREVRANGE z 0 -1 WITHSCORES
ZADD z 1 a; ZREVRANGEBYLEX z + -
ZADD z 1 a; ZREVRANGEBYSCORE z 2 0
ZADD z 1 a; ZREVRANGEBYSCORE z 2 0 WITHSCORES
ZADD z 1 a; ZREVRANK z a
ZADD z 1 a; ZSCAN z 0
ZADD z 1.5 a; ZSCORE z a
ZSCORE z a
ZADD withscores 1 a; ZADD z 1 b; ZUNION 2 withscores z
ZADD withscores 1 a; ZADD z 1 b; ZUNION 2 withscores z WITHSCORES
ZADD z 1 a; ZUNIONSTORE d 1 z
XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XACK x g 1-0
XADD x 1-0 f v
XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XAUTOCLAIM x g d 0 0
XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XAUTOCLAIM x g d 0 0 JUSTID
XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XCLAIM x g d 0 1-0
XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g justid STREAMS x >; XCLAIM x g justid 0 1-0 JUSTID
XADD x 1-0 f v; XDEL x 1-0
XADD x 1-0 f v; XGROUP CREATE x g 0
XADD x 1-0 f v; XGROUP CREATE x g 0; XGROUP CREATECONSUMER x g c
XADD x 1-0 f v; XGROUP CREATE x g 0; XGROUP DELCONSUMER x g c
XADD x 1-0 f v; XGROUP CREATE x g 0; XGROUP DESTROY x g
XADD x 1-0 f v; XGROUP CREATE x g 0; XGROUP SETID x g 0
XGROUP HELP
~XADD x 1-0 f v; XGROUP CREATE x g 0; XGROUP CREATECONSUMER x g c; XINFO CONSUMERS x g
XADD x 1-0 f v; XGROUP CREATE x g 0; XINFO GROUPS x
XINFO HELP
XADD x 1-0 f v; XINFO STREAM x
~XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XINFO STREAM x FULL
XADD x 1-0 f v; XLEN x
XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XPENDING x g
~XADD x 1-0 f v; XGROUP CREATE x g 0; XREADGROUP GROUP g c STREAMS x >; XPENDING x g - + 10
XADD x 1-0 f v g w; XRANGE x - +
XADD x 1-0 f v; XADD y 1-0 f v; XREAD COUNT 2 STREAMS x y 0 0
XADD x 1-0 f v; XREAD BLOCK 10 STREAMS x $
XADD x 1-0 f v; XGROUP CREATE x streams 0; XREADGROUP GROUP streams streams STREAMS x >
XADD x 1-0 f v; XREVRANGE x + -
XADD x 1-0 f v; XSETID x 2-0
XADD x 1-0 f v; XTRIM x MAXLEN 0
GEOADD p 13.5 38 a
GEOADD p 13.5 38 a 15 37.5 b; GEODIST p a b
GEOADD p 13.5 38 a; GEOHASH p a
GEOADD p 13.5 38 a; GEOPOS p a nobody
GEOADD p 13.5 38 a; GEORADIUS p 15 37 500 km WITHDIST WITHCOORD WITHHASH
GEOADD p 13.5 38 a; GEORADIUS p 15 37 500 km
GEOADD p 13.5 38 a; GEORADIUS p 15 37 500 km STORE d
GEOADD p 13.5 38 a; GEORADIUS_RO p 15 37 500 km WITHCOORD
GEOADD p 13.5 38 a; GEORADIUSBYMEMBER p a 500 km WITHCOORD
GEOADD p 13.5 38 a; GEORADIUSBYMEMBER_RO p a 500 km WITHDIST
GEOADD p 13.5 38 a; GEOSEARCH p FROMMEMBER a BYRADIUS 5 km WITHCOORD WITHDIST
GEOADD p 13.5 38 a; GEOSEARCHSTORE d p FROMMEMBER a BYRADIUS 5 km
PFADD pf a
PFADD pf a; PFCOUNT pf
PFADD pf a; PFMERGE pf q
PFADD pf a; PFDEBUG ENCODING pf
EVAL return{1,'a',{2,3}} 0
EVAL return{ok='fine'} 0
EVAL_RO return#KEYS 1 k
SCRIPT FLUSH; EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
SCRIPT FLUSH; EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
FCALL nothing 0
FCALL_RO nothing 0
FUNCTION DELETE nothing
~FUNCTION DUMP
FUNCTION FLUSH
FUNCTION HELP
FUNCTION KILL
FUNCTION LOAD REPLACE @LIBRARY
FUNCTION LOAD REPLACE @LIBRARY; FUNCTION LIST WITHCODE
FUNCTION RESTORE x
FUNCTION STATS
SCRIPT FLUSH; SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db
SCRIPT FLUSH
SCRIPT HELP
SCRIPT KILL
SCRIPT LOAD return@1
PUBLISH c m
PUBSUB CHANNELS
PUBSUB HELP
PUBSUB NUMPAT
PUBSUB NUMSUB a b
PUBSUB SHARDCHANNELS
PUBSUB SHARDNUMSUB a
SPUBLISH c m
ACL CAT
ACL DELUSER nobody
ACL DRYRUN default GET k
~ACL GENPASS
ACL GETUSER default
ACL SETUSER other reset on (~k* +get); ACL GETUSER other
ACL GETUSER nobody
ACL HELP
ACL DELUSER other; ACL LIST
ACL LOAD
~ACL SETUSER other reset on >p +get; AUTH other wrong; ACL LOG
ACL SAVE
ACL SETUSER other on
ACL DELUSER other; ACL USERS
ACL WHOAMI
CLIENT GETNAME
CLIENT GETREDIR
CLIENT HELP
~CLIENT ID
~CLIENT INFO
CLIENT KILL ID 0
~CLIENT LIST
CLIENT PAUSE 0
CLIENT TRACKINGINFO
CLIENT UNBLOCK 0
CLIENT UNPAUSE
ECHO x
PING
PING x
BGREWRITEAOF x
BGSAVE x
COMMAND COUNT
COMMAND DOCS GET XADD CONFIG
COMMAND GETKEYS MSET a 1 b 2
COMMAND GETKEYSANDFLAGS GET a
COMMAND HELP
COMMAND INFO GET SORT XADD nothing
COMMAND INFO config|get xinfo|stream
COMMAND LIST FILTERBY PATTERN zr*
CONFIG GET maxmemory*
CONFIG HELP
CONFIG RESETSTAT
CONFIG REWRITE
CONFIG SET timeout 0
SET k v; DBSIZE
DEBUG SLEEP 0
FAILOVER ABORT
FLUSHALL
FLUSHDB
~INFO
~LASTSAVE
~LATENCY DOCTOR
LATENCY GRAPH x
LATENCY HELP
~LATENCY HISTOGRAM ping
LATENCY HISTORY x
LATENCY LATEST
LATENCY RESET
~LOLWUT
~MEMORY DOCTOR
MEMORY HELP
~MEMORY MALLOC-STATS
MEMORY PURGE
~SET k v; MEMORY STATS
SET k v; MEMORY USAGE k
MODULE HELP
MODULE LIST
MODULE LOAD x
MODULE LOADEX x
MODULE UNLOAD x
~ROLE
SAVE x
SLOWLOG GET x
~CONFIG SET slowlog-log-slower-than 0; PING; SLOWLOG GET 1
SLOWLOG HELP
~SLOWLOG LEN
SLOWLOG RESET
SWAPDB 0 1
~TIME
REPLICAOF x
SLAVEOF x
SHUTDOWN ABORT
WAITAOF x
]]

--- On a server that is a cluster of one node.
local CLUSTER <const> = [[
CLUSTER ADDSLOTS 0
CLUSTER ADDSLOTSRANGE 0 1
~CLUSTER BUMPEPOCH
CLUSTER COUNT-FAILURE-REPORTS x
CLUSTER COUNTKEYSINSLOT 0
CLUSTER DELSLOTS x
CLUSTER DELSLOTSRANGE x y
CLUSTER FAILOVER
CLUSTER FLUSHSLOTS x
CLUSTER FORGET x
CLUSTER GETKEYSINSLOT 0 1
CLUSTER HELP
~CLUSTER INFO
CLUSTER KEYSLOT k
CLUSTER LINKS
CLUSTER MEET x y
CLUSTER MYID
~CLUSTER NODES
CLUSTER REPLICAS x
CLUSTER REPLICATE x
CLUSTER RESET x
CLUSTER SAVECONFIG
CLUSTER SET-CONFIG-EPOCH x
CLUSTER SETSLOT 0
~CLUSTER SHARDS
CLUSTER SLAVES x
CLUSTER SLOTS
CLUSTER BUMPEPOCH x
]]

--- Replies to which the client gives more shape than RESP3: they are flat lists in both.
local FURTHER <const> = {
    ["PUBSUB NUMSUB"] = "map", ["PUBSUB SHARDNUMSUB"] = "map",
}

--- Commands that change the connection's mode, close it or stop the server, or that the client refuses.
local LEFT_OUT <const> = {}
for name in ([[asking auth client|caching client|reply client|tracking
    client|no-evict client|no-touch client|setinfo client|setname discard exec hello monitor multi psubscribe
    psync punsubscribe quit readonly readwrite replconf reset select shutdown ssubscribe subscribe sunsubscribe sync
    unsubscribe unwatch wait watch script|debug pfselftest]]):gmatch "%S+" do
    LEFT_OUT[name] = true
end

local LIBRARY <const> = "#!lua name=mylib\nredis.register_function('twice', function(keys, args) return 2 end)"

local function words_of(text)
    local words = {}
    for word in text:gmatch "%S+" do
        words[#words + 1] = word == "@LIBRARY" and LIBRARY or (word:gsub("@", " "))
    end
    return words
end

local function cases_of(text)
    local cases = {}
    for line in text:gmatch "[^\n]+" do
        local case = { loose = line:sub(1, 1) == "~", text = line }
        for command in line:gsub("^~", ""):gmatch "[^;]+" do
            case[#case + 1] = words_of(command)
        end
        cases[#cases + 1] = case
    end
    return cases
end

-- ---- comparing ----

local same

local function fields_of(flat)
    local map = { kind = "map" }
    for i = 1, #flat, 2 do
        map[#map + 1] = { flat[i], flat[i + 1] }
    end
    return map
end

--- An entry of a stream has its fields as a flat list in RESP3, too.
local function is_entry(typed)
    return #typed == 2 and typed[1].kind == "string" and typed[1].value:find "^%d+%-%d+$" and typed[2].kind == "list"
end

local function same_list(typed, value, loose)
    if type(value) ~= "table" or #value ~= #typed then
        return false, ("a list of %d, got %s"):format(#typed, type(value) == "table" and #value or tostring(value))
    end
    local entry <const> = is_entry(typed)
    for i, element in ipairs(typed) do
        local ok <const>, why <const> = same(entry and i == 2 and fields_of(element) or element, value[i], loose)
        if not ok then
            return false, ("[%d] %s"):format(i, why)
        end
    end
    return true
end

local function same_map(typed, value, loose)
    if type(value) ~= "table" or value[1] ~= nil and typed[1] and typed[1][1].value ~= 1 then
        return false, "a map, got " .. tostring(value)
    end
    local n = 0
    for _, pair in ipairs(typed) do
        local name <const> = pair[1].value
        n = n + (pair[2].kind == "null" and 0 or 1)
        if not (loose and value[name] == nil) then
            local ok <const>, why <const> = same(pair[2], value[name], loose)
            if not ok then
                return false, ("%s: %s"):format(name, why)
            end
        end
    end
    for name in pairs(value) do
        n = n - 1
        if n < 0 and not loose then
            return false, "one too many: " .. tostring(name)
        end
    end
    return n == 0 or loose, "too few"
end

local KIND <const> = { string = "string", integer = "integer", double = "float" }

--- Whether the client's value is equal to the server's.
function same(typed, value, loose)
    if typed.kind == "list" then
        return same_list(typed, value, loose)
    elseif typed.kind == "map" then
        return same_map(typed, value, loose)
    elseif typed.kind == "null" then
        return value == nil, "nil, got " .. tostring(value)
    elseif typed.kind == "boolean" then -- RESP2 has integers for them, and the client keeps them
        return value == (typed.value and 1 or 0), "0 or 1, got " .. tostring(value)
    elseif typed.kind == "error" then
        return errors.is(value) and value.message == typed.value,
            ("the error %s, got %s"):format(typed.value, tostring(value))
    end
    local kind <const> = math.type(value) or type(value)
    local equal = loose or value == typed.value
    if typed.kind == "double" and value == typed.value then
        equal = loose or 1 / value == 1 / typed.value -- -0
    end
    return kind == KIND[typed.kind] and equal,
        ("%s %s, got %s %s"):format(typed.kind, tostring(typed.value), kind, tostring(value))
end

-- ---- asking ----

local function full_name(command)
    local two <const> = command[2] and command[1] .. " " .. command[2]
    return two, command[1]
end

--- All cases in RESP3, on one connection. Each begins on an empty database.
local function typed_replies(server, cases)
    local commands, at = {}, {}
    for i, case in ipairs(cases) do
        commands[#commands + 1] = { "FLUSHALL" }
        for _, command in ipairs(case) do
            commands[#commands + 1] = command
        end
        at[i] = #commands
    end
    local replies <const>, list = resp3.ask(server.socket, commands), {}
    for i in ipairs(cases) do
        list[i] = replies[at[i]]
    end
    return list
end

local function reply_of(connection, case)
    connection:flushall()
    for i = 1, #case - 1 do
        pcall(connection.raw, connection, table.unpack(case[i]))
    end
    local ok <const>, reply <const> = pcall(connection.call, connection, table.unpack(case[#case]))
    return reply, ok
end

local function compare(server, client, text, seen)
    local cases <const> = cases_of(text)
    local typed <const> = typed_replies(server, cases)
    local connection <close> = client:acquire()
    local wrong = {}
    for i, case in ipairs(cases) do
        local two <const>, one <const> = full_name(case[#case])
        local want = typed[i]
        if FURTHER[two] and want.kind == "list" then
            want = fields_of(want)
        end
        local ok <const>, why <const> = same(want, reply_of(connection, case), case.loose)
        if not ok then
            wrong[#wrong + 1] = ("%s: %s"):format(case.text, why)
        end
        seen[one:lower()], seen[(two or one):lower():gsub(" ", "|")] = true, true
    end
    assert.equal("", table.concat(wrong, "\n"))
    return #cases
end

--- The names of all commands of a server, "config|get" for a subcommand.
local function all_names(client)
    local names = {}
    for _, command in ipairs(client:command()) do
        local subcommands <const> = command[10]
        for _, sub in ipairs(subcommands) do
            names[#names + 1] = sub[1]
        end
        if #subcommands == 0 then
            names[#names + 1] = command[1]
        end
    end
    return names
end

describe("a reply in RESP2 has the shape of RESP3:", function()
    local server, r
    local seen <const>, count = {}, 0
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("each command of a server", function()
        count = count + compare(server, r, CASES, seen)
    end)

    it("the commands about a cluster", function()
        local one <const> = redis_server.start { tcp = true, args = { "--cluster-enabled", "yes" } }
        local client <const> = require("dbrun.redis").client { url = one.url }
        finally(function()
            client:close()
            one:stop()
        end)
        one:cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        count = count + compare(one, client, CLUSTER, seen)
    end)

    it("and no command is missing", function()
        local missing, called = {}, 0
        for _, name in ipairs(all_names(r)) do
            if seen[name] then
                called = called + 1
            elseif not LEFT_OUT[name] then
                missing[#missing + 1] = name
            end
        end
        assert.equal("", table.concat(missing, " "))
        print(("compared %d replies of %d commands"):format(count, called))
    end)
end)
