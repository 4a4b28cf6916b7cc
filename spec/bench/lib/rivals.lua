-- The peers that bring their own load generator: pgbench and redis-benchmark.
local contender <const> = require "bench.lib.contender"
local servers <const> = require "bench.lib.servers"
local shell <const> = require "bench.lib.shell"

local M = {}

--- pgbench's built-in point select, prepared, on one thread.
---@param connections integer
---@return bench.Contender
function M.pgbench(connections)
    return {
        name = "pgbench", kind = "peer",
        missing = function()
            local bin <const> = servers.postgresql_bin()
            if not bin or not shell.exists(bin .. "/pgbench") then return "postgresql-contrib" end
        end,
        run = function(ctx)
            local out <const>, runs <const> = ctx:measure {
                ctx.servers.bin .. "/pgbench", "-n", "-S", "-M", "prepared", "-c", connections, "-j", 1,
                "-T", math.max(1, math.ceil(ctx.seconds)), "-h", ctx.servers.dir, "-U", "postgres", "bench",
            }
            local tps <const> = tonumber(out:match "tps = ([%d.]+)")
            local failed <const> = tonumber(out:match "failed transactions: (%d+)" or 0)
            local done <const> = tonumber(out:match "actually processed: (%d+)")
            if not tps or not done or failed > 0 then error("pgbench: " .. out, 0) end
            return { rate = tps, time = 1 / tps, cpu = runs[1].cpu / done, memory = runs[1].rss_kib * 1024 }
        end,
    }
end

--- The rate of SET and GET in equal parts, from the two rates that redis-benchmark prints.
---@param csv string
---@return number|nil
function M.redis_rate(csv)
    local set <const> = tonumber(csv:match '"SET","([%d.]+)"')
    local get <const> = tonumber(csv:match '"GET","([%d.]+)"')
    return set and get and 2 / (1 / set + 1 / get)
end

--- redis-benchmark's SET and GET. It takes a number of requests, not a time: the first call finds the number
--- that fills the time.
---@param connections integer
---@param depth? integer commands that each connection sends at once (1)
---@return bench.Contender
function M.redis_benchmark(connections, depth)
    local known
    local function once(ctx, requests)
        local out <const>, runs <const> = ctx:measure {
            "redis-benchmark", "-s", ctx.servers.redis_socket, "-t", "set,get", "-c", connections,
            "-P", depth or 1, "-n", math.max(1000, math.floor(requests)), "--csv",
        }
        local rate <const> = M.redis_rate(out)
        if not rate then error("redis-benchmark: " .. out, 0) end
        return { rate = rate, time = 1 / rate, memory = runs[1].rss_kib * 1024 }
    end
    return {
        name = "redis-benchmark", kind = "peer",
        missing = function()
            if not shell.which "redis-benchmark" then return "redis-tools" end
        end,
        run = function(ctx)
            known = known or once(ctx, 5000 * (depth or 1)).rate
            local sample <const> = once(ctx, known * ctx.seconds / 2)
            known = sample.rate
            return sample
        end,
    }
end

--- hiredis in C, which sends `depth` commands at once.
---@param depth integer
---@return bench.Contender
function M.redis_floor(depth)
    return contender.floor {
        name = "hiredis in C", source = "redis_batch", link = { "-lhiredis" },
        argv = function(ctx) return { ctx.servers.redis_socket, depth, ctx.seconds } end,
    }
end

M.ASYNCPG = { asyncpg = "python3-asyncpg" }
M.SQLALCHEMY_ASYNC = { asyncpg = "python3-asyncpg", ["sqlalchemy.ext.asyncio"] = "python3-sqlalchemy" }
M.SQLALCHEMY_SYNC = { psycopg2 = "python3-psycopg2", sqlalchemy = "python3-sqlalchemy" }
M.PSYCOPG2 = { psycopg2 = "python3-psycopg2" }
M.REDIS_PY = { redis = "python3-redis", hiredis = "python3-hiredis" }

--- A program of peers/ as a contender (see contender.python).
M.python = contender.python

return M
