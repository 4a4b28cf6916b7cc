--- The two statements of a chunk: the claim, which locks the range's row and reads its position, and the mark, which
--- finds the next chunk's bound and moves the position. Each is one round trip, including BEGIN or COMMIT.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local parts = require "dbrun.batch.state.sql"
local quote = require "dbrun.db.quote"
local settings_of = require "dbrun.batch.state.settings"
local transaction = require "dbrun.db.transaction"

local M = {}

---Chunks after which a range's row is closed and the rest gets a new row, so that a row has few versions even if a
---snapshot is old.
M.CHUNKS = 100

---Stated, because a role may have default_transaction_read_only.
local WRITES <const> = { isolation = "read committed", read_only = false }

local CLAIM <const> = [[
select %s, j.state as job_state, j.reason, j.set_values::text as set_values, j.started,
       {pg_backend_pid}() as backend%s]]
local CLAIMED <const> = [[

  from %s r, %s j where r.id {=} :id and j.name {=} r.job for no key update of r skip locked]]

---@class dbrun.batch.Claim: dbrun.batch.Range
---@field job_state string
---@field reason? string
---@field set_values string JSON
---@field started string
---@field backend integer process of the server

--- Settings of a chunk that Citus passes on to the nodes when they are set by SET LOCAL.
local TAKEN_ALONG <const> = { lock_timeout = true, idle_in_transaction_session_timeout = true }

