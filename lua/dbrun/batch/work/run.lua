--- A run of a job in this process: its workers, what they share, and its end.
local control = require "dbrun.batch.work.control"
local core = require "dbrun.core"
local define = require "dbrun.batch.define"
local errors = require "dbrun.error"
local exit_guard = require "dbrun.exit_guard"
local gone = require "dbrun.batch.work.gone"
local json = require "dbrun.json"
local last_look = require "dbrun.batch.work.last_look"
local opening = require "dbrun.batch.work.opening"
local settings = require "dbrun.batch.state.settings"
local task = require "dbrun.task"
local workers = require "dbrun.batch.work.worker"

local M = {}

---@class dbrun.batch.RunOptions
---@field workers? integer default 1
---@field limit? integer rows after which the run ends
---@field seconds? number after which the run ends
---@field adopt? boolean takes a changed definition
---@field reconnect? number seconds to try to connect again (300)
---@field count? boolean counts the rows at the start
---@field force? boolean runs a job that would be refused as dangerous
---@field target? string the database's name, for a protected one
---@field on? fun(event: table) what happens, for people
---@field signals? boolean Ctrl-C and SIGTERM end the run with its chunk

---@class dbrun.batch.Run
---@field definition dbrun.batch.Definition
---@field store dbrun.batch.Store without `me`
---@field engine dbrun.Engine
---@field me string "host:pid"
---@field token string distinguishes it from another process with the same host and pid
---@field values table<string, any> in force
---@field state? string of the job, as it was last seen
---@field reason? string
---@field keeps? boolean `where` still holds after `run`
---@field health table
local Run = {}
Run.__index = Run

---Passes an event to the listener.
function Run:tell(what, event)
    event.what = what
    if self.on then self.on(event) end
end

---@return integer number of the next chunk of this process
function Run:next_number()
    self.numbers = self.numbers + 1
    return self.numbers
end

---Applies the values that were set, if they have changed.
---@param set_text string JSON
function Run:configure(set_text)
    if set_text == self.set_text then return end
    self.set_text = set_text
    self.values = define.values(self.definition, json.decode(set_text))
    self.health:configure(self.values.throttle, self.values.critical)
    self.hours = opening.hours(self.values)
    for _, worker in ipairs(self.workers) do
        worker.values = self.values
        worker.size:configure(self.values)
    end
end

---The rows of the run's limit that are left for a worker; others took theirs when their chunks began.
---@param worker dbrun.batch.Worker
---@return number
function Run:room(worker)
    if not self.limit then return math.huge end
    local room = self.limit - self.rows
    for _, other in ipairs(self.workers) do
        if other ~= worker then room = room - (other.planned or 0) end
    end
    return room
end

---The rows that a worker's chunk can have: at most the rest of the limit, and what the rate allows in ten seconds,
---because a worker that pauses for longer counts as lost.
---@param rows integer
---@param worker dbrun.batch.Worker
---@return integer
function Run:allowed(rows, worker)
    local most = math.min(rows, self:room(worker))
    local rate <const> = self.values.rate
    if rate then most = math.min(most, math.ceil(10 * rate / self:share_of_rate())) end
    return math.max(1, most)
end

---Whether the worker's next chunk would exceed the limit.
---@param worker dbrun.batch.Worker
---@return boolean
function Run:too_big(worker)
    return self.limit ~= nil and (worker.wanted or math.huge) > self:room(worker)
end

---May chunks grow?
---@return boolean
function Run:may_grow()
    return not self.health:near()
end

