--- The known configuration keys: types, defaults, and which values are secret.
local mask <const> = require "dbrun.config.mask"

local M = {}

---@class dbrun.ConfigSpec
---@field parse? fun(raw: any): any, string?, string? the value, or nil, what was expected and a hint
---@field address? "postgres"|"redis" an address, parsed by dbrun.url instead
---@field default any
---@field secret? boolean
---@field user? string the key of this password's user
---@field dbname? string the key of that user's database
---@field folder? boolean a folder of the project: relative to that
---@field off? boolean false is shown as "off"
---@field doc string

local KUBERNETES <const> = "Kubernetes sets this variable for a service of that name: set the URL instead, " ..
    "or enableServiceLinks: false"

local function text(raw)
    if type(raw) ~= "string" then
        return nil, "a string"
    elseif raw:find("\0", 1, true) then
        return nil, "text without NUL bytes"
    elseif not utf8.len(raw) then
        return nil, "valid UTF-8"
    end
    return raw
end

---What another list or pattern language would mean, and what belongs to an address (a scheme, a user, a port).
local function is_no_name(item)
    return item:find "[;|'\"()%[%]{}^$?\\@!]" or item:find("//", 1, true) or item:find "^[^:]*:[^:]*$"
end

---Patterns of names. Others are refused: as a name they would protect nothing.
local function patterns(raw)
    local value <const>, expected <const> = text(raw)
    for item in (value or ""):gmatch "[^,%s]+" do
        if is_no_name(item) then
            return nil, "names of databases, separated by commas",
                "* is the only wildcard, and hosts have no user and no port: *prod*,db.example/shop"
        end
    end
    return value, expected
end

local function integer(low, high)
    local expected <const> = ("an integer from %d to %d"):format(low, high)
    return function(raw)
        local word <const> = tostring(raw):match "^%s*([+-]?%d+)%s*$"
        local value <const> = word and #word <= 12 and math.tointeger(tonumber(word))
            or math.type(raw) == "float" and math.tointeger(raw)
        if not value or value < low or value > high then
            local hint <const> = type(raw) == "string" and raw:find "^tcp://" and KUBERNETES or nil
            return nil, expected, hint
        end
        return value
    end
end

local OFF <const> = { off = true, no = true, none = true, ["false"] = true, never = true, ["-1"] = true }

---A number, or a text of digits.
local function decimal(raw)
    local word <const> = tostring(raw):match "^%s*(.-)%s*$"
    if word:find "^%d+%.?%d*$" or word:find "^%.%d+$" or math.type(raw) then
        return tonumber(word)
    end
    return nil
end

---Seconds, from `low` up.
local function seconds(low)
    local expected <const> = low > 0 and "a number of seconds above 0" or "a number of seconds, 0 or more"
    return function(raw)
        local number <const> = decimal(raw)
        if not number or number < low or number > 1e9 then
            return nil, expected
        end
        return number
    end
end

---Seconds; "off", 0 and -1 mean never and give false.
local function seconds_or_off(raw)
    if OFF[tostring(raw):match "^%s*(.-)%s*$":lower()] then
        return false
    end
    local number <const> = decimal(raw)
    if not number or number < 0 or number > 1e9 then
        return nil, 'a number of seconds, or "off"'
    end
    return number > 0 and number
end

local BOOLEANS <const> = {
    ["true"] = true, ["1"] = true, yes = true, on = true, ["false"] = false, ["0"] = false, no = false, off = false,
}

local function boolean(raw)
    local value <const> = BOOLEANS[tostring(raw):match "^%s*(.-)%s*$":lower()]
    if value == nil then
        return nil, "true or false"
    end
    return value
end

local port <const> = integer(1, 65535)
local LIMIT <const> = 100000

---@type {[1]: string, [2]: dbrun.ConfigSpec}[]
---One of several words.
local function word(...)
    local known <const>, expected <const> = {}, table.concat({ ... }, ", ")
    for _, name in ipairs { ... } do known[name] = true end
    return function(raw)
        if known[raw] then return raw end
        return nil, "one of " .. expected
    end
end

