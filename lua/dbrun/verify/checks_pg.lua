--- PostgreSQL: whether the server answers on both engines, and several connections work at the same time.
local catalog = require "dbrun.db.catalog"
local cli = require "dbrun.command_line"
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

local AT_ONCE <const> = 3 -- connections of the concurrency check, beside the one that the other checks use

local function async_service(ctx)
    return {
        name = "postgres",
        source = ctx.config.source "async_database_url",
        server = require("dbrun.verify.diagnose").server("postgres", ctx.config.async_database_url),
    }
end

local function sync_service(ctx)
    return {
        name = "postgres",
        source = ctx.config.source "sync_database_url",
        server = require("dbrun.verify.diagnose").server("postgres", ctx.config.sync_database_url),
    }
end

local function engine() return require("dbrun.db").async end

---The largest size of the pool.
local function room(config)
    local size, overflow = config.DB_POOL_SIZE, config.DB_MAX_OVERFLOW
    return (size == 0 or overflow < 0) and math.huge or size + overflow
end

local function pool_text(config)
    local overflow = config.DB_MAX_OVERFLOW
    return ("pool of %s%s, %g s to wait"):format(config.DB_POOL_SIZE == 0 and "any size" or config.DB_POOL_SIZE,
        overflow == 0 and "" or overflow < 0 and " and more" or " + " .. overflow, config.DB_POOL_TIMEOUT)
end

---Takes a connection. On a server that is almost full the concurrency check may take the last slots at the same time;
---that check fails then, and its connections are back in the pool a moment later, so try again.
local function first_connection()
    for _ = 1, 5 do
        local ok, conn = pcall(engine().acquire, engine())
        if ok then return conn end
        if not (errors.is(conn) and conn.sqlstate == "53300") then error(conn, 0) end
        task.sleep(0.02)
    end
    return engine():acquire()
end

local MARGIN <const> = 0.05 -- seconds before the deadline at which the server's words are reported

---What the server says instead of accepting a connection, for example that it is starting: a pool waits for the end of
---such a state, which is right for a program but not here. Nil when it says nothing.
local function said(url)
    local probe <const> = require("dbrun.db").engine { url = url, mode = "async", size = 1, overflow = 0,
        connect_timeout = 0.5 }
    local _ <close> = setmetatable({}, { __close = function() probe:close() end })
    local ok, e = pcall(probe.value, probe, "select 1")
    return not ok and errors.is(e) and e.sqlstate and e or nil
end

local SOON <const> = 0.5 -- seconds to wait for a connection before looking for the reason

---Takes a connection. When none comes soon, it looks for the reason in parallel, and raises it at the deadline.
local function connection_or_reason(ctx)
    local reason
    local group <close> = task.group()
    group:spawn(function()
        task.sleep(SOON)
        reason = said(ctx.config.async_database_url)
    end)
    local ok, found = pcall(task.timeout, math.max(ctx.deadline - task.now() - MARGIN, 0), first_connection)
    group:cancel()
    if ok then return found end
    if not errors.is(found, "timeout") or task.now() < ctx.deadline - 2 * MARGIN then error(found, 0) end
    if reason then error(reason, 0) end
    return first_connection()
end

---@type dbrun.verify.Check
M.async = {
    name = "postgres.async",
    about = "db.async connects and answers; version and pool settings",
    after = { "configuration" },
    service = async_service,
    run = function(ctx)
        local _ = ctx.config.async_database_url -- a wrong value is an error of the configuration, not of the server
        local conn = connection_or_reason(ctx)
        if room(ctx.config) > AT_ONCE then
            ctx.lease, ctx.conn = conn, conn
        else
            conn:release() -- the concurrency check needs all connections
            ctx.conn = engine()
        end
        local target = require("dbrun.target").describe(ctx.conn, ctx.config.async_database_url)
        return { text = ("%s, %s"):format(target, pool_text(ctx.config)), facts = { target = target } }
    end,
}

