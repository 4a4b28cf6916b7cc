--- The addresses of PostgreSQL and Redis: URLs into tables and back, with percent-encoding. Errors are of kind
--- `config`. They say what is wrong and where, and never show the user part of a URL, a password, or a possible part of
--- one.
local args = require "dbrun.args"
local conninfo = require "dbrun.conninfo"
local nearest = require "dbrun.nearest"

local M = {}

local fail <const> = conninfo.fail

-- A socket folder and a socket that never exist: the servers of a spec without a project (dbrun.testing).
M.NOWHERE = "/nonexistent/testing.project"

---@class dbrun.Server
---@field host? string name, address, or the folder of a unix socket (begins with "/" or "@")
---@field port? integer

---@class dbrun.Postgres
---@field form "url"|"keywords" the form of the text
---@field hosts dbrun.Server[] at least one; an empty one is libpq's default
---@field user? string
---@field password? string
---@field dbname? string
---@field params table<string, string> all other libpq parameters

---@class dbrun.RedisAddress
---@field scheme "redis"|"rediss"|"unix"|"redis+sentinel"|"rediss+sentinel"|"redis+cluster"|"rediss+cluster"
---@field host? string
---@field port? integer
---@field hosts dbrun.Server[] all servers (sentinel and cluster may have several)
---@field path? string of the unix socket
---@field db integer
---@field service? string the master's name (sentinel)
---@field username? string
---@field password? string
---@field tls boolean
---@field params table<string, string> the options after "?"

---Percent-encodes everything but letters, digits and `-._~`.
---@param text string
---@return string
function M.encode(text)
    args.check("url.encode", "text", text, "string")
    return (text:gsub("[^%w._~-]", function(char)
        return ("%%%02X"):format(char:byte())
    end))
end

---Decodes percent-encoding. nil when a `%` is not followed by two hexadecimal digits, or for `%00`.
---@param text string
---@return string|nil
function M.decode(text)
    args.check("url.decode", "text", text, "string")
    if text:find "%%00" or text:gsub("%%%x%x", ""):find("%", 1, true) then
        return nil
    end
    return (text:gsub("%%(%x%x)", function(hex)
        return string.char(tonumber(hex, 16))
    end))
end

---Decodes one part of a URL or raises; `part` names it.
local function decode(what, part, text)
    local decoded <const> = M.decode(text)
    if not decoded then
        fail(what, "wrong percent-encoding in " .. part, "a '%' itself is written %25")
    end
    if not utf8.len(decoded) then
        fail(what, part .. " is not valid UTF-8")
    end
    return decoded
end

---Splits what follows "://" into its parts, all still encoded. The last "@" before the path ends the user part. A "/"
---inside a password must be encoded; if it is not, an error says so.
local function split_url(what, rest)
    local slash <const> = rest:find("/", 1, true) or #rest + 1
    local authority, tail = rest:sub(1, slash - 1), rest:sub(slash)
    local question <const> = authority:find("?", 1, true)
    if question and authority:find("@", question, true) then
        fail(what, "a '?' stands before the '@'", "in a user name or password write %3F for '?' and %40 for '@'")
    end
    if question then
        authority, tail = authority:sub(1, question - 1), authority:sub(question) .. tail
    end
    local path <const>, query <const> = tail:match "^([^?]*)%??(.*)$"
    if path:find("@", 1, true) then
        fail(what, "there is an '@' after the first '/'",
            "in a user name or password write %2F for '/'; elsewhere write %40 for '@'")
    end
    local parts = { path = path:sub(2), query = query, hosts = authority }
    local userinfo <const>, hosts <const> = authority:match "^(.*)@([^@]*)$"
    if userinfo then
        local user <const>, colon <const>, password <const> = userinfo:match "^([^:]*)(:?)(.*)$"
        parts.user = user ~= "" and user or nil
        parts.password = colon == ":" and password or nil
        parts.hosts = hosts
    end
    return parts
