--- A client of a Redis cluster: each command goes to the node that has its key, over the shared connection of that
--- node's client. It follows redirections (MOVED, ASK). When a node is lost, commands that were not sent are sent
--- again; those that may have run are not.
---
---     local r = redis.client { url = "redis+cluster://host1:7000,host2:7000" }
---     r:set("user:{7}:name", "Ada")      -- keys with the same {tag} are on the same node
---     r:mget("a", "b", "c")              -- split by hash slot; so are mset, del, unlink, exists and touch
local batches <const> = require "dbrun.redis.cluster_batch"
local check <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local everywhere <const> = require "dbrun.redis.everywhere"
local keys <const> = require "dbrun.redis.keys"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local redirect <const> = require "dbrun.redis.redirect"
local task <const> = require "dbrun.task"
local Topology <const> = require "dbrun.redis.topology"

local M = {}

local POOL_TIMEOUT <const> = 20 -- seconds to wait for a dedicated connection, as in core.redis
local REPLICAS_EVERY <const> = 10 -- seconds after which the replicas are read again

---A client of a cluster has the methods of a client of one server, and these.
---@class dbrun.redis.Cluster: dbrun.redis.Client
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field package state table shared by all handles of a client
---@field package timeout number
---@field package stop number|false the common deadline (task.now()) of calls that are steps of one call
---@field package idempotent boolean
---@field package want dbrun.redis.Wait|false the replicas that writes wait for
---@field package read_from "primary"|"replica"
---@field package typed boolean
local Cluster <const> = {}
local Metatable <const> = {}

-- ---- one command ----

