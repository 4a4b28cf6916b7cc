--- Each public function of the databases refuses arguments that its annotation does not allow; see
--- spec/unit/public_spec.lua for the others.
local annotations = require "dbrun.manual.annotations"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local walk = require "spec.support.walk"

describe("public functions of the databases", function()
    local server, walked, engine, client, of_cursor
    setup(function()
        server = redis_server.start()
        engine = pg.engine { size = 10 }
        client = redis.client { url = server.url }
        -- The first call of one of these loads the module with its annotations.
        for _, name in ipairs { "consume", "library", "subscribe" } do
            assert.is_true(errors.is(select(2, pcall(client[name], client, false)), "usage"))
        end
        local files = {}
        local p <close> = assert(io.popen "find lua/dbrun -name '*.lua'")
        for file in p:lines() do files[#files + 1] = file end
        walked = walk.new {
            all = annotations.read(files),
            make = {
                ["dbrun.Error"] = function() return errors.new { kind = "usage", message = "x" } end,
                ["dbrun.Engine"] = function() return engine end,
                ["dbrun.Connection"] = function() return engine:acquire() end,
                ["dbrun.Session"] = function() return engine:session() end,
                ["dbrun.Listener"] = function() return engine:listen "channel" end,
                ["dbrun.Cursor"] = function()
                    of_cursor = engine:acquire()
                    of_cursor:exec "begin"
                    return of_cursor:cursor "select 1"
                end,
                ["dbrun.Pipeline"] = function()
                    local made
                    pcall(engine.pipeline, engine, function(pipeline)
                        made = pipeline
                        error "it is a pipeline only until its function returns"
                    end)
                    return made
                end,
                ["dbrun.redis.Pool"] = function() return redis.pool { url = server.url } end,
                ["dbrun.redis.Client"] = function() return client end,
                ["dbrun.redis.Connection"] = function() return client:acquire() end,
                ["dbrun.redis.Pipeline"] = function() return client:pipeline() end,
                ["dbrun.redis.Subscription"] = function() return client:subscribe "channel" end,
                ["dbrun.redis.Lock"] = function() return client:lock "lock" end,
            },
            values = { sql = "select 1", key = "key" },
            accepted = {
                ["conn:copy_in opts = function"] = "what stands behind an iterator is its state",
                ["conn:copy_in opts = userdata"] = "what stands behind an iterator is its state",
                ["engine:copy_in opts = function"] = "what stands behind an iterator is its state",
                ["engine:copy_in opts = userdata"] = "what stands behind an iterator is its state",
                ["session:copy_in opts = function"] = "what stands behind an iterator is its state",
                ["session:copy_in opts = userdata"] = "what stands behind an iterator is its state",
                ["pipeline:exec sql"] = "it is pipeline:query, which its errors name",
            },
        }
    end)
    teardown(function()
        of_cursor:release()
        engine:close()
        client:close()
        server:stop()
    end)

    local CLASSES = {
        { "engine", "dbrun.Engine" }, { "conn", "dbrun.Connection" }, { "session", "dbrun.Session" },
        { "listener", "dbrun.Listener" }, { "cursor", "dbrun.Cursor" }, { "pipeline", "dbrun.Pipeline" },
        { "pool", "dbrun.redis.Pool" }, { "client", "dbrun.redis.Client" },
        { "connection", "dbrun.redis.Connection" }, { "batch", "dbrun.redis.Pipeline" },
        { "subscription", "dbrun.redis.Subscription" }, { "lock", "dbrun.redis.Lock" },
    }

    it("refuse what their annotations do not allow", function()
        walked:module("db", db, "lua/dbrun/db.lua")
        walked:module("redis", redis, "lua/dbrun/redis.lua")
        for _, class in ipairs(CLASSES) do walked:methods(class[1], class[2]) end
        print(("# %d functions, %d calls"):format(walked.functions, walked.calls))
        assert.equal("", table.concat(walked:finish(), "\n"))
    end)
end)
