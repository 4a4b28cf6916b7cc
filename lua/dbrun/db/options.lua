--- The options of db.engine: checked, and translated for core.pg.
local args <const> = require "dbrun.args"
local asked <const> = require "dbrun.db.asked"
local core <const> = require "dbrun.core"
local url <const> = require "dbrun.url"

---@class dbrun.db.options
---@field opened boolean whether an engine was made
local M = { opened = false }

--- Results of at least this size are logged.
local LARGE_RESULT <const> = 256 * 1024 * 1024

local KNOWN <const> = {
    url = "string",
    mode = args.one_of("async", "sync"),
    size = args.whole(0, 1000000), -- 0 = no limit
    overflow = args.whole(-1, 1000000), -- -1 = no limit
    timeout = args.seconds,
    connect_timeout = args.some_seconds,
    command_timeout = args.or_false(args.seconds), -- 0 = none
    recycle = args.or_false(args.seconds), -- 0 = never
    pre_ping = "boolean",
    pre_ping_idle = args.seconds,
    reset = args.one_of("rollback", "full", "none"),
    statement_cache = args.whole(0, 1000000),
    statement_cache_age = args.seconds, -- 0 = no limit
    numeric = args.one_of("text", "float"),
    numbers = args.one_of("float", "exact"),
    timestamps = args.one_of("text", "epoch"),
    pipeline = args.or_false(args.whole(0, 1000000)), -- statements in flight for each connection, 0 = none
    on_connect = "function",
    on_notice = "function",
    large_result = args.whole(0), -- bytes, 0 = never
    -- libpq would read it up to a NUL.
    application_name = { function(v) return type(v) == "string" and not v:find("\0", 1, true) end,
        "a string without NUL bytes" },
}

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

---The statements that check on each new connection whether the settings in `options` hold.
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

---The hint when no server can be reached: if nothing configures the server, it names a private stack that runs here.
local function advice_for(parsed, given)
    for _, server in ipairs(parsed.hosts or {}) do
        if server.host == url.NOWHERE then return require("dbrun.testing.environment").HINT end
        if server.host then return nil end
    end
    for name, variable in pairs { hostaddr = "PGHOSTADDR", service = "PGSERVICE", host = "PGHOST" } do
        if given[name] or os.getenv(variable) then return nil end
    end
    return require "dbrun.stack.hint".of "postgres"
end

--- The connect_timeout of a URL: libpq itself obeys it only in blocking calls. If it is 0 (no limit), the engine's own
--- limit stays.
local function positive(text)
    local seconds <const> = text and tonumber(text)
    return seconds and seconds > 0 and seconds or nil
end

---Checks the options and returns the settings for core.pg.
---@param options table as db.engine takes them
---@param what string what the URL is, for errors
---@return table
function M.prepare(options, what)
    args.options("db.engine", options, KNOWN)
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
        advice = advice_for(parsed, given),
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

---Makes an engine that is real in a dry run too: for work that is not the script's.
---@param options table as db.engine takes them
---@return dbrun.Engine
function M.real(options)
    return core.pg.engine(M.prepare(options, "db.engine{url=}"))
end

---Makes an engine; in a dry run one that rolls back.
---@param options table as db.engine takes them
---@param what string what the URL is, for errors
---@return dbrun.Engine
function M.open(options, what)
    local settings <const> = M.prepare(options, what)
    M.opened = true
    if core.options.dry_run then return require "dbrun.dry.postgres".engine(settings, options.url or "") end
    return core.pg.engine(settings)
end

return M
