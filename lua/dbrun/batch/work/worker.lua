--- A worker: takes a range, does its chunks one after the other, and handles failures. It has one connection.
local bound = require "dbrun.batch.walk.bound"
local chunk = require "dbrun.batch.work.chunk"
local classify = require "dbrun.batch.work.classify"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local holders = require "dbrun.batch.state.holders"
local pace = require "dbrun.batch.work.pace"
local passes = require "dbrun.batch.state.passes"
local set_aside = require "dbrun.batch.state.set_aside"
local sizes = require "dbrun.batch.work.size"
local take = require "dbrun.batch.state.take"
local task = require "dbrun.task"

local M = {}

---@class dbrun.batch.Worker
---@field number integer
---@field run dbrun.batch.Run
---@field store dbrun.batch.Store
---@field definition dbrun.batch.Definition
---@field values table<string, any> in force
---@field work fun(conn: table, chunk: table): integer, table?
---@field size dbrun.batch.Size
---@field conn? table
---@field range? dbrun.batch.Range
---@field claim? dbrun.batch.Claim of the current chunk
---@field backend? integer the server's process, while a chunk runs
---@field wanted? integer rows requested for the next chunk
---@field share? number of the keys of the last step whose rows match
---@field begun boolean the transaction of the next chunk is open, and has done nothing
local Worker = {}
Worker.__index = Worker

---@param run dbrun.batch.Run
---@param number integer
---@return dbrun.batch.Worker
function M.new(run, number)
    local me <const> = ("%s/%d.%s"):format(run.me, number, run.token)
    local store <const> = setmetatable({ me = me }, { __index = run.store })
    local self <const> = setmetatable({
        number = number, run = run, store = store, definition = run.definition, values = run.values,
        work = run.work_of(number), size = sizes.new(run.values), pace = pace.new(task.now()), waited = {},
        begun = false,
    }, Worker)
    store.set_aside = function(range, why, failed) self:set_aside(range, why, failed) end
    return self
end

---Reports a chunk that was stored as failed; too many stop the job.
---@param range dbrun.batch.Range with the bounds of the chunk
---@param why table
---@param failed integer failed ranges of the job
function Worker:set_aside(range, why, failed)
    local run <const>, most <const> = self.run, self.values.max_failed
    run:set_aside(self, range, why)
    if failed <= most then return end
    run:fail(self, errors.new {
        kind = "query", message = ("%d %s failed, and max_failed is %d"):format(failed,
            failed == 1 and "range" or "ranges", most),
        hint = "dbrun batch errors " .. self.store.name .. " shows them",
    })
end

---Settings of the transaction of each chunk.
---@return {[1]: string, [2]: any}[]
function Worker:settings()
    if self.settings_of ~= self.values then
        self.settings_of = self.values
        self.list = self.run:settings(self.values, self.number)
    end
    return self.list
end

---The number of earlier failures of the chunk with these bounds.
function Worker:failures(claim)
    local failed <const> = self.failed
    if failed and failed.id == claim.id and bound.same(failed.position, claim.position) then
        return failed.n
    end
    return 0
end

local function note_failure(worker, claim)
    local n <const> = worker:failures(claim) + 1
    worker.failed = { id = claim.id, position = claim.position, n = n }
    return n
end

---Seconds waited by reason since the last mark.
function Worker:take_waited()
    local waited <const> = self.waited
    self.waited = {}
    return waited
end

---Gives the connection back after an error: the pool rolls back, or closes it.
local function disconnect(worker)
    local conn <const> = worker.conn
    worker.conn, worker.backend, worker.planned, worker.begun = nil, nil, nil, false
    if conn then pcall(conn.release, conn) end
end

---Ends the transaction that was begun for a chunk that does not follow.
local function end_begun(worker)
    if not worker.begun then return end
    worker.begun = false
    local ok <const>, e <const> = pcall(worker.conn.exec, worker.conn, "rollback")
    if ok then return end
    disconnect(worker) -- nothing was done in it, so nothing is lost
    if classify.of(e) == "cancelled" then error(e, 0) end
end

