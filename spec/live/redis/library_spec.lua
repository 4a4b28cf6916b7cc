-- Functions that run on the server: r:library.
local core = require "dbrun.core"
local fails = require "spec.support.fails"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local SOURCE <const> = [[#!lua name=shelf
redis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)
redis.register_function{
    function_name = 'peek', flags = { 'no-writes' }, callback = function(keys) return redis.call('get', keys[1]) end,
}
redis.register_function('fail', function() return redis.error_reply('MINE it fails') end)
]]

--- Redis 7.0 has functions; on an older server these specs are pending.
local function lacks_functions(r)
    local version <const> = r:info "server":match "redis_version:(%d+)"
    return math.tointeger(version) < 7 and ("Redis %s has no functions"):format(version)
end

describe("r:library", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    local function with_functions(name, fn)
        it(name, function()
            local reason <const> = lacks_functions(r)
            if reason then
                return pending(reason)
            end
            r:call("FUNCTION", "FLUSH")
            fn()
        end)
    end

    --- The number of calls of commands on the server.
    local function calls(command)
        return math.tointeger(r:info "commandstats":match("cmdstat_" .. command .. ":calls=(%d+)") or 0)
    end

    with_functions("loads the library at the first call, and then only calls", function()
        local lib <const> = r:library(SOURCE)
        assert.equal("shelf", lib.name)
        r:config "RESETSTAT"
        assert.equal("OK", lib:call("put", { "k" }, { "v" }))
        for _ = 1, 10 do
            assert.equal("v", lib:call("peek", { "k" }))
        end
        assert.same({ 1, 1, 10 }, { calls "function|load", calls "fcall", calls "fcall_ro" })
    end)

    with_functions("gives replies with their types to a client that wants them", function()
        local lib <const> = r:with({ typed = true }):library(SOURCE)
        assert.same({ status = "OK" }, lib:call("put", { "k" }, { "v" }))
        assert.equal("v", lib:call("peek", { "k" }))
    end)

    with_functions("loads once for many tasks", function()
        local lib <const> = r:library(SOURCE)
        r:config "RESETSTAT"
        task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, 8, function(i) return lib:call("put", { "k" .. i }, { i }) end)
        assert.equal(1, calls "function|load")
        r:call("FUNCTION", "FLUSH")
        task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, 8, function(i) return lib:call("put", { "k" .. i }, { i }) end)
        assert.equal(2, calls "function|load")
    end)

    with_functions("takes the place of an older one of the same name", function()
        r:call("FUNCTION", "LOAD", "#!lua name=shelf\nredis.register_function('peek', function() return 'old' end)")
        r:set("k", "new")
        assert.equal("new", r:library(SOURCE):call("peek", { "k" }))
        local other <const> = r:library "#!lua name=shelf\nredis.register_function('peek', function() return 2 end)"
        assert.equal(2, other:call "peek")
    end)

    with_functions("loads again when the server has lost it", function()
        local lib <const> = r:library(SOURCE)
        lib:call("put", { "k" }, { "v" })
        r:call("FUNCTION", "FLUSH")
        assert.equal("v", lib:call("peek", { "k" }))
        server:restart() -- it restarts empty
        assert.equal("OK", lib:call("put", { "k" }, { "w" }))
        lib:load()
        assert.equal("w", lib:call("peek", { "k" }))
    end)

    with_functions("passes on the errors of functions, and those of the source", function()
        assert.equal("MINE", fails("redis", r:library(SOURCE).call, r:library(SOURCE), "fail").code)
        local broken <const> = r:library "#!lua name=broken\nthis is no Lua"
        local e = fails("redis", broken.call, broken, "f")
        assert.matches("Error compiling function", e.message)
        assert.equal("the library 'broken' was not loaded", e.hint)
        r:library(SOURCE):load()
        local other <const> = r:library "#!lua name=other\nredis.register_function('peek', function() return 1 end)"
        e = fails("redis", other.call, other, "peek")
        assert.matches("the library 'other' was not loaded; another library has this function", e.hint)
    end)

    with_functions("does not call again a function that says itself that one is not found", function()
        local lib <const> = r:library [[#!lua name=asks
            redis.register_function('ask', function(keys)
                redis.call('incr', keys[1])
                return redis.error_reply('ERR Function not found in the list')
            end)]]
        assert.matches("in the list", fails("redis", lib.call, lib, "ask", { "n" }).message)
        assert.equal("1", r:get "n")
    end)

    with_functions("tells which functions there are when one is not there", function()
        local lib <const> = r:library(SOURCE)
        local e <const> = fails("usage", lib.call, lib, "pek")
        assert.matches("the library 'shelf' has no function 'pek'", e.message)
        assert.equal("it has fail, peek, put", e.hint)
    end)

    with_functions("works in a program that only reads, when the server has this library", function()
        local code <const> = [[
            local r = require "dbrun.redis".client { url = %q }
            local lib = r:library(%q)
            print(pcall(lib.call, lib, "peek", { "k" }))
            print(pcall(lib.call, lib, "put", { "k" }, { "w" }))]]
        local function run()
            return process.run {
                core.options.program, "--no-env", "--read-only", "-e", code:format(server.url, SOURCE),
            }
        end
        r:set("k", "v")
        assert.matches("FUNCTION LOAD may write, and this program runs with %-%-read%-only", run().stdout)
        r:library(SOURCE):load()
        local out <const> = run().stdout
        assert.matches("^true\tv\nfalse\t", out)
        assert.matches("FCALL may write, and this program runs with %-%-read%-only", out)
    end)

    with_functions("works on a replica, which has the library from its primary", function()
        local replica <const> = redis_server.start { args = { "--replicaof", "127.0.0.1", "1" } }
        local _ <close> = setmetatable({}, { __close = function() replica:stop() end })
        local other <close> = redis.client { url = replica.url }
        local lib <const> = other:library(SOURCE)
        assert.equal("READONLY", fails("redis", lib.call, lib, "peek", { "k" }).code)
        replica:cli("replicaof", "no", "one")
        replica:cli("set", "k", "v")
        replica:cli("function", "load", SOURCE)
        replica:cli("replicaof", "127.0.0.1", "1")
        assert.equal("v", lib:call("peek", { "k" }))
        assert.equal("READONLY", fails("redis", lib.call, lib, "put", { "k" }, { "w" }).code)
        replica:cli("replicaof", "no", "one")
    end)

    it("gives a hint on a server without functions", function()
        local old <const> = redis_server.start { args = { "--rename-command", "FUNCTION", '""' } }
        local _ <close> = setmetatable({}, { __close = function() old:stop() end })
        local other <close> = redis.client { url = old.url }
        local e <const> = fails("redis", function() other:library(SOURCE):call "peek" end)
        assert.matches("the library 'shelf' cannot be loaded: the server has no functions", e.message)
        assert.matches("Redis 7.0", e.hint)
    end)

    it("checks its arguments", function()
        for _, wrong in ipairs { "return 1", "#!lua\nreturn 1", "#!lua name=\n", 5, "#!lua name=a-b\n" } do
            assert.matches("#!lua name=NAME", fails("usage", r.library, r, wrong).message, 1, true)
        end
        local lib <const> = r:library(SOURCE)
        fails("usage", lib.call, lib)
        fails("usage", lib.call, lib, "peek", "k")
        fails("usage", lib.call, lib, "peek", { "k" }, 5)
        fails("usage", lib.call, lib, "peek", { "k" }, {}, 5)
        fails("usage", lib.call, "peek")
        fails("usage", function() return lib.fcall end)
    end)
