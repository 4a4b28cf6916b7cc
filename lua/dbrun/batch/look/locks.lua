--- The locks that a transaction holds, except those on the catalogs and on temporary tables.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

local LOCKS <const> = catalog.sql [[
select coalesce(n.nspname::{text}, '') as schema, coalesce(c.relname::{text}, '') as name,
    coalesce(c.relkind::{text}, '') as kind, l.locktype as type, l.mode
from {pg_locks} l left join {pg_class} c on c.oid {=} l.relation left join {pg_namespace} n on n.oid {=} c.relnamespace
where l.pid {=} {pg_backend_pid}() and l.granted and (l.locktype {=} 'advisory' or l.locktype {=} 'relation'
    and c.relpersistence {<>} 't' and n.nspname {<>} all (array['pg_catalog', 'pg_toast']::{name}[]))
order by n.nspname, c.relname, l.mode]]

--- Locks by strength, the weakest first.
local ORDER <const> = {
    AccessShareLock = 1, RowShareLock = 2, RowExclusiveLock = 3, ShareUpdateExclusiveLock = 4, ShareLock = 5,
    ShareRowExclusiveLock = 6, ExclusiveLock = 7, AccessExclusiveLock = 8,
}

---@class dbrun.batch.Lock
---@field table string
---@field mode string the strongest one
---@field blocks boolean it blocks sessions that read or write the table

---@param conn table in the transaction
---@return dbrun.batch.Lock[] locks of tables, not of their indexes
---@return integer others advisory locks
function M.of(conn)
    local list <const>, by_name <const>, others = {}, {}, 0
    for _, row in ipairs(conn:query(LOCKS)) do
        local order <const> = ORDER[row.mode] or 0
        if row.type ~= "relation" then
            others = others + 1
        elseif row.kind ~= "i" and row.kind ~= "I" then
            local name <const> = row.schema == "public" and row.name or row.schema .. "." .. row.name
            local known <const> = by_name[name]
            if not known then
                by_name[name] = { table = name, mode = row.mode, order = order }
                list[#list + 1] = by_name[name]
            elseif order > known.order then
                known.mode, known.order = row.mode, order
            end
        end
    end
    for _, lock in ipairs(list) do lock.blocks, lock.order = lock.order > 3, nil end
    return list, others
end

return M
