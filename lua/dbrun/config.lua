--- The configuration: addresses of the servers, sizes of the pools, folders of migrations and seeds.
---
---     local config = require "dbrun.config"
---     print(config.DB_POOL_SIZE, config.async_database_url)
---
--- A value comes from the first of: `--stack`, arguments (`config.load{...}`), the process environment, the `.env` of
--- the current folder (or `--env-file`), the default. Nothing is read before the first access. An empty value hides the
--- sources after it and means the default. A key that is not listed in `Config` can be read too, as a string.
---
--- A wrong value is an error of kind `config` that names key, source and what was expected.
---
--- Raises an error of kind `config` that names key, source and what was expected.
local args = require "dbrun.args"
local errors = require "dbrun.error"
local keys = require "dbrun.config.keys"
local report = require "dbrun.config.report"
local values = require "dbrun.config.values"

---@class Config
---@field DATABASE_URL string|nil PostgreSQL's address: a URL or `keyword=value` pairs; wins over POSTGRES_*
---@field MIGRATION_DATABASE_URL string|nil the address for `db.sync` (migrations, scripts): the server, not a pooler
---@field POSTGRES_HOST string|nil name, address, or folder of the unix socket
---@field POSTGRES_PORT integer|nil 1 to 65535
---@field POSTGRES_USER string|nil the role
---@field POSTGRES_PASSWORD string|nil as it is, not percent-encoded
---@field POSTGRES_DB string|nil name of the database
---@field REDIS_URL string|nil wins over REDIS_HOST and the like
---@field REDIS_HOST string name, address, or path of the unix socket (default 127.0.0.1)
---@field REDIS_PORT integer 1 to 65535 (default 6379)
---@field REDIS_DB integer 0 and up (default 0)
---@field REDIS_USERNAME string|nil of an ACL
---@field REDIS_PASSWORD string|nil as it is, not percent-encoded
---@field DB_POOL_SIZE integer connections that the async engine keeps open (default 20; 0 = no limit)
---@field DB_MAX_OVERFLOW integer connections above that, closed on return (default 10; -1 = no limit)
---@field DB_POOL_TIMEOUT number seconds to wait for a connection (default 30)
---@field DB_POOL_RECYCLE number|false age in seconds after which a connection is replaced (default off)
---@field DB_POOL_PRE_PING boolean test a connection before it is handed out (default true)
---@field DB_CONNECT_TIMEOUT number seconds for opening a connection (default 10)
---@field DB_STATEMENT_TIMEOUT number|false seconds for each statement (default off)
---@field DB_STATEMENT_CACHE integer prepared statements kept for each connection (default 100; 0 = none)
---@field DB_STATEMENT_CACHE_AGE number seconds after which a prepared statement is parsed again (default 1; 0 = never)
---@field SYNC_POOL_SIZE integer connections of the sync engine (default 5)
---@field REDIS_MAX_CONNECTIONS integer connections to Redis (default 50)
---@field DBRUN_MIGRATIONS_DIR string folder of the migrations (default scripts/migrations)
---@field DBRUN_SEEDS_DIR string folder of the seeds (default scripts/seeds)
---@field DBRUN_HOOKS_DIR string folder of the migration hooks (default scripts/hooks)
---@field DBRUN_BATCHES_DIR string folder of the batch jobs (default scripts/batches)
---@field DBRUN_BATCH_SCHEMA? string schema of the tables of batch jobs (default: the first of the search_path)
---@field DBRUN_LOG "error"|"warn"|"info"|"debug" the log's level, unless --log sets it (default warn)
---@field DBRUN_LOG_FORMAT "text"|"json" the log's format, unless --log-format sets it (default text)
---@field DBRUN_PROTECTED string|nil databases that scripts change only when they are named
---@field async_database_url string PostgreSQL's URL for `db.async`, percent-encoded; contains the password
---@field sync_database_url string PostgreSQL's URL for `db.sync`: MIGRATION_DATABASE_URL where it is set
---@field redis_url string the URL of Redis, percent-encoded; contains the password
---@field explain fun(): dbrun.ConfigRow[] every key, its value (secrets masked) and where it comes from
---```lua
---for _, row in ipairs(config.explain()) do
---    if row.key == "DB_POOL_TIMEOUT" then print(row.key, row.value, row.source) end  --> DB_POOL_TIMEOUT  30  default
---end
---```
---@field check fun(): string[] checks every value; raises the first error; returns notes on mistyped keys
---```lua
---for _, note in ipairs(config.check()) do print(note) end -- mistyped keys
---```
---@field source fun(key: string): string where a value comes from: `environment`, `.env line 3`, `default`;
---for a computed URL the keys it comes from: `DATABASE_URL (.env line 3)`
---```lua
---print(config.source "DB_POOL_TIMEOUT")  --> default
---```
---@field load fun(arguments?: table<string, string|number|boolean>, options?: dbrun.ConfigOptions): Config
---another configuration, in which `arguments` override environment and file
---@field [string] string|nil any other key

