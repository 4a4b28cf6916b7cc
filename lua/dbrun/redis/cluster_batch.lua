--- Many commands for a cluster at once: pipelines, commands split by slot, transactions.
local check <const> = require "dbrun.args"
local confirm <const> = require "dbrun.redis.confirm"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local Order <const> = require "dbrun.redis.cluster_order"
local options <const> = require "dbrun.redis.options"
local redirect <const> = require "dbrun.redis.redirect"
local task <const> = require "dbrun.task"

local M = {}

local MOST_HOPS <const> = 16
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.01, 0.25

---A queued command (from Cluster:plan), and later its reply.
---@class dbrun.redis.Entry
---@field name string
---@field args any[]
---@field n integer
---@field spec dbrun.redis.KeySpec
---@field keys any[]?
---@field slot integer?
---@field index integer its place in the pipeline
---@field reply any
---@field node dbrun.redis.Node? the node named by a redirection
---@field asking boolean?
---@field waits boolean? its node cannot run it for now
---@field error any why it cannot be sent to one node
---@field whole boolean? it must not be split either
---@field parts dbrun.redis.Entry[]? the commands it was split into

-- ---- rounds ----

local function reads_only(entries)
    for _, entry in ipairs(entries) do
        if not entry.spec.reads then
            return false
        end
    end
    return true
end

