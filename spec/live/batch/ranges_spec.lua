-- The ranges of a job during random events, with several simulated workers (only their names): at each moment every key
-- is either done, or in exactly one range. DBRUN_TEST_ROUNDS=50 runs more random courses, DBRUN_TEST_SEED=n another
-- one.
local bounds = require "dbrun.batch.state.bounds"
local chunks = require "dbrun.batch.state.chunk"
local define = require "dbrun.batch.define"
local jobs = require "dbrun.batch.state.jobs"
local passes = require "dbrun.batch.state.passes"
local pg = require "spec.support.pg"
local schema = require "dbrun.batch.state.schema"
local servers = require "spec.support.servers"
local set_aside = require "dbrun.batch.state.set_aside"
local start = require "dbrun.batch.state.start"
local take = require "dbrun.batch.state.take"
local task = require "dbrun.task"
local walks = require "dbrun.batch.walk"

local KEYS <const> = 50 -- every third number up to three times that
local RUN <const> = "update t set n = n + 1 where :chunk"
local rounds <const> = tonumber(os.getenv "DBRUN_TEST_ROUNDS") or 1
local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or 1
local closed_after <const> = chunks.CHUNKS

local engine
setup(function()
    engine = pg.engine { url = servers.database(), size = 12 }
    chunks.CHUNKS = 5
end)
teardown(function()
    chunks.CHUNKS = closed_after
    engine:close()
end)

--- `wrong`: keys in two ranges, in none and not done in this pass, or done too often (a pass does not retry keys that
--- failed before it). `astray`: ranges whose chunk lies outside of them.
local LOOK <const> = [[
with r as materialized (
    select id, state, pass, rows, chunks, coalesce(first[1]::int, 0) as first,
           coalesce(position[1]::int, 0) as position, next[1]::int as next, last[1]::int as last
      from dbrun_batch_ranges where job = 'm'),
p as materialized (select pass from dbrun_batch_jobs where name = 'm'),
o as materialized (
    select case when state = 'open' then position else first end as behind, last, state from r, p
     where state = 'open' and r.pass = p.pass or state = 'failed'),
c as (select x, t.n, count(o.last) as ranges, count(o.last) filter (where o.state = 'failed') > 0 as failed
        from generate_series(1, $1::int) x left join t on t.id = x left join o on x > o.behind and x <= o.last
       group by x, t.n)
select (select string_agg(format('%s: %s times, in %s ranges', x, n, ranges), '; ') from c, p
         where ranges > 1 or n is not null and (not failed and n + ranges <> p.pass or failed and n > p.pass)) as wrong,
       (select string_agg(id::text, ', ') from r where next is not null
           and (state <> 'open' or next <= position or next > last)) as astray,
       (select coalesce(sum(rows), 0)::int8 from r) as rows, (select coalesce(sum(chunks), 0)::int8 from r) as chunks,
       (select sum(n)::int8 from t) as done]]

---@class spec.Course
local Course <const> = {}
Course.__index = Course

--- In one snapshot of the committed data. An event that still waits for a lock does not count yet.
function Course:check(what)
    local seen <const> = self.watch:one(LOOK, 3 * KEYS)
    local said <const> = ("seed %d, step %d (%s): "):format(self.seed, self.steps, what)
    assert.is_nil(seen.wrong, said .. tostring(seen.wrong))
    assert.is_nil(seen.astray, said .. tostring(seen.astray))
    assert.equal(seen.done, seen.rows, said .. "rows")
    if self.waiting == 0 then assert.equal(self.chunks, seen.chunks, said .. "chunks") end
end

function Course:worker(i)
    self.names = self.names + 1
    local conn <const> = engine:acquire()
    self.workers[i] = {
        i = i, conn = conn, pid = conn:value "select pg_backend_pid()",
        store = setmetatable({ me = ("m:%d/%d"):format(self.names, i) }, { __index = self.store }),
    }
end

--- Ends a server process. pg_terminate_backend can also wait for that, but polls only every 0.1 s.
local function kill(pid)
    engine:query("select pg_terminate_backend($1::int)", pid)
    while engine:one("select 1 from pg_stat_activity where pid = $1::int", pid) do task.sleep(0.001) end
end

