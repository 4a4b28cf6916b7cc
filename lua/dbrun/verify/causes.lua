--- Causes that the message of a server or a library names, and the remedy for each. dbrun.verify.diagnose asks here
--- first; an error that no rule knows gets the remedies of its layer.
local M = {}

---@class dbrun.verify.Cause
---@field text string the headline
---@field layer string
---@field remedy string[]

local function ident(word)
    return word:find "^[%l_][%l%d_]*$" and word or '"' .. word:gsub('"', '""') .. '"'
end

local function of(server, key, otherwise) return server[key] and ident(server[key]) or otherwise end

local POOL <const> = "lower DB_POOL_SIZE, DB_MAX_OVERFLOW or SYNC_POOL_SIZE"
local SEEK <const> = "select * from pg_hba_file_rules   (the first that fits decides; then: select pg_reload_conf())"

---The remedy for a setting that the server refuses when a session begins.
local function setting(_, server, name)
    return { ("correct '%s' in `options` of DATABASE_URL, or in PGOPTIONS"):format(name),
        ("or, if the role has it: alter role %s reset %s;"):format(of(server, "user", "current_user"), name) }
end

---The pg_hba.conf line that would admit a client; parts that the URL leaves out come from the server's message.
local function hba_line(message, server, kind)
    local host = message:match 'host "([^"]+)"'
    local where = host and host ~= "[local]" and ("%s%s"):format(host, host:find ":" and "/128" or "/32")
    if not where then
        return ("pg_hba.conf: local  %s  %s  scram-sha-256"):format(of(server, "dbname", "all"),
            of(server, "user", "all"))
    end
    return ("pg_hba.conf: %s  %s  %s  %s  scram-sha-256"):format(kind,
        ident(server.dbname or message:match 'database "([^"]+)"' or "all"),
        ident(server.user or message:match 'user "([^"]+)"' or "all"), where)
end

---The privilege that an SQL object needs, by the server's words for its kind.
local GRANTS <const> = {
    database = "grant connect on database %s to %s;", schema = "grant usage on schema %s to %s;",
    table = "grant select on table %s to %s;", view = "grant select on table %s to %s;",
    sequence = "grant usage, select on sequence %s to %s;", ["function"] = "grant execute on function %s to %s;",
    relation = "grant select on table %s to %s;", ["materialized view"] = "grant select on table %s to %s;",
    language = "grant usage on language %s to %s;", type = "grant usage on type %s to %s;",
    ["foreign server"] = "grant usage on foreign server %s to %s;",
}

