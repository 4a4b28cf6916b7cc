--- Assigns ranges to workers. One head range holds the whole rest of a table. A worker that asks for work gets a free
--- range; if there is none, it splits one: the owner keeps about a hundred chunks, the new worker takes the rest, or
--- half of what is left. The job's row is locked for the short time in which a free range is chosen.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local parts = require "dbrun.batch.state.sql"
local set_aside = require "dbrun.batch.state.set_aside"

local M = {}

---@class dbrun.batch.Range
---@field id integer
---@field pass integer
---@field position? string[] nil: the open start of the table
---@field next? string[] upper bound of the current chunk
---@field last string[]
---@field taken integer how often a worker was lost in the current chunk
---@field chunks integer
---@field size? integer rows of a chunk, as the last worker had it
---@field lost? boolean its last worker did not give it back

---@class dbrun.batch.Store
---@field place dbrun.batch.Place
---@field name string of the job
---@field bounds dbrun.batch.Bounds
---@field me string owner: "host:pid/worker.token"
---@field started? string when the job was started: distinguishes it from another job of its name
---@field trouble? {range: integer, message: string} the last error that cost a worker of this process its connection
---@field set_aside? fun(range: dbrun.batch.Range, why: table, failed: integer) called for chunks that take and again
---have stored as failed

---How often a chunk is retried after its worker was lost.
local MOST_TAKEN <const> = 5
---Keys that a split reads at most.
local MOST_KEYS <const> = 400000

---Stated, because a role may have default_transaction_read_only.
local WRITES <const> = { isolation = "read committed", read_only = false }

local LOCK <const> = "select state, reason, pass, last, barrier, keeps, " .. parts.PATIENT
    .. " from %s where name {=} $1" .. parts.THE_SAME:format("$2", "$2") .. " for no key update"

local PICK <const> = [[
update %s r set owner = :me, pid = {pg_backend_pid}(), backend_start = %s, claimed = {clock_timestamp}(),
       moved = {clock_timestamp}(), again = null, waiting = null,
       taken = r.taken {+} case when p.lost then 1 else 0 end
  from (select r.id, r.owner is not null and r.owner {<>} :me and r.next is not null as lost from %s r
         where r.job {=} :job and r.pass {=} :pass and r.state {=} 'open' and %s
         order by r.id limit 1 for no key update skip locked) p
 where r.id {=} p.id returning r.%s, p.lost]]

local MERGE <const> = [[
with pair as (
    select a.id as a, b.id as b, b.last, b.chunks, b.rows, b.looked, b.retried, b.worked, b.waited, b.note, b.moved,
           b.durations, b.sizes
      from %s a join %s b on b.job {=} a.job and b.pass {=} a.pass and b.first {=} a.last and b.state {=} 'done'
     where a.job {=} $1 and a.pass {=} $2 and a.state {=} 'done' and a.id {<>} b.id limit 1),
gone as (delete from %s using pair where id {=} pair.b)
update %s a set last = b.last, position = b.last, chunks = a.chunks {+} b.chunks, rows = a.rows {+} b.rows,
       looked = a.looked {+} b.looked, retried = a.retried {+} b.retried, worked = a.worked {+} b.worked,
       waited = coalesce(%s, '{}'), note = %s,
       durations = case when b.moved {>=} a.moved then b.durations else a.durations end,
       sizes = case when b.moved {>=} a.moved then b.sizes else a.sizes end, moved = greatest(a.moved, b.moved)
  from pair b where a.id {=} b.a]]

local CANDIDATES <const> = [[
select id, next, last, size, chunks, looked from %s
 where job {=} :job and pass {=} :pass and state {=} 'open' and next is not null
   and (owner is null or owner {<>} :me)
 order by (last {=} :last::text[]) desc, chunks, id limit 4]]

local CUT <const> = "update %s set last = $2::text[] where id {=} $1"

local REST <const> = [[
insert into %s as r (job, pass, first, position, last, owner, pid, backend_start, claimed, size)
values (:job, :pass, :middle::text[], :middle::text[], :last::text[], :me, {pg_backend_pid}(), %s,
        {clock_timestamp}(), :size) returning %s]]

