--- A private Redis server for a spec, in its own folder; both are removed at the end.
---
---     local server = redis_server.start { args = { "--maxmemory", "10mb" } }
---     server.url, server:cli(...), server:stop(), server:restart()
local ask = require "spec.support.servers.ask"
local certificates = require "spec.support.certificates"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local task = require "dbrun.task"

local M = {}

---@class spec.RedisServer
---@field dir string
---@field socket string
---@field url string over the unix socket
---@field port? integer with `tcp`
---@field tls? dbrun.redis.ClientOptions with `tls`: what a client of that port is given
---@field child dbrun.process.Child
local Server = {}
Server.__index = Server

--- Polls every 10 ms at first; later, because a poll can start programs, after a tenth of the time that it has waited,
--- or every `every` seconds.
local function wait_until(seconds, fn, every)
    local began <const> = task.now()
    repeat
        if fn() then
            return true
        end
        task.sleep(every or math.max(0.01, math.min(0.1, (task.now() - began) / 10)))
    until task.now() > began + seconds
    return false
end
M.wait_until = wait_until

function Server:log()
    return fs.exists(self.dir .. "/log") and fs.read(self.dir .. "/log") or ""
end

---What redis-cli prints for a command, without the code under test; "" when the server does not answer.
function Server:cli(...)
    local ok, text = ask.redis("unix:" .. self.socket, { ... })
    return ok and text or ""
end

function Server:launch()
    local argv = {
        "redis-server", "--port", self.port and tostring(self.port) or "0", "--unixsocket", self.socket, "--dir",
        self.dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--bind", "127.0.0.1",
        "--enable-debug-command", "yes", "--maxclients", "500",
    }
    table.move(self.args, 1, #self.args, #argv + 1, argv)
    argv.stdout, argv.stderr, argv.pdeathsig = self.dir .. "/log", "stdout", "KILL"
    self.child = process.start(argv)
    return wait_until(5, function()
        return not self.child:running() or self:log():find "Ready to accept connections"
            or self:cli("ping"):find "%u"
    end) and self.child:running()
end

---Kills the server, as a crash would.
function Server:kill()
    self.child:kill "KILL"
    self.child:wait(5)
end

---Starts it again, on the same socket and port.
function Server:restart()
    if self.child:running() then
        self:kill()
    end
    assert(self:launch(), "redis-server did not start again: " .. self:log())
end

function Server:freeze()
    self.child:kill "STOP"
end

function Server:thaw()
    self.child:kill "CONT"
end

function Server:stop()
    self.child:kill "CONT"
    self:kill()
    self.child:close()
    fs.rmtree(self.dir)
end

local TLS <const> = {
    "--tls-port", "PORT", "--tls-cert-file", "DIR/server.crt", "--tls-key-file", "DIR/server.key",
    "--tls-ca-cert-file", "DIR/ca.crt", "--tls-auth-clients", "optional",
}

---`tls`: it also listens for TLS, with a certificate for localhost and 127.0.0.1 that its folder's ca.crt has signed.
---@param opts? {args: string[]?, tcp: boolean?, tls: boolean?}
---@return spec.RedisServer
function M.start(opts)
    opts = opts or {}
    local dir <const> = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-redis-"))
    local words <const> = table.move(opts.args or {}, 1, #(opts.args or {}), 1, {})
    if opts.tls then
        certificates.authority(dir, "ca")
        certificates.sign(dir, "ca", "server", "DNS:localhost,IP:127.0.0.1")
        table.move(TLS, 1, #TLS, #words + 1, words)
    end
    -- A server comes back at its port: no connection of another program may have it meanwhile. Those begin at 32768
    -- (ip_local_port_range); a node of a cluster takes a second port, 10000 above the first.
    for _ = 1, 10 do
        local port <const> = opts.tcp and math.random(10001, 15000) or nil
        local args = {}
        for i, text in ipairs(words) do
            args[i] = text:gsub("DIR", dir):gsub("PORT", tostring(math.random(25001, 28500)))
        end
        local self = setmetatable({
            dir = dir, socket = dir .. "/redis.sock", port = port, args = args,
            url = "unix://" .. dir .. "/redis.sock",
        }, Server)
        if self:launch() then
            if opts.tls then
                local tls_port <const> = tonumber(self:cli("config", "get", "tls-port"):match "(%d+)%s*$")
                self.tls = { host = "127.0.0.1", port = tls_port, tls = true, ca_file = dir .. "/ca.crt" }
            end
            return self
        end
        self.child:close()
    end
    error("redis-server does not start: " .. fs.read(dir .. "/log"))
end

---For a block of specs: a server, and for each test a client on an empty database.
---
---    local server, r
---    redis_server.around(_ENV, function(...) server, r = ... end)
---
---@param env table the spec file's, which has busted's setup, teardown, before_each and after_each
---@param set fun(server: spec.RedisServer, client: dbrun.redis.Client?) called before the block and before each test
---@param opts? table as M.start takes them
function M.around(env, set, opts)
    local server, client
    env.setup(function()
        server = M.start(opts)
        set(server)
    end)
    env.teardown(function()
        server:stop()
    end)
    env.before_each(function()
        client = redis.client { url = server.url }
        client:flushall()
        set(server, client)
    end)
    env.after_each(function()
        client:close()
    end)
end

return M
