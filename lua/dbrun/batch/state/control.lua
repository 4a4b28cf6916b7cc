--- What a process reads and writes about its job outside the chunks, once a second, on its control connection.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local parts = require "dbrun.batch.state.sql"

local M = {}

---Stated, because a role may have default_transaction_read_only.
local WRITES <const> = { isolation = "read committed", read_only = false }

local READ <const> = [[
select j.state, j.reason, j.set_values::text as set_values, j.keeps, j.pass, x.workers,
       coalesce(x.looked, 0)::bigint as looked, coalesce(x.rows, 0)::bigint as rows
  from %s j cross join lateral (
       select {count}(distinct r.owner) filter (where r.state {=} 'open' and r.owner is not null
                  and r.moved {>} ({clock_timestamp}() {-} interval '30 seconds')) as workers,
              {sum}(r.looked) filter (where r.pass {=} j.pass) as looked, {sum}(r.rows) as rows
         from %s r where r.job {=} j.name) x
 where j.name {=} $1]] .. parts.THE_SAME:format("$2", "$2")

---@param conn table
---@param store dbrun.batch.Store
---@return table? job {state, reason, set_values, workers, keeps, pass, looked, rows};
---nil: forgotten
function M.read(conn, store)
    return conn:one(catalog.sql(READ:format(store.place.jobs, store.place.ranges)), store.name,
        store.started or core.null)
end

local WAITING <const> = [[
with free as materialized (select id from %s where job {=} $1 and owner {=} any ($3::text[]) and state {=} 'open'
                              for no key update skip locked)
update %s r set waiting = $2 from free where r.id {=} free.id]]

---Writes the wait reasons of this process's workers into their ranges, for `status`. It never waits for a chunk.
---@param conn table
---@param store dbrun.batch.Store
---@param why? string nil: they go on
---@param owners string[]
---@return integer written ranges
function M.waiting(conn, store, why, owners)
    return conn:transaction(WRITES, function(tx)
        return tx:query(catalog.sql(WAITING:format(store.place.ranges, store.place.ranges)), store.name,
            why or core.null, owners).affected
    end)
end

local KEEPS <const> = "update %s set keeps = $2 where name {=} $1 and keeps is null"

---Records whether `where` still holds for rows after `run`, in which case a second pass would do them again.
---@param conn table in the transaction of the chunk
---@param store dbrun.batch.Store
---@param keeps boolean
function M.keeps(conn, store, keeps)
    conn:query(catalog.sql(KEEPS:format(store.place.jobs)), store.name, keeps)
end

local FOUND <const> = "update %s set found = $2 where name {=} $1"

---Records how many rows the last check found.
---@param conn table
---@param store dbrun.batch.Store
---@param found integer
function M.found(conn, store, found)
    conn:transaction(WRITES, function(tx)
        tx:query(catalog.sql(FOUND:format(store.place.jobs)), store.name, found)
    end)
end

local STOP <const> = [[
update %s set state = :state, reason = :reason where name {=} :name and state {=} 'running']]
    .. parts.THE_SAME:format(":started", ":started")

---Stops or pauses the job on behalf of this process.
---@param conn table
---@param store dbrun.batch.Store
---@param state "stopped"|"paused"
---@param reason string
---@return boolean done false: the job was not running any more
function M.halt(conn, store, state, reason)
    local jobs <const> = require "dbrun.batch.state.jobs"
    return conn:transaction(WRITES, function(tx)
        local n <const> = tx:query(catalog.sql(STOP:format(store.place.jobs)),
            { state = state, reason = reason, name = store.name, started = store.started or core.null }).affected
        if n > 0 then jobs.event(tx, store.name, state, reason, store.place) end
        return n > 0
    end)
end

return M
