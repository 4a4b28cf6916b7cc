--- tx:cursor and rows inside a transaction: large results that can be left at any time.

local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local raised = pg.raised

--- Rows that arrive one by one: each fills the server's output buffer.
local slow <const> = "select i, repeat('x', 10000), pg_sleep(0.2) from generate_series(1, 100) i"

local numbers <const> = "select i, 'n' || i as s from generate_series(1, $1::int) i"

pg.on_both(describe, function(mode, open)
    describe("a cursor", function()
        it("gives every row in order, for any fetch size", function()
            local e <close> = open()
            for _, fetch in ipairs { 1, 7, 10, 25, 26, 1000 } do
                e:transaction(function(tx)
                    local n, sum = 0, 0
                    for row in tx:cursor(numbers, 25, { fetch = fetch }) do
                        n, sum = n + 1, sum + row.i
                        assert.equal("n" .. n, row.s)
                    end
                    assert.same({ 25, 325 }, { n, sum })
                end)
            end
        end)

        it("takes parameters by name together with an option", function()
            local e <close> = open()
            e:transaction(function(tx)
                local got = {}
                for row in tx:cursor("select i + :add as v from generate_series(1, :n) i", { n = 3, add = 10 },
                    { fetch = 2 }) do
                    got[#got + 1] = row.v
                end
                for row in tx:cursor("select :fetch::int as v", { fetch = 5 }, { fetch = 2 }) do
                    got[#got + 1] = row.v
                end
                assert.same({ 11, 12, 13, 5 }, got)
            end)
        end)

        it("takes the only table after an SQL with parameters for their values, and tells the other reading", function()
            local e <close> = open()
            e:transaction(function(tx)
                assert.equal(5, tx:cursor("select :fetch::int as v", { fetch = 5 })().v)
                assert.same({ fetch = 5 }, tx:cursor("select $1::jsonb as v", { fetch = 5 })().v)
                assert.equal("$1", tx:cursor("select '$1' as v", { fetch = 5 })().v)
            end)
            for sql, message in pairs {
                ["select :id::int as v"] = "the parameter :id has no value",
                ["select $1::int as v"] = "parameter $1 is a table",
                ["select $1::jsonb, $2::int"] = "bind message",
            } do
                local err = raised(e.transaction, e, function(tx) tx:cursor(sql, { fetch = 5 }) end)
                assert.matches(message, err.message, 1, true)
                assert.matches("tx:cursor(sql, values, { fetch = n })", err.hint, 1, true)
            end
            local err = raised(e.transaction, e, function(tx) tx:cursor("selec $1", 1) end)
            assert.not_matches("fetch", err.hint or "", 1, true)
        end)

        it("lets other statements and other cursors run on its connection in between", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            e:transaction(function(tx)
                for a in tx:cursor(numbers, 4, { fetch = 2 }) do
                    for b in tx:cursor(numbers, 3, { fetch = 1 }) do
                        tx:query(("insert into %s values ($1)"):format(t), a.i * 10 + b.i)
                    end
                end
            end)
            assert.equal("11 12 13 21 22 23 31 32 33 41 42 43",
                e:value(("select string_agg(i::text, ' ' order by i) from %s"):format(t)))
        end)

        it("that is left early is closed on the server, and the transaction stays usable", function()
            local e <close> = open { size = 1 }
            e:transaction(function(tx)
                for row in tx:cursor("select generate_series(1, 100000000) as i", { fetch = 10 }) do
                    if row.i == 25 then break end
                end
                assert.equal(0, tx:value "select count(*) from pg_cursors where name like 'dbrun%'")
                local kept <close> = tx:cursor(numbers, 5)
                assert.equal(1, kept().i)
                assert.equal(1, tx:value "select count(*) from pg_cursors where name like 'dbrun%'")
                kept:close()
                kept:close()
                assert.is_nil(kept())
                assert.equal(0, tx:value "select count(*) from pg_cursors where name like 'dbrun%'")
            end)
        end)

        it("that is left by an error does not hide that error", function()
            local e <close> = open { size = 1 }
            local err = raised(e.transaction, e, function(tx)
                for _ in tx:cursor(numbers, 100, { fetch = 10 }) do error("left", 0) end
            end)
            assert.equal("left", err)
            err = raised(e.transaction, e, function(tx)
                for _ in tx:cursor "select 1 / (5 - i) from generate_series(1, 10) i" do assert(true) end
            end)
            assert.equal("22012", err.sqlstate)
            if mode == "async" then -- the FETCH is cancelled, and has not ended when the cursor is closed
                err = raised(e.transaction, e, function(tx)
                    local cursor <close> = tx:cursor("select i, pg_sleep(5) from generate_series(1, 2) i")
                    task.timeout(0.05, cursor)
                end)
                assert.same({ "timeout" }, { err.kind, err.sqlstate })
            end
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)

        it("lives in a session too, until it commits", function()
            local e <close> = open()
            local s <close> = e:session()
            local cursor <close> = s:cursor(numbers, 30, { fetch = 10 })
            for i = 1, 10 do assert.equal(i, cursor().i) end
            s:commit()
            assert.is_true(errors.is(raised(cursor), "usage"))
        end)

        it("needs a transaction, SQL and a valid option", function()
            local e <close> = open()
            local c <close> = e:acquire()
            assert.matches("there is no open transaction", raised(c.cursor, c, "select 1").message)
            e:transaction(function(tx)
                assert.matches("cursor: the SQL must be a string, got 5", raised(tx.cursor, tx, 5).message)
                assert.matches("at least 1", raised(tx.cursor, tx, "select 1", { fetch = 0 }).message)
            end)
            local err = raised(e.transaction, e, function(tx) tx:cursor "selec 1" end)
            assert.same({ "42601", "query" }, { err.sqlstate, err.kind })
        end)
    end)

    describe("rows in a transaction", function()
        it("can be left early, and the transaction stays usable", function()
            local e <close> = open { size = 1 }
            local t = pg.table(e, "i int")
            e:transaction(function(tx)
                tx:query(("insert into %s values (1)"):format(t))
                for row in tx:rows "select generate_series(1, 30000) as i" do
                    if row.i == 3 then break end
                end
                tx:query(("insert into %s values (2)"):format(t))
            end)
            assert.equal(2, e:value(("select count(*) from %s"):format(t)))
        end)

        it("that are left by an error are cancelled at once", function()
            local e <close> = open { size = 1 }
            pace.takes(0, 2, function()
                assert.equal("left", raised(e.transaction, e, function(tx)
                    for _ in tx:rows(slow) do error("left", 0) end
                end))
            end)
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end)
    end)
end)

describe("endless rows that are left in a transaction", function()
    it("are cancelled at once when their connection is released", function()
        local e <close> = pg.engine { size = 1 }
        pace.takes(0, 2, function()
            do
                local c <close> = e:acquire()
                c:exec "begin"
                local _, _, _, stream <close> = c:rows(slow)
                assert.is_not_nil(stream)
            end
            assert.equal(1, e:value "select 1")
        end)
        pg.settled(e)
    end)

    it("are cancelled after 5 s, and the log says so", function()
        local e <close> = pg.engine { size = 1 }
        local start = task.now()
        local err = raised(e.transaction, e, function(tx)
            for row in tx:rows(slow) do
                if row.i == 1 then break end
            end
            tx:query "select 1"
        end)
        assert.equal("25P02", err.sqlstate)
        assert.is_true(task.now() - start < 15, (task.now() - start) .. " s")
        assert.equal(1, e:value "select 1")
        pg.settled(e)
    end)
end)
