--- The answers to Redis commands that write in a dry run. They follow from the arguments, as if the keys that a command
--- needs existed and those that it makes were new. A command whose answer depends on the server's data gets none;
--- arguments that every server refuses get the server's error.
local core <const> = require "dbrun.core"

local M = {}

---@alias dbrun.dry.Answer fun(args: (string|number)[]): any, string? nil: it depends on the server's data; or the
---  server's error

local function word(args, i)
    return args[i] and tostring(args[i]):upper()
end

local function always(value)
    return function() return value end
end

local OK <const>, ONE <const>, NONE <const> = always "OK", always(1), always(0)

--- The number of items from argument `from` on, with `step` arguments each.
local function count(from, step)
    return function(args)
        return (#args - from + 1) // (step or 1)
    end
end

-- ---- what the server refuses ----

local NO_INTEGER <const>, SYNTAX <const> = "ERR value is not an integer or out of range", "ERR syntax error"

local function integer(value)
    return math.type(value) == "integer" and value
        or type(value) == "string" and value:find "^%-?%d+$" and math.tointeger(tonumber(value)) or nil
end

--- A time from now, which is at least 1.
local function check_time(value, name)
    local n <const> = integer(value)
    if not n then
        return NO_INTEGER
    end
    return n <= 0 and ("ERR invalid expire time in '%s' command"):format(name) or nil
end

--- EXPIRE and the like: with a condition the answer depends on the key's expiry.
local function expire(args)
    if not integer(args[2]) then
        return nil, NO_INTEGER
    end
    return #args == 2 and 1 or nil
end

local function setex(name)
    return function(args)
        local wrong <const> = check_time(args[2], name)
        return not wrong and "OK" or nil, wrong
    end
end

local FLUSH <const> = { ASYNC = true, SYNC = true }

local function flush(args)
    if #args > 1 or #args == 1 and not FLUSH[word(args, 1)] then
        return nil, SYNTAX
    end
    return "OK"
end

local function xdel(args)
    for i = 2, #args do
        if not tostring(args[i]):find "^%d+$" and not tostring(args[i]):find "^%d+%-%d+$" then
            return nil, "ERR Invalid stream ID specified as stream command argument"
        end
    end
    return #args - 1
end

-- ---- commands with options ----

--- The number of arguments of options that do not change the answer.
local EXPIRY <const> = { EX = 1, PX = 1, EXAT = 1, PXAT = 1, KEEPTTL = 0 }

--- Whether there are only such options from argument `from` to `last`; and the server's error for them.
local function only_expiry(args, from, last, name)
    local i = from
    while i <= last do
        local takes <const> = EXPIRY[word(args, i)]
        if not takes then
            return false
        elseif i + takes > last then
            return false, SYNTAX
        end
        local wrong <const> = takes == 1 and check_time(args[i + 1], name)
        if wrong then
            return false, wrong
        end
        i = i + 1 + takes
    end
    return true
end

local function set(args)
    local fine <const>, wrong <const> = only_expiry(args, 3, #args, "set")
    return fine and "OK" or nil, wrong
end

--- MSETEX numkeys key value ... options
local function msetex(args)
    local keys <const> = integer(args[1])
    if not keys or keys <= 0 or #args < 1 + 2 * keys then
        return nil
    end
    local fine <const>, wrong <const> = only_expiry(args, 2 + 2 * keys, #args, "msetex")
    return fine and 1 or nil, wrong
end

--- HSETEX key options FIELDS numfields field value ...
local function hsetex(args)
    local fields = 2
    while fields <= #args and word(args, fields) ~= "FIELDS" do
        fields = fields + 1
    end
    local fine <const>, wrong <const> = only_expiry(args, 2, fields - 1, "hsetex")
    if fine and integer(args[fields + 1]) ~= (#args - fields - 1) / 2 then
        return nil, SYNTAX
    end
    return fine and 1 or nil, wrong
end

--- ZADD and GEOADD: options, then `step` arguments for each member.
local function members(step)
    return function(args)
        local i = 2
        while word(args, i) == "CH" do
            i = i + 1
        end
        local score <const> = args[i] and tostring(args[i])
        if not score or not tonumber(score) and not score:lower():find "^[+-]?inf" then
            return nil -- NX, XX, GT, LT, INCR
        elseif (#args - i + 1) % step ~= 0 then
            return nil, SYNTAX
        end
        return (#args - i + 1) // step
    end
end

--- HEXPIRE key seconds FIELDS n field ...: a list with one number for each field.
local function each_field(before)
    return function(args)
        if word(args, before + 1) ~= "FIELDS" then
            return nil -- a condition
        elseif integer(args[before + 2]) ~= #args - before - 2 then
            return nil, "ERR The `numfields` parameter must match the number of arguments"
        end
        local list <const> = {}
        for i = 1, #args - before - 2 do
            list[i] = 1
        end
        return list
    end
end

local function copy(args)
    return word(args, #args) == "REPLACE" and 1 or nil
end

local function script_load(args)
    return core.digest("sha1", tostring(args[2]))
end

-- ---- the table ----

--- The least number of arguments, and the answer. With fewer arguments the server refuses the command.
---@type table<string, {[1]: integer, [2]: dbrun.dry.Answer}>
local ANSWERS <const> = {
    SET = { 2, set }, SETEX = { 3, setex "setex" }, PSETEX = { 3, setex "psetex" },
    MSET = { 2, OK }, MSETEX = { 3, msetex },
    RENAME = { 2, OK }, RESTORE = { 3, OK }, COPY = { 2, copy },
    DEL = { 1, count(1) }, UNLINK = { 1, count(1) },
    EXPIRE = { 2, expire }, PEXPIRE = { 2, expire }, EXPIREAT = { 2, expire }, PEXPIREAT = { 2, expire },
    PERSIST = { 1, ONE },
    HSET = { 3, count(2, 2) }, HMSET = { 3, OK }, HDEL = { 2, count(2) }, HSETEX = { 5, hsetex },
    HEXPIRE = { 5, each_field(2) }, HPEXPIRE = { 5, each_field(2) }, HEXPIREAT = { 5, each_field(2) },
    HPEXPIREAT = { 5, each_field(2) }, HPERSIST = { 4, each_field(1) },
    SADD = { 2, count(2) }, SREM = { 2, count(2) },
    ZADD = { 3, members(2) }, ZREM = { 2, count(2) }, GEOADD = { 4, members(3) },
    LSET = { 3, OK }, LTRIM = { 3, OK },
    PFADD = { 1, ONE }, PFMERGE = { 1, OK },
    XDEL = { 2, xdel }, XACK = { 3, count(3) }, XSETID = { 2, OK },
    ["XGROUP CREATE"] = { 4, OK }, ["XGROUP SETID"] = { 4, OK }, ["XGROUP DESTROY"] = { 3, ONE },
    ["XGROUP CREATECONSUMER"] = { 4, ONE },
    PUBLISH = { 2, NONE }, SPUBLISH = { 2, NONE },
    FLUSHDB = { 0, flush }, FLUSHALL = { 0, flush }, SWAPDB = { 2, OK },
    ["SCRIPT LOAD"] = { 2, script_load }, ["SCRIPT FLUSH"] = { 1, OK },
    ["FUNCTION DELETE"] = { 2, OK }, ["FUNCTION FLUSH"] = { 1, OK },
    ["CONFIG SET"] = { 3, OK }, ["CONFIG RESETSTAT"] = { 1, OK }, ["CONFIG REWRITE"] = { 1, OK },
    ["ACL SETUSER"] = { 2, OK }, ["ACL DELUSER"] = { 2, count(2) }, ["ACL SAVE"] = { 1, OK }, ["ACL LOAD"] = { 1, OK },
    ["ACL LOG"] = { 1, OK }, ["SLOWLOG RESET"] = { 1, OK }, ["COMMANDLOG RESET"] = { 2, OK },
    ["CLIENT PAUSE"] = { 2, OK }, ["CLIENT UNPAUSE"] = { 1, OK }, ["MEMORY PURGE"] = { 1, OK },
}

--- Commands whose arguments are pairs from this position on.
local PAIRS <const> = { MSET = 1, HSET = 2, HMSET = 2, ["CONFIG SET"] = 2 }

---The answer that follows from the arguments.
---@param name string upper case, with the subcommand
---@param args (string|number)[]
---@return any answer nil: it depends on what the server has
---@return string? wrong the error that the server has for these arguments
function M.of(name, args)
    local entry <const> = ANSWERS[name]
    if not entry then
        return nil
    end
    local pairs_from <const> = PAIRS[name]
    if #args < entry[1] or pairs_from and (#args - pairs_from) % 2 == 0 then
        return nil, ("ERR wrong number of arguments for '%s' command"):format(name:lower():gsub(" ", "|"))
    end
    return entry[2](args)
end

-- ---- why there is no answer ----

local function all(reason, hint, names)
    local list <const> = {}
    for name in names:gmatch "[^;]+" do
        list[name:match "^%s*(.-)%s*$"] = { reason, hint }
    end
    return list
end

local SCRIPTS <const> = all("what a script writes is known only when it has run",
    "a script that only reads can run: EVAL_RO, EVALSHA_RO, FCALL_RO, or r:library with the flag no-writes",
    "EVAL; EVALSHA; FCALL; FUNCTION LOAD; FUNCTION RESTORE")

local SERVER <const> = all("it acts on the server or its clients, and nothing in their place can be shown", nil, [[
    BGREWRITEAOF; BGSAVE; CLIENT; CLIENT KILL; CLIENT UNBLOCK; CLUSTER; COMMANDLOG; CONFIG; DEBUG; FAILOVER;
    FUNCTION; FUNCTION KILL; HOTKEYS; HOTKEYS RESET; HOTKEYS START; HOTKEYS STOP; LATENCY; LATENCY RESET; MEMORY;
    MIGRATE; MODULE; MODULE LOAD; MODULE LOADEX; MODULE UNLOAD; PFDEBUG; PFSELFTEST; REPLICAOF; SAVE; SCRIPT;
    SCRIPT KILL; SENTINEL; SHUTDOWN; SLAVEOF; SLOWLOG]])

local MESSAGES <const> = all("it takes messages for this consumer, which a dry run cannot give back",
    "XRANGE, XREAD and XPENDING show messages without taking them",
    "XREADGROUP; XCLAIM; XAUTOCLAIM")

local HINTS <const> = {
    SET = "without NX, XX and GET it is answered OK; r:lock(name) works in a dry run",
    SETNX = "r:lock(name) works in a dry run; SET without NX is answered OK",
    GETSET = "GET shows the value", GETDEL = "GET shows the value", GETEX = "GET shows the value",
    HGETDEL = "HMGET shows the values", HGETEX = "HMGET shows the values",
    SPOP = "SRANDMEMBER shows a member", LPOP = "LINDEX and LRANGE show the elements",
    RPOP = "LINDEX and LRANGE show the elements", ZPOPMIN = "ZRANGE shows the members",
    ZPOPMAX = "ZRANGE shows the members",
}

local LEAVE_OUT <const> = 'what needs its answer can be left out: if not require("dbrun").dry_run then ... end'

---Why a command cannot be answered, and what to do.
---@param name string upper case, with the subcommand
---@return string reason
---@return string hint
function M.why_not(name)
    local first <const> = name:match "^%S+"
    local known <const> = SCRIPTS[name] or MESSAGES[name] or SERVER[name] or SERVER[first]
    local hint = known and known[2] or HINTS[name]
    if not hint and core.redis.fact(name .. "_RO") then
        hint = name .. "_RO does the same, and never writes"
    end
    return known and known[1] or "its answer depends on what the server has by then",
        hint and hint .. "; " .. LEAVE_OUT or LEAVE_OUT
end

return M
