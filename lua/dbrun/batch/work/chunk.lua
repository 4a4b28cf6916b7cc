--- One chunk: a READ COMMITTED transaction that locks the range's row, does the work between two bounds, and moves the
--- position. Three round trips for one statement, one commit. If the next chunk follows at once, the commit also begins
--- its transaction; its claim is then a single statement, which is prepared.
local bound = require "dbrun.batch.walk.bound"
local control = require "dbrun.batch.state.control"
local chunks = require "dbrun.batch.state.chunk"
local define = require "dbrun.batch.define"
local guarded = require "dbrun.batch.state.guarded"
local task = require "dbrun.task"

local M = {}

---@class dbrun.batch.Chunk
---@field first any the key after which it begins; nil at the start of the table
---@field last any its last key
---@field number integer of the chunk, counted by this process
---@field attempt integer 1, and one more for each retry
---@field id string the same for the same bounds: a key for calls that may be repeated
---@field started string the job's start, on the server's clock
---@field package after? string[]
---@field package upto string[]
---@field package open boolean
---@field package found? string the keys in it that match

---@class dbrun.batch.Outcome
---@field what "done"|"stepped"|"locked"|"lost"|"state"|"full" full: other workers do the rest of the run's limit
---@field ended? boolean the range has nothing more
---@field rows? integer
---@field seconds? number
---@field chunk? dbrun.batch.Chunk
---@field claim? dbrun.batch.Claim
---@field state? string of the job
---@field reason? string

local function id_of(worker, claim)
    return guarded.id(worker.store.name, tostring(claim.pass),
        claim.position and table.concat(claim.position, "\1") or "", table.concat(claim.next, "\1"))
end

--- Seconds for which the result of a step is used: rows that match since then are left to the next pass, like those
--- before the position.
local FRESH <const> = 5

---The matching keys of the chunk, if this worker's own recent step has returned them.
local function found_in(worker, claim)
    local found <const> = worker.found
    if not found or found.id ~= claim.id or task.now() - found.at > FRESH then return nil end
    return bound.same(found.after, claim.position) and bound.same(found.upto, claim.next) and found.keys or nil
end

local function chunk_of(worker, claim)
    local walk <const> = worker.store.bounds.walk
    return {
        first = walk.value(claim.position), last = walk.value(claim.next), number = worker.run:next_number(),
        attempt = 1 + claim.taken + worker:failures(claim), id = id_of(worker, claim), started = claim.started,
        after = claim.position, upto = claim.next, open = claim.position == nil,
        found = found_in(worker, claim),
    }
end

local STILL <const> = "select pg_catalog.count(*) from %s as %s where %s"

---Whether `where` still holds for the chunk's rows after `run`. Checked once per job, and recorded in its row.
---@return boolean? keeps nil: it was not asked
local function ask_keeps(worker, conn, chunk, rows)
    local run <const> = worker.run
    if not worker.definition.where or run.keeps ~= nil or rows == 0 or worker.store.bounds.apart then return end
    local walk <const> = worker.store.bounds.walk
    local still <const> = conn:value(
        STILL:format(walk.relation, walk.alias, define.condition(worker.definition, walk, chunk.open, true,
            chunk.found ~= nil)),
        worker.store.bounds:with { after = chunk.after, upto = chunk.upto, _keys = chunk.found })
    -- Rows that matched before and still do: those that `run` has changed, or left unchanged. Other sessions may have
    -- changed some meanwhile.
    local fitted <const> = worker.fits
    local keeps
    if fitted then keeps = still > fitted - rows / 2 else keeps = still >= rows end
    control.keeps(conn, worker.store, keeps) -- with the rows: no other worker can begin a second pass without it
    return keeps
end

---From this number of rows on, a stretch is done as a chunk without counting first.
local SOME <const> = 10

---What the step counts: matching rows, or only keys while most rows match.
local function step_of(worker, size)
    if not worker.definition.where then return size, false end
    local share <const> = worker.share
    if share and share >= 0.5 then return math.ceil(size / share), false end
    -- Few rows match: the step returns their keys, and the chunk reads only these.
    if share and share <= (worker.store.bounds.walk.sparse or 0) then return size, true end
    -- A stretch of `look` keys has fewer rows than a chunk, but some: counting them takes as long as doing them.
    local look <const> = worker.size.look
    if share and share * look >= SOME and share * look < size then return look, false end
    return size, true
