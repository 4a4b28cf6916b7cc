--- Three private sentinels for a spec, with a master and its replica, on TCP ports.
---
---     local set = redis_sentinels.start { password = "secret", sentinel_password = "other" }
---     set.url, set.servers[1]:kill(), set:failover(), set:stop()
local ask = require "spec.support.servers.ask"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redis_server = require "spec.support.redis_server"

local M = {}

---@class spec.RedisSentinels
---@field servers spec.RedisServer[] 1 is the master at first, 2 its replica
---@field ports integer[] of the sentinels
---@field url string
local Set = {}
Set.__index = Set

local function redis_cli(port, password, words)
    if password then words = table.move(words, 1, #words, 3, { "-a", password }) end
    local ok, text = ask.redis("tcp:" .. port, words)
    return ok and text or ""
end

function Set:cli(i, ...)
    return redis_cli(self.servers[i].port, self.opts.password, { ... })
end

function Set:sentinel_cli(i, ...)
    return redis_cli(self.ports[i], self.opts.sentinel_password, { ... })
end

--- The master's address according to the sentinels.
function Set:master_port()
    return tonumber(self:sentinel_cli(1, "sentinel", "get-master-addr-by-name", "main"):match "\n(%d+)")
end

function Set:failover()
    return self:sentinel_cli(1, "sentinel", "failover", "main")
end

function Set:stop()
    for _, child in ipairs(self.children) do
        child:kill "KILL"
        child:wait(5)
        child:close()
    end
    for _, server in ipairs(self.servers) do server:stop() end
    fs.rmtree(self.dir)
end

local function config(self, port, master)
    local lines = {
        "port " .. port, "bind 127.0.0.1", "dir " .. self.dir, "sentinel resolve-hostnames no",
        ("sentinel monitor main 127.0.0.1 %d 2"):format(master),
        "sentinel down-after-milliseconds main 400", "sentinel failover-timeout main 2000",
        "sentinel parallel-syncs main 1",
    }
    if self.opts.password then lines[#lines + 1] = "sentinel auth-pass main " .. self.opts.password end
    if self.opts.sentinel_password then
        lines[#lines + 1] = "requirepass " .. self.opts.sentinel_password
        lines[#lines + 1] = "sentinel sentinel-pass " .. self.opts.sentinel_password
    end
    return table.concat(lines, "\n") .. "\n"
end

local function start_sentinel(self, i, master)
    for _ = 1, 10 do
        local port = math.random(28501, 32000) -- redis_server.lua has those below
        local path = ("%s/sentinel%d.conf"):format(self.dir, i)
        fs.write(path, config(self, port, master))
        local child = process.start {
            "redis-server", path, "--sentinel", stdout = { append = path .. ".log" }, stderr = "stdout",
            pdeathsig = "KILL",
        }
        self.ports[i] = port
        local up = redis_server.wait_until(5, function()
            return not child:running() or self:sentinel_cli(i, "ping"):find "PONG"
        end)
        if up and child:running() then
            self.children[i] = child
            return
        end
        child:close()
    end
    error "a sentinel does not start"
end

--- Starts a sentinel that does not know the others, and knows another master by the same name. Returns its address.
---@param port integer of that master
---@return string
function Set:start_liar(port)
    local i <const> = #self.ports + 1
    start_sentinel(self, i, port)
    return "127.0.0.1:" .. self.ports[i]
end

---@param opts? {password: string?, sentinel_password: string?}
---@return spec.RedisSentinels
function M.start(opts)
    local self = setmetatable({ opts = opts or {}, servers = {}, ports = {}, children = {} }, Set)
    self.dir = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-sentinel-"))
    local args = { "--repl-diskless-sync-delay", "0" }
    if self.opts.password then
        args = { args[1], args[2], "--requirepass", self.opts.password, "--masterauth", self.opts.password }
    end
    for i = 1, 2 do self.servers[i] = redis_server.start { tcp = true, args = args } end
    self:cli(2, "replicaof", "127.0.0.1", tostring(self.servers[1].port))
    assert(redis_server.wait_until(10, function()
        return self:cli(2, "info", "replication"):find "master_link_status:up"
    end), "the replica does not come up")
    for i = 1, 3 do start_sentinel(self, i, self.servers[1].port) end
    assert(redis_server.wait_until(15, function()
        for i = 1, 3 do
            local told = self:sentinel_cli(i, "sentinel", "master", "main")
            if told:match "num%-other%-sentinels\n(%d)" ~= "2" or told:match "num%-slaves\n(%d)" ~= "1" then
                return false
            end
        end
        return true
    end), "the sentinels do not find each other")
    local hosts = {}
    for i = 1, 3 do hosts[i] = "127.0.0.1:" .. self.ports[i] end
    self.hosts = table.concat(hosts, ",")
    local user = self.opts.password and (":%s@"):format(self.opts.password) or ""
    local query = self.opts.sentinel_password and "?sentinel_password=" .. self.opts.sentinel_password or ""
    self.url = ("redis+sentinel://%s%s/main/0%s"):format(user, self.hosts, query)
    return self
end

return M
