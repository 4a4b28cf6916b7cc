--- Checks that a statement reaches the walked table through the key's index. If not, each chunk would read all of it.
local catalog <const> = require "dbrun.db.catalog"
local json <const> = require "dbrun.json"

local M = {}

--- A table with at most this number of pages is read in a few milliseconds by any plan.
local FEW_PAGES <const> = 256

--- The table with its partitions, and the indexes of these that begin with the key's first column.
local OURS <const> = catalog.sql [[
with recursive t(oid) as (select $1::{oid} union all
    select h.inhrelid from t join {pg_inherits} h on h.inhparent {=} t.oid)
select n.nspname::{text} as schema, c.relname::{text} as name, c.relpages::{int8} as pages,
    c.reltuples::{float8} as rows, array(
        select ic.relname::{text} from {pg_index} i join {pg_class} ic on ic.oid {=} i.indexrelid
        join {pg_attribute} a on a.attrelid {=} i.indrelid and a.attnum {=} i.indkey[0]
        where i.indrelid {=} c.oid and a.attname {=} $2::{name}) as indexes
from t join {pg_class} c on c.oid {=} t.oid join {pg_namespace} n on n.oid {=} c.relnamespace]]

local function each_node(node, fn)
    fn(node)
    for _, child in ipairs(node.Plans or {}) do each_node(child, fn) end
end

local function key_of(schema, name) return schema .. "\0" .. name end

---The tables by name and the names of the indexes that count.
local function ours_of(conn, walk)
    local tables, indexes, pages = {}, {}, 0
    for _, row in ipairs(conn:query(OURS, walk.oid, walk.key[1].name)) do
        tables[key_of(row.schema, row.name)] = row
        pages = pages + row.pages
        for _, name in ipairs(row.indexes) do indexes[name] = true end
    end
    return tables, indexes, pages
end

local function has_condition(node, indexes)
    if node["Node Type"] == "Bitmap Heap Scan" then
        local good = false
        each_node(node, function(below)
            good = good or below["Node Type"] == "Bitmap Index Scan" and has_condition(below, indexes)
        end)
        return good
    end
    return indexes[node["Index Name"]] ~= nil and node["Index Cond"] ~= nil
end

---@return string? text the first scan that does not use the key; nil: all do, or together they read little
---@return number? rows of the tables that are read so; nil: not known
local function judge(plan, walk, tables, indexes)
    local scans, aliased = {}, {}
    each_node(plan, function(node)
        local own <const> = node["Relation Name"] and node["Node Type"]:find "Scan$"
            and tables[key_of(node.Schema or walk.schema, node["Relation Name"])]
        -- A custom scan with others below it (of a hypertable, of compressed rows) is judged by these.
        if not own or node["Node Type"] == "Custom Scan" and node.Plans then return end
        scans[#scans + 1] = node
        local alias <const> = node.Alias or ""
        if alias == walk.alias_name or alias:find("^" .. walk.alias_name:gsub("%p", "%%%0") .. "_%d+$") then
            aliased[#aliased + 1] = node
        end
    end)
    local first, pages, rows = nil, 0, 0
    for _, node in ipairs(#aliased > 0 and aliased or scans) do
        if not has_condition(node, indexes) then
            local by <const> = node["Index Name"] and (" using %s"):format(node["Index Name"]) or ""
            first = first or ("%s%s on %s"):format(node["Node Type"], by, node["Relation Name"])
            local read <const> = tables[key_of(node.Schema or walk.schema, node["Relation Name"])]
            -- The whole table, including rows that its statistics do not know yet.
            pages = pages + (#walk.leaves == 0 and math.max(read.pages, walk.pages) or read.pages)
            rows = rows and read.rows >= 0 and rows + read.rows or nil
        end
    end
    if pages > FEW_PAGES then return first, rows end
end

---Asks for the plan of a statement. The session plans as the job will (plan_cache_mode = force_custom_plan).
---@param conn table
---@param walk dbrun.batch.Walk
---@param sql string
---@param named table<string, any>
---@return string? text nil: it reaches the table through the key's index, or reads little; else why not, and the plan
---@return number? rows of the tables that it reads otherwise; nil: unknown
function M.ok(conn, walk, sql, named)
    local tables <const>, indexes <const>, pages <const> = ours_of(conn, walk)
    if math.max(pages, walk.pages) <= FEW_PAGES then return nil end
    local plan = conn:value("explain (verbose, format json) " .. sql, named)
    if type(plan) == "string" then plan = json.decode(plan) end
    local how <const>, rows <const> = judge(plan[1].Plan, walk, tables, indexes)
    if not how then return nil end
    local lines = {}
    for i, row in ipairs(conn:query({ positional = true }, "explain " .. sql, named)) do lines[i] = row[1] end
    return ("the statement does not reach %s through the index %s of its key, so that each chunk would read much more "
        .. "than its rows: %s\n%s"):format(walk.shown, walk.index, how, table.concat(lines, "\n")), rows
end

return M
