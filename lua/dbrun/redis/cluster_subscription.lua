--- A subscription to sharded channels of a cluster: one iterator over a subscription for each hash slot, which follows
--- its slot when it moves.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local redirect <const> = require "dbrun.redis.redirect"
local task <const> = require "dbrun.task"

local KEPT <const> = 256 -- messages that wait for the program, before those of the connections do
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.02, 1 -- seconds after an error of one slot
local AT_ONCE <const> = 8 -- slots that are subscribed to at the same time

--- The client of one slot's subscription: it takes connections from the node that has the slot now.
local Subscriber <const> = {}
Subscriber.__index = Subscriber
names.add_client(Subscriber)
require "dbrun.redis.subscription" (Subscriber)

function Subscriber:acquire()
    local topology <const> = self.cluster.state.topology
    if self.again then
        redirect.refresh(topology, topology.AFTER_TROUBLE)
    end
    self.again = true
    return self.cluster:acquire(self.channel)
end

---@class dbrun.redis.ShardedSubscription: dbrun.redis.Subscription
---@field package parts table<integer, dbrun.redis.Subscription> by hash slot
---@field package queue dbrun.Queue? once its messages are read
local Sharded <const> = {}
local Metatable <const> = { __index = names.answer("subscription", Sharded), __name = "dbrun.redis.subscription" }

local function on_subscription(method, self)
    args.self(method, self, Metatable, "a subscription", "s")
end

--- The channels given, by hash slot.
local function by_slot(fn, ...)
    local list <const> = select("#", ...) == 1 and type((...)) == "table" and (...) or { ... }
    args.check(fn, "the channels", list, args.strings)
    if #list == 0 then
        errors.usage(fn, "expected the name of a channel")
    end
    local slots = {}
    for _, channel in ipairs(list) do
        local slot <const> = core.redis.slot(channel)
        slots[slot] = slots[slot] or {}
        table.insert(slots[slot], channel)
    end
    return slots
end

--- Passes the messages of one slot on, and an error in their place, after which it goes on. Knows only the queue, so
--- that a subscription that was never closed can be collected.
local function pump(part, queue)
    local pause = FIRST_PAUSE
    while true do
        local ok <const>, e <const> = pcall(function()
            for message in part:messages() do
                pause = FIRST_PAUSE
                queue:push(message)
            end
        end)
        if ok or queue.closed or errors.is(e, "cancelled") or not pcall(queue.push, queue, { failure = e }) then
            return
        end
        task.sleep(pause * (0.5 + math.random()))
        pause = math.min(pause * 2, LONGEST_PAUSE)
    end
end

local function read(self, part)
    core.task.daemon(pump, part, self.queue)
end

--- The error when a node's pool is used up: the pool's own hint is about tasks, which do not hold these connections.
local function explain(e, n)
    if errors.is(e, "pool") then
        e.hint = ("ssubscribe has a connection for each hash slot, %d here: raise max_connections (for each node), or "
            .. "give channels that belong together one {tag}"):format(n)
    end
    error(e, 0)
end

local open_all

--- Subscribes in the slots that have no subscription yet. Returns them.
local function open(self, slots)
    local missing, all = {}, 0
    for slot in pairs(slots) do
        if not self.parts[slot] then
            missing[#missing + 1] = slot
        end
    end
    for _ in pairs(self.parts) do
        all = all + 1
    end
    local ok, e = pcall(open_all, self, slots, missing)
    if not ok then
        explain(e, all + #missing)
    end
    return missing
end

--- Subscribes at the node that has the slot, also when the map does not know it yet.
local function subscribe(self, slot, channels)
    local stop <const> = self.cluster:ready()
    local subscriber <const> = setmetatable({ cluster = self.cluster:__until(stop), channel = channels[1] }, Subscriber)
    local part <const> = redirect.attempt(self.cluster, slot, stop, function()
        return subscriber:ssubscribe(channels)
    end)
    subscriber.cluster = self.cluster -- a lost connection is replaced later, whatever the time limit of this call
    return part
end

function open_all(self, slots, missing)
    task.map(missing, AT_ONCE, function(slot)
        local part <const> = subscribe(self, slot, slots[slot])
        if self.closed or self.parts[slot] then -- meanwhile
            part:close()
            return
        end
        self.parts[slot] = part
        if self.queue then
            read(self, part)
        end
    end)
end

---Iterates over the messages of all channels; an element of kind `gap` is about the channels of one slot.
---@return fun(): dbrun.redis.Message?
function Sharded:messages(...)
    on_subscription("messages", self)
    args.no_more("messages", "takes no arguments", "a time limit: task.timeout(seconds, fn)", ...)
    if not self.queue then
        self.queue = task.queue(KEPT)
        for _, part in pairs(self.parts) do
            read(self, part)
        end
    end
    return function()
        local message <const> = not self.closed and self.queue:pop() or nil
        if self.closed or not message then
            return nil
        elseif message.failure then
            error(message.failure, 0)
        end
        return message
    end
end

local function check_open(self)
    if self.closed then
        errors.fail("usage", "this subscription has been closed")
    end
end

---Adds channels, in any slot.
---@param ... string
function Sharded:subscribe(...)
    on_subscription("subscribe", self)
    check_open(self)
    local slots <const> = by_slot("subscribe", ...)
    for _, slot in ipairs(open(self, slots)) do
        slots[slot] = nil
    end
    for slot, channels in pairs(slots) do
        self.parts[slot]:subscribe(channels)
    end
end

---Unsubscribes from channels.
---@param ... string
function Sharded:unsubscribe(...)
    on_subscription("unsubscribe", self)
    check_open(self)
    for slot, channels in pairs(by_slot("unsubscribe", ...)) do
        local part <const> = self.parts[slot]
        if part then
            part:unsubscribe(channels)
            if #part.channels == 0 then
                self.parts[slot] = nil
                part:close()
            end
        end
    end
end

---Closes the subscription; a loop over its messages ends. Idempotent.
function Sharded:close()
    on_subscription("close", self)
    self.closed = true
    for _, part in pairs(self.parts) do
        part:close()
    end
    self.parts = {}
    if self.queue then
        self.queue:close()
    end
end

Metatable.__close = Sharded.close
Metatable.__gc = Sharded.close

---@param cluster dbrun.redis.Cluster
---@param ... string
---@return dbrun.redis.ShardedSubscription
return function(cluster, ...)
    local slots <const> = by_slot("ssubscribe", ...)
    local self <const> = setmetatable({ cluster = cluster, parts = {}, closed = false }, Metatable)
    local ok, e = pcall(open, self, slots)
    if not ok then
        self:close()
        error(e, 0)
    end
    return self
end
