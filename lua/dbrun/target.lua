--- Which database a script is about to work on, in a few words without a password: asked of the server, because what
--- counts is where the connection ended up. And whether it may: DBRUN_PROTECTED names those that stay as they are
--- unasked.
local errors = require "dbrun.error"

local M = {}

---@class dbrun.Target
---@field role string
---@field host string as the URL names it, else the server's address, else "local socket"
---@field port? integer
---@field database string
---@field version string "15.10"
---@field name string "app@db.example:5432/shop"

local WHERE <const> = [[
select current_user::text as role, current_database()::text as database, host(inet_server_addr()) as address,
       inet_server_port() as port, current_setting('server_version') as version]]

---The host as the URL names it: a person knows that name better than the address behind it.
local function host_in(url)
    local ok, parsed = pcall(require("dbrun.url").parse_postgres, url, "url")
    local first = ok and #parsed.hosts == 1 and parsed.hosts[1]
    return first and first.host or nil
end

---@param conn table anything with `one`
---@param url string the URL it was opened with
---@return dbrun.Target
function M.look(conn, url)
    local row = conn:one(WHERE)
    local host = (host_in(url) or row.address or "local socket"):gsub("(.)/+$", "%1")
    local at = row.port and host:sub(1, 1) ~= "/" and ("%s:%d"):format(host, row.port) or host
    return {
        role = row.role, host = host, port = row.port, database = row.database, version = row.version:match "^%S+",
        name = ("%s@%s/%s"):format(row.role, at, row.database),
    }
end

---@param conn table anything with `one`
---@param url string the URL it was opened with
---@return string target "app@db.example:5432/shop (PostgreSQL 15.10)"
function M.describe(conn, url)
    local target = M.look(conn, url)
    return ("%s (PostgreSQL %s)"):format(target.name, target.version)
end

---`shop_*` as a Lua pattern: * is any text, ? one character, all else stands for itself.
local function pattern_of(glob)
    local pattern = glob:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
    return "^" .. pattern .. "$"
end

---The pattern of a list that a target fits.
---@param target dbrun.Target
---@param patterns? string DBRUN_PROTECTED: patterns with * and ?, apart by commas; one fits the name of the database,
---    the host, or all of it ("app@db.example:5432/shop")
---@return string? pattern the first that fits
function M.protected_by(target, patterns)
    for glob in (patterns or ""):gmatch "[^,%s]+" do
        local pattern = pattern_of(glob)
        for _, text in ipairs { target.database, target.host, target.name } do
            if text:find(pattern) then return glob end
        end
    end
    return nil
end

---Refuses to go on with a protected target, unless whoever started this named its database; and with another database
---than the one that was named.
---@param target dbrun.Target
---@param patterns? string DBRUN_PROTECTED
---@param named? string what --target said
---Raises an error of kind `usage`.
function M.check(target, patterns, named)
    if named and named ~= target.database then
        errors.raise {
            kind = "usage",
            message = ("--target names '%s', but the connection goes to %s"):format(named, target.name),
            hint = "dbrun config   (shows where the address comes from)",
        }
    end
    local pattern = M.protected_by(target, patterns)
    if not pattern or named then return end
    errors.raise {
        kind = "usage",
        message = ("%s is protected (DBRUN_PROTECTED has '%s')"):format(target.name, pattern),
        hint = ("--target %s, if you mean it"):format(target.database),
    }
end

return M