---A worker's share of the rate, among all workers that are active now.
---@return integer
function Run:share_of_rate()
    local own = 0
    for _, worker in ipairs(self.workers) do own = own + (worker.range and 1 or 0) end
    return math.max(1, self.all_workers or #self.workers, own)
end

---Sleeps, but not beyond the end of the run.
---@param seconds number
function Run:sleep(seconds)
    local until_ <const> = task.now() + seconds
    repeat
        local left <const> = until_ - task.now()
        if left > 0 then task.sleep(math.min(left, 0.2)) end
    until left <= 0 or self:is_over()
end

---@return boolean
function Run:is_over()
    return self.stopping ~= nil or self.failure ~= nil or self.over ~= nil
end

---Whether a worker must end or wait.
---@return boolean ends
---@return string? why said to people
---@return string? reason under which the time is counted
function Run:hold()
    if not self.over and self.limit and self.rows >= self.limit then
        self.over = "limit"
    elseif not self.over and self.seconds and task.now() - self.began >= self.seconds then
        self.over = "time"
    end
    if self:is_over() then return true end
    if self.state == "paused" then
        return false, ("the job is paused%s"):format(self.reason and ": " .. self.reason or ""), "paused"
    end
    if self.closed then return false, self.closed, "hours" end
    local why <const>, name <const> = self.health:verdict()
    if why then return false, why, name or "throttle" end
    return false
end

---A worker waits: reported when the reason has changed. If only the text has changed (12 s behind, 13 s behind), it is
---`still` the same wait.
function Run:waits(worker, text, reason)
    local still <const> = self.said_reason == reason
    if still and self.said == text then return end
    self.said, self.said_reason = text, reason
    self:tell("wait", { worker = worker.number, text = text, reason = reason, still = still or nil })
end

---A worker has got a range of a later pass.
---@param pass integer
function Run:passes(pass)
    if pass <= (self.pass or self.row.pass) then return end
    self.pass = pass
    self:tell("pass", { pass = pass })
end

---A worker goes on after a wait.
function Run:goes_on(worker)
    if self.said then
        self.said, self.said_reason = nil, nil
        self:tell("go", { worker = worker.number })
    end
end

---A chunk was committed.
function Run:did(worker, outcome)
    local chunk <const> = outcome.chunk
    self.rows, self.chunks = self.rows + outcome.rows, self.chunks + 1
    if outcome.overhead then self.health:took(outcome.overhead) end
    self:goes_on(worker)
    self:tell("chunk", {
        worker = worker.number, range = outcome.claim.id, pass = outcome.claim.pass, number = chunk.number,
        attempt = chunk.attempt, first = chunk.first, last = chunk.last, rows = outcome.rows,
        seconds = outcome.seconds, size = worker.size.rows, keys = outcome.keys,
    })
    local after <const> = self.definition.after
    if after then
        local what <const> = ("after of the batch job '%s'"):format(self.definition.name)
        local ok <const>, e <const> = pcall(exit_guard.call, what, after, chunk, outcome.rows)
        if not ok then self:fail(worker, e) end
    end
end

---A worker retries.
---@param worker dbrun.batch.Worker
---@param e any
---@param pause? number seconds
---@param how? "halved"|"single"|"connect"
---@param holder? string who holds a lock on the table
function Run:retries(worker, e, pause, how, holder)
    local text <const> = worker.because or errors.is(e) and e.message or tostring(e)
    worker.because = nil
    self:tell("retry", {
        worker = worker.number, text = text, sqlstate = errors.is(e) and e.sqlstate or nil, pause = pause, how = how,
        holder = holder,
    })
end

---A chunk was stored as failed.
function Run:set_aside(worker, claim, why)
    self.failed = self.failed + 1
    local walk <const> = self.store.bounds.walk
    self:tell("failed", {
        worker = worker.number, first = walk.value(claim.position), last = walk.value(claim.next),
        key = why.key and walk.value(why.key), sqlstate = why.sqlstate, message = why.message,
    })
end

---The run ends with an error, and the job is stopped.
function Run:fail(worker, e)
    if self.failure then return end
    self.failure = e
    self:tell("message", { worker = worker and worker.number, text = "the job stops" })
end

---The job has ended: done, stopped or cancelled, by this process or by another.
function Run:ended(state, reason)
    self.state, self.reason, self.over = state, reason, state
end

---Settings of the transaction of each chunk of a worker.
function Run:settings(values, number)
    return settings.of(self.definition, values, number, self.optional)
end

---The last check, which a Unix signal cancels like a chunk.
local function look_last(run)
    local found
    local group <close> = task.group()
    group:spawn(function() found = last_look.run(run) end)
    run.group = group
    local ok <const>, e <const> = pcall(group.wait, group)
    if not ok and not (run.stopping and errors.is(e, "cancelled")) then error(e, 0) end
    return found
end

---Whether nobody reads what this run writes any more: it ends, but the job goes on in other processes.
local function is_unread(e)
    return errors.is(e, "io") and (e.message:find "^cannot write to stdout:"
        or e.message:find "^cannot write to standard output:") ~= nil
end

local function finish(run)
    if run.failure then
        local e <const> = run.failure
        local ok, why = true, nil
        if not is_unread(e) then ok, why = pcall(task.timeout, 5, control.stop, run, e) end
        if not ok then core.log.write("warn", "batch: the job was not marked as stopped: " .. tostring(why)) end
        error(e, 0)
    end
    if run.over == "done" then
        gone.tell(run)
        opening.finish(run)
    end
    if run.over == "done" and run.definition.where and not run.keeps and run.store.bounds.walk.sql ~= false then
        local ok <const>, what <const> = pcall(look_last, run)
        if ok then return what end
        if errors.is(what, "cancelled") then error(what, 0) end
        run:tell("message", { text = "the job is done; what may have come behind is not known: " .. tostring(what) })
    end
end

local function start(run, opts)
    for i = 1, opts.workers or 1 do run.workers[i] = workers.new(run, i) end -- may raise: before anything runs
    local group <close> = task.group()
    -- The first worker gets the connection that opened the job: its server process has the tables in its caches.
    for _, worker in ipairs(run.workers) do group:spawn(worker.loop, worker) end
    local watching <const> = task.spawn(control.loop, run)
    run.group = group
    local ok <const>, e <const> = pcall(group.wait, group)
    watching:cancel()
    if not ok and not (run.stopping and errors.is(e, "cancelled")) then error(e, 0) end
end

local function new(definition, opts)
    return setmetatable({
        definition = definition, on = opts.on, limit = opts.limit, seconds = opts.seconds, workers = {}, numbers = 0,
        rows = 0, chunks = 0, failed = 0, reconnect = opts.reconnect or 300, began = task.now(),
    }, Run)
end

---Starts a job in the database, or checks that it is there and has not changed, without working on it.
---@param definition dbrun.batch.Definition
---@param opts dbrun.batch.RunOptions
---@return string state of the job
function M.only_start(definition, opts)
    local run <const> = new(definition, opts)
    local _ <close> = opening.open(run, opts)
    return run.state
end

---Runs a job until it is done, or the run ends.
---@param definition dbrun.batch.Definition
---@param opts? dbrun.batch.RunOptions
---@return table event "end": {state, rows, chunks, failed, seconds, found, share, why}
---Raises the error that ended it.
function M.start(definition, opts)
    opts = opts or {}
    if core.options and core.options.dry_run then
        errors.fail("usage", "batch jobs have no part in a dry run, which is one transaction",
            "dbrun batch run NAME --dry-run reads what a job would do")
    end
    local run <const> = new(definition, opts)
    local _ <close> = opening.open(run, opts)
    local found
    if not run.over then
        local _ <close> = opts.signals and control.signals(run) or nil
        local ok <const>, e <const> = pcall(function()
            start(run, opts)
            found = finish(run)
        end)
        if not ok then
            if errors.is(e, "cancelled") then run.over = run.over or "interrupted" end -- by SIGHUP or --timeout
            pcall(control.report, run) -- programs that read the events know by the last one that the run has ended
            error(e, 0)
        end
    end
    return control.report(run, found)
end

return M
