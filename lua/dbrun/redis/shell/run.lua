--- One Redis command for people: commands that cannot be run alone are refused with the remedy, and endless ones
--- (SUBSCRIBE) run until they are interrupted.
local args = require "dbrun.args"
local errors = require "dbrun.error"

local M = {}

local ADDRESS <const> = "the database is a part of the address: REDIS_URL=redis://host:6379/3, or REDIS_DB=3"
local LOGIN <const> = "name and password are a part of the address: REDIS_URL=redis://name:password@host:6379"
local MULTI <const> = "each command here has a connection for itself; a script has transactions: r:multi(function(tx) "
    .. "... end)"

local REFUSED <const> = {
    SELECT = ADDRESS, AUTH = LOGIN, HELLO = LOGIN, MULTI = MULTI, EXEC = MULTI, DISCARD = MULTI,
    WATCH = MULTI, UNWATCH = MULTI,
    MONITOR = "redis-cli monitor shows what the server does; SLOWLOG GET shows what took long",
    SYNC = "redis-cli --rdb FILE takes a copy of the data", PSYNC = "redis-cli --rdb FILE takes a copy of the data",
    QUIT = "the connection is closed by itself", RESET = "each command here has a connection for itself",
    UNSUBSCRIBE = "Ctrl-C ends SUBSCRIBE", PUNSUBSCRIBE = "Ctrl-C ends PSUBSCRIBE",
    SUNSUBSCRIBE = "Ctrl-C ends SSUBSCRIBE",
}

--- Commands whose reply is a text report: redis-cli prints it unquoted even on a terminal.
local REPORTS <const> = {
    INFO = true, LOLWUT = true, ["MEMORY DOCTOR"] = true, ["MEMORY MALLOC-STATS"] = true, ["LATENCY DOCTOR"] = true,
    ["LATENCY GRAPH"] = true, ["CLUSTER NODES"] = true, ["CLUSTER INFO"] = true, ["CLIENT LIST"] = true,
    ["CLIENT INFO"] = true, ["DEBUG HTSTATS"] = true, ["DEBUG HTSTATS-KEY"] = true, ["PROXY INFO"] = true,
}

--- Commands whose reply is a list of names and values.
local PAIRS <const> = {
    HGETALL = true, ["CONFIG GET"] = true, ["PUBSUB NUMSUB"] = true, ["PUBSUB SHARDNUMSUB"] = true,
    ["MEMORY STATS"] = true, ["XINFO STREAM"] = true, ["ACL GETUSER"] = true, ["CLIENT TRACKINGINFO"] = true,
}

local STREAMS <const> = { SUBSCRIBE = "subscribe", PSUBSCRIBE = "psubscribe", SSUBSCRIBE = "ssubscribe" }

---@class dbrun.redis.shell.Kind facts about a command before it is sent
---@field report boolean its reply is a report of several lines
---@field pairwise boolean its reply is a list of names and values
---@field stream? string the client's method for a command that sends messages until it is interrupted

---Classifies a command, and refuses one that cannot be run by itself.
---@param words string[] the command and its arguments
---@return dbrun.redis.shell.Kind
---Raises an error of kind `usage`.
function M.kind(words)
    args.list("redis.shell.kind", "the words", words, "string")
    local name <const> = (words[1] or ""):upper()
    local both <const> = words[2] and name .. " " .. words[2]:upper()
    if not name:find "^%a[%w_.:|-]*$" then
        errors.fail("usage", ("'%s' is not a command of Redis"):format(words[1] or ""),
            "dbrun redis GET KEY: the command is the first word, each argument a separate word")
    end
    local instead <const> = REFUSED[name] or both == "CLIENT REPLY" and "the reply is what is printed here"
    if instead then errors.fail("usage", ("%s cannot be run by itself"):format(both == "CLIENT REPLY" and both or name),
        instead) end
    return {
        report = REPORTS[name] or REPORTS[both] or false, pairwise = PAIRS[name] or PAIRS[both] or false,
        stream = STREAMS[name],
    }
end

---Runs a command and returns its typed reply; see `r:with { typed = true }`.
---@param client dbrun.redis.Client
---@param words string[]
---@return any reply an error reply is raised
function M.call(client, words)
    args.list("redis.shell.call", "the words", words, "string")
    return client:with({ typed = true, timeout = math.huge }):call(table.unpack(words))
end

--- A message as the list that the server sent.
local function list_of(m, stream)
    if m.pattern then return { "pmessage", m.pattern, m.channel, m.payload } end
    return { stream == "ssubscribe" and "smessage" or "message", m.channel, m.payload }
end

---Subscribes, and calls fn(reply) with each message as a list, until the task is cancelled.
---@param client dbrun.redis.Client
---@param words string[] SUBSCRIBE and channels
---@param kind dbrun.redis.shell.Kind
---@param fn fun(reply: any)
---@param lost fun(why: string) called after a lost connection: messages may have been missed
function M.stream(client, words, kind, fn, lost)
    if #words < 2 then
        errors.fail("usage", ("%s needs a channel"):format(words[1]:upper()), ("dbrun redis %s news"):format(words[1]))
    end
    local subscription <close> = client[kind.stream](client, table.unpack(words, 2))
    for i = 2, #words do fn { kind.stream, words[i], i - 1 } end
    for message in subscription:messages() do
        if message.kind == "gap" then lost(tostring(message.reason)) else fn(list_of(message, kind.stream)) end
    end
end

return M
