--- Transactions that are open now, to wait for later, because their rows can appear after the table was read. They are
--- identified by virtual ids, as in CREATE INDEX CONCURRENTLY, because a transaction that has written nothing has no
--- transaction id. Prepared transactions are identified by their names.
local catalog = require "dbrun.db.catalog"
local settings = require "dbrun.batch.state.settings"

local M = {}

local READ <const> = catalog.sql [[
select {jsonb_build_object}(
    'server', {pg_postmaster_start_time}(),
    'open', (select coalesce({jsonb_agg}(l.virtualtransaction), '[]') from {pg_locks} l
               join {pg_stat_activity} a on a.pid {=} l.pid
               join {pg_database} d on d.oid {=} a.datid and d.datname {=} {current_database}()
              where l.locktype {=} 'virtualxid' and l.mode {=} 'ExclusiveLock' and l.granted
                and l.pid {<>} {pg_backend_pid}() and {left}(a.application_name, {length}($1)) {<>} $1
                and not exists (select from {pg_stat_progress_vacuum} v where v.pid {=} l.pid)),
    'prepared', (select coalesce({jsonb_agg}(gid), '[]') from {pg_prepared_xacts}
                  where database {=} {current_database}())) as barrier]]

local LEFT <const> = catalog.sql [[
select {format}('pid %s%s, open for %s s', l.pid,
                case when a.application_name {<>} '' then {concat}(' (', a.application_name, ')') end,
                coalesce({round}(extract(epoch from ({clock_timestamp}() {-} a.xact_start)))::{text}, '?')) as who
  from {pg_locks} l join {pg_stat_activity} a on a.pid {=} l.pid
 where l.locktype {=} 'virtualxid' and l.mode {=} 'ExclusiveLock' and l.granted
   and {pg_postmaster_start_time}() {=} (:barrier::jsonb {->>} 'server')::timestamp with time zone
   and :barrier::jsonb {->} 'open' {?} l.virtualtransaction
 union all
select {format}('the prepared transaction %L', p.gid) from {pg_prepared_xacts} p
 where p.database {=} {current_database}() and :barrier::jsonb {->} 'prepared' {?} p.gid
 order by 1 limit 1]]

---The transactions of this database that are open now, without those of this connection, of chunks of this job and of
---VACUUM.
---@param conn table
---@param name string of the job
---@return table barrier
function M.read(conn, name)
    return conn:value(READ, settings.application_name(name))
end

---A transaction that is still open.
---@param conn table
---@param barrier? table
---@return string? who nil when all have ended
function M.holder(conn, barrier)
    if not barrier then return nil end
    return conn:value(LEFT, { barrier = require("dbrun.db").json(barrier) })
end

return M
