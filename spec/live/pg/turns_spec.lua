--- Several tasks, or the script's code in the middle of a statement (a handler, a codec, a metamethod), on one
--- connection or engine: each gets its own reply or an error, and nothing is used after its end.

local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

--- Keeps the processor busy, so that the loop then sees all events at once.
local function busy(seconds)
    local stop = os.clock() + seconds
    while os.clock() < stop do end
end

describe("[async] two tasks on one connection", function()
    local e, c

    before_each(function()
        e = pg.engine { size = 2 }
        c = e:acquire()
    end)
    after_each(function()
        c:release()
        pg.settled(e)
        e:close()
    end)

    --- The second task runs when the reply has arrived, and before the first task resumes.
    local function in_between(sql)
        local answer, problem
        task.all {
            function() answer = table.pack(pcall(c.query, c, sql)) end,
            function()
                task.sleep(0.15)
                problem = raised(c.value, c, "select 'of the second task'")
            end,
            function()
                task.sleep(0.02)
                busy(0.4)
            end,
        }
        assert.is_true(errors.is(problem, "usage"), tostring(problem))
        return table.unpack(answer, 1, answer.n)
    end

    it("the first keeps its result", function()
        local ok, result = in_between "select 42 as x from pg_sleep(0.1)"
        assert.is_true(ok, tostring(result))
        assert.equal(42, result[1].x)
    end)

    it("the first keeps its error", function()
        c:exec "create temporary table only_one (i int primary key); insert into only_one values (1)"
        local ok, problem = in_between "insert into only_one select 1 from pg_sleep(0.1)"
        assert.is_false(ok)
        assert.equal("23505", problem.sqlstate)
    end)

    it("a cancel between two blocks of a COPY does not end it unnoticed", function()
        c:exec "create temporary table copied (i int)"
        local gate = task.queue()
        local ok, n
        task.all {
            function()
                local i = 0
                ok, n = pcall(c.copy_in, c, "copied", { "i" }, function()
                    i = i + 1
                    if i <= 10 then return { i } end
                    gate:pop()
                end)
            end,
            function()
                task.sleep(0.1)
                c:cancel()
                gate:push(1)
            end,
        }
        assert.equal(ok and 10 or 0, c:value "select count(*) from copied")
        if ok then assert.equal(10, n) else assert.equal("57014", n.sqlstate) end
    end)
end)

describe("[async] rows that another task ends", function()
    it("are an error for the task that waits for the next row", function()
        local e <close> = pg.engine { size = 1 }
        local rows = e:rows [[select i, repeat('x', 20000) as p, pg_sleep(case when i > 3 then 5 else 0 end)
            from generate_series(1, 20) i]]
        local problem
        task.all {
            function()
                problem = raised(function()
                    for _ in rows do end -- luacheck: ignore
                end)
            end,
            function()
                task.sleep(0.2)
                local _ <close> = rows
            end,
        }
        assert.is_true(errors.is(problem, "usage"), tostring(problem))
        assert.equal(1, e:value "select 1")
        pg.settled(e)
    end)
end)

describe("shared connections (pipeline=)", function()
    local function shared(opts)
        opts.pipeline = 16
        return pg.engine(opts)
    end

    it("serve any first statement on a new engine", function()
        for _, n in ipairs { 3, 17, 50 } do
            local e <close> = shared { size = 4, timeout = 5 }
            local work = {}
            for i = 1, n do work[i] = function() return e:value("select " .. i) end end
            local answers = task.all(work)
            for i = 1, n do assert.equal(i, answers[i]) end
        end
    end)

    it("give a statement the engine's time limit, not the pool's", function()
        local e <close> = shared { size = 1, timeout = 0.3, command_timeout = 0 }
        pg.eventually(10, function() return pcall(e.value, e, "select 1") end) -- connecting can take longer than that
        for i = 1, 4 do
            assert.equal(i, e:value("select $1::int from pg_sleep(0.5)", i))
        end
    end)

    it("say that a statement was not sent, and name the holders of the connections", function()
        local e <close> = shared { size = 1, timeout = 0.2 }
        pg.eventually(10, function() return pcall(e.value, e, "select 1") end)
        local c <close> = e:acquire()
        local problem = raised(function() task.spawn(e.value, e, "select 1"):join() end)
        assert.is_true(errors.is(problem, "pool"), tostring(problem))
        assert.equal("not_sent", problem.outcome)
        assert.matches("pg/turns_spec.lua:%d+ for", problem.detail)
        assert.equal(1, c:value "select 1")
    end)

    it("refuse at once a task that would wait for itself", function()
        local e <close> = shared { size = 1, timeout = 10 }
        local c <close> = e:acquire()
        local problem = raised(e.value, e, "select 1")
        assert.is_true(errors.is(problem, "pool"), tostring(problem))
        assert.matches("deadlock", problem.message)
        assert.equal(1, c:value "select 1")
    end)

    it("cancel abandoned statements on the server", function()
        local e <close> = shared { size = 1, timeout = 10 }
        local watcher <close> = pg.engine { mode = "sync", size = 1 }
        local sql = "select 'nobody waits' from pg_sleep($1)"
        for _ = 1, 2 do e:value(sql, 0) end -- prepared, from now on it shares a connection
        local function running()
            return watcher:value [[select count(*) from pg_stat_activity where query like '%nobody waits%'
                and state = 'active' and pid <> pg_backend_pid()]]
        end
        for _, n in ipairs { 1, 3 } do
            local work = {}
            for i = 1, n do work[i] = function() e:value(sql, 20) end end
            assert.equal("timeout", raised(task.timeout, 0.3, task.all, work).kind)
            pg.eventually(10, function() return running() == 0 end, "the end of the running statements")
            assert.equal(7, e:value("select $1::int", 7))
        end
        pg.settled(e)
    end)
end)

