--- Explains an error: the layer that failed, the configuration key to correct, and the commands to type.

local M = {}

---@class dbrun.verify.Diagnosis
---@field text string the headline: "cannot log in"
---@field cause string what went wrong, in full
---@field layer? "configuration"|"name"|"network"|"tls"|"authentication"|"database"|"server"|"time"
---@field key? string the keys to correct and their sources: "DATABASE_URL (.env line 3)"
---@field remedy string[] what to do; commands as they are typed

---@class dbrun.verify.Service the service that the failed work was for
---@field name "postgres"|"redis"
---@field source string config.source of the URL: "DATABASE_URL (environment)", "default", ...
---@field server? table the parsed URL: host, port, user, dbname

-- ---- the layer ----

local REDIS_CODES <const> = {
    NOAUTH = "authentication", WRONGPASS = "authentication", NOPERM = "authentication",
    LOADING = "server", MISCONF = "server", OOM = "server", READONLY = "server", BUSY = "server", MASTERDOWN = "server",
}

---The layers by the names in errors of a Redis connect.
local REDIS_STEPS <const> = {
    name = "name", TCP = "network", ["unix socket"] = "network", TLS = "tls", authentication = "authentication",
    database = "database", server = "server",
}

local WORDS <const> = {
    { "resolve", "name" }, { "host name", "name" }, { "Name or service", "name" }, { "name resolution", "name" },
    { "TLS", "tls" }, { "certificate", "tls" }, { "invalid password", "authentication" },
    { "refused", "network" }, { "No such file", "network" }, { "unreachable", "network" }, { "closed", "network" },
    { "reset", "network" }, { "lost", "network" },
}

---@param e dbrun.Error
---@return string?
local function layer_of(e)
    if e.kind == "config" then return "configuration" end
    if e.layer then return e.layer end
    if e.code and REDIS_CODES[e.code] then return REDIS_CODES[e.code] end
    if e.kind == "timeout" or e.kind == "pool" and e.message:find "time" then return "time" end
    if e.kind == "connect" or e.kind == "io" then
        if REDIS_STEPS[e.context] then return REDIS_STEPS[e.context] end
        for _, word in ipairs(WORDS) do
            if e.message:find(word[1], 1, true) then return word[2] end
        end
        return "network"
    end
    return nil
end

local HEADLINES <const> = {
    configuration = "a wrong value",
    name = "the host name does not resolve",
    network = "cannot be reached",
    tls = "no encrypted connection",
    authentication = "cannot log in",
    database = "the database does not exist",
    server = "the server refuses",
    time = "no answer",
}

-- ---- the key ----

local PARTS <const> = {
    postgres = {
        name = { "POSTGRES_HOST" }, network = { "POSTGRES_HOST", "POSTGRES_PORT" }, tls = { "POSTGRES_HOST" },
        time = { "POSTGRES_HOST", "POSTGRES_PORT" }, authentication = { "POSTGRES_USER", "POSTGRES_PASSWORD" },
        database = { "POSTGRES_DB" },
    },
    redis = {
        name = { "REDIS_HOST" }, network = { "REDIS_HOST", "REDIS_PORT" }, tls = { "REDIS_HOST" },
        time = { "REDIS_HOST", "REDIS_PORT" }, authentication = { "REDIS_USERNAME", "REDIS_PASSWORD" },
        database = { "REDIS_DB" },
    },
}

