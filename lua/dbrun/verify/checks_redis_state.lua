--- The state of Redis: version, rights, memory, eviction, persistence, clients, replication, latency. All but rights
--- and latency judge the INFO that the check `redis` read.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local expect = require "dbrun.verify.expect"
local limits = require "dbrun.verify.limits"
local task = require "dbrun.task"

local M = {}

---@type dbrun.verify.Check[]
M.list = {}

local function service(ctx) return require("dbrun.verify.checks_redis").redis.service(ctx) end

local function add(name, about, run)
    M.list[#M.list + 1] = {
        name = "redis." .. name, about = about, needs = { "redis" }, service = service, run = run,
    }
end

local function differs(text, cause, ...)
    return { status = "INCOMPLETE", text = text, cause = cause, remedy = { ... } }
end

---A check of a part of INFO. If the user may not run INFO, which the check `redis` reports, it is skipped, unless an
---expectation depends on it.
---@param key? string of the expectation
local function check(name, about, run, key)
    add(name, about, function(ctx)
        local info = ctx.redis.info
        if info then return run(ctx, info) end
        local wanted, refused = key and ctx.expect[key], ctx.redis.refused or "no answer"
        if wanted == nil then return { status = "SKIP", text = ("INFO: %s"):format(refused) } end
        return differs("unknown", ("%s is expected, and cannot be seen: %s"):format(tostring(wanted), refused),
            ("acl setuser %s +info"):format(ctx.redis.user))
    end)
end

local function number(info, name) return tonumber(info[name]) or 0 end

local function size(bytes)
    if bytes < 1 << 20 then return ("%.0f KiB"):format(bytes / 1024) end
    if bytes < 1 << 30 then return ("%.1f MiB"):format(bytes / (1 << 20)) end
    return ("%.1f GiB"):format(bytes / (1 << 30))
end

check("version", "the server's version is the expected one (redis = '>= 6.2')", function(ctx)
    local wanted, server = ctx.expect.redis, ctx.redis.is
    local version = server.version or "0"
    local text = server.name .. " " .. version
    if not wanted then return text .. ", none is expected" end
    if expect.version_fits(version, wanted) then return ("%s, expected %s"):format(text, wanted) end
    return differs(text, ("version %s is expected"):format(wanted),
        "use a server of that version, or correct the expectation in " .. ctx.expect.file)
end, "redis")

-- ---- rights ----

---A harmless call of each command: NOPERM means that the right is missing, any other reply that it exists.
local HARMLESS <const> = {
    PUBLISH = { "dbrun:verify", "" }, EVAL = { "return 1", "0" }, SCAN = { "0", "COUNT", "1" }, INFO = { "server" },
    KEYS = { "dbrun:verify:none" }, DBSIZE = {}, EXISTS = { "dbrun:verify:none" }, GET = { "dbrun:verify:none" },
    DEL = { "dbrun:verify:none" }, EXPIRE = { "dbrun:verify:none", "1" }, XLEN = { "dbrun:verify:none" },
    LLEN = { "dbrun:verify:none" }, HLEN = { "dbrun:verify:none" }, SCARD = { "dbrun:verify:none" },
    ZCARD = { "dbrun:verify:none" },
}

local USUAL <const> = { "GET", "DEL", "EXPIRE", "SCAN", "PUBLISH", "EVAL", "INFO" }

