--- The map of a cluster: several nodes are asked at once, and their answers are merged. For each hash slot the claim
--- with the highest configuration epoch wins, as it does among the nodes, because a node that was cut off has an old
--- map.
local errors <const> = require "dbrun.error"
local failover <const> = require "dbrun.redis.failover"

local M = {}

---A range of hash slots as one node reports it.
---@class dbrun.redis.Range
---@field first integer
---@field last integer
---@field primary string the identifier of the primary, if the server tells it
---@field epoch integer the primary's configuration epoch
---@field nodes {host: string, port: integer}[] the primary, then its replicas

--- The configuration epoch of each node, from CLUSTER NODES.
local function epochs_of(text)
    local epochs <const> = {}
    for line in type(text) == "string" and text:gmatch "[^\n]+" or function() end do
        local id <const>, epoch <const> = line:match "^(%S+) %S+ %S+ %S+ %S+ %S+ (%d+)"
        if id then
            epochs[id] = math.tointeger(epoch)
        end
    end
    return epochs
end

--- {host, port, ...} of a node. If it has no host, it is the host that was asked. Nil: it has no port, and so no
--- address.
local function address_of(entry, asked)
    if math.type(entry[2]) ~= "integer" or entry[2] < 1 or entry[2] > 65535 then
        return nil
    end
    local host = entry[1]
    if type(host) ~= "string" or host == "" or host == "?" then
        host = asked.host
    end
    return { host = host, port = entry[2] }
end

--- Asks one node. Raises when it cannot tell.
local function ask(node)
    local replies <const> = node.client:with { timeout = failover.LOOK_TIMEOUT }:pipeline(function(p)
        p:call("CLUSTER", "SLOTS")
        p:call("CLUSTER", "NODES")
    end)
    local told <const> = replies[1]
    if errors.is(told) then
        error(told, 0)
    elseif type(told) ~= "table" or #told == 0 then
        errors.raise {
            kind = "redis", code = "CLUSTERDOWN", outcome = "not_sent", retryable = true,
            message = ("redis cluster: %s knows no hash slots"):format(node.name),
        }
    end
    local epochs <const>, ranges <const> = epochs_of(replies[2]), {}
    for _, range in ipairs(told) do
        local id <const>, primary <const> = range[3][3], address_of(range[3], node)
        local nodes <const> = { primary }
        for at = 4, primary and #range or 0 do
            nodes[#nodes + 1] = address_of(range[at], node)
        end
        ranges[#ranges + 1] = primary and {
            first = range[1], last = range[2], nodes = nodes, epoch = id and epochs[id] or 0,
            primary = id or ("%s:%d"):format(primary.host, primary.port),
        }
    end
    return ranges
end

--- All ranges, sorted so that a later one wins where two overlap.
local function by_epoch(maps)
    local all <const> = {}
    for _, ranges in ipairs(maps) do
        table.move(ranges, 1, #ranges, #all + 1, all)
    end
    local order <const> = {}
    for i, range in ipairs(all) do
        order[range] = -i -- of equal claims the first one
    end
    table.sort(all, function(a, b)
        if a.epoch ~= b.epoch then
            return a.epoch < b.epoch
        end
        return order[a] < order[b]
    end)
    return all
end

---Asks these nodes at once.
---@param nodes dbrun.redis.Node[]
---@return dbrun.redis.Range[]? ranges where two overlap, the later one wins; nil when no node could answer
---@return any failure of one that could not
function M.ask(nodes)
    local maps <const>, failure = {}, nil
    for _, answer in ipairs(failover.ask(nodes, ask)) do
        local e <const> = answer[2]
        if answer[1] then
            maps[#maps + 1] = e
        elseif not failover.is_answer(e) then
            error(e, 0)
        elseif e.code == "ERR" and tostring(e.message):find "cluster support disabled" then
            errors.fail("config", ("redis: %s is not part of a cluster"):format(answer.of.name),
                "use redis:// instead of redis+cluster://")
        else
            failure = failure or e
        end
    end
    return maps[1] and by_epoch(maps), failure
end

return M