end

--- Whether the next chunk will follow at once, as far as is known. Transactions of Citus begin separately.
local function goes_on(worker)
    local values <const> = worker.values
    return values.duty >= 1 and not values.rate and not worker.definition.after and not worker.store.bounds.walk.citus
end

local function mark(worker, conn, claim, done)
    local limits <const> = worker.size
    local size <const> = worker.run:allowed(limits.rows, worker)
    local step_size <const>, by_where <const> = step_of(worker, size)
    local began <const> = task.now()
    worker.marking = true
    local chain <const> = goes_on(worker)
    local row <const> = chunks.mark(conn, worker.store, {
        claim = claim, done = done ~= nil, rows = done and done.rows or 0,
        looked = done and done.keys or 0, seconds = done and done.seconds or 0.0,
        size = limits.rows, step_size = step_size, look = math.max(limits.look, step_size), by_where = by_where,
        waited = worker:take_waited(), note = done and done.note, chain = chain,
    })
    worker.begun = chain
    worker.tail = task.now() - began
    limits:stepped(worker.tail)
    if by_where and row.looked > 0 then worker.share = row.fits / row.looked end
    worker.wanted, worker.keys = size, not by_where and step_size or nil
    worker.passed = row.fits > 0 and row.looked or 0
    worker.fits = by_where and row.fits or nil
    worker.found = row.keys and {
        id = claim.id, after = row.position, upto = row.next, keys = row.keys, at = task.now(),
    }
    return row
end

local function do_chunk(worker, conn, claim, began)
    local chunk <const> = chunk_of(worker, claim)
    worker.chunk = chunk
    local rows <const>, note <const> = guarded.run(conn, worker.values.timeout, worker.work, chunk)
    local keeps <const> = ask_keeps(worker, conn, chunk, rows)
    local seconds <const> = task.now() - began
    local wanted <const> = worker.wanted or worker.size.rows
    worker.size:done(rows, wanted, seconds + (worker.tail or 0), worker.run:may_grow())
    if worker.keys then worker.share = math.min(1, rows / worker.keys) end -- few: the next step counts matching rows
    local keys <const> = math.max(rows, worker.passed or 0)
    worker.committing = { claim = claim, chunk = chunk, rows = rows }
    local row <const> = mark(worker, conn, claim, { rows = rows, keys = keys, seconds = seconds, note = note })
    worker.committing = nil
    if keeps ~= nil then worker.run.keeps = keeps end
    return {
        what = "done", rows = rows, seconds = task.now() - began, chunk = chunk, claim = claim,
        keys = keys, ended = row.state ~= "open", overhead = worker.claimed + worker.tail,
    }
end

---Does the next chunk of the worker's range. Raises errors of the work or the server; the connection is then in a
---failed or open transaction.
---@param worker dbrun.batch.Worker
---@return dbrun.batch.Outcome
function M.run(worker)
    local conn <const> = worker.conn
    if worker.run:room(worker) < 1 then return { what = "full" } end
    local began <const> = task.now()
    local claim <const> = chunks.claim(conn, worker.store, worker.range.id, worker:settings(), worker.begun)
    worker.claimed, worker.begun = task.now() - began, false
    local outcome
    if not claim then
        outcome = { what = "locked" }
    elseif not claim.mine or claim.state ~= "open" then
        outcome = { what = "lost" }
    elseif claim.job_state ~= "running" then
        outcome = { what = "state", state = claim.job_state, reason = claim.reason }
    end
    if outcome then
        conn:exec "rollback"
        return outcome
    end
    worker.claim, worker.backend, worker.marking = claim, claim.backend, false
    worker.run:configure(claim.set_values)
    if not claim.next or worker.run:too_big(worker) then
        local row <const> = mark(worker, conn, claim)
        return { what = "stepped", ended = row.state ~= "open", rows = 0, seconds = task.now() - began }
    end
    worker.planned = worker.wanted
    return do_chunk(worker, conn, claim, began)
end

return M
