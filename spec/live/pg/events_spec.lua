--- Events of an engine: on_connect, on_notice, conn.parameters, and large results in the log.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local command = require "spec.support.command"
local resident = require "spec.support.resident"
local task = require "dbrun.task"

local raised = pg.raised

--- A list that grows, and the function that fills it.
local function collector()
    local list = {}
    return list, function(v) list[#list + 1] = v end
end

local function first(iterator, state, _, closing)
    local _ <close> = closing
    return iterator(state)
end

--- Runs a script in a separate program; its argument is the database's URL.
local function run_script(text)
    return command.run(("lua script.lua '%s'"):format(pg.url()), { ["script.lua"] = text })
end

local function say(what, level)
    return ("do $do$ begin raise %s '%s'; end $do$"):format(level or "notice", what)
end

pg.on_both(describe, function(mode, open)
    describe("on_connect", function()
        it("runs again after its settings were discarded", function()
            for _, opts in ipairs { { reset = "full" }, { reset = "rollback" }, { reset = "full", pipeline = 4 } } do
                local runs = 0
                opts.size = 1
                function opts.on_connect(conn)
                    runs = runs + 1
                    conn:query "set application_name to 'ready'"
                    conn:query "create temp table scratch (i int)"
                end
                local e <close> = open(opts)
                local pid = e:value "select pg_backend_pid()"
                for _ = 1, 5 do
                    if opts.reset == "rollback" then
                        local c <close> = e:acquire()
                        c:exec "discard all"
                    end
                    assert.equal("ready", e:value "show application_name")
                    assert.equal(0, e:value "select count(*) from scratch")
                    for row in e:rows "select current_setting('application_name') as name" do
                        assert.equal("ready", row.name)
                    end
                    assert.is_false((pcall(e.transaction, e, function(tx)
                        assert.equal("ready", tx:value "show application_name")
                        error "undone"
                    end)))
                end
                assert.equal(pid, e:value "select pg_backend_pid()")
                assert(runs >= 6, runs)
            end
        end)

        it("runs once for each connection, before any statement, and can run statements", function()
            local calls = 0
            local e <close> = open {
                size = 1,
                on_connect = function(conn)
                    calls = calls + 1
                    conn:query "set application_name to 'prepared'"
                    conn:exec "create temp table mine (i int); insert into mine values (7)"
                    assert(conn:value "select i from mine" == 7)
                end,
            }
            assert.equal(7, e:value "select i from mine")
            local c <close> = e:acquire()
            assert.equal("prepared", c.parameters.application_name)
            c:release()
            assert.equal(1, calls)
            e:invalidate()
            assert.equal(7, e:value "select i from mine")
            assert.equal(2, calls)
        end)

        it("comes before every kind of use", function()
            local function on_connect(conn) conn:query "set application_name to 'ready'" end
            local name = "select current_setting('application_name') as v"
            local uses = {
                function(e) return e:query(name)[1].v end,
                function(e) return e:one(name).v end,
                function(e) return e:columns(name).v[1] end,
                function(e) return first(e:rows(name)).v end,
                function(e) return first(e:copy_out(name)).v end,
                function(e) return e:transaction(function(tx) return tx:value(name) end) end,
                function(e) local s <close> = e:session() return s:value(name) end,
                function(e) return e:pipeline(function(p) p:query(name) end)[1][1].v end,
            }
            for i, use in ipairs(uses) do
                local e <close> = open { on_connect = on_connect }
                assert.equal("ready", use(e), "use " .. i)
            end
        end)

        it("that raises closes the connection; its error is raised with a context", function()
            local fail = true
            local e <close> = open {
                size = 1, on_connect = function(conn) return fail and conn:query "select 1 / 0" end,
            }
            for _ = 1, 3 do
                local err = raised(e.value, e, "select 1")
                assert.equal("22012", err.sqlstate)
                assert.matches("on_connect", err.context)
                assert.equal(0, pg.settled(e).open)
            end
            fail = false
            assert.equal(1, e:value "select 1")
            assert.same({ 4, 3, 1 }, { e:stats().opened, e:stats().closed, e:stats().open })
        end)

        it("that raises another value is a connection error", function()
            local e <close> = open { size = 1, on_connect = function() error "it rains" end }
            local err = raised(e.value, e, "select 1")
            assert.same({ "connect", "not_sent" }, { err.kind, err.outcome })
            assert.matches("on_connect failed: .*pg/events_spec.lua:%d+: it rains", err.message)
            local e2 <close> = open { size = 1, on_connect = function() error {} end }
            assert.matches("on_connect failed: table", raised(e2.value, e2, "select 1").message)
        end)

        it("must leave the connection in a usable state", function()
            local cases = {
                { "left a transaction open", function(conn) conn:exec "begin" end },
                { "must not release", function(conn) conn:release() end },
                { "left a statement unfinished", function(conn) conn:rows "select 1" end },
            }
            for _, case in ipairs(cases) do
                local e <close> = open { size = 1, on_connect = case[2] }
                local err = raised(e.value, e, "select 1")
                assert.is_true(errors.is(err, "connect"))
                assert.is_truthy(err.message:find(case[1], 1, true), err.message)
                pg.settled(e)
            end
        end)

        if mode == "async" then
            it("can yield in a coroutine that another task resumes", function()
                local e <close> = open {
                    size = 1, overflow = 0, timeout = 0.2, on_connect = function() coroutine.yield "connecting" end,
                }
                local other <close> = pg.engine { size = 1 }
                local gate <close> = other:acquire()
                gate:value "select pg_advisory_lock(600)"
                local querying
                task.spawn(function()
                    querying = coroutine.create(function()
                        return e:value "select 1 from pg_advisory_xact_lock(600)"
                    end)
                    assert(coroutine.resume(querying))
                end):join()
                collectgarbage()
                collectgarbage()
                local second <const> = task.spawn(function() return coroutine.resume(querying) end)
                task.sleep(0.05)
                local problem <const> = raised(e.value, e, "select 2") -- names who holds the connection
                assert.equal("pool", problem.kind)
                assert.matches("events_spec.lua:%d+", problem.detail)
                gate:value "select pg_advisory_unlock(600)"
                assert.same({ true, 1 }, { second:join() })
            end)
        end

        it("cannot keep its connection afterwards", function()
            local kept
            local e <close> = open { size = 1, on_connect = function(conn) kept = conn end }
            assert.equal(1, e:value "select 1")
            assert.matches("released", raised(kept.value, kept, "select 1").message)
        end)
    end)

    describe("on_notice", function()
        it("gets notices in order, before the statement returns, with all their fields", function()
            local notices, add = collector()
            local e <close> = open { on_notice = add }
            e:exec(say "one" .. ";" .. say("two", "warning"))
            assert.same({ "one", "two" }, { notices[1].message, notices[2].message })
            assert.same({ "NOTICE", "00000", "WARNING", "01000" },
                { notices[1].severity, notices[1].sqlstate, notices[2].severity, notices[2].sqlstate })
            e:exec [[do $$ begin raise notice 'n' using detail = 'd', hint = 'h', errcode = '01234', table = 't',
                column = 'c', constraint = 'k', schema = 's', datatype = 'y'; end $$]]
            local n = notices[3]
            assert.same({ "n", "d", "h", "01234", "t", "c", "k", "s", "y" },
                { n.message, n.detail, n.hint, n.sqlstate, n.table, n.column, n.constraint, n.schema, n.datatype })
            assert.matches("PL/pgSQL", n.context)
        end)

        it("gets the notices of every kind of statement, also of a failed one", function()
            local notices, add = collector()
            local e <close> = open { on_notice = add }
            local t = pg.table(e, "i int")
            e:exec(([[create function T_f(i int) returns int language plpgsql as
                $$ begin raise notice 'f %', i; return i; end $$;
                create function T_g() returns trigger language plpgsql as
                $$ begin raise notice 'g %', new.i; return new; end $$;
                create trigger t before insert on T for each row execute function T_g()]]):gsub("%f[%w]T", t) .. "")
            local f = t .. "_f"
            e:query(("select %s(1)"):format(f))
            for _ in e:rows(("select %s(i) from generate_series(2, 3) i"):format(f)) do assert(true) end
            for _ in e:copy_out(("select %s(4)"):format(f)) do assert(true) end
            e:copy_in(t, { "i" }, { { 5 }, { 6 } })
            e:pipeline(function(p) p:query(("select %s(7)"):format(f)) end)
            raised(e.query, e, ("select 1 / (%s(8) - 8)"):format(f))
            local got = {}
            for i, n in ipairs(notices) do got[i] = n.message end
            assert.same({ "f 1", "f 2", "f 3", "f 4", "g 5", "g 6", "f 7", "f 8" }, got)
        end)

        it("of a lease replaces the engine's, until the lease is released", function()
            local notices, add = collector()
            local own, add_own = collector()
            local e <close> = open { size = 1, on_notice = add }
            do
                local c <close> = e:acquire()
                c:on_notice(add_own)
                c:exec(say "own")
                c:on_notice(nil)
                c:exec(say "the engine")
                c:on_notice(add_own)
            end
            e:exec(say "the engine too")
            assert.same({ 1, 2 }, { #own, #notices })
            assert.equal("own", own[1].message)
        end)

        it("cannot wait, and cannot use its connection", function()
            local seen = {}
            local e <close> = open { size = 2 }
            local c <close> = e:acquire()
            c:on_notice(function()
                seen[1] = raised(c.value, c, "select 1").message
                seen[2] = raised(c.release, c).message
                if mode == "async" then seen[3] = raised(task.sleep, 0.01).message end
            end)
            c:exec(say "x")
            assert.matches(mode == "async" and "nothing can wait here" or "on_notice runs", seen[1])
            assert.matches("on_notice runs", seen[2])
            if mode == "async" then assert.is_string(seen[3]) end
            assert.equal(1, c:value "select 1")
        end)

        it("keeps a thousand notices of a statement, and drops the rest", function()
            local notices, add = collector()
            local e <close> = open { on_notice = add }
            e:exec "do $$ begin for i in 1 .. 5000 loop raise notice '%', i; end loop; end $$"
            assert.equal(1000, #notices)
            assert.equal("1000", notices[1000].message)
            e:exec(say "later")
            assert.equal("later", notices[1001].message)
        end)

        it("keeps 8 MiB of notices of a statement, and drops the rest", function()
            local sizes = {}
            local e <close> = open { on_notice = function(n) sizes[#sizes + 1] = #n.message end }
            e:exec "set client_min_messages = notice"
            local before = resident()
            e:exec [[do $$ begin for i in 1..150 loop raise notice '%', repeat('x', 1 << 20); end loop; end $$]]
            if not os.getenv "ASAN_OPTIONS" then -- the sanitizer's quarantine of freed memory counts as resident
                assert.is_true(resident() - before < 60 << 20)
            end
            assert.same({ 8, 1 << 20 }, { #sizes, sizes[8] })
            e:exec(say "again")
            assert.equal(5, sizes[9])
        end)
    end)

    describe("conn.parameters", function()
        it("has the current values that the server has reported", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local p = c.parameters
            assert.equal(c:value "show server_version", p.server_version)
            assert.equal("UTF8", p.client_encoding)
            assert.is_nil(p.no_such_thing)
            c:query "set timezone to 'Asia/Tokyo'"
            assert.equal("Asia/Tokyo", p.TimeZone)
            c:query "reset timezone"
            local all = {}
            for name, value in pairs(p) do all[name] = value end
            assert.same({ "UTF8", "on", p.TimeZone }, { all.server_encoding, all.integer_datetimes, all.TimeZone })
            c:release()
            assert.matches("released", raised(function() return p.TimeZone end).message)
        end)

        it("also exists in transactions, and hides no method", function()
            local e <close> = open()
            e:transaction(function(tx)
                assert.is_string(tx.parameters.server_version)
                assert.is_function(tx.query)
                assert.is_nil(tx.nothing_of_it)
            end)
        end)
    end)

    describe("describe", function()
        it("returns the columns of a statement without running it", function()
            local e <close> = open()
            local t = pg.table(e, "i int8, s text")
            local c <close> = e:acquire()
            local columns = c:describe(("insert into %s values (1, 'x') returning *"):format(t))
            assert.same({ { name = "i", type = "int8", oid = 20 }, { name = "s", type = "text", oid = 25 } }, columns)
            assert.equal(0, c:value(("select count(*) from %s"):format(t)))
            assert.same({}, c:describe "begin")
            assert.equal("42601", raised(c.describe, c, "selec 1").sqlstate)
        end)
    end)
end)

describe("on an engine with pipeline=", function()
    it("on_connect and on_notice work as usual", function()
        local notices, add = collector()
        local connects = 0
        local e <close> = pg.engine {
            size = 2, pipeline = 4, on_notice = add, on_connect = function(conn)
                connects = connects + 1
                conn:query "set application_name to 'ready'"
            end,
        }
        e:exec [[create or replace function spec_say(i int) returns text language plpgsql as
            $$ begin raise notice 'say %', i; return current_setting('application_name'); end $$]]
        local group <close> = task.group()
        for i = 1, 20 do
            group:spawn(function()
                for _ = 1, 10 do assert(e:value("select spec_say($1)", i) == "ready") end
            end)
        end
        group:wait()
        assert.equal(200, #notices)
        assert.equal(e:stats().opened, connects)
    end)
end)

describe("an on_notice that raises", function()
    it("is logged; the statement has its result nevertheless", function()
        local ended = run_script [[local e = require "dbrun.db".engine {
                url = arg[1], on_notice = function(n) error("cannot bear " .. n.message) end }
            e:exec "do $$ begin raise notice 'this'; raise notice 'that'; end $$"
            print(e:value "select 1")]]
        assert.equal("1\n", ended.out)
        assert.matches("on_notice failed: script.lua:2: cannot bear this", ended.err)
        assert.matches("on_notice failed: script.lua:2: cannot bear that", ended.err)
    end)
end)

describe("a large result", function()
    it("is logged with its size and place", function()
        local ended = run_script [[local e = require "dbrun.db".engine { url = arg[1], large_result = 1000000 }
            assert(#e:query "select repeat('x', 1000) from generate_series(1, 500)" == 500)
            assert(#e:query "select repeat('x', 1000) from generate_series(1, 5000)" == 5000)]]
        assert.equal(0, ended.code)
        assert.matches("script.lua:3: a result of 5000 rows and %d+ MiB was held in memory", ended.err)
        assert.not_matches("a result of 500 rows", ended.err)
    end)
end)
