--- The order of a pipeline's commands in a cluster. A node can refuse a command for now (its slot migrates, the node
--- loads its data) and run later ones. Those that have no key in common may run in any order. A command of whose keys a
--- later one has run is not sent again: its error says so.
local errors <const> = require "dbrun.error"
local redirect <const> = require "dbrun.redis.redirect"

---@class dbrun.redis.Order
---@field package ran table<string, dbrun.redis.Entry> by key: the last command that has run, or may have
---@field package wrote table<string, dbrun.redis.Entry> the last one of them that may have written
local Order <const> = {}
Order.__index = Order

---@param entries dbrun.redis.Entry[] in the order of the pipeline
---@return dbrun.redis.Order
function Order.new(entries)
    for i, entry in ipairs(entries) do
        entry.index = i
    end
    return setmetatable({ ran = {}, wrote = {} }, Order)
end

local function may_have_run(reply)
    return not errors.is(reply) or reply.outcome ~= "failed" and reply.outcome ~= "not_sent"
end

local function note(last, key, entry)
    if not last[key] or last[key].index < entry.index then
        last[key] = entry
    end
end

--- The later command that has run before this one, and the key of both.
local function overtaker(self, entry)
    for _, key in ipairs(entry.keys or {}) do
        local later <const> = (entry.spec.reads and self.wrote or self.ran)[tostring(key)]
        if later and later.index > entry.index then
            return later, tostring(key)
        end
    end
end

local function by_index(a, b)
    return a.index < b.index
end

---Takes what one round has left. Returns the commands that may be sent again, in the order of the pipeline.
---@param done dbrun.redis.Entry[] they were answered
---@param again dbrun.redis.Entry[] they were refused for now
---@param held dbrun.redis.Entry[] they were not sent (Order.split)
---@return dbrun.redis.Entry[]
function Order:after(done, again, held)
    for _, entry in ipairs(done) do
        for _, key in ipairs(may_have_run(entry.reply) and entry.keys or {}) do
            note(self.ran, tostring(key), entry)
            if not entry.spec.reads then
                note(self.wrote, tostring(key), entry)
            end
        end
    end
    local list <const> = {}
    for _, entry in ipairs(table.move(held, 1, #held, #again + 1, again)) do
        local later <const>, key <const> = overtaker(self, entry)
        if later then
            entry.reply = redirect.changed(entry.reply, ("not sent again, because a later %s of this pipeline has run, "
                .. "or may have, with the same key '%s': send both again in their order, or use a transaction"):format(
                later.name, key:sub(1, 60)))
        else
            list[#list + 1] = entry
        end
    end
    if #held > 0 then
        table.sort(list, by_index)
    end
    return list
end

--- Whether no earlier command that has one of its keys waits or goes elsewhere. `earlier`: by key the node of the last
--- one; false: it waits.
local function is_free(entry, node, earlier)
    for _, key in ipairs(entry.keys or {}) do
        local before <const> = earlier[tostring(key)]
        if before == false or before and before ~= node then
            return false
        end
    end
    return true
end

--- The commands for which `ready(entry)` is true, unless they must wait for earlier ones, and the others.
local function select_ready(entries, topology, ready, holds_up)
    local now <const>, held <const>, earlier <const> = {}, {}, {}
    for _, entry in ipairs(entries) do
        local shard <const> = entry.slot and topology:shard(entry.slot)
        local node <const> = entry.node or shard and shard.primary or false
        local goes <const> = ready(entry) and is_free(entry, node, earlier)
        for _, key in ipairs(entry.keys or {}) do
            earlier[tostring(key)] = goes and not holds_up(entry) and node
        end
        local list <const> = goes and now or held
        list[#list + 1] = entry
    end
    return now, held
end

local function always() return true end
local function never() return false end
local function goes_at_once(entry) return not entry.waits end
local function has_split_keys(entry) return entry.reply.code == "TRYAGAIN" and entry.waits end

---The commands to send now, and those to hold back because an earlier command with one of their keys goes to another
---node, or waits until its keys have moved. Those that need not wait come first: what ASK said holds for the moment.
---@param entries dbrun.redis.Entry[] in the order of the pipeline
---@param topology dbrun.redis.Topology
---@return dbrun.redis.Entry[] now
---@return dbrun.redis.Entry[] held
---@return boolean wait before they are sent
function Order.split(entries, topology)
    local now, held = select_ready(entries, topology, goes_at_once, never)
    local wait <const> = #now == 0
    if wait then
        now, held = select_ready(entries, topology, always, has_split_keys)
    end
    for _, entry in ipairs(held) do
        entry.node, entry.asking = nil, false
        entry.waits = entry.waits and not wait -- then it is tried with those of its node
    end
    return now, held, wait
end

return Order
