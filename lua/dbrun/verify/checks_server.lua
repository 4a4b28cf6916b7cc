--- Checks of the PostgreSQL server: room for the pools, the right to write, clock, version ... All judge the result of
--- the query in dbrun.verify.server.
local cli = require "dbrun.command_line"
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local expect = require "dbrun.verify.expect"
local limits = require "dbrun.verify.limits"
local pool_mode = require "dbrun.db.pool_mode"
local server_check = require "dbrun.verify.server_check"
local task = require "dbrun.task"

local M = {}

---@type dbrun.verify.Check[]
M.list = {}

local check <const> = server_check.adder(M.list)
local differs <const> = server_check.differs

check("version", "the server's version is the expected one (postgresql = '>= 14')", function(ctx, server)
    local wanted = ctx.expect.postgresql
    if not wanted then return server.version .. ", none is expected" end
    if expect.version_fits(server.version, wanted) then return ("%s, expected %s"):format(server.version, wanted) end
    return differs(server.version, ("version %s is expected"):format(wanted),
        "use a server of that version, or correct the expectation in " .. ctx.expect.file)
end)

-- ---- room for the pools ----

---The number of these sessions that belong to other programs.
local function others(ctx, server, sessions)
    local own, n = { [server.pid] = true }, 0
    for _, pid in ipairs(ctx.own_backends or {}) do own[pid] = true end
    for _, pid in ipairs(sessions) do n = n + (own[pid] and 0 or 1) end
    return n
end

---The limit that leaves this role the fewest connections in this database: its value, the setting, and the number of
---other sessions that count against it. For superusers only the server's limit applies.
---@param kept integer connections that this program keeps open: a limit below that comes first
local function room(ctx, server, kept)
    local best
    local function limit(most, why, sessions)
        local busy = others(ctx, server, sessions)
        local left = most < kept and most - kept - server.max_connections or most - busy
        if not best or left < best.left then best = { most = most, why = why, busy = busy, left = left } end
    end
    limit(server.max_connections - (server.superuser and 0 or server.reserved), ("max_connections %d%s"):format(
        server.max_connections, server.superuser and "" or (", %d of them reserved"):format(server.reserved)),
        server.sessions)
    for _, kind in ipairs(server.superuser and {} or { "database", "role" }) do
        local most = server[kind .. "_limit"]
        if most >= 0 then
            limit(most, ("CONNECTION LIMIT %d of the %s"):format(most, kind), server["of_" .. kind])
        end
    end
    return best.most, best.why, best.busy
end

check("capacity", "both pools fit into max_connections beside the other sessions", function(ctx, server)
    local config = ctx.config
    if server.pooler then return { status = "SKIP", text = "a pooler shares the server's connections" } end
    local size, overflow = config.DB_POOL_SIZE, config.DB_MAX_OVERFLOW
    local sync = config.sync_database_url == config.async_database_url and config.SYNC_POOL_SIZE or 0
    local most, why, busy = room(ctx, server, size + sync)
    local hidden = server.hidden
    local text = ("%d + %d + %d (sync) of %d, others use %d%s"):format(size, math.max(overflow, 0), sync, most, busy,
        hidden > 0 and " or more" or "")
    local facts = { room = most, others = busy, kept = size + sync, at_most = size + math.max(overflow, 0) + sync }
    local remedy = { "lower DB_POOL_SIZE or DB_MAX_OVERFLOW, raise max_connections, or put a pooler in between" }
    local function found(status, cause)
        return { status = status, text = text, cause = cause and cause .. " (" .. why .. ")", facts = facts,
            remedy = cause and remedy }
    end
    if size + sync > most then return found("FAIL", "the pools exceed the limit even without other sessions") end
    if size == 0 or overflow < 0 then return found("WARN", "the pool has no limit, the server has one") end
    if facts.at_most + busy > most then
        return found("WARN", ("with all in use, %d connections are missing"):format(facts.at_most + busy - most))
    end
    local status = limits.judge(ctx, "postgres.capacity", busy / most)
    if status == "PASS" then return server_check.seen(server, text, facts) end
    return found(status, "others use almost all of the server's connections")
end, { "sessions" }, { "postgres.concurrency" })

---Features that do not work through a pooler, by its mode.
local THROUGH <const> = {
    session = "each connection of this program holds one of the pooler's: they wait when its pool is smaller",
    transaction = "what outlives a transaction is lost, or another program gets it: SET, advisory locks, LISTEN, "
        .. "temporary tables, cursors WITH HOLD, prepared statements unless the pooler keeps them",
    statement = "transactions are refused, and with them most of what dbrun does",
}

local ENOUGH <const> = 1.5 -- seconds to wait for another connection from a pooler

