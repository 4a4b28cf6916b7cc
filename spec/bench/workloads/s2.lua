-- S2: the whole process of `verify`: async engine, sync engine, Redis, tables.
local contender <const> = require "bench.lib.contender"
local shell <const> = require "bench.lib.shell"

local RUNS <const> = 5

local function script(ctx, name)
    return ctx.home .. "/../../scripts/" .. name
end

return {
    id = "S2", order = 22, title = "verify: async, sync, Redis, tables", metric = "time",
    prepare = function(ctx)
        for _, words in ipairs { { "migrate.lua", "up" }, { "seed.lua" } } do
            shell.must({ ctx.dbrun, "--no-env", script(ctx, words[1]), words[2] }, ctx:env())
        end
    end,
    ours = {
        contender.process {
            name = "dbrun", kind = "ours", runs = RUNS,
            argv = function(ctx) return { ctx.dbrun, "--no-env", script(ctx, "verify.lua"), "--strict" } end,
        },
    },
    others = {
        contender.process {
            name = "SQLAlchemy, redis-py", kind = "peer", runs = RUNS,
            missing = function()
                return contender.python_missing {
                    asyncpg = "python3-asyncpg", psycopg2 = "python3-psycopg2", redis = "python3-redis",
                    ["sqlalchemy.ext.asyncio"] = "python3-sqlalchemy",
                }
            end,
            argv = function(ctx) return { contender.PYTHON, "-B", ctx.home .. "/peers/verify.py" } end,
        },
    },
    targets = {
        { metric = "time", against = "SQLAlchemy, redis-py", at_least = 6 },
        { metric = "cpu", against = "SQLAlchemy, redis-py", at_least = 20 },
        { metric = "memory", limit = 12 * 1024 * 1024 },
    },
}
