--- Finalisers of the script's, which may run wherever Lua allocates: also between the moment at which a client is seen
--- to be open and the one at which it is used, and while a reply becomes Lua values.

local finaliser = require "spec.support.finaliser"
local finaliser_redis = require "spec.support.finaliser_redis"
local servers = require "spec.support.servers"

describe("a finaliser that uses Redis handles", function()
    local url
    setup(function() url = servers.redis_db() end)

    for _, entry in ipairs(finaliser_redis.done) do
        it("at any moment of: " .. entry[1], function()
            finaliser.run("finaliser_redis.lua", url, entry[1])
        end)
        it("in a stock lua5.4, where it can wait, at any moment of: " .. entry[1], function()
            finaliser.run_stock("finaliser_redis.lua", url, entry[1])
        end)
    end
end)

describe("a Redis handle that is finalised by hand while a task waits on it", function()
    local url
    setup(function() url = servers.redis_db() end)

    it("is closed, and the task gets an error", function()
        finaliser.run("finaliser_by_hand.lua", url)
    end)
end)
