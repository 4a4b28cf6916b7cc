--- Which arguments of a command are keys: a cluster client needs them to find the node.
local M = {}

---@class dbrun.redis.KeySpec
---@field find? fun(args: any[], n: integer): any[] the keys among the arguments; absent: the command has none
---@field single? boolean the first argument is the only key
---@field reads boolean may be answered by a replica
---@field split? "list"|"sum"|"pairs" may be split by hash slot, and how the replies are combined
---@field everywhere? "first"|"sum"|"join"|"all" goes to every primary, and how the replies are combined
---@field movable? boolean only the server knows its keys

--- The keys from `first` to `last` (counted from the end when negative).
local function range(first, last, step)
    return function(args, n)
        local list = {}
        for i = first, last < 0 and n + 1 + last or math.min(last, n), step or 1 do
            list[#list + 1] = args[i]
        end
        return list
    end
end

--- `fixed` keys, and after the argument `at` as many as it says.
local function counted(at, fixed)
    return function(args, n)
        local list = {}
        for i = 1, fixed or 0 do
            list[#list + 1] = args[i]
        end
        local count <const> = math.tointeger(tonumber(args[at])) or 0
        for i = at + 1, math.min(at + count, n) do
            list[#list + 1] = args[i]
        end
        return list
    end
end

local function word_at(args, from, n, word)
    for i = from, n do
        if type(args[i]) == "string" and #args[i] == #word and args[i]:upper() == word then
            return i
        end
    end
end

--- XREAD: the first half of the arguments after STREAMS.
local function streams(args, n)
    local at <const> = word_at(args, 1, n, "STREAMS")
    return at and range(at + 1, at + (n - at) // 2)(args, n) or {}
end

--- The first argument, and the one after STORE or STOREDIST.
local function with_store(args, n)
    local list = { args[1] }
    for _, word in ipairs { "STORE", "STOREDIST" } do
        local at <const> = word_at(args, 2, n, word)
        list[#list + 1] = at and args[at + 1]
    end
    return list
end

local first <const>, all <const>, two <const>, second <const> = range(1, 1), range(1, -1), range(1, 2), range(2, 2)

--- Names by where their keys are. `reads`: a replica may answer.
local GROUPS <const> = {
    { single = true, find = first, reads = true, names = [[
        BITCOUNT BITFIELD_RO BITPOS DUMP EXPIRETIME GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO
        GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS LINDEX LLEN
        LPOS LRANGE PEXPIRETIME PTTL SCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR TTL
        TYPE XLEN XPENDING XRANGE XREVRANGE ZCARD ZCOUNT ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE
        ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE]] },
    { single = true, find = first, names = [[
        APPEND BITFIELD DECR DECRBY EXPIRE EXPIREAT GEOADD GETDEL GETEX GETSET HDEL HINCRBY HINCRBYFLOAT HMSET HSET
        HSETNX INCR INCRBY INCRBYFLOAT LINSERT LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE PERSIST PEXPIRE PEXPIREAT PFADD
        PSETEX RESTORE RPOP RPUSH RPUSHX SADD SET SETBIT SETEX SETNX SETRANGE SPOP SPUBLISH SREM XACK XADD XAUTOCLAIM
        XCLAIM XDEL XSETID XTRIM ZADD ZINCRBY ZPOPMAX ZPOPMIN ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK
        ZREMRANGEBYSCORE]] },
    { find = all, reads = true, split = "list", names = "MGET" },
    { find = all, reads = true, split = "sum", names = "EXISTS" },
    { find = all, split = "sum", names = "DEL TOUCH UNLINK" },
    { find = range(1, -1, 2), split = "pairs", names = "MSET" },
    { find = range(1, -1, 2), names = "MSETNX" },
    { find = all, reads = true, names = "PFCOUNT SDIFF SINTER SUNION" },
    { find = all, names = "PFMERGE SDIFFSTORE SINTERSTORE SUNIONSTORE" },
    { find = two, reads = true, names = "LCS" },
    { find = two, names = [[
        BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE]] },
    { find = range(1, -2), names = "BLPOP BRPOP BZPOPMAX BZPOPMIN" },
    { find = range(2, -1), names = "BITOP" },
    { find = second, names = "XGROUP" },
    { find = second, reads = true, names = "OBJECT XINFO" },
    { find = counted(1), reads = true, names = "SINTERCARD ZDIFF ZINTER ZINTERCARD ZUNION" },
    { find = counted(1), names = "LMPOP ZMPOP" },
    { find = counted(2), reads = true, names = "EVALSHA_RO EVAL_RO FCALL_RO" },
    { find = counted(2), names = "BLMPOP BZMPOP EVAL EVALSHA FCALL" },
    { find = counted(2, 1), names = "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE" },
    { find = streams, reads = true, names = "XREAD" },
    { find = streams, names = "XREADGROUP" },
    { find = with_store, names = "GEORADIUS GEORADIUSBYMEMBER SORT" },
    { reads = true, names = [[
        ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DEBUG ECHO FAILOVER HELLO INFO LASTSAVE
        LATENCY LOLWUT MODULE MONITOR PING PSUBSCRIBE PUBSUB QUIT RANDOMKEY RESET ROLE SAVE SCAN SELECT SLOWLOG
        SSUBSCRIBE SUBSCRIBE TIME]] },
    { names = "DISCARD EXEC MULTI PUBLISH SWAPDB UNWATCH WAIT WAITAOF WATCH" },
    { everywhere = "first", names = "FLUSHALL FLUSHDB" },
    { everywhere = "sum", names = "DBSIZE" },
    { everywhere = "join", names = "KEYS" },
}

--- Subcommands with other keys than their command.
local SUB <const> = {
    ["MEMORY USAGE"] = { find = second, reads = true },
    ["MEMORY DOCTOR"] = { reads = true }, ["MEMORY STATS"] = { reads = true }, ["MEMORY PURGE"] = {},
    ["MEMORY MALLOC-STATS"] = { reads = true }, ["MEMORY HELP"] = { reads = true },
    ["OBJECT HELP"] = { reads = true }, ["XINFO HELP"] = { reads = true }, ["XGROUP HELP"] = { reads = true },
    ["SCRIPT EXISTS"] = { everywhere = "all" }, ["SCRIPT FLUSH"] = { everywhere = "first" },
    ["SCRIPT LOAD"] = { everywhere = "first" }, ["SCRIPT KILL"] = {}, ["SCRIPT HELP"] = { reads = true },
    ["FUNCTION DELETE"] = { everywhere = "first" }, ["FUNCTION FLUSH"] = { everywhere = "first" },
    ["FUNCTION LOAD"] = { everywhere = "first" }, ["FUNCTION RESTORE"] = { everywhere = "first" },
    ["FUNCTION LIST"] = {}, ["FUNCTION STATS"] = {}, ["FUNCTION DUMP"] = {}, ["FUNCTION KILL"] = {},
    ["FUNCTION HELP"] = { reads = true }, ["CONFIG SET"] = { everywhere = "first" },
    ["CONFIG RESETSTAT"] = { everywhere = "first" }, ["CONFIG REWRITE"] = { everywhere = "first" },
}

local WITH_SUB <const> = { CONFIG = true, FUNCTION = true, MEMORY = true, OBJECT = true, SCRIPT = true, XGROUP = true,
    XINFO = true }

local KNOWN <const> = {}
for _, group in ipairs(GROUPS) do
    group.reads = group.reads or false
    for name in group.names:gmatch "%S+" do
        KNOWN[name] = group
    end
end

---The entry of a command; nil: unknown, ask the server (M.of_info).
---@param name string upper case
---@param argument any its first argument
---@return dbrun.redis.KeySpec?
function M.known(name, argument)
    if WITH_SUB[name] then
        local sub <const> = type(argument) == "string" and SUB[name .. " " .. argument:upper()]
        return sub or KNOWN[name] or {}
    end
    return KNOWN[name]
end

---@param name string in any case
---@return boolean
function M.is_command(name)
    return KNOWN[name:upper()] ~= nil or WITH_SUB[name:upper()] ~= nil
end

---The names of all commands in the table, in upper case.
---@return string[]
function M.commands()
    local list = {}
    for name in pairs(KNOWN) do
        list[#list + 1] = name
    end
    for name in pairs(WITH_SUB) do
        list[#list + 1] = name
    end
    table.sort(list)
    return list
end

---Makes an entry from the reply of COMMAND INFO.
---@param info table? its reply for one name
---@return dbrun.redis.KeySpec
function M.of_info(info)
    if type(info) ~= "table" then
        return {} -- the server does not know it: send it to any node, which refuses it
    end
    local flags = {}
    for _, flag in ipairs(info[3] or {}) do
        flags[flag] = true
    end
    local spec = { reads = flags.readonly or false, movable = flags.movablekeys }
    local from <const>, to <const>, step <const> = info[4], info[5], info[6]
    if not spec.movable and from and from > 0 then
        spec.find = range(from, to, math.max(step or 1, 1))
        spec.single = from == 1 and to == 1
    end
    return spec
end

return M
