--- The probable holder after a chunk has given up waiting for a lock: the oldest transaction, other than the job's,
--- that holds a write lock on the walked table. Which row it has locked is unknown.
local catalog = require "dbrun.db.catalog"

local M = {}

local OLDEST <const> = catalog.sql [[
select {format}('pid %s%s%s%s', l.pid,
       case when a.application_name {<>} '' then {concat}(', app "', a.application_name, '"') end,
       case when a.state {=} 'idle in transaction' then ', idle in transaction' end,
       {format}(', open for %s s', {round}(extract(epoch from ({clock_timestamp}() {-} a.xact_start))))) as who
  from {pg_locks} l left join {pg_stat_activity} a on a.pid {=} l.pid
 where l.relation {=} $1 and l.granted and l.locktype {=} 'relation' and l.pid {<>} {pg_backend_pid}()
   and l.mode {<>} all (array['AccessShareLock', 'ShareUpdateExclusiveLock'])
   and not coalesce(a.application_name {~} '^dbrun batch ', false)
 order by a.xact_start nulls last limit 1]]

---@param conn table
---@param oid? integer of the table
---@return string? who "pid 812, app "crm", idle in transaction, open for 240 s"; nil when it is gone, or not known
function M.of(conn, oid)
    return oid and conn:value(OLDEST, oid) or nil
end

return M
