--- The end of a pass: what comes next when a job has no open range. With `where` the table is walked again, after all
--- transactions that were open at the start of the pass have ended, to find rows that appeared before the position. A
--- job that follows a growing key goes on from the old end.
local bound = require "dbrun.batch.walk.bound"
local barriers = require "dbrun.batch.state.barrier"
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"

local M = {}

local NEXT_PASS <const> = [[
update %s set pass = :pass, pass_started = {clock_timestamp}(), last = :last::text[], barrier = :barrier::jsonb,
       events = %s where name {=} :name]]

local RANGE <const> = [[
insert into %s (job, pass, first, position, last) values (:job, :pass, :first::text[], :first::text[], :last::text[])]]

local DONE <const> = "update %s set state = 'done', ended = {clock_timestamp}(), events = %s where name {=} :name"

local MORE <const> = "update %s set last = coalesce(:last::text[], last), barrier = :barrier::jsonb "
    .. "where name {=} :name"

---The failed ranges of a job, in the order of their keys.
local function failed(tx, store)
    return tx:query(catalog.sql(([[
        select first, last from %s where job {=} $1 and state {=} 'failed' order by ]]):format(store.place.ranges))
        .. store.bounds:order "last", store.name)
end

---Adds ranges for a stretch of the table, cut where the walk says so.
---@param tx table
---@param bounds dbrun.batch.Bounds
---@param first? string[]
---@param last string[]
---@param list? table[] to which the parts are added
---@return {first?: string[], last: string[]}[] list
function M.cut(tx, bounds, first, last, list)
    list = list or {}
    for _, key in ipairs(bounds:cuts(tx, first, last)) do
        if not bound.same(key, first) and not bound.same(key, last) then
            list[#list + 1] = { first = first, last = key }
            first = key
        end
    end
    list[#list + 1] = { first = first, last = last }
    return list
end

---The stretches between failed ranges, which are not retried automatically.
---@param tx table
---@param store dbrun.batch.Store
---@param last string[] the end
---@return {first?: string[], last: string[]}[]
function M.stretches(tx, store, last)
    local list <const>, first = {}, nil
    for _, range in ipairs(failed(tx, store)) do
        if range.first and not bound.same(range.first, first) then M.cut(tx, store.bounds, first, range.first, list) end
        first = range.last
    end
    if not bound.same(first, last) then M.cut(tx, store.bounds, first, last, list) end
    return list
end

local function finish(tx, store, what)
    tx:query(catalog.sql(DONE:format(store.place.jobs, jobs.with_event())), {
        name = store.name, what = what, who = jobs.who(), text = core.null,
    })
    return "done"
end

local function next_pass(tx, store, job)
    local who <const> = barriers.holder(tx, job.barrier)
    if who then return "wait", "the second pass begins when older transactions have ended: " .. who end
    local last <const> = store.bounds:last(tx)
    if not last then return finish(tx, store, "done") end
    local pass <const> = job.pass + 1
    tx:query(catalog.sql(NEXT_PASS:format(store.place.jobs, jobs.with_event())), {
        name = store.name, pass = pass, last = last, barrier = require("dbrun.db").json(barriers.read(tx, store.name)),
        what = "pass", who = jobs.who(), text = "pass " .. pass,
    })
    for _, stretch in ipairs(M.stretches(tx, store, last)) do
        tx:query(catalog.sql(RANGE:format(store.place.ranges)),
            { job = store.name, pass = pass, first = stretch.first or core.null, last = stretch.last })
    end
    return "again"
end

---For a job that follows: the last key is valid only when all transactions that were open when it was read have ended.
local function follow(tx, store, job)
    local db <const> = require "dbrun.db"
    local barrier <const> = job.barrier
    if barrier and barrier.last then
        local who <const> = barriers.holder(tx, barrier)
        if who then return "wait", "new rows are taken when older transactions have ended: " .. who end
        tx:query(catalog.sql(MORE:format(store.place.jobs)),
            { name = store.name, last = barrier.last, barrier = core.null })
        tx:query(catalog.sql(RANGE:format(store.place.ranges)),
            { job = store.name, pass = job.pass, first = job.last or core.null, last = barrier.last })
        return "again"
    end
    local last <const> = store.bounds:last(tx)
    if not last or bound.same(last, job.last) then
        return "wait", "for new rows"
    end
    local now <const> = barriers.read(tx, store.name)
    now.last = last
    tx:query(catalog.sql(MORE:format(store.place.jobs)),
        { name = store.name, last = core.null, barrier = db.json(now) })
    return "wait", "for new rows"
end

local ANY <const> = "select exists (select from %s where job {=} $1)"

---Raises when the job has no range. A job starts with one, and ranges are merged and closed but never removed: without
---any, something else has removed them, and how far the job was is unknown.
local function check_ranges(tx, store)
    if tx:value(catalog.sql(ANY:format(store.place.ranges)), store.name) then return end
    errors.fail("query", ("the ranges of the job '%s' were removed from %s: how far it was is not known"):format(
        store.name, store.place.ranges), ("dbrun batch forget %s lets a run start anew"):format(store.name))
end

---What happens when no range of the present pass is open. Runs under the lock of the job's row.
---@param tx table
---@param store dbrun.batch.Store
---@param job table the row of the job
---@param opts {passes: integer, follow?: boolean}
---@return "again"|"wait"|"done" what
---@return string? why for "wait"
function M.advance(tx, store, job, opts)
    if opts.follow then return follow(tx, store, job) end
    check_ranges(tx, store)
    if job.pass < opts.passes and not job.keeps then return next_pass(tx, store, job) end
    return finish(tx, store, "done")
end

return M
