--- The topology of a Redis cluster: its nodes and their hash slots. It is read from any node, at the first command,
--- after a redirection, and after a lost connection.
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local LOOK_TIMEOUT <const> = 1 -- seconds to wait for a node's answer
local SLOTS <const> = 16384

---@class dbrun.redis.Node
---@field name string "host:port"
---@field host string
---@field port integer
---@field client dbrun.redis.Client
---@field reader? dbrun.redis.Client for reads while it is a replica

---@class dbrun.redis.Shard
---@field primary dbrun.redis.Node
---@field replicas dbrun.redis.Node[]

---@class dbrun.redis.Topology
---@field slots table<integer, dbrun.redis.Shard>
---@field shards dbrun.redis.Shard[]
---@field nodes table<string, dbrun.redis.Node>
---@field stale boolean it must be read again
---@field refreshes integer
local Topology <const> = {}
Topology.__index = Topology

---@param settings table settings of all nodes, for redis.client
---@param seeds dbrun.Server[]
---@param connect fun(settings: table): dbrun.redis.Client
---@return dbrun.redis.Topology
function Topology.new(settings, seeds, connect)
    return setmetatable({
        settings = settings, seeds = seeds, connect = connect, nodes = {}, slots = {}, shards = {}, stale = true,
        refreshed_at = -math.huge, refreshes = 0, gate = task.semaphore(1),
    }, Topology)
end

local function client_of(self, host, port, read_replica)
    local settings = {}
    for name, value in pairs(self.settings) do
        settings[name] = value
    end
    settings.host, settings.port, settings.read_replica = host, port, read_replica
    return self.connect(settings)
end

---The node at this address, which is added when it is new.
---@return dbrun.redis.Node
function Topology:node(host, port)
    local name <const> = (host:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(host, port)
    local node = self.nodes[name]
    if not node then
        node = { name = name, host = host, port = port, client = client_of(self, host, port, false) }
        self.nodes[name] = node
    end
    return node
end

---The client for reads from a replica.
---@param node dbrun.redis.Node
---@return dbrun.redis.Client
function Topology:reader(node)
    node.reader = node.reader or client_of(self, node.host, node.port, true)
    return node.reader
end

local function shuffled(list)
    for i = #list, 2, -1 do
        local j <const> = math.random(i)
        list[i], list[j] = list[j], list[i]
    end
    return list
end

--- The nodes to ask: the known ones in random order, then those of the URL.
local function candidates(self)
    local known, listed = {}, {}
    for _, node in pairs(self.nodes) do
        known[#known + 1] = node
        listed[node.name] = true
    end
    table.sort(known, function(a, b) return a.name < b.name end)
    shuffled(known)
    for _, seed in ipairs(self.seeds) do
        local node <const> = self:node(seed.host, seed.port)
        if not listed[node.name] then
            known[#known + 1] = node
        end
    end
    return known
end

--- {host, port, ...} of a node in a reply of `from`, which may send no name for itself.
local function node_of(self, entry, from)
    local host = entry[1]
    if type(host) ~= "string" or host == "" or host == "?" then
        host = from.host
    end
    return self:node(host, entry[2])
end

--- Applies a reply of CLUSTER SLOTS.
local function take(self, ranges, from)
    local slots, shards, by_primary, used = {}, {}, {}, {}
    for _, range in ipairs(ranges) do
        local primary <const> = node_of(self, range[3], from)
        local shard = by_primary[primary]
        if not shard then
            shard = { primary = primary, replicas = {} }
            by_primary[primary], shards[#shards + 1] = shard, shard
            for i = 4, #range do
                shard.replicas[#shard.replicas + 1] = node_of(self, range[i], from)
            end
        end
        used[primary] = true
        for _, replica in ipairs(shard.replicas) do
            used[replica] = true
        end
        for slot = range[1], range[2] do
            slots[slot] = shard
        end
    end
    self.slots, self.shards = slots, shards
    for name, node in pairs(self.nodes) do
        if not used[node] then
            self.nodes[name] = nil -- commands in flight there keep its client
        end
    end
end

--- Asks one node. Returns its reply, or its error.
local function ask(node)
    local ok, reply = pcall(function()
        return node.client:with { timeout = LOOK_TIMEOUT }:call("CLUSTER", "SLOTS")
    end)
    if not ok then
        return nil, reply
    elseif type(reply) ~= "table" or #reply == 0 then
        return nil, errors.new {
            kind = "redis", code = "CLUSTERDOWN", outcome = "not_sent", retryable = true,
            message = ("redis cluster: %s knows no hash slots"):format(node.name),
        }
    end
    return reply
end

--- Is the error about this node, so that another one can be asked? A timeout of the task is not.
local function says_something(e)
    local kind <const> = errors.is(e) and e.kind
    return kind == "connect" or kind == "redis" or kind == "protocol" or kind == "pool"
        or (kind == "timeout" and e.outcome ~= nil)
end

local function look(self)
    local failure
    for _, node in ipairs(candidates(self)) do
        local ranges, e = ask(node)
        if ranges then
            take(self, ranges, node)
            self.stale, self.refreshes = false, self.refreshes + 1
            return
        elseif not says_something(e) then
            error(e, 0)
        elseif e.code == "ERR" and tostring(e.message):find "cluster support disabled" then
            errors.fail("config", ("redis: %s is not part of a cluster"):format(node.name),
                "use redis:// instead of redis+cluster://")
        end
        failure = failure or e
    end
    failure.outcome = "not_sent"
    error(failure, 0)
end

---Reads the topology, unless that was done less than `age` seconds ago. One task reads, others wait for it.
---@param age number
---Raises the reason when no node could answer.
function Topology:refresh(age)
    if task.now() - self.refreshed_at < age then
        return
    end
    local asked <const> = task.now()
    local permit <close> = self.gate:acquire()
    if self.refreshed_at >= asked or not permit then
        return
    end
    self.refreshed_at = task.now()
    look(self)
end

---The shard of this hash slot; nil when there is none.
---@param slot integer
---@return dbrun.redis.Shard?
function Topology:shard(slot)
    return self.slots[slot]
end

---Records a redirection: this hash slot is at another node.
---@param slot integer
---@param node dbrun.redis.Node
function Topology:moved(slot, node)
    local shard
    for _, known in ipairs(self.shards) do
        if known.primary == node then
            shard = known
        end
    end
    self.slots[slot] = shard or { primary = node, replicas = {} }
    self.stale = true
end

---Any primary.
---@return dbrun.redis.Shard?
function Topology:any()
    return #self.shards > 0 and self.shards[math.random(#self.shards)] or nil
end

---The number of hash slots with a node.
---@return integer
function Topology:covered()
    local n = 0
    for slot = 0, SLOTS - 1 do
        n = n + (self.slots[slot] and 1 or 0)
    end
    return n
end

---Closes the clients of all nodes.
function Topology:close()
    for _, node in pairs(self.nodes) do
        node.client:close()
        if node.reader then
            node.reader:close()
        end
    end
    self.nodes, self.slots, self.shards = {}, {}, {}
end

return Topology
