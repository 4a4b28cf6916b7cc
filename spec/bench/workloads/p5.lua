-- P5: COPY of a million rows (int8, float8, text, bool) in, made by a Lua iterator. psql copies a file that is
-- ready, so it makes nothing.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"
local shell <const> = require "bench.lib.shell"

local ROWS <const> = 1000000

local function measure()
    local db <const> = require "dbrun.db"
    local task <const> = require "dbrun.task"
    local engine <const> = db.async
    engine:exec "TRUNCATE copied"
    local i = 0
    local begin <const>, cpu <const> = task.now(), os.clock()
    local n <const> = engine:copy_in("copied", { "a", "b", "c", "d" }, function()
        i = i + 1
        if i <= ROWS then return { i, i / 4, "text of row " .. i, i % 2 == 0 } end
    end)
    local result <const> = { ops = ROWS, checks = ROWS, seconds = task.now() - begin, cpu = os.clock() - cpu }
    local sum <const> = engine:value "SELECT sum(a)::int8 FROM copied"
    result.errors = n == ROWS and sum == ROWS * (ROWS + 1) // 2 and 0 or ROWS
    db.close()
    return result
end

local function psql(ctx, sql)
    return { ctx.servers.bin .. "/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", ctx.servers.database_url, "-c", sql }
end

return {
    id = "P5", order = 5, title = "COPY of a million rows in", metric = "rate",
    prepare = function(ctx)
        shell.must(psql(ctx, "CREATE UNLOGGED TABLE IF NOT EXISTS copied (a int8, b float8, c text, d bool)"))
        shell.must(psql(ctx, ("COPY (SELECT i::int8, (i / 4.0)::float8, 'text of row ' || i, i %% 2 = 0 "
            .. "FROM generate_series(1, %d) i) TO '%s/copied.txt'"):format(ROWS, ctx.servers.dir)))
        shell.must { "chmod", "644", ctx.servers.dir .. "/copied.txt" }
    end,
    measure = { iterator = measure },
    ours = { contender.ours("dbrun", "iterator") },
    others = {
        {
            name = "psql \\copy", kind = "peer",
            run = function(ctx)
                shell.must(psql(ctx, "TRUNCATE copied"))
                local _, runs <const> = ctx:measure(psql(ctx, "\\copy copied from '" .. ctx.servers.dir
                    .. "/copied.txt'"))
                local r <const> = runs[1]
                return { rate = ROWS / r.wall, time = r.wall / ROWS, cpu = r.cpu / ROWS, memory = r.rss_kib * 1024 }
            end,
        },
        rivals.python { name = "asyncpg", file = "copy_in.py", args = { "asyncpg", ROWS }, modules = rivals.ASYNCPG },
        rivals.python {
            name = "psycopg2", file = "copy_in.py", args = { "psycopg2", ROWS }, modules = rivals.PSYCOPG2,
        },
    },
    targets = {
        { metric = "rate", against = "psql \\copy", at_least = 0.95 },
    },
}