-- ---- several at once ----

local MEET <const> = catalog.sql [[
select {pg_backend_pid}() as pid, extract(epoch from {statement_timestamp}())::{float8} as began,
       extract(epoch from {clock_timestamp}())::{float8} as ended
  from {pg_sleep}($1)]]

local NOT_OFFERED <const> = { ["42501"] = true, ["42883"] = true, ["0A000"] = true }

-- Seconds that the statements take. On a busy machine short ones may not overlap: then longer ones are tried.
local NAPS <const> = { 0.002, 0.03, 0.3 }

---The greatest number of overlapping spans: the number of statements that the server ran at the same time.
---@param spans { began: number, ended: number }[]
---@return integer
function M.overlap(spans)
    local most = 0
    for _, at in ipairs(spans) do
        local now = 0
        for _, other in ipairs(spans) do
            if other.began <= at.began and at.began < other.ended then now = now + 1 end
        end
        most = math.max(most, now)
    end
    return most
end

---Takes `n` connections, waits until all are held, then runs a statement of `nap` seconds on each at the same time.
local function meet(n, nap)
    local spans, held, all_held = {}, 0, task.queue()
    task.all((function()
        local list = {}
        for i = 1, n do
            list[i] = function()
                local conn <close> = engine():acquire()
                held = held + 1
                if held == n then
                    for _ = 1, n do all_held:push(true) end
                end
                all_held:pop()
                spans[i] = conn:one(MEET, nap)
            end
        end
        return list
    end)())
    return spans
end

---@return { pid: integer, began: number, ended: number }[] spans
---@return integer at_once how many of the statements ran at the same time
local function meet_until_together(n)
    local spans, at_once
    for _, nap in ipairs(NAPS) do
        spans = meet(n, nap)
        at_once = M.overlap(spans)
        if at_once > 1 or n == 1 then break end
    end
    return spans, at_once
end

local PATIENCE <const> = 4 -- seconds, at most a third of the time for all checks

---The same, but nil when not all connections were served in time. The served ones are then closed, so that the other
---checks do not wait for them.
local function meet_in_time(ctx, n)
    local limit = math.min(PATIENCE, math.max(0.1, (ctx.deadline - task.now()) / 3))
    local ok, spans, at_once = pcall(task.timeout, limit, meet_until_together, n)
    if ok then return spans, at_once end
    if not errors.is(spans, "timeout") or spans.sqlstate then error(spans, 0) end
    engine():invalidate()
    return nil
end

---Connections that open, but whose statements wait, as behind a pooler with a small pool.
local function unserved(ctx, n)
    if not ctx.conn then return nil end -- nothing answers: the error of the connection says so
    ctx.unserved = true
    return {
        status = "FAIL", text = ("%d connections were opened, and not all of them were served"):format(n),
        cause = "a pooler in between has no more to give (its pool is too small, or others use it), or the server is "
            .. "overloaded",
        remedy = { "raise default_pool_size of the pooler (PgBouncer: show pools), or lower DB_POOL_SIZE" },
    }
end

