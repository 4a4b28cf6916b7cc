--- Supervises the workers of a run, once a second, on one connection; and ends a run.
local classify = require "dbrun.batch.work.classify"
local define = require "dbrun.batch.define"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local state = require "dbrun.batch.state.control"
local task = require "dbrun.task"

local M = {}

---Seconds that a chunk gets to finish when the run ends.
local GRACE <const> = 1

---Ends a worker's chunk: it rolls back, is halved and tried again.
local function cancel_chunk(worker, why)
    local conn <const> = worker.conn
    if not conn or not worker.backend then return end
    worker.because = why
    local ok <const>, e <const> = pcall(conn.cancel, conn)
    if not ok then require("dbrun.core").log.write("debug", "batch: " .. tostring(e)) end
end

local function look_at_health(run, conn)
    local health <const> = run.health
    health:sample(conn)
    for _, blocked in ipairs(health:blocking()) do
        for _, worker in ipairs(run.workers) do
            if worker.backend == blocked.pid then cancel_chunk(worker, blocked.text) end
        end
    end
    local critical <const> = health:critical()
    if critical and run.state == "running" then
        state.halt(conn, run.store, "paused", critical)
        run.state, run.reason = "paused", critical
        for _, worker in ipairs(run.workers) do cancel_chunk(worker, critical) end
    end
end

local function owners(run)
    local list <const> = {}
    for i, worker in ipairs(run.workers) do list[i] = worker.store.me end
    return list
end

---Writes a changed wait reason into the ranges, for `status`, but not a changed number of seconds in it.
local function show_wait(run, conn)
    local _, why <const>, reason <const> = run:hold()
    if reason == run.shown then return end
    local ranges = 0
    for _, worker in ipairs(run.workers) do ranges = ranges + (worker.range and 1 or 0) end
    -- Those of running chunks are written by a later look.
    if state.waiting(conn, run.store, why, owners(run)) >= ranges then run.shown = reason end
end

local ENDED <const> = { stopped = true, cancelled = true, done = true }

local function look(run, conn)
    local job <const> = state.read(conn, run.store)
    if not job then
        run.state = "forgotten"
        return run:fail(nil, errors.new {
            kind = "usage", message = ("the job '%s' was forgotten while it ran"):format(run.store.name),
        })
    end
    run.state, run.reason, run.all_workers = job.state, job.reason, job.workers
    if job.keeps ~= nil then run.keeps = job.keeps end
    run:tell("look", { looked = job.looked, rows = job.rows, workers = job.workers, pass = job.pass })
    run:configure(job.set_values)
    run.closed = run.hours and define.hours.open(run.hours, conn) or nil
    if ENDED[job.state] then return run:ended(job.state, job.reason) end
    look_at_health(run, conn)
    show_wait(run, conn)
end

---Looks once a second, and more often while a session waits for a chunk of this process, until it is cancelled.
---@param run dbrun.batch.Run
function M.loop(run)
    local conn
    local _ <close> = setmetatable({}, { __close = function() if conn then pcall(conn.release, conn) end end })
    while true do
        local began <const> = task.now()
        local ok <const>, e <const> = pcall(function()
            conn = conn or run.engine:acquire()
            look(run, conn)
        end)
        if not ok then
            if errors.is(e, "cancelled") and not e.sqlstate then error(e, 0) end
            if conn then pcall(conn.release, conn) end
            conn = nil
            local verdict <const> = classify.of(e)
            if verdict ~= "connection" and verdict ~= "conflict" then run:fail(nil, e) end
        end
        task.sleep(math.max(0.05, run.health:next_look() - (task.now() - began)))
    end
end

---Ctrl-C and SIGTERM: no new chunk begins; the current one is cancelled if it has not ended after a second.
---@param run dbrun.batch.Run
---@return table closing
function M.signals(run)
    local function stop(name)
        if run.stopping then os.exit(name == "SIGINT" and 130 or 143) end
        run.stopping = name
        run:tell("message", { text = "the chunk under way ends, then the run" })
        task.sleep(GRACE)
        if run.group then run.group:cancel() end
    end
    local list <const> = {}
    for i, name in ipairs { "SIGINT", "SIGTERM" } do list[i] = task.on_signal(name, stop) end
    return setmetatable({}, { __close = function() for _, listening in ipairs(list) do listening:cancel() end end })
end

---Marks the job as stopped by an error of this run.
---@param run dbrun.batch.Run
---@param e any
function M.stop(run, e)
    run.reason = errors.is(e) and e.message or tostring(e)
    if errors.is(e) and e.sqlstate then run.reason = ("%s (SQLSTATE %s)"):format(run.reason, e.sqlstate) end
    local conn <close> = run.engine:acquire()
    if state.halt(conn, run.store, "stopped", run.reason) then run.over = "stopped" end
end

---The progress of the job by the keys that were read; nil when it is unknown.
local function share(run, totals)
    local total <const> = run.row.estimate
    if run.over == "done" then return 1 end
    if not total or total <= 0 then return nil end
    return math.min(0.99, totals.looked / total)
end

---The event "end".
---@param run dbrun.batch.Run
---@param found? integer
---@return table
function M.report(run, found)
    local seconds <const> = run.stopping and 0.5 or run.failure and 2 or 10
    local ok <const>, totals = pcall(task.timeout, seconds, function()
        local conn <close> = run.engine:acquire()
        return jobs.totals(conn, run.store.name)
    end)
    if not ok then totals = nil end
    local event <const> = {
        state = run.over or run.stopping and "interrupted" or run.state, signal = run.stopping, rows = run.rows,
        chunks = run.chunks, failed = totals and totals.failed or run.failed, seconds = task.now() - run.began,
        found = found, share = totals and share(run, totals) or nil, why = run.reason, name = run.store.name,
        keeps = run.keeps, total_rows = totals and totals.rows or nil,
    }
    run:tell("end", event)
    return event
end

return M