---Waits, and records the reason; no transaction is open meanwhile.
function Worker:wait(reason, seconds, text)
    end_begun(self)
    local began <const> = task.now()
    if text then self.run:waits(self, text, reason) end
    self.run:sleep(seconds)
    self.waited[reason] = (self.waited[reason] or 0) + task.now() - began
end

---A connection outside of a transaction.
local function connect(worker)
    end_begun(worker)
    if not worker.conn then worker.conn = worker.run.engine:acquire() end
end

---Releases the range.
local function leave(worker, seconds)
    local range <const> = worker.range
    worker.range, worker.claim = nil, nil
    if range then
        connect(worker)
        take.release(worker.conn, worker.store, range.id, seconds)
    end
end

---Checks after a lost connection whether the range's last chunk was committed.
local function recover(worker)
    local lost <const> = worker.lost
    connect(worker)
    local range <const>, ended <const> = take.again(worker.conn, worker.store, lost)
    worker.lost = nil
    worker.range = range and range.state == "open" and range or nil
    local committing <const> = worker.committing
    worker.committing = nil
    if committing and (ended or range and bound.same(range.position, committing.claim.next)) then
        worker.run:did(worker, {
            what = "done", rows = committing.rows, chunk = committing.chunk, claim = committing.claim, seconds = 0,
        })
    end
end

---Forgets the last step's result, which is not valid for another range.
local function forget_step(worker)
    worker.wanted, worker.keys, worker.passed, worker.fits = nil, nil, nil, nil
end

---A range to work on. Returns false when the worker is to end.
local function get_range(worker)
    local run <const> = worker.run
    local what <const>, value <const> = take.take(worker.conn, worker.store, function(tx, job)
        return passes.advance(tx, worker.store, job, {
            passes = worker.definition.where and worker.definition.passes or 1, follow = worker.definition.follow,
        })
    end)
    if what == "range" then
        if value.pass ~= worker.pass then
            worker.share, worker.pass = nil, value.pass
            run:passes(value.pass)
        end
        worker.range = value
        forget_step(worker)
        if value.id ~= worker.left then worker.size = worker.size:other(value.size) end
        worker.left = nil
    elseif what == "split" then
        worker.range = take.split(worker.conn, worker.store, value)
        forget_step(worker)
        if worker.range then
            worker.size = worker.size:other(worker.range.size)
        else
            worker:wait("work", 0.2 + 0.1 * math.random())
        end
    elseif what == "wait" then
        worker:wait(worker.definition.follow and "rows" or "transactions", 1, value)
    elseif what == "paused" then
        run.state, run.reason = "paused", value
    elseif what ~= "again" then
        run:ended(what, value)
        return false
    end
    return true
end

---Whether the search for the next chunk failed, and not the chunk. An error at COMMIT is the chunk's.
local function in_step(worker, e)
    return worker.marking and not (e.statement or ""):find "^commit"
end

---Says in an error which chunk of which job it is about.
local function in_chunk_of(worker, e)
    if errors.is(e) and in_step(worker, e) then
        local walk <const>, claim <const> = worker.store.bounds.walk, worker.claim
        local after <const> = bound.text(walk.value(worker.committing and claim.next or claim.position))
        e.context = (e.context and e.context .. "\n" or "") .. ("the search for the next chunk of the job '%s'%s%s")
            :format(worker.store.name, after and ", behind the key " .. after or "",
                worker.run.definition.where and ": where fails for a row there" or "")
    elseif errors.is(e) then
        local walk <const>, claim <const> = worker.store.bounds.walk, worker.claim
        local first <const>, last <const> = bound.text(walk.value(claim.position)), bound.text(walk.value(claim.next))
        e.context = (e.context and e.context .. "\n" or "") .. ("a chunk of the job '%s': the keys %s up to %s"):format(
            worker.store.name, first and "behind " .. first or "from the first on", last or "?")
    end
    return e
end

