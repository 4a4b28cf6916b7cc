--- The server of dbmate's URL: its address, whether it answers, and creating and dropping a database.
local conninfo = require "dbrun.conninfo"
local errors = require "dbrun.error"
local target = require "dbrun.target"
local url = require "dbrun.url"

local M = {}

local POSTGRES <const> = { postgres = true, postgresql = true }

---@class dbrun.migrate.dbmate.Address
---@field url string of the database, for dbrun
---@field maintenance string of the database postgres of the same server
---@field bare string the URL without search_path and other settings of the server, for pg_dump
---@field name string of the database
---@field schemas string[] those of search_path in the URL
---@field tls_default boolean nothing sets sslmode: dbmate then requires encryption

---The parts of a query that are dbmate's own: search_path, as its schemas.
local function schemas_of(text)
    local list = {}
    for item in (text:match "%?(.*)$" or ""):gmatch "[^&]+" do
        local value = item:match "^search_path=(.*)$"
        for name in (value and url.decode((value:gsub("%+", " "))) or ""):gmatch "[^,]+" do
            name = name:match "^%s*(.-)%s*$"
            if name ~= "" then list[#list + 1] = name end
        end
    end
    return list
end

local OURS <const> = { search_path = true, socket = true, ssl = true, binary_parameters = true }

---Takes search_path and settings of the server out of a URL: Go's driver passes each parameter that it does not know to
---the server (`statement_timeout=5000`). What looks like a mistyped parameter stays, and is refused.
---@param text string
---@return string bare
---@return string[] settings "NAME=VALUE"
local function without_settings(text)
    local head, query = text:match "^([^?]*)%?(.*)$"
    if not head then return text, {} end
    local kept, settings = {}, {}
    for item in query:gmatch "[^&]+" do
        local name, value = item:match "^([%a_][%w_.]*)=(.*)$"
        local unknown, hint = conninfo.unknown(name or "host")
        if unknown and not hint and not OURS[name] then
            settings[#settings + 1] = name .. "=" .. url.decode((value:gsub("%+", " ")))
        elseif name ~= "search_path" then
            kept[#kept + 1] = item
        end
    end
    return #kept > 0 and head .. "?" .. table.concat(kept, "&") or head, settings
end

---Adds settings of the server to libpq's `options`, in which a backslash escapes a blank.
local function add_settings(parsed, settings)
    for _, setting in ipairs(settings) do
        parsed.params.options = (parsed.params.options and parsed.params.options .. " " or "") .. "-c "
            .. setting:gsub("[%s\\]", "\\%0")
    end
end

---The URL with a scheme that libpq knows and with both slashes, which Go does not need (postgres:/name?host=...).
local function normal(text)
    local rest = text:match "^%s*%a[%w+.-]*:(.*)$"
    if rest:find "^//" then return "postgresql:" .. rest end
    if rest:find "^/" then return "postgresql://" .. rest end
    errors.fail("config", "invalid url: there is no // after its scheme",
        "it begins with postgres://, as in postgres://user@host:5432/name")
end

---Values that Go's driver takes from variables. Variables of a file are not in the environment, where libpq would look.
local VARIABLES <const> = {
    PGSSLMODE = "sslmode", PGSSLCERT = "sslcert", PGSSLKEY = "sslkey", PGSSLROOTCERT = "sslrootcert",
    PGCONNECT_TIMEOUT = "connect_timeout", PGOPTIONS = "options",
}

local function take_variables(parsed, lookup)
    parsed.user = parsed.user or lookup "PGUSER"
    parsed.password = parsed.password or lookup "PGPASSWORD"
    for name, keyword in pairs(VARIABLES) do
        parsed.params[keyword] = parsed.params[keyword] or lookup(name)
    end
end

---As in dbmate: the folder /var/run/postgresql and the port 5432, even if PGHOST and PGPORT are set.
local function parsed_of(text, what, lookup)
    local parsed = url.parse_postgres(text, what)
    take_variables(parsed, lookup)
    if #parsed.hosts == 1 then
        local first = parsed.hosts[1]
        if not first.host and not parsed.params.hostaddr then first.host = "/var/run/postgresql" end
        first.port = first.port or 5432
    end
    return parsed
end

local function is_remote(parsed)
    for _, server in ipairs(parsed.hosts) do
        if server.host and not server.host:find "^[/@]" then return true end
    end
    return false
end

---@param text? string the URL
---@param driver? string
---@param lookup fun(name: string): string? the variables
---@return dbrun.migrate.dbmate.Address
---Raises an error of kind `config`.
function M.address(text, driver, lookup)
    local scheme = (text or ""):match "^%s*(%a[%w+.-]*):"
    if not scheme then
        errors.fail("config", "invalid url, have you set your --url flag or DATABASE_URL environment variable?")
    end
    -- As in Go, a URL's scheme can have capital letters; the name of a driver cannot.
    driver = driver and driver ~= "" and driver or scheme:lower()
    if not POSTGRES[driver] then
        errors.fail("config", "unsupported driver: " .. driver,
            "dbrun works with PostgreSQL only; for this database use dbmate itself")
    end
    text = normal(text)
    local schemas <const> = schemas_of(text)
    local plain, settings = without_settings(text)
    local bare, parsed = parsed_of(plain, "the URL", lookup), parsed_of(plain, "the URL", lookup)
    if #schemas > 0 then table.insert(settings, 1, "search_path=" .. table.concat(schemas, ",")) end
    add_settings(parsed, settings)
    local core = require "dbrun.core"
    if parsed.password and core.log then core.log.secret(parsed.password) end
    local address = {
        url = url.build_postgres(parsed), bare = url.build_postgres(bare), name = parsed.dbname or "",
        schemas = schemas,
        tls_default = not parsed.params.sslmode and is_remote(parsed),
    }
    bare.dbname = "postgres"
    address.maintenance = url.build_postgres(bare)
    return address
end

---Calls fn with a connection to a URL.
---@param to string
---@param fn fun(conn: table): any
function M.with(to, fn)
    local engine <close> = require("dbrun.db").engine {
        url = to, mode = "sync", size = 1, statement_cache = 0, application_name = "dbrun dbmate",
    }
    local conn <close> = engine:acquire()
    return fn(conn)
end

---Whether the server answers. An error that the database does not exist is an answer.
---@param address dbrun.migrate.dbmate.Address
---@return boolean
---@return table? error
function M.ping(address)
    local ok, e = pcall(M.with, address.url, function(conn) conn:exec "select 1" end)
    if ok or errors.is(e) and e.sqlstate == "3D000" then return true end
    if not errors.is(e) or errors.is(e, "cancelled") then error(e, 0) end
    return false, e
end

---Raises for a protected database that was not named, and warns once about an unencrypted connection.
---@param conn table
---@param address dbrun.migrate.dbmate.Address
---@param opts { target?: string, protected?: string }
---@param warn fun(text: string)
function M.check(conn, address, opts, warn)
    target.check(conn, address.url, opts.target, { patterns = opts.protected, database = address.name })
    if address.tls_default and not conn:value "select ssl from pg_catalog.pg_stat_ssl where pid = pg_backend_pid()" then
        address.tls_default = false
        warn "the connection is not encrypted: dbmate insists on TLS unless the URL has sslmode=disable"
    end
end

local EXISTS <const> = "select exists (select from pg_catalog.pg_database where datname = $1)"

---@param conn table to the database postgres
---@param name string
---@return boolean
function M.exists(conn, name)
    return conn:value(EXISTS, name)
end

local function quote(name)
    return '"' .. name:gsub('"', '""') .. '"'
end

local function check_name(name)
    if name == "" then
        errors.fail("config", "the URL names no database", "it follows the host: postgres://user@host:5432/name")
    end
end

---@param conn table to the database postgres
---@param name string
function M.create(conn, name)
    check_name(name)
    conn:exec("create database " .. quote(name))
end

---@param conn table to the database postgres
---@param name string
function M.drop(conn, name)
    check_name(name)
    conn:exec("drop database if exists " .. quote(name))
end

return M
