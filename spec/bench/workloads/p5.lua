-- P5: COPY of a million rows (int8, float8, text, bool) in, made by a Lua iterator, and out to a file. psql copies in
-- an existing file, so it makes no rows.
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

--- Text, as psql writes it.
local function out()
    local db <const> = require "dbrun.db"
    local task <const> = require "dbrun.task"
    local path <const> = os.tmpname()
    local engine <const> = db.async
    local file <const> = assert(io.open(path, "w"))
    local begin <const>, cpu <const> = task.now(), os.clock()
    for text in engine:copy_out("ready", { raw = true }) do assert(file:write(text)) end
    assert(file:close())
    local result <const> = { ops = ROWS, checks = ROWS, seconds = task.now() - begin, cpu = os.clock() - cpu }
    local rows, sum = 0, 0
    for line in io.lines(path) do rows, sum = rows + 1, sum + math.tointeger(line:match "^%d+") end
    result.errors = rows == ROWS and sum == ROWS * (ROWS + 1) // 2 and 0 or ROWS
    os.remove(path)
    db.close()
    return result
end

local function psql(ctx, sql)
    return { ctx.servers.bin .. "/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", ctx.servers.database_url, "-c", sql }
end

--- psql's \copy of a million rows.
local function by_psql(name, before, copy)
    return {
        name = name, kind = "peer",
        run = function(ctx)
            if before then shell.must(psql(ctx, before)) end
            local _, runs <const> = ctx:measure(psql(ctx, copy:format(ctx.servers.dir)))
            local r <const> = runs[1]
            return { rate = ROWS / r.wall, time = r.wall / ROWS, cpu = r.cpu / ROWS, memory = r.rss_kib * 1024 }
        end,
    }
end

return {
    id = "P5", order = 5, title = "COPY of a million rows", metric = "rate", round = 8,
    prepare = function(ctx)
        shell.must(psql(ctx, "CREATE UNLOGGED TABLE IF NOT EXISTS copied (a int8, b float8, c text, d bool)"))
        shell.must(psql(ctx, "DROP TABLE IF EXISTS ready"))
        shell.must(psql(ctx, ("CREATE UNLOGGED TABLE ready AS SELECT i::int8 AS a, (i / 4.0)::float8 AS b, "
            .. "'text of row ' || i AS c, i %% 2 = 0 AS d FROM generate_series(1, %d) i"):format(ROWS)))
        shell.must(psql(ctx, ("COPY ready TO '%s/copied.txt'"):format(ctx.servers.dir)))
        shell.must { "chmod", "644", ctx.servers.dir .. "/copied.txt" }
    end,
    measure = { iterator = measure, out = out },
    ours = { contender.ours("dbrun, in", "iterator"), contender.ours("dbrun, out", "out") },
    others = {
        by_psql("psql \\copy in", "TRUNCATE copied", "\\copy copied from '%s/copied.txt'"),
        by_psql("psql \\copy out", nil, "\\copy ready to '%s/out.txt'"),
        rivals.python { name = "asyncpg", file = "copy_in.py", args = { "asyncpg", ROWS }, modules = rivals.ASYNCPG },
        rivals.python {
            name = "psycopg2", file = "copy_in.py", args = { "psycopg2", ROWS }, modules = rivals.PSYCOPG2,
        },
    },
    targets = {
        { metric = "rate", ours = "dbrun, in", against = "psql \\copy in", at_least = 1.4 },
        { metric = "rate", ours = "dbrun, out", against = "psql \\copy out", at_least = 1.0 },
    },
}
