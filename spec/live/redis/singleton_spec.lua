-- redis.get(): one client for the whole program, made from the configuration.
local core = require "dbrun.core"
local process = require "dbrun.process"
local redis_server = require "spec.support.redis_server"

describe("redis.get()", function()
    local server

    setup(function()
        server = redis_server.start { args = { "--requirepass", "s3cret-pass" } }
    end)
    teardown(function()
        server:stop()
    end)

    --- Runs a script with this environment; returns its output and its exit status.
    local function run(env, code)
        env.REDIS_URL = env.REDIS_URL or "unix://:s3cret-pass@" .. server.socket
        local result <const> = process.run {
            core.options.program, "--no-env", "-e", code, env = env, stderr = "stdout",
        }
        return result.stdout, result.code
    end

    it("is one client, of the server that the environment names", function()
        local out <const>, code <const> = run({}, [[
            local redis = require "dbrun.redis"
            local r = redis.get()
            assert(r == redis.get() and r:ping() == "PONG")
            print(r:stats().max_connections)]])
        assert.equal("50\n", out)
        assert.equal(0, code)
    end)

    it("takes the size of its pool from REDIS_MAX_CONNECTIONS", function()
        local out <const> = run({ REDIS_MAX_CONNECTIONS = "7" }, [[
            local r = require("dbrun.redis").get()
            print(r:stats().max_connections)]])
        assert.equal("7\n", out)
    end)

    it("is a new client after redis.close()", function()
        local out <const> = run({}, [[
            local redis = require "dbrun.redis"
            redis.close()
            local r = redis.get()
            r:set("k", "v")
            redis.close()
            assert(not pcall(r.get, r, "k"))
            redis.close()
            assert(redis.get() ~= r)
            print(redis.get():get "k")
            redis.close()]])
        assert.equal("v\n", out)
    end)

    it("does not open a connection before a command needs one", function()
        local out <const> = run({ REDIS_URL = "redis://127.0.0.1:1" }, [[
            print(require("dbrun.redis").get():stats().open)]])
        assert.equal("0\n", out)
    end)

    it("an unreachable server ends the program with one clear error, and no password", function()
        local out <const>, code <const> = run({ REDIS_URL = "redis://app:s3cret-pass@127.0.0.1:1/0" }, [[
            require("dbrun.redis").get():ping()]])
        assert.equal(1, code)
        assert.matches("connection error: redis at 127.0.0.1:1: TCP: Connection refused", out, 1, true)
        assert.matches("HINT:", out, 1, true)
        assert.not_matches("s3cret", out, 1, true)
    end)

    it("a program with commands in flight ends at once", function()
        local out <const>, code <const> = run({}, [[
            local r, task = require("dbrun.redis").get(), require "dbrun.task"
            task.spawn(function() r:blpop("q", 0) end)
            task.spawn(function() while true do r:incr "n" end end)
            task.sleep(0.05)
            error "the end"]])
        assert.equal(1, code)
        assert.matches("the end", out)
        assert.not_matches("never closed", out)
    end)
end)
