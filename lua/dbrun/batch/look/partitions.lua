--- Partitions (or chunks of a hypertable) of which every row matches `where`: the planner proves it, no row is read.
--- Dropping them is faster than deleting their rows.
local facts <const> = require "dbrun.batch.look.facts"
local json <const> = require "dbrun.json"
local reading <const> = require "dbrun.batch.look.reading"
local walk_facts <const> = require "dbrun.batch.walk.facts"

local M = {}

local PATIENCE <const> = 1 -- seconds

local function add_relations(node, found)
    if node["Relation Name"] then found[(node.Schema or "") .. "\0" .. node["Relation Name"]] = true end
    for _, child in ipairs(node.Plans or {}) do add_relations(child, found) end
end

---@class dbrun.batch.Partitions
---@field total integer
---@field whole string[] names of partitions of which every row matches
---@field bytes integer of these
---@field is_hypertable boolean

---@param conn table
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param named table<string, any>
---@return dbrun.batch.Partitions? found nil: the table has none
function M.of(conn, definition, walk, named)
    local leaves <const> = facts.leaves(conn, walk.oid)
    if #leaves == 0 then return nil end
    local relation <const> = walk_facts.relation(conn, walk.relation)
    local found <const> = { total = #leaves, whole = json.array {}, bytes = 0,
        is_hypertable = relation ~= nil and walk_facts.hypertable(conn, relation) ~= nil }
    -- Those that the planner prunes have no row that does not match.
    local plan <const> = reading.try(conn, definition, PATIENCE, function(tx)
        return reading.plan(tx, ("select 1 from %s as %s where not (%s\n)"):format(walk.relation, walk.alias,
            definition.where or "true"), named, "verbose, ")
    end)
    if not plan then return found end
    local seen <const> = {}
    add_relations(plan, seen)
    for _, leaf in ipairs(leaves) do
        if not seen[leaf.schema .. "\0" .. leaf.name] then
            found.whole[#found.whole + 1] = leaf.schema == "public" and leaf.name or leaf.schema .. "." .. leaf.name
            found.bytes = found.bytes + leaf.bytes
        end
    end
    return found
end

return M
