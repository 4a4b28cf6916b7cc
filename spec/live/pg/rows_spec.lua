--- Large results: rows one by one, and column by column.

local db = require "dbrun.db"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

pg.on_both(describe, function(mode, open)
    describe("rows", function()
        it("arrive one by one, in order, the same in text and in binary", function()
            local e <close> = open()
            local sql = "select i, i::text as t, null as nothing from generate_series(1, $1::int) i"
            for _ = 1, 4 do
                local n, sum = 0, 0
                for row in e:rows(sql, 20000) do
                    n, sum = n + 1, sum + row.i
                    assert(row.t == tostring(row.i) and row.nothing == nil)
                end
                assert.equal(20000, n)
                assert.equal(20000 * 20001 // 2, sum)
            end
        end)

        it("take parameters by name", function()
            local e <close> = open()
            local got = {}
            for row in e:rows("select :a::int + g as v from generate_series(1, :n) g", { a = 10, n = 3 }) do
                got[#got + 1] = row.v
            end
            assert.same({ 11, 12, 13 }, got)
        end)

        it("of an empty result end at once", function()
            local e <close> = open()
            for _ in e:rows "select 1 where false" do
                error "there is no row"
            end
            assert.equal(1, e:value "select 1")
        end)

        it("can be left early; the connection is used again", function()
            local e <close> = open { size = 1 }
            for round = 1, 5 do
                for row in e:rows "select generate_series(1, 1000000) as i" do
                    if row.i == round * 10 then
                        break
                    end
                end
                assert.equal(round, e:value("select $1::int", round))
            end
            pg.settled(e)
        end)

        it("end with the error of the row that fails", function()
            local e <close> = open()
            local seen = 0
            local err = raised(function()
                for _ in e:rows "select 1 / (100 - i) from generate_series(1, 200) i" do
                    seen = seen + 1
                end
            end)
            assert.equal("22012", err.sqlstate)
            assert.equal(99, seen)
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)

        it("whose loop raises leave a usable connection", function()
            local e <close> = open { size = 1 }
            assert.matches("enough", raised(function()
                for row in e:rows "select generate_series(1, 100000) as i" do
                    if row.i == 7 then
                        error "enough"
                    end
                end
            end))
            assert.equal(2, e:value "select 2")
            pg.settled(e)
        end)

        it("hold a leased connection until they end", function()
            local e <close> = open()
            local c <close> = e:acquire()
            for _ in c:rows "select generate_series(1, 3)" do
                assert.matches("busy", raised(c.query, c, "select 1").message)
            end
            assert.equal(1, c:value "select 1")
        end)

        it("whose lease is released end with an error, not with another statement's rows", function()
            local e <close> = open()
            local c = e:acquire()
            local next_row = c:rows "select generate_series(1, 1000)"
            assert.equal(1, next_row().generate_series)
            c:release()
            local err = raised(next_row)
            assert.equal("usage", err.kind)
            assert.matches("released", err.message)
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)

        it("that are forgotten release their connection when they are collected", function()
            local e <close> = open { size = 1 }
            do
                local next_row = e:rows "select generate_series(1, 100000)"
                next_row()
            end
            collectgarbage()
            collectgarbage()
            assert.equal(1, e:value "select 1")
            pg.settled(e, 4)
        end)

        it("that are forgotten, and leases too, are collected before the pool refuses", function()
            local e <close> = open { size = 2, overflow = 0 }
            collectgarbage "stop" -- as in a script with little garbage
            local _ <close> = setmetatable({}, { __close = function() collectgarbage "restart" end })
            for i = 1, 7 do
                assert.equal(1, e:rows "select generate_series(1, 100000) as i"().i, i)
                assert.is_number(e:acquire():backend_pid(), i)
            end
            assert.equal(1, e:value "select 1")
            local held <const>, too <const> = e:acquire(), e:acquire() -- these are not garbage
            assert.equal("pool", raised(e.acquire, e).kind)
            held:release()
            too:release()
        end)

        it("need memory for a few rows only", function()
            local e <close> = open()
            collectgarbage()
            local before, most = collectgarbage "count", 0
            local n = 0
            for _ in e:rows "select i, repeat('x', 100) as t from generate_series(1, 100000) i" do
                n = n + 1
                if n % 5000 == 0 then
                    collectgarbage()
                    most = math.max(most, collectgarbage "count")
                end
            end
            assert.equal(100000, n)
            assert.is_true(most - before < 1024, ("%.0f KiB"):format(most - before))
        end)
    end)

    describe("columns", function()
        it("give a list for each column and the number of rows", function()
            local e <close> = open()
            for _ = 1, 4 do
                local c, n = e:columns [[select i, case when i % 2 = 0 then i::text end as t
                    from generate_series(1, 4) i]]
                assert.equal(4, n)
                assert.same({ 1, 2, 3, 4 }, c.i)
                assert.same({ db.null, "2", db.null, "4" }, c.t)
            end
        end)

        it("of an empty result are empty lists", function()
            local e <close> = open()
            local c, n = e:columns "select 1 as a where false"
            assert.equal(0, n)
            assert.same({ a = {} }, c)
        end)
    end)

    if mode == "async" then
        describe("rows of several tasks", function()
            it("arrive concurrently, each task getting its own", function()
                local e <close> = open { size = 3 }
                local sums = task.map({ 1, 2, 3, 4, 5, 6 }, 6, function(k)
                    local sum = 0
                    for row in e:rows("select $1::int as k, i from generate_series(1, 3000) i", k) do
                        assert(row.k == k)
                        sum = sum + row.i
                    end
                    return sum
                end)
                for i = 1, 6 do
                    assert.equal(3000 * 3001 // 2, sums[i])
                end
                pg.settled(e)
            end)

            -- A task that gets the error tries again until the iteration is over.
            local function shared_by_tasks(next_item, take)
                local done
                task.map({ 1, 2, 3, 4, 5, 6 }, 6, function(k)
                    while not done do
                        local ok <const>, item <const> = pcall(next_item)
                        if ok and item == nil then done = true
                        elseif ok then take(item)
                        else
                            assert.matches("another task", item.message)
                            local busy_until <const> = os.clock() + 0.003
                            task.sleep(k % 3 * 0.001)
                            while os.clock() < busy_until do end
                        end
                    end
                end)
            end

            it("are never repeated or lost when several tasks use one iterator", function()
                local e <close> = open { size = 2 }
                local query <const> = "select i, repeat('x', 4200) as x, pg_sleep(0.003) from generate_series(1, 60) i"
                local it <const> = e:rows(query)
                local copied <const> = e:copy_out(query)
                for _, next_item in ipairs { function() return it() end, function() return copied() end } do
                    local seen, count = {}, 0
                    task.timeout(30, shared_by_tasks, next_item, function(row)
                        count = count + 1
                        seen[row.i or row[1]] = true
                    end)
                    assert.equal(60, count)
                    assert.equal(60, #seen)
                end
                pg.settled(e)
            end)

            it("whose decoding fails leave no values in the next task's row", function()
                local e <close> = open { size = 2 }
                local calls = 0
                e:set_codec("date", { decode = function(text)
                    calls = calls + 1
                    return calls % 2 == 0 and error "no date" or text
                end })
                local query <const> = "select i, current_date as d from generate_series(1, 20) i"
                local it <const> = e:rows(query)
                for _, next_item in ipairs { function() return it() end, e:copy_out(query) } do
                    local good, bad = 0, 0
                    repeat
                        local ok <const>, row <const> = pcall(next_item)
                        if ok and row then good = good + 1 elseif not ok then bad = bad + 1 end
                    until ok and not row
                    assert.same({ 10, 10 }, { good, bad })
                end
                pg.settled(e)
            end)

            it("have db.null in a list where a codec returns nil", function()
                local e <close> = open { size = 2 }
                e:set_codec("date", { decode = function(text) return text ~= "2000-01-01" and text or nil end })
                local query <const> = "select date '2000-01-01' as d, 5 as n"
                assert.same({ db.null, 5 }, e:one({ positional = true }, query))
                assert.same({ db.null, 5 }, e:query({ positional = true }, query)[1])
                assert.same({ d = { db.null }, n = { 5 } }, (e:columns(query)))
                assert.same({ db.null, "2000-01-02" }, e:value "select '{2000-01-01,2000-01-02}'::date[]")
                for row in e:copy_out(query, { positional = true }) do assert.same({ db.null, 5 }, row) end
                assert.same({ n = 5 }, e:one(query))
            end)

            it("whose task is cancelled cost the pool no connection", function()
                local e <close> = open { size = 2 }
                for _ = 1, 20 do
                    local err = raised(task.timeout, 0.01, function()
                        for _ in e:rows "select i, pg_sleep(0.001) from generate_series(1, 100000) i" do
                            task.sleep(0)
                        end
                    end)
                    assert.equal("timeout", err.kind)
                end
                assert.equal(1, e:value "select 1")
                pg.settled(e, 5)
            end)
        end)
    end
end)
