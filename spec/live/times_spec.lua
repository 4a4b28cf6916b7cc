--- Durations in options, URLs and the environment: invalid ones are refused with a message, huge ones are no limit.
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local servers = require "spec.support.servers"

local wrong <const> = { -1, -1e300, 0 / 0, -math.huge, "x", "5", {} }

pg.on_both(describe, function(mode, open)
    it("db.engine refuses values that are not durations, and treats a huge one as no limit", function()
        for _, name in ipairs { "timeout", "connect_timeout", "command_timeout", "recycle", "pre_ping_idle",
            "statement_cache_age" } do
            for _, value in ipairs(wrong) do
                local problem = pg.raised(open, { [name] = value })
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
                assert.truthy(problem.message:find(name .. " must be a number of seconds", 1, true), problem.message)
            end
            for _, value in ipairs { 1e10, 1e12, 2 ^ 63, 1e300 } do
                local e <close> = open { [name] = value }
                assert.equal(1, e:value "select 1")
            end
        end
        assert.is_true(errors.is(pg.raised(open, { connect_timeout = 0 }), "usage"))
    end)

    it("a URL's connect_timeout is used, an option overrides it, 0 is no limit", function()
        local mute <close> = fake.mute()
        local url = "postgresql://joe@/d?host=" .. mute.dir .. "&connect_timeout="
        local function engine(text, seconds)
            return db.engine { url = url .. text, mode = mode, connect_timeout = seconds, size = 1 }
        end
        for _, case in ipairs { { "1" }, { "99", 0.5 }, { "0", 0.5 }, { "-1", 0.5 } } do
            local e <close> = engine(case[1], case[2])
            local took, problem = pg.timed(pg.raised, e.value, e, "select 1")
            assert.is_true(errors.is(problem, "timeout"), tostring(problem))
            assert(took >= 0.4 and took < 8, took)
        end
        for _, text in ipairs { "1e12", "nan", "inf", "x", "1.5", "2147483648", "99999999999999999999", "0x10" } do
            local problem = pg.raised(engine, text)
            assert.is_true(errors.is(problem, "config"), tostring(problem))
            assert.truthy(problem.message:find("'connect_timeout'", 1, true), problem.message)
        end
    end)
end)

it("Redis refuses the same values in options and in the URL", function()
    local server <close> = servers.redis()
    for _, name in ipairs { "timeout", "connect_timeout", "command_timeout", "ping_idle" } do
        for _, value in ipairs(wrong) do
            local problem = pg.raised(redis.client, { url = server.url, [name] = value })
            assert.is_true(errors.is(problem, "usage"), tostring(problem))
            assert.truthy(problem.message:find(name .. " must be a number", 1, true), problem.message)
        end
        local client <close> = redis.client { url = server.url, [name] = 1e12 }
        assert.equal("PONG", client:ping())
    end
    assert.is_true(errors.is(pg.raised(redis.client, { url = server.url, connect_timeout = 0 }), "usage"))
    local more = server.url:find("?", 1, true) and "&" or "?"
    for _, name in ipairs { "socket_timeout", "socket_connect_timeout", "timeout", "health_check_interval" } do
        for _, text in ipairs { "-1", "nan", "inf", "x", "" } do
            local problem = pg.raised(redis.client, { url = server.url .. more .. name .. "=" .. text })
            assert.is_true(errors.is(problem, "config"), tostring(problem))
            assert.truthy(problem.message:find(name, 1, true), problem.message)
        end
    end
end)

it("the environment and the command line refuse the same values, with exit status 2", function()
    for _, text in ipairs { "1e12", "nan", "inf", "-2", "5x", "1e-400" } do
        for _, name in ipairs { "DB_CONNECT_TIMEOUT", "DB_POOL_TIMEOUT", "DB_STATEMENT_CACHE_AGE" } do
            local result = process.run { core.options.program, "--no-env", "-e", "print(require 'dbrun.db'.async)",
                env = { [name] = text, DATABASE_URL = pg.url() }, timeout = 30 }
            assert.equal(2, result.code, result.stdout .. result.stderr)
            assert.truthy(result.stderr:find(name, 1, true), result.stderr)
        end
        for _, option in ipairs { "--statement-timeout", "--lock-timeout" } do
            local result = process.run { core.options.program, "--no-env", option, text, "-e", "", timeout = 30 }
            assert.equal(2, result.code)
            assert.truthy(result.stderr:find(option, 1, true), result.stderr)
        end
    end
end)