pg.on_both(describe, function(mode, open)
    it("a parameter that closes its engine while it is read is an error", function()
        local e = open { size = 1 }
        local parameters = setmetatable({}, { __index = function()
            e:close()
            return 1
        end })
        assert.equal("usage", raised(e.value, e, "select :a::int", parameters).kind)
        assert.equal("usage", raised(e.value, e, "select 1").kind)
    end)

    it("a codec can run statements on the connection whose pipeline it reads", function()
        local e <close> = open { size = 1, overflow = mode == "async" and 0 or nil }
        local c <close> = e:acquire()
        if mode == "async" then return end -- there it cannot wait
        e:set_codec("int4", { decode = function(text)
            c:value "select 'another'::text"
            return tonumber(text)
        end })
        local results = c:pipeline(function(p)
            p:query "select 1::int4 as a, 'b'::text as t"
            p:query "select generate_series(1, 5)::int4 as a"
        end)
        assert.equal(1, results[1][1].a)
        assert.equal("b", results[1][1].t)
        assert.equal(5, #results[2])
    end)

    it("a codec cannot release the connection whose rows it reads", function()
        local e <close> = open { size = 1 }
        local c <close> = e:acquire()
        e:set_codec("int4", { decode = function(text)
            c:release()
            return tonumber(text)
        end })
        local problem = raised(function()
            for _ in c:rows "select 1::int4 as a" do end -- luacheck: ignore
        end)
        assert.is_true(errors.is(problem, "usage"), tostring(problem))
    end)

    it("on_notice can close its engine, and remove itself", function()
        local heard = 0
        local e
        e = db.engine { url = pg.url(), mode = mode, pipeline = mode == "async" and 16 or nil, on_notice = function()
            heard = heard + 1
            if heard == 5 then e:close() end
        end }
        local sql = "do $$ begin raise notice 'a'; raise notice 'b'; end $$"
        for _ = 1, 2 do e:exec(sql) end
        pcall(e.exec, e, sql)
        assert.equal(5, heard)

        local other <close> = open { size = 1 }
        local c <close> = other:acquire()
        local told = 0
        c:on_notice(function()
            told = told + 1
            c:on_notice(nil)
        end)
        c:exec(sql)
        c:exec(sql)
        assert.equal(1, told)
    end)

    it("user-defined types are known at the first row, and in a pipeline", function()
        local setup <close> = open { size = 1 }
        setup:exec "drop type if exists mood cascade; create type mood as enum ('low', 'high')"
        local sql = "select array['low', 'high']::mood[] as m"
        local e <close> = open { size = 1 }
        for _ = 1, 3 do
            for row in e:rows(sql) do assert.same({ "low", "high" }, row.m) end
        end
        local other <close> = open { size = 1 }
        local results = other:pipeline(function(p)
            p:query "select 1 as one"
            p:query(sql)
        end)
        assert.equal(1, results[1][1].one)
        assert.same({ "low", "high" }, results[2][1].m)
        local typed <close> = open { size = 1 }
        for row in typed:rows("select $1 as n", db.typed("7", "int4")) do assert.equal(7, row.n) end
    end)

    it("composites have their current fields", function()
        local e <close> = open { size = 1 }
        local other <close> = open { size = 1 } -- another program
        local t = pg.table(e, "a int, b text")
        e:exec(("insert into %s values (1, 'x')"):format(t))
        local sql = ("select x from %s x"):format(t)
        assert.same({ a = 1, b = "x" }, e:value(sql))
        e:exec(("alter table %s add column c int default 7"):format(t))
        assert.same({ a = 1, b = "x", c = 7 }, e:value(sql))
        e:exec(("alter table %s drop column a"):format(t))
        assert.same({ b = "x", c = 7 }, e:value(sql))
        e:exec(("alter table %s rename column b to d"):format(t))
        assert.same({ d = "x", c = 7 }, e:value(sql))
        other:exec(("alter table %s rename column d to e"):format(t))
        task.sleep(1.1) -- changes by another program are noticed a moment later
        assert.same({ e = "x", c = 7 }, e:value(sql))
    end)

    it("a statement that may have committed has the outcome unknown", function()
        local e <close> = open { size = 2, command_timeout = 0.3 }
        local t = pg.table(e, "i int")
        e:exec(([[create or replace function %s_slow() returns trigger language plpgsql as
            $$ begin perform pg_sleep(1); return null; end $$;
            create constraint trigger slow after insert on %s deferrable initially deferred
            for each row execute function %s_slow()]]):format(t, t, t))
        local function outcome(sql)
            local c <close> = e:acquire()
            c:exec(("begin; insert into %s values (1)"):format(t))
            return raised(c.exec, c, sql).outcome
        end
        assert.equal("unknown", outcome "commit")
        assert.equal("unknown", outcome "/* done */ commit")
        assert.equal("unknown", outcome "-- done\nend")
        assert.equal("unknown", outcome(("insert into %s values (2); commit"):format(t)))
        assert.equal("failed", outcome "select pg_sleep(1)")
    end)

    it("a batch accepts the largest number of parameters, and no more", function()
        local e <close> = open { size = 1 }
        local c <close> = e:acquire()
        local row = {}
        for i = 1, 65536 do row[i] = i end
        local problem = raised(c.execute_many, c, "select 1", { row })
        assert.is_true(errors.is(problem, "usage"), tostring(problem))
        assert.equal(1, c:value "select 1")
    end)
end)
