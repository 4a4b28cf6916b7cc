--- Checks of regular maintenance of a PostgreSQL server: old transactions, vacuum, invalid indexes. All judge
--- the result of the query in dbrun.verify.server.
local cli = require "dbrun.command_line"
local limits = require "dbrun.verify.limits"
local server_check = require "dbrun.verify.server_check"

local M = {}

---@type dbrun.verify.Check[]
M.list = {}

local check <const> = server_check.adder(M.list)
local differs <const> = server_check.differs

---The worse of two results; the first when they are equal.
local RANK <const> = { PASS = 0, WARN = 1, FAIL = 2 }

local function idle(ctx, server)
    if not server.idle then return end
    local pid, age, application = table.unpack(server.idle, 1, 3)
    age = tonumber(age) or 0
    local status, limit = limits.judge(ctx, "postgres.idle_in_transaction", age)
    if not limit then return end
    return {
        status = status, text = ("one is idle for %s"):format(cli.duration(age)),
        cause = ("backend %s ('%s') has been idle in transaction for more than %g s: it keeps its locks"):format(pid,
            tostring(application), limit),
        remedy = { ("select pg_terminate_backend(%s)"):format(pid), "set idle_in_transaction_session_timeout" },
    }
end

check("transactions", "no transaction is open for long, or idle", function(ctx, server)
    local oldest, waiting = server.oldest, idle(ctx, server)
    if not oldest then return waiting or server_check.seen(server, "no other transaction is open") end
    local pid, age, state, application = table.unpack(oldest, 1, 4)
    age = tonumber(age)
    local text = ("the oldest is open for %s"):format(cli.duration(age))
    local status, limit = limits.judge(ctx, "postgres.transactions", age)
    if waiting and RANK[waiting.status] > RANK[status] then return server_check.partly(server, waiting) end
    if not limit then return server_check.seen(server, text) end
    return server_check.partly(server, {
        status = status, text = text,
        cause = ("backend %s (%s, '%s') has had one open for more than %g s: vacuum cannot remove dead rows"):format(
            pid, tostring(state), tostring(application), limit),
        remedy = { ("select pg_terminate_backend(%s)"):format(pid), "set idle_in_transaction_session_timeout" },
    })
end, { "sessions" })

---Judges the age of transaction or multixact ids. Vacuum begins to freeze at `start`; at twice that it has not kept up.
local function aging(ctx, row, kind, start)
    local database, age = row[1], tonumber(row[2])
    local share = age / (1 << 31)
    local status, limit = limits.judge(ctx, "postgres.wraparound", share, 2 * (tonumber(start) or 2e8) / (1 << 31))
    return { status = status, limit = limit, database = database, share = share,
        text = ("%s: %s %s old, %.1f %% of the way to wraparound"):format(database, cli.count(age), kind, share * 100) }
end

check("wraparound", "transaction ids are far from wraparound", function(ctx, server)
    local worst = aging(ctx, server.age, "transactions", server.settings[6])
    local members = aging(ctx, server.mxid_age, "multixacts", server.settings[7])
    if RANK[members.status] > RANK[worst.status] then worst = members end
    if not worst.limit then return worst.text end
    return { status = worst.status, text = worst.text,
        cause = "vacuum does not keep up: at wraparound the server refuses writes",
        remedy = { ("vacuumdb --freeze %s"):format(worst.database),
            "look for old transactions, prepared transactions and replication slots: they hold vacuum back" } }
end, { "settings", "wraparound" })

check("dead_rows", "no table has too many dead rows", function(ctx, server)
    local causes, worst = {}, "PASS"
    for _, row in ipairs(server.dead) do
        local name, dead, live, start = row[1], tonumber(row[2]), tonumber(row[3]), math.max(tonumber(row[4]) or 50, 1)
        local status = limits.judge(ctx, "postgres.dead_rows", dead / start)
        if RANK[status] > RANK[worst] then worst = status end
        if status ~= "PASS" then
            causes[#causes + 1] = ("%s: %s dead, %s alive; autovacuum cleans it from %s on"):format(name,
                cli.count(dead), cli.count(live), cli.count(math.floor(start)))
        end
    end
    if #causes == 0 then return "no table with more than 10,000 dead rows has too many" end
    return { status = worst, text = cli.plural(#causes, "table") .. " to vacuum", cause = table.concat(causes, "\n"),
        remedy = { "vacuum (analyze) TABLE; is autovacuum off, or blocked by an old transaction?" } }
end, { "dead_rows" })

check("invalid_indexes", "no index is left invalid by a failed CREATE INDEX CONCURRENTLY", function(_, server)
    if #server.invalid == 0 then return "no invalid index" end
    local names = table.concat(server.invalid, ", ")
    return differs(cli.plural(#server.invalid, "invalid index", "invalid indexes"),
        names .. ": slows down writes and is never used" .. (server.building > 0
            and "; another role builds an index at present, which may be this one" or ""),
        ("drop index concurrently %s; and create it again"):format(server.invalid[1]),
        "or: reindex index concurrently ...")
end, { "invalid_indexes" })

return M
