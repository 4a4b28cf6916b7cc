-- Certificates that expire soon, of PostgreSQL and of Redis.
local certificates = require "spec.support.certificates"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local redis_server = require "spec.support.redis_server"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

---Certificates of specs are valid for two days.
local LIMITS <const> = {
    PASS = "{ limit = '%s', warn = 1, fail = 0.5 }", WARN = "{ limit = '%s', warn = 30, fail = 1 }", FAIL = "",
}

local function told(name, env, wanted, limit, cause)
    local root = fs.mkdtemp()
    local _ <close> = setmetatable({}, { __close = function() fs.rmtree(root) end })
    fs.write(root .. "/expect.lua", "return { " .. limit:format(name) .. " }")
    local result = scripts.run("verify", { "--only", name, "--expect", root .. "/expect.lua" }, env)
    assert.equal(wanted, result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " "), result.text)
    if cause then assert.matches(cause, result.stdout, 1, true) end
end

it("the certificates of PostgreSQL, the server's and the client's", function()
    local dir = fs.mkdtemp(folder.run() .. "/certificates-")
    certificates.authority(dir, "ca")
    for _, name in ipairs { "server", "expired", "client" } do
        certificates.sign(dir, "ca", name, "DNS:localhost,IP:127.0.0.1", name == "expired")
    end
    fs.chmod(dir .. "/client.key", tonumber("600", 8))
    if folder.user then
        local uid, gid = folder.ids()
        fs.chown(dir, uid, gid)
        for _, name in ipairs { "server", "expired" } do
            fs.chmod(("%s/%s.key"):format(dir, name), tonumber("600", 8))
            fs.chown(("%s/%s.key"):format(dir, name), uid, gid)
        end
    end
    local server <close> = servers.postgres { tcp = true, settings = { ssl = "on",
        ssl_cert_file = dir .. "/server.crt", ssl_key_file = dir .. "/server.key" } }
    finally(function() fs.rmtree(dir) end)
    local function url(mode, more)
        local params = more or {}
        params.sslmode = mode
        return { DATABASE_URL = server:address { tcp = true, params = params } }
    end
    for wanted, limit in pairs(LIMITS) do
        told("postgres.certificates", url "require", wanted, limit, "the server's certificate is valid for")
    end
    told("postgres.certificates", url("require", { sslcert = dir .. "/client.crt", sslkey = dir .. "/client.key" }),
        "WARN", LIMITS.WARN, "the client's is valid for")
    told("postgres.certificates", url "disable", "SKIP", "", "not encrypted")
    server:psql(("alter system set ssl_cert_file = '%s/expired.crt'"):format(dir))
    server:psql(("alter system set ssl_key_file = '%s/expired.key'"):format(dir))
    server:restart()
    told("postgres.certificates", url "require", "FAIL", "", "days ago: no client that verifies it connects")
end)

it("the certificates of Redis", function()
    local server = redis_server.start { tls = true }
    finally(function() server:stop() end)
    local env = { REDIS_URL = ("rediss://localhost:%s/0?ssl_ca_certs=%s/ca.crt"):format(server.tls.port, server.dir) }
    for wanted, limit in pairs(LIMITS) do
        told("redis.certificates", env, wanted, limit, "the server's certificate is valid for")
    end
    told("redis.certificates", { REDIS_URL = server.url }, "SKIP", "", "not encrypted")
end)