---"materialized view My Totals": the words for the kind, and the name, which the server does not quote.
local function kind_and_name(object)
    local longest = object:match "^%l+"
    for kind in pairs(GRANTS) do
        if #kind > #longest and object:sub(1, #kind + 1) == kind .. " " then longest = kind end
    end
    return longest, (object:sub(#longest + 2):gsub('^"(.*)"$', "%1"))
end

---@class dbrun.verify.Rule: dbrun.verify.Cause
---@field code? string
---@field kind? string
---@field state? string
---@field pattern string
---@field remedy fun(message: string, server: table, a: string?, b: string?): string[]

---@type dbrun.verify.Rule[]
local RULES <const> = {
    { state = "53300", pattern = 'too many connections for role "(.*)"', layer = "server",
        text = "the role's connection limit is reached", remedy = function(_, _, role)
            return { ("select rolconnlimit from pg_roles where rolname = '%s'"):format(role:gsub("'", "''")),
                ("alter role %s connection limit -1;   (or a higher number)"):format(ident(role)), POOL }
        end },
    { state = "53300", pattern = 'too many connections for database "(.*)"', layer = "server",
        text = "the database's connection limit is reached", remedy = function(_, _, database)
            return { ("alter database %s connection limit -1;   (or a higher number)"):format(ident(database)), POOL }
        end },
    { state = "55000", pattern = 'database "(.*)" is not currently accepting connections', layer = "database",
        text = "the database takes no connections", remedy = function(_, _, database)
            return { ("alter database %s allow_connections true;   (from another database)"):format(ident(database)),
                "was it closed on purpose, for a copy or a move? is it a template?" }
        end },
    { state = "57014", pattern = "statement timeout", text = "statement_timeout is too short", layer = "server",
        remedy = function(_, server)
            local role = of(server, "user", "current_user")
            return { "show statement_timeout   (of this role in this database)",
                ("alter role %s reset statement_timeout;   (or: set statement_timeout = '30s')"):format(role),
                "is it set in DB_STATEMENT_TIMEOUT, `options` of the URL, or for the database?" }
        end },
    { code = "NOPERM", pattern = "(.*)", text = "a right is missing", layer = "authentication",
        remedy = function(message, server)
            local user = server.username or "default"
            local command = message:match "run the '([^']+)' command"
            local right = command and "+" .. command or message:find "channel" and "'&PATTERN'" or "'~PATTERN'"
            return { ("redis-cli acl setuser %s %s   (as a user who may; then: acl save)"):format(user, right),
                "redis-cli acl log   (what was refused, and why)" }
        end },
    { state = "57P05", pattern = "idle%-session timeout", text = "idle_session_timeout is too short", layer = "server",
        remedy = function(_, server)
            return { "show idle_session_timeout   (of this role in this database)",
                ("alter role %s reset idle_session_timeout;   (pools keep connections open)"):format(
                    of(server, "user", "current_user")) }
        end },
    { kind = "connect", state = "22023", pattern = 'invalid value for parameter "([^"]*)"',
        text = "a setting has a wrong value", layer = "configuration", remedy = setting },
    { kind = "connect", state = "42704", pattern = 'unrecognized configuration parameter "([^"]*)"',
        text = "a setting does not exist", layer = "configuration", remedy = setting },
    { pattern = "server does not support SSL", text = "the server speaks no TLS", layer = "tls",
        remedy = function()
            return { "ssl = on in the server's postgresql.conf, with ssl_cert_file and ssl_key_file",
                "or sslmode=prefer (or disable) in DATABASE_URL, within one machine" }
        end },
    { state = "28000", pattern = "[Pp]eer authentication failed", layer = "authentication",
        text = "the account of this program is not the role", remedy = function(_, server)
            return { ("run this as the account '%s', or add it to pg_ident.conf"):format(server.user or "of that name"),
                "or a host and a password in DATABASE_URL: `peer` is for the local socket" }
        end },
    { state = "28000", pattern = "no pg_hba.conf entry", text = "pg_hba.conf has no line for this client",
        layer = "authentication", remedy = function(message, server)
            local plain = message:find("no encryption", 1, true) or message:find("SSL off", 1, true)
            local list = { hba_line(message, server, plain and "host" or "hostssl"), SEEK }
            if plain then
                list[3] = "lines with hostssl fit only encrypted connections: sslmode=require in DATABASE_URL"
            end
            return list
        end },
    { state = "28000", pattern = "pg_hba.conf rejects", text = "a line of pg_hba.conf rejects this client",
        layer = "authentication", remedy = function(message, server)
            local plain = message:find("no encryption", 1, true) or message:find("SSL off", 1, true)
            local list = { "look in pg_hba.conf for the line with `reject` that fits; put this one before it:",
                hba_line(message, server, plain and "host" or "hostssl"), SEEK }
            if plain then list[4] = "if it is a `hostnossl ... reject`: sslmode=require in DATABASE_URL" end
            return list
        end },
    { state = "28000", pattern = 'role "(.*)" does not exist', text = "the role does not exist",
        layer = "authentication", remedy = function(_, _, role)
            return { ("create role %s login;"):format(ident(role)),
                "or another user in DATABASE_URL (POSTGRES_USER); without one the name of your account is taken" }
        end },
    { state = "28000", pattern = 'role "(.*)" is not permitted to log in', text = "the role may not log in",
        layer = "authentication", remedy = function(_, _, role)
            return { ("alter role %s login;"):format(ident(role)) }
        end },
    { state = "42501", pattern = "permission denied for (%l.+)$", text = "a privilege is missing",
        layer = "server", remedy = function(_, server, object)
            local kind, name = kind_and_name(object)
            local grant = GRANTS[kind]
            local role = of(server, "user", "ROLE")
            if kind == "schema" then
                return { (grant:format(ident(name), role)),
                    ("to make tables there: grant create on schema %s to %s;"):format(ident(name), role) }
            end
            if not grant then return { ("grant ... on %s %s to %s;"):format(kind, ident(name), role) } end
            return { (grant:format(ident(name), role)) }
        end },
    { state = "58P01", pattern = 'could not access file "[^"]-([%w_]+)%-(%d[%w.]*)"', layer = "server",
        text = "the library of an extension is missing", remedy = function(_, _, extension, version)
            return { ("install %s %s on the server again"):format(extension, version),
                ("or: psql -X -c 'alter extension %s update'   (to the version that is installed)"):format(extension) }
        end },
    { pattern = 'extension "([^"]+)" must be preloaded', text = "the library of an extension is not loaded",
        layer = "server", remedy = function(_, _, extension)
            return { ("shared_preload_libraries = '%s' in postgresql.conf; then restart the server"):format(extension) }
        end },
    { pattern = 'definition of service "([^"]*)" not found', text = "there is no such service",
        layer = "configuration", remedy = function(_, _, service)
            return { ("write a section [%s] into ~/.pg_service.conf (or the file of PGSERVICEFILE)"):format(service),
                "or take service=... out of DATABASE_URL, and PGSERVICE out of the environment" }
        end },
    { pattern = "service file .- not found", text = "there is no such service file", layer = "configuration",
        remedy = function() return { "correct PGSERVICEFILE, or unset it" } end },
}

---The cause that an error names.
---@param e dbrun.Error
---@param server? table parts of the URL
---@return dbrun.verify.Cause?
function M.find(e, server)
    local message = e.message or ""
    for _, rule in ipairs(RULES) do
        local state, kind = rule.state or e.sqlstate, rule.kind or e.kind
        if rule.code == e.code and state == e.sqlstate and kind == e.kind then
            local first, _, a, b = message:find(rule.pattern)
            if first then
                return { text = rule.text, layer = rule.layer, remedy = rule.remedy(message, server or {}, a, b) }
            end
        end
    end
end

return M
