--- The rows that a dry run would have changed, by table, from the server's counters of the transaction, which include
--- cascades and triggers. They also count work that was rolled back to a savepoint; that is subtracted.
local catalog <const> = require "dbrun.db.catalog"
local columns <const> = require "dbrun.dry.columns"
local command_line <const> = require "dbrun.command_line"

local M = {}

---@alias dbrun.dry.Counts table<integer, integer[]> inserted, updated, deleted, by the table's oid

---User tables that the transaction has changed.
M.SQL = catalog.sql [[
select x.oid::{int8} as oid, x.i, x.u, x.d
from (select c.oid, {pg_stat_get_xact_tuples_inserted}(c.oid) as i, {pg_stat_get_xact_tuples_updated}(c.oid) as u,
             {pg_stat_get_xact_tuples_deleted}(c.oid) as d
      from {pg_class} c
      where (c.relkind {=} 'r' or c.relkind {=} 'm') and c.relpersistence {<>} 't' and c.oid {>=} 16384
      offset 0) x
where x.i {>} 0 or x.u {>} 0 or x.d {>} 0]]

---The names, as they are written without a schema where the search_path finds them; a partition counts for its table.
M.NAMES = catalog.sql [[
select c.oid::{int8} as oid, r.oid::{regclass}::{text} as name, r.relname::{text} as relation
from {pg_class} c join {pg_class} r on r.oid {=} coalesce({pg_partition_root}(c.oid), c.oid)
where c.oid {=} any ($1::{oid}[])]]

--- The server counts no rows of foreign tables.
M.FOREIGN = catalog.sql [[
select c.oid::{regclass}::{text} as name from {pg_class} c
where c.relkind {=} 'f' and c.relname::{text} {=} any ($1::{text}[]) order by 1]]

--- Whether anything was written, including work that was rolled back to a savepoint.
M.WROTE = catalog.sql "select {txid_current_if_assigned}() is not null"

M.TRACKED = catalog.sql "select {current_setting}('track_counts') {=} 'on'"

---@param rows table[] of M.SQL
---@return dbrun.dry.Counts
function M.read(rows)
    local counts <const> = {}
    for _, row in ipairs(rows) do counts[row.oid] = { row.i, row.u, row.d } end
    return counts
end

local NONE <const> = { 0, 0, 0 }

---a + factor * (b - c), as a new table.
---@param a dbrun.dry.Counts
---@param factor integer
---@param b dbrun.dry.Counts
---@param c dbrun.dry.Counts
---@return dbrun.dry.Counts
function M.add(a, factor, b, c)
    local sum <const> = {}
    for oid, one in pairs(a) do sum[oid] = one end
    for oid, one in pairs(b) do
        local old <const>, before <const>, row = sum[oid] or NONE, c[oid] or NONE, {}
        for i = 1, 3 do row[i] = old[i] + factor * (one[i] - before[i]) end
        sum[oid] = row
    end
    return sum
end

---The decrease of the counters of tables, as negative numbers.
---@param before dbrun.dry.Counts
---@param after dbrun.dry.Counts
---@return dbrun.dry.Counts
function M.lost(before, after)
    local lost <const> = {}
    for oid, old in pairs(before) do
        local new <const>, row = after[oid] or NONE, {}
        for i = 1, 3 do row[i] = math.min(0, new[i] - old[i]) end
        lost[oid] = row
    end
    return lost
end

local WORDS <const> = { "inserted", "updated", "deleted" }

---@class dbrun.dry.TableCounts
---@field name string
---@field counts integer[]
---@field named boolean a statement names it; else it was changed by a cascade or a trigger

---One line for each table.
---@param tables table<string, dbrun.dry.TableCounts>
---@return string[]
function M.lines(tables)
    local list = {}
    for _, one in pairs(tables) do
        local words = {}
        for i, word in ipairs(WORDS) do
            if one.counts[i] > 0 then words[#words + 1] = ("%s %s"):format(command_line.count(one.counts[i]), word) end
        end
        if #words > 0 then
            local text = table.concat(words, ", ") .. (one.named and "" or " (by a cascade, a trigger or a function)")
            list[#list + 1] = { one.name, text }
        end
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
    return columns.lines(list)
end

return M
