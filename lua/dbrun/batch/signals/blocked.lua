--- Sessions that wait for a lock of a running chunk. The signal ends that chunk; it does not delay the next one,
--- because between chunks nobody is blocked. pg_locks shows waiting sessions to every role. pg_blocking_pids, which
--- briefly blocks all lock requests, is called only for sessions that wait for an object that the chunk has locked.
local ask <const> = require "dbrun.batch.signals.ask"
local words <const> = require "dbrun.batch.signals.words"

local Blocked = { name = "blocked", kind = "seconds", default = 1 }
Blocked.__index = Blocked

local NEAR <const> = 0.75 -- of the limit
local SOONEST <const> = 0.05 -- seconds until the next look

--- PostgreSQL 14 and later record when a wait began. One session that waits too long ends a chunk, so reading twenty is
--- enough. The role and the application are those of the waiting session.
Blocked.parts = { {
    name = "blocked", while_working = true,
    sql = ask.rows [[
        with l as materialized (
             select pid, granted, {to_jsonb}(k) {->>} 'waitstart' as waitstart,
                    {concat}(locktype, ' ', database, ' ', relation, ' ', page, ' ', tuple, ' ', virtualxid, ' ',
                             transactionid, ' ', classid, ' ', objid, ' ', objsubid) as object
               from {pg_lock_status}() k where not granted or pid {=} any (:ours::int[])),
             w as (
             select pid, extract(epoch from {clock_timestamp}() {-} {min}(waitstart::{timestamptz}))::{float8} as waited
               from l where not granted and not pid {=} any (:ours::int[])
                and object {=} any (array(select object from l where pid {=} any (:ours::int[])))
              group by pid order by 2 desc nulls last limit 20)
        select w.pid, w.waited, b.holders, a.application_name as application,
               (select rolname::{text} from {pg_roles} where oid {=} a.usesysid) as role
          from w cross join lateral (select {pg_blocking_pids}(w.pid) as holders) b
          left join lateral {pg_stat_get_activity}(w.pid) a on true
         where b.holders {&&} :ours::int[] ]],
} }

function Blocked.new()
    return setmetatable({ since = {}, list = {}, longest = nil }, Blocked)
end

--- The holder that is one of the job's sessions.
local function ours(holders, pids)
    for _, pid in ipairs(holders) do
        if pids[pid] then return pid end
    end
    return nil
end

---Without workers of batches: a worker that splits another's range waits for its chunk.
local function others(rows)
    local list <const> = {}
    for _, row in ipairs(rows) do
        if not (row.application or ""):find "^dbrun batch " then list[#list + 1] = row end
    end
    return list
end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@param limit number
---@return dbrun.batch.Reading
function Blocked:read(answer, look, limit)
    local since <const>, list <const>, longest = {}, {}, nil
    for _, row in ipairs(others(answer.blocked or {})) do
        local pid <const> = ours(row.holders, look.pids)
        since[row.pid] = self.since[row.pid] or look.now
        local waited <const> = math.max(row.waited or 0, look.now - since[row.pid])
        longest = math.max(longest or 0, waited)
        if pid and limit and waited >= limit then
            list[#list + 1] = { pid = pid, waited = waited, text = ("%s waits %s for a lock of ours"):format(
                words.session(row.pid, row.application, row.role), words.seconds(waited)) }
        end
    end
    table.sort(list, function(a, b) return a.waited > b.waited end)
    self.since, self.list, self.longest = since, list, longest
    return { near = limit and longest ~= nil and longest > NEAR * limit }
end

---Seconds until a session that waits now will have waited too long.
---@param limit number
---@return number?
function Blocked:next_look(limit)
    return self.longest and math.max(SOONEST, limit - self.longest) or nil
end

return Blocked
