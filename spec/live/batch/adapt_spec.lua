-- The timing of a job: chunks that take the target time, workers that end together, and runs that end when asked.
local batch = require "dbrun.batch"
local jobs = require "dbrun.batch.state.jobs"
local pg = require "spec.support.pg"
local process = require "spec.support.batch"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local engine, url

setup(function()
    url = servers.database()
    engine = pg.engine { url = url, size = 8 }
end)
teardown(function() engine:close() end)

local function fresh(rows)
    engine:exec "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t"
    process.counters(engine, "t", rows)
end

local function all_done(rows) assert.equal("1: " .. rows, process.counted(engine, "t")) end

--- The durations of a run's chunks with these options; cost(id) is the duration of a row.
local function times(options, cost)
    local list <const> = {}
    options.name, options.table, options.engine = "j", "t", engine
    options.run = function(tx, chunk)
        local rows <const> = tx:query("update t set n = n + 1 where id > $1 and id <= $2", chunk.first or 0,
            chunk.last).affected
        local seconds = 0
        for id = (chunk.first or 0) + 1, chunk.last do seconds = seconds + cost(id) end
        tx:query("select pg_sleep($1)", seconds)
        return rows
    end
    batch.job(options):run { on = function(event)
        if event.what == "chunk" then list[#list + 1] = event end
    end }
    return list
end

--- Runs fn until it succeeds, at most a few times: the machine can be busy with other programs.
local function tries(fn)
    local told
    for _ = 1, 4 do
        local ok <const>, text <const> = fn()
        if ok then return end
        told = text
    end
    error(told, 2)
end

it("chunks take about the target time, even when rows take ten times as long from the middle on", function()
    local rows <const>, target <const> = 2480, 0.04
    tries(function()
        fresh(rows)
        local list <const> = times({ size = 100, target = target, min = 2 }, function(id)
            return id <= 2200 and 2e-4 or 2e-3
        end)
        all_done(rows)
        local seconds <const> = {}
        for _, chunk in ipairs(list) do
            local first <const> = chunk.first or 0
            if first > 800 and chunk.last <= 2200 or first > 2300 then seconds[#seconds + 1] = chunk.seconds end
        end
        table.sort(seconds)
        local median <const> = seconds[(#seconds + 1) // 2]
        return #seconds >= 10 and median >= 0.75 * target and median <= 1.25 * target,
            ("%d chunks, median %.3f s"):format(#seconds, median)
    end)
end)

it("workers of unequal speed end together", function()
    local rows <const> = 3000
    tries(function()
        fresh(rows)
        engine:exec [[
            create or replace function unequal() returns trigger language plpgsql as $$
            declare worker int := substring(current_setting('application_name') from '#(\d+)$');
            begin perform pg_sleep((array[0.004, 0.008, 0.016, 0.1])[worker]); return null; end $$;
            create trigger unequal after update on t for each statement execute function unequal()]]
        local last <const>, began <const> = {}, task.now()
        batch.job({
            name = "j", table = "t", engine = engine, run = "update t set n = n + 1 where :chunk", size = 15, max = 15,
        }):run { workers = 4, on = function(event)
            if event.what == "chunk" then last[event.worker] = task.now() end
        end }
        all_done(rows)
        local least, most = math.huge, 0
        for i = 1, 4 do
            if not last[i] then return false, ("worker %d had no chunk"):format(i) end
            least, most = math.min(least, last[i]), math.max(most, last[i])
        end
        return most - least <= 1, ("they end within %.2f s, after %.2f s"):format(most - least, task.now() - began)
    end)
end)

-- ---- how a run ends ----

local function source(more)
    local options <const> = {
        name = "j", table = "t", run = "update t set n = n + 1 where :chunk", size = 10, max = 10, target = 0.1,
        timeout = 0.4,
    }
    for key, value in pairs(more or {}) do options[key] = value end
    return process.job(options)
end

it("Ctrl-C ends a run within 2 s, in the middle of a chunk; the job goes on later", function()
    fresh(20)
    process.slow(engine, "t", 30)
    tries(function()
        local worker <close> = process.start(source { target = 10, timeout = 60 }, { url = url })
        worker:event "begin"
        pg.eventually(10, function()
            return engine:value [[select exists (select from pg_stat_activity
                where query ~ '^update t' and state = 'active')]]
        end)
        local began <const> = task.now()
        worker:kill "INT"
        local result <const> = worker:finish(20)
        local took <const> = task.now() - began
        assert.equal(130, result.code, result.text)
        assert.same({ "interrupted", 0 }, { result.ended.state, result.ended.rows })
        return took <= 2, ("it ended after %.2f s"):format(took)
    end)
    engine:exec "drop trigger slowly on t"
    local ended <const> = process.start(source { target = 10, timeout = 60 }, { url = url }):finish(20).ended
    assert.equal("done", ended.state)
    all_done(20)
end)

it("a pause from another process starts no new chunk, and holds within the time of one chunk", function()
    fresh(240)
    -- A chunk needs the gate, so that the job is not done before the pause.
    engine:exec [[create or replace function gated() returns trigger language plpgsql as
        $$ begin perform pg_sleep(0.02); perform pg_advisory_xact_lock_shared(240); return null; end $$;
        create trigger gated after update on t for each statement execute function gated()]]
    local gate <close> = engine:acquire()
    local worker <close> = process.start(source { timeout = 30 }, { url = url, workers = 2, chunks = true })
    worker:event "chunk"
    gate:value "select pg_advisory_lock(240)"
    assert.same({ "j" }, jobs.pause(engine, "j"))
    gate:value "select pg_advisory_unlock(240)"
    local began <const> = task.now()
    assert.match("paused", worker:event("wait", 20).text)
    assert(task.now() - began <= 10, task.now() - began)
    pg.eventually(10, function() return jobs.under_way(engine, "j") == 0 end)
    local rows <const> = process.progress(engine, "j")
    task.sleep(0.3)
    assert.equal(rows, process.progress(engine, "j"))
    assert(rows < 240, rows)
    assert.same({ "j" }, jobs.resume(engine, "j"))
    local result <const> = worker:finish(20)
    assert.equal("done", result.ended.state)
    all_done(240)
end)
