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
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local keys = require "dbrun.config.keys"

---@class Config
---@field DATABASE_URL string|nil PostgreSQL's address: a URL or `keyword=value` pairs; wins over POSTGRES_*
---@field MIGRATION_DATABASE_URL string|nil the address for `db.sync` (migrations, scripts), past a pooler
---@field POSTGRES_HOST string|nil name, address, or folder of the unix socket
---@field POSTGRES_PORT integer|nil 1 to 65535
---@field POSTGRES_USER string|nil
---@field POSTGRES_PASSWORD string|nil
---@field POSTGRES_DB string|nil name of the database
---@field REDIS_URL string|nil wins over REDIS_HOST and the like
---@field REDIS_HOST string name, address, or path of the unix socket (default 127.0.0.1)
---@field REDIS_PORT integer 1 to 65535 (default 6379)
---@field REDIS_DB integer 0 and up (default 0)
---@field REDIS_USERNAME string|nil
---@field REDIS_PASSWORD string|nil
---@field DB_POOL_SIZE integer connections that the async engine keeps open (default 20; 0 = no limit)
---@field DB_MAX_OVERFLOW integer connections above that, closed on return (default 10; -1 = no limit)
---@field DB_POOL_TIMEOUT number seconds to wait for a connection (default 30)
---@field DB_POOL_RECYCLE number|false age in seconds after which a connection is replaced (default off)
---@field DB_POOL_PRE_PING boolean test a connection before it is given out (default true)
---@field DB_CONNECT_TIMEOUT number seconds for opening a connection (default 10)
---@field DB_STATEMENT_TIMEOUT number|false seconds for each statement (default off)
---@field DB_STATEMENT_CACHE integer prepared statements kept for each connection (default 100; 0 = none)
---@field DB_STATEMENT_CACHE_AGE number seconds after which a prepared statement is parsed anew (default 1; 0 = never)
---@field SYNC_POOL_SIZE integer connections of the sync engine (default 5)
---@field REDIS_MAX_CONNECTIONS integer connections to Redis (default 50)
---@field DBRUN_MIGRATIONS_DIR string folder of the migrations (default scripts/migrations)
---@field DBRUN_SEEDS_DIR string folder of the seeds (default scripts/seeds)
---@field DBRUN_HOOKS_DIR string folder of the migration hooks (default scripts/hooks)
---@field DBRUN_PROTECTED string|nil databases that scripts change only when they are named
---@field async_database_url string PostgreSQL's URL for `db.async`, percent-encoded; contains the password
---@field sync_database_url string PostgreSQL's URL for `db.sync`: MIGRATION_DATABASE_URL where it is set
---@field redis_url string the URL of Redis, percent-encoded; contains the password
---@field explain fun(): dbrun.ConfigRow[] every key, its value (secrets masked) and where it comes from
---@field check fun(): string[] looks at every value; raises the first error; returns notes on mistyped keys
---@field source fun(key: string): string where a value comes from: `environment`, `.env line 3`, `default`;
---for a computed URL the keys it comes from: `DATABASE_URL (.env line 3)`
---@field load fun(arguments?: table<string, string|number|boolean>, options?: dbrun.ConfigOptions): Config
---@field [string] string|nil any other key

---@class dbrun.ConfigRow
---@field key string
---@field value string|nil as text, secrets masked; nil = not set
---@field source string `argument`, `environment`, `.env line 3`, `default`, ...
---@field error string|nil what is wrong with the value

---@class dbrun.ConfigState
---@field arguments table<string, any>
---@field options dbrun.ConfigOptions
---@field overlay table<string, string>|nil nil = nothing was read yet
---@field dotenv dbrun.Dotenv|false|nil false = there is none
---@field values table<string, any> what was computed already
---@field sources table<string, string> for each key that was computed, where it comes from

local function log(level, text)
    if core.log and core.log.write then
        core.log.write(level, text)
    end
end

---Registers a password as a secret, also in its URL-encoded form. One that equals the name of the user or the database
---is left out: masking it would make every message unreadable and hide nothing.
local function remember(password, ...)
    if not password or not (core.log and core.log.secret) then
        return
    end
    for i = 1, select("#", ...) do
        if select(i, ...) == password then
            return
        end
    end
    core.log.secret(password)
    core.log.secret((require "dbrun.url".encode(password)))
