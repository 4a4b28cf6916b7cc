--- Retries of a cluster client: redirections, lost nodes, slot migrations.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

M.REFRESH_EVERY = 1 -- least seconds between two reads of the topology because of a redirection
local REFRESH_AFTER_LOSS <const> = require "dbrun.redis.topology".AFTER_TROUBLE
local MOST_HOPS <const> = 16 -- redirections in a row without a pause
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.01, 0.25
M.PATIENCE = 30 -- seconds that a call without a time limit waits for a node, a slot or a key in migration
M.LEAST_LEFT = 0.02 -- seconds: too short for an attempt that could only make the outcome uncertain

---Reads the topology again. Ignores a failure, because the known topology may still be right. If one is known, half of
---the remaining time is kept for the command, because reading is slow when a node does not answer.
---@param topology dbrun.redis.Topology
---@param age number
---@param stop? number task.now() at the end of the call
function M.refresh(topology, age, stop)
    if stop and #topology.shards > 0 then
        local now <const> = task.now()
        stop = now + math.max(0, stop - now) / 2
    end
    local ok, e = pcall(topology.refresh, topology, age, stop)
    if not ok and not (errors.is(e) and (e.kind == "connect" or e.kind == "redis" or e.kind == "protocol"
        or (e.kind == "timeout" and e.outcome))) then
        error(e, 0)
    end
end

---Reads the map for what concerns all nodes, since no error reports that there is a new one.
---@param topology dbrun.redis.Topology
---@param stop number
function M.look_around(topology, stop)
    M.refresh(topology, topology.stale and 0 or M.REFRESH_EVERY, stop)
end

---When the retries of a call end. A call without a time limit (`dbrun redis`) waits for its answer without limit, but
---not for a cluster that does not come back.
---@param stop number task.now() at the end of the call; math.huge: it has none
---@param began number task.now() when its first attempt had failed
---@return number
function M.last_retry(stop, began)
    return stop == math.huge and began + M.PATIENCE or stop
end

---The error for a hash slot without a node.
function M.unassigned(slot)
    return errors.new {
        kind = "redis", code = "CLUSTERDOWN", outcome = "not_sent", retryable = true,
        message = slot and ("CLUSTERDOWN no node has slot %d"):format(slot) or "CLUSTERDOWN no node is known",
        hint = "slots are missing in the cluster: redis-cli --cluster check host:port",
    }
end

--- Error replies after which the command did not run and can be sent again later.
local WAITED_OUT <const> = { TRYAGAIN = true, CLUSTERDOWN = true, LOADING = true, MASTERDOWN = true, READONLY = true }

--- MOVED to a node that has no address, because an empty node has taken its place.
local function leads_nowhere(e, text)
    if text:find ":0$" then
        e.hint = "the node that has this slot has no address: another one is at its place. A replica has to take its "
            .. "slots over, or redis-cli --cluster fix HOST:PORT gives them away"
        return true
    end
    return false
end

--- Classifies an error: "moved" | "ask" (and the node), "again" (retry later), "lost" (not sent), nil = final.
---@param e any
---@param idempotent boolean
function M.kind_of(e, idempotent)
    if not errors.is(e) then
        return nil
    elseif e.kind == "redis" then
        local code <const> = e.code
        if code == "MOVED" or code == "ASK" then
            return leads_nowhere(e, e.message) and "again" or code:lower()
        elseif code == "EXECABORT" and e.detail then
            -- A transaction: none of its commands ran.
            local why <const> = e.detail:match "^(%u+)"
            local redirected <const> = (why == "MOVED" or why == "ASK") and not leads_nowhere(e, e.detail)
            return redirected and why:lower() or (WAITED_OUT[why] or why == "MOVED") and "again" or nil
        end
        return WAITED_OUT[code] and e.outcome ~= "unknown" and "again" or nil
    elseif e.kind == "connect" and e.code and not e.retryable then
        return nil -- WRONGPASS and the like: the next attempt would fail in the same way
    elseif e.kind == "connect" or (e.kind == "timeout" and e.layer) then -- a layer: it was connecting
        if e.outcome == "not_sent" then
            return "lost"
        end
        return idempotent and "lost" or "gone"
    elseif e.kind == "timeout" and e.outcome then
        return "gone"
    end