---Retries half of the chunk, after a pause in which other ranges come first.
local function conflict(worker, e)
    local run <const> = worker.run
    local claim <const> = worker.claim
    local n <const> = note_failure(worker, claim)
    if classify.is_too_long(e) then worker.size:too_long() else worker.size:conflict() end
    local pause <const> = math.min(5, 0.1 * 2 ^ math.min(n, 6)) * (0.5 + 0.5 * math.random())
    connect(worker)
    if worker.marking then worker.size:stepped(2 * worker.values.timeout) end -- the step is slow
    local how <const> = claim.next and set_aside.halve(worker.conn, worker.store, claim, worker.values.look)
    local holder <const> = e.sqlstate == "55P03" and holders.of(worker.conn, worker.store.bounds.walk.oid) or nil
    if e.sqlstate == "53400" and how == "single" then -- it will not fit later, either
        e.hint = (e.hint and e.hint .. " " or "") .. "A single key is over the limit: settings = { NAME = VALUE } in "
            .. "the job raises it for each chunk."
        return run:fail(worker, in_chunk_of(worker, e))
    end
    run:retries(worker, e, pause, how, holder)
    if how then leave(worker, pause) end
    worker.range, worker.left = nil, claim.id -- its size is halved, and stays halved when it is taken again
    worker:wait("conflict", math.min(pause, 0.1))
end

---An error in the data: the job stops, or the chunk is stored as failed, or halved until the row is alone.
local function bad_row(worker, e)
    local run <const> = worker.run
    local claim <const> = worker.claim
    local on_error <const> = worker.values.on_error
    if on_error == "stop" then return run:fail(worker, in_chunk_of(worker, e)) end
    connect(worker)
    local attempts <const> = note_failure(worker, claim)
    local key
    if on_error == "split" then
        worker.size:conflict()
        forget_step(worker)
        local how <const> = set_aside.halve(worker.conn, worker.store, claim, worker.values.look)
        if how ~= "single" then return end
        key = claim.next
    end
    local why <const> = {
        sqlstate = e.sqlstate, message = e.message, detail = e.detail, key = key, attempts = attempts,
    }
    local failed <const> = set_aside.fail(worker.conn, worker.store, claim, why)
    if failed then worker:set_aside(claim, why, failed) end -- else another worker has the range now
end

--- How often a search for a chunk can lose its connection.
local MOST_SEARCHES <const> = 5

---A chunk that crashes the server is finally stored as failed; a search that does so has no chunk to store.
local function ends_search(worker)
    if not worker.marking or worker.claim.next then return false end
    worker.searches = (worker.searches or 0) + 1
    return worker.searches >= MOST_SEARCHES
end

---The server is gone, or not writable: reconnects until the time for that is over.
local function reconnect(worker, e)
    local run <const> = worker.run
    local now <const> = task.now()
    worker.down = worker.down or now
    if now - worker.down > run.reconnect then
        return run:fail(worker, e)
    end
    if worker.range then
        worker.lost = worker.claim or worker.range
        worker.store.trouble = { range = worker.range.id, message = e.message }
    end
    if e.sqlstate == "25006" then run.engine:invalidate() end
    worker.tries = (worker.tries or 0) + 1
    run:retries(worker, e, nil, "connect")
    worker:wait("connection", math.min(2, 0.1 * 2 ^ math.min(worker.tries, 5)) * (0.5 + 0.5 * math.random()))
end

--- Consecutive conflicts outside a chunk, after which they are reported.
local SAID <const> = 20

local function handle(worker, e)
    local verdict <const> = classify.of(e)
    local in_chunk <const> = worker.backend ~= nil
    disconnect(worker)
    if verdict == "cancelled" then error(e, 0) end
    if verdict == "conflict" and in_chunk then
        worker.committing = nil
        return conflict(worker, e)
    elseif verdict == "conflict" then
        worker.refused = (worker.refused or 0) + 1
        if worker.refused % SAID == 0 then worker.run:retries(worker, e) end
        return worker:wait("conflict", 0.05 + 0.1 * math.random())
    elseif verdict == "connection" then
        if in_chunk and ends_search(worker) then return worker.run:fail(worker, in_chunk_of(worker, e)) end
        return reconnect(worker, e)
    elseif verdict == "row" and in_chunk and not in_step(worker, e) then
        worker.committing = nil
        return bad_row(worker, e)
    end
    worker.run:fail(worker, in_chunk and in_chunk_of(worker, e) or e)
