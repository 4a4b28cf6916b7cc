--- The options of redis.pool and redis.client: checked, completed from the URL, translated for core.redis.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

local COMMAND_TIMEOUT <const> = 30

local NOT_NEGATIVE <const> = args.any_seconds
local POOL <const> = {
    function(v) return getmetatable(v) == core.redis.class "pool" end, "a pool of redis.pool{...}",
}

--- Texts that CLIENT LIST shows, which separates fields by blanks.
local ATTRIBUTE <const> = {
    function(v) return type(v) == "string" and not v:find "[^!-~]" end, "a text of ASCII without blanks",
}

--- Of redis.pool.
local OF_POOL <const> = {
    url = "string", max_connections = args.whole(1, 100000), timeout = NOT_NEGATIVE,
    on_full = args.one_of("wait", "error"),
    connect_timeout = {
        function(v) return type(v) == "number" and v > 0 end, "a number of seconds above 0",
    },
    ping_idle = NOT_NEGATIVE, host = "string", port = args.whole(1, 65535), path = "string",
    db = args.whole(0, 0x7fffffff), username = "string", password = "string", tls = "boolean",
    verify = "boolean", verify_hostname = "boolean",
    ca_file = "string", ca_dir = "string", cert_file = "string", key_file = "string", server_name = "string",
    client_name = ATTRIBUTE, lib_name = ATTRIBUTE, lib_ver = ATTRIBUTE, no_evict = "boolean", no_touch = "boolean",
    alive_timeout = NOT_NEGATIVE, max_queued = args.whole(65536),
    sentinel_username = "string", sentinel_password = "string", sentinel_tls = "boolean",
    min_version = args.one_of("TLSv1.2", "TLSv1.3"),
}
--- Further options of redis.client; the only ones allowed with an existing pool.
local OF_CLIENT <const> = {
    command_timeout = NOT_NEGATIVE, idempotent = "boolean", pool = POOL, read_from = args.one_of("primary", "replica"),
}

local function both(one, other)
    local all = {}
    for _, rules in ipairs { one, other } do
        for name, rule in pairs(rules) do
            all[name] = rule
        end
    end
    return all
end

local KNOWN <const> = { ["redis.pool"] = OF_POOL, ["redis.client"] = both(OF_POOL, OF_CLIENT) }

local function check(opts, where)
    opts = args.options(where, opts, KNOWN[where])
    for name in pairs(opts.pool and opts or {}) do
        if name == "url" or name == "host" or name == "path" then
            errors.usage(where, "give either a pool or an address, not both")
        elseif not OF_CLIENT[name] then
            errors.fail("usage", ("%s: %s is an option of a pool, and the pool is given"):format(where, name),
                ("redis.pool{%s = ...}"):format(name))
        end
    end
    return opts
end

local function wrong(name, expected, hint)
    errors.fail("config", ("the Redis URL: option %s must be %s"):format(name, expected), hint)
end

local function number_of(name, text)
    local value <const> = tonumber(text)
    if not value or value < 0 or value ~= value then
        wrong(name, "a number")
    end
    return value
end

local function attribute_of(name, text)
    return ATTRIBUTE[1](text) and text or wrong(name, ATTRIBUTE[2])
end

local TRUTH <const> = { ["true"] = true, ["1"] = true, yes = true, ["false"] = false, ["0"] = false, no = false }

local function truth_of(name, text)
    local value <const> = TRUTH[text:lower()]
    if value == nil then
        wrong(name, "true or false")
    end
    return value
end

