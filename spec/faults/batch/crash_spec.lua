-- A batch job whose workers, connections and servers are killed at random moments processes each row once.
--
-- DBRUN_TEST_SEED chooses the moments; DBRUN_BATCH_ROWS and DBRUN_BATCH_FAULTS (make batch-storm) set their number.
local batch = require "spec.support.batch"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local SANITIZED <const> = os.getenv "ASAN_OPTIONS" ~= nil
local SEED <const> = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()
local ROWS <const> = math.tointeger(tonumber(os.getenv "DBRUN_BATCH_ROWS")) or 20000
local FAULTS <const> = math.tointeger(tonumber(os.getenv "DBRUN_BATCH_FAULTS")) or (SANITIZED and 4 or 8)
local PROCESSES <const> = 4
local SIZE <const> = ROWS > 20000 and 100 or 200
local PATIENCE <const> = 60 + ROWS / 500

--- In this order, so that a run with few faults has one of each; half of the faults of a long run are kills.
local KINDS <const> = { "crash", "kill", "cut", "terminate", "reset", "kill", "cut", "kill", "kill", "kill" }

print(("# DBRUN_TEST_SEED=%d, %d rows, %d faults"):format(SEED, ROWS, FAULTS))

---@class spec.Storm
---@field primary spec.Postgres the current primary
---@field standby? spec.Postgres
---@field proxy spec.Fake in front of the primary
---@field url string
---@field source string the job
---@field workers spec.BatchWorker[]
---@field counts table<string, integer>

--- Runs SQL on the current primary, whatever its state.
local function ask(storm, fn)
    local stop <const> = task.now() + 20
    while true do
        local ok <const>, result = pcall(function()
            local e <close> = pg.engine { url = storm.primary.url, size = 1, connect_timeout = 5 }
            return fn(e)
        end)
        if ok then return result end
        if not errors.is(result) or result.kind == "cancelled" or task.now() > stop then error(result, 0) end
        task.sleep(0.02)
    end
end

local function start(storm, i)
    storm.workers[i] = batch.start(storm.source, { url = storm.url })
end

local ACTS <const> = {}

function ACTS.kill(storm)
    local i <const> = math.random(PROCESSES)
    storm.workers[i]:kill()
    storm.workers[i]:close()
    start(storm, i)
end

function ACTS.crash(storm)
    storm.primary:restart "immediate"
end

function ACTS.terminate(storm)
    ask(storm, function(e)
        return e:value([[select pg_terminate_backend(pid) from pg_stat_activity
            where application_name like 'dbrun batch%' order by random() limit 1]])
    end)
end

--- The reply to a COMMIT, to the claim, or to any statement does not arrive.
function ACTS.cut(storm)
    storm.proxy:cut(math.random() < 0.7 and "down" or "up", math.random(0, 400))
end

--- Cuts all connections through the proxy, at any moment.
function ACTS.reset(storm)
    storm.proxy:reset()
end

function ACTS.failover(storm)
    storm.primary:kill "KILL"
    storm.proxy:close() -- libpq goes on to the next host where nobody listens, not where a connection is closed
    storm.standby:promote()
    storm.primary, storm.standby = storm.standby, nil
    storm.proxy = storm.second
end

