--- Harm that programs do to connections, at random moments: rows 10 to 15 of the faults.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local task = require "dbrun.task"
local world = require "spec.support.faults.world"

local TASKS <const> = { "async", "shared" }
local GIVEN_UP <const> = { timeout = true, cancelled = true }

local function new(kind, opts)
    return world.new(kind, (servers.database()), opts)
end

--- Runs fn in a task that is cancelled, or times out, at a random moment.
local function cut_short(most, fn)
    if math.random(2) == 1 then
        return pcall(task.timeout, math.random() * most, fn)
    end
    local t <const> = task.spawn(pcall, fn)
    task.sleep(math.random() * most)
    t:cancel()
    return pcall(t.join, t)
end

--- Raises, because this must not succeed.
local function refused(kind, fn, ...)
    local ok <const>, problem <const> = pcall(fn, ...)
    if ok or not errors.is(problem, kind) then
        error(("expected an error of kind %s, got %s"):format(kind, tostring(problem)), 0)
    end
    return problem
end

--- Reads the first row, and not the others.
local function begin(next_row, state)
    return next_row(state)
end

--- Session state that a lease can leave, and that the next lease must not see.
local LEFT <const> = {
    { "begin", "select 1 where pg_current_xact_id_if_assigned() is not null" },
    { "begin; select pg_advisory_xact_lock(4711)",
        "select 1 from pg_locks where locktype = 'advisory' and objid = 4711" },
    { "begin; create temp table mine (i int)", "select 1 where to_regclass('pg_temp.mine') is not null" },
    { "begin; declare c cursor for select 1", "select 1 from pg_cursors where name = 'c'" },
    { "begin; savepoint a; select 1; set local statement_timeout = 12345",
        "select 1 where current_setting('statement_timeout') = '12345ms'" },
    { "listen left_behind", "select 1 from pg_listening_channels()", full = true },
    { "set statement_timeout = 54321", "select 1 where current_setting('statement_timeout') = '54321ms'", full = true },
    { "select pg_advisory_lock(4712)",
        "select 1 from pg_locks where locktype = 'advisory' and objid = 4712", full = true },
    { "create temp table yours (i int)", "select 1 where to_regclass('pg_temp.yours') is not null", full = true },
    { "prepare left_over as select 1", "select 1 from pg_prepared_statements where name = 'left_over'", full = true },
}