--- The worker's machine fails.
local function vanish(course, w)
    w.gone = true
    kill(w.pid)
    if w.task then w.task:join() end
    pcall(w.conn.exec, w.conn, "select") -- so that the pool sees it, too
    pcall(w.conn.release, w.conn)
    course:worker(w.i)
end

local function reconnect(w)
    kill(w.pid)
    pcall(w.conn.exec, w.conn, "select") -- so that the pool sees it, too
    pcall(w.conn.release, w.conn)
    w.conn = engine:acquire()
    w.pid = w.conn:value "select pg_backend_pid()"
end

local function mark(course, w, done)
    local random <const> = course.random
    local size <const> = random(12)
    local row <const> = chunks.mark(w.conn, w.store, {
        claim = w.claim, done = done ~= nil, rows = done or 0, looked = done or 0, seconds = 0.0, size = size,
        step_size = size, look = math.max(size, random(40)), by_where = false,
    })
    if done then course.chunks = course.chunks + 1 end
    return row
end

local function get_range(course, w)
    local what <const>, value <const> = take.take(w.conn, w.store, function(tx, job)
        return passes.advance(tx, w.store, job, { passes = course.passes })
    end)
    if what == "range" then
        w.range = value.id
    elseif what == "done" then
        course.done = true
    elseif what == "split" then
        local range <const> = take.split(w.conn, w.store, value)
        w.range = range and range.id
    end
    return what
end

local function begin(course, w)
    local claim <const> = chunks.claim(w.conn, w.store, w.range, { { "lock_timeout", 5000 } })
    if not claim or not claim.mine or claim.state ~= "open" then
        w.conn:exec "rollback"
        if not claim and not engine:one("select 1 from dbrun_batch_ranges where id = $1", w.range) or claim then
            w.range = nil
        end
        return "not mine"
    end
    w.claim = claim
    if not claim.next then
        if mark(course, w).state ~= "open" then w.range = nil end
        return "step"
    end
    w.rows = course.work(w.conn, {
        after = claim.position, upto = claim.next, open = claim.position == nil, started = claim.started,
    })
    w.busy = true
    return "begin"
end

local ENDS <const> = {
    commit = function(course, w)
        if mark(course, w, w.rows).state ~= "open" then w.range = nil end
    end,
    commit_without_answer = function(course, w)
        mark(course, w, w.rows)
        reconnect(w)
        local range <const> = take.again(w.conn, w.store, w.claim)
        w.range = range and range.id
    end,
    lost = function(_, w)
        reconnect(w)
        local range <const> = take.again(w.conn, w.store, w.claim)
        w.range = range and range.id
    end,
    halve = function(_, w)
        w.conn:exec "rollback"
        set_aside.halve(w.conn, w.store, w.claim, 100)
        take.release(w.conn, w.store, w.range)
        w.range = nil
    end,
    halve_and_keep = function(_, w)
        w.conn:exec "rollback"
        set_aside.halve(w.conn, w.store, w.claim, 1 + w.i)
    end,
    fail = function(_, w)
        w.conn:exec "rollback"
        set_aside.fail(w.conn, w.store, w.claim, { message = "as the course wants it" })
    end,
    vanish = vanish,
}
local HOW <const> = {
    "commit", "commit", "commit", "commit", "commit", "commit_without_answer", "lost", "halve", "halve_and_keep",
    "fail", "vanish",
}

local BETWEEN <const> = {
    release = function(_, w)
        take.release(w.conn, w.store, w.range)
        w.range = nil
    end,
    forget = function(_, w) w.range = nil end,
    vanish = vanish,
    stay_long = function()
        engine:exec [[update dbrun_batch_ranges set moved = moved - interval '20 s' where id in (
            select id from dbrun_batch_ranges where state = 'open' for no key update skip locked)]]
    end,
}
local SELDOM <const> = { "release", "forget", "vanish", "stay_long" }

