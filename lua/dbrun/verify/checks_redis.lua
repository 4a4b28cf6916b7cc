--- Redis: whether it answers, and a key keeps its value and lifetime.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local redis_server = require "dbrun.verify.redis_server"
local task = require "dbrun.task"

local M = {}

local function service(ctx)
    return {
        name = "redis",
        source = ctx.config.source "redis_url",
        server = require("dbrun.verify.diagnose").server("redis", ctx.config.redis_url),
    }
end

local function client() return require("dbrun.redis").get() end

---The lines of INFO by their names. About twenty of its two hundred are used, so each is searched when it is needed.
---@param text string
---@return table<string, string>
function M.info(text)
    text = "\n" .. text
    return setmetatable({}, { __index = function(self, name)
        local _, past = text:find(("\n%s:"):format(name), 1, true)
        local value = past and text:match("^[^\r\n]*", past + 1)
        self[name] = value
        return value
    end })
end

---Reads all that the checks of Redis need in one round trip; nil for what the user may not run.
local function ask(r)
    local replies = r:pipeline(function(p)
        p:ping()
        p:info()
        p:call("ACL", "WHOAMI")
        p:call("CONFIG", "GET", "save")
    end)
    local first = replies[1]
    if type(first) == "table" and first.kind then error(first, 0) end
    local info, user, save = replies[2], replies[3], replies[4]
    return {
        answer = first, info = type(info) == "string" and M.info(info) or nil,
        refused = type(info) == "table" and info.message or nil,
        user = type(user) == "string" and user or nil,
        save = type(save) == "table" and not save.kind and (save.save or save[2]) or nil,
    }
end

-- ---- a server that does not answer at once ----

local QUICK <const> = 1 -- seconds to wait for an answer before looking for the reason
local MARGIN <const> = 0.05 -- seconds before the deadline at which the server's words are reported
local PROBE <const> = 0.5 -- seconds for each look

---The error of a PING on a separate connection; nil when it was answered.
local function ping(url, opts)
    opts = opts or {}
    opts.url, opts.connect_timeout, opts.command_timeout = url, opts.connect_timeout or PROBE, 4 * PROBE
    local probe = require("dbrun.redis").client(opts)
    local _ <close> = setmetatable({}, { __close = function() probe:close() end })
    local ok, e = pcall(probe.ping, probe)
    if ok then return nil end
    if not errors.is(e) or e.kind == "cancelled" then error(e, 0) end
    return e
end

---States that last until a person acts. A connect waits for their end, which is right for a program, but not here.
local STATES <const> = {
    MASTERDOWN = { "a replica without its master answers nothing",
        "start its master, or: redis-cli replicaof no one   (replica-serve-stale-data is `no`)" },
}

local function bracketed(host) return host:find(":", 1, true) and "[" .. host .. "]" or host end

---Raises when a server that closes plain connections speaks TLS. No password is sent: its certificate is not verified.
local function look_for_tls(server)
    if server.tls or not server.host then return end
    local host, port = bracketed(server.host), server.port or 6379
    local e = ping(("rediss://%s:%d"):format(host, port), { verify = false, connect_timeout = 4 * PROBE })
    -- An alert about a certificate is TLS too: the server requires a client certificate.
    if e and not (e.code or e.message:find "NOAUTH" or e.message:find "alert.*certificate") then return end
    errors.raise { kind = "connect", context = "TLS",
        hint = "write rediss:// instead of redis://; the certificate's authority: ?ssl_ca_certs=FILE",
        message = ("the server at %s:%d speaks TLS, and closes connections without it"):format(host, port) }
end

---Raises the reason why a server does not answer, if it can be found.
---@return dbrun.Error? said what it answers instead, which may end by itself (LOADING)
local function look(url, server)
    local e = ping(url)
    if not e then return end
    if e.code and not STATES[e.code] then return e end
    for code, state in pairs(STATES) do
        if e.message:find("%f[%u]" .. code .. "%f[%U]") then
            errors.raise { kind = "connect", context = "server", code = code, hint = state[2],
                message = ("%s: %s"):format(state[1], e.message) }
        end
    end
    if not (server.tls and server.host) then return end
    local host = bracketed(server.host)
    local plain = ping(("redis://%s:%d"):format(host, server.port or 6379))
    if not plain or plain.message:find "NOAUTH" then
        errors.raise { kind = "connect", context = "TLS",
            hint = "write redis:// instead of rediss://, or name the port with TLS (tls-port in redis.conf)",
            message = ("the server at %s:%d speaks no TLS: it answers without"):format(host, server.port or 6379) }
    end
