--- Only its owner (transaction, session) ends a transaction: a statement that would end it is refused, and one that has
--- ended it is never a success.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local raised = pg.raised

local ENDINGS <const> = {
    "commit", "COMMIT AND CHAIN", "end", "/* a */ -- b\n commit work", "rollback", "rollback and chain", "abort",
    "prepare transaction 'spec'", "select 1; commit", "; commit; begin", "rollback; begin",
    "select ';'; rollback to a; rollback",
}

--- With standard_conforming_strings off the backslash escapes: the server reads a string and a COMMIT, where a client
--- that does not know the setting reads one string.
local HIDDEN <const> = { [[select '\''; commit; --']], [[select '\''; commit and chain; --']],
    [[select '\''; rollback and chain; --']], [[select '\''; commit; select 1/0; --']],
    [[select '\''; commit; begin; --']] }

pg.on_both(describe, function(_, open)
    local e, t

    before_each(function()
        e = open { size = 2 }
        t = pg.table(e, "i int")
    end)

    after_each(function() e:close() end)

    local function insert(x, i) x:query(("insert into %s values ($1)"):format(t), i) end

    local function count() return e:value(("select count(*) from %s"):format(t)) end

    local function check_ended(problem)
        assert.is_true(errors.is(problem, "usage"), tostring(problem))
        assert.matches("ended inside", problem.message)
        assert.matches("session", problem.hint)
    end

    for _, sql in ipairs(ENDINGS) do
        it(("refuses %q before it is sent"):format(sql), function()
            check_ended(raised(e.transaction, e, function(tx)
                insert(tx, 1)
                tx:exec(sql)
            end))
            check_ended(raised(e.transaction, e, function(tx)
                tx:transaction(function(inner)
                    insert(inner, 2)
                    inner:exec(sql)
                end)
            end))
            local s <close> = e:session()
            insert(s, 3)
            local problem = raised(s.exec, s, sql)
            check_ended(problem)
            assert.equal("not_sent", problem.outcome)
            s:rollback()
            assert.equal(0, count())
        end)
    end

    it("stays usable when the refusal was caught", function()
        assert.equal("done", e:transaction(function(tx)
            insert(tx, 1)
            check_ended(raised(tx.exec, tx, "rollback"))
            insert(tx, 2)
            return "done"
        end))
        assert.equal(2, count())
    end)

    it("refuses it in query, rows, columns, pipeline and execute_many", function()
        for name, run in pairs {
            query = function(tx) tx:query "commit" end,
            one = function(tx) tx:one "rollback" end,
            value = function(tx) tx:value "end" end,
            columns = function(tx) tx:columns "commit" end,
            rows = function(tx) for _ in tx:rows "commit" do error "a row" end end,
            pipeline = function(tx)
                tx:pipeline(function(p)
                    insert(p, 2)
                    p:query "commit and chain"
                end)
            end,
            execute_many = function(tx) tx:execute_many("commit", { {} }) end,
        } do
            local ok, problem = pcall(e.transaction, e, function(tx)
                insert(tx, 1)
                run(tx)
            end)
            assert.is_false(ok, name)
            check_ended(problem)
            assert.equal(0, count(), name)
        end
    end)

    for _, sql in ipairs(HIDDEN) do
        it(("reports what %q has done"):format(sql), function()
            local conn <close> = e:acquire()
            conn:exec "set standard_conforming_strings = off"
            local function count_here() return conn:value(("select count(*) from %s"):format(t)) end
            local later
            check_ended(raised(conn.transaction, conn, function(tx)
                insert(tx, 1)
                check_ended(raised(tx.exec, tx, sql))
                later = raised(insert, tx, 2)
                check_ended(later)
                assert.equal("not_sent", later.outcome)
                check_ended(raised(tx.pipeline, tx, function(p) insert(p, 3) end))
                check_ended(raised(tx.copy_in, tx, t, { "i" }, { { 4 } }))
                check_ended(raised(tx.transaction, tx, function(inner) insert(inner, 5) end))
                return "a success"
            end))
            assert.is_false(conn:in_transaction())
            assert.equal(sql:find "commit" and 1 or 0, count_here())
            -- An error of the script does not hide it either, and a cancelled transaction stays one.
            local problem = raised(conn.transaction, conn, function(tx)
                insert(tx, 6)
                pcall(tx.exec, tx, sql)
                error "an error of the script"
            end)
            check_ended(problem)
            assert.matches("an error of the script", problem.detail)
            insert(conn, 7)
            assert.equal(sql:find "commit" and 3 or 1, count_here())
        end)
    end

    it("of a session, ended without its knowledge, is no success", function()
        for _, finish in ipairs { "commit", "rollback" } do
            local s <close> = e:session()
            s:exec "set standard_conforming_strings = off"
            insert(s, 1)
            check_ended(raised(s.exec, s, HIDDEN[1]))
            check_ended(raised(insert, s, 2))
            check_ended(raised(s[finish], s))
            s:query "select 1"
            s:commit()
        end
        assert.equal(2, count())
    end)

    it("accepts all statements that do not end it", function()
        local f = t .. "_f"
        e:transaction(function(tx)
            insert(tx, 1)
            tx:exec "savepoint commit"
            insert(tx, 2)
            tx:exec "rollback to savepoint commit; release commit"
            if servers.version() >= 14 then
                tx:exec(("create function %s() returns int begin atomic select 1; select 2; end"):format(f))
            end
            tx:exec "do $$ begin perform 1; end $$; select '; commit'"
            tx:exec "prepare transaction_of as select 1; deallocate transaction_of"
            tx:exec "set standard_conforming_strings = off"
            tx:exec [[savepoint a; select '\'; commit; ']]
            tx:exec [[select '\\'; select 1]]
            tx:exec "rollback to a; set standard_conforming_strings = on"
            tx:transaction(function(inner)
                insert(inner, 3)
                inner:exec "savepoint b; rollback to b"
            end)
        end)
        assert.equal(2, count())
    end)

    it("that the script began can be ended by it, but not inside of a nested one", function()
        local c <close> = e:acquire()
        c:exec "begin"
        insert(c, 1)
        c:exec "commit"
        c:exec "begin"
        check_ended(raised(c.transaction, c, function(tx)
            insert(tx, 2)
            tx:exec "commit"
        end))
        insert(c, 3)
        c:exec "commit"
        c:exec "begin"
        c:exec "rollback"
        assert.equal(2, count())
    end)

    it("that the script began and that has failed is not committed silently", function()
        local c <close> = e:acquire()
        local ways <const> = {
            { "failed", function() c:exec "commit" end }, { "failed", function() c:query "END" end },
            { "failed", function() c:exec "commit work and chain" end }, { "failed", function() c:value "commit" end },
            { "failed", function() c:exec "/* at last */ prepare transaction 'prepared'" end },
            { "unknown", function() c:exec "commit; select 1" end },
            { "unknown", function() c:exec "; commit; begin; commit" end }, -- another transaction, which is committed
            { "unknown", function() c:pipeline(function(p) p:query "commit" end) end },
            { "unknown", function()
                c:pipeline(function(p) for _, sql in ipairs { "commit", "begin", "commit" } do p:query(sql) end end)
            end },
            { "failed", function() for _ in c:rows "commit" do error "a row" end end },
        }
        for i, way in ipairs(ways) do
            c:exec "begin"
            insert(c, i)
            raised(c.query, c, "select 1 / 0")
            local problem = raised(way[2])
            assert.equal("25P02", problem.sqlstate, i)
            assert.matches("rolled back by its COMMIT", problem.message, nil, nil, i)
            assert.equal(way[1], problem.outcome, i)
            c:exec "rollback" -- AND CHAIN has begun another transaction
        end
        assert.equal(0, count())
        for i, sql in ipairs { "rollback", "abort", "rollback to a; commit", "rollback; begin; commit" } do
            c:exec "begin; savepoint a"
            raised(c.query, c, "select 1 / 0")
            c:exec(sql)
            assert.is_falsy(c:in_transaction(), i)
        end
        c:exec "commit" -- of nothing is only a warning
    end)

    it("abandoned when its connection was released is no longer guarded", function()
        for _ = 1, 3 do
            pcall(e.transaction, e, function(tx) tx:release() end)
        end
        local c <close> = e:acquire()
        c:exec "begin"
        c:exec "commit"
    end)

    describe("a nested one", function()
        local function nested(fn) return e:transaction(function(tx) return tx:transaction(fn) end) end

        it("does not continue without its savepoint", function()
            for _, sql in ipairs { "rollback to outside", "release outside",
                "rollback to outside; savepoint outside" } do
                local problem = raised(e.transaction, e, function(tx)
                    tx:exec "savepoint outside"
                    insert(tx, 1)
                    tx:transaction(function(inner)
                        insert(inner, 2)
                        inner:exec(sql)
                    end)
                end)
                assert.equal("usage", problem.kind, tostring(problem))
                assert.matches("ended inside", problem.message)
                assert.equal(0, count())
            end
        end)

        it("has a savepoint that the next one cannot mistake for its own", function()
            local problem = raised(e.transaction, e, function(tx)
                tx:transaction(function(one)
                    one:exec "savepoint mine"
                    one:transaction(function(two)
                        insert(two, 1)
                        two:exec "rollback to mine"
                    end)
                end)
            end)
            assert.matches("savepoint", problem.message)
            assert.is_true(errors.is(raised(nested, function(tx) tx:exec "release savepoint dbrun" end)))
            assert.is_true(errors.is(raised(nested, function(tx) tx:exec "rollback to dbrun" end)))
            assert.equal(0, count())
        end)

        it("is read-only on request, and the outer one is not", function()
            e:transaction(function(tx)
                insert(tx, 1)
                local problem = raised(tx.transaction, tx, { read_only = true }, function(inner) insert(inner, 2) end)
                assert.equal("25006", problem.sqlstate)
                assert.equal(1, tx:transaction({ read_only = true }, function(inner)
                    assert.equal("25006", raised(inner.transaction, inner, function(x) insert(x, 2) end).sqlstate)
                    return inner:value(("select count(*) from %s"):format(t))
                end))
                insert(tx, 3)
                tx:transaction({ read_only = false }, function(inner) insert(inner, 4) end)
            end)
            assert.equal(3, count())
            assert.equal("off", e:value "show transaction_read_only")
        end)

        it("is not read-write in a read-only one", function()
            local problem = raised(e.transaction, e, { read_only = true }, function(tx)
                tx:query "select 1"
                tx:transaction({ read_only = false }, function(inner) insert(inner, 1) end)
            end)
            assert.equal("25001", problem.sqlstate)
            assert.equal(0, count())
        end)

        it("refuses the options that a savepoint cannot have", function()
            for key, value in pairs { isolation = "serializable", deferrable = true, retry = 2, timeout = 1,
                typo = 1 } do
                local ran
                local problem = raised(e.transaction, e, function(tx)
                    tx:transaction({ [key] = value }, function() ran = true end)
                end)
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
                assert.matches(key, problem.message)
                assert.is_nil(ran)
                local s <close> = e:session()
                assert.matches(key, raised(s.transaction, s, { [key] = value }, function() ran = true end).message)
                assert.is_nil(ran)
            end
        end)
    end)

    describe("a transaction left open on an engine", function()
        it("is an error, because the pool rolls it back", function()
            for _, run in ipairs {
                function() e:exec(("begin; insert into %s values (1)"):format(t)) end,
                function() e:query "begin" end,
                function() e:exec "start transaction" end,
                function() for _ in e:rows "begin" do error "a row" end end,
                function()
                    e:pipeline(function(p)
                        p:query "begin"
                        insert(p, 1)
                    end)
                end,
            } do
                local problem = raised(run)
                assert.is_true(errors.is(problem, "usage"), tostring(problem))
                assert.matches("left a transaction open", problem.message)
            end
            pg.settled(e)
            assert.equal(0, count())
            e:exec(("begin; insert into %s values (1); commit"):format(t))
            assert.equal(1, count())
        end)
    end)

    it("a text that commits and then fails does not count as not executed", function()
        local problem = raised(e.exec, e, ("begin; insert into %s values (1); commit; select 1/0"):format(t))
        assert.equal("22012", problem.sqlstate)
        assert.equal("unknown", problem.outcome)
        assert.equal(1, count())
    end)

    it("nor does a procedure or block that does so, or a pipeline with one", function()
        e:exec(([[create or replace procedure half_done(n int) language plpgsql as
            $$ begin insert into %s values (1); commit; perform 1 / n; end $$]]):format(t))
        local block <const> = ("do $$ begin insert into %s values (1); commit; perform 1 / 0; end $$"):format(t)
        for i, way in ipairs {
            function() e:exec "call half_done(0)" end, function() e:query("call half_done($1)", 0) end,
            function() e:exec(block) end, function() e:query(block) end,
            function() for _ in e:rows(block) do error "a row" end end,
            function() e:pipeline(function(p) p:query(block) end) end,
            function() e:pipeline(function(p) p:query "call half_done(1)" p:query "select 1 / 0" end) end,
        } do
            e:exec("truncate " .. t)
            local problem = raised(way)
            assert.equal("22012", problem.sqlstate, i)
            assert.equal("unknown", problem.outcome, i)
            assert.equal(1, count(), i)
        end
        e:exec("truncate " .. t)
        for i, way in ipairs {
            function() e:exec "do $$ begin selct 1; end $$" end, function() e:exec "call nothing_done()" end,
            function() e:exec "call half_done(1); select 1" end, -- a transaction block, in which COMMIT is refused
            function() e:transaction(function(tx) tx:exec "call half_done(0)" end) end,
            function() e:pipeline(function(p) p:query "select 1 / 0" p:query "call half_done(1)" end) end,
        } do
            assert.equal("failed", raised(way).outcome, i)
            assert.equal(0, count(), i)
        end
        e:exec(("alter table %s add constraint once unique (i) deferrable initially deferred"):format(t))
        local one <const> = ("insert into %s values (1);"):format(t)
        local twice <const> = ("do $$ begin %s commit; %s end $$"):format(one, one)
        for i, run in ipairs { e.exec, e.query } do
            assert.equal("unknown", raised(run, e, twice).outcome, i) -- of its second transaction, from no function
            assert.equal(1, count(), i)
            e:exec("truncate " .. t)
        end
        e:exec(("alter table %s drop constraint once"):format(t))
    end)
end)
