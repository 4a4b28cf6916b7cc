--- Checks of what a PostgreSQL server needs done from time to time: old transactions, vacuum, broken indexes. All judge
--- the result of the query in dbrun.verify.server.
local cli = require "dbrun.cli"
local limits = require "dbrun.verify.limits"
local server_check = require "dbrun.verify.server_check"

local M = {}

---@type dbrun.verify.Check[]
M.list = {}

local check <const> = server_check.adder(M.list)
local differs <const> = server_check.differs

check("transactions", "no transaction is open for long", function(ctx, server)
    local oldest = server.oldest
    if not oldest then return "no other transaction is open" end
    local pid, age, state, application = table.unpack(oldest)
    age = tonumber(age)
    local text = ("the oldest is open for %s"):format(cli.duration(age))
    local status, limit = limits.judge(ctx, "postgres.transactions", age)
    if not limit then return text end
    return {
        status = status, text = text,
        cause = ("backend %s (%s, '%s') has had one open for more than %g s: vacuum cannot remove dead rows"):format(
            pid, tostring(state), tostring(application), limit),
        remedy = { ("select pg_terminate_backend(%s)"):format(pid), "set idle_in_transaction_session_timeout" },
    }
end)

check("wraparound", "transaction ids are far from wraparound", function(ctx, server)
    local database, age = server.age[1], tonumber(server.age[2])
    local share = age / (1 << 31)
    local text = ("%s: %s transactions old, %.1f %% of the way to wraparound"):format(database, cli.count(age),
        share * 100)
    local status, limit = limits.judge(ctx, "postgres.wraparound", share)
    if not limit then return text end
    return { status = status, text = text, cause = "vacuum does not keep up: at wraparound the server refuses writes",
        remedy = { ("vacuumdb --freeze %s"):format(database),
            "look for old transactions, prepared transactions and replication slots: they hold vacuum back" } }
end)

check("dead_rows", "no table has too many dead rows", function(ctx, server)
    local causes, worst = {}, "PASS"
    local rank = { PASS = 0, WARN = 1, FAIL = 2 }
    for _, row in ipairs(server.dead) do
        local name, dead, live = row[1], tonumber(row[2]), tonumber(row[3])
        local status = limits.judge(ctx, "postgres.dead_rows", dead / (dead + live))
        if rank[status] > rank[worst] then worst = status end
        if status ~= "PASS" then
            causes[#causes + 1] = ("%s: %s dead, %s alive"):format(name, cli.count(dead), cli.count(live))
        end
    end
    if #causes == 0 then return "no table with more than 10,000 dead rows has too many" end
    return { status = worst, text = cli.plural(#causes, "table") .. " to vacuum", cause = table.concat(causes, "\n"),
        remedy = { "vacuum (analyze) TABLE; is autovacuum off, or blocked by an old transaction?" } }
end)

check("invalid_indexes", "no index is left invalid by a failed CREATE INDEX CONCURRENTLY", function(_, server)
    if #server.invalid == 0 then return "none" end
    local names = table.concat(server.invalid, ", ")
    return differs(cli.plural(#server.invalid, "invalid index", "invalid indexes"),
        names .. ": slows down writes and is never used",
        ("drop index concurrently %s; and create it again"):format(server.invalid[1]),
        "or: reindex index concurrently ...")
end)

return M