end

---Splits `a:1,[::1]:2` into host and port texts (decoded, "" where missing).
local function split_hosts(what, text)
    local hosts, ports = {}, {}
    for item in (text .. ","):gmatch "([^,]*)," do
        local host, port
        if item:find "^%[" then
            host, port = item:match "^%[([^%]]*)%](.*)$"
            if not host then
                fail(what, "the '[' of an IPv6 address is not closed")
            elseif host == "" then
                fail(what, "there is no address between '[' and ']'")
            elseif port ~= "" and not port:find "^:" then
                fail(what, "there is text after the ']' of an IPv6 address")
            end
            port = port:sub(2)
        else
            host, port = item:match "^([^:]*):?(.*)$"
        end
        hosts[#hosts + 1] = decode(what, "the host", host)
        ports[#ports + 1] = decode(what, "the port", port)
    end
    return hosts, ports
end

---Calls `take(name, value)` for each `name=value` of a query.
local function each_option(what, query, take)
    for item in query:gmatch "[^&]+" do
        local name <const>, value <const> = item:match "^([^=]+)=(.*)$"
        if not name then
            fail(what, "the options after '?' must be name=value pairs, joined by '&'")
        end
        take(decode(what, "the name of an option", name), decode(what, "the value of an option", value))
    end
end

---Shows the scheme in an error only when it cannot be a secret.
local function unknown_scheme(what, scheme, expected)
    local shown <const> = scheme and #scheme <= 20 and (" '%s://'"):format(scheme) or ""
    fail(what, ("unknown scheme%s"):format(shown), "expected " .. expected)
end

local function check_text(what, text)
    if text:find("\0", 1, true) then
        fail(what, "the text contains a NUL byte")
    elseif not utf8.len(text) then
        fail(what, "the text is not valid UTF-8")
    end
    return text
end

local PG_DRIVERS <const> = {
    asyncpg = true, psycopg = true, psycopg2 = true, psycopg2cffi = true, psycopg_async = true,
}

local function postgres_scheme(what, scheme)
    local base <const>, driver <const> = scheme:lower():match "^(postgres%a*)%+?(.*)$"
    if base ~= "postgresql" and base ~= "postgres" then
        unknown_scheme(what, scheme, "postgresql:// or postgres://")
    end
    if scheme:find("+", 1, true) and not PG_DRIVERS[driver] then
        fail(what, "unknown driver after '+' in the scheme", "write postgresql://")
    end
end

---Translates `ssl=` of JDBC (true) and asyncpg (a value of sslmode) into sslmode, and `socket=` of dbmate into host.
---`binary_parameters` of Go's driver sets how that driver sends values; dbrun ignores it.
local function postgres_option(name, value)
    if name == "ssl" then
        return "sslmode", value == "true" and "require" or value
    elseif name == "socket" then
        return "host", value
    elseif name == "binary_parameters" then
        return nil
    end
    return name, value
end

---Translates `search_path=` of dbmate and Go's driver into libpq's `options`, in which a backslash escapes a blank.
local function with_search_path(options, search_path)
    if not search_path or not search_path:find "%S" then
        return options
    end
    return (options and options .. " " or "") .. "-c search_path=" .. search_path:gsub("[%s\\]", "\\%0")
end

---Parses a PostgreSQL URL or `keyword=value` string. Empty text means libpq's defaults.
---@param text string
---@param what? string what the text is, for errors (e.g. "DATABASE_URL (environment)")
---@return dbrun.Postgres
---Raises an error of kind `config`.
function M.parse_postgres(text, what)
    args.check("url.parse_postgres", "text", text, "string")
    args.optional("url.parse_postgres", "what", what, "string")
    what = what or "the PostgreSQL URL"
    text = check_text(what, text)
    local scheme <const>, rest <const> = text:match "^%s*(%a[%w+.:-]-)://(.-)%s*$"
    if not scheme then
        if text:find "%S" and not text:find("=", 1, true) then
            fail(what, "neither a URL nor a list of keyword=value pairs", "a URL begins with postgresql://")
        end
        return conninfo.parse_keywords(text, what)
    end
    postgres_scheme(what, scheme)
    local parts <const> = split_url(what, rest)
    local hosts <const>, ports <const> = split_hosts(what, parts.hosts)
    if parts.path:find("/", 1, true) then
        fail(what, "there is a second '/' after the host", "in the name of a database or a password write %2F for '/'")
    end
    local given = {
        host = table.concat(hosts, ","),
        port = table.concat(ports):find "%S" and table.concat(ports, ",") or nil,
        user = parts.user and decode(what, "the user name", parts.user),
        password = parts.password and decode(what, "the password", parts.password),
        dbname = decode(what, "the name of the database", parts.path),
    }
    local hide, search_path = false, nil
    each_option(what, parts.query, function(name, value)
        name, value = postgres_option(name, value)
        if name == "search_path" then
            search_path = value
        end
        if not name or name == "search_path" then
            return
        end
        given[name] = value
        hide = hide or name == "password" or name == "sslpassword"
    end)
    given.options = with_search_path(given.options, search_path)
    return conninfo.from_params(what, "url", given, hide)
end

local POSTGRES <const> = {
    form = args.one_of("url", "keywords"), hosts = "table", user = "string", password = "string", dbname = "string",
    params = "table",
}
local SERVER <const> = { host = "string", port = args.whole(1, 65535) }

local function check_servers(fn, hosts)
    args.optional_list(fn, "hosts", hosts, "table")
    for i, server in ipairs(hosts or {}) do
        args.options(("%s{hosts[%d]}"):format(fn, i), server, SERVER)
    end
end

local function check_params(fn, params)
    for name, value in pairs(params or {}) do
        args.check(fn, "a name in params", name, "string")
        args.check(fn, "params." .. name, value, "string")
    end
end

local function check_postgres(fn, parsed)
    args.check(fn, "parsed", parsed, "table")
    args.options(fn, parsed, POSTGRES)
    check_servers(fn, parsed.hosts)
    check_params(fn, parsed.params)
end

---The ordered list of {keyword, value} for PQconnectdbParams.
---@param parsed dbrun.Postgres
---@return {[1]: string, [2]: string}[]
function M.conninfo_params(parsed)
    check_postgres("url.conninfo_params", parsed)
    return conninfo.params(parsed)
end

---One server for a URL: percent-encoded, IPv6 addresses in brackets.
local function server_text(server)
    local host = server.host or ""
    if host:find(":", 1, true) and not host:find "^[/@]" then
        host = "[" .. host:gsub("[^%x:.]", M.encode) .. "]"
    else
        host = M.encode(host)
    end
    return server.port and ("%s:%d"):format(host, server.port) or host
end

local function servers_text(hosts)
    local list = {}
    for i, server in ipairs(hosts) do
        list[i] = server_text(server)
    end
    return table.concat(list, ",")
end

local function userinfo_text(user, password)
    if not user and not password then
        return ""
    end
    return M.encode(user or "") .. (password and ":" .. M.encode(password) or "") .. "@"
end

local function query_text(params)
    local names, list = {}, {}
    for name in pairs(params or {}) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        list[i] = M.encode(name) .. "=" .. M.encode(params[name])
    end
    return #list > 0 and "?" .. table.concat(list, "&") or ""
end

---A PostgreSQL URL that libpq and psql take, everything percent-encoded.
---@param parsed dbrun.Postgres|table a parsed address (`form` is not needed)
---@return string
function M.build_postgres(parsed)
    check_postgres("url.build_postgres", parsed)
    local dbname <const>, query <const> = parsed.dbname, query_text(parsed.params)
    local authority <const> = userinfo_text(parsed.user, parsed.password) .. servers_text(parsed.hosts or {})
    local path <const> = (dbname or query ~= "") and "/" .. M.encode(dbname or "") or ""
    return "postgresql://" .. authority .. path .. query
end

---The same as `keyword=value` pairs, values quoted.
---@param parsed dbrun.Postgres
---@return string
function M.build_keywords(parsed)
    check_postgres("url.build_keywords", parsed)
    local list = {}
    for i, pair in ipairs(conninfo.params(parsed)) do
        list[i] = pair[1] .. "=" .. conninfo.quote(pair[2])
    end
    return table.concat(list, " ")
end

local REDIS_SCHEMES <const> = {
    redis = { port = 6379 },
    rediss = { port = 6379, tls = true },
    valkey = { port = 6379, name = "redis" },
    valkeys = { port = 6379, tls = true, name = "rediss" },
    unix = { socket = true },
    ["redis+unix"] = { socket = true, name = "unix" },
    ["redis+socket"] = { socket = true, name = "unix" },
    ["redis+sentinel"] = { port = 26379, many = true, service = true },
    ["rediss+sentinel"] = { port = 26379, many = true, service = true, tls = true },
    ["redis+cluster"] = { port = 6379, many = true },
    ["rediss+cluster"] = { port = 6379, many = true, tls = true },
}

-- The options of a Redis URL. The names are redis-py's (but alive_timeout).
local REDIS_OPTIONS <const> = {
    "alive_timeout", "client_name", "db", "health_check_interval", "lib_name", "lib_version", "max_connections",
    "password", "protocol", "read_from", "sentinel_password", "sentinel_username", "socket_connect_timeout",
    "socket_keepalive",
    "socket_timeout", "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname",
    "ssl_keyfile", "ssl_min_version", "timeout", "username",
}

-- Options of redis-py for its own treatment of replies and failures.
local OF_PYTHON <const> = {
    decode_responses = true, encoding = true, encoding_errors = true, retry_on_timeout = true, retry_on_error = true,
}

local function redis_options(what, query)
    local params = {}
    each_option(what, query, function(name, value)
        for _, known in ipairs(REDIS_OPTIONS) do
            if name == known then
                params[name] = value
                return
            end
        end
        if OF_PYTHON[name] then
            fail(what, ("the option %s is redis-py's, and means nothing here"):format(name), "leave it out")
        end
        local near <const> = nearest.find(name, REDIS_OPTIONS)
        fail(what, "unknown option after '?'", near and ("did you mean '%s'?"):format(near)
            or "the options are " .. table.concat(REDIS_OPTIONS, ", "))
    end)
    return params
end

---The number of a Redis database.
---@param text string
---@return integer|nil
function M.redis_db(text)
    args.check("url.redis_db", "text", text, "string")
    return #text <= 9 and text:find "^%d+$" and math.tointeger(tonumber(text)) or nil
end

local function redis_servers(what, known, text)
    local hosts <const>, ports <const> = split_hosts(what, text)
    if #hosts > 1 and not known.many then
        fail(what, "several hosts", "use redis+sentinel:// or redis+cluster://")
    end
    local list = {}
    for i, host in ipairs(hosts) do
        local port <const> = ports[i] == "" and known.port or conninfo.port(ports[i])
        if not port then
            fail(what, "the port is not a number from 1 to 65535")
        elseif host:find "%s" then
            fail(what, "the host contains white space")
        end
        list[i] = { host = host ~= "" and host or "127.0.0.1", port = port }
    end
    return list
end

---The path of a Redis URL: `/db`, for sentinels `/service/db`.
local function redis_path(what, known, path)
    local service, db
    if known.service then
        service, db = path:match "^([^/]*)/?(.*)$"
        service = decode(what, "the name of the service", service)
        if service == "" then
            fail(what, "the name of the master is missing", "expected redis+sentinel://host:port/NAME/0")
        end
    else
        db = path
    end
    return service, decode(what, "the number of the database", (db:gsub("/$", "")))
end

---Parses the URL of a Redis.
---@param text string
---@param what? string what the text is, for errors
---@return dbrun.RedisAddress
---Raises an error of kind `config`.
function M.parse_redis(text, what)
    args.check("url.parse_redis", "text", text, "string")
    args.optional("url.parse_redis", "what", what, "string")
    what = what or "the Redis URL"
    text = check_text(what, text)
    local written <const>, rest <const> = text:match "^%s*(%a[%w+.:-]-)://(.-)%s*$"
    if not written then
        fail(what, "not a URL",
            "expected redis://host:port/db, rediss://, unix:///path, redis+sentinel:// or redis+cluster://")
    end
    local known <const> = REDIS_SCHEMES[written:lower()]
    if not known then
        unknown_scheme(what, written, "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    end
    local parts <const> = split_url(what, rest)
    local params <const> = redis_options(what, parts.query)
    local result = { scheme = known.name or written:lower(), tls = known.tls or false, params = params, hosts = {} }
    result.username = parts.user and decode(what, "the user name", parts.user) or params.username
    result.password = parts.password and decode(what, "the password", parts.password) or params.password
    local db = ""
    if known.socket then
        if parts.hosts ~= "" or parts.path == "" then
            fail(what, "the path of the socket is missing", "expected unix:///path/to/socket?db=0, with three slashes")
        end
        result.path = "/" .. decode(what, "the path of the socket", parts.path)
    else
        result.service, db = redis_path(what, known, parts.path)
        result.hosts = redis_servers(what, known, parts.hosts)
        result.host, result.port = result.hosts[1].host, result.hosts[1].port
    end
    if params.db and params.db ~= "" then
        db = params.db
    end
    result.db = db == "" and 0 or M.redis_db(db)
    if not result.db then
        fail(what, "the number of the database is not an integer from 0 up")
    end
    params.db, params.username, params.password = nil, nil, nil
    if result.password == "" then
        result.password = nil
    end
    return result
end

local REDIS <const> = {
    scheme = args.one_of("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster",
        "rediss+cluster"),
    host = "string", port = args.whole(1, 65535), hosts = "table", path = "string", db = args.whole(0),
    service = "string", username = "string", password = "string", tls = "boolean", params = "table",
}

---A Redis URL, everything percent-encoded.
---@param parsed dbrun.RedisAddress|table `hosts` can be left out if `host` and `port` are given
---@return string
function M.build_redis(parsed)
    args.check("url.build_redis", "parsed", parsed, "table")
    args.options("url.build_redis", parsed, REDIS)
    check_servers("url.build_redis", parsed.hosts)
    check_params("url.build_redis", parsed.params)
    local scheme <const> = parsed.scheme or (parsed.path and "unix") or (parsed.tls and "rediss") or "redis"
    local userinfo <const> = userinfo_text(parsed.username, parsed.password)
    if scheme == "unix" then
        local params = { db = tostring(parsed.db or 0) }
        for name, value in pairs(parsed.params or {}) do
            params[name] = value
        end
        local path <const> = parsed.path:gsub("[^/]+", M.encode)
        return "unix://" .. userinfo .. path .. query_text(params)
    end
    local hosts = parsed.hosts
    if not hosts or #hosts == 0 then
        hosts = { { host = parsed.host or "127.0.0.1", port = parsed.port or 6379 } }
    end
    local service <const> = parsed.service and "/" .. M.encode(parsed.service) or ""
    return ("%s://%s%s%s/%d%s"):format(scheme, userinfo, servers_text(hosts), service, parsed.db or 0,
        query_text(parsed.params))
end

return args.answer_for_names(M, "url", {
    parse = "url.parse_postgres(text), or url.parse_redis(text)", quote = "url.encode(text)",
    escape = "url.encode(text)", unquote = "url.decode(text)", unescape = "url.decode(text)",
    build = "url.build_postgres(parsed), or url.build_redis(parsed)",
})
