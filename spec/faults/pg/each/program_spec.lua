--- Faults of the program itself: it is interrupted, has no descriptors left, its clock jumps, it starts children: rows
--- 21, 25, 26 and 33 of the faults, at random moments.

local fs = require "dbrun.fs"
local folder = require "spec.support.servers.folder"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local program = require "spec.support.faults.program"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local task = require "dbrun.task"
local world = require "spec.support.faults.world"

local function wrong(fmt, ...) error(fmt:format(...), 0) end

-- ---- interrupted ----

--- Writes pairs of rows, each pair in one transaction, and prints which are committed.
local WORK <const> = [==[
local e = open { size = 3 }
local next_n, ways = tonumber(os.getenv "FIRST"), {}
local function number()
    next_n = next_n + 1
    return next_n
end

function ways.statement(n)
    e:value("with x as (select pg_sleep(0.002)) insert into ledger select $1, unnest(array['a', 'b']) from x", n)
end
function ways.long(n)
    e:value("with x as (select pg_sleep(30)) insert into ledger select $1, unnest(array['a', 'b']) from x", n)
end
function ways.batch(n)
    e:exec(("insert into ledger values (%d, 'a'); select pg_sleep(0.001); insert into ledger values (%d, 'b')")
        :format(n, n))
end
function ways.many(n) e:execute_many("insert into ledger values ($1, $2)", { { n, "a" }, { n, "b" } }) end
function ways.pipeline(n)
    e:pipeline(function(p)
        p:query("insert into ledger values ($1, 'a')", n)
        p:query("insert into ledger values ($1, 'b')", n)
    end)
end
function ways.transaction(n)
    e:transaction(function(tx)
        tx:query("insert into ledger values ($1, 'a')", n)
        tx:value "select pg_sleep(0.001)"
        tx:query("insert into ledger values ($1, 'b')", n)
    end)
end
function ways.copy(n)
    local rows = { { n, "a" }, { n, "b" } }
    e:copy_in("ledger", { "n", "pad" }, function() return table.remove(rows) end)
end
function ways.busy(n)
    ways.statement(n)
    local stop = task.now() + 0.02
    while task.now() < stop do end
end
function ways.stuck(n)
    ways.statement(n)
    print("done " .. n)
    while true do end
end

local names = {}
for name in pairs(ways) do names[#names + 1] = name end
table.sort(names)

local function work()
    while true do
        local n, way = number(), ways[os.getenv "WAY"] or ways[names[math.random(#names)]]
        way(n)
        print("done " .. n)
    end
end

local x <close> = setmetatable({}, { __close = function() print "closed" end })
e:value "select 1"
print "ready"
if kind == "sync" then
    work()
else
    for _ = 1, 5 do task.spawn(work) end
end
task.sleep(60)
]==]

local WAYS <const> = { "statement", "long", "batch", "many", "pipeline", "transaction", "copy", "busy", "stuck", "any" }
local STATUS <const> = { INT = 130, TERM = 143, HUP = 129 }
local SIGNALS <const> = { "INT", "TERM", "HUP" }

--- Checks that every pair is stored completely or not at all, and that every reported pair is stored.
local function check_ledger(w, way, said)
    local ok <const> = pcall(pg.eventually, 10, function() return #w:backends() == 0 end)
    if not ok then
        wrong("%s: a connection is left: %s", way, w.control:value [[select string_agg(concat_ws(' ', state, wait_event,
            now() - query_start, now() - state_change, query), '; ') from pg_stat_activity
            where application_name = 'under test']])
    end
    local there <const> = {}
    for _, row in ipairs(w.control:query "select n, count(*) as rows from ledger group by n") do
        if row.rows ~= 2 then wrong("half of %d is there", row.n) end
        there[row.n] = true
    end
    for n in said:gmatch "done (%d+)" do
        if not there[math.tointeger(tonumber(n))] then wrong("%s is said to be done, and is not there", n) end
    end
end

local firsts = 0

--- Starts the program, and interrupts it after a while. Returns the program, the time of that, and its pairs.
local function interrupted(kind, url, signal)
    firsts = firsts + 1000000
    local way <const> = WAYS[math.random(#WAYS)]
    local child <const> = program.start(WORK, { url = url, kind = kind, env = { FIRST = firsts, WAY = way } })
    local line <const> = child:read_line(30)
    if line ~= "ready" then wrong("it does not begin: %s%s", tostring(line), child:wait(1).stderr) end
    task.sleep(math.random() * 0.03)
    child:kill(signal)
    return child, task.now(), way
end

--- Seconds since `began` without pauses of the machine.
local function took(w, began)
    local now <const> = task.now()
    return now - began - w.stalls:between(began, now)
end

-- ---- no descriptors left ----

local FULL <const> = [==[
local redis = require "dbrun.redis"
local e, r = open { size = 4, timeout = 1 }, redis.client { url = os.getenv "REDIS", timeout = 1 }
local open_file = io.open
local held = {}
local function fill(leave)
    while true do
        local f = open_file "/dev/null"
        if not f then break end
        held[#held + 1] = f
    end
    for _ = 1, math.min(leave, #held) do table.remove(held):close() end
end
local function free()
    for _, f in ipairs(held) do f:close() end
    held = {}
end

local done, refused = 0, 0
local n = 0
local works = {
    function() n = n + 1 assert(e:value("select $1::int", n) ~= nil) end,
    function() local c <close> = e:acquire() assert(c:value "select 7" == 7) end,
    function() e:transaction(function(tx) assert(tx:value "select 8" == 8) end) end,
    function() local other <close> = open { size = 1 } assert(other:value "select 9" == 9) end,
    function() assert(process.run { "echo", "x" }.stdout == "x\n") end,
    function()
        local child <close> = process.start { "cat", stdin_from = "pipe", stdout = "capture" }
        child:write "line\n"
        assert(child:read_line(5) == "line")
    end,
    function() assert(r:echo "nonce" == "nonce") end,
    function() local other <close> = redis.client { url = os.getenv "REDIS" } assert(other:ping() == "PONG") end,
    function() fs.list "/" end,
    function() fs.read "/proc/self/stat" end,
}
local function attempt()
    local ok, problem = pcall(works[math.random(#works)])
    if ok then
        done = done + 1
        return
    end
    refused = refused + 1
    local text = tostring(problem)
    assert(errors.is(problem), text)
    assert(text:find "[Tt]oo many open files" or text:find "descriptors" or problem.kind == "pool", text)
    if problem.kind ~= "pool" then assert(problem.hint, text) end
    assert(problem.outcome ~= "unknown", text)
end
local function several(count)
    if kind == "sync" then
        for _ = 1, count do attempt() end
        return
    end
    local list = {}
    for i = 1, count do list[i] = attempt end
    task.all(list)
end

for _ = 1, 4 do
    if kind ~= "sync" and math.random(2) == 1 then -- in the middle of the work
        local group <close> = task.group()
        group:spawn(several, 6)
        task.sleep(math.random() * 0.004)
        fill(math.random(0, 8))
        several(4)
        group:wait()
    else
        fill(math.random(0, 8))
        several(6)
    end
    free()
end

-- With descriptors again, everything works at once.
local before = refused
for _ = 1, 3 do
    for i = 1, #works do
        local ok, problem = pcall(works[i])
        if not ok then error(("work %d: %s"):format(i, tostring(problem))) end
    end
end
assert(refused == before)
e:close()
r:close()
print("ended", done, refused)
]==]

-- ---- a clock that jumps ----

local JUMPED <const> = [==[
local redis = require "dbrun.redis"
local e = open { size = 3, recycle = 3600, pre_ping_idle = 0.001, command_timeout = 10 }
local r = redis.client { url = os.getenv "REDIS", command_timeout = 10 }
local file = os.getenv "CLOCK_FILE"
local real = os.time()
local seen = 0

--- Writes another time beside the clock's file, and moves it there: it is never read half.
local function jump()
    local f <close> = assert(io.open(file .. ".new", "wb"))
    f:write(tostring(math.random(-1500000000, 400000000)), "\n")
    f:close()
    os.rename(file .. ".new", file)
    if math.abs(os.time() - real) > 86400 then seen = seen + 1 end
end

local n = 0
local function work()
    n = n + 1
    local mine, start, way = n, task.now(), math.random(5)
    if way == 1 then
        local ok, problem = pcall(function()
            local other <close> = open { size = 1, command_timeout = 0.05 }
            other:value "select pg_sleep(30)"
        end)
        assert(not ok and problem.kind == "timeout", tostring(problem))
        assert(task.now() - start >= 0.05, "a time limit passed too early")
    elseif way == 2 then
        assert(r:echo(tostring(mine)) == tostring(mine))
    elseif way == 3 then
        e:transaction(function(tx) assert(tx:value("select $1::int", mine) == mine) end)
    elseif way == 4 and kind ~= "sync" then
        task.sleep(0.01)
        assert(task.now() - start >= 0.01, "a sleep was too short")
    else
        assert(e:value("select $1::int from pg_sleep(0.003)", mine) == mine)
    end
    assert(task.now() - start < 9, "a wait lasted as long as the jump of the clock")
end

if kind == "sync" then
    for _ = 1, 30 do
        jump()
        work()
    end
else
    local group <close> = task.group()
    for _ = 1, 4 do
        group:spawn(function() for _ = 1, 8 do work() end end)
    end
    for _ = 1, 20 do
        task.sleep(math.random() * 0.01)
        jump()
    end
    group:wait()
end
assert(seen > 0, "the clock did not jump")
local s = e:stats()
assert(s.recycled == 0 and s.timeouts == 0, ("recycled %d, timeouts %d"):format(s.recycled, s.timeouts))
print "ended"
]==]

local library

local function clock_library()
    library = library or folder.new "jumps" .. "/clockjump.so"
    if fs.exists(library) then return library end
    local result <const> = process.run { os.getenv "CC" or "cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC",
        "-o", library, "spec/support/c/clockjump.c", timeout = 60 }
    if not result.ok then wrong("%s", result.stderr) end
    return library
end

teardown(function()
    if library then fs.rmtree(fs.dirname(library)) end
end)

-- ---- children ----

--- A child's descriptors, without the standard ones and the one with which it lists them.
local LOOK <const> = { "ls", "-l", "/proc/self/fd" }

local function inherited(listing)
    local list <const> = {}
    for fd, target in listing:gmatch " (%d+) %-> ([^\n]*)" do
        if tonumber(fd) > 2 and not target:find "^/proc/%d+/fd$" then list[#list + 1] = fd .. " " .. target end
    end
    if not listing:find " 0 %->" then list[#list + 1] = "no standard input" end
    return table.concat(list, ", ")
end

local function look(way)
    local spec <const> = { table.unpack(LOOK) }
    spec.stdout = "capture"
    local input <const> = math.random(3)
    if input == 1 then spec.stdin = "x" end
    if input == 2 and way == "start" then spec.stdin_from = "pipe" end
    if math.random(2) == 1 then spec.stderr = "capture" end
    if way == "run" then return process.run(spec) end
    spec.detached = way == "detached"
    local child <close> = process.start(spec)
    return child:wait(30)
end

rounds.describe(describe, it, {
    {
        row = 21, what = "SIGINT, SIGTERM, SIGHUP: the exit status, variables closed, all of a transaction or nothing",
        run = function(kind, each)
            local url <const> = servers.database()
            local w <close> = world.new(kind, url)
            each(w, function()
                w.e:dispose()
                local signal <const> = SIGNALS[math.random(#SIGNALS)]
                local child <close>, began, way = interrupted(kind, url, signal)
                local said <const>, complained <const> = program.ended(child, STATUS[signal])
                local seconds <const> = took(w, began)
                if seconds > 2.2 then wrong("%s: it took %.3f s to end", way, seconds) end
                if not said:find "closed\n$" then wrong("%s: not closed: %s%s", way, said, complained) end
                if not complained:find("^[^\n]*dbrun: interrupted by SIG" .. signal .. "\n$") then
                    wrong("it says %s", complained)
                end
                check_ledger(w, way, said)
            end)
        end,
    },
    {
        row = 21, what = "a second signal ends at once",
        run = function(kind, each)
            local url <const> = servers.database()
            local w <close> = world.new(kind, url)
            each(w, function()
                w.e:dispose()
                local first <const> = SIGNALS[math.random(#SIGNALS)]
                -- Another signal: two equal signals at once are one for the system.
                local second <const> = first == "INT" and "TERM" or "INT"
                local child <close>, _, way = interrupted(kind, url, first)
                if math.random(2) == 1 then task.sleep(math.random() * 0.004) end
                local began <const> = task.now()
                child:kill(second)
                local result <const> = child:wait(20)
                if not result then wrong "it does not end" end
                if result.code ~= STATUS[first] and result.code ~= STATUS[second] then
                    wrong("exit status %d: %s", result.code, result.stderr)
                end
                local seconds <const> = took(w, began)
                if seconds > 0.5 then wrong("%s: it took %.3f s to end: %s", way, seconds, result.stderr) end
                for _, pid in ipairs(w:backends()) do -- a sleeping statement does not notice
                    w.control:query("select pg_terminate_backend($1)", pid)
                end
                check_ledger(w, way, result.stdout)
            end)
        end,
    },
    {
        row = 25, what = "no descriptors left: clear errors, and everything works when there are some again",
        run = function(kind, each)
            local url <const>, redis_url <const> = servers.database(), servers.redis_db()
            local w <close> = world.new(kind, url)
            each(w, function()
                local child <close> = program.start(FULL, { url = url, kind = kind, env = { REDIS = redis_url },
                    words = { "sh", "-c", ("ulimit -n %d && exec \"$@\""):format(math.random(24, 64)), "sh" } })
                local said <const> = program.ended(child)
                if not said:find "^ended\t%d+\t%d+\n$" then wrong("it says %s", said) end
            end)
        end,
    },
    {
        row = 26, what = "jumps of the clock: timers, limits and the age of connections stay as they are",
        run = function(kind, each)
            if os.getenv "ASAN_OPTIONS" then return pending "the sanitizers' library must be the first" end
            local url <const>, redis_url <const> = servers.database(), servers.redis_db()
            local file <const> = fs.dirname(clock_library()) .. "/clock-" .. kind
            local w <close> = world.new(kind, url)
            each(w, function()
                fs.write(file, "0\n")
                local child <close> = program.start(JUMPED, { url = url, kind = kind, words = { "env" },
                    env = { REDIS = redis_url, CLOCK_FILE = file, LD_PRELOAD = clock_library() } })
                local said <const> = program.ended(child)
                if said ~= "ended\n" then wrong("it says %s", said) end
            end)
        end,
    },
    {
        row = 33, what = "a child process inherits no connection, pipe or file",
        run = function(kind, each)
            local redis = require "dbrun.redis"
            local w <close> = world.new(kind, servers.database(), { timeout = 5, connect_timeout = 5,
                command_timeout = 5 })
            local client <close> = redis.client { url = servers.redis_db() }
            each(w, function()
                local file <close> = assert(io.open "/etc/passwd") -- io.open does not mark it close-on-exec
                local sibling <close> = process.start { "cat", stdin_from = "pipe", stdout = "capture" }
                local ways <const> = { "run", "start", "detached" }
                local function child()
                    local way <const> = ways[math.random(#ways)]
                    local result <const> = look(way)
                    local more <const> = inherited(result.stdout)
                    if not result.ok or more ~= "" then
                        w.wrong = ("%s: it has %s%s"):format(way, more, result.stderr or "")
                    end
                end
                w.e:invalidate() -- connections are opened meanwhile
                if kind == "sync" then
                    w:attempts(2)
                    child()
                else
                    task.all {
                        function() w:attempts(5) end,
                        function() client:echo "x" end,
                        function()
                            task.sleep(math.random() * 0.01)
                            child()
                        end,
                        child,
                    }
                end
                sibling:write "still there\n"
                if sibling:read_line(10) ~= "still there" then wrong "the pipe of a sibling is broken" end
                if not file:read "l" then wrong "the file is closed" end
            end)
        end,
    },
})