---Looks at pg_stat_activity from another connection of this program's pool.
local function elsewhere(pid)
    local ok, seen = pcall(task.timeout, ENOUGH, function()
        local other <close> = require("dbrun.db").async:acquire()
        return other:transaction(function(tx) return pool_mode.look(tx, pid) end)
    end)
    if ok then return seen end
    if errors.is(seen, "timeout") then return false end
    if pool_mode.takes_no_transactions(seen) then return nil end
    error(seen, 0)
end

---@return dbrun.PoolMode? mode nil when the pool of this program is too small to try it
local function mode_of(ctx)
    return ctx.lease and pool_mode.of(ctx.lease, elsewhere)
end

local function expected_pooler(text, wanted, mode, there)
    if type(wanted) == "boolean" then
        if wanted == there then return text .. ", as expected" end
        return differs(text, wanted and "a pooler is expected" or "no pooler is expected",
            "check the port in DATABASE_URL")
    end
    if there and mode == wanted then return text .. ", as expected" end
    if there and not mode then
        return differs(text, "its mode cannot be tried with so small a pool", "raise DB_POOL_SIZE above 3")
    end
    return differs(text, ("a pooler in %s mode is expected"):format(wanted),
        "check the port in DATABASE_URL, and pool_mode of the pooler")
end

