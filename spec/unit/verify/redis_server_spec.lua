-- The server's name and version in verify, from the INFO of different servers.
local expect = require "dbrun.verify.expect"
local redis_server = require "dbrun.verify.redis_server"

describe("the server of an INFO", function()
    local function identify(info)
        local server <const> = redis_server.identify(info)
        return server.name .. " " .. tostring(server.version)
    end

    it("is Redis with its version", function()
        assert.equal("Redis 7.0.15", identify { redis_version = "7.0.15", redis_mode = "standalone" })
        assert.equal("Redis 8.6.0", identify { redis_version = "8.6.0", server_name = "redis" })
        assert.equal("Redis nil", identify {})
    end)

    it("is Valkey with its own version, and not the one of Redis that it names for old clients", function()
        assert.equal("Valkey 9.1.0",
            identify { redis_version = "7.2.4", server_name = "valkey", valkey_version = "9.1.0" })
        -- With extended-redis-compatibility it calls itself redis.
        assert.equal("Valkey 9.1.0",
            identify { redis_version = "7.2.4", server_name = "redis", valkey_version = "9.1.0" })
        assert.equal("Valkey 8.0.1", identify { redis_version = "7.2.4", valkey_version = "8.0.1" })
    end)

    it("is compared by its own version", function()
        local version <const> = redis_server.identify {
            redis_version = "7.2.4", server_name = "valkey", valkey_version = "9.1.0",
        }.version
        assert.is_true(expect.version_fits(version, ">= 8"))
        assert.is_false(expect.version_fits(version, "7"))
    end)

    it("is read from INFO, each line when it is requested", function()
        local info = require("dbrun.verify.checks_redis").info "# Server\r\nredis_version:7.2\r\nos:\r\nx_os:a:b\r\n"
        assert.same({ "7.2", "", "a:b" }, { info.redis_version, info.os, info.x_os })
        assert.is_nil(info.version)
        assert.equal("7.0", require("dbrun.verify.checks_redis").info "role:x\nv:7.0".v)
    end)
end)
