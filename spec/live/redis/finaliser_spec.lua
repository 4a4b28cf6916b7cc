--- Finalisers of the script, which can run wherever Lua allocates: also between the check that a client is open and its
--- use, and while a reply becomes Lua values.

local core = require "dbrun.core"
local finaliser = require "spec.support.finaliser"
local finaliser_redis = require "spec.support.finaliser_redis"
local process = require "dbrun.process"
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

describe("a Redis pipeline that a finaliser uses at the program's end", function()
    it("is refused once it has been collected itself", function()
        local result <const> = process.run {
            core.options.program, "--no-env", "-e", [[
                local pipeline
                -- Finalisers run in the reverse order of their setmetatable: this one runs last.
                local last = setmetatable({}, { __gc = function()
                    for _, name in ipairs { "get", "blpop", "execute", "clear" } do
                        local ok, e
                        if name == "get" or name == "blpop" then
                            ok, e = pcall(pipeline[name], pipeline, "key", 1)
                        else
                            ok, e = pcall(pipeline[name], pipeline)
                        end
                        print(name, ok, e.kind, e.message)
                    end
                end })
                local client = require "dbrun.redis".client { url = os.getenv "REDIS_URL" }
                pipeline = client:pipeline()
                pipeline:get "key"
                kept = { last, pipeline }]],
            env = { REDIS_URL = servers.redis_db() }, timeout = 60,
        }
        assert.equal(0, result.code, result.stderr)
        local message <const> = "false\tusage\tredis: this pipeline was collected"
        assert.equal(("get\t%s\nblpop\t%s\nexecute\t%s\nclear\t%s\n"):format(message, message, message, message),
            result.stdout)
    end)
end)