---@class dbrun.ConfigRow
---@field key string
---@field value string|nil as text, secrets masked; nil = not set
---@field source string `argument`, `environment`, `.env line 3`, `default`, ...
---@field error string|nil what is wrong with the value
local M = {}

---@class dbrun.ConfigOptions
---@field env_file? string read this file instead of `.env`; it must exist
---@field no_env? boolean read no file
---@field environ? table<string, string> used instead of the process environment

local OPTIONS <const> = { env_file = args.path, no_env = "boolean", environ = "table" }
local VALUE <const> = args.one_type_of("string", "number", "boolean")

---A project can have its own keys; a key that differs from one of dbrun's by a letter or two is taken for a typo.
local TYPO <const> = 2

local function check_arguments(arguments)
    args.check("config.load", "arguments", arguments, "table")
    for key, value in pairs(arguments) do
        args.check("config.load", "a key", key, "string")
        args.check("config.load", key, value, VALUE)
        local near <const> = not keys.specs[key] and require "dbrun.nearest".find(key, keys.order, TYPO)
        if near then
            errors.fail("usage", ("config.load: %s is not a key of dbrun"):format(key),
                ("did you mean %s?"):format(near))
        end
    end
end

local MEANT <const> = {
    get = "config.KEY", set = "config.load{KEY = value} makes a configuration with other values",
    all = "config.explain()", list = "config.explain()", dump = "config.explain()", env = "config.KEY",
    reload = "config.load()", read = "config.load()", validate = "config.check()", origin = "config.source(key)",
}

---Raises when a name without a value resembles one that has a value.
local function answer(methods, key)
    local near <const> = key:find "%l" == nil and require "dbrun.nearest".find(key, keys.order, TYPO)
    if near and near ~= key then
        errors.fail("usage", ("config has no '%s'"):format(key), ("did you mean '%s'?"):format(near))
    elseif key:find "^%l" then
        args.unknown_name("config", key, methods, MEANT)
    end
    return nil
end

---A new configuration, in which `arguments` override environment and file.
---@param arguments? table<string, string|number|boolean> by key
---@param options? dbrun.ConfigOptions
---@return Config
function M.load(arguments, options)
    arguments = arguments == nil and {} or arguments
    check_arguments(arguments)
    options = args.options("config.load", options, OPTIONS)
    ---@type dbrun.ConfigState
    local state <const> = { arguments = arguments, options = options, values = {}, sources = {} }
    local methods <const> = {
        load = M.load,
        explain = function()
            return report.explain(state)
        end,
        check = function()
            return report.check(state)
        end,
        source = function(key)
            args.check("config.source", "key", key, "string")
            return (select(2, values.get(state, key)))
        end,
    }
    return setmetatable({}, {
        __index = function(_, key)
            if type(key) ~= "string" then
                return nil
            end
            local method <const> = methods[key]
            if method then
                return method
            end
            local value <const> = values.get(state, key)
            if value == nil and not keys.specs[key] then
                return answer(methods, key)
            end
            return value
        end,
        __newindex = function(_, key)
            errors.fail("usage", ("config.%s cannot be assigned"):format(tostring(key)),
                "config.load{KEY = value} makes a configuration with other values")
        end,
        __name = "dbrun.config",
    })
end

return M.load()
