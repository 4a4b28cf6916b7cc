--- All faults at once, at random moments, with a nonce in every reply; then hundreds of repetitions.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local resident = require "spec.support.resident"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

describe("[async] a random mix of faults and work", function()
    local function storm(pipeline)
        local seed = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()
        math.randomseed(seed)
        local own <close> = servers.postgres { settings = { max_connections = 30 } }
        local e <close> = pg.engine { url = own.url, size = 4, overflow = 3, timeout = 2, connect_timeout = 5,
            command_timeout = 3, pre_ping_idle = 0.05, pipeline = pipeline }
        local t = pg.table(e, "i int8")
        local files_before
        local deadline = task.now() + 5
        local done, cancelled, failed = 0, 0, 0

        local function check(nonce, v, what)
            if v ~= nonce then
                error(("seed %d: %s gave %s instead of %s"):format(seed, what, tostring(v), tostring(nonce)))
            end
            done = done + 1
        end

        local doings = {
            function(n) check(n, e:value("select $1::int8", n), "value") end,
            function(n) check(n, e:query("select $1::int8 as v from pg_sleep(0.003)", n)[1].v, "query") end,
            function(n) check(n, e:one("select $1::int8 as v, $2::text as x", n, ("x"):rep(20000)).v, "one") end,
            function(n)
                local c <close> = e:acquire()
                check(n, c:value("select $1::int8", n), "first of a lease")
                pcall(task.timeout, math.random() * 0.01, c.value, c, "select -1 from pg_sleep(0.005)")
                check(n + 1, c:value("select $1::int8 + 1", n), "after a cancelled one")
            end,
            function(n)
                e:transaction(function(tx)
                    tx:query(("insert into %s values ($1)"):format(t), n)
                    check(n, tx:value("select $1::int8 from pg_sleep(0.001)", n), "transaction")
                    if n % 3 == 0 then
                        error("rolled back", 0)
                    end
                end)
            end,
            function(n)
                local s <close> = e:session()
                check(n, s:value("select $1::int8", n), "session")
                if n % 2 == 0 then
                    s:commit()
                end
            end,
            function(n)
                local seen = 0
                for row in e:rows("select $1::int8 + i as v from generate_series(0, 3000) i", n) do
                    check(n + seen, row.v, "rows")
                    seen = seen + 1
                    if seen == n % 2000 + 1 then
                        break
                    end
                end
            end,
            function(n)
                e:transaction(function(tx)
                    tx:copy_in(t, { "i" }, { { n }, { n + 1 } })
                    local sql = ("select count(*) from %s where i in ($1::int8, $1::int8 + 1)"):format(t)
                    check(2, tx:value(sql, n), "copy_in")
                    error("rolled back", 0)
                end)
            end,
            function(n)
                local c <close> = e:acquire()
                c:exec "begin"
                check(n, c:value("select $1::int8", n), "left in a transaction")
            end,
        }

        local function worker()
            while task.now() < deadline do
                local n = math.random(1 << 40) * 4096
                local ok, problem
                if math.random(3) == 1 then
                    ok, problem = pcall(task.timeout, math.random() * 0.02, doings[math.random(#doings)], n)
                else
                    ok, problem = pcall(doings[math.random(#doings)], n)
                end
                if not ok and problem ~= "rolled back" then
                    if not errors.is(problem) then
                        error(problem, 0)
                    end
                    if errors.is(problem, "timeout") or errors.is(problem, "cancelled") then
                        cancelled = cancelled + 1
                    elseif errors.is(problem, "connect") or errors.is(problem, "pool") then
                        failed = failed + 1
                    else
                        error(problem, 0)
                    end
                end
            end
        end

        local work = {}
        for i = 1, 25 do
            work[i] = task.spawn(worker)
        end
        -- Cancels tasks from outside at any point: waiting, connecting, running.
        local killer = task.spawn(function()
            while task.now() < deadline do
                local victim = task.spawn(pcall, worker)
                task.sleep(math.random() * 0.02)
                victim:cancel()
            end
        end)
        -- Kills and briefly freezes backends, and retires connections.
        local chaos = task.spawn(function()
            while task.now() < deadline do
                task.sleep(0.05 + math.random() * 0.1)
                local what = math.random(4)
                if what == 1 then
                    own:psql [[select pg_terminate_backend(pid) from pg_stat_activity
                        where backend_type = 'client backend'
                        and pid <> pg_backend_pid() order by random() limit 2]]
                elseif what == 2 then
                    e:invalidate()
                elseif what == 3 then
                    e:dispose()
                else
                    local pid = math.tointeger(tonumber((own:psql [[select pid from pg_stat_activity
                        where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1]])))
                    if pid then
                        process.kill(pid, "STOP")
                        task.sleep(0.03)
                        process.kill(pid, "CONT")
                    end
                end
                collectgarbage()
                files_before = files_before or pg.descriptors()
            end
        end)
        for i = 1, 25 do
            work[i]:join()
        end
        killer:join()
        chaos:join()

        local st = pg.settled(e, 4)
        assert.equal(0, st.leased)
        assert(st.open <= 7 and st.idle <= 4)
        assert(done > 500 and cancelled > 50, ("%d done, %d cancelled, %d failed"):format(done, cancelled, failed))
        -- All connections can be checked out: none was lost.
        local leases = {}
        for i = 1, 7 do
            leases[i] = e:acquire()
            assert.equal(i, leases[i]:value("select $1::int", i))
        end
        for i = 1, 7 do
            leases[i]:release()
        end
        e:dispose()
        pg.eventually(10, function()
            return own:psql [[select count(*) from pg_stat_activity where backend_type = 'client backend'
                and pid <> pg_backend_pid()]] == "0"
        end, "the end of all connections")
        collectgarbage()
        assert(pg.descriptors() <= files_before, ("seed %d: %d descriptors, %d before"):format(seed, pg.descriptors(),
            files_before))
        print(("# seed %d: %d answers, %d cancelled, %d failed"):format(seed, done, cancelled, failed))
    end

    it("gives no wrong answer and loses no connection", function()
        storm(nil)
    end)

    it("gives no wrong answer when statements share connections, either", function()
        storm(8)
    end)
end)

describe("[async] hundreds of repetitions", function()
    it("of cancelled, failed and lost work do not increase descriptors and memory", function()
        local e <close> = pg.engine { size = 2 }
        local function round()
            pcall(task.timeout, 0.0005, e.value, e, "select pg_sleep(1)")
            pcall(e.value, e, "select 1/0")
            pcall(e.value, e, "select pg_terminate_backend(pg_backend_pid())")
            pcall(e.transaction, e, function(tx)
                tx:value "select 1"
                error "no"
            end)
        end
        local function memory()
            pg.settled(e, 4)
            e:dispose() -- the number of idle connections is random
            task.sleep(0.1)
            collectgarbage()
            collectgarbage()
            return resident() // 1024
        end
        for _ = 1, 100 do
            round()
        end
        local kb = memory()
        local files = pg.descriptors()
        for _ = 1, 400 do
            round()
        end
        local kb_after = memory()
        local limit = os.getenv "ASAN_OPTIONS" and 65536 or 4096 -- a sanitizer keeps freed memory
        assert(kb_after - kb < limit, ("%d KiB, %d before"):format(kb_after, kb))
        assert(pg.descriptors() <= files, ("%d descriptors, %d before"):format(pg.descriptors(), files))
    end)
end)
