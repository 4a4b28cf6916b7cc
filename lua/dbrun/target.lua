--- The database that a script is about to change: its name, and whether it is protected. Both come from the server,
--- because the connection may have reached another one than the URL suggests.
---
---     DBRUN_PROTECTED=*prod*,db.example.com/shop
---
--- Patterns of databases that scripts change only when --target names them, separated by commas or blanks; `*` matches
--- anything. A pattern without `/` is compared with the database's name and with the host; one with `/` with
--- "host/database".
local args = require "dbrun.args"
local catalog = require "dbrun.db.catalog"
local errors = require "dbrun.error"
local tty = require "dbrun.tty"

local M = {}

local WHERE <const> = catalog.sql [[
select current_user::{text} as role, {current_database}()::{text} as database, {host}({inet_server_addr}()) as address,
       {inet_server_port}() as port, {current_setting}('server_version') as version]]

---The same query without the server's address: some services that speak PostgreSQL's protocol lack these functions.
local WHERE_ONLY <const> = catalog.sql [[
select current_user::{text} as role, {current_database}()::{text} as database,
       {current_setting}('server_version') as version]]

local NOT_OFFERED <const> = { ["42501"] = true, ["42883"] = true, ["0A000"] = true }

local function where(conn)
    local ok, row = pcall(conn.one, conn, WHERE)
    if ok then return row end
    if not errors.is(row) or not NOT_OFFERED[row.sqlstate] then error(row, 0) end
    return conn:one(WHERE_ONLY)
end

---The servers in a URL; none when it cannot be parsed.
local function servers_in(url)
    local ok, parsed = pcall(require("dbrun.url").parse_postgres, url, "url")
    return ok and parsed.hosts or {}
end

---The host as the URL names it, which people know better than its address.
local function host_in(url)
    local servers = servers_in(url)
    return #servers == 1 and servers[1].host or nil
end

local HANDLE <const> = args.one_type_of("table", "userdata")

---Describes the target in a few words, without a password.
---@param conn table|userdata anything with `one`
---@param url string the URL it was opened with
---@return string target "app@db.example:5432/shop (PostgreSQL 15.10)"
function M.describe(conn, url)
    args.check("target.describe", "conn", conn, HANDLE)
    args.check("target.describe", "url", url, "string")
    local row = where(conn)
    local host = host_in(url) or row.address or "local socket"
    if row.port and host:sub(1, 1) ~= "/" then host = ("%s:%d"):format(host, row.port) end
    local name = ("%s@%s/%s (PostgreSQL %s)"):format(row.role, host:gsub("/+$", ""), row.database,
        row.version:match "^%S+")
    return tty.printable(name)
end

local function matches(text, pattern)
    local lua_pattern = pattern:lower():gsub("[^%w*]", "%%%0"):gsub("%*", ".*")
    return text:lower():find("^" .. lua_pattern .. "$") ~= nil
end

---Does one of the patterns match this database?
---@param patterns? string
---@param hosts string[] names under which the server is known
---@param database string
---@return string? pattern the first that matches
local function matching(patterns, hosts, database)
    for pattern in (patterns or ""):gmatch "[^,%s]+" do
        if not pattern:find("/", 1, true) and matches(database, pattern) then return pattern end
        for _, host in ipairs(hosts) do
            local text = pattern:find("/", 1, true) and host .. "/" .. database or host
            if matches(text, pattern) then return pattern end
        end
    end
end

local ABOUT <const> = { patterns = "string", database = "string" }

---Raises if the target is protected and was not named.
---@param conn table|userdata anything with `one`
---@param url string it was opened with
---@param named? string what the user calls the target: the database's name, or host/database
---@param about? { patterns?: string, database?: string } patterns: default the key DBRUN_PROTECTED; database: the one
---    that is about to be changed, if it is not that of the connection
---Raises an error of kind `usage`.
function M.check(conn, url, named, about)
    args.check("target.check", "conn", conn, HANDLE)
    args.check("target.check", "url", url, "string")
    args.optional("target.check", "named", named, "string")
    about = args.options("target.check", about, ABOUT)
    local patterns = about.patterns or require("dbrun.config").DBRUN_PROTECTED
    if not named and not (patterns and patterns:find "%S") then return end
    local row = where(conn)
    row.database = about.database or row.database
    local hosts = { row.address }
    for _, server in ipairs(servers_in(url)) do hosts[#hosts + 1] = server.host end
    if named then
        local fits = named == row.database
        for _, host in ipairs(hosts) do fits = fits or named == host .. "/" .. row.database end
        if fits then return end
        errors.fail("usage", ("the target is the database '%s', not '%s'"):format(row.database, named))
    end
    local pattern = matching(patterns, hosts, row.database)
    if not pattern then return end
    errors.fail("usage",
        ("the database '%s' is protected (DBRUN_PROTECTED: %s): nothing was done"):format(row.database, pattern),
        ("name it to change it: --target %s"):format(row.database))
end

return M
