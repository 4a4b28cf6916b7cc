--- One query about the state of the PostgreSQL server, for all checks of the server. It calls the functions below the
--- views (pg_stat_activity, pg_settings ...), because the plan of a view needs catalogs that a new connection has to
--- load first.
local catalog <const> = require "dbrun.db.catalog"

local M = {}

---@class dbrun.verify.Server
---@field version string
---@field pid integer of the backend that answered
---@field sessions integer[] backends of clients
---@field clock number seconds since 1970
---@field [string] any

--- The clock alone is found by the search_path, so that a role can be given another one.
local FACTS <const> = catalog.sql [[
with a as materialized (
    select pid, state, xact_start, application_name from {pg_stat_get_activity}(null)
     where backend_type {=} 'client backend')
select {split_part}({current_setting}('server_version'), ' ', 1) as version,
       {current_setting}('server_encoding') as encoding, {current_setting}('client_encoding') as client_encoding,
       {current_setting}('TimeZone') as timezone, {pg_is_in_recovery}() as standby,
       {current_setting}('transaction_read_only') {=} 'on' as read_only,
       extract(epoch from clock_timestamp())::{float8} as clock,
       extract(epoch from {clock_timestamp}() {-} {pg_postmaster_start_time}())::{float8} as uptime,
       {pg_backend_pid}() as pid,
       {current_setting}('max_connections')::int as max_connections,
       {current_setting}('superuser_reserved_connections')::int
           {+} coalesce({current_setting}('reserved_connections', true)::int, 0) as reserved,
       {current_setting}('is_superuser') {=} 'on' as superuser,
       (select datconnlimit from {pg_database} where datname {=} {current_database}()) as database_limit,
       (select rolconnlimit from {pg_roles} where rolname {=} current_user) as role_limit,
       array(select pid from a) as sessions,
       (select array[pid::{text}, extract(epoch from {clock_timestamp}() {-} xact_start)::{text}, state,
                     application_name]
          from a where pid {<>} {pg_backend_pid}() and xact_start is not null order by xact_start limit 1) as oldest,
       (select array[datname::{text}, greatest({age}(datfrozenxid), {mxid_age}(datminmxid))::{text}]
          from {pg_database} where datallowconn
         order by greatest({age}(datfrozenxid), {mxid_age}(datminmxid)) desc limit 1) as age,
       array(select coalesce(extract(epoch from replay_lag), 0)::{float8} from {pg_stat_get_wal_senders}()
              where state is null or state {<>} 'backup') as replicas,
       array(select array[slot_name::{text},
                          {pg_wal_lsn_diff}(case when {pg_is_in_recovery}() then {pg_last_wal_replay_lsn}()
                          else {pg_current_wal_lsn}() end, restart_lsn)::{text}]
               from {pg_get_replication_slots}() where not active and restart_lsn is not null) as slots,
       case when {pg_is_in_recovery}() and ({pg_last_wal_receive_lsn}() {=} {pg_last_wal_replay_lsn}()) is not true
            then extract(epoch from {clock_timestamp}() {-} {pg_last_xact_replay_timestamp}())::{float8} end as behind,
       (select pid from {pg_stat_get_wal_receiver}()) is not null as receiving,
       array(select array[oid::{regclass}::{text}, {pg_stat_get_dead_tuples}(oid)::{text},
                          {pg_stat_get_live_tuples}(oid)::{text}]
               from {pg_class} where (relkind {=} 'r' or relkind {=} 'm') and relpersistence {<>} 't'
                and {pg_stat_get_dead_tuples}(oid) {>} 10000
              order by {pg_stat_get_dead_tuples}(oid) desc limit 10) as dead,
       array(select indexrelid::{regclass}::{text} from {pg_index}
              where not indisvalid and not indexrelid::bigint {=} any (
                    select param7 from {pg_stat_get_progress_info}('CREATE INDEX') where param7 is not null)
                and (select relkind from {pg_class} where oid {=} indexrelid) {=} 'i') as invalid,
       {to_regclass}('timescaledb_information.hypertables') is not null as timescale]]

local function with_connection(ctx, fn)
    if ctx.lease then return fn(ctx.lease) end
    local conn <close> = ctx.conn:acquire()
    return fn(conn)
end

---Runs the query, and measures the difference between the server's clock and this machine's.
---@param ctx dbrun.verify.Context
---@return dbrun.verify.Server
function M.ask(ctx)
    local time = require "dbrun.time"
    local before = time.to_epoch(time.now())
    local facts, opened_with = with_connection(ctx, function(conn) return conn:one(FACTS), conn:backend_pid() end)
    local after = time.to_epoch(time.now())
    facts.clock_ahead = facts.clock - (before + after) / 2
    facts.round_trip = after - before
    -- Behind a pooler another process answers than the one that the connection was opened with.
    facts.pooler = opened_with ~= facts.pid
    return facts
end

---@type dbrun.verify.Check
M.check = {
    name = "postgres.server",
    about = "the state of the server, which the other checks of the server use",
    needs = { "postgres.async" },
    on_conn = true,
    service = function(ctx) return require("dbrun.verify.checks_pg").async.service(ctx) end,
    run = function(ctx)
        ctx.server = M.ask(ctx)
        local s, cli = ctx.server, require "dbrun.cli"
        return {
            text = ("PostgreSQL %s, up %s, %s, max_connections %d"):format(s.version, cli.duration(s.uptime),
                cli.plural(#s.sessions, "session"), s.max_connections),
            facts = { version = s.version, uptime = s.uptime, sessions = #s.sessions,
                max_connections = s.max_connections },
        }
    end,
}

return M
