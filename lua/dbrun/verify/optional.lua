--- Checks of features that few servers have or few projects expect: their descriptions, and whether there is anything
--- to check. Their code is loaded only then.
local M = {}

local function postgres(ctx) return require("dbrun.verify.checks_pg").async.service(ctx) end

local function redis(ctx) return require("dbrun.verify.checks_redis").redis.service(ctx) end

local function always() return true end

local NO_TIMESCALE <const>, NO_CITUS <const> = "TimescaleDB is not in this database", "Citus is not in this database"

---A check whose work is a function of another module.
---@param name string
---@param about string
---@param work { [1]: string, [2]: string } module and function
---@param more table fields of the check
---@param idle fun(ctx: dbrun.verify.Context): string|false|nil why there is nothing to check (SKIP, or `more.none`)
local function check(name, about, work, more, idle)
    more.name, more.about, more.optional = name, about, more.optional ~= false
    more.service = name:find "^redis" and redis or postgres
    function more.run(ctx)
        local why = idle(ctx)
        if why then return { status = more.none or "SKIP", text = why } end
        return require("dbrun.verify." .. work[1])[work[2]](ctx)
    end
    return more
end

local function expects(ctx, ...)
    for _, fact in ipairs(ctx.expect.tables) do
        for _, key in ipairs { ... } do
            if fact[key] ~= nil then return true end
        end
    end
    return false
end

M.members = check("postgres.members", "a URL with several hosts: one primary answers, the standbys follow it",
    { "checks_members", "members" },
    -- It reports why none of the hosts was chosen.
    { needs = { "postgres.async" }, independent = always, on_conn = true },
    function(ctx)
        local places <const> = { ctx.config.async_database_url, os.getenv "PGHOST" or "", os.getenv "PGHOSTADDR" or "" }
        for _, text in ipairs(places) do
            if text:find(",", 1, true) or text:find("%2C", 1, true) then return false end
        end
        return "the URL names one host"
    end)

M.certificates = check("postgres.certificates", "the certificates of the connection do not end soon",
    { "checks_certificates", "postgres" }, { needs = { "postgres.async" }, on_conn = true },
    function(ctx) return ctx.lease and not ctx.lease:certificates() and "the connection is not encrypted" end)

M.timescale = check("postgres.timescale",
    "TimescaleDB: the version that is installed, a licence for what is used, a scheduler that runs",
    { "checks_timescale_state", "state" }, { needs = { "postgres.server" }, on_conn = true },
    function(ctx) return not ctx.server.extensions.timescaledb and NO_TIMESCALE end)

M.citus = check("postgres.citus",
    "Citus: all nodes are active, reach each other, have one version, and no old prepared transaction",
    { "checks_citus", "nodes" }, { needs = { "postgres.server" }, on_conn = true },
    function(ctx) return not ctx.server.extensions.citus and NO_CITUS end)

M.citus_shards = check("postgres.citus_shards", "Citus: shards are on the nodes where they belong, and evenly spread",
    { "checks_citus", "shards" },
    -- It has its own cause when a node is down.
    { needs = { "postgres.citus" }, independent = always, on_conn = true },
    function(ctx) return not (ctx.server and ctx.server.extensions.citus) and NO_CITUS end)

M.cluster = check("redis.cluster",
    "a cluster is whole: its state, all slots, no failed node or open migration, a replica for each master",
    { "checks_redis_topology", "cluster" },
    -- It reports why the whole cluster does not answer; the check of the sentinels does the same.
    { needs = { "redis" }, independent = always },
    function(ctx)
        local info = ctx.redis and ctx.redis.info or {}
        local named = ctx.config.redis_url:find "^%s*rediss?%+cluster:"
        return not named and (info.redis_mode or info.server_mode) ~= "cluster"
            and "the server is not in a cluster"
    end)

M.sentinels = check("redis.sentinels", "sentinels have a quorum, know each other and agree on the master, which is one",
    { "checks_redis_topology", "sentinels" }, { needs = { "redis" }, independent = always },
    function(ctx)
        return not ctx.config.redis_url:find "^%s*rediss?%+sentinel:" and "the URL names no sentinels"
    end)

M.redis_certificates = check("redis.certificates", "the certificates of the connection do not end soon",
    { "checks_certificates", "redis" }, { needs = { "redis" } },
    function(ctx) return not ctx.config.redis_url:find "^%s*rediss" and "the connection is not encrypted" end)

---A check of tables with `key` in the expectations.
local function of_tables(name, key, about, after)
    return check("schema." .. name, about, { "checks_expected", name },
        { needs = { "postgres.async" }, on_conn = true, after = { after }, optional = false, none = "PASS" },
        function(ctx) return not expects(ctx, key) and ("%s expects none"):format(ctx.expect.file) end)
end

M.columns = of_tables("columns", "columns", "columns have the expected names and types", "schema.tables")

M.indexes = of_tables("indexes", "indexes", "tables have the expected indexes", "schema.columns")

M.privileges = of_tables("privileges", "privileges", "the role has the expected privileges", "schema.indexes")

M.extensions = check("schema.extensions", "the expected extensions are there, in the expected versions",
    { "checks_expected", "extensions" },
    { needs = { "postgres.async" }, on_conn = true, after = { "schema.privileges" }, optional = false, none = "PASS" },
    function(ctx) return #ctx.expect.extensions == 0 and ("%s expects none"):format(ctx.expect.file) end)

M.hypertables = check("schema.hypertables",
    "TimescaleDB: chunks, compression and retention as expected; no job failed, paused or overdue",
    { "checks_timescale", "hypertables" },
    { needs = { "postgres.async", "postgres.server" }, on_conn = true, after = { "schema.time_partitioning" },
        optional = false },
    function(ctx)
        return not ctx.server.timescale and not expects(ctx, "chunk_interval", "compression", "retention")
            and NO_TIMESCALE
    end)

M.aggregates = check("schema.aggregates", "TimescaleDB: the expected continuous aggregates are there, and refreshed",
    { "checks_timescale_state", "aggregates" },
    { needs = { "postgres.async", "postgres.server" }, on_conn = true, after = { "schema.hypertables" } },
    function(ctx) return #ctx.expect.aggregates == 0 and ("%s expects none"):format(ctx.expect.file) end)

M.distribution = check("schema.distribution",
    "Citus: tables are distributed by the expected column, or are reference tables",
    { "checks_citus", "distribution" },
    { needs = { "postgres.async", "postgres.server" }, on_conn = true, after = { "schema.tables" } },
    function(ctx)
        return not expects(ctx, "distributed_by", "reference") and ("%s expects none"):format(ctx.expect.file)
    end)

return M