---The commands that the user may not run.
local function refused(r, names)
    local replies = r:pipeline(function(p)
        for _, name in ipairs(names) do p:call(name, table.unpack(HARMLESS[name])) end
    end)
    local list = {}
    for i, name in ipairs(names) do
        local reply = replies[i]
        if type(reply) == "table" and reply.code == "NOPERM" then list[#list + 1] = name end
    end
    return list
end

---Commands that write nothing: all that a program with --read-only may call.
local READS <const> = {
    SCAN = true, INFO = true, KEYS = true, DBSIZE = true, EXISTS = true, GET = true, XLEN = true, LLEN = true,
    HLEN = true, SCARD = true, ZCARD = true,
}

---The names without those that --read-only forbids, and these.
local function allowed_now(names)
    if not core.options.read_only then return names, {} end
    local asked, left = {}, {}
    for _, name in ipairs(names) do table.insert(READS[name] and asked or left, name) end
    return asked, left
end

add("rights", "the user may run what is expected (redis_can = { 'PUBLISH', 'EVAL' })", function(ctx)
    local wanted, names = ctx.expect.redis_can, {}
    for i, name in ipairs(wanted or USUAL) do
        names[i] = name:upper()
        if not HARMLESS[names[i]] then
            return differs("cannot be checked", ("there is no harmless call of %s"):format(names[i]),
                "take it out of redis_can in " .. ctx.expect.file)
        end
    end
    local asked, left = allowed_now(names)
    if #asked == 0 then return { status = "SKIP", text = "nothing is written with --read-only" } end
    local list = refused(require("dbrun.redis").get(), asked)
    local text = ("user %s may run %s%s"):format(ctx.redis.user, table.concat(asked, ", "), #left == 0 and ""
        or ("; not tried with --read-only: %s"):format(table.concat(left, ", ")))
    if #list == 0 and #left > 0 and wanted then return { status = "SKIP", text = text } end
    if #list == 0 then return text end
    local cause = ("user %s may not run %s"):format(ctx.redis.user, table.concat(list, ", "))
    if not wanted then return cause end
    return differs(("%d of %d are allowed"):format(#names - #list, #names), cause,
        ("acl setuser %s +%s"):format(ctx.redis.user, list[1]:lower()), "are its key and channel patterns wide enough?")
end)

-- ---- memory ----

check("memory", "there is room below maxmemory", function(ctx, info)
    local used, most = number(info, "used_memory"), number(info, "maxmemory")
    local system = number(info, "total_system_memory")
    local whole, named = most, "maxmemory"
    if most == 0 then whole, named = system, "the machine's memory" end
    if whole == 0 then return ("%s used, no maxmemory"):format(size(used)) end
    local share = used / whole
    local text = ("%s used, %.0f %% of %s (%s)"):format(size(used), share * 100, named, size(whole))
    local policy = info.maxmemory_policy or "noeviction"
    -- A cache that may evict every key is full whenever it has been used for a while.
    if most > 0 and policy:find "^allkeys%-" then return text .. ", " .. policy end
    local status, limit = limits.judge(ctx, "redis.memory", share)
    if not limit then return text end
    return {
        status = status, text = text, cause = ("more than %.0f %%; then: %s"):format(limit * 100,
            policy == "noeviction" and "writes are refused" or "keys are evicted (" .. policy .. ")"),
        remedy = { "redis-cli --bigkeys; give keys a lifetime, or raise maxmemory" },
    }
end)

local LOOK <const> = 0.25 -- seconds between two readings of the evicted keys

---Keys evicted per second.
local function eviction_rate(ctx, before)
    local began = task.now()
    task.sleep(math.min(LOOK, math.max(0, ctx.deadline - began) / 2))
    local text = require("dbrun.redis").get():info "stats"
    local after = tonumber(tostring(text):match "evicted_keys:(%d+)") or before
    -- The first reading was a moment before this check began.
    return math.max(0, after - before) / math.max(task.now() - ctx.redis.asked, 1e-3)
end

check("eviction", "the eviction policy is the expected one (eviction = 'noeviction')", function(ctx, info)
    local policy, wanted = info.maxmemory_policy or "unknown", ctx.expect.eviction
    local text = policy .. (number(info, "maxmemory") == 0 and ", no maxmemory" or "")
    if wanted and wanted ~= policy then
        return differs(text, wanted .. " is expected", "config set maxmemory-policy " .. wanted .. "; config rewrite")
    end
    local evicted = number(info, "evicted_keys")
    if wanted or evicted == 0 then return text end
    local rate = eviction_rate(ctx, evicted)
    local since = ("%s keys were evicted since the start, %.0f/s at present"):format(
        cli.count(math.tointeger(evicted) or 0), rate)
    local status = limits.judge(ctx, "redis.eviction", rate)
    if status == "PASS" then return ("%s: %s"):format(text, since) end
    return { status = status, text = text, cause = since,
        remedy = { "raise maxmemory, or expect the policy in " .. ctx.expect.file } }
end, "eviction")

-- ---- persistence ----

local function persistence_of(ctx, info)
    if info.aof_enabled == "1" then return "aof" end
    if ctx.redis.save == nil then return nil end
    return ctx.redis.save ~= "" and "rdb" or "none"
end

---Kinds of writing to disk, and the fields of INFO with their last result.
local WRITES <const> = {
    { "rdb_last_bgsave_status", "saving to disk" }, { "aof_last_write_status", "writing the AOF" },
    { "aof_last_bgrewrite_status", "rewriting the AOF" },
}

local SURVIVES <const> = "data survives a restart (persistence = 'aof'), and the last save did not fail"

check("persistence", SURVIVES, function(ctx, info)
    local kind, wanted = persistence_of(ctx, info), ctx.expect.persistence
    local text = kind == "none" and "none: a restart begins empty" or kind or "unknown: CONFIG GET is refused"
    for _, part in ipairs(WRITES) do
        if info[part[1]] == "err" then
            return { status = "FAIL", text = text, cause = part[2] .. " failed the last time: writes may be refused",
                remedy = { "check Redis' log; is its disk full, its folder writable?" } }
        end
    end
    if wanted and not kind and wanted ~= "aof" then
        return differs(text, wanted .. " is expected, and cannot be seen", ("acl setuser %s +config|get"):format(
            ctx.redis.user))
    end
    if wanted and kind ~= wanted and not (wanted == "any" and kind ~= "none") then
        return differs(text, wanted .. " is expected", wanted == "aof" and "config set appendonly yes; config rewrite"
            or "config set save '3600 1'; config rewrite")
    end
    return text
end, "persistence")

-- ---- clients, replication, latency ----

check("clients", "the pool fits into maxclients beside the other clients", function(ctx, info)
    local most, busy = number(info, "maxclients"), math.max(0, number(info, "connected_clients") - 1)
    local pool = ctx.config.REDIS_MAX_CONNECTIONS
    if most == 0 then return { status = "SKIP", text = "the server does not say maxclients" } end
    local text = ("pool of %d, others %d, maxclients %d"):format(pool, busy, most)
    local remedy = { "lower REDIS_MAX_CONNECTIONS, or raise maxclients (and the limit of open files)" }
    if pool > most then
        return { status = "FAIL", text = text, cause = "the pool alone exceeds maxclients", remedy = remedy }
    end
    if pool + busy > most then
        return { status = "WARN", text = text, remedy = remedy,
            cause = ("with all in use, %d are missing"):format(pool + busy - most) }
    end
    local status, limit = limits.judge(ctx, "redis.clients", busy / most)
    if not limit then return text end
    return { status = status, text = text, cause = "others use almost all connections",
        remedy = { "redis-cli client list" } }
end)

local FOLLOWS <const> = "a replica follows its master, a master has its replicas (redis_replicas = 1)"

check("replication", FOLLOWS, function(ctx, info)
    local wanted, count = ctx.expect.redis_replicas, number(info, "connected_slaves")
    if info.role == "slave" then
        local text = ("replica of %s:%s"):format(tostring(info.master_host), tostring(info.master_port))
        if info.master_link_status ~= "up" then
            return { status = "FAIL", text = text, cause = "the link to the master is down",
                remedy = { "redis-cli info replication; is the master there, masterauth right?" } }
        end
        if wanted and wanted > 0 then return text .. ", of an expected pair" end
        return { status = "WARN", text = text, cause = "a replica refuses writes, or loses them",
            remedy = { "name the master in REDIS_URL" } }
    end
    local text = count == 0 and "master without replicas"
        or ("master, %s"):format(cli.plural(math.tointeger(count), "replica"))
    if wanted and count < wanted then
        return differs(text, ("%g expected"):format(wanted), "redis-cli info replication; look at the replicas' logs")
    end
    return text
end, "redis_replicas")

local ROUNDS <const> = 5

add("latency", ("the best of %d round trips is quick"):format(ROUNDS), function(ctx)
    local r, best = require("dbrun.redis").get(), math.huge
    for _ = 1, ROUNDS do
        local began = task.now()
        r:ping()
        best = math.min(best, task.now() - began)
    end
    local text = ("%s for a round trip"):format(cli.duration(best))
    local status, limit = limits.judge(ctx, "redis.latency", best)
    if not limit then return text end
    return { status = status, text = text, cause = ("more than %s"):format(cli.duration(limit)),
        remedy = { "redis-cli --latency; slowlog get; is it far away, or its machine busy?" } }
end)

return M
