--- Statements that share a connection (pipeline=, pipelines, execute_many) when the server refuses the commit, stops
--- answering, or breaks the protocol: each gets its own outcome once, and the program goes on.

local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local raised = pg.raised

local function shared(opts)
    opts.pipeline = 16
    return pg.engine(opts)
end

describe("a statement that is refused when it is committed", function()
    local function tables(e)
        local parent = pg.table(e, "i int primary key")
        local child = pg.table(e, ("i int references %s deferrable initially deferred"):format(parent))
        return child, parent
    end

    it("fails on a shared connection, prepared or not", function()
        local e <close> = shared { size = 1 }
        local child, parent = tables(e)
        local sql = ("insert into %s values ($1)"):format(child)
        for i = 1, 6 do assert.equal("23503", raised(e.query, e, sql, i).sqlstate) end
        assert.equal(0, e:value(("select count(*) from %s"):format(child)))
        e:query(("insert into %s values (7)"):format(parent))
        assert.equal(1, e:query(sql, 7).affected)
        assert.equal(1, e:value(("select count(*) from %s"):format(child)))
    end)

    it("fails alone among those in flight with it", function()
        local e <close> = shared { size = 1 }
        local child, parent = tables(e)
        e:query(("insert into %s select generate_series(1, 100, 2)"):format(parent))
        local sql = ("insert into %s values ($1) returning i"):format(child)
        for _ = 1, 3 do e:value(sql, 1) end
        local work, ok = {}, {}
        for i = 1, 100 do
            work[i] = function() ok[i] = pcall(e.value, e, sql, i) end
        end
        task.all(work)
        for i = 1, 100 do assert.equal(i % 2 == 1, ok[i], i) end
        assert.equal(53, e:value(("select count(*) from %s"):format(child)))
    end)

    pg.on_both(describe, function(_, open)
        it("fails the whole pipeline, and execute_many", function()
            local e <close> = open { size = 1 }
            local child = tables(e)
            assert.equal("23503", raised(e.pipeline, e, function(p)
                p:query "select 1"
                p:query(("insert into %s values (1)"):format(child))
            end).sqlstate)
            local insert = ("insert into %s values ($1)"):format(child)
            assert.equal("23503", raised(e.execute_many, e, insert, { { 1 }, { 2 } }).sqlstate)
            assert.equal(0, e:value(("select count(*) from %s"):format(child)))
        end)
    end)
end)

describe("a shared connection whose backend is frozen", function()
    it("is given up without blocking the loop", function()
        local e <close> = shared { size = 1, command_timeout = 0.3, pre_ping = false }
        for _ = 1, 3 do assert.equal(7, e:value("select $1::int", 7)) end
        local pid = e:value "select pg_backend_pid()"
        process.kill(pid, "STOP")
        local thaw <close> = setmetatable({}, { __close = function() process.kill(pid, "CONT") end })
        local problems = {}
        local longest <const> = pace.ticking(function()
            local work = {}
            for i = 1, 5 do
                work[i] = function() problems[i] = raised(e.value, e, "select $1::int", i) end
            end
            task.all(work)
            pg.eventually(10, function() return e:stats().leased == 0 end, "the connection's end")
        end)
        for i = 1, 5 do
            assert.equal("timeout", problems[i].kind)
            assert.equal("unknown", problems[i].outcome)
        end
        assert(longest < 1, ("the loop stood still for %.2f s"):format(longest))
        assert.equal(1, e:value "select 1")
        pg.settled(e)
        assert(thaw)
    end)
end)

describe("COPY in a pipeline", function()
    pg.on_both(describe, function(_, open)
        it("is refused before anything is sent", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            for _, sql in ipairs { "copy %s from stdin", "/* a */ COPY %s TO STDOUT", "(copy %s to stdout",
                "; -- b\n copy %s from stdin" } do
                local problem = raised(e.pipeline, e, function(p)
                    p:query(("insert into %s values (1)"):format(t))
                    p:query(sql:format(t))
                end)
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
                assert.matches("copy_in", problem.message)
                assert.matches(raised(e.query, e, ("copy %s from stdin"):format(t)).message, problem.message, 1, true)
                assert.equal("not_sent", problem.outcome)
            end
            assert.is_true(errors.is(raised(e.execute_many, e, ("copy %s from stdin"):format(t), { {} }), "usage"))
            local cursor = raised(e.transaction, e, function(tx)
                for _ in tx:cursor((" /* a */ (copy %s to stdout)"):format(t)) do error "a row" end
            end)
            assert.matches("cannot be run as a statement of a cursor", cursor.message)
            assert.matches("cannot be run as a statement of copy_out",
                raised(e.copy_out, e, ("copy %s to stdout"):format(t)).message)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)
    end)
end)