--- The acts in a random order, a failover somewhere in the second half.
local function plan(standby)
    local list <const> = {}
    for i = 1, FAULTS do list[i] = KINDS[(i - 1) % #KINDS + 1] end
    for i = #list, 2, -1 do
        local j <const> = math.random(i)
        list[i], list[j] = list[j], list[i]
    end
    if standby then table.insert(list, math.random(#list // 2 + 1, #list), "failover") end
    return list
end

--- Waits until a process has seen the end of the job. A process that lost its connection before it began is started
--- again: only a running job waits for a server.
local function finish(storm, i)
    for _ = 1, 3 do
        local worker <const> = storm.workers[i]
        local result <const> = worker:finish(PATIENCE)
        if worker:count "begin" > 0 then
            assert(result.code == 0 and result.ended and result.ended.state == "done", result.text)
            return
        end
        assert(result.error, result.text)
        worker:close()
        start(storm, i)
    end
    error "a process does not begin"
end

--- Injects the faults, spread over the job, and waits until the workers end.
local function run(storm)
    for i = 1, PROCESSES do start(storm, i) end
    local acts <const> = plan(storm.standby)
    local stop <const> = task.now() + PATIENCE
    for i, name in ipairs(acts) do
        local wanted <const> = i * (storm.rows or ROWS) // (#acts + 2)
        while ask(storm, function(e) return batch.progress(e, "storm") end) < wanted do
            assert(task.now() < stop, "the job makes no progress")
            task.sleep(0.01)
        end
        task.sleep(math.random() * 0.03)
        storm.counts[name] = (storm.counts[name] or 0) + 1
        storm.acts[i] = name
        ACTS[name](storm)
    end
    for i = 1, PROCESSES do finish(storm, i) end
end

--- Describes the state of the storm after a failure.
local function state(storm)
    local ok <const>, text <const> = pcall(ask, storm, function(e) return batch.ranges(e, "storm") end)
    local list <const> = { ok and text or "", "acts: " .. table.concat(storm.acts, " ") }
    for i, worker in ipairs(storm.workers) do
        pcall(worker.kill, worker)
        local _, result <const> = pcall(worker.finish, worker, 5)
        local said <const> = type(result) == "table" and result.text or tostring(result)
        list[#list + 1] = ("process %d, %d: %s"):format(i, worker.pid, said)
    end
    return table.concat(list, "\n")
end

--- Runs fn(storm) with all of its processes; an error names the seed.
local function with(storm, number, fn)
    math.randomseed(SEED, number)
    storm.workers, storm.counts, storm.acts = {}, {}, {}
    local _ <close> = setmetatable({}, { __close = function()
        for _, worker in ipairs(storm.workers) do worker:close() end
    end })
    local ok <const>, e <const> = pcall(fn, storm)
    if not ok then
        error(("DBRUN_TEST_SEED=%d: %s\n%s"):format(SEED, tostring(e), state(storm)), 0)
    end
    local counts <const> = {}
    for name, n in pairs(storm.counts) do counts[#counts + 1] = ("%s %d"):format(name, n) end
    table.sort(counts)
    print("# " .. table.concat(counts, ", "))
end

it("without where: processes every row once, through kills, crashes, cuts and a failover", function()
    local primary <close> = servers.postgres()
    local standby <close> = servers.postgres { standby_of = primary }
    local first <close> = fake.proxy { to = primary }
    local second <close> = fake.proxy { to = standby }
    local url <const> = ("postgresql://dbrun@/postgres?host=%s,%s&target_session_attrs=read-write"):format(first.dir,
        second.dir)
    local storm <const> = {
        primary = primary, standby = standby, proxy = first, second = second, url = url,
        source = batch.job {
            name = "storm", table = "t", run = "update t set n = n + 1 where :chunk", size = SIZE, max = SIZE, min = 1,
        },
    }
    with(storm, 1, function()
        ask(storm, function(e)
            batch.counters(e, "t", ROWS)
            batch.slow(e, "t", 0.01)
        end)
        standby:catch_up(primary)
        run(storm)
        assert.equal("1: " .. ROWS, ask(storm, function(e) return batch.counted(e, "t") end))
    end)
end)

-- ---- rows that are inserted, deleted and moved meanwhile ----

local MOST <const> = 1000000

--- One change by the application: a row is inserted, deleted or moved; some transactions last.
local function change(e)
    e:transaction(function(tx)
        local what <const>, key <const> = math.random(10), math.random(MOST)
        if what <= 5 then
            tx:query("insert into t (id) values ($1) on conflict do nothing", key)
        elseif what <= 7 then
            tx:query("delete from t where id = (select id from t where id > $1 order by id limit 1)", key)
        else
            tx:query([[update t set id = $2 where id = (select id from t where id > $1 order by id limit 1)
                and not exists (select from t where id = $2)]], key, math.random(MOST))
        end
        if math.random(40) == 1 then task.sleep(math.random() * 0.3) end
    end)
end

local function changes(storm)
    while true do
        local e <close> = pg.engine { url = storm.primary.url, size = 1, connect_timeout = 5 }
        local ok, problem
        repeat
            ok, problem = pcall(change, e)
            local again <const> = ok or errors.is(problem) and problem.sqlstate == "23505"
            task.sleep(again and 0.001 or 0.05)
        until not again
        if not errors.is(problem) or problem.kind == "cancelled" then error(problem, 0) end
        if storm.over then return end
    end
end

--- Rows that should have been processed but were not: those committed before the second pass began. It may not have
--- seen rows committed at that moment; it read the last key a little earlier.
local LEFT <const> = [[
select count(*) from t, dbrun_batch_jobs j where j.name = 'storm' and t.n = 0
   and (t.id <= j.last[1]::bigint and pg_xact_commit_timestamp(t.xmin) < j.pass_started - interval '0.05 s'
        or pg_xact_commit_timestamp(t.xmin) < j.pass_started - interval '2 s')]]

it("with where: processes rows from before the second pass, despite inserts, deletes and keys that change", function()
    local primary <close> = servers.postgres { settings = { track_commit_timestamp = "on" } }
    local proxy <close> = fake.proxy { to = primary }
    local storm <const> = {
        primary = primary, proxy = proxy, url = proxy:address_of(primary), rows = ROWS // 2,
        source = batch.job {
            name = "storm", table = "t", where = "n = 0", run = "update t set n = n + 1 where :chunk", size = SIZE,
            max = SIZE, min = 1,
        },
    }
    with(storm, 2, function()
        ask(storm, function(e)
            e:exec "create table t (id bigint primary key, n integer not null default 0)"
            e:query("insert into t select i * $1::int from generate_series(1, $2::int) i", MOST // storm.rows,
                storm.rows)
            batch.slow(e, "t", 0.01)
        end)
        local g <close> = task.group()
        for _ = 1, 3 do g:spawn(changes, storm) end
        run(storm)
        storm.over = true
        g:cancel()
        pcall(g.wait, g)
        local job <const> = ask(storm, function(e) return e:one "select pass, keeps, state from dbrun_batch_jobs" end)
        assert.same({ pass = 2, state = "done" }, { pass = job.pass, state = job.state }, tostring(job.keeps))
        assert.equal(0, ask(storm, function(e) return e:value(LEFT) end))
        assert.equal(0, ask(storm, function(e) return e:value "select count(*) from t where n > 1" end))
    end)
end)
