--- Methods of a cluster client that use several commands: scanning, sharded subscriptions.
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local subscription <const> = require "dbrun.redis.cluster_subscription"

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
                keys = clients[i]:with({ timeout = self.timeout, idempotent = self.idempotent }):scan(opts)
            end
        end
    end

    ---Subscribes to sharded channels, in any hash slots; reconnects when they move.
    ---@param ... string
    ---@return dbrun.redis.Subscription
    function Cluster:ssubscribe(...)
        names.on_client("ssubscribe", self)
        return subscription(self, ...)
    end
end
