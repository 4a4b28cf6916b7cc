--- Real Redis servers for specs.

local ask = require "spec.support.servers.ask"
local daemon = require "dbrun.stack.daemon"
local errors = require "dbrun.error"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

---@class spec.RedisOptions
---@field config? table<string, string|number|string[]> directives; a list repeats one
---@field tcp? boolean also listen on a port of 127.0.0.1
---@field tls? {cert: string, key: string, ca: string, auth_clients: string} absolute paths; implies a TLS port

---@class spec.Redis
---@field url string unix://...
---@field socket string
---@field tcp_port integer?
---@field tls_port integer?
---@field dir string
---@field pid integer?
local Redis = {}
local meta = { __index = Redis, __name = "spec.Redis" }

local function quote(text)
    return '"' .. tostring(text):gsub('[%c"\\]', function(c) return ("\\x%02x"):format(c:byte()) end) .. '"'
end

local function configuration(self, opts)
    local values = {
        port = self.tcp_port or 0, unixsocket = self.socket, unixsocketperm = 700, dir = self.data,
        databases = 1024, save = "", appendonly = "no", daemonize = "no", ["enable-debug-command"] = "yes",
    }
    if self.tcp_port or self.tls_port then values.bind = "127.0.0.1" end
    if opts.tls then
        values["tls-port"] = self.tls_port
        values["tls-cert-file"], values["tls-key-file"] = opts.tls.cert, opts.tls.key
        values["tls-ca-cert-file"] = opts.tls.ca
        values["tls-auth-clients"] = opts.tls.auth_clients or "no"
    end
    for name, value in pairs(opts.config or {}) do values[name] = value end
    local lines = {}
    for name, value in pairs(values) do
        for _, one in ipairs(type(value) == "table" and value or { value }) do
            -- Directives of several words (save, user, client-output-buffer-limit) are given as written.
            local plain = tostring(one):find("%s") and type(value) == "table"
            lines[#lines + 1] = name .. " " .. (plain and one or quote(one))
        end
    end
    table.sort(lines)
    return table.concat(lines, "\n") .. "\n"
end

--- What redis-cli prints for a command, without the code under test.
---@param ... string|number
---@return string output
function Redis:cli(...)
    local ok, text = ask.redis("unix:" .. self.socket, { ... }, 30)
    if not ok then errors.raise { kind = "io", message = "redis-cli: " .. text } end
    return (text:gsub("\n$", ""))
end

local function answers(self)
    if not fs.exists(self.socket) then return false end
    local _, text = ask.redis("unix:" .. self.socket, { "ping" })
    return text:find("PONG", 1, true) or text:find("NOAUTH", 1, true)
end

--- Starts it and waits until it answers.
function Redis:start()
    if self.child then return self end
    local uid, gid = folder.ids()
    local before = fs.stat(self.logfile)
    self.child = process.start {
        self.program, self.conf, cwd = self.data, uid = uid, gid = gid, env = programs.environment(),
        pdeathsig = "KILL", stdout = { append = self.logfile }, stderr = "stdout",
    }
    self.pid = self.child.pid
    local ready = daemon.poll(20, function()
        return not self.child:running() and "ended" or answers(self) and "ready"
    end)
    if ready == "ready" then return self end
    local log = daemon.log_since(self.logfile, before and before.size or 0, 10)
    self:forget()
    return errors.raise { kind = "io", message = "the Redis of a spec did not start", detail = log }
end

function Redis:forget()
    if self.child then self.child:close() end
    self.child, self.pid = nil, nil
end

--- Stops it and waits until it has ended.
function Redis:stop()
    if not self.child then return self end
    self.child:kill("CONT")
    self.child:kill("TERM")
    if not self.child:wait(10) then self.child:kill("KILL") end
    self:forget()
    return self
end

function Redis:restart()
    return self:stop():start()
end

--- Sends a signal; after KILL and TERM waits until the server has ended.
---@param signal string
function Redis:kill(signal)
    self.child:kill(signal)
    if signal:find("STOP$") or signal:find("CONT$") then return self end
    if not self.child:wait(10) then errors.raise { kind = "timeout", message = "Redis does not end" } end
    self:forget()
    return self
end

---@return string
function Redis:log()
    return fs.exists(self.logfile) and fs.read(self.logfile) or ""
end

--- The URL of a database number on it.
---@param opts? {db: integer, user: string, password: string, tcp: boolean, tls: boolean, host: string}
---@return string
function Redis:address(opts)
    opts = opts or {}
    local function encode(text)
        return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
    end
    local who = opts.password and (encode(opts.user or "") .. ":" .. encode(opts.password) .. "@") or ""
    if opts.tls or opts.tcp then
        local port = opts.tls and self.tls_port or self.tcp_port
        return ("%s://%s%s:%d/%d"):format(opts.tls and "rediss" or "redis", who, opts.host or "127.0.0.1", port,
            opts.db or 0)
    end
    return ("unix://%s%s%s"):format(who, self.socket, opts.db and ("?db=" .. opts.db) or "")
end

--- Stops it and removes its folder.
function Redis:close()
    if self.closed then return end
    self.closed = true
    if self.child then self:kill("KILL") end
    fs.rmtree(self.dir)
end

meta.__close = Redis.close

--- Starts a separate server. `local r <close> = servers.redis{}`.
---@param opts? spec.RedisOptions
---@return spec.Redis
function M.new(opts)
    opts = opts or {}
    local dir = folder.new("r")
    local self = setmetatable({
        program = programs.redis(), dir = dir, data = dir .. "/data", socket = dir .. "/redis.sock",
        conf = dir .. "/redis.conf", logfile = dir .. "/log",
        tcp_port = opts.tcp and folder.free_port() or nil, tls_port = opts.tls and folder.free_port() or nil,
    }, meta)
    folder.make(self.data)
    fs.write(self.conf, configuration(self, opts), tonumber("600", 8))
    if folder.user then fs.chown(self.conf, folder.ids()) end
    self.url = self:address()
    return self:start()
end

return M
