--- The facts that dbrun queries from a PostgreSQL server, in groups of columns. All are queried at once; if one is
--- refused (a managed service without the function, a role that may not call it), each group is queried alone. They
--- call the functions below the views (pg_stat_activity, pg_settings ...), because planning a view needs catalogs that
--- a new connection has to load first.
local catalog <const> = require "dbrun.db.catalog"
local relations <const> = require "dbrun.verify.relations"

local M = {}

---@class dbrun.verify.FactGroup
---@field name string
---@field sql string the columns, of one row
---@field since? integer the first major version that has it

---@type dbrun.verify.FactGroup[]
M.groups = {}

local function group(name, sql, since)
    M.groups[#M.groups + 1] = { name = name, sql = sql, since = since }
end

--- Facts that every server has: without them the other checks have nothing to judge.
group("server", ([[
{current_setting}('server_version') as version,
       {current_setting}('server_version_num')::int as version_num, current_user::{text} as role,
       {current_setting}('server_encoding') as encoding, {current_setting}('client_encoding') as client_encoding,
       {current_setting}('TimeZone') as timezone, {current_setting}('transaction_read_only') {=} 'on' as read_only,
       {pg_backend_pid}() as pid,
       {current_setting}('max_connections')::int as max_connections,
       coalesce({current_setting}('superuser_reserved_connections', true)::int, 0)
           {+} coalesce({current_setting}('reserved_connections', true)::int, 0) as reserved,
       {current_setting}('is_superuser') {=} 'on' as superuser,
       (select datconnlimit from {pg_database} where datname {=} {current_database}()) as database_limit,
       (select rolconnlimit from {pg_roles} where rolname {=} current_user) as role_limit,
       %s is not null as timescale,
       array(select array[extname::{text}, extversion] from {pg_extension}) as extensions]]):format(
    relations.at("'timescaledb_information'", "'hypertables'")))

--- Only the clock is found by the search_path, so that a role can be given another one.
group("clock", "extract(epoch from clock_timestamp())::{float8} as clock")

group("settings", [[
array(select coalesce({current_setting}(n, true), '')
               from {unnest}(array['fsync', 'full_page_writes', 'autovacuum', 'track_counts', 'archive_mode',
                                   'autovacuum_freeze_max_age', 'autovacuum_multixact_freeze_max_age',
                                   'archive_command', 'archive_library']) n) as settings]])

group("recovery", "{pg_is_in_recovery}() as standby")

group("uptime", "extract(epoch from {clock_timestamp}() {-} {pg_postmaster_start_time}())::{float8} as uptime")

--- The server hides all but process, role and database of another role's session from a role that is neither that one
--- nor pg_read_all_stats.
group("sessions", [[
array(select pid from {pg_stat_get_activity}(null) where backend_type {=} 'client backend'
                 or backend_type is null and datid is not null and usesysid is not null) as sessions,
       (select {count}(*)::int from {pg_stat_get_activity}(null)
         where backend_type is null and datid is not null and usesysid is not null) as hidden,
       array(select pid from {pg_stat_get_activity}(null) where usesysid {=} (
             select oid from {pg_roles} where rolname {=} current_user and rolconnlimit {>=} 0)) as of_role,
       array(select pid from {pg_stat_get_activity}(null) where usesysid is not null and datid {=} (
             select oid from {pg_database} where datname {=} {current_database}() and datconnlimit {>=} 0))
           as of_database,
       (select array[pid::{text}, extract(epoch from {clock_timestamp}() {-} xact_start)::{text}, state,
                     application_name]
          from {pg_stat_get_activity}(null) where backend_type {=} 'client backend' and pid {<>} {pg_backend_pid}()
           and xact_start is not null order by xact_start limit 1) as oldest,
       (select array[pid::{text}, extract(epoch from {clock_timestamp}() {-} state_change)::{text}, application_name]
          from {pg_stat_get_activity}(null) where state {~~} 'idle in transaction%'
         order by state_change limit 1) as idle,
       (select ssl or gss_enc from {pg_stat_get_activity}({pg_backend_pid}())) as encrypted]])

group("remote", [[
{inet_client_addr}() {<>} {inet_server_addr}() and not {inet_client_addr}() {<<} '127.0.0.0/8'::{inet} as remote]])

group("locks", [[
array(select array[pid::{text}, waits::{text}, relation, {array_to_string}({pg_blocking_pids}(pid), ', ')]
               from (select l.pid, extract(epoch from {clock_timestamp}() {-} coalesce(
                            ({to_jsonb}(l) {->>} 'waitstart')::{timestamptz}, a.query_start))::{float8},
                            case when l.database {=} (select oid from {pg_database}
                                                       where datname {=} {current_database}())
                                 then l.relation::{regclass}::{text} end
                       from {pg_lock_status}() l left join lateral {pg_stat_get_activity}(l.pid) a on true
                      where not l.granted order by 2 desc nulls last limit 10) w (pid, waits, relation)) as waiting]])

group("prepared", [[
array(select array[gid, extract(epoch from {clock_timestamp}() {-} prepared)::{text}, ownerid::{regrole}::{text},
                          (select datname::{text} from {pg_database} where oid {=} dbid)]
               from {pg_prepared_xact}() order by prepared limit 10) as prepared]])

--- A session that has written holds back the horizon by its transaction id, and has no snapshot while it is idle. The
--- server shows both of every session, even if it hides the rest.
group("xmin_horizon", [[
(select array[kind, name, old::{text}] from (
            select case when backend_type {=} 'walsender' then 'the standby of WAL sender'
                        else 'the transaction of backend' end,
                   pid::{text}, greatest({age}(backend_xmin), {age}(backend_xid)) from {pg_stat_get_activity}(null)
             where coalesce(backend_xmin, backend_xid) is not null and pid {<>} {pg_backend_pid}()
            union all
            select 'the replication slot', slot_name::{text}, greatest({age}(xmin), {age}(catalog_xmin))
              from {pg_get_replication_slots}() where coalesce(xmin, catalog_xmin) is not null
            union all
            select 'the prepared transaction', gid, {age}(transaction) from {pg_prepared_xact}()) h (kind, name, old)
         order by old desc limit 1) as horizon]])

group("replication", [[
array(select coalesce(extract(epoch from replay_lag), 0)::{float8} from {pg_stat_get_wal_senders}()
              where state is null or state {<>} 'backup') as replicas,
       (select {count}(*)::int from {pg_stat_get_wal_senders}() where state is null) as hidden_replicas,
       array(select array[slot_name::{text}, coalesce({pg_wal_lsn_diff}(case when {pg_is_in_recovery}()
                          then {pg_last_wal_replay_lsn}() else {pg_current_wal_lsn}() end, restart_lsn), 0)::{text},
                          active::{text}, wal_status]
               from {pg_get_replication_slots}() where restart_lsn is not null or wal_status {=} 'lost') as slots]])

group("receiver", [[
case when {pg_is_in_recovery}() and ({pg_last_wal_receive_lsn}() {=} {pg_last_wal_replay_lsn}()) is not true
            then extract(epoch from {clock_timestamp}() {-} {pg_last_xact_replay_timestamp}())::{float8} end as behind,
       (select pid from {pg_stat_get_wal_receiver}()) is not null as receiving]])

group("archiving", [[
(select array[extract(epoch from {clock_timestamp}() {-} coalesce(last_archived_time, stats_reset))::{text},
                     last_failed_wal, failed_count::{text}]
          from {pg_stat_get_archiver}()
         where last_failed_time {>} coalesce(last_archived_time, '-infinity')) as archiving]])

group("wraparound", [[
(select array[datname::{text}, {age}(datfrozenxid)::{text}] from {pg_database}
         order by {age}(datfrozenxid) desc limit 1) as age,
       (select array[datname::{text}, {mxid_age}(datminmxid)::{text}] from {pg_database}
         order by {mxid_age}(datminmxid) desc limit 1) as mxid_age]])

--- For each table, the number of dead rows from which autovacuum would vacuum it.
group("dead_rows", [[
array(select array[t.name, t.dead::{text}, t.live::{text}, least(
                    coalesce((select option_value from {pg_options_to_table}(t.reloptions)
                               where option_name {=} 'autovacuum_vacuum_threshold'),
                             {current_setting}('autovacuum_vacuum_threshold'))::{float8}
                    {+} (coalesce((select option_value from {pg_options_to_table}(t.reloptions)
                               where option_name {=} 'autovacuum_vacuum_scale_factor'),
                             {current_setting}('autovacuum_vacuum_scale_factor'))::{float8}
                    {*} greatest(t.reltuples, 0)),
                    (select m::{float8} from {current_setting}('autovacuum_vacuum_max_threshold', true) m
                      where m::{float8} {>} 0))::{text}]
               from (select oid::{regclass}::{text}, {pg_stat_get_dead_tuples}(oid), {pg_stat_get_live_tuples}(oid),
                            reloptions, reltuples
                       from {pg_class} where (relkind {=} 'r' or relkind {=} 'm') and relpersistence {<>} 't'
                        and {pg_stat_get_dead_tuples}(oid) {>} 10000
                      order by 2 desc limit 10) t (name, dead, live, reloptions, reltuples)) as dead]])

group("autovacuum", [[
array(select oid::{regclass}::{text} from {pg_class}
              where relkind {=} 'r' and relpersistence {=} 'p' and reltuples {<=} 0
                and {pg_stat_get_live_tuples}(oid) {>} 10000 and {pg_stat_get_last_analyze_time}(oid) is null
                and {pg_stat_get_last_autoanalyze_time}(oid) is null
              order by {pg_stat_get_live_tuples}(oid) desc limit 10) as unanalyzed]])

group("invalid_indexes", [[
array(select indexrelid::{regclass}::{text} from {pg_index}
              where not indisvalid and not indexrelid::bigint {=} any (
                    select param7 from {pg_stat_get_progress_info}('CREATE INDEX') where param7 is not null)
                and (select relkind from {pg_class} where oid {=} indexrelid) {=} 'i') as invalid,
       (select {count}(*)::int from {pg_stat_get_progress_info}('CREATE INDEX') where param7 is null) as building]])

--- A sequence ends where its column does: an integer fed by a sequence of bigint stops at 2^31.
--- OFFSET 0 keeps the planner from repeating the inner queries for each use of `used` and `most`: that was a third of
--- the time for all facts.
group("sequences", [[
array(select array[name, used::{text}, most::{text}, (used {/} most)::{text}] from (
         select s.seqrelid::{regclass}::{text},
                abs({pg_sequence_last_value}(s.seqrelid)::{float8}),
                least(abs(case when s.seqincrement {>} 0 then s.seqmax else s.seqmin end::{float8}),
                      (select {min}(case a.atttypid when 20 then 9223372036854775807 when 23 then 2147483647
                                                    when 21 then 32767 end)::{float8}
                         from {pg_depend} d join {pg_attribute} a on a.attrelid {=} d.refobjid
                          and a.attnum {=} d.refobjsubid
                        where d.classid {=} 1259 and d.objid {=} s.seqrelid and d.refclassid {=} 1259
                          and d.refobjsubid {>} 0),
                      (select {min}(case a.atttypid when 23 then 2147483647 when 21 then 32767 end)::{float8}
                         from {pg_depend} d join {pg_attrdef} f on d.classid {=} 2604 and f.oid {=} d.objid
                         join {pg_attribute} a on a.attrelid {=} f.adrelid and a.attnum {=} f.adnum
                        where d.refclassid {=} 1259 and d.refobjid {=} s.seqrelid))
           from {pg_sequence} s join {pg_class} c on c.oid {=} s.seqrelid
          where not s.seqcycle
            and case when c.relpersistence {=} 'p' and {has_sequence_privilege}(s.seqrelid, 'USAGE, SELECT')
                     then {pg_sequence_last_value}(s.seqrelid) is not null end offset 0) q (name, used, most)
          where most {>} 0 order by used {/} most desc limit 10) as sequences,
       array(select distinct relnamespace::{regnamespace}::{text} from {pg_class}
              where case when relkind {=} 'S' and relpersistence {=} 'p'
                         then not {has_sequence_privilege}(oid, 'USAGE, SELECT') end) as unread]])

group("unchecked", [[
array(select array[{concat}(case when conrelid {=} 0 then contypid::{regtype}::{text}
                                   else conrelid::{regclass}::{text} end, ': ', conname),
                          {to_jsonb}(c) {->>} 'conenforced']
               from {pg_constraint} c where not convalidated limit 20) as unvalidated,
       array(select {concat}(tgrelid::{regclass}::{text}, ': ', tgname) from {pg_trigger}
              where tgenabled {=} 'D' limit 20) as disabled]])

group("replica_identity", [[
array(select distinct c.oid::{regclass}::{text} from {pg_publication} p
         cross join lateral {pg_get_publication_tables}(p.pubname::{text}) g join {pg_class} c on c.oid {=} g.relid
        where (p.pubupdate or p.pubdelete) and (c.relreplident {=} 'n' or c.relreplident {=} 'd' and not exists (
               select from {pg_index} i where i.indrelid {=} c.oid and i.indisprimary and i.indimmediate)
               or c.relreplident {=} 'i' and not exists (
               select from {pg_index} i where i.indrelid {=} c.oid and i.indisreplident))) as unidentified]])

group("checksums", [[
(select {sum}({pg_stat_get_db_checksum_failures}(oid))::{int8} from {pg_database}) as checksum_failures]])

--- Collations that something in this database uses.
group("collations", [[
array(select {concat}(collname, ': ', collversion, ', now ', {pg_collation_actual_version}(oid))
               from {pg_collation}
              where oid {=} any (array(select refobjid from {pg_depend}
                                        where refclassid {=} 'pg_catalog.pg_collation'::{regclass}::{oid}))
                and collversion {<>} {pg_collation_actual_version}(oid)) as collations]])

group("database_collation", [[
(select {concat}('the database: ', datcollversion, ', now ', {pg_database_collation_actual_version}(oid))
          from {pg_database} where datname {=} {current_database}()
           and datcollversion {<>} {pg_database_collation_actual_version}(oid)) as database_collation]], 15)

group("pending_restart", [[
array(select name from {pg_show_all_settings}() where pending_restart) as pending,
       {pg_has_role}('pg_read_all_settings', 'USAGE') as all_settings]])

---@param groups dbrun.verify.FactGroup[]
---@return string sql one SELECT for all of them; without a join, which would take the planner longer than the rest
function M.sql(groups)
    local parts = {}
    for i, one in ipairs(groups) do parts[i] = one.sql end
    return catalog.sql("select " .. table.concat(parts, ",\n"))
end

return M
