--- The options of db.engine: checked, and translated for core.pg.
local asked <const> = require "dbrun.db.asked"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local url <const> = require "dbrun.url"

local M = {}

local function is_integer(v, low)
    return math.type(v) == "integer" and v >= low and v <= 1000000
end

local function is_seconds(v)
    return type(v) == "number" and v >= 0 and v < math.huge
end

local function is_function(v)
    return type(v) == "function"
end

--- Results of at least this size are logged.
local LARGE_RESULT <const> = 256 * 1024 * 1024

--- For each option: its check, and the words for an error.
local checks <const> = {
    url = { function(v) return type(v) == "string" end, "a string" },
    mode = { function(v) return v == "async" or v == "sync" end, '"async" or "sync"' },
    size = { function(v) return is_integer(v, 0) end, "a whole number of at least 0 (0 = no limit)" },
    overflow = { function(v) return is_integer(v, -1) end, "a whole number of at least -1 (-1 = no limit)" },
    timeout = { is_seconds, "a number of seconds" },
    connect_timeout = { function(v) return is_seconds(v) and v > 0 end, "a number of seconds above 0" },
    command_timeout = { function(v) return v == false or is_seconds(v) end, "a number of seconds (0 = none)" },
    recycle = { function(v) return v == false or is_seconds(v) end, "a number of seconds (0 or false = never)" },
    pre_ping = { function(v) return type(v) == "boolean" end, "true or false" },
    pre_ping_idle = { is_seconds, "a number of seconds" },
    reset = { function(v) return v == "rollback" or v == "full" or v == "none" end,
        '"rollback", "full" or "none"' },
    statement_cache = { function(v) return is_integer(v, 0) end, "a whole number of at least 0" },
    statement_cache_age = { is_seconds, "a number of seconds (0 = no limit)" },
    numeric = { function(v) return v == "text" or v == "float" end, '"text" or "float"' },
    numbers = { function(v) return v == "float" or v == "exact" end, '"float" or "exact"' },
    timestamps = { function(v) return v == "text" or v == "epoch" end, '"text" or "epoch"' },
    pipeline = { function(v) return v == false or is_integer(v, 0) end,
        "a number of statements in flight for each connection (0 = none)" },
    on_connect = { is_function, "a function" },
    on_notice = { is_function, "a function" },
    large_result = { function(v) return math.type(v) == "integer" and v >= 0 end,
        "a whole number of bytes (0 = never)" },
    application_name = { function(v) return type(v) == "string" end, "a string" },
}

local function check(options)
    for key, value in pairs(options) do
        local rule <const> = checks[key]
        if not rule then
            local near <const> = require "dbrun.nearest".find(tostring(key), (function()
                local names = {}
                for name in pairs(checks) do
                    names[#names + 1] = name
                end
                table.sort(names)
                return names
            end)())
            errors.fail("usage", ("db.engine: unknown option %q"):format(tostring(key)),
                near and ("did you mean %s?"):format(near))
        elseif not rule[1](value) then
            errors.usage("db.engine", "%s must be %s", key, rule[2])
        end
    end
end

--- TCP keepalive settings, unless the address has others: a dead connection is noticed within two minutes.
local connection_defaults <const> = {
    { "client_encoding", "UTF8" }, { "keepalives_idle", "60" }, { "keepalives_interval", "10" },
    { "keepalives_count", "3" }, { "tcp_user_timeout", "60000" },
}

---Session settings of --read-only, --statement-timeout and --lock-timeout. They are sent in the startup packet, so that
---RESET ALL and DISCARD ALL restore them.
local function add_session_settings(params)
    local given <const> = core.options
    local list = {}
    local function set(name, value) list[#list + 1] = ("-c %s=%s"):format(name, value) end
    local function milliseconds(seconds) return ("%d"):format(math.ceil(seconds * 1000)) end
    if given.read_only then set("default_transaction_read_only", "on") end
    if given.statement_timeout then set("statement_timeout", milliseconds(given.statement_timeout)) end
    if given.lock_timeout then set("lock_timeout", milliseconds(given.lock_timeout)) end
    if #list == 0 then
        return
    end
    local before = os.getenv "PGOPTIONS" -- libpq's default, which this replaces
    for i, pair in ipairs(params) do
        if pair[1] == "options" then
            before = table.remove(params, i)[2]
            break
        end
    end
    if before then table.insert(list, 1, before) end
    params[#params + 1] = { "options", table.concat(list, " ") }
end

---What tells on each new connection whether the settings in `options` hold.
local function asked_of(params)
    local text = os.getenv "PGOPTIONS"
    for _, pair in ipairs(params) do
        if pair[1] == "options" then
            text = pair[2]
        end
    end
    local first <const>, second <const> = asked.sql(asked.settings(text or ""))
    return first and { first, second }
end

---The server's address for messages: "host:port", or the folder of a socket.
local function place(host, port)
    host, port = host or os.getenv "PGHOST", port or os.getenv "PGPORT" or 5432
    if not host or host == "" then
        return ("the default socket (port %s)"):format(port)
    end
    return host:find "^[/@]" and ("%s (port %s)"):format(host, port) or ("%s:%s"):format(host, port)
end

local function target_of(parsed)
    local list = {}
    for i, server in ipairs(parsed.hosts or {}) do
        list[i] = place(server.host or parsed.params and parsed.params.hostaddr, server.port)
    end
    return #list > 0 and table.concat(list, ",") or place()
end

--- The connect_timeout of a URL: libpq itself obeys it only where it blocks. Without a limit (0) ours stays.
local function positive(text)
    local seconds <const> = text and tonumber(text)
    return seconds and seconds > 0 and seconds or nil
end

---Checks the options and returns the settings for core.pg.
---@param options table as db.engine takes them
---@param what string what the URL is, for errors
---@return table
function M.prepare(options, what)
    check(options)
    local sync <const> = options.mode == "sync"
    local parsed <const> = url.parse_postgres(options.url or "", what)
    local params <const> = url.conninfo_params(parsed)
    local given = {}
    for _, pair in ipairs(params) do
        given[pair[1]] = pair[2]
    end
    for _, pair in ipairs(connection_defaults) do
        if not given[pair[1]] then
            params[#params + 1] = pair
        end
    end
    add_session_settings(params)
    if options.application_name then
        params[#params + 1] = { "application_name", options.application_name }
    elseif not given.application_name then
        params[#params + 1] = { "fallback_application_name", "dbrun" }
    end
    return {
        params = params,
        target = target_of(parsed),
        asked = asked_of(params),
        sync = sync,
        size = options.size or (sync and 5 or 20),
        overflow = options.overflow or (sync and 0 or 10),
        timeout = options.timeout or 30,
        connect_timeout = options.connect_timeout or positive(given.connect_timeout) or 10,
        command_timeout = options.command_timeout or 0,
        recycle = options.recycle or 0,
        pre_ping = options.pre_ping ~= false,
        pre_ping_idle = options.pre_ping_idle or 0.5,
        reset = options.reset or "rollback",
        statement_cache = options.statement_cache or 100,
        statement_cache_age = options.statement_cache_age or 1,
        pipeline = not sync and options.pipeline or 0,
        numeric_float = options.numeric == "float",
        exact_json = options.numbers == "exact",
        epoch = options.timestamps == "epoch",
        on_connect = options.on_connect,
        on_notice = options.on_notice,
        large_result = options.large_result or LARGE_RESULT,
    }
end

return M
