--- The leaves of a table: partitions, or chunks of a hypertable. If the key begins with the partition key, ranges are
--- cut at the leaves' last keys, so that each statement of the job reads few leaves. The leaves at the start are
--- recorded, so that lost ones can be reported.
local catalog <const> = require "dbrun.db.catalog"
local steps <const> = require "dbrun.batch.walk.step"

local M = {}

local LEAVES <const> = catalog.sql [[
with recursive t(oid) as (select h.inhrelid from {pg_inherits} h where h.inhparent {=} $1::{oid} union all
    select h.inhrelid from t join {pg_inherits} h on h.inhparent {=} t.oid)
select c.oid::{int8} as oid, n.nspname::{text} as schema, c.relname::{text} as name, c.relkind::{text} as kind
from t join {pg_class} c on c.oid {=} t.oid join {pg_namespace} n on n.oid {=} c.relnamespace
where c.relkind {=} any (array['r', 'f']::{char}[]) order by n.nspname, c.relname]]

local EXIST <const> = catalog.sql "select c.oid::{int8} as oid from {pg_class} c where c.oid {=} any ($1::{oid}[])"

---@class dbrun.batch.Leaf
---@field oid integer
---@field schema string
---@field name string
---@field kind "r"|"f"

---@param conn table
---@param oid integer
---@return dbrun.batch.Leaf[]
function M.of(conn, oid)
    return catalog.rows(conn, LEAVES, { name = "string", kind = "string" }, oid)
end

--- More parts than this make no noticeable difference.
local MOST_CUTS <const> = 500

---A query for the keys at which a range is cut, with `:after` and `:upto`: rows with `bound`.
---@param walk dbrun.batch.Walk
---@param leaves dbrun.batch.Leaf[]
---@param open boolean
---@return string? sql nil: there is nothing to cut
function M.cuts(walk, leaves, open)
    local names <const> = {}
    local stride <const> = math.ceil(#leaves / MOST_CUTS)
    for i = 1, #leaves, math.max(stride, 1) do
        if leaves[i].kind == "r" then names[#names + 1] = walk.quote { leaves[i].schema, leaves[i].name } end
    end
    return #names > 0 and steps.cuts(walk, names, open) or nil
end

---The leaves in a job's identity: their oids and names, up to a limit.
local MOST_KEPT <const> = 2000

---@param leaves dbrun.batch.Leaf[]
---@return {oids: integer[], names: string[]}? kept nil: there are none
function M.kept(leaves)
    if #leaves == 0 or #leaves > MOST_KEPT then return nil end
    local kept <const> = { oids = {}, names = {} }
    for i, leaf in ipairs(leaves) do
        kept.oids[i] = leaf.oid
        kept.names[i] = leaf.schema == "public" and leaf.name or leaf.schema .. "." .. leaf.name
    end
    return kept
end

---The recorded leaves that are gone.
---@param conn table
---@param oid integer the table
---@param kept? {oids: integer[], names: string[]}
---@return {name: string, exists: boolean}[] gone exists: it was detached, and is a table of its own
function M.gone(conn, oid, kept)
    if not kept then return {} end
    local here <const>, exists <const>, gone <const> = {}, {}, {}
    for _, leaf in ipairs(M.of(conn, oid)) do here[leaf.oid] = true end
    for _, row in ipairs(conn:query(EXIST, require("dbrun.db").array(kept.oids, "oid"))) do exists[row.oid] = true end
    for i, leaf in ipairs(kept.oids) do
        if not here[leaf] then gone[#gone + 1] = { name = kept.names[i], exists = exists[leaf] or false } end
    end
    return gone
end

return M
