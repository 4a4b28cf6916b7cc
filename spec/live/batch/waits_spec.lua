-- A job that waits: for transactions, a lost server, load signals, a slow where, its final check.
local batch = require "dbrun.batch"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local engine, address

setup(function()
    address = servers.database()
    engine = pg.engine { url = address, size = 8 }
end)
teardown(function() engine:close() end)

--- A table t of n rows: id, v (0 where id is a multiple of 700), n (its number of changes).
local function fresh(n)
    engine:exec("drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t")
    engine:exec("create table t (id int primary key, v int, n int not null default 0)")
    engine:query([[insert into t select i, case when i % 700 = 0 then 0 else i end
                     from generate_series(1, $1::int) i]], n)
    engine:exec "analyze t"
end

local function job(options)
    local all <const> = { name = "j", table = "t", run = "update t set n = n + 1 where :chunk", size = 500,
        engine = engine }
    for key, value in pairs(options or {}) do all[key] = value end
    return batch.job(all)
end

--- Runs a job and collects its events, by kind.
local function run(options, opts)
    local seen <const> = {}
    opts = opts or {}
    opts.on = function(event)
        seen[event.what] = seen[event.what] or {}
        table.insert(seen[event.what], event)
    end
    return job(options):run(opts), seen
end

local function counts()
    return engine:one
        "select count(*) as rows, min(n) as least, max(n) as most, sum(n)::int8 as sum from t"
end

--- The error that fn raises; its message has `text`.
local function fails(text, fn)
    local ok <const>, e <const> = pcall(fn)
    assert.is_false(ok)
    assert.is_true(errors.is(e), tostring(e))
    assert.is_truthy(e.message:find(text, 1, true), e.message)
    return e
end

describe("the final check", function()
    it("ends at the run's time limit, and says so", function()
        fresh(600)
        local ended <const>, seen <const> = run({
            where = "case when n = 1 then pg_sleep(0.01) is null else true end", passes = 1, size = 20, look = 20,
            settings = { enable_seqscan = false }, throttle = { blocked = false },
        }, { seconds = 2 })
        assert.is_nil(ended.found)
        assert.is_true(ended.seconds < 5)
        if ended.state == "done" then -- else there was no time for it
            assert.match("had to end %(dbrun batch check j looks%)", seen.message[#seen.message].text)
        end
    end)
end)

describe("follow", function()
    it("waits for transactions that were open at the start: their keys may be below the last one", function()
        fresh(10)
        local conn <close> = engine:acquire()
        local other <close> = engine:acquire()
        conn:exec "begin"
        conn:exec "insert into t values (11, 1)"
        engine:exec "insert into t values (12, 1)"
        local said
        local ended <const> = job({ follow = true }):run { seconds = 15, on = function(event)
            if event.what == "wait" and not said then
                said = event.text
                conn:exec "commit"
            elseif event.what == "chunk" then
                jobs.cancel(other, "j")
            end
        end }
        assert.match("older transactions have ended: pid %d+", said)
        assert.same({ 12, "cancelled" }, { ended.rows, ended.state })
        assert.same({ rows = 12, least = 1, most = 1, sum = 12 }, counts())
    end)
end)

describe("a server that is lost", function()
    it("again, after a reply, has its whole grace period to restart", function()
        fresh(10)
        local other <close> = engine:acquire()
        local lost = 0
        local ended <const> = job({ follow = true, engine = address }):run {
            reconnect = 1, seconds = 20, on = function(event)
                if event.what == "retry" then
                    lost = lost + 1
                elseif event.what == "wait" then
                    task.spawn(function()
                        repeat
                            other:query [[select pg_terminate_backend(pid) from pg_stat_activity
                                           where application_name like 'dbrun batch j%']]
                            task.sleep(1.3)
                        until lost >= 2
                        jobs.cancel(other, "j")
                    end)
                end
            end,
        }
        assert.equal("cancelled", ended.state)
        assert.is_true(lost >= 2)
    end)

    it("at each search for a chunk stops the job", function()
        fresh(10)
        local e <const> = fails("terminating connection", function()
            run({ where = "pg_terminate_backend(pg_backend_pid()) and id > 0", on_error = "skip", force = true },
                { seconds = 20 })
        end)
        assert.match("the search for the next chunk of the job 'j'", e.context)
    end)
end)

describe("the reason for which a job waits", function()
    it("is written without waiting for a chunk, and no lock_timeout of the role ends the job", function()
        fresh(1000)
        local busy, written = false, nil
        local ended <const> = job({
            engine = address .. (address:find("?", 1, true) and "&" or "?") .. "options=-c%20lock_timeout%3D50ms",
            run = function(tx, chunk)
                if not written then
                    busy = true
                    tx:query "select pg_sleep(1.3)"
                end
                return #chunk:rows "id"
            end,
            throttle = { busy = function() return busy and "busy for a while" or nil end },
        }):run { seconds = 20, on = function(event)
            if event.what == "look" and busy then
                written = engine:value "select waiting from dbrun_batch_ranges where waiting is not null"
                busy = not written
            end
        end }
        assert.same({ "done", 1000, "busy: busy for a while" }, { ended.state, ended.rows, written })
    end)
end)

describe("a slow where", function()
    it("is searched in smaller steps when one took too long", function()
        fresh(60)
        local ended <const>, seen <const> = run({
            where = "pg_sleep(0.005) is not null and id % 30 = 0", passes = 1, target = 0.05, timeout = 0.15,
            force = true, settings = { enable_seqscan = false, enable_bitmapscan = false }, -- as in a large table
        }, { seconds = 15 })
        assert.equal("57014", seen.retry[1].sqlstate)
        assert.same({ "done", 2 }, { ended.state, ended.rows })
    end)
end)

describe("a worker that was stopped for long", function()
    it("ends when its range was done and merged by others", function()
        fresh(3000)
        local ended <const> = run({ size = 100, max = 100, on_error = "stop", run = function(tx, chunk)
            if chunk.number == 3 then -- others take the rest of the range at this moment, as they may after 15 s
                task.spawn(function()
                    engine:query "update dbrun_batch_ranges set owner = 'other:1/1', claimed = clock_timestamp()"
                    engine:query [[with gone as (delete from dbrun_batch_ranges returning job, pass, last)
                        insert into dbrun_batch_ranges (job, pass, position, last, state)
                        select job, pass, last, last, 'done' from gone]]
                end)
                task.sleep(0.1)
            end
            return tx:query("update t set n = n + 1 where id > $1 and id <= $2", chunk.first or 0, chunk.last).affected
        end }, { seconds = 20 })
        assert.equal("done", ended.state)
    end)
end)