--- The arguments as one flat list: tables are flattened as by a client of one server.
local function flatten(...)
    local args <const>, n = { ... }, select("#", ...)
    for i = 1, n do
        if type(args[i]) == "table" then
            local flat, m = table.move(args, 1, i - 1, 1, {}), i - 1
            for j = i, n do
                local v <const> = args[j]
                if type(v) ~= "table" then
                    m = m + 1
                    flat[m] = v
                elseif #v > 0 then
                    table.move(v, 1, #v, m + 1, flat)
                    m = m + #v
                else
                    for name, value in pairs(v) do
                        flat[m + 1], flat[m + 2] = name, value
                        m = m + 2
                    end
                end
            end
            return flat, m
        end
    end
    return args, n
end

--- The node for a hash slot (nil: any) and the client to use there.
local function pick(self, spec, slot)
    local topology <const> = self.state.topology
    local shard
    if slot then
        shard = topology:shard(slot)
    else
        shard = topology:any()
    end
    if not shard then
        return nil
    end
    if spec.reads and self.read_from == "replica" and #shard.replicas > 0 then
        local node <const> = shard.replicas[math.random(#shard.replicas)]
        return topology:reader(node), node
    end
    return shard.primary.client, shard.primary
end

local function check_open(self)
    if self.state.closed then
        errors.raise { kind = "usage", message = "redis: this client is closed", outcome = "not_sent" }
    end
end

--- Each call takes one deadline when it begins: reading the map, redirections and retries are part of it.
local function deadline(self)
    local stop <const> = task.now() + self.timeout
    return self.stop and math.min(self.stop, stop) or stop
end

--- Reads the topology when it is due. Raises only when no topology is known. Returns whether it was read.
local function look(self, stop)
    local topology <const> = self.state.topology
    if #topology.shards == 0 then
        topology:refresh(Topology.AFTER_TROUBLE, stop)
        return true
    elseif topology.stale then
        redirect.refresh(topology, redirect.REFRESH_EVERY, stop)
        return true
    elseif self.read_from == "replica" and task.now() - topology.refreshed_at > REPLICAS_EVERY then
        topology.stale = true -- no error reports new or removed replicas
    end
    return false
end

---Makes sure that a topology is known, and takes the deadline of a call that begins now.
---@return number stop
---@package
function Cluster:ready()
    check_open(self)
    local stop <const> = deadline(self)
    look(self, stop)
    return stop
end

--- A blocking command can learn after a long wait that its slot has moved: it begins again.
local function retry_until(self, name, stop)
    local now <const> = task.now()
    return now > stop and redirect.may_block(name) and now + self.timeout or stop
end

--- Sends one command to the node that has its hash slot, until it is answered or a retry cannot help.
local function send(self, stop, spec, slot, name, ...)
    check_open(self)
    local looked <const> = look(self, stop)
    local client <const>, node <const> = pick(self, spec, slot)
    local failure
    if client then
        local usual <const> = self.usual and not looked and client or redirect.bounded(self, client, stop, self.want)
        local ok, reply = pcall(usual.call, usual, name, ...)
        if ok then
            return reply
        end
        failure = reply
    else
        failure = redirect.unassigned(slot)
    end
    local trip <const> = redirect.trip(self, slot, node, failure, retry_until(self, name, stop))
    while trip:again() do
        local target, asking = trip.node, trip.asking
        local to, replica = target and target.client, false
        if not to then
            to, target = pick(self, trip.primary_only and {} or spec, slot)
            replica = target and to ~= target.client
        end
        if to then
            local ok, reply = pcall(trip.run, trip, to, asking, name, ...)
            if ok then
                return reply
            end
            trip:failed(target, reply, replica)
        else
            trip:failed(nil, redirect.unassigned(slot))
        end
    end
    error(trip.failure, 0)
end

-- ---- which node ----

--- The client for dbrun's own queries, whose replies have the usual shapes.
local function untyped(self)
    return self.typed and self:with { typed = false } or self
end

local known_by_server <const> = {}

--- The reply of COMMAND INFO for a command; nil when the server does not know the command, or refuses to tell (a user
--- without the right, a proxy without COMMAND). Then any node is tried, and its MOVED is followed.
local function told_by_server(self, stop, asked)
    local ok <const>, replies <const> = pcall(send, untyped(self), stop, {}, nil, "COMMAND", "INFO", asked)
    if ok then
        return type(replies) == "table" and replies[1] or nil
    elseif errors.is(replies, "redis") and (replies.code == "NOPERM" or replies.code == "ERR") then
        return nil
    end
    error(replies, 0)
end

--- The facts about a command. Asks the server once about a command that is not in the table.
local function spec_of(self, stop, name, argument)
    local spec, asked <const> = keys.known(name, argument)
    if not spec then
        spec = known_by_server[asked]
    end
    if not spec then
        local info <const> = told_by_server(self, stop, asked)
        spec = keys.of_info(info)
        known_by_server[asked] = info and spec -- another cluster, or this one with a module, may know it
    end
    local sub <const> = spec.of_server and type(argument) == "string" and spec.of_server[argument:upper()]
    return sub or spec
end

local function crossslot(name, key, other)
    return errors.new {
        kind = "redis", code = "CROSSSLOT", outcome = "not_sent",
        message = ("CROSSSLOT the keys of %s are not in one slot of the cluster: '%s' and '%s' are not"):format(
            name, tostring(key):sub(1, 60), tostring(other):sub(1, 60)),
        hint = "only the part in braces counts: {order:7}:items and {order:7}:total are in one slot",
    }
end

--- The keys of a command; nil when it has none.
local function keys_of(self, stop, spec, name, args, n)
    if spec.movable then
        return send(untyped(self), stop, {}, nil, "COMMAND", "GETKEYS", name, table.unpack(args, 1, n))
    end
    return spec.keys and keys.of(spec, args, n) or nil
end

--- The hash slot that an argument names; nil when it is not a slot, which any node refuses.
local function named_slot(argument)
    local slot <const> = math.tointeger(tonumber(argument))
    return slot and slot >= 0 and slot < 16384 and slot or nil
end

--- The hash slot of all keys; nil without keys; nil and an error when they are in several.
local function slot_of(name, list)
    local slot
    for i = 1, list and #list or 0 do
        local key <const> = list[i]
        if type(key) ~= "string" and type(key) ~= "number" then
            return nil -- the node's client raises the error
        end
        local this <const> = core.redis.slot(key)
        if slot and slot ~= this then
            return nil, crossslot(name, list[1], key)
        end
        slot = this
    end
    return slot
end

--- The cursor of SCAN is one node's: the next page would come from another one.
local function refuse_scan()
    errors.raise {
        kind = "usage", outcome = "not_sent", message = "redis: SCAN looks through one node of a cluster",
        hint = "r:scan{match = ...} goes through all primaries; r:nodes() has a client for each node",
    }
end

--- The facts about a command, and where it goes.
local function plan(self, stop, name, ...)
    local args, n = flatten(...)
    local spec <const> = spec_of(self, stop, name, args[1])
    if spec.name == "SCAN" then
        refuse_scan()
    end
    if spec.single and type((...)) ~= "table" then
        args, n = { ... }, select("#", ...) -- the node's client checks tables with what it knows of the command
    end
    local list <const> = keys_of(self, stop, spec, name, args, n)
    local slot, e = slot_of(name, list)
    if spec.by_slot then
        slot = named_slot(args[2])
    end
    local odd <const> = e and spec.split == "pairs" and n % 2 == 1
    if odd then -- it must not be done in parts; a server would answer CROSSSLOT
        e = errors.new {
            kind = "redis", code = "ERR", outcome = "not_sent",
            message = ("ERR wrong number of arguments for '%s': a key without its value"):format(name:lower()),
        }
    end
    return { whole = odd, name = name, args = args, n = n, spec = spec, keys = list, slot = slot, error = e }
end

---Prepares a command for a pipeline.
---@return table entry name, args, n, spec, keys, slot, error; whole: the command must not be split
---@package
function Cluster:plan(name, ...)
    return plan(self, deadline(self), name, ...)
end

-- ---- commands ----

local function run(self, name, ...)
    local stop <const> = deadline(self)
    local spec <const> = spec_of(self, stop, name, (...))
    if spec.single then
        local key <const> = ...
        local kind <const> = type(key)
        if kind == "string" or kind == "number" then
            return send(self, stop, spec, core.redis.slot(key), name, ...)
        end
    elseif spec.everywhere then
        check_open(self)
        look(self, stop)
        return everywhere.run(self, stop, spec, name, ...)
    end
    local entry <const> = plan(self, stop, name, ...)
    if entry.error and spec.split and not entry.whole then
        check_open(self)
        look(self, stop)
        return batches.split(self, stop, entry)
    elseif entry.error then
        error(entry.error, 0)
    end
    return send(self, stop, spec, entry.slot, name, table.unpack(entry.args, 1, entry.n))
end

local function on_cluster(method, self)
    check.self(method, self, Metatable, "a client", "r")
end

---A command by its name.
---@param name string
---@return any
function Cluster:call(name, ...)
    on_cluster("call", self)
    check.check("call", "the name of the command", name, "string")
    return run(self, name:upper(), ...)
end

---The same client with other settings.
---@param opts {timeout: number?, idempotent: boolean?, read_from: "primary"|"replica"|nil, typed: boolean?}
---@return dbrun.redis.Cluster
function Cluster:with(opts)
    on_cluster("with", self)
    local want
    opts, want = options.with(opts, true)
    local other = { state = self.state, usual = false, stop = self.stop }
    for _, name in ipairs { "timeout", "idempotent", "read_from", "typed" } do
        other[name] = opts[name]
        if other[name] == nil then
            other[name] = self[name]
        end
    end
    if want == nil then
        want = self.want
    end
    other.want = want
    return setmetatable(other, Metatable)
end

---The same client with the deadline `stop` for all its calls; default: the deadline of a call that begins now.
---@param stop? number on the clock of task.now()
---@return dbrun.redis.Cluster
---@return number stop
---@package
function Cluster:__until(stop)
    local other <const> = self:with {}
    other.stop = stop or deadline(self)
    return other, other.stop
end

---A dedicated connection to the node that has `key` (without a key: to any primary).
---@param key? string
---@return dbrun.redis.Connection
function Cluster:acquire(key, ...)
    on_cluster("acquire", self)
    check.optional("acquire", "the key", key, options.KEY)
    check.no_more("acquire", "takes a key", nil, ...)
    check_open(self)
    local began <const> = task.now()
    local stop <const> = deadline(self)
    look(self, stop)
    return redirect.attempt(self, key and core.redis.slot(key), stop, function(client)
        return client:with({ timeout = self.timeout }):__until(began + self.state.pool_timeout):acquire()
    end)
end

---The known nodes, each with its client: `r:nodes()[1].client:info()`.
---@return {name: string, host: string, port: integer, role: "primary"|"replica", client: dbrun.redis.Client}[]
---```lua
---local function show(r) -- a client of a cluster
---    for _, node in ipairs(r:nodes()) do print(node.name, node.role, node.client:ping()) end
---end
---```
function Cluster:nodes()
    on_cluster("nodes", self)
    redirect.look_around(self.state.topology, self:ready())
    local list = {}
    local function add(node, role, client)
        list[#list + 1] = { name = node.name, host = node.host, port = node.port, role = role, client = client }
    end
    for _, shard in ipairs(self.state.topology.shards) do
        add(shard.primary, "primary", shard.primary.client)
        for _, replica in ipairs(shard.replicas) do
            add(replica, "replica", self.state.topology:reader(replica))
        end
    end
    return list
end

---The sums over all nodes, and the statistics of each node in `nodes`.
---@return table
function Cluster:stats()
    on_cluster("stats", self)
    local topology <const> = self.state.topology
    local sum = {
        nodes = {}, refreshes = topology.refreshes, redirects = self.state.redirects,
        slots_covered = topology:covered(),
    }
    for name, node in pairs(topology.nodes) do
        for _, client in pairs { node.client, node.reader } do
            if not client:closed() then
                local own <const> = client:stats()
                sum.nodes[name] = sum.nodes[name] or own
                for figure, value in pairs(own) do
                    if type(value) == "number" then
                        sum[figure] = (sum[figure] or 0) + value
                    end
                end
            end
        end
    end
    return sum
end

---@return boolean
function Cluster:closed()
    on_cluster("closed", self)
    return self.state.closed
end

---Closes the client and its connections to all nodes. Idempotent.
function Cluster:close()
    on_cluster("close", self)
    self.state.closed = true
    self.state.topology:close()
end

-- ---- making one ----

require "dbrun.redis.consumer" (Cluster, true)
require "dbrun.redis.extras" (Cluster)
require "dbrun.redis.library" (Cluster, true)
require "dbrun.redis.subscription" (Cluster)
require "dbrun.redis.cluster_scan_subscribe" (Cluster)
batches.install(Cluster)

setmetatable(Cluster, {
    __index = function(t, name)
        if type(name) ~= "string" or not name:find "^%a[%w_.:-]*$" then
            return nil
        end
        names.check_command("client", name)
        local upper <const> = name:upper()
        local function command(self, ...)
            if getmetatable(self) ~= Metatable then
                on_cluster(name, self)
            end
            return run(self, upper, ...)
        end
        rawset(t, name, command)
        return command
    end,
})

Metatable.__index = Cluster
Metatable.__close = Cluster.close
Metatable.__name = "dbrun.redis.cluster"
names.add_client(Metatable)
Metatable.__tostring = function(self)
    return ("redis cluster (%s)"):format(self.state.closed and "closed" or self.state.label)
end

---@param settings table for the client of each node
---@param seeds dbrun.Server[] nodes to ask first
---@param connect fun(settings: table): dbrun.redis.Client
---@return dbrun.redis.Cluster
function M.new(settings, seeds, connect)
    local label = {}
    for i, seed in ipairs(seeds) do
        label[i] = ("%s:%d"):format(seed.host, seed.port)
    end
    local state <const> = {
        topology = Topology.new(settings, seeds, connect),
        closed = false, redirects = 0, pool_timeout = settings.timeout or POOL_TIMEOUT,
        label = table.concat(label, ","),
    }
    return setmetatable({
        state = state, usual = true, timeout = settings.command_timeout or 30,
        idempotent = settings.idempotent or false, want = false, stop = false, typed = false,
        read_from = settings.read_from or "primary",
    }, Metatable)
end

return M