end

---A copy of an error that is not to be retried as it is.
---@param e dbrun.Error
---@param hint string
---@param outcome? string default: as it was
---@return dbrun.Error
function M.changed(e, hint, outcome)
    local copy <const> = {}
    for name, value in pairs(e) do
        copy[name] = value
    end
    copy.hint, copy.outcome, copy.retryable = hint, outcome or e.outcome, false
    return errors.new(copy)
end

---The error of a call with parts on several nodes, one of which failed with `e`. Its outcome is unknown when another
---part has run, or may have.
---@param e any
---@param replies any[] of all parts
---@param n integer
---@return any
function M.of_part(e, replies, n)
    local done = false
    for i = 1, n do
        done = done or not errors.is(replies[i]) or replies[i].outcome == "unknown"
    end
    if not done or not errors.is(e) then
        return e
    end
    local hint <const> = "other nodes of the cluster have run their part, or may have"
    return M.changed(e, hint .. (e.hint and "; " .. e.hint or ""), "unknown")
end

--- The text of the redirection: of a transaction, that of the command that was refused.
local function redirection(e)
    return e.code == "EXECABORT" and e.detail or e.message
end

---The hash slot that a redirection is about; nil: it is none.
---@param e dbrun.Error
---@return integer?
function M.slot_of(e)
    local word <const>, slot <const> = redirection(e):match "^(%u+) (%d+) "
    return (word == "MOVED" or word == "ASK") and math.tointeger(slot) or nil
end

local FOLLOWED <const> = "the slot of the key was migrating until the call's time limit (command_timeout): call it "
    .. "again. A migration that was left half done is ended by redis-cli --cluster fix HOST:PORT"

---The node that MOVED or ASK names. The error is raised when there is no time left to go there.
---@param topology dbrun.redis.Topology
---@param e dbrun.Error
---@param from dbrun.redis.Node?
---@return integer slot
---@return dbrun.redis.Node node
function M.target(topology, e, from)
    local text <const> = redirection(e)
    local slot <const>, host, port <const> = text:match "^%u+ (%d+) (.*):(%d+)"
    if not slot then
        errors.fail("protocol", "redis cluster: a redirection without an address: " .. text)
    end
    e.hint = FOLLOWED
    if host == "" or host == "?" then
        host = from and from.host or topology.seeds[1].host
    end
    return math.tointeger(slot), topology:node(host, math.tointeger(port))
end

--- Commands that may block need a dedicated connection.
---@param name string
---@return boolean
function M.may_block(name)
    local fact <const> = core.redis.fact(name)
    return fact ~= nil and fact.blocks
end

---The retries of a command after its first failure.
---@class dbrun.redis.Trip
---@field node? dbrun.redis.Node where to go next; nil: look it up
---@field asking boolean
---@field failure any
local Trip <const> = {}
Trip.__index = Trip

---@param cluster dbrun.redis.Cluster
---@param slot integer?
---@param node dbrun.redis.Node? where it failed
---@param failure any
---@param stop number task.now() at the end of the call
---@return dbrun.redis.Trip
function M.trip(cluster, slot, node, failure, stop)
    local self <const> = setmetatable({
        cluster = cluster, slot = slot, give_up = stop, began = task.now(), hops = 0, pause = FIRST_PAUSE,
    }, Trip)
    self:failed(node, failure)
    return self
end

---Records the outcome of an attempt.
---@param node dbrun.redis.Node?
---@param e any
---@param replica boolean? it was a replica: the primary is asked next
function Trip:failed(node, e, replica)
    local topology <const> = self.cluster.state.topology
    self.failure, self.node, self.asking, self.wait, self.look = e, nil, false, false, nil
    self.kind = M.kind_of(e, self.cluster.idempotent)
    self.primary_only = self.primary_only or replica
    if self.kind == "moved" then
        local slot <const>, target <const> = M.target(topology, e, node)
        topology:moved(slot, target)
        self.node = target
    elseif self.kind == "ask" then
        self.node, self.asking = select(2, M.target(topology, e, node)), true
    elseif self.kind == "again" then
        topology.stale, self.wait, self.look = true, true, REFRESH_AFTER_LOSS
        if e.code == "READONLY" or e.code == "CLUSTERDOWN" then
            self.primary_only = true
        end
    elseif self.kind == "lost" then
        topology.stale, self.wait, self.look, self.primary_only = true, true, REFRESH_AFTER_LOSS, true
    elseif self.kind == "gone" then
        topology.stale = true
    end
