--- A script prints the same in a dry run and in a real one, in special cases of connections, settings and tables. The
--- scripts leave the database as it was, so that each can run twice: for real, and dry.
local dry = require "spec.support.dry"

describe("a dry run, like a real run,", function()
    local at

    setup(function() at = dry.database() end)
    teardown(function() at.engine:close() end)

    ---@param out string what both print
    ---@param summary string of the dry run
    local function same(out, summary, code)
        local real <const>, other <const> = dry.run_for_real(at, code), dry.run(at, code)
        assert.equal(out, real.stdout, real.stderr)
        assert.equal(out, other.stdout, other.stderr)
        assert.equal("dry run: " .. summary, other.stderr)
        assert.equal(real.code, other.code)
        assert.is_true(dry.is_unchanged(at))
    end

    it("empties temporary tables with each COMMIT", function()
        same("1\n0\n1\n0\n", "rolled back\n  also run: 2 x CREATE TABLE, DROP TABLE w\n", [[
            local c <close> = e:acquire()
            for _ = 1, 2 do
                c:transaction(function(tx)
                    tx:exec "create temp table if not exists w (id int) on commit delete rows; insert into w values (1)"
                    print((tx:value "select count(*) from w"))
                end)
                print((c:value "select count(*) from w"))
            end
            c:exec "drop table w"]])
    end)

    it("restores settings that set_config changed for a transaction", function()
        same("u a\ng\n\n", "nothing would have changed\n", [[
            local c <close> = e:acquire()
            c:exec "set application_name = 'g'"
            c:transaction(function(tx)
                tx:query("select set_config('application_name', $1, true), set_config('app.user', 'u', true)", "a")
                print((tx:value "select current_setting('app.user') || ' ' || current_setting('application_name')"))
            end)
            print((c:value "show application_name"))
            print((c:value "select current_setting('app.user', true)"))]])
    end)

    it("goes on when constraints that are deferred have been dropped", function()
        same("1\n23503\n1\n", "rolled back\n  also run: ALTER TABLE, CREATE TABLE, DROP TABLE n2\n", [[
            e:exec "create table n2 (id int primary key, up int references n2 deferrable initially deferred)"
            print((e:value "select 1"))
            print(fails(e.exec, e, "insert into n2 values (1, 9)").sqlstate)
            pcall(e.transaction, e, function(tx)
                tx:exec "alter table nodes drop constraint nodes_parent_fkey"
                error()
            end)
            e:exec "alter table n2 drop constraint n2_up_fkey"
            e:exec "do $$ begin execute 'alter table n2 add unique (up) deferrable initially deferred'; end $$"
            e:exec "drop table n2"
            print((e:value "select 1"))]])
    end)

    it("calls on_connect for each connection, and raises its error in the calling task", function()
        local second = ("two engines have a transaction each in %s: neither sees what the other changes\ndry run: ")
            :format(at.engine:value "select current_database()")
        same("public\t7\nconnect\ton_connect failed: no\nconnect\n", second .. "nothing would have changed\n", [[
            local one = db.engine { url = os.getenv "DATABASE_URL", size = 1, on_connect = function(c)
                c:transaction(function(tx) tx:exec "set search_path = public" end)
                c:query("select set_config('app.n', $1, false)", "7")
            end }
            print((one:value "show search_path"), (one:value "select current_setting('app.n')"))
            local two = db.engine { url = os.getenv "DATABASE_URL", on_connect = function() error("no", 0) end }
            local p = fails(two.value, two, "select 1")
            print(p.kind, p.message)
            print(fails(two.value, two, "select 1").kind)]])
    end)

    it("runs one statement at a time on a connection, and several on an engine", function()
        same("usage\tusage\tusage\n1\nusage\n1\nusage\n", "nothing would have changed\n", [[
            local c <close> = e:acquire()
            for row in c:rows "select i from generate_series(1, 3000) i" do
                print(fails(c.query, c, "select 1").kind, fails(c.transaction, c, function() end).kind,
                    fails(c.pipeline, c, function(p) p:query "select 1" end).kind)
                break
            end
            print((c:value "select 1"))
            c:transaction(function(tx)
                for _ in tx:copy_out("select 1", { raw = true }) do
                    print(fails(tx.query, tx, "select 1").kind)
                end
                print((tx:value "select 1"))
                return 2
            end)
            print(fails(c.transaction, c, function(tx) tx:rows "select i from generate_series(1, 3000) i" end).kind)]])
    end)

    it("says what it cannot count", function()
        local result = dry.run(at, [[
            e:exec "create extension postgres_fdw; create server s foreign data wrapper postgres_fdw"
            e:exec "create foreign table far (id int) server s"
            print(fails(e.exec, e, "insert into far values (1)").sqlstate)]])
        assert.matches("  the rows in far are not counted: it is a foreign table\n$", result.stderr)
        assert.equal("dry run: rolled back\n  no row of a table would have changed\n", dry.run(at,
            "print((e:value 'select lo_create(0)'))").stderr)
        assert.is_true(dry.is_unchanged(at))
    end)

    it("counts correctly after a TRUNCATE", function()
        local result = dry.run(at, [[
            e:exec "delete from items where id <= 29"
            pcall(e.transaction, e, function(tx)
                tx:exec "insert into items select 90000 + i, 100 + i from generate_series(1, 3) i"
                error()
            end)
            e:exec "truncate only public.items cascade"
            e:exec "insert into items select i, 100 + i from generate_series(1, 5) i"
            e:transaction(function(tx)
                tx:exec "savepoint a; delete from items where id = 1"
                tx:exec "truncate items; insert into items values (1, 101); release a"
            end)
            pcall(e.transaction, e, function(tx) tx:exec "truncate items" error() end)
            e:pipeline(function(p) p:query "select 1" p:query "truncate items, nodes" end)
            e:exec "insert into items values (1, 101)"
            print((e:value "select count(*) from items"))]])
        assert.equal("1\n", result.stdout, result.stderr)
        assert.equal("dry run: rolled back\n  items  7 inserted, 30 deleted\n  also run: TRUNCATE items, "
            .. "TRUNCATE items, nodes, TRUNCATE public.items CASCADE\n", result.stderr)
        assert.is_true(dry.is_unchanged(at))
    end)
end)
