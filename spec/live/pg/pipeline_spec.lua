--- Many statements in few round trips: pipelines, execute_many, and engines with pipeline=.

local db = require "dbrun.db"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

pg.on_both(describe, function(_, open)
    describe("a pipeline", function()
        it("gives the results in the order of its statements", function()
            local e <close> = open()
            local r = e:pipeline(function(p)
                p:query "select 1 as a"
                p:query("select $1::text as b", "x")
                p:query("select :c::int as c", { c = 5 })
            end)
            assert.equal(3, #r)
            assert.same({ a = 1 }, r[1][1])
            assert.same({ b = "x" }, r[2][1])
            assert.same({ c = 5 }, r[3][1])
        end)

        it("is one transaction: the first error undoes all and names its place", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local err = raised(e.pipeline, e, function(p)
                p:query(("insert into %s values (1)"):format(t))
                p:query "select 1 / 0"
                p:query(("insert into %s values (2)"):format(t))
            end)
            assert.equal("22012", err.sqlstate)
            assert.equal("select 1 / 0", err.statement)
            assert.matches("statement 2", err.context)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            pg.settled(e)
        end)

        it("that was kept after its end refuses statements, and says so", function()
            local e <close> = open()
            local kept
            assert.equal(1, #e:pipeline(function(p) kept = p p:query "select 1" end))
            local problem = raised(function() kept:query "select 2" end)
            assert.equal("usage", problem.kind)
            assert.matches("has been sent", problem.message)
        end)

        it("without statements sends nothing", function()
            local e <close> = open()
            assert.same({}, e:pipeline(function() end))
        end)

        it("refuses a parameter before anything is sent", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            local err = raised(e.pipeline, e, function(p)
                p:query(("insert into %s values (1)"):format(t))
                p:query("select $1", print)
            end)
            assert.equal("usage", err.kind)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)

        it("can be part of a transaction", function()
            local e <close> = open()
            local t = pg.table(e, "i int")
            raised(e.transaction, e, function(tx)
                tx:pipeline(function(p)
                    p:query(("insert into %s values (1)"):format(t))
                    p:query(("insert into %s values (2)"):format(t))
                end)
                assert.equal(2, tx:value(("select count(*) from %s"):format(t)))
                error "no"
            end)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)
    end)

    describe("execute_many", function()
        it("runs a statement for each list, from a list or an iterator", function()
            local e <close> = open()
            local t = pg.table(e, "a int, b text")
            local i = 0
            local n = e:execute_many(("insert into %s values ($1, $2)"):format(t), function()
                i = i + 1
                return i <= 2500 and { i, "t" .. i } or nil
            end)
            assert.equal(2500, n)
            assert.equal(2, e:execute_many(("insert into %s values (:a, :b)"):format(t),
                { { a = 1, b = "x" }, { a = 2, b = db.null } }))
            assert.equal(2502, e:value(("select count(*) from %s"):format(t)))
            assert.equal(1, e:value(("select count(*) from %s where b is null"):format(t)))
        end)

        it("is all or nothing", function()
            local e <close> = open()
            local t = pg.table(e, "a int primary key")
            local rows = {}
            for k = 1, 1500 do
                rows[k] = { k }
            end
            rows[1400] = { 7 }
            local err = raised(e.execute_many, e, ("insert into %s values ($1)"):format(t), rows)
            assert.equal("23505", err.sqlstate)
            assert.equal("constraint", err.kind)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            pg.settled(e)
        end)

        it("takes the types of each list, not those of the first", function()
            local e <close> = open()
            local t = pg.table(e, "n int, v text")
            local values = { db.typed("1", "numeric"), "two", db.bytea "\0", 4, db.null, db.typed("1-1-1", "date"),
                "seven", true, db.array({ 9 }, "int4"), "ten" }
            for _, value in ipairs(values) do e:query(("insert into %s values (0, $1)"):format(t), value) end
            local rows = {}
            for i, value in ipairs(values) do rows[i] = { value } end
            assert.equal(#values, e:execute_many(("insert into %s values (0, $1)"):format(t), rows))
            local named = {}
            for i, value in ipairs(values) do named[i] = { v = value } end
            assert.equal(#values, e:execute_many(("insert into %s values (0, :v)"):format(t), named))
            assert.same({ { n = 3 * 9 } }, { e:one(("select count(v)::int as n from %s"):format(t)) })
            assert.equal(9, e:value(("select count(distinct v) from %s"):format(t)))
            assert.equal(3, e:value(("select count(*) from %s where v = 'two'"):format(t)))
            -- Each list runs the same statement as query.
            local kinds = pg.table(e, "kind text")
            e:execute_many(("insert into %s select pg_typeof($1)"):format(kinds),
                { { db.typed("1", "int8") }, { db.typed("1", "numeric") }, { db.bytea "x" },
                    { db.typed("1", "int8") } })
            assert.equal("bigint numeric bytea bigint",
                e:value(("select string_agg(kind, ' ' order by ctid) from %s"):format(kinds)))
        end)

        it("of no lists does nothing", function()
            local e <close> = open()
            assert.equal(0, e:execute_many("select $1::int", {}))
            local proxy <const> = setmetatable({}, { __index = { 1, a = 2 } })
            assert.equal(1, e:execute_many("select :a::int", { proxy }))
            assert.matches("a row is an empty table whose content is in its metatable",
                raised(e.execute_many, e, "select $1::int", { proxy }).message)
        end)

        it("whose rows together are larger than any buffer does not stall", function()
            local e <close> = open()
            local t = pg.table(e, "a text")
            local rows = {}
            for k = 1, 900 do
                rows[k] = { ("x"):rep(20000) .. k }
            end
            assert.equal(900, e:execute_many(("insert into %s values ($1) returning repeat(a, 2)"):format(t), rows))
        end)
    end)
end)

describe("an engine with pipeline=", function()
    local function open(opts)
        opts = opts or {}
        opts.pipeline = opts.pipeline or 16
        opts.size = opts.size or 2
        return pg.engine(opts)
    end

    it("answers each task with its own reply", function()
        local e <close> = open()
        local g <close> = task.group()
        for k = 1, 100 do
            g:spawn(function()
                for i = 1, 30 do
                    local nonce = k * 1000 + i
                    assert(e:value("select $1::int8", nonce) == nonce)
                end
            end)
        end
        g:wait()
        assert.is_true(e:stats().open <= 2)
        pg.settled(e)
    end)

    it("raises an error only for the statement that caused it", function()
        local e <close> = open()
        local errors_seen, right = 0, 0
        local g <close> = task.group()
        for k = 1, 200 do
            g:spawn(function()
                for _ = 1, 10 do
                    local ok, v = pcall(e.value, e, "select 100 / $1::int", k % 5)
                    if ok then
                        assert(v == 100 // (k % 5))
                        right = right + 1
                    else
                        assert(v.sqlstate == "22012" and k % 5 == 0)
                        errors_seen = errors_seen + 1
                    end
                end
            end)
        end
        g:wait()
        assert.equal(400, errors_seen)
        assert.equal(1600, right)
        pg.settled(e)
    end)

    it("gives transactions and leases a dedicated connection", function()
        local e <close> = open()
        local t = pg.table(e, "i int")
        e:transaction(function(tx)
            tx:query(("insert into %s values (1)"):format(t))
            assert.equal(1, tx:value(("select count(*) from %s"):format(t)))
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
        end)
        assert.equal(1, e:value(("select count(*) from %s"):format(t)))
    end)

    it("goes on when the columns of a prepared statement change", function()
        local e <close> = open { size = 1 }
        local t = pg.table(e, "a int")
        e:query(("insert into %s values (1)"):format(t))
        for _ = 1, 6 do
            assert.same({ a = 1 }, e:query(("select * from %s"):format(t))[1])
        end
        e:exec(("alter table %s add column b int default 2"):format(t))
        for _ = 1, 6 do
            assert.same({ a = 1, b = 2 }, e:query(("select * from %s"):format(t))[1])
        end
    end)

    it("loses no connection and mixes up no reply while backends are killed and tasks cancelled", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        print(("# DBRUN_TEST_SEED=%d"):format(seed))
        math.randomseed(seed)
        local e <close> = open { size = 3, application_name = "spec_pipeline" }
        local killer <close> = pg.engine { size = 1 }
        local answers, lost, cancelled = 0, 0, 0
        local ends = task.now() + 3
        local function work(k)
            local i = 0
            while task.now() < ends do
                i = i + 1
                local nonce = k * 1000000 + i
                local ok, v
                if math.random() < 0.02 then
                    ok, v = pcall(task.timeout, math.random() * 0.003, e.value, e, "select $1::int8", nonce)
                else
                    ok, v = pcall(e.value, e, "select $1::int8", nonce)
                end
                if ok then
                    assert(v == nonce, ("a crossed reply: %s instead of %d"):format(v, nonce))
                    answers = answers + 1
                elseif v.kind == "timeout" then
                    cancelled = cancelled + 1
                else
                    assert(v.kind == "connect", tostring(v))
                    lost = lost + 1
                end
            end
        end
        local g <close> = task.group()
        for k = 1, 60 do
            g:spawn(work, k)
        end
        g:spawn(function()
            while task.now() < ends do
                task.sleep(0.1 + math.random() * 0.2)
                killer:query [[select pg_terminate_backend(pid) from pg_stat_activity
                    where application_name = 'spec_pipeline' order by random() limit 1]]
            end
        end)
        g:wait()
        assert.is_true(answers > 1000)
        pg.settled(e, 5)
        -- The last terminated backend can still be running.
        pg.eventually(10, function()
            return pcall(e.value, e, "select 1")
        end, "a statement after the storm")
    end)
end)