--- The options after "?" (with redis-py's names), and their meaning here.
local FROM_URL <const> = {
    client_name = function(s, text) s.client_name = attribute_of("client_name", text) end,
    lib_name = function(s, text) s.lib_name = attribute_of("lib_name", text) end,
    lib_version = function(s, text) s.lib_ver = attribute_of("lib_version", text) end,
    max_connections = function(s, text)
        s.max_connections = math.tointeger(number_of("max_connections", text))
            or wrong("max_connections", "a whole number")
    end,
    timeout = function(s, text) s.timeout = number_of("timeout", text) end,
    alive_timeout = function(s, text) s.alive_timeout = number_of("alive_timeout", text) end,
    socket_timeout = function(s, text) s.command_timeout = number_of("socket_timeout", text) end,
    socket_connect_timeout = function(s, text)
        s.connect_timeout = number_of("socket_connect_timeout", text)
        if s.connect_timeout == 0 then
            wrong("socket_connect_timeout", "a number of seconds above 0")
        end
    end,
    health_check_interval = function(s, text) s.ping_idle = number_of("health_check_interval", text) end,
    socket_keepalive = function(_, text) truth_of("socket_keepalive", text) end, -- it is always on
    read_from = function(s, text)
        if text ~= "primary" and text ~= "replica" then
            wrong("read_from", "primary or replica")
        end
        s.read_from = text
    end,
    sentinel_username = function(s, text) s.sentinel_username = text end,
    sentinel_password = function(s, text) s.sentinel_password = text end,
    ssl_ca_certs = function(s, text) s.ca_file = text end,
    ssl_ca_path = function(s, text) s.ca_dir = text end,
    ssl_certfile = function(s, text) s.cert_file = text end,
    ssl_keyfile = function(s, text) s.key_file = text end,
    ssl_check_hostname = function(s, text) s.verify_hostname = truth_of("ssl_check_hostname", text) end,
    ssl_cert_reqs = function(s, text)
        if text ~= "none" and text ~= "required" then
            wrong("ssl_cert_reqs", "required or none")
        end
        s.verify = text == "required"
    end,
    ssl_min_version = function(s, text)
        if text ~= "TLSv1.2" and text ~= "TLSv1.3" then
            wrong("ssl_min_version", "TLSv1.2 (the minimum in any case) or TLSv1.3")
        end
        s.min_version = text
    end,
    protocol = function(_, text)
        if text ~= "2" then
            wrong("protocol", "2", "leave it out: replies have the shapes of RESP3 all the same")
        end
    end,
}

local function from_url(text, where)
    local parsed <const> = require("dbrun.url").parse_redis(text, "the Redis URL")
    local kind <const> = parsed.scheme:match "%+(%a+)$"
    if kind == "cluster" and where == "redis.pool" then
        errors.fail("usage", "redis.pool: a cluster has a pool for each node",
            "use redis.client{url = \"redis+cluster://...\"}")
    elseif kind == "cluster" and parsed.db ~= 0 then
        errors.fail("config", where .. ": a cluster has only the database 0")
    end
    local settings = {
        host = parsed.host, port = parsed.port, path = parsed.path, db = parsed.db, tls = parsed.tls,
        username = parsed.username, password = parsed.password,
    }
    if kind == "cluster" then
        settings.cluster = parsed.hosts
    elseif kind == "sentinel" then
        settings.sentinels, settings.service = parsed.hosts, parsed.service
    end
    for name, value in pairs(parsed.params) do
        FROM_URL[name](settings, value)
    end
    return settings
end

local NO_CLUSTER <const> = "redis.client{url = \"redis+cluster://...\", read_from = \"replica\"}; elsewhere a client "
    .. "of a replica is made with the replica's address"

---Checks the options of redis.pool and redis.client.
---@param opts table|nil
---@param where "redis.pool"|"redis.client"
---@return table settings for core.redis.pool_new
---@return table client settings for core.redis.client_new
function M.pool(opts, where)
    opts = check(opts, where)
    local settings = {}
    if opts.url or not (opts.host or opts.path or opts.pool) then
        settings = from_url(opts.url or require("dbrun.config").redis_url, where)
    end
    for name, value in pairs(opts) do
        settings[name] = value
    end
    if settings.lib_ver and not settings.lib_name then
        errors.fail("usage", where .. ": lib_ver is the version of lib_name, which is missing")
    end
    if settings.read_from == "replica" and not settings.cluster then
        errors.fail(opts.read_from and "usage" or "config", where .. ": read_from = \"replica\" is for a cluster",
            NO_CLUSTER)
    end
    settings.tls13 = settings.min_version == "TLSv1.3"
    settings.full_is_error = settings.on_full == "error"
    return settings, { timeout = settings.command_timeout or COMMAND_TIMEOUT, idempotent = settings.idempotent }
end

local COUNT <const> = args.whole(0, 10000)
local ON_DISK <const> = { primary = args.whole(0, 1), ["local"] = args.whole(0, 1), replicas = COUNT }
local WAIT <const> = {
    replicas = COUNT, timeout = args.some_seconds,
    aof = { function(v) return v == true or type(v) == "table" end, "true or {primary = 0 or 1, replicas = n}" },
}

--- The default time that writes wait for replicas, in seconds.
local WAIT_FOR <const> = 1

---The settings of `wait = {...}`.
---@return dbrun.redis.Wait
local function wait_of(given)
    args.options("with: wait", given, WAIT)
    local want <const> = { replicas = given.replicas or 0, timeout = given.timeout or WAIT_FOR }
    if given.aof == true then
        want.aof = { primary = 1, replicas = want.replicas }
    elseif given.aof then
        local disk <const> = args.options("with: wait.aof", given.aof, ON_DISK)
        want.aof = { primary = disk.primary or disk["local"] or 0, replicas = disk.replicas or 0 }
    end
    if want.replicas == 0 and not (want.aof and (want.aof.primary > 0 or want.aof.replicas > 0)) then
        errors.fail("usage", "with: wait must say what to wait for", "wait = {replicas = 1, timeout = 0.5}")
    end
    return want
end

local WITH <const> = {
    timeout = NOT_NEGATIVE, idempotent = "boolean", typed = "boolean", wait = args.or_false "table",
}
local CLUSTER_WITH <const> = both(WITH, { read_from = OF_CLIENT.read_from })

---Checks the options of client:with.
---@param opts table
---@param cluster? boolean
---@return table opts without `wait`
---@return dbrun.redis.Wait|false|nil want nil: not said
function M.with(opts, cluster)
    args.check("with", "the options", opts, "table")
    args.options("with", opts, cluster and CLUSTER_WITH or WITH)
    if opts.wait == nil then
        return opts
    end
    local rest <const> = {}
    for name, value in pairs(opts) do
        rest[name] = value
    end
    rest.wait = nil
    return rest, opts.wait and wait_of(opts.wait)
end

local function is_key(v)
    return type(v) == "string" or type(v) == "number"
end

local function are_keys(list)
    local n = 0
    for at, key in next, type(list) == "table" and list or { false } do
        if math.type(at) ~= "integer" or not is_key(key) then
            return false
        end
        n = n + 1
    end
    return n == #list
end

M.KEY = { is_key, "a string or a number" }
M.KEYS = { are_keys, "a list of strings and numbers" }

local MULTI <const> = {
    watch = { function(v) return is_key(v) or (are_keys(v) and #v > 0) end, "a key or a list of keys" },
    retry = args.whole(0),
}

---The arguments of client:multi([options,] fn).
---@param opts table|function|nil
---@param fn function|nil
---@return table opts
---@return function fn
function M.multi(opts, fn)
    return args.options_and_function("multi", opts, fn, MULTI)
end

local PAGE <const> = {
    match = { is_key, "a pattern, as a string" }, count = args.whole(1),
}
local PAGE_OF_KEYS <const> = { match = PAGE.match, count = PAGE.count, type = "string" }

---The options of a scan: only `scan` itself has `type`.
---@param fn "scan"|"hscan"|"sscan"|"zscan"
---@param opts table|nil
---@return table opts
function M.scan(fn, opts)
    if type(opts) == "number" or type(opts) == "string" then
        errors.fail("usage", ("%s: the options must be a table, got a %s"):format(fn, type(opts)),
            ("its iterator passes the cursor on: %s; one page: r:call(\"%s\", ...)"):format(
                fn == "scan" and "r:scan{match = ...}" or ("r:%s(key, {match = ...})"):format(fn), fn:upper()))
    end
    return args.options(fn, opts, fn == "scan" and PAGE_OF_KEYS or PAGE)
end

return M