end

---Queries the server; when no answer comes soon, looks for the reason before it queries again for the rest of the time.
local function ask_or_look(ctx)
    local left = math.max(ctx.deadline - task.now(), 0)
    local ok, found = pcall(task.timeout, math.min(QUICK, left / 3), ask, client())
    if ok then return found end
    if not errors.is(found, "timeout") then
        if errors.is(found) and found.message:find "closed the connection" then look_for_tls(service(ctx).server) end
        error(found, 0)
    end
    local said = look(ctx.config.redis_url, service(ctx).server)
    if not said then return ask(client()) end
    ok, found = pcall(task.timeout, math.max(ctx.deadline - task.now() - MARGIN, 0), ask, client())
    if ok then return found end
    if not errors.is(found, "timeout") then error(found, 0) end
    errors.raise { kind = "connect", context = "server", code = said.code, message = said.message, hint = said.hint }
end

---@type dbrun.verify.Check
M.redis = {
    name = "redis",
    about = "Redis answers to PING; version and pool settings",
    after = { "configuration" },
    service = service,
    run = function(ctx)
        local _ = ctx.config.redis_url
        local server = ask_or_look(ctx)
        if server.answer ~= "PONG" then
            return { status = "FAIL", text = "the reply to PING was not PONG", cause = tostring(server.answer),
                remedy = { "is it a Redis server that listens there?" } }
        end
        ctx.redis = server
        server.asked = task.now()
        server.user = server.user or service(ctx).server.username or "default"
        local info = server.info or {}
        server.is = redis_server.identify(info)
        local version = server.is.version or "of unknown version"
        local mode = info.server_mode or info.redis_mode or "unknown mode"
        local text = ("%s %s, %s, up to %d connections"):format(server.is.name, version, mode,
            ctx.config.REDIS_MAX_CONNECTIONS)
        local facts = { server = server.is.name, version = version, mode = mode }
        if server.info then return { text = text, facts = facts } end
        return { status = "WARN", text = text, facts = facts,
            cause = ("cannot see the server's state: %s"):format(server.refused or "no answer to INFO"),
            remedy = { ("redis-cli acl setuser %s +info"):format(server.user) } }
    end,
}

---A unique name: two verifications at the same time must not read each other's key.
local function probe_key()
    local process = require "dbrun.process"
    return ("dbrun:verify:%d:%d:%d"):format(process.pid(), os.time(), math.random(1, 2 ^ 31))
end

---@type dbrun.verify.Check
M.round_trip = {
    name = "redis.round_trip",
    about = "a key can be written, read back and removed, and has its lifetime",
    needs = { "redis" },
    service = service,
    run = function()
        if core.options.read_only then return { status = "SKIP", text = "nothing is written with --read-only" } end
        local r, key, lifetime = client(), probe_key(), 60
        local written = "dbrun \0\1\255 verify " .. key
        local replies = r:pipeline(function(p)
            p:set(key, written, "EX", lifetime)
            p:get(key)
            p:ttl(key)
            p:del(key)
        end)
        for _, reply in ipairs(replies) do
            if type(reply) == "table" and reply.kind then error(reply, 0) end
        end
        local set, read, ttl, deleted = table.unpack(replies, 1, 4)
        if set == "OK" and read == written and ttl > 0 and ttl <= lifetime and deleted == 1 then
            return ("SET, GET, TTL and DEL of a key of %d bytes that lives %d s"):format(#written, ttl)
        end
        return {
            status = "FAIL", text = "the value read differs from the value written",
            cause = ("SET %s, GET %s, TTL %s, DEL %s"):format(tostring(set), read == written and "equal" or "different",
                tostring(ttl), tostring(deleted)),
            remedy = { "is it a proxy, a replica, or a server that evicts (redis-cli config get maxmemory-policy)?" },
        }
    end,
}

return M
