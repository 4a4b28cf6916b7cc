--- A private Redis cluster for a spec: six nodes on TCP ports, three primaries with a replica each.
---
---     local cluster = redis_cluster.start()
---     cluster.url, cluster.nodes[1]:cli(...), cluster:migrate(slot, from, to), cluster:stop()
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local M = {}

---@class spec.RedisCluster
---@field nodes spec.RedisServer[] 1 to 3 are primaries, 4 to 6 their replicas
---@field url string
local Cluster = {}
Cluster.__index = Cluster

local RANGES <const> = { { 0, 5460 }, { 5461, 10922 }, { 10923, 16383 } }

local function id_of(node)
    return (node:cli("cluster", "myid"):gsub("%s", ""))
end

local function await(what, fn)
    assert(redis_server.wait_until(20, fn), "the cluster does not come up: " .. what)
end

function Cluster:address(i)
    return ("127.0.0.1:%d"):format(self.nodes[i].port)
end

--- Whether all running nodes report the cluster as complete.
function Cluster:is_whole()
    for _, node in ipairs(self.nodes) do
        if node.child:running() then
            local info = node:cli("cluster", "info")
            if not info:find "cluster_state:ok" or not info:find "cluster_slots_assigned:16384" then
                return false
            end
        end
    end
    return true
end

local function meet(self)
    for i = 1, 6 do
        for j = 1, 6 do
            if i ~= j then self.nodes[i]:cli("cluster", "meet", "127.0.0.1", tostring(self.nodes[j].port)) end
        end
    end
    for i, range in ipairs(RANGES) do
        self.nodes[i]:cli("cluster", "addslotsrange", tostring(range[1]), tostring(range[2]))
    end
    await("nodes do not know each other", function()
        for _, node in ipairs(self.nodes) do
            if not node:cli("cluster", "info"):find "cluster_known_nodes:6" then return false end
        end
        return true
    end)
end

local function replicate(self)
    for i = 1, 3 do
        await("a node does not become a replica", function()
            return self.nodes[i + 3]:cli("cluster", "replicate", self.ids[i]):find "OK"
        end)
    end
    await("replicas are not in sync", function()
        for i = 4, 6 do
            if not self.nodes[i]:cli("info", "replication"):find "master_link_status:up" then return false end
        end
        for i = 1, 6 do
            local _, n = self.nodes[i]:cli("cluster", "nodes"):gsub("slave", "")
            if n ~= 3 then return false end
        end
        return self:is_whole()
    end)
end

--- Marks a slot that is to move on both sides.
---@param slot integer
---@param from integer
---@param to integer
function Cluster:open_slot(slot, from, to)
    self.nodes[to]:cli("cluster", "setslot", tostring(slot), "importing", self.ids[from])
    self.nodes[from]:cli("cluster", "setslot", tostring(slot), "migrating", self.ids[to])
end

--- Moves keys of a slot that is open.
function Cluster:move(from, to, ...)
    self.nodes[from]:cli("migrate", "127.0.0.1", tostring(self.nodes[to].port), "", "0", "5000", "KEYS", ...)
end

--- Moves a slot as redis-cli does: opens it, moves its keys in small steps, tells all primaries.
---@param slot integer
---@param from integer
---@param to integer
function Cluster:migrate(slot, from, to)
    local text <const> = tostring(slot)
    self:open_slot(slot, from, to)
    while true do
        local keys = {}
        local found <const> = self.nodes[from]:cli("cluster", "getkeysinslot", text, "3")
        for key in found:gmatch "%S+" do keys[#keys + 1] = key end
        if #keys == 0 then break end
        self:move(from, to, table.unpack(keys))
        task.sleep(0.005)
    end
    for _, i in ipairs { to, from, 1, 2, 3 } do
        self.nodes[i]:cli("cluster", "setslot", text, "node", self.ids[to])
    end
end

function Cluster:stop()
    for _, node in ipairs(self.nodes) do node:stop() end
end

---@return spec.RedisCluster
function M.start()
    local self = setmetatable({ nodes = {}, ids = {} }, Cluster)
    for i = 1, 6 do
        self.nodes[i] = redis_server.start {
            tcp = true, args = {
                "--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--repl-diskless-sync-delay", "0",
                "--cluster-config-file", "nodes.conf", "--cluster-allow-reads-when-down", "no",
            },
        }
        self.ids[i] = id_of(self.nodes[i])
    end
    meet(self)
    replicate(self)
    self.url = ("redis+cluster://%s,%s"):format(self:address(1), self:address(2))
    return self
end

return M