---@return string[] list none: the table is not one of Citus
local function for_nodes(store, settings)
    if not store.bounds.walk.citus then return {} end
    local list <const> = { "set local citus.propagate_set_commands = 'local'" }
    for _, setting in ipairs(settings) do
        if TAKEN_ALONG[setting[1]] then
            list[#list + 1] = ("set local %s = %d"):format(setting[1], setting[2])
        end
    end
    return list
end

---The SQL of a claim. The names of the settings are literals, so dbrun sees that most of them do not change the meaning
---of statements, and keeps the prepared statements.
local function claim_sql(store, settings)
    store.claims = store.claims or setmetatable({}, { __mode = "k" })
    local sql = store.claims[settings]
    if not sql then
        local list <const> = {}
        for i, setting in ipairs(settings) do
            list[i] = (", pg_catalog.set_config(%s, %s, true)"):format(quote.literal(setting[1]),
                quote.literal(settings_of.text(setting[2])))
        end
        local columns <const> = "r." .. parts.RANGE:gsub(", ", ", r.") .. ", r.owner {=} :me as mine"
        sql = catalog.sql(CLAIM:format(columns, store.bounds:present())) .. table.concat(list)
            .. catalog.sql(CLAIMED:format(store.place.ranges, store.place.jobs))
        store.claims[settings] = sql
    end
    return sql
end

---Begins a chunk's transaction and locks the range's row. One round trip.
---@param conn table
---@param store dbrun.batch.Store
---@param id integer of the range
---@param settings {[1]: string, [2]: any}[] in force for the transaction
---@param begun boolean the mark before it has begun the transaction
---@return dbrun.batch.Claim? nil when the row is locked, or gone
function M.claim(conn, store, id, settings, begun)
    local sql <const> = claim_sql(store, settings)
    local values <const> = { id = id, me = store.me }
    if begun then return conn:one(sql, values) end
    local results <const> = conn:pipeline(function(p)
        p:query(transaction.begin_sql(WRITES))
        p:query(sql, values)
        for _, text in ipairs(for_nodes(store, settings)) do p:query(text) end
    end)
    return results[2][1]
end

---What the mark finds after a position: `nothing` ends the range; without a matching row the stretch is passed without
---a chunk.
local FOUND <const> = [[
(select coalesce(step.final and step.fits {=} 0, true) as nothing, step.bound, coalesce(step.fits, 0) as fits,
        coalesce(step.looked, 0) as looked, %s as keys from (select true) as always left join step on true) found]]

local GIVEN <const> = [[
(select :_nothing::boolean as nothing, :_bound::text[] as bound, :_fits::bigint as fits,
        :_step_looked::bigint as looked, null::text as keys) found]]

--- Materialized: otherwise each use of one of its columns would be planned as its whole expression.
local MOVED <const> = [[
moved as materialized (
    select case when nothing then :upto::text[] when fits {=} 0 then bound else :after::text[] end as position,
           case when not nothing and fits {>} 0 then bound end as next, nothing, fits, looked, keys
      from %s)]]

local REST <const> = [[
,
rest as (insert into %s (job, pass, first, position, next, last, size)
         select :_job, :_pass, position, position, next, :upto::text[], :_new_size from moved
          where not nothing returning id)]]

local MARK <const> = [[

update %s r set position = m.position, next = %s, last = %s, state = case when %s then 'done' else 'open' end,
       chunks = r.chunks {+} :_chunks, rows = r.rows {+} :_rows,
       looked = r.looked {+} :_looked {+} case when m.fits {=} 0 and not m.nothing then m.looked else 0 end,
       worked = r.worked {+} :_seconds, waited = coalesce(%s, r.waited), note = coalesce(%s, r.note),
       durations = case when :_chunks {>} 0 then (r.durations {||} :_seconds::real)[
           greatest(1, {cardinality}(r.durations) {-} 30):] else r.durations end,
       sizes = case when :_chunks {>} 0 then (r.sizes {||} :_rows::integer)[
           greatest(1, {cardinality}(r.sizes) {-} 30):] else r.sizes end,
       size = :_new_size, taken = case when :_chunks {>} 0 then 0 else r.taken end, waiting = null,
       pid = {pg_backend_pid}(), moved = {clock_timestamp}(),
       backend_start = case when r.pid {=} {pg_backend_pid}() then r.backend_start else %s end
  from moved m where r.id {=} :_id
returning r.state, r.position, r.next, r.last, m.fits, m.looked, m.nothing, m.keys]]

---The SQL of a mark. It is parsed and planned for each chunk, so it has only the parts that this chunk needs.
local function sql_of(store, mark, open, close)
    store.marks = store.marks or {}
    local has_waited <const>, has_note <const> = next(mark.waited or {}) ~= nil, mark.note ~= nil
    local key <const> = (store.bounds.alone and "alone" or store.bounds.step_key(open, mark.by_where, mark.step_size))
        .. (has_waited and " waited" or "") .. (has_note and " note" or "") .. (close and " close" or "")
    if not store.marks[key] then
        local ranges <const> = store.place.ranges
        local waited <const> = has_waited and parts.by_name("r.waited", ":_waited::jsonb", "sum") or "null"
        local note <const> = has_note and parts.by_name("r.note", ":_note::jsonb", "max") or "null"
        -- The walk's SQL contains the user's: its names must not be taken for dbrun's.
        local step <const> = store.bounds.alone and ""
            or "step as materialized (" .. store.bounds:step_sql(open, mark.by_where, mark.step_size) .. "),\n"
        store.marks[key] = "with " .. step
            .. catalog.sql(MOVED:format(store.bounds.alone and GIVEN or
                FOUND:format(mark.by_where and "step.keys" or "null::text")) .. (close and REST:format(ranges) or "")
                .. MARK:format(ranges, close and "null" or "m.next", close and "m.position" or "r.last",
                    close and "true" or "m.nothing", waited, note, parts.BACKEND_START)) -- a pooler gives another
    end
    return store.marks[key]
end

---@class dbrun.batch.Mark
---@field claim dbrun.batch.Claim
---@field done boolean a chunk was done: the position moves to its end
---@field rows integer
---@field looked integer keys that the previous step has read to find the chunk
---@field seconds number the chunk took so far
---@field size integer rows of the next chunk
---@field step_size integer rows, or keys, that the step counts
---@field look integer keys that the step reads at most
---@field by_where boolean the step counts matching rows, not keys
---@field waited? table<string, number> seconds by reason since the last mark
---@field note? table<string, number>
---@field chain boolean the next chunk's transaction is begun at once

---@class dbrun.batch.Marked
---@field state string
---@field position string[]
---@field next? string[]
---@field fits integer
---@field looked integer
---@field nothing boolean
---@field keys? string the matching keys, if they are few

---Moves the position, finds the next bound and commits. One round trip; two for a
---table that is in another database, or spread over nodes by Citus.
---@param conn table
---@param store dbrun.batch.Store
---@param mark dbrun.batch.Mark
---@return dbrun.batch.Marked
function M.mark(conn, store, mark)
    local claim <const> = mark.claim
    local bounds <const> = store.bounds
    local after = claim.position
    if mark.done then after = claim.next end
    local db <const> = require "dbrun.db"
    local values <const> = bounds:with {
        _id = claim.id, _job = store.name, _pass = claim.pass, after = after or core.null, upto = claim.last,
        size = mark.step_size, look = mark.look, _chunks = mark.done and 1 or 0, _rows = mark.rows,
        _looked = mark.looked,
        _seconds = mark.seconds, _new_size = mark.size, _waited = db.json(mark.waited or {}),
        _note = mark.note and db.json(mark.note) or core.null,
    }
    local close <const> = mark.done and claim.chunks + 1 >= M.CHUNKS
    if bounds.alone then
        local step <const> = bounds:step(conn, after, claim.last, mark.step_size, mark.look, mark.by_where)
        values._nothing = not step or step.final and step.fits == 0
        values._bound = step and step.bound or core.null
        values._fits, values._step_looked = step and step.fits or 0, step and step.looked or 0
    end
    local sql <const> = sql_of(store, mark, after == nil, close)
    local at
    local results <const> = conn:pipeline(function(p)
        local pin <const> = bounds:pin()
        if pin then p:query(pin) end
        p:query(sql, values)
        at = pin and 2 or 1
        local unpin <const>, before <const> = bounds:unpin(claim)
        if unpin then p:query(unpin, before) end
        p:query(mark.chain and "commit and chain" or "commit")
    end)
    return results[at][1]
end

return M
