--- The topology of a Redis cluster: its nodes and their hash slots. It is read from any node at the first command,
--- after a redirection, and after a lost connection.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local failover <const> = require "dbrun.redis.failover"
local map <const> = require "dbrun.redis.map"
local task <const> = require "dbrun.task"

local SLOTS <const> = 16384
local SILENT <const> = 0.5 -- seconds that a command waits for a node before that node is no longer asked for the map
local MOVE_AFTER <const> = 1 -- seconds in which the old primary tells its clients by itself

---@class dbrun.redis.Node
---@field name string "host:port"
---@field host string
---@field port integer
---@field client dbrun.redis.Client
---@field pool dbrun.redis.Pool of the client
---@field reader? dbrun.redis.Client for reads while it is a replica
---@field reader_pool? dbrun.redis.Pool

---@class dbrun.redis.Shard
---@field primary dbrun.redis.Node
---@field replicas dbrun.redis.Node[]
---@field slot integer its first hash slot

---@class dbrun.redis.Topology
---@field slots table<integer, dbrun.redis.Shard>
---@field shards dbrun.redis.Shard[]
---@field nodes table<string, dbrun.redis.Node>
---@field stale boolean it must be read again
---@field refreshes integer
local Topology <const> = {}
Topology.__index = Topology

--- Least seconds between two reads of the topology because of lost or silent nodes: each read asks three nodes.
Topology.AFTER_TROUBLE = 0.35

---@param settings table settings of all nodes, for redis.client
---@param seeds dbrun.Server[]
---@param connect fun(settings: table): dbrun.redis.Client, dbrun.redis.Pool
---@return dbrun.redis.Topology
function Topology.new(settings, seeds, connect)
    return setmetatable({
        settings = settings, seeds = seeds, connect = connect, nodes = {}, slots = {}, shards = {}, stale = true,
        refreshed_at = -math.huge, read_at = -math.huge, refreshes = 0, closed = false,
    }, Topology)
end

local ask_about

--- The client for a node, and its pool.
local function client_of(self, node, read_replica)
    local settings = {}
    for name, value in pairs(self.settings) do
        settings[name] = value
    end
    settings.host, settings.port, settings.read_replica = node.host, node.port, read_replica
    -- The task that watches the node's pool does not keep the topology or the node alive.
    local weak <const> = setmetatable({ topology = self, node = node }, { __mode = "v" })
    settings.look = function(watcher)
        local topology <const>, of <const> = weak.topology, weak.node
        return topology and of and ask_about(topology, of, read_replica, watcher) or nil
    end
    return self.connect(settings)
end

