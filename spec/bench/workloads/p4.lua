-- P4: a million rows (int8, float8, text, timestamptz) into Lua values: as rows, column by column, and one
-- by one in constant memory.
local contender <const> = require "bench.lib.contender"
local rivals <const> = require "bench.lib.rivals"

local ROWS <const> = 1000000
local SQL <const> = "SELECT i::int8 AS a, i::float8 / 4 AS b, 'text of row ' || i AS c, "
    .. "'2024-01-01 00:00:00+00'::timestamptz + i * interval '1 second' AS d FROM generate_series(1, $1::int) i"
local SUM <const> = ROWS * (ROWS + 1) // 2

--- A figure of this process, in bytes.
local function status(key)
    local f <close> = assert(io.open("/proc/self/status"))
    return math.tointeger(f:read "a":match(key .. ":%s*(%d+)")) * 1024
end

--- Runs `read(engine, n)` -> sum of column a: a few times with few rows, so that the statement is prepared, then with
--- all. `over_idle`: the memory is the peak above the memory before.
local function measuring(read, over_idle)
    return function()
        local db <const> = require "dbrun.db"
        local task <const> = require "dbrun.task"
        local engine <const> = db.async
        for _ = 1, 3 do read(engine, 10) end
        collectgarbage()
        local idle <const> = over_idle and status "VmRSS"
        local begin <const>, cpu <const> = task.now(), os.clock()
        local sum <const> = read(engine, ROWS)
        local result <const> = {
            ops = ROWS, checks = ROWS, errors = sum == SUM and 0 or ROWS, seconds = task.now() - begin,
            cpu = os.clock() - cpu, bytes = idle and status "VmHWM" - idle,
        }
        db.close()
        return result
    end
end

local function query(engine, n)
    local sum = 0
    for _, row in ipairs(engine:query(SQL, n)) do sum = sum + row.a end
    return sum
end

local function columns(engine, n)
    local sum = 0
    for _, a in ipairs(engine:columns(SQL, n).a) do sum = sum + a end
    return sum
end

local function rows(engine, n)
    local sum = 0
    for row in engine:rows(SQL, n) do sum = sum + row.a end
    return sum
end

local function python(name, module)
    return rivals.python {
        name = name, file = "rows.py", args = { name, ROWS, SQL },
        modules = module,
    }
end

--- The minimum cost of keeping a million rows: the same values made with Lua's C API, without a database.
local function values(shape)
    return contender.floor {
        name = shape .. " of values in C, no database", source = "values",
        link = { "-I/usr/include/lua5.4", "-l:liblua5.4.a", "-lm", "-ldl" },
        argv = function() return { shape, ROWS } end,
    }
end

--- The minimum cost of receiving them: libpq takes them one by one, and no values are made from them.
local received <const> = contender.floor {
    name = "libpq in C, no values", source = "receive", link = { "-lpq" },
    argv = function(ctx) return { ctx.servers.database_url, ROWS, SQL } end,
}

return {
    id = "P4", order = 4, title = "a million rows into Lua values", metric = "rate", round = 17,
    measure = { query = measuring(query), columns = measuring(columns), rows = measuring(rows, true) },
    ours = {
        contender.ours("dbrun, query", "query"), contender.ours("dbrun, columns", "columns"),
        contender.ours("dbrun, rows", "rows"),
    },
    others = { python("asyncpg", rivals.ASYNCPG), python("psycopg2", rivals.PSYCOPG2), values "rows", values "columns",
        received },
    targets = {
        { metric = "rate", ours = "dbrun, query", against = "asyncpg", at_least = 1.5 },
        { metric = "rate", ours = "dbrun, columns", against = "asyncpg", at_least = 2.0 },
        { metric = "rate", ours = "dbrun, rows", against = "asyncpg", at_least = 2.5 },
        { metric = "cpu", ours = "dbrun, query", against = "asyncpg", at_least = 1.5 },
        { metric = "cpu", ours = "dbrun, columns", against = "asyncpg", at_least = 2.0 },
        { metric = "cpu", ours = "dbrun, rows", against = "asyncpg", at_least = 2.5 },
        { metric = "memory", ours = "dbrun, query", against = "asyncpg", at_most = 1 },
        { metric = "memory", ours = "dbrun, rows", limit = 16 << 20 },
    },
}
