--- Results of query and columns that are so large that their values are made while they arrive: the script sees no
--- difference.

local db = require "dbrun.db"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

--- More than a MiB with the texts below: after a smaller result the next one is received as a whole.
local N <const> = 2000

local MANY <const> = "select i, repeat('x', 600) || i as t, nullif(i % 3, 0) as n, i::float8 / 4 as f "
    .. "from generate_series(1, $1::int) i"

pg.on_both(describe, function(_, open)
    describe("a large result", function()
        it("is right when its statement is new, when it is prepared, and later", function()
            local e <close> = open()
            for round = 1, 4 do
                local n = N + round
                local r = e:query(MANY, n)
                assert.equal(n, #r)
                assert.same({ "SELECT", n, 4 }, { r.command, r.affected, #r.columns })
                assert.equal(getmetatable(r), getmetatable(r[n]))
                local t, count = e:columns(MANY, n)
                assert.equal(n, count)
                local at = 0
                for row in e:rows(MANY, n) do
                    at = at + 1
                    local one = r[at]
                    assert(one.i == row.i and one.t == row.t and one.n == row.n and one.f == row.f)
                    assert(t.i[at] == row.i and t.t[at] == row.t and t.f[at] == row.f)
                    assert(t.n[at] == (row.n or db.null))
                end
                assert.equal(n, at)
            end
        end)

        it("can follow a smaller one of its statement, and be followed by one", function()
            local e <close> = open { size = 1 }
            for _, n in ipairs { 1, 0, 30, N, 300, 300, N, N, 300, N, 1, N } do
                local r = e:query(MANY, n)
                assert.same({ n, n }, { #r, n > 0 and r[n].i or 0 })
            end
        end)

        it("has its rows by position and as text", function()
            local e <close> = open()
            for _ = 1, 3 do
                local r = e:query({ positional = true, text = true }, MANY, N)
                assert.same({ "1998", ("x"):rep(600) .. "1998", db.null, "499.5" }, { table.unpack(r[1998], 1, 4) })
            end
        end)

        it("can have equal names, no columns, and rows of a command that writes", function()
            local e <close> = open { size = 1 }
            local r = e:query("select repeat('x', 20) as a, i as a from generate_series(1, $1::int) i", N)
            assert.same({ a = N }, { a = r[N].a })
            r = e:query("select from generate_series(1, $1::int)", N * 4)
            assert.same({ N * 4, nil }, { #r, next(r[N * 4]) })
            e:exec "drop table if exists grown; create table grown (i int, t text)"
            r = e:query(
                "insert into grown select i, repeat('x', 600) from generate_series(1, $1::int) i returning *", N)
            assert.same({ "INSERT", N, N }, { r.command, r.affected, r[N].i })
        end)

        it("is not returned when an error follows its rows", function()
            local e <close> = open { size = 1 }
            local sql = "select i, 1 / ($1::int - i), repeat('x', 600) from generate_series(1, 3000) i"
            for _ = 1, 3 do
                assert.equal("22012", raised(e.query, e, sql, 2500).sqlstate)
                assert.equal("22012", raised(e.columns, e, sql, 2500).sqlstate)
                assert.equal(3000, #e:query(sql, 5000))
            end
            pg.settled(e)
        end)

        it("is not returned when a value cannot be read; the transaction stays usable", function()
            local e <close> = open { size = 1 }
            local sql = "select i, case i when 1500 then '1e999' else '1' end::json as v, repeat('x', 600), "
                .. "1 / ($1::int - i) from generate_series(1, 3000) i"
            e:transaction(function(tx)
                local err = raised(tx.query, tx, sql, 5000)
                assert.equal("v", err.column_name or err.column)
                assert.matches("the statement has run", tostring(err))
                assert.equal(7, tx:value "select 7")
            end)
            assert.equal("22012", raised(e.query, e, sql, 2500).sqlstate)
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)

        it("can have types that are looked up", function()
            local e <close> = open { size = 1 }
            e:exec "drop type if exists grown_pair; create type grown_pair as (a int, b text)"
            for _ = 1, 3 do
                local r = e:query("select i, row(i, repeat('y', 30))::grown_pair as p, null as n, '' as t "
                    .. "from generate_series(1, $1::int) i", N)
                assert.same({ N, N, { a = N, b = ("y"):rep(30) }, "" }, { #r, r[N].i, r[N].p, r[N].t })
                assert.is_nil(r[N].n)
                assert.same({ "SELECT", N }, { r.command, r.affected })
            end
        end)

        it("can have columns whose types have changed", function()
            local e <close> = open { size = 1, statement_cache_age = 0.05 }
            local other <close> = pg.engine { size = 1 }
            e:exec "drop table if exists changed"
            e:exec "create table changed as select i::int8 as v, repeat('x', 600) as t from generate_series(1, 2000) i"
            for _ = 1, 4 do
                assert.equal("integer", math.type(e:query("select * from changed order by v")[N].v))
            end
            other:exec "alter table changed alter v type numeric"
            task.sleep(0.06)
            for _ = 1, 3 do
                assert.equal("2000", e:query("select * from changed order by v")[N].v)
            end
        end)

        it("ends with its time limit, while it arrives", function()
            local e <close> = open { size = 1, command_timeout = 0.4 }
            local err = raised(e.query, e, "select i, repeat('x', 600), pg_sleep(case i when 1500 then 30 else 0 end) "
                .. "from generate_series(1, 3000) i")
            assert.equal("timeout", err.kind)
            assert.equal(1, e:value "select 1")
        end)

        it("leaves the collector's settings unchanged, and its garbage collectable", function()
            local e <close> = open { size = 1 }
            local most = 0
            for _ = 1, 30 do
                e:query(MANY, N)
                most = math.max(most, collectgarbage "count")
            end
            assert.is_true(most < 16 * 1024, most .. " KiB")
            assert.is_true(collectgarbage "isrunning")
            collectgarbage "stop"
            e:query(MANY, N)
            assert.is_false(collectgarbage "isrunning")
            collectgarbage "restart"
            local gone = false
            local function leave_garbage() setmetatable({}, { __gc = function() gone = true end }) end
            leave_garbage()
            raised(e.query, e, "select '1e999'::json, repeat('x', 600) from generate_series(1, 2000)")
            for i = 1, 1000000 do
                if gone then break end
                select("#", { i }) -- the collector runs only when memory is allocated
            end
            assert.is_true(gone)
        end)
    end)
end)

describe("a large result", function()
    it("can be cancelled while it arrives, and other tasks run meanwhile", function()
        local e <close> = pg.engine { size = 1 }
        local turns, err = 0, nil
        do
            local g <close> = task.group()
            local t = g:spawn(function()
                err = raised(e.query, e, "select i, repeat('x', 600), pg_sleep(case i when 1500 then 30 else 0 end) "
                    .. "from generate_series(1, 3000) i")
                error(err, 0)
            end)
            for _ = 1, 20 do
                task.sleep(0.005)
                turns = turns + 1
            end
            t:cancel()
            pcall(g.wait, g)
        end
        assert.equal(20, turns)
        assert.equal("cancelled", err.kind)
        assert.equal(1, e:value "select 1")
        pg.settled(e)
    end)
end)