--- The clients in order, each with its commands. A command without a node gets an error.
local function group(cluster, entries, replica)
    local topology <const> = cluster.state.topology
    local groups, by_client, any = {}, {}, nil
    for _, entry in ipairs(entries) do
        local shard
        if entry.slot then
            shard = topology:shard(entry.slot)
        else
            any = any or topology:any()
            shard = any
        end
        local node = entry.node or shard and shard.primary
        local client = node and node.client
        if replica and not entry.node and shard and #shard.replicas > 0 then
            node = shard.replicas[1 + (entry.slot or 0) % #shard.replicas]
            client = topology:reader(node)
        end
        if not client then
            entry.reply = redirect.unassigned(entry.slot)
        else
            local g = by_client[client]
            if not g then
                g = { client = client, node = node, entries = {} }
                by_client[client], groups[#groups + 1] = g, g
            end
            g.entries[#g.entries + 1] = entry
        end
    end
    return groups
end

--- Queues a group's commands. Raises before anything is sent when one of them is invalid.
local function queue(cluster, g, stop)
    local batch <const> = redirect.bounded(cluster, g.client, stop, cluster.want):batch(false)
    for _, entry in ipairs(g.entries) do
        if entry.asking then
            batch:asking()
        end
        batch:call(entry.name, table.unpack(entry.args, 1, entry.n))
    end
    g.batch = batch
end

--- `alone`: there are no others, which may have run their commands when this one fails.
local function send_group(g, alone)
    local ok, replies = pcall(g.batch.send, g.batch)
    if not ok and confirm.is_unconfirmed(replies) then
        g.unconfirmed = replies
        ok, replies = true, replies.reply
    end
    if not ok and (not confirm.is_of_command(replies) or alone and not redirect.kind_of(replies, false)) then
        error(replies, 0)
    end
    local at = 0
    for _, entry in ipairs(g.entries) do
        at = at + (entry.asking and 2 or 1)
        if ok then
            entry.reply = replies[at]
        else
            entry.reply = replies -- the connection was lost: each command gets this error
        end
        entry.from = g.node
    end
end

--- Returns the error of the first group whose writes were not confirmed.
local function send_all(cluster, groups, stop)
    local fns = {}
    for i, g in ipairs(groups) do
        queue(cluster, g, stop)
        fns[i] = function()
            send_group(g, #groups == 1)
        end
    end
    if #fns == 1 then
        fns[1]()
    else
        task.all(fns)
    end
    for _, g in ipairs(groups) do
        if g.unconfirmed then
            return g.unconfirmed
        end
    end
end

--- Returns the commands to send again, with their new nodes, and those that are done.
local function sift(cluster, entries)
    local topology <const> = cluster.state.topology
    local again, done = {}, {}
    for _, entry in ipairs(entries) do
        local e <const> = entry.reply
        local kind <const> = errors.is(e) and redirect.kind_of(e, cluster.idempotent)
        if kind then -- what is done keeps its fields: a table with more of them takes twice the memory
            entry.node, entry.asking, entry.waits = nil, false, false
        end
        if kind == "moved" or kind == "ask" then
            local slot <const>, target <const> = redirect.target(topology, e, entry.from)
            if kind == "moved" then
                topology:moved(slot, target)
            end
            entry.node, entry.asking = target, kind == "ask"
        elseif kind then
            topology.stale, entry.waits = true, true
        end
        local list <const> = kind and kind ~= "gone" and again or done
        list[#list + 1] = entry
    end
    return again, done
end

---Sends each command to its node, in one round trip per node, and follows redirections. Sets `reply` of each, which may
---be an error.
---@param cluster dbrun.redis.Cluster
---@param stop number task.now() at the end of the call
---@param entries dbrun.redis.Entry[]
---@return dbrun.Error? unconfirmed when replicas of a node did not acknowledge its writes in time
function M.execute(cluster, stop, entries)
    local topology <const> = cluster.state.topology
    local replica = cluster.read_from == "replica" and reads_only(entries)
    local pause, hops, unconfirmed = FIRST_PAUSE, 0, nil
    local last <const>, order = redirect.last_retry(stop, task.now()), nil
    local held = {}
    while true do
        local e <const> = send_all(cluster, group(cluster, entries, replica), stop)
        unconfirmed = unconfirmed or e
        local again <const>, done <const> = sift(cluster, entries)
        if #again + #held == 0 then
            return unconfirmed
        end
        order = order or Order.new(entries)
        entries = order:after(done, again, held)
        local left <const> = last - task.now()
        if #entries == 0 or left <= redirect.LEAST_LEFT or cluster.state.closed then
            return unconfirmed
        end
        local wait
        entries, held, wait = Order.split(entries, topology)
        replica, hops = false, hops + 1
        cluster.state.redirects = cluster.state.redirects + #entries
        if wait or hops > MOST_HOPS then
            task.sleep(math.min(left - redirect.LEAST_LEFT, pause * (0.5 + math.random())))
            pause = math.min(pause * 2, LONGEST_PAUSE)
            for _, entry in ipairs(entries) do
                entry.node, entry.asking = nil, false -- the slot may have moved on
            end
        end
        if wait then
            redirect.refresh(topology, topology.AFTER_TROUBLE, last)
        end
    end
end

-- ---- commands split by slot ----

--- Splits a command into one for each hash slot of its keys.
local function parts_of(entry)
    local step <const> = entry.spec.split == "pairs" and 2 or 1
    local parts, by_slot = {}, {}
    for i = 1, entry.n, step do
        local slot <const> = core.redis.slot(entry.args[i])
        local part = by_slot[slot]
        if not part then
            part = { name = entry.name, args = {}, n = 0, spec = entry.spec, keys = {}, slot = slot, at = {} }
            by_slot[slot], parts[#parts + 1] = part, part
        end
        part.at[#part.at + 1], part.keys[#part.keys + 1] = i, entry.args[i]
        for j = i, i + step - 1 do
            part.n = part.n + 1
            part.args[part.n] = entry.args[j]
        end
    end
    return parts
end

--- The error of one of the parts.
local function failure_of(entry, parts, e)
    local replies <const> = {}
    for i, part in ipairs(parts) do
        replies[i] = part.reply
    end
    return entry.spec.reads and e or redirect.of_part(e, replies, #parts)
end

--- Combines the replies of the parts into a value, or returns the first error.
local function together(entry, parts)
    local sum, list = 0, {}
    for _, part in ipairs(parts) do
        local reply <const> = part.reply
        if errors.is(reply) then
            return failure_of(entry, parts, reply)
        elseif entry.spec.split == "sum" then
            sum = sum + reply
        elseif entry.spec.split == "list" then
            for i, at in ipairs(part.at) do
                list[at] = reply[i]
            end
        end
    end
    if entry.spec.split == "sum" then
        return sum
    end
    return entry.spec.split == "list" and core.redis.counted(list, entry.n) or "OK"
end

--- As one server gives it to a client whose replies keep their types.
local function with_types(entry, reply)
    if entry.spec.split == "pairs" then
        return { status = reply }
    end
    local list <const> = entry.spec.split == "list" and {}
    for i = 1, list and entry.n or 0 do
        list[i] = reply[i] == nil and core.null or reply[i]
    end
    return list or reply
end

---Runs a command with keys in several hash slots as one command for each. Not atomic.
---@param cluster dbrun.redis.Cluster
---@param stop number task.now() at the end of the call
---@param entry dbrun.redis.Entry
---@return any
function M.split(cluster, stop, entry)
    local parts <const> = parts_of(entry)
    local unconfirmed <const> = M.execute(cluster, stop, parts)
    local reply <const> = together(entry, parts)
    if errors.is(reply) then
        error(reply, 0)
    elseif unconfirmed then
        unconfirmed.reply = reply
        error(unconfirmed, 0)
    end
    return cluster.typed and with_types(entry, reply) or reply
end

-- ---- pipelines ----

---@class dbrun.redis.ClusterPipeline: dbrun.redis.Pipeline
---@field package owner dbrun.redis.Cluster not called `cluster`, which is a command: p:cluster("INFO")
---@field package entries dbrun.redis.Entry[]
local Pipeline <const> = {}
local Metatable <const> = {}
local EXECUTE <const> = { raise = "boolean" }

local function on_pipeline(method, self)
    check.self(method, self, Metatable, "a pipeline", "p")
end

---Queues a command by its name.
---@param name string
---@return dbrun.redis.ClusterPipeline
function Pipeline:call(name, ...)
    on_pipeline("call", self)
    check.check("call", "the name of the command", name, "string")
    local entry <const> = self.owner:plan(name:upper(), ...)
    if entry.spec.everywhere then
        errors.fail("usage", ("redis: %s goes to all nodes of the cluster"):format(entry.name),
            self.transaction and "call it outside of the transaction" or "call it outside of the pipeline")
    elseif entry.error and entry.spec.split and not entry.whole and not self.transaction then
        entry.parts = parts_of(entry)
    elseif entry.error then
        error(entry.error, 0)
    end
    self.entries[#self.entries + 1] = entry
    return self
end

---Removes the queued commands.
function Pipeline:clear()
    on_pipeline("clear", self)
    self.entries = {}
end

---Sends each queued command to its node. The replies are in the order of the commands; error replies are values, also
---when the connection to a node was lost (kind `connect`, with its `outcome`).
---@param opts? {raise: boolean?}
---@return any[]
function Pipeline:execute(opts)
    on_pipeline("execute", self)
    opts = check.options("execute", opts, EXECUTE)
    local entries <const>, flat = self.entries, {}
    self.entries = {}
    for _, entry in ipairs(entries) do
        table.move(entry.parts or { entry }, 1, entry.parts and #entry.parts or 1, #flat + 1, flat)
    end
    local unconfirmed
    if #flat > 0 then
        unconfirmed = M.execute(self.owner, self.owner:ready(), flat)
    end
    local replies = {}
    for i, entry in ipairs(entries) do
        local reply = entry.reply
        if entry.parts then
            reply = together(entry, entry.parts)
        end
        if opts.raise and errors.is(reply) then
            error(reply, 0)
        end
        replies[i] = reply
    end
    self.last = core.redis.counted(replies, #entries)
    if unconfirmed then
        unconfirmed.reply = self.last
        error(unconfirmed, 0)
    end
    return self.last
end

setmetatable(Pipeline, {
    __index = function(t, name)
        if type(name) ~= "string" or not name:find "^%a[%w_.:-]*$" then
            return nil
        end
        names.check_command("pipeline", name)
        local function command(self, ...)
            on_pipeline(name, self)
            return t.call(self, name, ...)
        end
        rawset(t, name, command)
        return command
    end,
})

Metatable.__index = Pipeline
Metatable.__len = function(self)
    return #self.entries
end

local function new_pipeline(cluster, transaction)
    return setmetatable({ owner = cluster, entries = {}, transaction = transaction, last = {} }, Metatable)
end

-- ---- transactions ----

local function fail_crossslot()
    errors.raise {
        kind = "redis", code = "CROSSSLOT", outcome = "not_sent",
        message = "CROSSSLOT a transaction runs on one node, and its keys are not in one slot of the cluster",
        hint = "only the part in braces counts: {order:7}:items and {order:7}:total are in one slot",
    }
end

--- The common hash slot of a transaction's keys.
local function slot_of_all(entries)
    local slot
    for _, entry in ipairs(entries) do
        if slot and entry.slot and slot ~= entry.slot then
            fail_crossslot()
        end
        slot = slot or entry.slot
    end
    return slot
end

local function run_transaction(cluster, stop, entries)
    return redirect.attempt(cluster, slot_of_all(entries), stop, function(client, trip)
        local tx <const> = redirect.bounded(cluster, client, trip.give_up, cluster.want):batch(true)
        if trip.asking then
            tx:asking()
        end
        for _, entry in ipairs(entries) do
            tx:call(entry.name, table.unpack(entry.args, 1, entry.n))
        end
        return tx:send()
    end, true)
end

--- With watched keys the node's client runs the transaction; errors of the caller's function are passed on, and its run
--- time does not count towards the deadline.
local function run_watched(cluster, stop, opts, fn)
    local list <const> = type(opts.watch) == "table" and opts.watch or { opts.watch }
    local entries = {}
    for i, key in ipairs(list) do
        entries[i] = { slot = core.redis.slot(key) }
    end
    local slot <const> = slot_of_all(entries)
    return redirect.attempt(cluster, slot, stop, function(client, trip)
        local node <const> = redirect.bounded(cluster, client, trip.give_up, cluster.want)
        local ok <const>, replies <const> = pcall(node.multi, node, opts, function(tx, connection)
            local began <const> = task.now()
            local well <const>, e <const> = pcall(fn, tx, connection)
            trip.give_up = trip.give_up + task.now() - began
            if not well then
                trip.final = true
                error(e, 0)
            end
        end)
        if ok then
            return replies
        end
        local other <const> = errors.is(replies, "redis") and redirect.slot_of(replies)
        if other and other ~= slot and not trip.final then -- a queued command has a key of another slot
            trip.final = true
            fail_crossslot()
        end
        error(replies, 0)
    end)
end

---@param Cluster dbrun.redis.Cluster the table of methods to add to
function M.install(Cluster)
    ---Runs `fn(p)`, which queues commands, and sends each to its node; the replies come in order.
    ---@param fn? fun(p: dbrun.redis.ClusterPipeline) without it the pipeline is returned
    ---@return any[]
    function Cluster:pipeline(fn)
        names.on_client("pipeline", self)
        check.optional("pipeline", "the function to call", fn, "function")
        local p <const> = new_pipeline(self, false)
        if not fn then
            return p
        end
        fn(p)
        return #p > 0 and p:execute() or p.last
    end

    ---A transaction on the node that has its keys, which must be in one hash slot ({tag}).
    ---@param opts? {watch: string|string[]|nil, retry: integer?}
    ---@param fn fun(tx: dbrun.redis.ClusterPipeline, connection: dbrun.redis.Connection?)
    ---@return any[]
    function Cluster:multi(opts, fn)
        names.on_client("multi", self)
        opts, fn = options.multi(opts, fn)
        local stop <const> = self:ready()
        if opts.watch then
            return run_watched(self, stop, opts, fn)
        end
        local tx <const>, began <const> = new_pipeline(self, true), task.now()
        fn(tx)
        return #tx > 0 and run_transaction(self, stop + task.now() - began, tx.entries) or {}
    end
end

return M