end

---Whether the command may be retried. Waits and reads the topology if that helps.
---@return boolean
function Trip:again()
    if not self.kind or self.kind == "gone" or self.cluster.state.closed then
        return false
    end
    local topology <const> = self.cluster.state.topology
    self.hops = self.wait and 0 or self.hops + 1
    self.cluster.state.redirects = self.cluster.state.redirects + 1
    if self.hops > MOST_HOPS then
        self.wait, self.hops = true, 0
    end
    local stop <const> = M.last_retry(self.give_up, self.began)
    local left <const> = stop - task.now()
    if left <= (self.wait and M.LEAST_LEFT or 0) then
        return false
    end
    if self.wait then
        self.node, self.asking = nil, false -- what ASK said holds for the moment only
        task.sleep(math.min(left - M.LEAST_LEFT, self.pause * (0.5 + math.random())))
        self.pause = math.min(self.pause * 2, LONGEST_PAUSE)
    end
    if self.look then
        M.refresh(topology, self.look, stop)
    end
    return true
end

---A client of a node with the settings of the cluster's client, for one attempt of a call that ends at `stop`.
---@param cluster dbrun.redis.Cluster
---@param client dbrun.redis.Client
---@param stop number
---@param want? dbrun.redis.Wait|false
---@return dbrun.redis.Client
function M.bounded(cluster, client, stop, want)
    return (client:with {
        timeout = cluster.timeout, idempotent = cluster.idempotent, typed = cluster.typed, wait = want,
    }:__until(stop))
end

---Runs `fn(client, trip)` for the primary of the hash slot (any primary without one), with retries. When fn sets
---`trip.final`, its error is not retried. A function that sends ASKING when `trip.asking` is set passes `asks`;
---otherwise the call waits until a migrating key has moved.
---@param cluster dbrun.redis.Cluster
---@param slot integer?
---@param stop number task.now() at the end of the call; fn may move `trip.give_up`
---@param fn fun(client: dbrun.redis.Client, trip: dbrun.redis.Trip): any
---@param asks? boolean
---@return any
function M.attempt(cluster, slot, stop, fn, asks)
    local topology <const> = cluster.state.topology
    local trip <const> = setmetatable({
        cluster = cluster, slot = slot, give_up = stop, began = task.now(), hops = 0, pause = FIRST_PAUSE,
    }, Trip)
    repeat
        local shard
        if slot then
            shard = topology:shard(slot)
        else
            shard = topology:any()
        end
        local node <const> = trip.node or shard and shard.primary
        if node then
            local ok, result = pcall(fn, node.client, trip)
            if ok then
                return result
            elseif trip.final then
                error(result, 0)
            end
            trip:failed(node, result)
        else
            trip:failed(nil, M.unassigned(slot))
        end
        if trip.asking and not asks then
            trip.node, trip.asking, trip.wait = nil, false, true
        end
    until not trip:again()
    error(trip.failure, 0)
end

---One more attempt, within the remaining time.
---@param client dbrun.redis.Client
---@param asking boolean
function Trip:run(client, asking, name, ...)
    local wait <const> = self.cluster.want
    local quick <const> = M.bounded(self.cluster, client, self.give_up, wait)
    if not asking then
        return quick:call(name, ...)
    end
    local alone <const> = M.may_block(name)
    local connection <close> = (alone or self.cluster.typed) and not wait and quick:__acquire(name) or nil
    if connection and self.cluster.typed then -- the replies of a pipeline keep no types
        connection:raw "ASKING"
        return connection:call(name, ...)
    end
    local batch <const> = (connection or quick):batch(false, alone)
    batch:asking():call(name, ...)
    local reply <const> = batch:send()[2]
    if errors.is(reply) then
        error(reply, 0)
    end
    return reply
end

return M
