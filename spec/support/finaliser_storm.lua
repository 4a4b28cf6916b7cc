--- dbrun spec/support/finaliser_storm.lua DATABASE_URL REDIS_URL SECONDS SEED: tasks use handles of all kinds, while a
--- finaliser runs repeatedly and does something random with any of them, and the collector runs whenever it can. Every
--- reply must have the right nonce or be an error, and the pools must be idle afterwards.

local core <const> = require "dbrun.core"
local db <const> = require "dbrun.db"
local errors <const> = require "dbrun.error"
local redis <const> = require "dbrun.redis"
local task <const> = require "dbrun.task"

local database_url <const>, redis_url <const> = arg[1], arg[2]
local seconds <const>, seed <const> = tonumber(arg[3]), math.tointeger(tonumber(arg[4]))

math.randomseed(seed)
core.log.level "error" -- hide the warnings about abandoned connections

local random <const> = math.random
local bug
local done, failed, acted = 0, 0, 0
local nonces = 0

local function next_nonce()
    nonces = nonces + 1
    return ("n%dz"):format(nonces)
end

local function report(text)
    bug = bug or debug.traceback(text)
end

local function check(expected, got, what)
    if got ~= expected then
        report(("%s gave %s instead of %s"):format(what, tostring(got), tostring(expected)))
    end
    done = done + 1
end

-- ---- the handles that the finaliser can use ----

local zoo = {}