end

---Handles an error; the connection that it needs may be lost too.
local function deal(worker, e)
    local ok <const>, another <const> = pcall(handle, worker, e)
    if not ok then handle(worker, another) end
end

---After a chunk: pauses as duty and rate say.
local function rest(worker, outcome)
    local values <const> = worker.values
    if values.duty >= 1 and not values.rate then return end
    local rate <const> = values.rate and values.rate / worker.run:share_of_rate()
    local seconds <const> = worker.pace:rest(task.now(), outcome.seconds, outcome.rows, values.duty, rate)
    if seconds > 0 then worker:wait("rest", seconds) end
end

---VACUUM between chunks, where the signal `dead` asks for it.
local function vacuum(worker)
    local run <const> = worker.run
    if not run.health:wants_vacuum() then return end
    connect(worker)
    run:tell("message", { worker = worker.number, text = "VACUUM of the table, between chunks" })
    local began <const> = task.now()
    worker.conn:exec("vacuum " .. worker.store.bounds.walk.relation)
    worker.waited.vacuum = (worker.waited.vacuum or 0) + task.now() - began
end

--- Consecutive claims that found the range's row locked or gone, after which a query finds out which.
local LOCKED <const> = 5

---The row of the range is locked, by a worker that splits it or has taken it; or it is gone, because another worker
---took it while this one was away, finished it, and it was merged.
local function locked(worker)
    worker.locked = (worker.locked or 0) + 1
    if worker.locked % LOCKED == 0 and not take.holds(worker.conn, worker.store, worker.range.id) then
        worker.range = nil
        return
    end
    worker:wait("lock", 0.005 + 0.02 * math.random())
end

local function step(worker)
    if not worker.begun or not worker.range or worker.lost then connect(worker) end
    if worker.lost then return recover(worker) end
    if not worker.range then return get_range(worker) end
    worker.claim = nil
    vacuum(worker)
    local outcome <const> = chunk.run(worker)
    worker.backend, worker.planned, worker.searches = nil, nil, nil
    if outcome.what ~= "locked" then worker.locked = nil end
    if outcome.what == "done" then
        worker.failed = nil
        worker.run:did(worker, outcome)
        if outcome.ended then worker.range = nil end
        rest(worker, outcome)
    elseif outcome.what == "stepped" then
        if outcome.ended then worker.range = nil end
        rest(worker, outcome)
    elseif outcome.what == "full" then
        worker:wait("limit", 0.05)
    elseif outcome.what == "locked" then
        locked(worker)
    elseif outcome.what == "lost" then
        worker.range = nil
    elseif outcome.what == "state" then
        worker.run.state, worker.run.reason = outcome.state, outcome.reason
        if outcome.state ~= "paused" then
            worker.run:ended(outcome.state, outcome.reason)
            return false
        end
    end
    return true
end

local function work(worker)
    local run <const> = worker.run
    while true do
        local ends <const>, why <const>, reason <const> = run:hold()
        if ends then return end
        if why then
            worker:wait(reason, 1, why)
            worker.held = true
        else
            if worker.held then
                worker.held = nil
                worker.size:waited()
                run:goes_on(worker)
                task.sleep(0.3 * math.random()) -- workers begin a little apart
            end
            local ok <const>, more <const> = pcall(step, worker)
            if ok then worker.down, worker.tries, worker.refused = nil, nil, nil end -- the server has answered
            if not ok then
                deal(worker, more)
            elseif more == false then
                return
            end
        end
    end
end

---Works until the job or the run ends. Releases its range at the end; if that fails, others take the range 15 s later.
function Worker:loop()
    local ok <const>, e <const> = pcall(work, self)
    task.shield(function()
        local left <const>, why <const> = pcall(task.timeout, 0.5, leave, self)
        if not left then core.log.write("debug", "batch: a range was not given back: " .. tostring(why)) end
        disconnect(self)
    end)
    if not ok then error(e, 0) end
end

return M