---The keys of the URL for this layer, with their sources.
local function key_of(layer, service)
    local source = service.source
    if source == "default" then
        local url = service.name == "redis" and "REDIS_URL" or "DATABASE_URL"
        return url .. " is not set, so the default was used"
    end
    local names = PARTS[service.name][layer]
    if not names or source:find "_URL " then return source end
    local chosen = {}
    for _, name in ipairs(names) do
        chosen[#chosen + 1] = source:match("%f[%w_]" .. name .. " %b()") or name .. " (not set)"
    end
    return table.concat(chosen, ", ")
end

-- ---- what to type ----

---@return string words for a shell
local function shell(word)
    word = tostring(word)
    if word:find "^[%w_@%%+=:,./-]+$" then return word end
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function psql(program, server, database)
    local words = { program }
    if server.host then words[#words + 1] = "-h " .. shell(server.host) end
    if server.port then words[#words + 1] = "-p " .. shell(server.port) end
    if server.user then words[#words + 1] = "-U " .. shell(server.user) end
    if database then words[#words + 1] = database end
    return table.concat(words, " ")
end

local function redis_cli(server, command)
    local words = { "redis-cli" }
    if server.path then
        words[#words + 1] = "-s " .. shell(server.path)
    else
        if server.host then words[#words + 1] = "-h " .. shell(server.host) end
        if server.port then words[#words + 1] = "-p " .. shell(server.port) end
    end
    if server.tls then words[#words + 1] = "--tls" end
    if server.username then words[#words + 1] = "--user " .. shell(server.username) end
    words[#words + 1] = command
    return table.concat(words, " ")
end

local REMEDIES <const> = {
    postgres = {
        name = function(server) return { "getent hosts " .. shell(server.host or "localhost") } end,
        network = function(server)
            return {
                psql("pg_isready", { host = server.host, port = server.port }),
                "dbrun stack up   (a private one)",
            }
        end,
        time = function(server)
            return { psql("pg_isready", { host = server.host, port = server.port }),
                "check its log: it may be overloaded, stopped in a debugger, or behind a firewall" }
        end,
        authentication = function(server)
            return { psql("psql", server, "-d " .. shell(server.dbname or "postgres") .. " -c 'select 1'"),
                "dbrun config   (shows where each value comes from)" }
        end,
        database = function(server)
            return { psql("createdb", server, server.dbname and shell(server.dbname)), psql("psql", server, "-l") }
        end,
    },
    redis = {
        name = function(server) return { "getent hosts " .. shell(server.host or "localhost") } end,
        network = function(server)
            return { redis_cli(server, "ping"), "dbrun stack up   (a private one)" }
        end,
        time = function(server) return { redis_cli(server, "ping"), "look at its log" } end,
        authentication = function(server)
            return { redis_cli(server, "--askpass ping"), "dbrun config   (shows where each value comes from)" }
        end,
        server = function(server) return { redis_cli(server, "info") } end,
    },
}

---Layers whose hint is better than the commands here.
local HINT_ONLY <const> = { server = true, tls = true }

---The parts of a service's URL for the commands; an empty table when it cannot be parsed.
---@param name "postgres"|"redis"
---@param url string
---@return table
function M.server(name, url)
    local parse = require "dbrun.url"
    if name == "redis" then
        local ok, parsed = pcall(parse.parse_redis, url, "url")
        return ok and parsed or {}
    end
    local ok, parsed = pcall(parse.parse_postgres, url, "url")
    if not ok then return {} end
    local first = parsed.hosts[1] or {}
    return { host = first.host, port = first.port, user = parsed.user, dbname = parsed.dbname }
end

---@param e dbrun.Error
---@param service? dbrun.verify.Service
---@return dbrun.verify.Diagnosis
function M.explain(e, service)
    local layer = layer_of(e)
    local text = e.message .. (e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or "")
    local remedy = {}
    local known = service and REMEDIES[service.name][layer]
    if known then remedy = known(service.server or {}) end
    local hint_adds = not known or HINT_ONLY[layer] or (service.name == "redis" and layer == "authentication")
    if e.hint and hint_adds then table.insert(remedy, 1, e.hint) end
    local stack = service and service.source == "default" and layer == "network"
        and require("dbrun.stack.hint").of(service.name)
    if stack then remedy = { stack } end
    if e.detail then text = text .. "; " .. e.detail end
    local found = require("dbrun.verify.causes").find(e, service and service.server)
    if found then
        return {
            text = ("%s (%s)"):format(found.text, found.layer), cause = text, layer = found.layer,
            key = service and service.source ~= "default" and service.source or nil, remedy = found.remedy,
        }
    end
    return {
        text = (HEADLINES[layer] or "failed") .. (layer and " (" .. layer .. ")" or ""),
        cause = text,
        layer = layer,
        key = service and layer and layer ~= "configuration" and key_of(layer, service) or nil,
        remedy = remedy,
    }
end

---The result for an error in a check of the project.
---@param problem string
---@param file string
---@return dbrun.verify.Diagnosis
function M.own(problem, file)
    return { text = "an error in " .. file, cause = problem, remedy = { "correct this check in " .. file } }
end

---The result for a bug in a check, which must not end the other checks.
---@param problem any
---@return dbrun.verify.Diagnosis
function M.bug(problem)
    return { text = "this check failed by a bug", cause = tostring(problem), remedy = { "report this text" } }
end

return M
