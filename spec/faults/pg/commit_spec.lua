--- A statement is committed at its sync, after its CommandComplete: a fault between the two is never a success, for
--- single statements, shared connections, pipelines and execute_many.

local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local raised = pg.raised

local READY <const> = 6 -- bytes of ReadyForQuery

local server

setup(function() server = servers.postgres() end)

teardown(function() server:close() end)

--- The ways to run `insert into t values (n)`, and the context in an error of its COMMIT.
local ways = {
    single = { function(e, t, n) return e:query(("insert into %s values ($1)"):format(t), n) end, "the statement" },
    exec = { function(e, t, n) return e:exec(("insert into %s values (%d)"):format(t, n)) end },
    value = { function(e, t, n) return e:value(("insert into %s values ($1) returning i"):format(t), n) end,
        "the statement" },
    rows = { function(e, t, n)
        for row in e:rows(("insert into %s values ($1) returning i"):format(t), n) do assert.equal(n, row.i) end
    end, "the statement" },
    pipeline = { function(e, t, n)
        return e:pipeline(function(p)
            p:query "select 1"
            p:query(("insert into %s values ($1)"):format(t), n)
        end)
    end, "the group of 2 statements" },
    execute_many = { function(e, t, n) return e:execute_many(("insert into %s values ($1)"):format(t), { { n } }) end,
        "the transaction" },
    transaction = { function(e, t, n)
        return e:transaction(function(tx) tx:query(("insert into %s values ($1)"):format(t), n) end)
    end, "the transaction" },
    session = { function(e, t, n)
        local s <close> = e:session()
        s:query(("insert into %s values ($1)"):format(t), n)
        s:commit()
    end, "the transaction" },
}

local engines = {
    async = function(opts) return pg.engine(opts) end,
    sync = function(opts)
        opts.mode = "sync"
        return pg.engine(opts)
    end,
    shared = function(opts)
        opts.pipeline = 16
        return pg.engine(opts)
    end,
}

for mode, open in pairs(engines) do
    for name, way in pairs(ways) do
        describe(("[%s] %s"):format(mode, name), function()
            local run <const>, group <const> = way[1], way[2]

            it("whose COMMIT is refused is an error that says so", function()
                local e <close> = open { url = server.url, size = 1 }
                local t = pg.table(e, "i int")
                e:exec(([[create or replace function refuse() returns trigger language plpgsql as $$ begin
                        if new.i < 0 then raise exception 'later' using errcode = '40001'; end if; return null;
                    end $$;
                    create constraint trigger late after insert on %s deferrable initially deferred
                        for each row execute function refuse()]]):format(t))
                for i = 1, 4 do
                    local problem = raised(run, e, t, -i)
                    assert.is_true(errors.is(problem, "query"), tostring(problem))
                    assert.equal("40001", problem.sqlstate)
                    assert.equal("failed", problem.outcome)
                    if group then assert.matches("the COMMIT of " .. group, problem.context, 1, true) end
                    assert.is_nil(problem.context:find "batch")
                    run(e, t, i)
                end
                assert.equal(4, e:value(("select count(*) from %s"):format(t)))
                assert.equal(0, e:value(("select count(*) from %s where i < 0"):format(t)))
            end)

            it("whose connection is lost after CommandComplete has the outcome unknown", function()
                local proxy <close> = fake.proxy { to = server }
                local direct <close> = pg.engine { url = server.url, size = 1 }
                local t = pg.table(direct, "i int")
                local e <close> = open { url = proxy:address_of(server), size = 1, pre_ping = false }
                -- The third run and later ones are alike; then only the ReadyForQuery of the last is cut off.
                local reply
                for i = 1, 4 do
                    local before = proxy:stats().down
                    run(e, t, i)
                    reply = proxy:stats().down - before
                end
                proxy:cut("down", reply - READY)
                local problem = raised(run, e, t, 5)
                assert.is_true(errors.is(problem, "connect"), tostring(problem))
                assert.equal("unknown", problem.outcome)
                assert.is_false(problem.retryable)
                assert.equal(5, direct:value(("select count(*) from %s"):format(t)))
                run(e, t, 6)
                assert.equal(6, direct:value(("select count(*) from %s"):format(t)))
            end)
        end)
    end
end
