--- dbrun's own records beside the table of versions: the file, its checksum, how long it took, who ran it and when, and
--- the progress of a migration without a transaction. dbmate does not need this table.
---
--- A row with `direction` is a migration in progress or interrupted: `done` of its statements took effect; `at_work` is
--- a statement that was started outside a transaction and whose end is not recorded.
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"

local M = {}

---@class dbrun.migrate.Record
---@field version string
---@field name string
---@field checksum string of the file when it ran
---@field seconds? number
---@field applied_at? string
---@field applied_by? string
---@field direction? "up"|"down" set: the migration is half done
---@field done integer statements that took effect
---@field done_checksum? string of those statements
---@field at_work? integer
---@field before? string JSON: the state before the statement in `at_work`
---@field session? string JSON: what the statements before changed in their session (dbrun.migrate.run.state)

local COLUMNS <const> = catalog.sql [[
(version varchar primary key, name {text} not null, checksum {text}, seconds double precision,
 applied_at timestamp with time zone, applied_by {text}, applied_from {text},
 direction {text}, done integer not null default 0, done_checksum {text}, at_work integer, before {text},
 backend_pid integer, backend_start timestamp with time zone, session {text})]]

---The table's name in SQL, for a ledger.
---@param book dbrun.migrate.Ledger
---@return string
function M.table(book)
    return ('"%s"."%s_dbrun"'):format(book.schema:gsub('"', '""'), (book.name:gsub('"', '""')))
end

---@param conn table
---@param book dbrun.migrate.Ledger
---@return boolean
function M.exist(conn, book)
    return conn:value(catalog.sql "select {to_regclass}($1) is not null", M.table(book))
end

local HAS_SESSION <const> = catalog.sql [[
select {to_regclass}($1) is not null as there, exists (select from {pg_attribute}
    where attrelid {=} {to_regclass}($1) and attname {=} 'session' and not attisdropped) as current]]

---Makes the table if it is missing, and adds columns that one of an older version lacks. The schema must exist.
---@param conn table
---@param book dbrun.migrate.Ledger
function M.create(conn, book)
    local found <const> = conn:one(HAS_SESSION, M.table(book))
    if found.there and not found.current then
        conn:exec((catalog.sql "alter table %s add column if not exists session {text}"):format(M.table(book)))
    end
    if found.there then return end
    conn:exec(("create table if not exists %s %s"):format(M.table(book), COLUMNS))
end

---All records by version.
---@param conn table
---@param book dbrun.migrate.Ledger
---@return table<string, dbrun.migrate.Record>
function M.all(conn, book)
    local by_version = {}
    if not M.exist(conn, book) then return by_version end
    for _, row in ipairs(conn:query(catalog.sql([[
        select version::{text} as version, name, checksum, seconds, applied_at, applied_by, applied_from, direction,
               done, done_checksum, at_work, before from %s]]):format(M.table(book)))) do
        by_version[row.version] = row
    end
    return by_version
end

---@param conn table
---@param book dbrun.migrate.Ledger
---@param version string
---@return dbrun.migrate.Record?
function M.one(conn, book, version)
    return conn:one(catalog.sql([[
        select version::{text} as version, name, checksum, direction, done, done_checksum, at_work, before, session
          from %s where version::{text} {=} $1]]):format(M.table(book)), version)
end

---@param conn table
---@param book dbrun.migrate.Ledger
---@return table<string, integer> done the number of statements that took effect, by version of half-done migrations
function M.half(conn, book)
    local done = {}
    for _, row in ipairs(conn:query(catalog.sql([[
        select version::{text} as version, done from %s where direction is not null and done {>} 0]]):format(
        M.table(book)))) do
        done[row.version] = row.done
    end
    return done
end

---The half-done migrations, by version; none if this role may not read the table.
---@param conn table
---@param book dbrun.migrate.Ledger
---@return table<string, dbrun.migrate.Record>
function M.unfinished(conn, book)
    local by_version = {}
    if not conn:value(catalog.sql "select {has_table_privilege}({to_regclass}($1), 'select')", M.table(book)) then
        return by_version
    end
    for _, row in ipairs(conn:query(catalog.sql([[
        select version::{text} as version, name, direction, done, at_work from %s where direction is not null]]):format(
        M.table(book)))) do
        by_version[row.version] = row
    end
    return by_version
end