--- Lets the finaliser use the handle until the block ends.
local function keep(kind, handle)
    local entry <const> = { kind = kind, handle = handle, kept = true }
    zoo[#zoo + 1] = entry
    return setmetatable(entry, { __close = function() entry.kept, entry.handle = false, nil end })
end

local function pick()
    while #zoo > 0 do
        local i <const> = random(#zoo)
        local entry <const> = zoo[i]
        if entry.kept then
            return entry
        end
        zoo[i] = zoo[#zoo]
        zoo[#zoo] = nil
    end
end

local function meta_of(handle, name)
    local fn <const> = getmetatable(handle)[name]
    return fn and fn(handle)
end

local acts <const> = {
    engine = {
        function(e)
            local nonce <const> = next_nonce()
            check(nonce, e:value("select $1::text", nonce), "the finaliser's value")
        end,
        function(e)
            local c <close> = e:acquire()
            local nonce <const> = next_nonce()
            check(nonce, c:pipeline(function(p) p:query("select $1::text as v", nonce) end)[1][1].v, "its pipeline")
        end,
        function(e) e:stats() end,
        function(e) e:invalidate() end,
        function(e) e:dispose() end,
        function(e) return random(40) == 1 and e:close() end,
    },
    lease = {
        function(c) c:release() end,
        function(c)
            local nonce <const> = next_nonce()
            check(nonce, c:value("select $1::text", nonce), "the finaliser's value on a lease")
        end,
        function(c)
            local nonce <const> = next_nonce()
            check(nonce, c:query("select $1::text as v" .. nonce, nonce)[1]["v" .. nonce], "its query on a lease")
        end,
        function(c)
            local nonce <const> = next_nonce()
            local list <const> = c:pipeline(function(p)
                p:query("select $1::text as v", nonce)
                p:query("select $1::text as v", nonce)
            end)
            check(nonce, list[2][1].v, "its pipeline on a lease")
        end,
        function(c)
            for row in c:rows "select 1 as v from generate_series(1, 3)" do
                check(1, row.v, "its rows")
            end
        end,
        function(c) keep("iterator", (c:rows "select generate_series(1, 3)")) end,
        function(c) c:copy_out "select 1 as v" () end,
        function(c) c:cancel() end,
        function(c) c:invalidate() end,
        function(c) return c.parameters.server_version end,
        function(c) c:on_notice(function() end) end,
        function(c) meta_of(c, "__close") end,
        function(c) return random(4) == 1 and meta_of(c, "__gc") end,
    },
    iterator = {
        function(it) meta_of(it, "__close") end,
        function(it) meta_of(it, "__call") end,
        function(it) return random(4) == 1 and meta_of(it, "__gc") end,
    },
    listener = {
        function(l) l:close() end,
        function(l) l:next(0) end,
        function(l) l:listen "another" end,
    },
    client = {
        function(r) r:stats() end,
        function(r) r:with { timeout = 5 } end,
        function(r) return random(5) == 1 and r:close() end,
        function(r) return random(5) == 1 and meta_of(r, "__gc") end,
        function(r) r:echo "x" end,
    },
    pipeline = {
        function(p) p:execute() end,
        function(p) meta_of(p, "__gc") end,
        function(p) return #p end,
    },
    connection = {
        function(c) c:close() end,
        function(c) c:discard() end,
        function(c) return random(4) == 1 and meta_of(c, "__gc") end,
        function(c) c:echo "x" end,
    },
    subscription = {
        function(s) s:close() end,
    },
    task = {
        function(t) return random(4) == 1 and t:cancel() end,
    },
}

local function act()
    local entry <const> = pick()
    if not entry then
        return
    end
    local list <const> = acts[entry.kind]
    local ok <const>, e <const> = pcall(list[random(#list)], entry.handle)
    acted = acted + 1
    if not ok and not errors.is(e) and not tostring(e):find "attempt to compare" then
        report("the finaliser: " .. tostring(e))
    end
end

local over = false
local function arm()
    setmetatable({}, { __gc = function()
        if over then
            return
        end
        arm()
        if random(4) == 1 then
            act()
        end
    end })
end

-- ---- what tasks do ----

local engines <const> = {}

local function engine()
    local i <const> = random(3)
    if not engines[i] or not pcall(engines[i].stats, engines[i]) then
        engines[i] = db.engine { url = database_url, mode = i == 3 and "sync" or "async", size = 6, overflow = 0,
            pipeline = i == 2 and 4 or nil, timeout = 10, connect_timeout = 10, command_timeout = 10,
            pre_ping_idle = 0.05, on_notice = random(2) == 1 and function() end or nil }
    end
    return engines[i]
end

local client, pool
local function redis_client()
    if not pool or pool:closed() then
        pool = redis.pool { url = redis_url, timeout = 10, max_connections = 30 }
    end
    if not client or client:closed() then
        client = redis.client { pool = pool, command_timeout = 10 }
    end
    return client
end

--- Each value must begin with the nonce; the loop gets fewer values when the finaliser reads or ends its iterator.
local function check_loop(nonce, what, key, ...)
    for row in ... do
        local v <const> = key and row[key] or row
        check(nonce, v:match "^n%d+z", what)
    end
end

local texts = 0

--- Each gets an engine, or a connection leased from it.
local statements <const> = {
    function(c, nonce) check(nonce, c:value("select $1::text", nonce), "value") end,
    function(c, nonce)
        local r <const> = c:query("select $1::text as v, 1.5::float8 as f, array['a', $1] as l", nonce)
        check(nonce, r[1].v, "query")
        check(nonce, r[1].l[2], "query, array")
        check("v", r.columns[1].name, "query, columns")
    end,
    function(c, nonce)
        texts = texts + 1
        local name <const> = "v" .. texts
        check(nonce, c:one("select $1::text as " .. name, nonce)[name], "one")
    end,
    function(c, nonce)
        local t <const>, n <const> = c:columns("select $1::text as v from generate_series(1, 20)", nonce)
        check(20, n, "columns")
        check(nonce, t.v[20], "columns")
    end,
    function(c) check(1, c:exec "do $$ begin raise notice 'n'; raise notice 'm'; end $$; select 1", "exec") end,
    function(c, nonce)
        local e <const> = select(2, pcall(c.value, c, "select $1::text::int", nonce))
        if not (errors.is(e) and (e.kind ~= "query" or e.sqlstate ~= "22P02" or e.message:find(nonce, 1, true))) then
            report("an error of another statement: " .. tostring(e))
        end
    end,
    function(c, nonce)
        local sql <const> = "select $1::text || i as v from generate_series(1, 50) i"
        local it <const>, _, _, closing <close> = c:rows(sql, nonce)
        local _ <close> = keep("iterator", it)
        check_loop(nonce, "rows", "v", it)
        return closing
    end,
    function(c, nonce)
        local it <close> = c:copy_out(("select '%s' || i as v from generate_series(1, 50) i"):format(nonce),
            { format = random(2) == 1 and "text" or nil })
        local _ <close> = keep("iterator", it)
        check_loop(nonce, "copy_out", "v", it)
    end,
    function(c, nonce)
        local it <close> = c:copy_out(("select '%s' from generate_series(1, 50) i"):format(nonce), { raw = true })
        local _ <close> = keep("iterator", it)
        check_loop(nonce, "copy_out, raw", nil, it)
    end,
    function(c, nonce)
        check(3, c:copy_in("storm", { "v" }, { { nonce }, { nonce }, { nonce } }), "copy_in")
    end,
    function(c, nonce)
        local list <const> = c:pipeline(function(p)
            for i = 1, 5 do
                p:query("select $1::text || $2::text as v", nonce, i)
            end
        end)
        check(5, #list, "pipeline")
        check(nonce .. "5", list[5][1].v, "pipeline")
    end,
    function(c, nonce)
        check(4, c:execute_many("insert into storm values ($1)", { { nonce }, { nonce }, { nonce }, { nonce } }),
            "execute_many")
    end,
    function(c, nonce)
        c:transaction(function(tx)
            local _ <close> = keep("lease", tx)
            check(nonce, tx:value("select $1::text", nonce), "transaction")
            check_loop(nonce, "cursor", "v",
                tx:cursor("select $1::text || i as v from generate_series(1, 20) i", nonce, { fetch = 6 }))
        end)
    end,
}

local doings <const> = {
    function(nonce)
        local e <const> = engine()
        local _ <close> = keep("engine", e)
        statements[random(#statements)](e, nonce)
    end,
    function(nonce)
        local c <close> = engine():acquire()
        local _ <close> = keep("lease", c)
        for _ = 1, random(3) do
            statements[random(#statements)](c, nonce)
        end
    end,
    function(nonce) -- abandoned
        local c <const> = engine():acquire()
        local _ <close> = keep("lease", c)
        check(nonce, c:value("select $1::text", nonce), "value of an abandoned one")
        local it <const> = c:rows "select generate_series(1, 10)"
        it()
    end,
    function(nonce)
        local l <close> = engine():listen("c" .. nonce)
        local _ <close> = keep("listener", l)
        local other <const> = engine()
        other:exec(("notify c%s, '%s'"):format(nonce, nonce))
        local event <const> = l:next(1)
        if event and event.kind ~= "gap" then
            check(nonce, event.payload or nonce, "notification")
        end
    end,
    function(nonce)
        local r <const> = redis_client()
        local _ <close> = keep("client", r)
        check(nonce, r:echo(nonce), "echo")
        r:hset("h" .. nonce, { a = nonce, b = "x" })
        check(nonce, r:hgetall("h" .. nonce).a, "hgetall")
        r:del("h" .. nonce)
    end,
    function(nonce)
        local replies <const> = redis_client():pipeline(function(p)
            p:echo(nonce)
            p:call("echo", nonce)
        end)
        check(nonce, replies[2], "Redis pipeline")
        local p <const> = redis_client():pipeline()
        local _ <close> = keep("pipeline", p)
        p:echo(nonce)
        check(nonce, p:execute()[1], "Redis pipeline by hand")
    end,
    function(nonce)
        check(nonce, redis_client():multi(function(tx)
            tx:set(nonce, nonce)
            tx:get(nonce)
            tx:del(nonce)
        end)[2], "Redis transaction")
    end,
    function(nonce)
        local c <close> = redis_client():acquire()
        local _ <close> = keep("connection", c)
        check(nonce, c:echo(nonce), "echo on a connection of its own")
        c:rpush("l" .. nonce, nonce)
        check(nonce, c:blpop("l" .. nonce, 5)[2], "blpop")
    end,
    function(nonce)
        local r <const> = redis_client()
        local s <close> = r:subscribe("s" .. nonce)
        local _ <close> = keep("subscription", s)
        r:publish("s" .. nonce, nonce)
        local m <const> = s:messages()()
        if m and m.kind == "message" then
            check(nonce, m.payload, "message")
        end
    end,
}

-- ---- the storm ----

local deadline <const> = task.now() + seconds

local function worker()
    while task.now() < deadline and not bug do
        local ok <const>, e <const> = pcall(function()
            if random(10) == 1 then
                task.sleep(0)
            end
            doings[random(#doings)](next_nonce())
        end)
        if not ok then
            failed = failed + 1
            if not errors.is(e) then
                report("unexpected: " .. tostring(e))
            end
        end
    end
end

local weathers <const> = {
    function() collectgarbage("incremental", 100, 1000, 30) end, -- a whole collection at each allocation
    function() collectgarbage("incremental", 100, 400, 10) end,
    function() collectgarbage("incremental", 100, 200, 13) end,
    function() collectgarbage("generational", 1, 20) end,
}

db.engine { url = database_url, mode = "sync" }:exec "create table if not exists storm (v text); truncate storm"
for _ = 1, 3 do
    arm()
end
do
    local g <close> = task.group()
    keep("task", g:spawn(worker))
    for _ = 1, 7 do
        g:spawn(worker)
    end
    g:spawn(function()
        while task.now() < deadline and not bug do
            weathers[random(#weathers)]()
            task.sleep(0.02)
        end
    end)
    g:wait()
end
over = true
collectgarbage("incremental", 200, 100, 13)
zoo = {}
collectgarbage()
collectgarbage()

for i, e in pairs(engines) do
    local give_up <const> = task.now() + 10
    local st
    repeat
        local ok
        ok, st = pcall(e.stats, e)
        if not ok then
            break
        end
        task.sleep(0.01)
        local at_rest <const> = st.leased == 0 and st.waiting == 0 and st.opening == 0 and st.resetting == 0
        if not at_rest and task.now() > give_up then
            report(("the pool of engine %d does not come to rest: %d leased, %d waiting, %d resetting"):format(i,
                st.leased, st.waiting, st.resetting))
        end
    until at_rest or bug
end
if bug then
    io.stderr:write(bug, "\n")
    os.exit(1)
end
print(("%d replies right, %d doings failed, %d acts of the finaliser"):format(done, failed, acted))