--- Picks the next event for a worker that waits for nothing: a name, and a function.
local function next_of(course, w)
    local random <const> = course.random
    if w.busy then
        w.busy = nil
        local how <const> = HOW[random(#HOW)]
        return how, ENDS[how]
    elseif not w.range and course.retries and random(20) == 1 then
        return "retry", function() jobs.retry(w.conn, "m") end
    elseif not w.range then
        return "take", get_range
    elseif random(12) == 1 then
        local what <const> = SELDOM[random(#SELDOM)]
        return what, BETWEEN[what]
    end
    return "begin", begin
end

--- Runs one event, and returns its name. It can wait for a chunk of another worker: others go on meanwhile.
local function event(course)
    local w <const> = course.workers[course.random(#course.workers)]
    if w.task then
        if course.random(10) == 1 then
            vanish(course, w)
            return "vanish"
        end
        task.sleep(0.001)
        return "wait"
    end
    local what <const>, fn <const> = next_of(course, w)
    if fn == vanish then
        vanish(course, w)
        return what
    end
    course.waiting = course.waiting + 1
    w.task = task.spawn(function()
        local ok <const>, e <const> = pcall(fn, course, w)
        w.task, course.waiting = nil, course.waiting - 1
        if not ok and not w.gone then course.failure = course.failure or ("%s: %s"):format(what, tostring(e)) end
    end)
    for _ = 1, 20 do
        if not w.task then break end
        task.sleep(0.0005)
    end
    return what
end

local function course_of(number, n_passes)
    engine:query [[select pg_terminate_backend(pid) from pg_stat_activity
                     where datname = current_database() and state like 'idle in%']] -- of a course that has failed
    engine:exec "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t"
    engine:exec "create table t (id int primary key, n int not null default 0)"
    engine:query("insert into t select 3 * i from generate_series(1, $1::int) i", KEYS)
    local watch <const> = engine:acquire()
    local definition <const> = define.of("run", { name = "m", table = "t", run = RUN })
    local place <const>, walk <const> = schema.ensure(watch), walks.open(watch, definition)
    local store <const> = { place = place, name = "m", bounds = bounds.new(walk, {}) }
    local last <const> = store.bounds:last(watch)
    start.open(watch, place, {
        name = "m", kind = "run", source = "t", texts = definition.texts, hash = definition.hash,
        identity = walk.identity, file_values = {}, last = last,
        parts = function(tx) return passes.cut(tx, store.bounds, nil, last) end,
    })
    math.randomseed(number)
    local self <const> = setmetatable({
        watch = watch, store = store, work = define.compile(definition, walk), workers = {}, names = 0, chunks = 0,
        steps = 0, waiting = 0, seed = number, passes = n_passes, retries = n_passes == 1, random = math.random,
    }, Course)
    for i = 1, 4 do self:worker(i) end
    return self
end

local function run(number, n_passes)
    local self <const> = course_of(number, n_passes)
    local seen <const> = {}
    while not self.done and self.steps < 3000 do
        self.steps = self.steps + 1
        local what <const> = event(self)
        seen[what] = (seen[what] or 0) + 1
        assert.is_nil(self.failure)
        if what ~= "begin" and what ~= "wait" then self:check(what) end
    end
    assert.is_true(self.done, "the course did not end")
    self:check "done"
    for _, w in ipairs(self.workers) do
        if w.task then w.task:join() end
        w.conn:release()
    end
    self.watch:release()
    return seen
end

describe("the ranges of a job", function()
    for number = seed, seed + rounds - 1 do
        it("hold each key once in one pass, with retries, course " .. number, function() run(number, 1) end)
        it("hold each key once in each of two passes, course " .. number, function() run(number, 2) end)
    end
end)

describe("a range", function()
    it("stays with its owner when a pooler gives it another server process", function()
        local course <const> = course_of(seed, 1)
        local one <const>, two <const> = course.workers[1], course.workers[2]
        get_range(course, one)
        one.conn, two.conn = two.conn, one.conn
        begin(course, one)
        assert.equal(1, engine:value [[select count(*) from dbrun_batch_ranges r
            join pg_stat_activity a on a.pid = r.pid and a.backend_start = r.backend_start]])
        assert.equal("split", (take.take(two.conn, two.store, function() return "done" end)))
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)
end)

describe("a split", function()
    it("searches its place without a lock, and takes nothing when the owner has come first", function()
        local course <const> = course_of(seed, 1)
        local one <const>, two <const> = course.workers[1], course.workers[2]
        get_range(course, one)
        local what <const>, job <const> = take.take(two.conn, two.store, function() return "done" end)
        assert.equal("split", what)
        local real <const>, middle, moved = course.store.bounds
        two.store.bounds = setmetatable({ cut = function(_, ...)
            local cut <const> = real:cut(...)
            middle = cut.middle
            moved = engine:query("update dbrun_batch_ranges set next = $1::text[] where id = (select id from "
                .. "dbrun_batch_ranges where state = 'open' for no key update skip locked)", middle).affected
            return cut
        end }, { __index = real })
        engine:exec "update dbrun_batch_ranges set next = array['1'] where state = 'open' and next is null"
        assert.is_nil(take.split(two.conn, two.store, job))
        assert.equal(1, moved)
        two.store.bounds = nil
        assert.is_true(tonumber(take.split(two.conn, two.store, job).first[1]) > tonumber(middle[1]))
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)
end)

describe("a chunk", function()
    it("that is set aside because its workers died is reported, with the number of failed ranges", function()
        local course <const> = course_of(seed, 1)
        local one <const> = course.workers[1]
        get_range(course, one)
        begin(course, one)
        engine:exec "update dbrun_batch_ranges set taken = 4, owner = 'gone:1/1', pid = 0"
        local told
        one.store.set_aside = function(range, why, failed) told = { range.next[1], why.message, failed } end
        local next_one <const> = engine:value "select next[1] from dbrun_batch_ranges"
        get_range(course, one)
        assert.same({ next_one, "its worker ended 5 times", 1 }, told)
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)

    it("whose COMMIT had no reply is known to be done, even when it was the last of its range", function()
        local course <const> = course_of(seed, 1)
        local one <const> = course.workers[1]
        engine:query("update dbrun_batch_ranges set next = last")
        get_range(course, one)
        begin(course, one)
        mark(course, one, one.rows)
        local range <const>, ended <const> = take.again(one.conn, one.store, one.claim)
        assert.same({ nil, true }, { range, ended })
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)
end)

describe("the work between chunks", function()
    it("has its own time limit, whatever the role's statement_timeout is", function()
        local course <const> = course_of(seed, 1)
        local one <const> = course.workers[1]
        engine:exec "delete from dbrun_batch_ranges"
        one.conn:exec "set statement_timeout = '100ms'"
        assert.equal("done", (take.take(one.conn, one.store, function(tx)
            tx:query "select pg_sleep(0.15)"
            return "done"
        end)))
        one.conn:exec "reset statement_timeout"
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)
end)

describe("failed ranges", function()
    it("are opened again in the pass that begins at that moment", function()
        local course <const> = course_of(seed, 2)
        local one <const> = course.workers[1]
        get_range(course, one)
        begin(course, one)
        begin(course, one)
        ENDS.fail(course, one)
        engine:exec "update dbrun_batch_ranges set state = 'done' where state = 'open'"
        one.conn:exec "begin"
        one.conn:exec "select 1 from dbrun_batch_jobs for no key update" -- as during the start of a pass
        local retrying <const> = task.spawn(function()
            local conn <close> = engine:acquire()
            jobs.retry(conn, "m")
        end)
        repeat
            task.sleep(0.002)
        until engine:value "select count(*) from pg_locks where not granted" > 0
        one.conn:exec "update dbrun_batch_jobs set pass = 2"
        one.conn:exec "commit"
        retrying:join()
        assert.equal(2, engine:value "select pass from dbrun_batch_ranges where state = 'open'")
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)
end)

describe("a job that `forget` removes", function()
    it("leaves no range, even if a chunk or a split adds one at that moment", function()
        local course <const> = course_of(seed, 1)
        local one <const>, two <const> = course.workers[1], course.workers[2]
        get_range(course, one)
        begin(course, one)
        local job <const> = one.conn:one "select pass, last from dbrun_batch_jobs"
        begin(course, one)
        local splitting <const> = task.spawn(take.split, two.conn, two.store, job)
        jobs.cancel(engine, "m")
        local forgetting <const> = task.spawn(function()
            local conn <close> = engine:acquire()
            jobs.forget(conn, "m")
        end)
        repeat
            task.sleep(0.002)
        until engine:value "select count(*) from pg_locks where not granted" > 1
        mark(course, one, one.rows)
        pcall(splitting.join, splitting)
        forgetting:join()
        assert.same({ 0, 0 }, { engine:value "select count(*) from dbrun_batch_jobs",
            engine:value "select count(*) from dbrun_batch_ranges" })
        for _, w in ipairs(course.workers) do w.conn:release() end
        course.watch:release()
    end)
end)