---The progress of a half-done migration.
---@param record dbrun.migrate.Record with a direction
---@return string
function M.how_far(record)
    return ("half done (%s): %d of its statements took effect%s"):format(record.direction, record.done,
        record.at_work and (", number %d was interrupted"):format(record.at_work) or "")
end

local place

---Who runs this program, and where.
local function from()
    if place then return place end
    local process = require "dbrun.process"
    local handle <close> = io.open("/proc/sys/kernel/hostname", "r")
    local host = handle and handle:read "l"
    local user = process.user and process.user(process.uid())
    place = ("%s%s"):format(user and user.name or "?", host and "@" .. host or "")
    return place
end

local APPLIED <const> = catalog.sql [[
insert into %s (version, name, checksum, seconds, applied_at, applied_by, applied_from)
values ($1, $2, $3, $4, {clock_timestamp}(), session_user, $5)
on conflict (version) do update set name = excluded.name, checksum = excluded.checksum,
    seconds = excluded.seconds, applied_at = excluded.applied_at, applied_by = excluded.applied_by,
    applied_from = excluded.applied_from, direction = null, done = 0, done_checksum = null,
    at_work = null, before = null, backend_pid = null, backend_start = null, session = null]]

---Records that a migration is applied.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param file dbrun.migrate.File
---@param checksum string
---@param seconds? number nil: only recorded, not run
function M.applied(conn, book, file, checksum, seconds)
    conn:query(APPLIED:format(M.table(book)), file.version, file.name, checksum, seconds, from())
end

---@param conn table
---@param book dbrun.migrate.Ledger
---@param version string
function M.delete(conn, book, version)
    conn:query((catalog.sql "delete from %s where version::{text} {=} $1"):format(M.table(book)), version)
end

---Records how many statements took effect. In the transaction of a statement it is committed with that statement.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param work dbrun.migrate.Work
---@param done integer
---@param done_checksum string
---@param session? string what they changed in their session
---@param before? { direction?: string, done: integer } what the row must say so far (default: anything)
---Raises an error of kind `query` when the row says something else, because another run was active.
function M.progress(conn, book, work, done, done_checksum, session, before)
    local rows <const> = conn:query(catalog.sql([[
        insert into %s as r (version, name, checksum, direction, done, done_checksum, session)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (version) do update set direction = excluded.direction, done = excluded.done,
            done_checksum = excluded.done_checksum, checksum = coalesce(r.checksum, excluded.checksum),
            at_work = null, before = null, backend_pid = null, backend_start = null, session = excluded.session
         where $8 or coalesce(r.direction, '') {=} $9 and r.done {=} $10 returning 1 as noted]]):format(M.table(book)),
        work.file.version, work.file.name, work.checksum, work.direction, done, done_checksum, session,
        before == nil, before and before.direction or "", before and before.done or 0)
    if #rows == 0 then
        errors.fail("query", ("%s: another run has recorded statements of it meanwhile"):format(work.file.name),
            "wait until that run has ended, then start again")
    end
end

---Records what the statements so far changed in their session.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param version string
---@param session? string
function M.session(conn, book, version, session)
    conn:query((catalog.sql "update %s set session = $2 where version::{text} {=} $1"):format(M.table(book)), version,
        session)
end

---Records the start of a statement that cannot run in a transaction with this record.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param work dbrun.migrate.Work
---@param number integer
---@param before? string
function M.begin(conn, book, work, number, before)
    conn:query(catalog.sql([[
        update %s set at_work = $2, before = $3, backend_pid = {pg_backend_pid}(),
               backend_start = (select backend_start from {pg_stat_activity} where pid {=} {pg_backend_pid}())
         where version::{text} {=} $1]]):format(M.table(book)), work.file.version, number, before)
end

---The server process that still runs the statement of a killed client; nil when there is none.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param version string
---@param sql string the statement
---@return integer? pid
function M.still_running(conn, book, version, sql)
    return conn:value(catalog.sql([[
        select a.pid from {pg_stat_activity} a, %s r
         where r.version::{text} {=} $1 and a.pid {<>} {pg_backend_pid}() and (a.state {=} 'idle') is not true
           and a.datname {=} {current_database}()
           and ((a.pid {=} r.backend_pid and a.backend_start {=} r.backend_start)
                or (a.application_name {=} 'dbrun migrate'
                    and {left}(a.query, 500) {=} {left}($2, 500))) limit 1]]):format(
        M.table(book)), version, sql)
end

return M
