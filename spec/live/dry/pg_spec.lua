--- --dry-run on PostgreSQL: scripts see their own changes, and none of them is kept.
local dry = require "spec.support.dry"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

local SECOND <const> = "dry run: db.async and db.sync have a transaction each in %s: "
    .. "neither sees what the other changes\n"

describe("a dry run", function()
    local at, before
    local lacks = servers.pg_dump_lacks()

    ---The whole database as SQL, without the random word with which pg_dump guards it.
    local function dump()
        local result = process.run { "pg_dump", at.url, timeout = 60 }
        assert(result.code == 0, result.stderr)
        return (result.stdout:gsub("\n\\u?n?restrict [^\n]*", "\n"))
    end

    setup(function()
        at = dry.database()
        before = not lacks and dump()
    end)
    teardown(function() at.engine:close() end)

    ---Checks that the run prints `out`, that its summary is `summary`, and that the database is unchanged.
    local function does(out, summary, code, options)
        local result = dry.run(at, code, options)
        assert.equal(out, result.stdout, result.stderr)
        assert.equal(summary:format(at.engine:value "select current_database()"), result.stderr)
        assert.equal(0, result.code)
        assert.is_true(dry.is_unchanged(at))
    end

    it("ends a loop that deletes 1,000 rows at a time until none is left, and counts cascaded rows", function()
        does("2500\t0\t0\n", "dry run: rolled back\n"
            .. "  items   2,500 deleted (by a cascade, a trigger or a function)\n  orders  2,500 deleted\n", [[
            local n, r = 0
            repeat
                r = e:query "delete from orders where id in (select id from orders limit 1000)"
                n = n + r.affected
            until r.affected == 0
            print(n, (e:value "select count(*) from orders"), (e:value "select count(*) from items"))]])
    end)

    it("fails where COMMIT would, in each transaction", function()
        does("23503\tthe COMMIT of the transaction\n23503\t1\n2\n", "dry run: rolled back\n  nodes  2 inserted\n", [[
            local p = fails(e.query, e, "insert into nodes values (2, 77)")
            print(p.sqlstate, p.context)
            e:transaction(function(tx)
                tx:exec "insert into nodes values (3, 4)" -- the row that it names comes later
                tx:exec "insert into nodes values (4, null)"
            end)
            p = fails(e.transaction, e, function(tx) tx:exec "insert into nodes values (5, 99)" end)
            print(p.sqlstate, (e:value "select count(*) from nodes where id not in (3, 4)"))
            print((e:value "select count(*) from nodes where id in (3, 4)"))]])
    end)

    it("goes on after caught errors, and counts only changes that would have been kept", function()
        does("23505\n25P02\nno\n1\n", "dry run: rolled back\n  orders  1 inserted\n", [[
            print(fails(e.exec, e, "insert into orders select 9000 - i, '' from generate_series(1, 9000) i").sqlstate)
            print(fails(e.transaction, e, function(tx)
                tx:exec "insert into orders values (9001, '')"
                pcall(tx.exec, tx, "select 1 / 0")
            end).sqlstate)
            print(fails(e.transaction, e, function(tx)
                tx:transaction(function() tx:exec "insert into orders values (9002, '')" end)
                tx:exec "update orders set note = 'x'"
                error("no", 0)
            end))
            e:exec "insert into orders values (9003, '')"
            print((e:value "select count(*) from orders where id > 2500"))]])
    end)

    it("knows the script's own savepoints", function()
        does("9001 9004\n", "dry run: rolled back\n  orders  2 inserted\n", [[
            e:transaction(function(tx)
                tx:exec "insert into orders values (9001, '')"
                tx:exec [=[savepoint a; insert into orders values (9002, ''); rollback to a;
                    insert into orders values (9004, '')]=]
                tx:query "savepoint b"
                tx:query("insert into orders values ($1, '')", 9005)
                tx:query "rollback work to savepoint b"
                tx:query "release savepoint b"
            end)
            print((e:value "select string_agg(id::text, ' ' order by id) from orders where id > 2500"))]])
    end)

    it("lets tasks take turns", function()
        does("b\n3\n", "dry run: rolled back\n  orders  3 updated\n", [[
            task.all {
                function()
                    e:transaction(function(tx)
                        tx:exec "update orders set note = 'a' where id = 1"
                        task.sleep(0.1)
                        tx:exec "update orders set note = note || 'a' where id = 1"
                    end)
                end,
                function() e:transaction(function(tx) tx:exec "update orders set note = 'b' where id = 1" end) end,
            }
            print((e:value "select note from orders where id = 1"))
            print(#task.map({ 1, 2, 3 }, 3, function(n) return e:value("select $1::int", n) end))]])
    end)

    it("lets tasks use a connection, or a transaction, of another task", function()
        does("57014\ttrue\nusage\n2\n", "dry run: rolled back\n  orders  2 inserted\n", [[
            do
                local c <close> = e:acquire()
                local slow = task.spawn(pcall, c.query, c, "select pg_sleep(10)")
                task.sleep(0.1)
                local busy = fails(c.query, c, "select 1")
                repeat c:cancel() task.sleep(0.1) until slow:status() == "done"
                print(select(2, slow:join()).sqlstate, (c:value "select true"))
                print(busy.kind)
            end
            e:transaction(function(tx)
                task.spawn(function()
                    tx:exec "insert into orders values (9001, '')"
                    tx:transaction(function() tx:exec "insert into orders values (9002, '')" end)
                end):join()
            end)
            print((e:value "select count(*) from orders where id > 9000"))]])
    end)

    it("names the task that has the turn when two tasks wait for each other", function()
        local result = dry.run(at, [[
            e:transaction(function(tx)
                tx:exec "update orders set note = 'a' where id = 1"
                task.all { function() e:value "select 1" end }
            end)]], { "--lock-timeout", "0.3" })
        assert.equal(1, result.code)
        assert.matches("db.async:value waited 0.3 s for its turn in the dry run: the transaction at "
            .. "%(command line%):%d+ %(task 1, for [%d.]+ s%) has it", result.stderr)
        assert.matches("dry run: rolled back\n  no row of a table would have changed\n", result.stderr)
        assert.is_true(dry.is_unchanged(at))
    end)

    it("says that db.sync waits for rows that db.async has locked, and the reverse", function()
        does("55P03\ttrue\n55P03\ttrue\n", SECOND .. "dry run: rolled back\n  orders  2 updated\n", [[
            e:exec "update orders set note = 'a' where id = 1"
            db.sync:exec "update orders set note = 'b' where id = 2"
            local p = fails(db.sync.exec, db.sync, "update orders set note = 'b' where id = 1")
            print(p.sqlstate, p.hint:find "db.sync and db.async have one transaction each" ~= nil)
            p = fails(e.exec, e, "update orders set note = 'b' where id = 2")
            print(p.sqlstate, p.hint:find "db.async and db.sync have one transaction each" ~= nil)]],
            { "--lock-timeout", "0.3" })
    end)

    it("runs other statements between the rows of a query, a cursor and a COPY", function()
        local summary <const> = "dry run: rolled back\n  orders  10 updated\n"
        does("3 rows, 2 of a cursor, 2 of update, 2500 of COPY, 2 lines\n", summary, [[
            local function touch() e:exec "update orders set note = 'x' where id = 1" end
            local rows, cursor, updated, copied, lines = 0, 0, 0, 0, 0
            for row in e:rows("select id from orders where id <= $1", 3) do rows = rows + 1 touch() end
            for row in e:rows "select id from orders" do touch() break end
            e:transaction(function(tx)
                for row in tx:cursor("select id from orders where id <= 2", { fetch = 1 }) do
                    cursor = cursor + 1
                    tx:exec "update orders set note = 'y' where id = 2"
                end
            end)
            for row in e:rows "update orders set note = 'u' where id <= 2 returning id" do
                updated = updated + 1
                e:query "select 1"
            end
            for row in e:copy_out "items" do copied = copied + 1 end
            for line in e:copy_out("select id from orders where id <= $1", { raw = true }, 2) do
                lines = lines + select(2, line:gsub("\n", ""))
                touch()
            end
            print(("%d rows, %d of a cursor, %d of update, %d of COPY, %d lines"):format(rows, cursor, updated, copied,
                lines))
            e:exec "update orders set note = '' where id = 3"]])
    end)

    it("has sessions", function()
        does("1\n", "dry run: rolled back\n  orders  1 inserted\n", [[
            do
                local s <close> = e:session()
                s:exec "insert into orders values (9001, '')"
                s:commit()
                s:exec "insert into orders values (9002, '')"
                s:rollback()
                s:exec "insert into orders values (9003, '')"
            end
            print((e:value "select count(*) from orders where id > 2500"))]])
    end)

    it("copies in, also from a query of the same engine, and runs many statements at once", function()
        does("10\t2\t0\t2\t1\n", "dry run: rolled back\n  orders  14 inserted, 1 updated\n", [[
            local row = {}
            print(e:copy_in("orders", { "id", "note" }, e:rows "select id + 9000 as id, note from orders limit 10"),
                e:copy_in("orders", { "id", "note" }, "9101\ta\n9102\t\\N\n"),
                e:copy_in("orders", nil, {}),
                e:execute_many("insert into orders values ($1, $2)", { { 9201, "a" }, { 9202, "b" } }),
                #e:pipeline(function(p) p:query("update orders set note = $1 where id = 1", "p") end))
            assert(not pcall(e.copy_in, e, "orders", { "id" }, { { 9301 }, { 1 } }))
            assert(not pcall(e.execute_many, e, "insert into orders values ($1, '')", { { 9401 }, { 1 } }))]])
    end)

    it("ends what a transaction ends: temporary tables on commit drop, SET LOCAL", function()
        does("true\ntrue\n", "dry run: rolled back\n  also run: 2 x CREATE TABLE\n", [[
            local before = e:value "show work_mem"
            for _ = 1, 2 do
                e:transaction(function(tx)
                    tx:exec "create temporary table made (i int) on commit drop; set local work_mem = '1MB'"
                end)
                print(e:value "show work_mem" == before)
            end]])
    end)

    it("takes names of settings that are not in the text", function()
        local result = dry.run(at, [=[
            print(e:transaction(function(tx)
                tx:value("select set_config($1, '5MB', true)", "work_mem")
                tx:value("select pg_catalog.set_config($1, $2, true)", "app.user", "7")
                tx:value "select set_config(name, '9MB', true) from pg_settings where name = 'maintenance_work_mem'"
                return tx:value [[select concat_ws(' ', current_setting('work_mem'), current_setting('app.user'),
                    current_setting('maintenance_work_mem'))]]
            end))]=])
        assert.equal("5MB 7 9MB\n", result.stdout, result.stderr)
    end)

    it("supports connections, locks, isolation and time limits as far as possible", function()
        does("false\topen\ttrue\n5\ntimeout\n1\n", "dry run: isolation levels are not set: all runs in one "
            .. "transaction, which is read committed\ndry run: NOTIFY is not sent: it would come with a COMMIT\n"
            .. "dry run: rolled back\n  no row of a table would have changed\n", [[
            do
                local c <close> = e:acquire()
                print(c:in_transaction(), c:transaction({ isolation = "serializable" },
                    function(tx) return tx:in_transaction() end), c.parameters.server_version ~= nil)
            end
            print(e:advisory_lock("x", function(c) return (c:value "select 5") end))
            print(fails(e.transaction, e, { timeout = 0.1 }, function(tx)
                tx:exec "insert into orders values (9001, '')"
                tx:query "select pg_sleep(10)"
            end).kind)
            e:query("select pg_notify('c', 'x')")
            print((e:value "select 1"))]])
    end)

    it("says that a statement of the engine fails inside the failed transaction", function()
        does("25P02\ttrue\n", "dry run: nothing would have changed\n", [[
            local p
            pcall(e.transaction, e, function(tx)
                pcall(tx.exec, tx, "select 1 / 0")
                p = fails(e.value, e, "select 1")
            end)
            print(p.sqlstate, p.message:find "both are on one connection" ~= nil)]])
    end)

    it("leaves the database byte for byte unchanged, after all tests before this", function()
        if lacks then return pending(lacks) end
        assert.is_true(#before > 10000)
        assert.is_true(dump() == before)
    end)
end)
