-- A job on a primary with two standbys, together with pgbench: it stops when the standby with paused replay lags, goes
-- on when it has caught up, and the idle standby never stops it. Nobody waits long for a lock of the job.
--
--     DBRUN_BATCH_BESIDE=30   seconds of pgbench with the job: B3 of `make bench`
local batch = require "dbrun.batch"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local LONG <const> = tonumber(os.getenv "DBRUN_BATCH_BESIDE")
local LIMIT <const> = 1

local primary, paused, idle, engine, behind

setup(function()
    primary = servers.postgres { settings = { autovacuum = "off" } }
    paused = servers.postgres { standby_of = primary, settings = { cluster_name = "b" } }
    if LONG then idle = servers.postgres { standby_of = primary, settings = { cluster_name = "c" } } end
    engine = pg.engine { url = primary.url, size = 6 }
    behind = pg.engine { url = paused.url, size = 1 }
end)
teardown(function()
    engine:close()
    behind:close()
    for _, server in ipairs { idle or paused, paused, primary } do server:close() end
end)

local function fresh(rows)
    engine:exec "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t"
    engine:exec "create table t (id int primary key, n int not null default 0, note text default repeat('x', 100))"
    engine:query("insert into t select i from generate_series(1, $1::int) i", rows)
    engine:exec "analyze t"
end

--- The duration of a chunk. The job must not end before it has stopped and gone on, however fast its rows are done:
--- the standby counts as lagging only some seconds after it was paused.
local function length(chunk, seen)
    if seen[2] then return 0 end
    return chunk.number < 100 and 0.04 or 0.3
end

it("it stops for a standby that lags, and goes on", function()
    fresh(40000)
    local seen <const> = {}
    local paused_at, resumed_at, ended
    local run <const> = task.spawn(function()
        ended = batch.job({
            name = "j", table = "t", size = 200, max = 200, engine = engine, throttle = { replication_lag = LIMIT },
            run = function(tx, chunk)
                task.sleep(length(chunk, seen))
                return tx:query("update t set n = n + 1 where id > $1 and id <= $2", chunk.first or 0,
                    chunk.last).affected
            end,
        }):run { on = function(event)
            if event.what == "wait" and not event.still or event.what == "go" then
                seen[#seen + 1] = { what = event.what, text = event.text, at = task.now() }
            elseif event.what == "chunk" and event.number == 3 then
                behind:exec "select pg_wal_replay_pause()"
                paused_at = task.now()
            end
        end }
    end)
    pg.eventually(20, function() return seen[1] ~= nil end)
    task.sleep(0.5)
    local done <const> = engine:value "select sum(n)::int8 from t"
    task.sleep(0.5)
    assert.equal(done, engine:value "select sum(n)::int8 from t") -- it really waits
    behind:exec "select pg_wal_replay_resume()"
    resumed_at = task.now()
    run:join()
    assert.match("^standby b is [%d.]+ s behind, limit 1$", seen[1].text)
    assert.equal("go", seen[2].what)
    print(("# stopped %.1f s after the limit, went on %.1f s behind the resume"):format(
        seen[1].at - paused_at - LIMIT, seen[2].at - resumed_at))
    assert.is_true(seen[1].at - paused_at < LIMIT + 6)
    assert.is_true(seen[2].at - resumed_at < 6)
    assert.same({ "done", 40000 }, { ended.state, ended.rows })
    assert.equal("1 1", engine:value "select min(n) || ' ' || max(n) from t")
end)

local SCRIPT <const> = [[
\set id random(1, 100000)
begin;
select n from t where id = :id;
update t set note = 'changed' where id = :id;
commit;
]]

--- Runs pgbench for some seconds: the 99th percentile and the longest of its transactions, in milliseconds.
local function pgbench(seconds)
    local dir <const> = fs.mkdtemp()
    local _ <close> = setmetatable({}, { __close = function() fs.rmtree(dir) end })
    fs.write(dir .. "/script", SCRIPT)
    local result <const> = process.run { primary.bindir .. "/pgbench", "-n", "-c", "4", "-T", tostring(seconds),
        "-l", "--log-prefix=" .. dir .. "/log", "-f", dir .. "/script", primary.url }
    assert.equal(0, result.code, result.stderr)
    assert.is_nil(result.stderr:find("abort", 1, true), result.stderr)
    local times <const> = {}
    for _, name in ipairs(fs.list(dir)) do
        for line in io.lines(name:find "^log" and dir .. "/" .. name or "/dev/null") do
            times[#times + 1] = tonumber(line:match "^%d+ %d+ (%d+)") / 1000
        end
    end
    table.sort(times)
    return times[math.ceil(#times * 0.99)], times[#times]
end

it("concurrent transactions are hardly slower, none fails, and none waits long for it", function()
    if not LONG then
        pending "DBRUN_BATCH_BESIDE is not set: how slow transactions become is for a quiet machine"
        return
    end
    fresh(100000)
    local alone <const> = pgbench(LONG)
    local ended
    local job <const> = task.spawn(function()
        ended = batch.job({
            name = "j", table = "t", run = "update t set n = n + 1 where :chunk", engine = engine, duty = 0.5,
        }):run { seconds = LONG + 5 }
    end)
    local beside <const>, longest <const> = pgbench(LONG)
    job:join()
    print(("# p99 of transactions: %.1f ms alone, %.1f ms beside the job (%.2f x), the longest %.0f ms; %d rows, %s")
        :format(alone, beside, beside / alone, longest, ended.rows, ended.state))
    assert.is_true(longest < 1500) -- target + 1 s
end)