rounds.describe(describe, it, {
    {
        row = 10, what = "no connection left: 53300 with a hint; who waits is served in order, and in time",
        run = function(kind, each)
            local server <close> = servers.postgres {
                settings = { max_connections = 7, superuser_reserved_connections = 0, max_wal_senders = 0 },
            }
            -- Two of the seven connections are for control, one is for the hand.
            local w <close> = world.new(kind, server.url, { command_timeout = 3 })
            w.control:transaction(function() w.control:value "select 1" end) -- opens both
            each(w, function()
                w.e:dispose()
                pg.eventually(10, function()
                    return w.control:value [[select count(*) from pg_stat_activity
                        where backend_type = 'client backend']] <= 3
                end, "the end of the connections")
                local hog <close> = db.engine { url = server.url, size = 5, overflow = 0, timeout = 5,
                    application_name = "hog" }
                local held <const> = {}
                for _ = 1, math.random(3, 5) do
                    local ok <const>, lease <const> = pcall(hog.acquire, hog)
                    if ok then held[#held + 1] = lease end
                end
                w:attempts(kind == "sync" and 3 or 6, { ["53300"] = true, pool = true })
                for _, lease in ipairs(held) do lease:release() end
                hog:dispose()
                pg.eventually(10, function()
                    return w.control:value "select count(*) from pg_stat_activity where application_name = 'hog'" == 0
                end, "the end of the hog's connections")
                if kind == "sync" then return end
                -- The server frees their slots a moment after it reports their end.
                pg.eventually(10, function() return pcall(w.fill, w) end, "room for all connections")
                local order <const>, list <const> = {}, {}
                for i = 1, 12 do
                    list[i] = function()
                        local c <close> = w.e:acquire()
                        order[#order + 1] = i
                        c:value "select pg_sleep(0.001)"
                    end
                end
                task.all(list)
                for i = 1, 12 do
                    if order[i] ~= i then
                        error("waiters are not served in their order: " .. table.concat(order, " "), 0)
                    end
                end
            end)
        end,
    },
    {
        row = 11, what = "acquire cancelled while waiting, while opening, at the hand-over: no slot is lost",
        only = TASKS,
        run = function(kind, each)
            local w <close> = new(kind, { size = 2 })
            each(w, function()
                if math.random(2) == 1 then w.e:dispose() end -- then they open connections
                local list <const> = {}
                for i = 1, 12 do
                    list[i] = function()
                        local doomed <const> = i % 3 ~= 0
                        local function work()
                            if math.random(2) == 1 then
                                local c <close> = w.e:acquire()
                                task.sleep(math.random() * 0.003)
                                local n <const> = w:nonce()
                                w:must(function()
                                    local ok <const>, got <const> = pcall(c.value, c, "select $1::int8", n)
                                    assert(not ok or got == n, "a wrong answer")
                                end)
                            else
                                w:attempt({ cancelled = true, timeout = true, pool = true }, "value")
                            end
                        end
                        if doomed then
                            cut_short(0.006, work)
                        else
                            work()
                        end
                        if math.random(8) == 1 then w.e:invalidate() end
                    end
                end
                task.all(list)
            end)
        end,
    },
    {
        row = 12, what = "a statement cancelled at any moment: a late cancel never hits the next one",
        run = function(kind, each)
            local server <const>, url <const>, name <const> = servers.shared_postgres(), servers.database()
            local proxy <close> = fake.proxy { to = server }
            local w <close> = world.new(kind, url, { url = proxy:address_of(server, { database = name }), size = 2,
                timeout = 5, connect_timeout = 5, command_timeout = kind == "sync" and 0.06 or 5 })
            each(w, function()
                w:fill()
                proxy:delay("up", math.random(0, 3) * 0.004)
                proxy:delay("down", math.random(0, 3) * 0.004)
                if kind == "sync" then
                    pcall(w.e.value, w.e, ("select 'wrong' from pg_sleep(%f)"):format(math.random() * 0.1))
                    w:attempt(GIVEN_UP, "insert")
                    w:attempt(GIVEN_UP, "value")
                else
                    local list <const> = {}
                    for i = 1, 6 do
                        list[i] = function()
                            if i % 2 == 0 then
                                cut_short(0.04, function()
                                    w:attempt(GIVEN_UP)
                                end)
                            else
                                w:attempt(nil, "insert_slow")
                            end
                        end
                    end
                    list[7] = function()
                        local c <close> = w.e:acquire()
                        local running <const> = task.spawn(pcall, c.value, c, "select 'wrong' from pg_sleep(0.01)")
                        task.sleep(math.random() * 0.02)
                        c:cancel()
                        running:join()
                        local n <const> = w:nonce()
                        assert(c:value("select $1::int8 from pg_sleep(0.01)", n) == n, "a wrong answer")
                    end
                    task.all(list)
                end
                proxy:delay("up", 0)
                proxy:delay("down", 0)
            end)
        end,
    },
    {
        row = 13, what = "a task that dies, or forgets its connection: rolled back or closed",
        run = function(kind, each)
            require "dbrun.core".log.level "error" -- where_spec checks its warning
            local _ <close> = setmetatable({}, { __close = function() require "dbrun.core".log.level "warn" end })
            local w <close> = new(kind)
            each(w, function()
                local spoilt <const> = { w:nonce(), w:nonce(), w:nonce() }
                local function forget()
                    local c <const> = w.e:acquire()
                    c:exec "begin"
                    c:query("insert into ledger values ($1)", spoilt[1])
                    if math.random(2) == 1 then error("dies", 0) end
                end
                local function half_way()
                    local s <const> = w.e:session()
                    s:query("insert into ledger values ($1)", spoilt[2])
                    for row in s:rows "select generate_series(1, 1000) as i" do
                        if row.i == math.random(1000) then error("dies", 0) end
                    end
                    error("dies", 0)
                end
                local function in_transaction()
                    w.e:transaction(function(tx)
                        tx:query("insert into ledger values ($1)", spoilt[3])
                        error("dies", 0)
                    end)
                end
                for _, fn in ipairs { forget, half_way, in_transaction } do
                    if kind == "sync" then
                        pcall(fn)
                    else
                        local t <const> = task.spawn(pcall, fn)
                        t:join()
                    end
                end
                collectgarbage()
                collectgarbage()
                w:attempts(3)
                local kept <const> = w.control:value("select count(*) from ledger where n = any($1)",
                    db.array(spoilt, "int8"))
                if kept ~= 0 then error(kept .. " rows of dead tasks were kept", 0) end
            end)
        end,
    },
    {
        row = 14, what = "returned in a transaction, in COPY, with LISTEN, SET, locks: cleaned or closed",
        run = function(kind, each)
            local w <close> = new(kind, { reset = "full" })
            local url <const> = w.opts.url:gsub("dbrun:[^@]*@", "dbrun@")
            local plain <close> = db.engine(world.options(kind, url, { size = 1 }))
            each(w, function()
                local left <const> = LEFT[math.random(#LEFT)]
                local e <const> = (not left.full and math.random(2) == 1) and plain or w.e
                local pid
                do
                    local c <close> = e:acquire()
                    pid = c:backend_pid()
                    c:exec(left[1])
                    local also <const> = math.random(4)
                    if also == 1 then
                        pcall(c.copy_in, c, "ledger", { "n" }, function() error("dies", 0) end)
                    elseif also == 2 then
                        begin(c:copy_out "select generate_series(1, 5000)")
                    elseif also == 3 then
                        begin(c:rows "select generate_series(1, 5000)")
                    end
                end
                local c <close> = e:acquire()
                if c:backend_pid() == pid then
                    local there <const> = c:value(left[2])
                    if there then error(("left behind after '%s'"):format(left[1]), 0) end
                end
                w:attempts(2)
            end)
        end,
    },
    {
        row = 15, what = "released twice, used after release, used by two tasks at once: an error, never shared",
        run = function(kind, each)
            local w <close> = new(kind)
            each(w, function()
                local c <const> = w.e:acquire()
                local n <const> = w:nonce()
                if kind == "sync" then
                    assert(c:value("select $1::int8", n) == n, "a wrong answer")
                else
                    local got, also
                    task.all {
                        function() got = c:value("select $1::int8 from pg_sleep(0.004)", n) end,
                        function()
                            task.sleep(math.random() * 0.006)
                            local ok <const>, v <const> = pcall(c.value, c, "select $1::int8", n + 1)
                            also = ok and v or refused("usage", error, v)
                        end,
                    }
                    assert(got == n and (also == n + 1 or errors.is(also, "usage")), "shared by two tasks")
                end
                c:release()
                local next_owner <close> = w.e:acquire()
                pcall(c.release, c)
                pcall(c.invalidate, c)
                for _, fn in ipairs { c.value, c.query, c.exec, c.rows, c.describe } do
                    refused("usage", fn, c, "select 1")
                end
                refused("usage", c.transaction, c, function() end)
                assert(next_owner:value("select $1::int8", n) == n, "a wrong answer")
                next_owner:release()
                w:attempts(2)
            end)
        end,
    },
})