---The node at this address, which is added when it is new.
---@return dbrun.redis.Node
function Topology:node(host, port)
    local name <const> = (host:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(host, port)
    local node = self.nodes[name]
    if not node then
        node = { name = name, host = host, port = port }
        node.client, node.pool = client_of(self, node, false)
        self.nodes[name] = node
    end
    return node
end

---The client for reads from a replica.
---@param node dbrun.redis.Node
---@return dbrun.redis.Client
function Topology:reader(node)
    if not node.reader then
        node.reader, node.reader_pool = client_of(self, node, true)
    end
    return node.reader
end

local function shuffled(list)
    for i = #list, 2, -1 do
        local j <const> = math.random(i)
        list[i], list[j] = list[j], list[i]
    end
    return list
end

local function is_silent(node)
    local silence <const> = core.redis.guard.silence
    return silence(node.pool) > SILENT or (node.reader_pool and silence(node.reader_pool) > SILENT)
end

--- The nodes to ask, without those that are silent: the known ones in random order, then those of the URL.
local function candidates(self)
    local known <const>, listed <const> = {}, {}
    for _, node in pairs(self.nodes) do
        known[#known + 1] = not is_silent(node) and node or nil
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

--- A former primary gets no more commands; blocking commands there are moved away too.
local function let_go(before, after)
    local still <const> = {}
    for _, shard in ipairs(after) do
        still[shard.primary] = true
    end
    for _, shard in ipairs(before) do
        local node <const> = shard.primary
        if not still[node] and node.pool then
            core.redis.guard.due(node.pool, MOVE_AFTER)
        end
    end
end

--- Applies the ranges; where two overlap, the later one wins.
local function take(self, ranges)
    local slots, shards, by_primary, used = {}, {}, {}, {}
    for _, range in ipairs(ranges) do
        for slot = range.first, range.last do
            slots[slot] = range
        end
    end
    for slot = 0, SLOTS - 1 do
        local range <const> = slots[slot]
        local shard = range and (range.shard or by_primary[range.primary])
        if range and not shard then
            local nodes <const> = {}
            for i, at in ipairs(range.nodes) do
                nodes[i] = self:node(at.host, at.port)
                used[nodes[i]] = true
            end
            shard = { primary = nodes[1], replicas = table.move(nodes, 2, #nodes, 1, {}), slot = slot }
            by_primary[range.primary], shards[#shards + 1] = shard, shard
        end
        if range then
            range.shard = shard
        end
        slots[slot] = shard
    end
    let_go(self.shards, shards)
    self.slots, self.shards = slots, shards
    for name, node in pairs(self.nodes) do
        if not used[node] then
            self.nodes[name] = nil -- commands in flight there keep its client
        end
    end
end

--- Asks up to three nodes at once, and the next three if these cannot answer.
local function look(self)
    local failure
    local list <const> = candidates(self)
    for from = 1, #list, failover.MOST_ASKED do
        local some <const> = table.move(list, from, math.min(#list, from + failover.MOST_ASKED - 1), 1, {})
        local ranges <const>, e <const> = map.ask(some)
        if ranges then
            if not self.closed then
                take(self, ranges)
            end
            self.stale, self.refreshes = false, self.refreshes + 1
            return
        end
        failure = failure or e
    end
    failure = failure or errors.new {
        kind = "connect", retryable = true, message = "redis cluster: no node answers",
    }
    failure.outcome = "not_sent"
    error(failure, 0)
end

---A read of the map in progress. It runs to its end, even if the calls that wait for it end earlier.
---@class dbrun.redis.Reading
---@field begun number
---@field done boolean
---@field failure any why nobody could tell
---@field ended table a condition

local function read(self, reading)
    local ok <const>, e <const> = pcall(look, self)
    self.reading = nil
    self.failure = not ok and failover.is_answer(e) and e or nil
    self.read_at = ok and reading.begun or self.read_at
    reading.done, reading.failure = true, not ok and e or nil
    reading.ended:notify(math.maxinteger)
end

---@return dbrun.redis.Reading
local function begin(self)
    local reading <const> = { begun = task.now(), done = false, ended = core.task.condition() }
    self.reading, self.refreshed_at = reading, reading.begun
    core.task.daemon(read, self, reading)
    return reading
end

--- False: it has not ended in time.
local function await(reading, stop)
    while not reading.done do
        local left <const> = stop - task.now()
        if left <= 0 then
            return false
        end
        reading.ended:wait(left < math.huge and left or nil)
    end
    return true
end

local function late_error(self)
    return errors.new {
        kind = "timeout", outcome = "not_sent", retryable = true,
        message = ("redis cluster: no node (%s:%d and others) gave the map before the deadline, so nothing was sent")
            :format(self.seeds[1].host, self.seeds[1].port),
        hint = "check that the nodes are reachable and answer (redis-cli -h HOST -p PORT cluster slots)",
    }
end

---Reads the topology, unless that was done less than `age` seconds ago. One task reads, others wait for it, each until
---`stop`. Raises the reason when no node could answer, and when no map is known at `stop`.
---@param age number
---@param stop? number task.now() at the end of the call
---@param since? number one that was begun after this will do
function Topology:refresh(age, stop, since)
    local reading = self.reading
    local known <const> = #self.shards > 0
    if task.now() - self.refreshed_at < age and (known or not reading) then
        if not known and self.failure then
            error(self.failure, 0)
        end
        return
    end
    stop = stop or math.huge
    if reading and since and reading.begun < since then
        await(reading, stop)
        reading = self.reading
    end
    if not reading and since and self.refreshed_at >= since then
        return -- another task has asked meanwhile
    end
    reading = reading or begin(self)
    if not await(reading, stop) then
        if #self.shards == 0 then
            error(late_error(self), 0)
        end
    elseif reading.failure then
        error(reading.failure, 0)
    end
end

--- Whether the node still fits this client: it is a primary, or, for reads, any node of the cluster.
local function serves(self, node, read_replica)
    for _, shard in ipairs(self.shards) do
        if shard.primary == node then
            return true
        end
        for _, replica in ipairs(read_replica and shard.replicas or {}) do
            if replica == node then
                return true
            end
        end
    end
    return false
end

--- Asks other nodes about a silent node, with a map that is read from now on. Concurrent questions about other nodes
--- share that map. Nil: no node could answer.
function ask_about(self, node, read_replica, watcher)
    local since <const> = task.now()
    repeat
        local pause <const> = self.refreshed_at + Topology.AFTER_TROUBLE - task.now()
        local wait <const> = pause > 0 and self.refreshed_at < since
        if wait then
            task.sleep(pause * (1 + math.random() / 2))
        end
    until not wait
    self:refresh(0, nil, since)
    if self.read_at < since then
        return nil
    elseif self.nodes[node.name] == node and serves(self, node, read_replica) then
        return "same"
    end
    core.redis.guard.condemn(watcher, {
        leaving = true, reason = "another node of the cluster has its hash slots now",
        hint = "what was in flight to the old one may have run there, and may be lost",
    })
    return "moved"
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
    self.closed = true
    for _, node in pairs(self.nodes) do
        node.client:close()
        if node.reader then
            node.reader:close()
        end
    end
    self.nodes, self.slots, self.shards = {}, {}, {}
end

return Topology