end

---@param path string|nil as given by --env-file
local function read_dotenv(path)
    local dotenv <const> = require "dbrun.dotenv"
    local parsed <const> = dotenv.read(path or ".env")
    if not parsed then
        if path then
            errors.fail("config", "the environment file " .. path .. " does not exist", "it was given by --env-file")
        end
        return false
    end
    for _, place in ipairs(parsed.duplicates) do
        log("warn", ("%s line %d: %s is given in line %d too; the last one counts"):format(parsed.name,
            place.line, place.key, place.first))
    end
    for _, place in ipairs(parsed.expansions) do
        log("warn", ("%s line %d: the '$' in %s is taken literally; single quotes show that this is intended"):format(
            parsed.name, place.line, place.key))
    end
    return parsed
end

---Reads the options of the command line and the file, at the first access.
---@param state dbrun.ConfigState
local function read_sources(state)
    local host <const> = core.options or {}
    local options <const> = state.options
    state.dotenv = false
    if options.env_file or not (options.no_env or host.no_env) then
        state.dotenv = read_dotenv(options.env_file or host.env_file)
    end
    state.overlay = host.overlay or {}
end

---The value of a key as it was given, and its source.
---@param state dbrun.ConfigState
---@param key string
---@return any value nil when it is given nowhere
---@return string source
local function find(state, key)
    if not state.overlay then
        read_sources(state)
    end
    local value = state.overlay[key]
    if value ~= nil then
        return value, "--stack"
    end
    value = state.arguments[key]
    if value ~= nil then
        return value, "argument"
    end
    local environ <const> = state.options.environ
    if environ then
        value = environ[key]
    else
        value = os.getenv(key)
    end
    if value ~= nil then
        return value, "environment"
    end
    value = state.dotenv and state.dotenv.values[key]
    if value then
        return value, ("%s line %d"):format(state.dotenv.name, state.dotenv.lines[key])
    end
    return nil, "default"
end

---The same, but an empty text counts as not given, and hides the sources after it.
local function lookup(state, key)
    local value <const>, source <const> = find(state, key)
    if value == "" then
        return nil, "default"
    end
    return value, source
end

---Was a key given for this run only (an argument, `--stack`)?
local function explicit(state, key)
    local _, source <const> = find(state, key)
    return source == "--stack" or source == "argument"
end

local function raise(key, source, message, hint)
    errors.fail("config", ("%s (%s): %s"):format(key, source, message), hint)
end

---The checked value of one of the known keys, without computed ones.
local function typed(state, key)
    local spec <const> = keys.specs[key]
    local raw <const>, source <const> = lookup(state, key)
    if raw == nil then
        return spec.default, source
    end
    local value <const>, expected <const>, hint <const> = spec.parse(raw)
    if value == nil then
        raise(key, source, "expected " .. expected, hint)
    end
    if spec.secret then
        local user <const> = lookup(state, spec.user)
        remember(value, user, spec.dbname and lookup(state, spec.dbname))
    end
    return value, source
end

---The parsed URL of a key, its password registered as a secret; nil when the key is not given.
---@param parse fun(text: string, what: string): table
local function address(state, key, parse)
    local text <const>, source <const> = lookup(state, key)
    if text == nil then
        return nil
    end
    local label <const> = ("%s (%s)"):format(key, source)
    if type(text) ~= "string" then
        errors.fail("config", ("%s: expected a string, got %s"):format(label, type(text)))
    end
    local parsed <const> = parse(text, label)
    remember(parsed.password, parsed.user, parsed.username, parsed.dbname)
    remember(parsed.params.sslpassword)
    remember(parsed.params.sentinel_password, parsed.params.sentinel_username)
    return parsed, label
end