local AGAIN <const> = [[
update %s r set taken = r.taken {+} case when r.next is not null and coalesce(r.position {=} :position::text[],
                                                 r.position is null and :position::text[] is null) then 1 else 0 end,
       pid = {pg_backend_pid}(), backend_start = %s, moved = {clock_timestamp}()
 where r.id {=} :id and r.owner {=} :me and r.state {=} 'open' returning %s]]

local RELEASE <const> = [[
update %s set owner = null, pid = null, waiting = null,
       again = case when :pause::double precision {>} 0
               then {clock_timestamp}() {+} {make_interval}(secs => :pause::double precision) end
 where id {=} :id and owner {=} :me]]

local OPEN <const> = "select {count}(*) from %s where job {=} $1 and pass {=} $2 and state {=} 'open'"

local HOLDS <const> = "select 1 from %s where id {=} $1 and owner {=} $2 and state {=} 'open'"

local ENDED <const> = "select 1 from %s where id {=} $1 and owner {=} $2 and state {=} 'done'"

local LOOK <const> = "select %s from %s where id {=} $1 for no key update"

local function texts_of(store)
    if not store.take_sql then
        local ranges <const> = store.place.ranges
        store.take_sql = {
            lock = catalog.sql(LOCK:format(store.place.jobs)),
            pick = catalog.sql(PICK:format(ranges, parts.BACKEND_START, ranges, parts.FREE,
                (parts.RANGE:gsub(", ", ", r.")))),
            merge = catalog.sql(MERGE:format(ranges, ranges, ranges, ranges,
                parts.by_name("a.waited", "b.waited", "sum"), parts.by_name("a.note", "b.note", "max"))),
            open = catalog.sql(OPEN:format(ranges)),
            candidates = catalog.sql(CANDIDATES:format(ranges)),
            ended = catalog.sql(ENDED:format(ranges)),
            holds = catalog.sql(HOLDS:format(ranges)),
            look = catalog.sql(LOOK:format(parts.RANGE, ranges)),
            cut = catalog.sql(CUT:format(ranges)),
            rest = catalog.sql(REST:format(ranges, parts.BACKEND_START, parts.RANGE)),
            again = catalog.sql(AGAIN:format(ranges, parts.BACKEND_START, parts.RANGE)),
            release = catalog.sql(RELEASE:format(ranges)),
        }
    end
    return store.take_sql
end

---Stores the chunk that killed its workers as failed.
---@return table aside for tell
local function give_up(tx, store, range)
    local last <const> = store.trouble -- the error that a worker of this process got there
    local why <const> = {
        message = ("its worker ended %d times%s"):format(MOST_TAKEN, last and last.range == range.id
            and ", the last time with: " .. last.message or ""),
        attempts = MOST_TAKEN,
    }
    return { range, why, set_aside.in_transaction(tx, store, range, why, true) }
end

---Reports a stored chunk after the commit.
local function tell(store, list)
    for _, aside in ipairs(store.set_aside and list or {}) do store.set_aside(table.unpack(aside)) end
end