end)

describe("r:library of a cluster", function()
    local cluster, r
    setup(function()
        cluster = redis_cluster.start()
        r = redis.client { url = cluster.url }
    end)
    teardown(function()
        r:close()
        cluster:stop()
    end)

    it("loads it on all primaries, and again where it was lost", function()
        if lacks_functions(r:nodes()[1].client) then
            return pending "the server has no functions"
        end
        local lib <const> = r:library(SOURCE)
        for round = 1, 2 do
            for i = 1, 30 do
                assert.equal("OK", lib:call("put", { "key" .. i }, { i + round }))
                assert.equal(tostring(i + round), lib:call("peek", { "key" .. i }))
            end
            for i, node in ipairs(r:nodes()) do
                if node.role == "primary" then
                    assert.equal("shelf", node.client:call("FUNCTION", "LIST")[1].library_name)
                    if i < 4 then
                        node.client:call("FUNCTION", "FLUSH")
                    end
                end
            end
        end
    end)

    it("calls read-only functions on replicas", function()
        if lacks_functions(r:nodes()[1].client) then
            return pending "the server has no functions"
        end
        r:close()
        assert.is_true(redis_server.wait_until(20, function() -- until the nodes list the replicas
            r = redis.client { url = cluster.url }
            local whole <const> = #r:nodes() == 6
            return whole or r:close()
        end))
        local lib <const> = r:with { read_from = "replica" }:library(SOURCE)
        lib:call("put", { "k" }, { "v" })
        local function total(role)
            local n = 0
            for _, node in ipairs(r:nodes()) do
                if node.role == role then
                    n = n + (node.client:info "commandstats":match "cmdstat_fcall_ro:calls=(%d+)" or 0)
                end
            end
            return n
        end
        assert.is_true(redis_server.wait_until(10, function()
            return lib:call("peek", { "k" }) == "v" and total "replica" > 0
        end))
        local before <const> = total "primary"
        for _ = 1, 20 do
            assert.equal("v", lib:call("peek", { "k" }))
        end
        assert.equal(before, total "primary")
    end)
end)
