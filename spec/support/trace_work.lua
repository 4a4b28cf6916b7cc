--- Tasks that do random work, for the spec of the trace: statements, transactions that overlap, pipelines, COPY, loops
--- that end early, timeouts, errors. Prints as JSON how often each SQL text ran to its end.
---
---   dbrun --trace FILE spec/support/trace_work.lua SEED TASKS STEPS
local db = require "dbrun.db"
local json = require "dbrun.json"
local redis = require "dbrun.redis"
local task = require "dbrun.task"

local seed <const>, tasks <const>, steps <const> = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
math.randomseed(seed)

local engine <const> = db.engine { url = os.getenv "DATABASE_URL", size = 4, overflow = 0, timeout = 0.03 }
local shared <const> = db.engine {
    url = os.getenv "DATABASE_URL", pipeline = 5, size = 3, overflow = 0, timeout = 0.03,
}
local sync <const> = db.sync
local r <const> = redis.get()
local ran <const> = {}

local function count(sql, n) ran[sql] = (ran[sql] or 0) + (n or 1) end

local OK <const>, FAILS <const> = "select $1::int + %d", "select 1 / (%d - %d + $1::int - $1::int)"

--- Runs one of a few texts; some fail.
local function statement(conn, may_fail)
    local n <const> = math.random(9)
    local fails <const> = may_fail and math.random(4) == 1
    local sql <const> = fails and FAILS:format(n, n) or OK:format(n)
    local ok <const>, e <const> = pcall(conn.value, conn, sql, 1)
    if not ok and not (fails and e.sqlstate == "22012") then error(e, 0) end
    count(sql)
end

local function cut_short()
    local ok <const> = pcall(task.timeout, 0.002, engine.query, engine, "select pg_sleep(0.05) -- cut short")
    if ok then count "select pg_sleep(0.05) -- cut short" end
end

local function pipeline(conn)
    local list <const> = {}
    for i = 1, math.random(4) do list[i] = ("select %d -- piped"):format(math.random(5)) end
    conn:pipeline(function(p) for _, sql in ipairs(list) do p:query(sql) end end)
    for _, sql in ipairs(list) do count(sql) end
end

local function many(conn)
    local rows <const> = {}
    for i = 1, math.random(20) do rows[i] = { i } end
    conn:execute_many("insert into traced values ($1)", rows)
    count("insert into traced values ($1)", #rows)
end

local function loop(conn)
    local last <const> = math.random(200)
    local rows <const> = conn:rows "select generate_series(1, 100) as i -- loop"
    count "select generate_series(1, 100) as i -- loop"
    for row in rows do
        if row.i == 50 then statement(engine) end
        if row.i == last then break end
    end
end

--- Two loops of one task that end in the order in which they began, so that they do not nest.
local function crossed()
    local a <const> = engine:rows "select 1 -- first"
    count "select 1 -- first"
    local b <const> = shared:rows "select 2 -- second" -- fails where no connection becomes free in time
    count "select 2 -- second"
    assert(a() and b() and not a() and not b())
end

local function copy(conn)
    conn:copy_in("traced", nil, { { 1 }, { 2 }, { 3 } })
    for _ in conn:copy_out("select a from traced where a > $1 limit 5", {}, 1) do
        if math.random(9) == 1 then break end
    end
end

local function transaction(may_fail)
    pcall(engine.transaction, engine, function(tx)
        for _ = 1, math.random(3) do
            local what <const> = math.random(6)
            if what == 1 then pipeline(tx)
            elseif what == 2 then loop(tx)
            elseif what == 3 then copy(tx)
            elseif what == 4 then many(tx)
            elseif what == 5 then tx:transaction(statement)
            else statement(tx) end
        end
        if may_fail then error "rolled back" end
    end)
end

--- Two transactions of one task that overlap: coroutines take turns.
local function overlapping()
    local function body()
        local conn <close> = engine:acquire()
        conn:exec "begin"
        count "begin"
        statement(conn)
        coroutine.yield()
        statement(conn)
        conn:exec "commit"
        count "commit"
    end
    local a <const>, b <const> = coroutine.wrap(body), coroutine.wrap(body)
    a() b() a() b()
end

--- A transaction that another task ends, while this one waits for it.
local function handed_over()
    local conn <close> = engine:acquire()
    conn:exec "begin"
    count "begin"
    task.spawn(function()
        conn:exec "rollback"
        count "rollback"
    end):join()
end

local ACTIONS <const> = {
    function() statement(engine, true) end, function() statement(engine, true) end,
    function() statement(shared, true) end, function() statement(shared, true) end,
    function() statement(sync, true) end,
    function() task.sleep(math.random() / 500) end,
    function() r:set("k" .. math.random(3), math.random(99)) end,
    function() pcall(r.lpush, r, "k1", 1) r:pipeline(function(p) p:get "k1" p:get "k2" end) end,
    cut_short, crossed,
    function() pipeline(engine) end, function() many(engine) end, function() loop(engine) end, transaction,
    function() transaction(true) end, function() copy(engine) end,
    function() engine:session():close() end,
}
--- Work that holds two connections must not run in all tasks at once.
local ALONE <const> = { overlapping, handed_over }

sync:exec "create table if not exists traced (a int)"
task.all((function()
    local list <const> = {}
    for i = 1, tasks do
        list[i] = function()
            for _ = 1, steps do
                local alone <const> = i == 1 and math.random(6) == 1
                local from <const> = alone and ALONE or ACTIONS
                pcall(from[math.random(#from)])
            end
        end
    end
    return list
end)())
print(json.encode(ran))