local LIST <const> = {
    { "DATABASE_URL", { address = "postgres", doc = "PostgreSQL's address; wins over POSTGRES_*" } },
    { "POSTGRES_HOST", { parse = text, doc = "name, address, or folder of the unix socket" } },
    { "POSTGRES_PORT", { parse = port, doc = "port of PostgreSQL" } },
    { "POSTGRES_USER", { parse = text, doc = "user of PostgreSQL" } },
    { "POSTGRES_PASSWORD", {
        parse = text, secret = true, user = "POSTGRES_USER", dbname = "POSTGRES_DB", doc = "password of that user",
    } },
    { "POSTGRES_DB", { parse = text, doc = "name of the database" } },
    { "MIGRATION_DATABASE_URL", { address = "postgres", doc = "address for db.sync, past a pooler" } },
    { "REDIS_URL", { address = "redis", doc = "address of Redis; wins over REDIS_HOST and the like" } },
    { "REDIS_HOST", { parse = text, default = "127.0.0.1", doc = "name, address, or path of the unix socket" } },
    { "REDIS_PORT", { parse = port, default = 6379, doc = "port of Redis" } },
    { "REDIS_DB", { parse = integer(0, 999999999), default = 0, doc = "number of the Redis database" } },
    { "REDIS_USERNAME", { parse = text, doc = "user of Redis" } },
    { "REDIS_PASSWORD", { parse = text, secret = true, user = "REDIS_USERNAME", doc = "password of Redis" } },
    { "DB_POOL_SIZE", { parse = integer(0, LIMIT), default = 20, doc = "connections kept open by db.async" } },
    { "DB_MAX_OVERFLOW", { parse = integer(-1, LIMIT), default = 10, doc = "connections above that" } },
    { "DB_POOL_TIMEOUT", { parse = seconds(0), default = 30, doc = "seconds to wait for a connection" } },
    { "DB_POOL_RECYCLE", { parse = seconds_or_off, default = false, off = true, doc = "oldest age of a connection" } },
    { "DB_POOL_PRE_PING", { parse = boolean, default = true, doc = "test a connection before it is given out" } },
    { "DB_CONNECT_TIMEOUT", { parse = seconds(0.001), default = 10, doc = "seconds for opening a connection" } },
    { "DB_STATEMENT_TIMEOUT", { parse = seconds_or_off, default = false, off = true, doc = "for each statement" } },
    { "DB_STATEMENT_CACHE", { parse = integer(0, LIMIT), default = 100, doc = "prepared statements kept" } },
    { "DB_STATEMENT_CACHE_AGE", { parse = seconds(0), default = 1, doc = "seconds until one is parsed anew" } },
    { "SYNC_POOL_SIZE", { parse = integer(1, LIMIT), default = 5, doc = "connections of db.sync" } },
    { "REDIS_MAX_CONNECTIONS", { parse = integer(1, LIMIT), default = 50, doc = "connections to Redis" } },
    { "DBRUN_MIGRATIONS_DIR", { parse = text, folder = true, default = "scripts/migrations",
        doc = "folder of the migrations" } },
    { "DBRUN_SEEDS_DIR", { parse = text, folder = true, default = "scripts/seeds", doc = "folder of the seeds" } },
    { "DBRUN_HOOKS_DIR", { parse = text, folder = true, default = "scripts/hooks",
        doc = "folder of the migration hooks" } },
    { "DBRUN_BATCHES_DIR", { parse = text, folder = true, default = "scripts/batches",
        doc = "folder of the batch jobs" } },
    { "DBRUN_BATCH_SCHEMA", { parse = text, doc = "schema of the tables that hold the state of batch jobs" } },
    { "DBRUN_LOG", { parse = word("error", "warn", "info", "debug"), default = "warn", doc = "the log's level" } },
    { "DBRUN_LOG_FORMAT", { parse = word("text", "json"), default = "text", doc = "the log's form" } },
    { "DBRUN_PROTECTED", { parse = patterns, doc = "databases that scripts change only when they are named" } },
}

---@type table<string, dbrun.ConfigSpec>
M.specs = {}
---@type string[]
M.order = {}
for i, entry in ipairs(LIST) do
    M.order[i] = entry[1]
    M.specs[entry[1]] = entry[2]
end

---The keys that REDIS_URL overrides.
M.redis_part = {
    REDIS_HOST = true, REDIS_PORT = true, REDIS_DB = true, REDIS_USERNAME = true, REDIS_PASSWORD = true,
}

---An address without its password; `value` is valid.
local function masked_address(kind, value)
    local url <const> = require "dbrun.url"
    local parsed <const> = url["parse_" .. kind](value)
    parsed.password = parsed.password and "***"
    for _, name in ipairs { "sslpassword", "sentinel_password" } do
        parsed.params[name] = parsed.params[name] and "***"
    end
    if parsed.form == "keywords" then
        return url.build_keywords(parsed)
    end
    return (url["build_" .. kind](parsed):gsub("%%2A%%2A%%2A", "***"))
end

local COMPUTED <const> = { async_database_url = "postgres", sync_database_url = "postgres", redis_url = "redis" }

---The text of a value for display, secrets replaced by `***`.
---@param key string
---@param value any a checked value
---@return string|nil nil for nil
function M.shown(key, value)
    local spec <const> = M.specs[key]
    local kind <const> = spec and spec.address or COMPUTED[key]
    if value == nil then
        return nil
    elseif kind then
        return masked_address(kind, value)
    elseif spec then
        return spec.secret and "***" or spec.off and value == false and "off" or mask.without_users(tostring(value))
    end
    local shown <const> = tostring(value)
    return mask.by_name(key) and not mask.is_place(key, shown) and "***" or mask.by_value(shown)
end

return M
