--- libpq's connection parameters: their names, the values they take, and the `host=... dbname=...` form with its
--- quoting. Errors here never contain a value.
local args = require "dbrun.args"
local errors = require "dbrun.error"
local nearest = require "dbrun.nearest"

local M = {}

--- libpq reads these as a C int, and reports a wrong one only when it connects.
local function integer(text)
    local digits <const> = text:match "^%s*[+-]?0*(%d+)%s*$"
    if digits and #digits <= 10 and tonumber(digits) < 1 << 31 then
        return true
    end
    return false, "an integer of 32 bits"
end

local function one_of(...)
    local names <const> = { ... }
    local known <const> = {}
    for _, name in ipairs(names) do
        known[name:lower()] = true
    end
    local expected <const> = table.concat(names, ", ")
    return function(text)
        return known[text:lower()] or false, "one of " .. expected
    end
end

local function any()
    return true
end

---dbrun's own rule, because its texts are UTF-8.
local function utf8_only(text)
    local name <const> = text:lower():gsub("[^%w]", "")
    return name == "utf8" or name == "unicode", "UTF8 (dbrun reads and writes no other encoding)"
end

local on_off <const> = one_of("0", "1")
local protocol <const> = one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

-- Every parameter of libpq 15 with the check of its value.
local KEYWORDS <const> = {
    application_name = any,
    channel_binding = one_of("disable", "prefer", "require"),
    client_encoding = utf8_only,
    connect_timeout = integer,
    dbname = any,
    fallback_application_name = any,
    gssencmode = one_of("disable", "prefer", "require"),
    gsslib = any,
    host = any,
    hostaddr = any,
    keepalives = integer,
    keepalives_count = integer,
    keepalives_idle = integer,
    keepalives_interval = integer,
    krbsrvname = any,
    options = any,
    passfile = any,
    password = any,
    port = any,
    replication = any,
    requirepeer = any,
    service = any,
    ssl_max_protocol_version = protocol,
    ssl_min_protocol_version = protocol,
    sslcert = any,
    sslcompression = on_off,
    sslcrl = any,
    sslcrldir = any,
    sslkey = any,
    sslmode = one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    sslpassword = any,
    sslrootcert = any,
    sslsni = on_off,
    target_session_attrs = one_of("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    tcp_user_timeout = integer,
    user = any,
}

-- Parameters of other drivers, and what to use instead.
local FOREIGN <const> = {
    command_timeout = "use DB_STATEMENT_TIMEOUT",
    max_overflow = "use DB_MAX_OVERFLOW",
    pool_size = "use DB_POOL_SIZE",
    pool_timeout = "use DB_POOL_TIMEOUT",
    prepared_statement_cache_size = "use DB_STATEMENT_CACHE",
    schema = "use search_path=NAME",
    search_path = "use options=-c%20search_path%3DNAME",
    server_settings = "use options=-c%20NAME%3DVALUE",
    statement_cache_size = "use DB_STATEMENT_CACHE",
}

local names = {}
for keyword in pairs(KEYWORDS) do
    names[#names + 1] = keyword
end
table.sort(names)

---Raises an error of kind `config`: "<what>: <message>".
---@param what string
---@param message string
---@param hint? string
function M.fail(what, message, hint)
    args.check("conninfo.fail", "what", what, "string")
    args.check("conninfo.fail", "message", message, "string")
    args.optional("conninfo.fail", "hint", hint, "string")
    errors.fail("config", what .. ": " .. message, hint)
end

---A name for an error, after a space. If the same list has a password, an unknown name may be an unquoted part of it
---and is not shown.
local function shown(name, hide)
    if not hide and #name <= 40 and name:find "^[%a_][%w_-]*$" then
        return (" '%s'"):format(name)
    end
    return ""
end

---Whether a name is not one of libpq's parameters.
---@param keyword string
---@return boolean
---@return string? hint what was probably meant: a mistyped name, or a parameter of another driver
function M.unknown(keyword)
    args.check("conninfo.unknown", "keyword", keyword, "string")
    if KEYWORDS[keyword] then
        return false
    end
    local near <const> = nearest.find(keyword, names)
    return true, FOREIGN[keyword] or (near and ("did you mean '%s'?"):format(near) or nil)
end

---Refuses a parameter or a value that libpq does not accept.
---@param what string where the parameter comes from, for errors
---@param keyword string
---@param value string
---@param hide? boolean do not show an unknown name
function M.check(what, keyword, value, hide)
    args.check("conninfo.check", "what", what, "string")
    args.check("conninfo.check", "keyword", keyword, "string")
    args.check("conninfo.check", "value", value, "string")
    args.optional("conninfo.check", "hide", hide, "boolean")
    local check <const> = KEYWORDS[keyword]
    if not check then
        local _, hint <const> = M.unknown(keyword)
        M.fail(what, "unknown connection parameter" .. shown(keyword, hide), hint)
    end
    if value:find("\0", 1, true) then
        M.fail(what, ("the value of '%s' contains a NUL byte"):format(keyword))
    end
    if not utf8.len(value) then
        M.fail(what, ("the value of '%s' is not valid UTF-8"):format(keyword))
    end
    if value ~= "" then
        local ok <const>, expected <const> = check(value)
        if not ok then
            M.fail(what, ("wrong value for '%s': expected %s"):format(keyword, expected))
        end
    end
end

---Splits at commas; an empty text is one empty part.
local function split(text)
    local parts = {}
    for part in (text .. ","):gmatch "([^,]*)," do
        parts[#parts + 1] = part
    end
    return parts
end

---Whether `text` is a TCP port.
---@param text string
---@return integer|nil
function M.port(text)
    args.check("conninfo.port", "text", text, "string")
    local number <const> = text:find "^%d+$" and #text <= 5 and math.tointeger(tonumber(text))
    if number and number >= 1 and number <= 65535 then
        return number
    end
    return nil
end

---The list of servers that `host`, `hostaddr` and `port` describe together.
local function servers(what, params)
    local hosts <const> = params.host and params.host ~= "" and split(params.host)
    local addresses <const> = params.hostaddr and params.hostaddr ~= "" and split(params.hostaddr)
    local ports <const> = params.port and params.port ~= "" and split(params.port) or { "" }
    if hosts and addresses and #hosts ~= #addresses then
        M.fail(what, ("%d hosts, but %d addresses in 'hostaddr'"):format(#hosts, #addresses))
    end
    local count <const> = hosts and #hosts or addresses and #addresses or 1
    if #ports ~= 1 and #ports ~= count then
        M.fail(what, ("%d ports for %d hosts"):format(#ports, count), "give one port, or one for each host")
    end
    local list = {}
    for i = 1, count do
        local text <const> = ports[#ports == 1 and 1 or i]
        local port <const> = M.port(text)
        if text ~= "" and not port then
            M.fail(what, "the port is not a number from 1 to 65535")
        end
        local host <const> = hosts and hosts[i] or ""
        if host:find "%s" and not host:find "^/" then
            M.fail(what, "the host contains white space")
        end
        list[i] = { host = host ~= "" and host or nil, port = port }
    end
    return list
end

local FORM <const> = args.one_of("url", "keywords")

---Makes a parsed connection from a map of libpq's keywords.
---@param what string for errors
---@param form "url"|"keywords"
---@param given table<string, string>
---@param hide? boolean an unknown name may be a piece of a password
---@return dbrun.Postgres
function M.from_params(what, form, given, hide)
    args.check("conninfo.from_params", "what", what, "string")
    args.check("conninfo.from_params", "form", form, FORM)
    args.check("conninfo.from_params", "given", given, "table")
    args.optional("conninfo.from_params", "hide", hide, "boolean")
    local params = {}
    for keyword, value in pairs(given) do
        M.check(what, keyword, value, hide)
        if value ~= "" then
            params[keyword] = value
        end
    end
    local result = { form = form, hosts = servers(what, params), params = params }
    for _, keyword in ipairs { "user", "password", "dbname" } do
        result[keyword] = params[keyword]
        params[keyword] = nil
    end
    params.host, params.port = nil, nil
    return result
end

---One value of the keyword form: its text and the position after it; nil when its quote is not closed.
local function keyword_value(text, pos)
    local parts = {}
    local quoted <const> = text:sub(pos, pos) == "'"
    local plain <const> = quoted and "^[^'\\]+" or "^[^%s\\]+"
    if quoted then
        pos = pos + 1
    end
    while pos <= #text do
        local char <const> = text:sub(pos, pos)
        if char == "\\" then
            parts[#parts + 1] = text:sub(pos + 1, pos + 1)
            pos = math.min(pos + 2, #text + 1)
        elseif quoted and char == "'" then
            return table.concat(parts), pos + 1
        elseif char:find "%s" and not quoted then
            break
        else
            local run <const> = text:match(plain, pos)
            parts[#parts + 1] = run
            pos = pos + #run
        end
    end
    return not quoted and table.concat(parts) or nil, pos
end

---Parses `host=... dbname='...'` as libpq does.
---@param text string
---@param what string for errors
---@return dbrun.Postgres
function M.parse_keywords(text, what)
    args.check("conninfo.parse_keywords", "text", text, "string")
    args.check("conninfo.parse_keywords", "what", what, "string")
    local given = {}
    local pos = text:match "^%s*()"
    while pos <= #text do
        local keyword <const>, value_at <const> = text:match("^([^=%s]+)%s*=%s*()", pos)
        if not keyword then
            M.fail(what, "expected keyword=value pairs",
                "put a value with spaces into single quotes; a URL begins with postgresql://")
        end
        local value <const>, after <const> = keyword_value(text, value_at)
        if not value then
            M.fail(what, "a single quote is not closed in the value of" ..
                (KEYWORDS[keyword] and shown(keyword) or " a parameter"))
        end
        given[keyword] = value
        pos = text:match("^%s*()", after)
    end
    return M.from_params(what, "keywords", given, given.password ~= nil or given.sslpassword ~= nil)
end

---Quotes a value for the `keyword=value` form.
---@param value string
---@return string
function M.quote(value)
    args.check("conninfo.quote", "value", value, "string")
    return "'" .. value:gsub("['\\]", "\\%0") .. "'"
end

local PARSED <const> = {
    form = FORM, hosts = "table", user = "string", password = "string", dbname = "string", params = "table",
}

---The parameters for PQconnectdbParams, in a fixed order: servers, user, password, dbname, then the
---others by name. Without a `port` or `host` libpq's own defaults (PG* variables, socket) apply.
---@param parsed dbrun.Postgres
---@return {[1]: string, [2]: string}[]
function M.params(parsed)
    args.check("conninfo.params", "parsed", parsed, "table")
    args.options("conninfo.params", parsed, PARSED)
    args.check("conninfo.params", "hosts", parsed.hosts, "table")
    args.check("conninfo.params", "params", parsed.params, "table")
    local list, hosts, ports = {}, {}, {}
    for i, server in ipairs(parsed.hosts) do
        hosts[i] = server.host or ""
        ports[i] = server.port and tostring(server.port) or ""
    end
    local function add(keyword, value)
        if value and value ~= "" then
            list[#list + 1] = { keyword, value }
        end
    end
    if #hosts > 1 or hosts[1] ~= "" then
        add("host", table.concat(hosts, ","))
    end
    if table.concat(ports) ~= "" then
        add("port", table.concat(ports, ","))
    end
    add("user", parsed.user)
    add("password", parsed.password)
    add("dbname", parsed.dbname)
    local others = {}
    for keyword in pairs(parsed.params) do
        others[#others + 1] = keyword
    end
    table.sort(others)
    for _, keyword in ipairs(others) do
        add(keyword, parsed.params[keyword])
    end
    return list
end

return M
