--- What prevents the removal of dead rows: the oldest session with a snapshot or a transaction id, the oldest prepared
--- transaction, and snapshots of standbys, through a WAL sender or a slot.
local ask <const> = require "dbrun.batch.signals.ask"
local words <const> = require "dbrun.batch.signals.words"

local M = {}

--- The snapshot of a vacuum does not count.
---@type dbrun.batch.Part
M.PART = {
    name = "holders",
    sql = ask.rows [[
        (select 'session' as kind, pid, application_name as application,
                (select rolname::{text} from {pg_roles} where oid {=} usesysid) as role, state, null::{text} as name,
                null::{text} as xmin, extract(epoch from {clock_timestamp}() {-} xact_start)::{float8} as seconds
           from {pg_stat_get_activity}(null)
          where datid {=} (select oid from {pg_database} where datname {=} {current_database}())
            and coalesce(backend_xmin, backend_xid) is not null and xact_start is not null
            and (backend_type {=} 'client backend' or backend_type {~~} '%apply worker%')
            and pid {<>} {pg_backend_pid}() and not pid {=} any (:ours::int[])
            and application_name {!~~} 'dbrun batch %' and not query {~~*} 'vacuum%'
          order by xact_start limit 1)
        union all
        (select 'prepared', null, null, ownerid::{regrole}::{text}, null, gid, null,
                extract(epoch from {clock_timestamp}() {-} prepared)::{float8}
           from {pg_prepared_xact}()
          where dbid {=} (select oid from {pg_database} where datname {=} {current_database}())
          order by prepared limit 1)
        union all
        select 'standby', pid, application_name, null, null, null, backend_xmin::{text}, null
          from {pg_stat_get_activity}(null) where backend_type {=} 'walsender' and backend_xmin is not null
        union all
        select 'slot', null, null, null, null, slot_name::{text}, xmin::{text}, null
          from {pg_get_replication_slots}() where xmin is not null]],
}

---@class dbrun.batch.Holders
---@field seen table<string, { xmin: string, since: number }>
local Holders = {}
local meta <const> = { __index = Holders, __name = "dbrun.batch.Holders" }

---@return dbrun.batch.Holders
function M.new() return setmetatable({ seen = {} }, meta) end

local TEXTS <const> = {
    session = function(row)
        return ("the transaction of %s%s"):format(words.session(row.pid, row.application, row.role),
            row.state and row.state ~= "active" and (", %s,"):format(words.name(row.state)) or "")
    end,
    prepared = function(row)
        return ("the prepared transaction '%s' of %s"):format(words.name(row.name), words.name(row.role))
    end,
    standby = function(row) return ("a snapshot of standby %s"):format(words.session(row.pid, row.application)) end,
    slot = function(row) return ("the snapshot that slot %s keeps"):format(words.name(row.name)) end,
}

---The oldest of them. A standby's snapshot has no time; its age counts from when it was first seen.
---@param rows table[] the column `holders`
---@param now number monotonic
---@return number seconds
---@return string? text "the transaction of pid 99 (psql), idle in transaction"
function Holders:oldest(rows, now)
    local seen <const>, most, text = {}, 0, nil
    for _, row in ipairs(rows) do
        local seconds = row.seconds
        if row.xmin then
            local key <const> = ("%s %s"):format(row.kind, row.name or row.pid)
            local before <const> = self.seen[key]
            seen[key] = before and before.xmin == row.xmin and before or { xmin = row.xmin, since = now }
            seconds = now - seen[key].since
        end
        if seconds and seconds > most then most, text = seconds, TEXTS[row.kind](row) end
    end
    self.seen = seen
    return most, text
end

return M