local function distinct(spans)
    local seen, pids = {}, {}
    for _, span in ipairs(spans) do
        if not seen[span.pid] then pids[#pids + 1] = ("%d"):format(span.pid) end
        seen[span.pid] = true
    end
    return pids
end

---Some servers lack the functions for this test, or do not let this role call them.
local function refused(e)
    if not errors.is(e) or not NOT_OFFERED[e.sqlstate] or e.kind == "connect" then error(e, 0) end
    return { status = "SKIP", text = ("not offered here: %s"):format(e.message) }
end

---@type dbrun.verify.Check
M.concurrency = {
    name = "postgres.concurrency",
    about = ("db.async runs statements on up to %d connections at the same time"):format(AT_ONCE),
    needs = { "postgres.async" },
    eager = true, -- its connections are opened while the first one is
    service = async_service,
    run = function(ctx)
        local n = math.min(AT_ONCE, room(ctx.config))
        local met, spans, at_once = pcall(meet_in_time, ctx, n)
        if not met then return refused(spans) end
        if not spans then
            return unserved(ctx, n) or errors.fail("timeout", ("%d connections gave no answer in time"):format(n))
        end
        local pids = distinct(spans)
        ctx.own_backends = {}
        for i, span in ipairs(spans) do ctx.own_backends[i] = span.pid end
        local text = ("%s held at once, %s at the same moment (backends %s)"):format(
            cli.plural(#pids, "connection"), cli.plural(at_once, "statement"), table.concat(pids, ", "))
        local facts = { connections = #pids, at_once = at_once }
        local pooler = ctx.expect.pooler
        if #pids < n and pooler ~= nil and pooler ~= false and pooler ~= "session" then
            return { text = text .. ", through the expected pooler", facts = facts }
        end
        if #pids < n then
            return {
                status = "FAIL", text = text, facts = facts,
                cause = ("%d connections of the pool share %d backends"):format(n, #pids),
                remedy = { "there is a pooler that does not keep sessions: name the server itself in DATABASE_URL, "
                    .. "or expect it: { pooler = 'transaction' } in " .. ctx.expect.file },
            }
        end
        if n > 1 and at_once < 2 then
            return {
                status = "WARN", text = text, facts = facts,
                cause = "the statements ran one after the other: this machine or the server is very busy",
                remedy = { "run it again; check the load with top" },
            }
        end
        return { text = text, facts = facts }
    end,
}

-- ---- the sync engine ----

local function same_server(ctx)
    return ctx.config.sync_database_url == ctx.config.async_database_url
end

---The sync engine blocks all other checks while it waits. So if it has another server, an async connection tests that
---server first, under the common deadline.
local function ask_first(ctx)
    local db = require "dbrun.db"
    local probe = db.engine { url = ctx.config.sync_database_url, mode = "async", size = 1, overflow = 0 }
    local _ <close> = setmetatable({}, { __close = function() probe:close() end })
    probe:value "select 1"
end

---db.sync from the configuration, with the remaining time as its timeouts.
local function limited_engine(ctx)
    local left = math.max(0.05, ctx.deadline - task.now())
    return require("dbrun.db").engine {
        url = ctx.config.sync_database_url, mode = "sync", size = ctx.config.SYNC_POOL_SIZE, overflow = 0,
        timeout = left, connect_timeout = math.min(left, math.max(0.05, ctx.config.DB_CONNECT_TIMEOUT)),
        command_timeout = left, pre_ping = ctx.config.DB_POOL_PRE_PING,
        statement_cache = ctx.config.DB_STATEMENT_CACHE,
    }
end

---@type dbrun.verify.Check
M.sync = {
    name = "postgres.sync",
    about = "db.sync connects and answers (migrations and seeds use it)",
    needs = { "postgres.async" },
    independent = function(ctx) return not same_server(ctx) end,
    after = { "configuration", "postgres.concurrency" },
    rather_after = { "redis.round_trip" }, -- it blocks, so it comes last
    service = sync_service,
    run = function(ctx)
        if ctx.unserved and same_server(ctx) then -- it would wait for a connection, and block all other checks
            return { status = "SKIP", text = "needs postgres.concurrency", blocked_by = "postgres.concurrency" }
        end
        if not same_server(ctx) then ask_first(ctx) end
        task.sleep(0) -- let the other checks send their statements before this one blocks
        local sync = limited_engine(ctx)
        local _ <close> = setmetatable({}, { __close = function() sync:close() end })
        local where = ""
        if not same_server(ctx) then
            where = require("dbrun.target").describe(sync, ctx.config.sync_database_url) .. ", "
        end
        local pid = sync:value(catalog.sql "select {pg_backend_pid}()")
        return ("%spool of %d, backend %d"):format(where, ctx.config.SYNC_POOL_SIZE, pid)
    end,
}

return M
