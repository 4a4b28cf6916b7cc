-- The keys of commands: the client's table agrees with the server's COMMAND GETKEYS, for each command of the server
-- that has keys, with random arguments in which keys and values look like options.
local errors = require "dbrun.error"
local keys = require "dbrun.redis.keys"
local redis_server = require "spec.support.redis_server"
local rounds = require("spec.support.rounds").of

local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(0, 999)

local WORDS <const> = { "k1", "k2", "k3", "store", "STORE", "StoreDist", "withscores", "streams", "STREAMS", "count",
    "KEYS", "keys", "get", "BY", "limit", "1", "2", "3", "0", "-1", "GROUP", "block", "noack", "justid", "AUTH",
    "auth2", "copy", "replace", "asc", "{tag}", "incr", "idx", "", "\0\r\n", "WEIGHTS", "aggregate" }

local function word()
    return WORDS[math.random(#WORDS)]
end

local function add(list, ...)
    for i = 1, select("#", ...) do
        list[#list + 1] = (select(i, ...))
    end
    return list
end

local function add_words(list, n)
    for _ = 1, n do
        add(list, word())
    end
    return list
end

--- Some of these options in any order, each with its number of values: words, or numbers where necessary.
local function add_options(list, options)
    for _ = 1, #options > 0 and math.random(0, 4) or 0 do
        local option <const> = options[math.random(#options)]
        add(list, math.random(2) == 1 and option[1] or option[1]:lower())
        for _ = 1, option[2] do
            add(list, option.number and tostring(math.random(9)) or word())
        end
    end
    return list
end

local function counted(fixed, options)
    return function()
        local list, n <const> = add_words({}, fixed), math.random(1, 4)
        add(list, tostring(n))
        return add_options(add_words(list, n), options or {})
    end
end

local GEO <const> = { { "WITHCOORD", 0 }, { "WITHDIST", 0 }, { "ASC", 0 } }
local SORT <const> = { { "BY", 1 }, { "LIMIT", 2, number = true }, { "GET", 1 }, { "ASC", 0 }, { "ALPHA", 0 } }
local COUNT <const>, BLOCK <const> = { "COUNT", 1, number = true }, { "BLOCK", 1, number = true }
local SETS <const> = { { "AGGREGATE", 1 }, { "WITHSCORES", 0 } }

--- Options before and after at most one destination, which does not have the name of an option: GETKEYS would treat it
--- as that option, although the command does not.
local function stored(fixed, options, words)
    return function()
        local list <const> = add_options(add_words({}, fixed), options)
        if math.random(2) == 1 then
            add(list, words[math.random(#words)], math.random(2) == 1 and "streams" or "k2")
        end
        return add_options(list, options)
    end
end

local function streams(list, options)
    add_options(list, options)
    add(list, "STREAMS")
    return add_words(list, 2 * math.random(1, 3))
end

--- Commands whose arguments need a certain form for the server to find the keys.
local FORMS <const> = {
    SORT = stored(1, SORT, { "STORE", "store" }), GEORADIUS = stored(5, GEO, { "store", "STOREDIST" }),
    GEORADIUSBYMEMBER = stored(4, GEO, { "STORE", "storedist" }),
    XREAD = function() return streams({}, { COUNT, BLOCK }) end,
    XREADGROUP = function()
        return streams({ "GROUP", word(), word() }, { COUNT, BLOCK, { "NOACK", 0 } })
    end,
    MIGRATE = function()
        local several <const> = math.random(2) == 1
        local list <const> = { word(), word(), several and "" or "k", word(), word() }
        add_options(list, { { "COPY", 0 }, { "REPLACE", 0 }, { "AUTH", 1 }, { "AUTH2", 2 } })
        return several and add_words(add(list, "KEYS"), math.random(1, 3)) or list
    end,
    EVAL = counted(1), EVALSHA = counted(1), EVAL_RO = counted(1), EVALSHA_RO = counted(1), FCALL = counted(1),
    FCALL_RO = counted(1), BLMPOP = counted(1, { { "LEFT", 0 }, { "COUNT", 1 } }),
    BZMPOP = counted(1, { { "MIN", 0 }, { "COUNT", 1 } }), LMPOP = counted(0, { { "LEFT", 0 } }),
    ZMPOP = counted(0, { { "MIN", 0 } }), SINTERCARD = counted(0, { { "LIMIT", 1 } }),
    ZINTERCARD = counted(0, { { "LIMIT", 1 } }), ZDIFF = counted(0, { { "WITHSCORES", 0 } }), ZINTER = counted(0, SETS),
    ZUNION = counted(0, SETS), ZDIFFSTORE = counted(1), ZINTERSTORE = counted(1, SETS), ZUNIONSTORE = counted(1, SETS),
}

--- Arguments for a command with a known number of arguments.
local function any_form(arity)
    local least <const> = math.abs(arity) - 1
    return add_words({}, arity > 0 and least or least + math.random(0, 4))
end

--- Their channels choose the node as keys do, but are not keys for GETKEYS.
local CHANNELS <const> = { spublish = true, ssubscribe = true, sunsubscribe = true }

--- All commands that have keys: name, subcommand, and number of arguments.
local function commands_of(client)
    local list = {}
    local function consider(info, name, sub)
        local movable = false
        for _, flag in ipairs(info[3]) do
            movable = movable or flag == "movablekeys"
        end
        if (info[4] > 0 or movable) and not CHANNELS[name] then
            list[#list + 1] = { name = name:upper(), sub = sub and sub:upper(), arity = info[2] }
        end
    end
    for _, info in ipairs(client:command()) do
        for _, sub in ipairs(info[10]) do
            consider(sub, info[1], sub[1]:match "|(.*)")
        end
        if #info[10] == 0 then
            consider(info, info[1])
        end
    end
    table.sort(list, function(a, b) return a.name .. (a.sub or "") < b.name .. (b.sub or "") end)
    return list
end

local function arguments(command)
    local form <const> = FORMS[command.name]
    if form then
        return form()
    elseif not command.sub then
        return any_form(command.arity)
    end
    local list <const> = any_form(command.arity > 0 and command.arity - 1 or command.arity + 1)
    table.insert(list, 1, math.random(2) == 1 and command.sub or command.sub:lower())
    return list
end

local function shown(list)
    local quoted = {}
    for i, text in ipairs(list) do
        quoted[i] = ("%q"):format(text)
    end
    return table.concat(quoted, " ")
end

describe("the keys of a command", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end)

    it("are those that the server finds", function()
        print("# DBRUN_TEST_SEED=" .. seed)
        math.randomseed(seed)
        local commands <const>, n <const> = commands_of(r), rounds(60)
        local compared, without = 0, {}
        for _, command in ipairs(commands) do
            local lists, found = {}, 0
            local replies <const> = r:pipeline(function(p)
                for i = 1, n do
                    lists[i] = arguments(command)
                    p:command("GETKEYS", command.name, lists[i])
                end
            end)
            for i, list in ipairs(lists) do
                local spec <const> = keys.known(command.name, list[1])
                assert.is_table(spec, command.name)
                if not errors.is(replies[i]) then
                    assert.equal(shown(replies[i]), shown(keys.of(spec, list, #list)),
                        ("%s %s (DBRUN_TEST_SEED=%d)"):format(command.name, shown(list), seed))
                    found = found + 1
                end
            end
            compared = compared + found
            without[#without + 1] = found == 0 and command.name or nil
        end
        assert.equal("", table.concat(without, " "))
        print(("compared %d lists of arguments of %d commands"):format(compared, #commands))
    end)

    it("are found when the specification of Redis says unknown", function()
        local function of(name, ...)
            local args <const> = { ... }
            return shown(keys.of(keys.known(name, args[1]), args, #args))
        end
        assert.equal('"k" "d"', of("SORT", "k", "BY", "store", "GET", "#", "STORE", "d"))
        assert.equal('"k"', of("SORT", "k", "BY", "store"))
        assert.equal('"streams"', of("XREADGROUP", "GROUP", "streams", "STREAMS", "STREAMS", "streams", ">"))
        assert.equal('"STORE" "d"', of("GEORADIUSBYMEMBER", "STORE", "store", "1", "km", "STOREDIST", "d"))
        assert.equal('"a" "b"', of("MIGRATE", "keys", "1", "", "0", "1", "AUTH", "KEYS", "KEYS", "a", "b"))
    end)

    it("of commands that this server does not have yet", function()
        for _, text in ipairs { "HGETEX h FIELDS 1 a", "HSETEX h FIELDS 1 a b", "HTTL h FIELDS 1 a", "VSIM h ELE e",
            "XACKDEL h g IDS 1 1-0", "DELEX h IFEQ x", "DELIFEQ h x", "HPEXPIRE h 1 FIELDS 1 a", "DIGEST h" } do
            local args = {}
            for one in text:gmatch "%S+" do
                args[#args + 1] = one
            end
            local name <const> = table.remove(args, 1)
            assert.equal('"h"', shown(keys.of(keys.known(name, args[1]), args, #args)), text)
        end
        assert.equal('"a" "b"', shown(keys.of(keys.known("MSETEX", "2"), { "2", "a", "1", "b", "2", "EX", "5" }, 7)))
        assert.is_nil(keys.known("NOSUCH", "x"))
    end)

    it("of the subcommands of a module are those that the server reports", function()
        local function told(name, first, subcommands)
            return { name, -2, { "readonly" }, first, first, 1, {}, {}, {}, subcommands or {} }
        end
        local spec <const> = keys.of_info(told("mod", 0, { told("mod|get", 2), told("mod|help", 0) }))
        assert.is_false(spec.keys)
        assert.equal('"k"', shown(keys.of(spec.of_server.GET, { "get", "k", "v" }, 3)))
        assert.is_false(spec.of_server.HELP.keys)
        assert.is_nil(keys.of_info(told("plain", 1)).of_server)
    end)
end)
