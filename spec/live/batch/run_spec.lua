-- A job on a real server: each row once, resuming, several workers, errors, conflicts and passes.
local batch = require "dbrun.batch"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local engine

setup(function() engine = pg.engine { url = servers.database(), size = 8 } end)
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

local function failed()
    local list <const> = {}
    for _, row in ipairs(engine:query [[
        select last, error->>'sqlstate' as sqlstate, error->'key'->>0 as key from dbrun_batch_ranges
         where state = 'failed' order by last[1]::int]]) do
        list[#list + 1] = ("%s %s %s"):format(row.last[1], row.sqlstate, row.key)
    end
    return table.concat(list, ", ")
end

describe("a job", function()
    it("changes each row once, and is done", function()
        fresh(3000)
        local ended <const>, seen <const> = run()
        assert.same({ rows = 3000, least = 1, most = 1, sum = 3000 }, counts())
        assert.equal("done", ended.state)
        assert.equal(3000, ended.rows)
        assert.equal(6, #seen.chunk)
        assert.equal(500, seen.chunk[2].first)
        assert.equal(1000, seen.chunk[2].last)
        assert.same({ 0, "done" }, { run().rows, run().state }) -- again: no rows remain
        assert.same({ rows = 3000, least = 1, most = 1, sum = 3000 }, counts())
    end)

    it("is done at once for an empty table", function()
        fresh(0)
        assert.same({ "done", 0 }, { run().state, run().rows })
    end)

    it("ends after a number of rows, and goes on from there", function()
        fresh(3000)
        local ended <const> = run(nil, { limit = 1200 })
        assert.same({ "limit", 1200 }, { ended.state, ended.rows })
        assert.is_near(0.4, ended.share, 0.001)
        assert.same({ rows = 3000, least = 0, most = 1, sum = 1200 }, counts())
        assert.same({ "done", 1800 }, { run().state, 1800 })
        assert.same({ rows = 3000, least = 1, most = 1, sum = 3000 }, counts())
    end)

    it("shares its table among workers, and leaves few rows of state", function()
        fresh(6000)
        local ended <const>, seen <const> = run({ size = 10, max = 10, min = 1 }, { workers = 4 })
        assert.same({ rows = 6000, least = 1, most = 1, sum = 6000 }, counts())
        local by <const> = {}
        for _, event in ipairs(seen.chunk) do by[event.worker] = true end
        assert.equal(4, #by)
        assert.equal(6000, ended.rows)
        assert.is_true(engine:value "select count(*) from dbrun_batch_ranges" <= 12)
        assert.equal(6000, engine:value "select sum(rows)::int8 from dbrun_batch_ranges")
    end)

    it("ends after a number of rows with several workers, too", function()
        fresh(3000)
        local ended <const> = run({ size = 100 }, { limit = 1030, workers = 4 })
        assert.same({ "limit", 1030 }, { ended.state, ended.rows })
        assert.same({ rows = 3000, least = 0, most = 1, sum = 1030 }, counts())
    end)

    it("with a rate takes at most the rows of ten seconds at once", function()
        fresh(3000)
        local _, e <const> = pcall(run, { rate = 5, after = function(_, rows) error("after rows: " .. rows, 0) end })
        assert.equal("after rows: 50", tostring(e))
    end)

    it("is refused when its definition has changed, and adopted on request", function()
        fresh(1000)
        run(nil, { limit = 500 })
        local other <const> = { run = "update t set n = n + 1, v = 0 where :chunk" }
        fails("the job 'j' has changed since it was started: run", function() run(other) end)
        assert.equal(500, run(other, { adopt = true }).rows)
        assert.equal(500, engine:value "select count(*) from t where v = 0 and id > 500")
    end)

    it("is refused when its table is another one", function()
        fresh(1000)
        run(nil, { limit = 500 })
        engine:exec "alter table t rename to old; create table t (like old including all); drop table old"
        fails("it is another table of that name", function() run() end)
    end)
end)

describe("where", function()
    it("takes rows below the position in a second pass, and reports rows that it still finds", function()
        fresh(3000)
        local behind = 0
        local ended <const> = run({
            where = "n = 0",
            run = function(tx, chunk)
                if behind < 2 and chunk.last == 1000 then
                    behind = behind + 1
                    engine:query("insert into t select $1::int, 1", -behind)
                end
                return tx:query("update t set n = n + 1 where id = any ($1)", (function()
                    local ids <const> = {}
                    for i, row in ipairs(chunk:rows "id") do ids[i] = row.id end
                    return ids
                end)()).affected
            end,
        })
        assert.equal(1, behind)
        assert.same({ rows = 3001, least = 1, most = 1, sum = 3001 }, counts())
        assert.same({ 0, 3001 }, { ended.found, ended.rows })
    end)

    it("works for a role whose transactions are read-only by default", function()
        fresh(1000)
        run({ where = "n = 0" }, { limit = 100 }) -- makes the tables
        local url <const> = servers.shared_postgres():address {
            database = engine:value "select current_database()",
            params = { options = "-c default_transaction_read_only=on" },
        }
        assert.same({ "done", 900 }, (function()
            local ended <const> = run({ where = "n = 0", engine = url })
            return { ended.state, ended.rows }
        end)())
        assert.same({ rows = 1000, least = 1, most = 1, sum = 1000 }, counts())
    end)

    it("that still holds afterwards is not walked twice", function()
        fresh(3000)
        local ended <const> = run { where = "id % 2 = 0" }
        assert.is_true(ended.keeps)
        assert.same({ rows = 3000, least = 0, most = 1, sum = 1500 }, counts())
    end)

    it("is walked again when run has left some of its rows", function()
        fresh(300)
        local pass = 0
        local ended <const> = run { where = "n = 0", run = function(tx, chunk)
            if not chunk.first then pass = pass + 1 end
            return tx:query("update t set n = n + 1 where id = any ($1) and (id % 3 = 0 or $2::int = 2)", (function()
                local ids <const> = {}
                for i, row in ipairs(chunk:rows "id") do ids[i] = row.id end
                return ids
            end)(), pass).affected
        end }
        assert.same({ false, 300, 0 }, { ended.keeps, ended.rows, ended.found })
    end)

    it("waits for transactions that were open at the start, and names one", function()
        fresh(1000)
        local conn <close> = engine:acquire()
        conn:exec "begin"
        conn:exec "insert into t values (-1, 1)"
        local said
        local ended <const> = job({ where = "n = 0" }):run { on = function(event)
            if event.what == "wait" and not said then
                said = event.text
                conn:exec "commit"
            end
        end }
        assert.match("older transactions have ended: pid %d+", said)
        assert.same({ 1001, 0 }, { ended.rows, ended.found })
    end)
end)

describe("when few rows match where", function()
    it("a row that matches only after its chunk is chosen is done in the second pass", function()
        fresh(14000)
        local chunks <const> = {}
        local fill <const> = "update t set n = n + 1, v = 1 where :chunk"
        local ended <const> = job({ where = "v = 0", run = fill, size = 5 }):run {
            on = function(event)
                if event.what ~= "chunk" then return end
                chunks[#chunks + 1] = ("%s-%s %d"):format(event.first, event.last, event.rows)
                if #chunks == 1 then engine:exec "update t set v = 0 where id in (5000, 13999)" end
            end,
        }
        assert.same({ "nil-3500 5", "3500-7000 5", "7000-10500 5", "10500-14000 6", "nil-14000 1" }, chunks)
        assert.same({ "done", 22 }, { ended.state, ended.rows })
        assert.equal(22, engine:value "select sum(n)::int8 from t where v = 1 and id % 700 = 0 or id in (5000, 13999)")
        assert.equal(1, counts().most)
    end)

    it("chunk:rows has the matching rows", function()
        fresh(14000)
        local keys <const> = {}
        job({ where = "v = 0", size = 5, run = function(tx, chunk)
            local rows <const> = chunk:rows { "id" }
            keys[#keys + 1] = ("%d-%d"):format(rows[1].id, rows[#rows].id)
            return tx:query("update t set v = 1 where id between $1 and $2 and v = 0", rows[1].id,
                rows[#rows].id).affected
        end }):run()
        assert.equal("700-3500 4200-7000 7700-10500 11200-14000", table.concat(keys, " "))
    end)
end)

describe("an error of a row", function()
    local BAD <const> = "update t set n = n + 1 + (0 / v) where :chunk"

    it("stops the job, which goes on after the row is corrected", function()
        fresh(3000)
        local e <const> = fails("division by zero", function() run { run = BAD } end)
        assert.match("a chunk of the job 'j': the keys behind 500 up to 1000", e.context)
        assert.equal("stopped", jobs.find(engine, "j").state)
        assert.match("division by zero %(SQLSTATE 22012%)", jobs.find(engine, "j").reason)
        engine:exec "update t set v = 1 where v = 0"
        assert.equal(2500, run { run = BAD }.rows)
    end)

    it("sets the chunk aside", function()
        fresh(3000)
        local ended <const> = run { run = BAD, on_error = "skip" }
        assert.same({ "done", 4, 1000 }, { ended.state, ended.failed, ended.rows })
        assert.equal("1000 22012 nil, 1500 22012 nil, 2500 22012 nil, 3000 22012 nil", failed())
    end)

    it("is isolated by halving, and all other rows are done", function()
        fresh(1500)
        local ended <const> = run { run = BAD, on_error = "split" }
        assert.same({ "done", 2, 1498 }, { ended.state, ended.failed, ended.rows })
        assert.equal("700 22012 700, 1400 22012 1400", failed())
        engine:exec "update t set v = 1 where v = 0"
        assert.equal(2, jobs.retry(engine, "j"))
        assert.equal(2, run { run = BAD, on_error = "split" }.rows)
        assert.same({ rows = 1500, least = 1, most = 1, sum = 1500 }, counts())
        assert.equal("", failed())
    end)

    it("in where stops the job, whatever on_error says: the chunk before it is not to blame", function()
        for _, on_error in ipairs { "skip", "split" } do
            fresh(1000)
            local e <const> = fails("division by zero", function()
                run({ where = "id % 10 = 0 and 1000 / (id - 700) is not null", on_error = on_error, size = 20,
                    max = 20 }, { seconds = 20 })
            end)
            assert.match("the search for the next chunk of the job 'j'", e.context)
            assert.equal("", failed())
        end
    end)

    it("at COMMIT counts as an error of a row, too", function()
        fresh(1500)
        engine:exec "update t set v = id; alter table t add unique (v) deferrable initially deferred"
        local ended <const> = run { run = "update t set v = case when id in (700, 1400) then 1 else v end where :chunk",
            on_error = "split" }
        assert.same({ "done", 2, 1498 }, { ended.state, ended.failed, ended.rows })
        assert.equal("700 23505 700, 1400 23505 1400", failed())
    end)

    it("stops the job when there are too many", function()
        fresh(3000)
        fails("2 ranges failed, and max_failed is 1", function()
            run { run = BAD, on_error = "skip", max_failed = 1 }
        end)
    end)
end)

describe("other sessions", function()
    it("make the job wait for their locks: the chunk is halved, and the holder is named", function()
        fresh(1000)
        local conn <close> = engine:acquire()
        conn:exec "set application_name = 'crm'"
        conn:exec "begin"
        conn:exec "update t set v = v where id = 700"
        local held
        local ended <const> = job({ lock_timeout = 0.1 }):run { on = function(event)
            if event.what == "retry" and not held then
                held = event
                conn:exec "commit"
            end
        end }
        assert.same({ rows = 1000, least = 1, most = 1, sum = 1000 }, counts())
        assert.equal("55P03", held.sqlstate)
        assert.match('pid %d+, app "crm", idle in transaction', held.holder)
        assert.equal("done", ended.state)
    end)

    it("that wait too long for a chunk end it; it is halved and retried", function()
        fresh(400)
        local waited, text
        local other <const> = task.spawn(function()
            pg.eventually(10, function()
                return engine:value "select count(*) from pg_stat_activity where query = 'select pg_sleep(20)'" == 1
            end)
            local began <const> = task.now()
            engine:exec "update t set v = 1 where id = 1"
            waited = task.now() - began
        end)
        local first = true
        local ended <const> = job({
            timeout = 30, throttle = { blocked = 0.3 },
            run = function(tx, chunk)
                local rows <const> = tx:query("update t set n = n + 1 where id > $1 and id <= $2", chunk.first or 0,
                    chunk.last).affected
                if first then
                    first = false
                    tx:query "select pg_sleep(20)"
                end
                return rows
            end,
        }):run { on = function(event) if event.what == "retry" then text = event.text end end }
        other:join()
        assert.match("waits .* for a lock of ours", text)
        assert.is_true(waited < 10)
        assert.same({ "done", 400 }, { ended.state, ended.rows })
        assert.same({ rows = 400, least = 1, most = 1, sum = 400 }, counts())
    end)

    it("pause it and set its values while it runs", function()
        fresh(5000)
        local other <close> = engine:acquire()
        local paused = false
        local seen <const> = { chunk = {}, wait = {} }
        local ended <const> = job({ size = 100, max = 100 }):run { on = function(event)
            table.insert(seen[event.what] or {}, event)
            if event.what == "chunk" and #seen.chunk == 3 then
                jobs.pause(other, "j", "for lunch: {a}, it's EVENTS")
                paused = true
            elseif event.what == "wait" then
                jobs.set(other, "j", "max", "1000")
                jobs.set(other, "j", "size", "1000")
                jobs.resume(other, "j")
            end
        end }
        assert.is_true(paused)
        assert.equal("the job is paused: for lunch: {a}, it's EVENTS", seen.wait[1].text)
        assert.equal(5000, ended.rows)
        assert.equal(500, seen.chunk[5].rows) -- a wait begins again at half
        assert.same({ rows = 5000, least = 1, most = 1, sum = 5000 }, counts())
    end)

    it("can forget it and start another by its name, which is not affected", function()
        fresh(5000)
        local other <close> = engine:acquire()
        fails("the job 'j' was forgotten while it ran", function()
            job({ size = 100, max = 100 }):run { on = function(event)
                if event.what == "chunk" and event.number == 3 then
                    jobs.cancel(other, "j")
                    jobs.forget(other, "j")
                    job({ run = "update t set v = 7 where :chunk" }):start()
                end
            end }
        end)
        assert.equal(300, counts().sum)
        assert.equal("running", jobs.find(engine, "j").state)
    end)

    it("cancel it", function()
        fresh(5000)
        local other <close> = engine:acquire()
        local ended <const> = job({ size = 100 }):run { on = function(event)
            if event.what == "chunk" and event.number == 3 then jobs.cancel(other, "j") end
        end }
        assert.same({ "cancelled", 3, counts().sum }, { ended.state, ended.chunks, ended.rows })
    end)
end)

describe("a function", function()
    it("gets the rows of its chunk, the bounds, and an id that stays the same", function()
        fresh(1000)
        local ids <const>, tries = {}, 0
        local after <const> = {}
        run {
            run = function(tx, chunk)
                table.insert(ids, chunk.id)
                tries = tries + 1
                if tries == 2 then
                    tx:query "select pg_terminate_backend(pg_backend_pid())"
                end
                return #chunk:rows "id"
            end,
            after = function(chunk, rows) table.insert(after, ("%s-%s %d"):format(chunk.first, chunk.last, rows)) end,
        }
        assert.same({ "nil-500 500", "500-1000 500" }, after)
        assert.equal(3, #ids)
        assert.equal(ids[2], ids[3])
        assert.is_true(ids[1] ~= ids[2])
    end)

    it("cannot end the transaction, or hide a failed statement", function()
        fresh(10)
        fails("the transaction must not be ended inside of it", function()
            run { run = function(tx) return tx:exec "commit" end }
        end)
        fails("its error was caught: nothing of the chunk was kept", function()
            run({ name = "k", run = function(tx)
                pcall(tx.exec, tx, "select 1 / 0")
                return 1
            end })
        end)
        assert.equal(0, counts().most)
    end)
end)

describe("a COMMIT without a reply", function()
    it("is resolved by the position", function()
        fresh(2000)
        local killed = 0
        engine:exec [[create or replace function slow_end() returns trigger language plpgsql as $$
            begin perform pg_sleep(0.3); return null; end $$]]
        engine:exec "create constraint trigger slow_end after update on t deferrable initially deferred for each row \z
            when (new.id in (600, 1600)) execute function slow_end()"
        local watch <const> = task.spawn(function()
            while killed < 2 do
                task.sleep(0.02)
                killed = killed + engine:query([[select pg_terminate_backend(pid) from pg_stat_activity
                    where query like 'commit%' and state = 'active']]).affected
                if killed == 1 then task.sleep(0.4) end
            end
        end)
        local ended <const> = run()
        watch:cancel()
        assert.same({ rows = 2000, least = 1, most = 1, sum = 2000 }, counts())
        assert.equal("done", ended.state)
        assert.is_true(killed >= 1)
    end)
end)
