--- The options of redis.pool and redis.client: checked, completed from the URL, translated for core.redis.
local errors <const> = require "dbrun.error"
local nearest <const> = require "dbrun.nearest"

local M = {}

local COMMAND_TIMEOUT <const> = 30

local KNOWN <const> = {
    url = "string", max_connections = "number", timeout = "number", on_full = "string", connect_timeout = "number",
    ping_idle = "number", command_timeout = "number", idempotent = "boolean", pool = "userdata",
    host = "string", port = "number", path = "string", db = "number", username = "string", password = "string",
    tls = "boolean", verify = "boolean", verify_hostname = "boolean", ca_file = "string", ca_dir = "string",
    cert_file = "string", key_file = "string", server_name = "string", client_name = "string",
    read_from = "string", sentinel_username = "string", sentinel_password = "string", sentinel_tls = "boolean",
    min_version = "string",
}

local function check(opts, where)
    if type(opts) ~= "table" then
        errors.fail("usage", ("%s expects a table of options, got %s"):format(where, type(opts)))
    end
    for name, value in pairs(opts) do
        local expected <const> = KNOWN[name]
        if not expected then
            local names = {}
            for known in pairs(KNOWN) do
                names[#names + 1] = known
            end
            local near <const> = type(name) == "string" and nearest.find(name, names)
            errors.fail("usage", ("%s: unknown option '%s'"):format(where, tostring(name)),
                near and ("did you mean '%s'?"):format(near))
        elseif type(value) ~= expected then
            errors.usage(where, "%s must be a %s, got %s", name, expected, type(value))
        end
    end
    if opts.on_full and opts.on_full ~= "wait" and opts.on_full ~= "error" then
        errors.usage(where, 'on_full must be "wait" or "error"')
    end
    if opts.read_from and opts.read_from ~= "primary" and opts.read_from ~= "replica" then
        errors.usage(where, 'read_from must be "primary" or "replica"')
    end
    if opts.min_version and opts.min_version ~= "TLSv1.2" and opts.min_version ~= "TLSv1.3" then
        errors.usage(where, 'min_version must be "TLSv1.2" or "TLSv1.3"')
    end
    if opts.pool and (opts.url or opts.host or opts.path) then
        errors.usage(where, "give either a pool or an address, not both")
    end
end

local function wrong(name, expected)
    errors.fail("config", ("the Redis URL: option %s must be %s"):format(name, expected))
end

local function number_of(name, text)
    local value <const> = tonumber(text)
    if not value or value < 0 or value ~= value then
        wrong(name, "a number")
    end
    return value
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
    client_name = function(s, text) s.client_name = text end,
    max_connections = function(s, text) s.max_connections = math.tointeger(number_of("max_connections", text)) end,
    timeout = function(s, text) s.timeout = number_of("timeout", text) end,
    socket_timeout = function(s, text) s.command_timeout = number_of("socket_timeout", text) end,
    socket_connect_timeout = function(s, text) s.connect_timeout = number_of("socket_connect_timeout", text) end,
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
            wrong("protocol", "2")
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

--- Of the options and of the URL.
local function check_times(settings, where)
    for _, name in ipairs { "timeout", "connect_timeout", "command_timeout", "ping_idle" } do
        local seconds <const> = settings[name]
        local fine <const> = seconds == nil or seconds >= 0 -- NaN is not
        if not fine then
            errors.usage(where, "%s must be a number of seconds of at least 0", name)
        end
    end
    if settings.connect_timeout == 0 then
        errors.usage(where, "connect_timeout must be a number of seconds above 0")
    end
end

---Checks the options of redis.pool and redis.client.
---@param opts table
---@param where string the function's name, for errors
---@return table settings for core.redis.pool_new
---@return table client settings for core.redis.client_new
function M.pool(opts, where)
    check(opts, where)
    local settings = {}
    if opts.url or not (opts.host or opts.path or opts.pool) then
        settings = from_url(opts.url or require("dbrun.config").redis_url, where)
    end
    for name, value in pairs(opts) do
        settings[name] = value
    end
    check_times(settings, where)
    settings.tls13 = settings.min_version == "TLSv1.3"
    settings.full_is_error = settings.on_full == "error"
    return settings, { timeout = settings.command_timeout or COMMAND_TIMEOUT, idempotent = settings.idempotent }
end

return M