local function pick(tx, store, pass, aside)
    local sql <const> = texts_of(store)
    local range
    repeat
        range = tx:one(sql.pick, { me = store.me, job = store.name, pass = pass })
        local hopeless <const> = range and range.taken >= MOST_TAKEN
        if hopeless then aside[#aside + 1] = give_up(tx, store, range) end
    until not hopeless
    return range
end

---A free range, or what to do without one.
---@param conn table a leased connection
---@param store dbrun.batch.Store
---@param advance fun(tx: table, job: table): string, string? what happens at the end of a pass: "again", "wait" (why),
---"done"
---@return "range"|"split"|"wait"|"again"|"paused"|"stopped"|"cancelled"|"done" what
---@return any value the range; the job's row for "split"; why, for "wait", "paused" and "stopped"
function M.take(conn, store, advance)
    local aside <const> = {}
    local what <const>, value <const> = conn:transaction(WRITES, function(tx)
        local sql <const> = texts_of(store)
        local job <const> = tx:one(sql.lock, store.name, store.started or core.null)
        if not job then
            errors.fail("usage", ("the job '%s' was forgotten while it ran"):format(store.name))
        elseif job.state ~= "running" then
            return job.state, job.reason
        end
        local range <const> = pick(tx, store, job.pass, aside)
        for _ = 1, 2 do tx:query(sql.merge, store.name, job.pass) end
        if range then return "range", range end
        local open <const> = tx:value(sql.open, store.name, job.pass)
        if open > 0 then return "split", job end
        return advance(tx, job)
    end)
    tell(store, aside)
    return what, value
end

---Keys that the owner keeps, twice: a hundred of its chunks.
local function keys_of(range)
    local per_chunk = range.size or 1000
    if range.chunks > 0 then per_chunk = math.max(per_chunk, range.looked // range.chunks) end
    return math.min(2 * 100 * per_chunk, MOST_KEYS)
end

---Takes the part after `middle`, if the range's owner has not reached it meanwhile.
local function split_one(tx, store, id, middle)
    local sql <const> = texts_of(store)
    tx:query(catalog.sql("select {set_config}('lock_timeout', '2s', true), " .. parts.PATIENT))
    local range <const> = tx:one(sql.look, id)
    if not range or range.state ~= "open" or not range.next then return nil end
    if not store.bounds:is_between(tx, middle, range.next, range.last) then return nil end
    tx:query(sql.cut, id, middle)
    return tx:one(sql.rest, {
        job = store.name, pass = range.pass, middle = middle, last = range.last, me = store.me,
        size = range.size or core.null,
    })
end

---Splits another worker's range and takes the second part. The cut is found without a lock, because that can read many
---keys; then it waits for the owner's current chunk.
---@param conn table a leased connection
---@param store dbrun.batch.Store
---@param job table as given by take
---@return dbrun.batch.Range? nil when nothing can be split now
function M.split(conn, store, job)
    local list <const> = conn:query(texts_of(store).candidates, {
        job = store.name, pass = job.pass, me = store.me, last = job.last or core.null,
    })
    for _, candidate in ipairs(list) do
        local found <const> = conn:transaction(WRITES, function(tx)
            tx:query(catalog.sql("select " .. parts.PATIENT))
            return store.bounds:cut(tx, candidate.next, candidate.last, keys_of(candidate))
        end)
        if found and found.middle then
            local ok <const>, range <const> = pcall(conn.transaction, conn, WRITES, function(tx)
                return split_one(tx, store, candidate.id, found.middle)
            end)
            if not ok and not (errors.is(range) and range.sqlstate == "55P03") then error(range, 0) end
            if ok and range then return range end
        end
    end
end

---Resumes a range after its worker lost the connection in a chunk. The loss is recorded first, so that a row that
---crashes the server cannot do so for ever. Waits for the old server process, which may still hold the row.
---@param conn table
---@param store dbrun.batch.Store
---@param claim dbrun.batch.Range as the lost chunk was claimed
---@return dbrun.batch.Range? nil when another worker has the range now; its position has moved when the chunk was
---committed after all
---@return boolean ended the chunk was committed after all, and was the range's last
function M.again(conn, store, claim)
    local aside <const>, ended = {}, nil
    local again <const> = conn:transaction(WRITES, function(tx)
        local range <const> = tx:one(texts_of(store).again,
            { id = claim.id, me = store.me, position = claim.position or core.null })
        if range and range.taken >= MOST_TAKEN then
            aside[1] = give_up(tx, store, range)
            return nil
        end
        ended = not range and tx:one(texts_of(store).ended, claim.id, store.me) ~= nil
        return range
    end)
    tell(store, aside)
    return again, ended or false
end

---Whether the worker still has the range. While its row is locked, the claim cannot tell.
---@param conn table
---@param store dbrun.batch.Store
---@param id integer
---@return boolean
function M.holds(conn, store, id)
    return conn:one(texts_of(store).holds, id, store.me) ~= nil
end

---Releases a range: another worker may take it, at once or after a pause.
---@param conn table
---@param store dbrun.batch.Store
---@param id integer
---@param pause? number seconds
function M.release(conn, store, id, pause)
    conn:transaction(WRITES, function(tx)
        tx:query(texts_of(store).release, { id = id, me = store.me, pause = pause or 0.0 })
    end)
end

return M