describe("a server that breaks the protocol", function()
    local function message(kind, body) return kind .. string.pack(">I4", #body + 4) .. body end
    local ready = message("Z", "I")
    local hello = message("R", string.pack(">I4", 0)) .. message("K", string.pack(">I4I4", 1, 2)) .. ready
    local parsed, bound = message("1", ""), message("2", "")
    local row = message("T", string.pack(">I2zI4I2I4I2I4I2", 1, "n", 0, 0, 23, 4, -1 & 0xffffffff, 0))
        .. message("D", string.pack(">I2I4", 1, 1) .. "7")
    local result = row .. message("C", "SELECT 1\0")
    local copy_in = message("G", string.pack(">BI2I2", 0, 1, 0))
    local copy_out = message("H", string.pack(">BI2I2", 0, 1, 0))
    local copy_both = message("W", string.pack(">BI2I2", 0, 1, 0))

    -- The third statement of a text travels on the shared connection.
    local first = parsed .. bound .. result .. ready
    local second = parsed .. parsed .. bound .. result .. ready
    local odd = {
        ["a sync without a result"] = ready,
        ["a second result"] = bound .. result .. result .. ready,
        ["COPY IN"] = bound .. copy_in,
        ["COPY OUT"] = bound .. copy_out,
        ["COPY BOTH"] = bound .. copy_both,
        ["COPY IN behind a result"] = bound .. result .. copy_in .. ready,
    }
    for name, reply in pairs(odd) do
        it(("is disconnected when it answers a shared statement with %s"):format(name), function()
            local bad <close> = fake.say { hello, first, second, reply }
            local url = "postgresql://u@/d?sslmode=disable&gssencmode=disable&host=" .. bad.dir
            local e <close> = shared { url = url, size = 1, command_timeout = 2, connect_timeout = 5, pre_ping = false }
            for _ = 1, 2 do assert.equal(7, e:value "select 7 as n") end
            local problem = raised(e.value, e, "select 7 as n")
            assert.is_true(errors.is(problem), tostring(problem))
            assert.equal("unknown", problem.outcome)
            pg.settled(e, 5)
        end)
    end

    pg.on_both(describe, function(_, open)
        local function batch(...)
            local replies = { hello }
            for _, reply in ipairs { ... } do replies[#replies + 1] = reply end
            return fake.say(replies)
        end

        -- The text does not show it: the server's reply counts.
        for name, reply in pairs {
            ["COPY IN"] = parsed .. bound .. copy_in,
            ["COPY OUT"] = parsed .. bound .. copy_out,
        } do
            it(("reports that %s was not allowed in a pipeline"):format(name), function()
                local bad <close> = batch(reply)
                local url = "postgresql://u@/d?sslmode=disable&gssencmode=disable&host=" .. bad.dir
                local e <close> = open { url = url, size = 1, command_timeout = 2, connect_timeout = 5 }
                local problem = raised(e.pipeline, e, function(p)
                    p:query "select 7 as n"
                    p:query "select 8 as n"
                end)
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
                assert.matches("COPY", problem.message)
                assert.matches("copy_in", problem.hint)
                assert.equal("unknown", problem.outcome)
                pg.settled(e, 5)
            end)
        end

        for name, reply in pairs {
            ["COPY BOTH"] = parsed .. bound .. copy_both,
            ["one result for two statements"] = parsed .. bound .. result .. ready,
        } do
            it(("is disconnected when it answers a pipeline with %s"):format(name), function()
                local bad <close> = batch(reply)
                local url = "postgresql://u@/d?sslmode=disable&gssencmode=disable&host=" .. bad.dir
                local e <close> = open { url = url, size = 1, command_timeout = 2, connect_timeout = 5 }
                local ok, problem = pcall(e.pipeline, e, function(p)
                    p:query "select 7 as n"
                    p:query "select 8 as n"
                end)
                assert.is_false(ok)
                assert.is_true(errors.is(problem), tostring(problem))
                pg.settled(e, 5)
            end)
        end
    end)
end)

describe("a cancel request that overtakes its statement", function()
    for name, pipeline in pairs { ["of its own"] = 0, ["that tasks share"] = 8 } do
        it("is sent again, and the statement does not continue on its connection " .. name, function()
            local server <const>, url <const>, database <const> = servers.shared_postgres(), servers.database()
            local proxy <close> = fake.proxy { to = server }
            local control <close> = pg.engine { url = url }
            local e <close> = pg.engine { url = proxy:address_of(server, { database = database }), size = 1,
                pipeline = pipeline > 0 and pipeline or nil }
            local pid = e:value "select pg_backend_pid()"
            proxy:delay("up", 0.3)
            local sleeper = task.spawn(function() return pcall(e.query, e, "select pg_sleep(30)") end)
            task.sleep(0.05) -- it is sent, and waits in the proxy
            proxy:delay("up", 0)
            sleeper:cancel()
            pcall(sleeper.join, sleeper)
            assert.equal(pid, e:value "select pg_backend_pid()")
            assert.equal(0, control:value "select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
        end)
    end
end)

describe("a write that a demoted server refuses while others are in flight", function()
    it("takes all connections to that server out of the pool at once", function()
        local a <close> = servers.postgres()
        local b <close> = servers.postgres()
        for _, server in ipairs { a, b } do server:psql "create table ledger (n int)" end
        local e <close> = shared { size = 2, url = ("postgresql://dbrun@/postgres?host=%s,%s"):format(a.sockdir,
            b.sockdir) .. "&target_session_attrs=read-write" }
        local delete <const>, sleep <const> = "delete from ledger where n = $1", "select pg_sleep($1::float8)::text"
        local held = e:acquire() -- so that statements share the other one
        for _ = 1, 6 do
            e:query(delete, 1)
            e:query(sleep, 0)
            held:query(delete, 1) -- prepared there, it can be shared there
        end
        a:psql "alter system set default_transaction_read_only = on"
        a:psql "select pg_reload_conf()"
        pg.eventually(20, function() return a:psql "show default_transaction_read_only" == "on" end, "read-only")
        task.sleep(0.1) -- the backends get the signal
        local refused, second
        repeat
            task.all {
                function()
                    local ok <const>, problem <const> = pcall(e.query, e, delete, 1)
                    if ok then return end
                    refused = problem
                    held:release()
                    second = e:query(delete, 1) -- the statement below is still in flight
                end,
                function() e:query(sleep, 0.5) end,
            }
        until refused
        assert.equal("25006", refused.sqlstate)
        assert.equal(0, second.affected)
    end)
end)