check("pooler", "the connection goes to the server itself, or to a pooler in the right mode", function(ctx, server)
    local mode = server.pooler and mode_of(ctx)
    local text = server.pooler and "there is a pooler in between" .. (mode and (", in %s mode"):format(mode) or "")
        or "the server itself answers"
    if ctx.expect.pooler ~= nil then
        return expected_pooler(text, ctx.expect.pooler, mode, server.pooler)
    end
    if not server.pooler then return text end
    if mode ~= "statement" and ctx.config.MIGRATION_DATABASE_URL and ctx.config.DB_STATEMENT_CACHE == 0 then
        return text
    end
    local remedy = { "name the server itself in MIGRATION_DATABASE_URL: migrations lock a session",
        "set DB_STATEMENT_CACHE=0, unless the pooler keeps prepared statements (max_prepared_statements)" }
    if mode == "session" then
        remedy = { ("{ pooler = 'session' } in %s, if that is meant"):format(ctx.expect.file),
            "pool_size of the pooler: at least DB_POOL_SIZE + DB_MAX_OVERFLOW + SYNC_POOL_SIZE" }
    elseif mode == "statement" then
        remedy = { "pool_mode = transaction (or session) in the pooler's configuration" }
    end
    return { status = mode == "statement" and "FAIL" or "WARN", text = text, remedy = remedy,
        cause = THROUGH[mode or "transaction"] }
end, nil, { "postgres.concurrency" })
M.list[#M.list].on_conn = true

-- ---- writing, replication ----

check("writable", "the session can write: no standby, no read-only setting", function(ctx, server)
    if core.options.read_only and not server.standby then
        return { status = "SKIP", text = "this program runs with --read-only" }
    end
    local text = server.standby and "a standby: it can only be read" or server.read_only
        and "read-only sessions (default_transaction_read_only)" or "a primary, sessions can write"
    local writable = not (server.standby or server.read_only)
    local wanted = ctx.expect.writable ~= false
    if writable == wanted then return text .. (ctx.expect.writable ~= nil and ", as expected" or "") end
    return differs(text, wanted and "migrations and seeds cannot run here" or "a session that cannot write is expected",
        wanted and "name the primary in DATABASE_URL (target_session_attrs=read-write finds it)"
        or "use a standby, or set default_transaction_read_only for the role")
end)

local function standby(ctx, server)
    local behind = server.behind or 0
    local text = ("standby, %s behind, %s"):format(cli.duration(behind),
        server.receiving and "receiving" or "not receiving")
    local status, limit = limits.judge(ctx, "postgres.replication", behind)
    if limit then
        return { status = status, text = text, cause = ("more than %g s behind"):format(limit),
            remedy = { "select * from pg_stat_wal_receiver; a long query on the standby may delay it" } }
    end
    if server.receiving then return text end
    return { status = "WARN", text = text, cause = "no WAL receiver runs: changes on the primary do not arrive",
        remedy = { "check primary_conninfo and the standby's log" } }
end

---The worst slot: lost, or with too much WAL, or with more than max_wal_size.
local function bad_slot(ctx, server)
    local worst, cause = "PASS", nil
    for _, slot in ipairs(server.slots) do
        local kept, used = tonumber(slot[2]) or 0, slot[3] == "true"
        local name = ("the replication slot '%s' is %s"):format(slot[1], used and "in use" or "not used")
        local status = limits.judge(ctx, "postgres.slots", kept)
        if slot[4] == "lost" or slot[4] == "unreserved" then
            return "FAIL", ("%s, and its WAL is %s: its standby must be made anew"):format(name,
                slot[4] == "lost" and "lost" or "about to be removed")
        end
        if slot[4] == "extended" and status == "PASS" then status = "WARN" end
        if status == "FAIL" or status == "WARN" and worst == "PASS" then
            worst = status
            cause = ("%s and keeps %s bytes of WAL%s"):format(name, cli.count(math.floor(kept)),
                slot[4] == "extended" and ", more than max_wal_size" or "")
        end
    end
    return worst, cause
end

check("replication", "standbys keep up, and no slot keeps too much WAL", function(ctx, server)
    if server.standby then
        local refused = server.refused.receiver
        if refused then return server_check.not_offered(refused) end
        return standby(ctx, server)
    end
    local wanted, most = ctx.expect.replicas, 0
    for _, behind in ipairs(server.replicas) do most = math.max(most, behind) end
    local text = #server.replicas == 0 and "primary without standbys"
        or ("%s, at most %s behind"):format(cli.plural(#server.replicas, "standby", "standbys"), cli.duration(most))
    local status, limit = limits.judge(ctx, "postgres.replication", most)
    if limit then
        return { status = status, text = text, cause = ("more than %g s behind"):format(limit),
            remedy = { "select * from pg_stat_replication" } }
    end
    local slot_status, cause = bad_slot(ctx, server)
    if cause then
        return { status = slot_status, text = text, cause = cause,
            remedy = { "start its standby, or: select pg_drop_replication_slot('...')",
                "max_slot_wal_keep_size limits what slots keep" } }
    end
    if server.hidden_replicas > 0 then return server_check.seen(server, text, nil, server.hidden_replicas) end
    if wanted and #server.replicas < wanted then
        return differs(text, ("%g expected"):format(wanted),
            "select * from pg_stat_replication; check the standbys' logs")
    end
    return text
end, { "recovery", "replication" })

-- ---- clock, encoding, time zone ----

check("clock", "the server's clock agrees with this machine's", function(ctx, server)
    local ahead = server.clock_ahead
    local distance = math.max(0, math.abs(ahead) - server.round_trip / 2)
    local status, limit = limits.judge(ctx, "postgres.clock", distance)
    if not limit then return ("%s apart"):format(cli.duration(distance)) end
    return {
        status = status, text = ("%s %s"):format(cli.duration(math.abs(ahead)), ahead > 0 and "ahead" or "behind"),
        cause = ("more than %g s between the server's clock and this machine's"):format(limit),
        remedy = { "timedatectl   (on both: is NTP on?)" },
    }
end, { "clock" })

check("encoding", "texts are UTF-8", function(ctx, server)
    local wanted = ctx.expect.encoding
    local text = ("%s, the session %s"):format(server.encoding, server.client_encoding)
    local remedy = "create the database anew: createdb -E UTF8 -T template0"
    if wanted and server.encoding:upper() ~= wanted:upper() then
        return differs(text, wanted .. " is expected", remedy)
    end
    if wanted or server.encoding == "UTF8" then return text end
    return { status = "WARN", text = text, remedy = { remedy }, cause = server.encoding == "SQL_ASCII"
        and "SQL_ASCII takes any bytes: texts may be in several encodings" or "characters outside it are refused" }
end)

---Whether two time zones have the same clock on every day from 1970 to 2037: `Etc/UTC` is `UTC`, Asia/Calcutta is
---Asia/Kolkata.
local SAME_ZONE <const> = catalog.sql [[
select {bool_and}({timezone}($1, t) {=} {timezone}($2, t))
  from {generate_series}('1970-01-01Z'::{timestamptz}, '2037-12-31Z', '7 days') t]]

---@return boolean? same nil when the server does not know one of them
local function same_zone(ctx, one, other)
    local ok, same = pcall(ctx.conn.value, ctx.conn, SAME_ZONE, one, other)
    if ok then return same end
    if not errors.is(same) or same.sqlstate ~= "22023" then error(same, 0) end
end

check("timezone", "the session's time zone is the expected one (timezone = 'UTC')", function(ctx, server)
    local wanted = ctx.expect.timezone
    if not wanted then return server.timezone .. ", none is expected" end
    if wanted:lower() == server.timezone:lower() then return server.timezone .. ", as expected" end
    local same = same_zone(ctx, wanted, server.timezone)
    if same then return ("%s, which is %s"):format(server.timezone, wanted) end
    if same == nil then
        return differs(server.timezone, ("the server knows no time zone '%s'"):format(wanted),
            "correct the expectation in " .. ctx.expect.file)
    end
    return differs(server.timezone, wanted .. " is expected", ("alter role ... set timezone = '%s'"):format(wanted))
end)
M.list[#M.list].on_conn = true

return M