---Logs which single keys differ from the URL that overrides them.
---@param url_label string
---@param pairs_ {key: string, url: any}[] each key with the URL's value for the same thing
local function note_contradictions(state, url_label, pairs_)
    local others = {}
    for _, pair in ipairs(pairs_) do
        local raw <const>, source <const> = lookup(state, pair.key)
        local says <const> = tostring(raw)
        -- Kubernetes sets POSTGRES_PORT=tcp://... for a service of that name: ignore it.
        if raw ~= nil and says ~= tostring(pair.url == nil and "" or pair.url) and not says:find "^tcp://" then
            others[#others + 1] = ("%s (%s)"):format(pair.key, source)
        end
    end
    if #others > 0 then
        log("warn", ("%s overrides %s, which differ%s from it"):format(url_label, table.concat(others, ", "),
            #others == 1 and "s" or ""))
    end
end

---The keys of a list that are given, with their sources, for errors: "POSTGRES_HOST (environment), ...".
local function given(state, list)
    local found = {}
    for _, key in ipairs(list) do
        local raw <const>, source <const> = lookup(state, key)
        if raw ~= nil then
            found[#found + 1] = ("%s (%s)"):format(key, source)
        end
    end
    return #found > 0 and table.concat(found, ", ") or nil
end

local get -- the cached value of any key, see below

local POSTGRES_KEYS <const> = { "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB" }
local REDIS_KEYS <const> = { "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_USERNAME", "REDIS_PASSWORD" }

local function postgres_from_keys(state)
    local host <const>, port <const> = typed(state, "POSTGRES_HOST"), typed(state, "POSTGRES_PORT")
    local hosts = {}
    for name in ((host or "") .. ","):gmatch "([^,]*)," do
        hosts[#hosts + 1] = { host = name ~= "" and name or nil, port = port }
    end
    return {
        hosts = hosts,
        user = typed(state, "POSTGRES_USER"),
        password = typed(state, "POSTGRES_PASSWORD"),
        dbname = typed(state, "POSTGRES_DB"),
        params = {},
    }
end

local function async_database_url(state)
    local url <const> = require "dbrun.url"
    local parsed, label = address(state, "DATABASE_URL", url.parse_postgres)
    if parsed then
        local first <const> = #parsed.hosts == 1 and parsed.hosts[1] or {}
        if not explicit(state, "DATABASE_URL") then
            note_contradictions(state, label, {
                { key = "POSTGRES_HOST", url = first.host },
                { key = "POSTGRES_PORT", url = first.port },
                { key = "POSTGRES_USER", url = parsed.user },
                { key = "POSTGRES_PASSWORD", url = parsed.password },
                { key = "POSTGRES_DB", url = parsed.dbname },
            })
        end
        return url.build_postgres(parsed), label
    end
    label = given(state, POSTGRES_KEYS)
    if not label then
        return "postgresql://", "default"
    end
    return url.build_postgres(postgres_from_keys(state)), label
end

---A run on a database given for this run only (`--stack`, an argument) must not migrate the one named in a file.
local function sync_database_url(state)
    local parsed, label
    if explicit(state, "MIGRATION_DATABASE_URL") or not explicit(state, "DATABASE_URL") then
        local url <const> = require "dbrun.url"
        parsed, label = address(state, "MIGRATION_DATABASE_URL", url.parse_postgres)
        if parsed then
            return url.build_postgres(parsed), label
        end
    end
    return get(state, "async_database_url")
end

local function redis_url(state)
    local url <const> = require "dbrun.url"
    local parsed, label = address(state, "REDIS_URL", url.parse_redis)
    if parsed then
        if not explicit(state, "REDIS_URL") then
            note_contradictions(state, label, {
                { key = "REDIS_HOST", url = parsed.host or parsed.path },
                { key = "REDIS_PORT", url = parsed.port },
                { key = "REDIS_DB", url = parsed.db },
                { key = "REDIS_USERNAME", url = parsed.username },
                { key = "REDIS_PASSWORD", url = parsed.password },
            })
        end
        return url.build_redis(parsed), label
    end
    local host <const> = typed(state, "REDIS_HOST")
    local socket <const> = host:find "^/" and host or nil
    label = given(state, REDIS_KEYS) or "default"
    return url.build_redis {
        path = socket,
        host = not socket and host or nil,
        port = not socket and typed(state, "REDIS_PORT") or nil,
        db = typed(state, "REDIS_DB"),
        username = typed(state, "REDIS_USERNAME"),
        password = typed(state, "REDIS_PASSWORD"),
    }, label
end

local COMPUTED <const> = {
    async_database_url = async_database_url,
    sync_database_url = sync_database_url,
    redis_url = redis_url,
}
local COMPUTED_ORDER <const> = { "async_database_url", "sync_database_url", "redis_url" }

---The value of any key and where it comes from.
local function resolve(state, key)
    if COMPUTED[key] then
        return COMPUTED[key](state)
    end
    local spec <const> = keys.specs[key]
    if spec and spec.address then
        address(state, key, require "dbrun.url"["parse_" .. spec.address])
        return lookup(state, key)
    elseif spec then
        return typed(state, key)
    end
    local raw <const>, source <const> = find(state, key)
    if type(raw) == "string" and #raw >= 8 and keys.looks_secret(key) then
        remember(raw)
    end
    return raw, source
end

---@param state dbrun.ConfigState
---@param key string
---@return any value
---@return string source
function get(state, key)
    if not state.sources[key] then
        state.values[key], state.sources[key] = resolve(state, key)
    end
    return state.values[key], state.sources[key]
end

---Keys that are given but not known, by name: from the file, the arguments and the overlay.
local function custom_keys(state)
    lookup(state, "DATABASE_URL") -- from here on the file has been read
    local seen, list = {}, {}
    local function add(key)
        if not keys.specs[key] and not seen[key] then
            seen[key] = true
            list[#list + 1] = key
        end
    end
    for _, key in ipairs(state.dotenv and state.dotenv.order or {}) do
        add(key)
    end
    for key in pairs(state.arguments) do
        add(key)
    end
    for key in pairs(state.overlay) do
        add(key)
    end
    table.sort(list)
    return list
end

---Keys that belong to an address are not checked when a URL overrides them.
local function in_use(state, key)
    if key:find "^POSTGRES_" then
        return lookup(state, "DATABASE_URL") == nil
    elseif keys.redis_part[key] then
        return lookup(state, "REDIS_URL") == nil
    end
    return true
end

---One row of the explanation; a wrong value is reported in the row instead of raised.
local function row(state, key)
    local ok <const>, value <const>, source <const> = pcall(get, state, key)
    if ok then
        return { key = key, value = keys.shown(key, value), source = source }
    elseif not errors.is(value, "config") then
        error(value, 0)
    end
    local _, where <const> = lookup(state, key)
    if not in_use(state, key) then
        return { key = key, value = "(not used)", source = where }
    end
    return { key = key, source = COMPUTED[key] and "computed" or where, error = value.message, hint = value.hint }
end

local function explain(state)
    local rows = {}
    for _, key in ipairs(keys.order) do
        rows[#rows + 1] = row(state, key)
    end
    for _, key in ipairs(COMPUTED_ORDER) do
        rows[#rows + 1] = row(state, key)
    end
    for _, key in ipairs(custom_keys(state)) do
        rows[#rows + 1] = row(state, key)
    end
    return rows
end

---Checks all keys in use and raises the first error. Returns notes on unknown keys of the file that resemble a known
---one.
local function check(state)
    for _, key in ipairs(keys.order) do
        if in_use(state, key) then
            get(state, key)
        end
    end
    for _, key in ipairs(COMPUTED_ORDER) do
        get(state, key)
    end
    local nearest <const> = require "dbrun.nearest"
    local notes = {}
    for _, key in ipairs(custom_keys(state)) do
        local near <const> = nearest.find(key, keys.order)
        if near then
            local _, source <const> = lookup(state, key)
            notes[#notes + 1] = ("%s (%s) is not a key of dbrun; did you mean %s?"):format(key, source, near)
        end
    end
    return notes
end

local M = {}

---@class dbrun.ConfigOptions
---@field env_file? string read this file instead of `.env`; it must exist
---@field no_env? boolean read no file
---@field environ? table<string, string> used instead of the process environment

local OPTIONS <const> = { env_file = args.path, no_env = "boolean", environ = "table" }
local VALUE <const> = args.one_type_of("string", "number", "boolean")

---A project may have keys of its own; one that is a letter or two beside a key of dbrun is a mistyped one.
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

---Raises when a name that has no value resembles one that has.
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
            return explain(state)
        end,
        check = function()
            return check(state)
        end,
        source = function(key)
            args.check("config.source", "key", key, "string")
            return (select(2, get(state, key)))
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
            local value <const> = get(state, key)
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
