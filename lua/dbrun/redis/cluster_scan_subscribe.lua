--- Methods of a cluster client that use several commands: scanning, sharded subscriptions.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local redirect <const> = require "dbrun.redis.redirect"

--- Subscribes in a cluster, on a connection to the node that has the channel now.
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

local function check_channels(list)
    local slot
    for _, channel in ipairs(list) do
        local this <const> = type(channel) == "string" and core.redis.slot(channel)
        if slot and this and this ~= slot then
            errors.raise {
                kind = "redis", code = "CROSSSLOT", outcome = "not_sent",
                message = "CROSSSLOT the channels are not in one slot of the cluster",
                hint = "subscribe to each by itself, or give them one {tag}",
            }
        end
        slot = slot or this
    end
end

---@param Cluster dbrun.redis.Cluster the table of methods to add to
return function(Cluster)
    ---Iterates over all keys, one primary after the other. A key may come twice.
    ---@param opts? {match: string?, count: integer?, type: string?}
    ---@return fun(): string?
    function Cluster:scan(opts)
        names.on_client("scan", self)
        options.scan("scan", opts)
        local clients = {}
        for _, node in ipairs(self:nodes()) do
            if node.role == "primary" then
                clients[#clients + 1] = node.client
            end
        end
        local i, keys = 0, nil
        return function()
            while true do
                local key <const> = keys and keys()
                if key ~= nil then
                    return key
                end
                i = i + 1
                if not clients[i] then
                    return nil
                end
                keys = clients[i]:scan(opts)
            end
        end
    end

    ---Subscribes to sharded channels, which must be in one hash slot; reconnects when they move.
    ---@param ... string
    ---@return dbrun.redis.Subscription
    function Cluster:ssubscribe(...)
        names.on_client("ssubscribe", self)
        local list <const> = select("#", ...) > 0 and type(...) == "table" and (...) or { ... }
        args.check("ssubscribe", "the channels", list, args.strings)
        check_channels(list)
        return setmetatable({ cluster = self, channel = list[1] }, Subscriber):ssubscribe(...)
    end
end
