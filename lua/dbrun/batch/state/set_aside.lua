--- Chunks that cannot be done: they are halved, or stored as separate failed ranges, which do not block later chunks.
local catalog = require "dbrun.db.catalog"
local parts = require "dbrun.batch.state.sql"

local M = {}

local FAILED <const> = [[
insert into %s (job, pass, first, position, next, last, state, error)
select job, pass, position, position, null, next, 'failed',
       :error::jsonb {||} {jsonb_build_object}('at', {clock_timestamp}()) from %s where id {=} :id]]

local PASSED <const> = [[
update %s set position = next, next = null, taken = 0, owner = case when :release then null else owner end,
       moved = {clock_timestamp}(), state = case when next {=} last then 'done' else state end
 where id {=} :id]]

---Stores the chunk (position, next] of a range as failed. The caller holds the lock on the range's row.
---@param tx table
---@param store dbrun.batch.Store
---@param range dbrun.batch.Range
---@param why {sqlstate?: string, message: string, key?: any, attempts?: integer}
---@param release boolean the range has no owner afterwards
---@return integer failed ranges of the job
function M.in_transaction(tx, store, range, why, release)
    local ranges <const> = store.place.ranges
    tx:query(catalog.sql(FAILED:format(ranges, ranges)), { id = range.id, error = require("dbrun.db").json(why) })
    tx:query(catalog.sql(PASSED:format(ranges)), { id = range.id, release = release })
    return tx:value(catalog.sql(
        ("select {count}(*) from %s where job {=} $1 and state {=} 'failed'"):format(ranges)), store.name)
end

local HOLD <const> = "select position, next, last, " .. parts.PATIENT .. [[ from %s
 where id {=} :id and owner {=} :me and state {=} 'open' and next {=} :next::text[] for no key update]]

---Locks a range whose chunk has failed, and passes its present bounds to fn; nil when another worker has taken the
---range.
local function held(conn, store, range, fn)
    return conn:transaction({ isolation = "read committed", read_only = false }, function(tx)
        local now <const> = tx:one(catalog.sql(HOLD:format(store.place.ranges)),
            { id = range.id, me = store.me, next = range.next })
        if now then return fn(tx, now) end
    end)
end

---Stores a failed chunk.
---@param conn table
---@param store dbrun.batch.Store
---@param range dbrun.batch.Range as its chunk was claimed
---@param why table as for in_transaction
---@return integer? failed ranges of the job; nil when another worker has the range
function M.fail(conn, store, range, why)
    return held(conn, store, range, function(tx)
        return M.in_transaction(tx, store, range, why, false)
    end)
end

local HALVE <const> = "update %s set next = :middle::text[], retried = retried {+} 1 where id {=} :id"
local RETRIED <const> = "update %s set retried = retried {+} 1 where id {=} :id"

---Halves a failed chunk. The rest comes with the next chunk.
---@param conn table
---@param store dbrun.batch.Store
---@param range dbrun.batch.Range as its chunk was claimed
---@param keys integer keys to read at most to find the middle
---@return "halved"|"single"|nil how "single": the chunk has one key; nil when another worker has the range
function M.halve(conn, store, range, keys)
    return held(conn, store, range, function(tx, now)
        local found <const> = store.bounds:cut(tx, now.position, now.next, keys)
        local middle <const> = found and found.middle
        if middle then
            tx:query(catalog.sql(HALVE:format(store.place.ranges)), { id = range.id, middle = middle })
        else
            tx:query(catalog.sql(RETRIED:format(store.place.ranges)), { id = range.id })
        end
        return middle and "halved" or "single"
    end)
end

return M
