-- A primary and its standby: writes that reach the wrong one, URLs of several servers, and a failover during a running
-- program.
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

--- One address of both servers, in this order.
local function both(first, second, attrs)
    return ("postgresql://dbrun@/postgres?host=%s,%s&target_session_attrs=%s"):format(first.sockdir, second.sockdir,
        attrs)
end

local function is_standby(e)
    return e:value "select pg_is_in_recovery()"
end

--- Fills the pool and returns all connections.
local function fill(e, n)
    local held <const> = {}
    for i = 1, n do held[i] = e:acquire() end
    for i = 1, n do
        assert.is_false(is_standby(held[i]))
        held[i]:release()
    end
end

describe("with a standby", function()
    local primary, standby

    setup(function()
        primary = servers.postgres()
        standby = servers.postgres { standby_of = primary }
        primary:psql "create table t (i int); insert into t values (1)"
        standby:catch_up(primary)
    end)
    teardown(function()
        standby:close()
        primary:close()
    end)

    pg.on_both(describe, function(_, open)
        it("a write that reaches it is 25006 with a hint, and the connection stays usable", function()
            local e <close> = open { url = standby.url, size = 1 }
            local pid <const> = e:value "select pg_backend_pid()"
            local writes <const> = {
                function() e:exec "insert into t values (2)" end,
                function() e:query("insert into t values ($1)", 2) end,
                function() e:copy_in("t", { "i" }, { { 2 } }) end,
                function() e:exec "create table u ()" end,
                function() e:transaction(function(tx) tx:exec "update t set i = 3" end) end,
                function() e:value "select nextval(pg_get_serial_sequence('t', 'i')), pg_notify('a', '')" end,
                function() e:execute_many("insert into t values ($1)", { { 2 } }) end,
            }
            for i, write in ipairs(writes) do
                local problem <const> = pg.raised(write)
                if problem.sqlstate ~= "55000" then -- a standby's error for some of them
                    assert.equal("25006", problem.sqlstate, i .. ": " .. tostring(problem))
                    assert.matches("target_session_attrs=read-write", problem.hint, 1, true)
                end
                assert.equal("failed", problem.outcome)
                assert.is_false(problem.retryable)
            end
            assert.equal(1, e:value "select i from t")
            assert.equal(pid, e:value "select pg_backend_pid()")
        end)

        it("target_session_attrs finds the right one of several servers, anywhere in the list", function()
            for _, hosts in ipairs { { primary, standby }, { standby, primary } } do
                for attrs, standby_wanted in pairs { ["read-write"] = false, primary = false, standby = true,
                    ["read-only"] = true, ["prefer-standby"] = true } do
                    local e <close> = open { url = both(hosts[1], hosts[2], attrs), size = 2 }
                    assert.equal(standby_wanted, is_standby(e), attrs)
                end
                local e <close> = open { url = both(hosts[1], hosts[2], "any"), size = 1 }
                assert.equal(hosts[1] == standby, is_standby(e))
            end
        end)

        it("a URL without a suitable server is an error that says so", function()
            local e <close> = open { url = standby.url .. "&target_session_attrs=read-write", size = 1,
                connect_timeout = 5 }
            local problem = pg.raised(e.value, e, "select 1")
            assert.is_true(errors.is(problem, "connect"), tostring(problem))
            assert.equal("not_sent", problem.outcome)
            assert.matches("read%-only", problem.message)
            assert.matches("target_session_attrs", problem.hint)
            local other <close> = open { url = primary.url .. "&target_session_attrs=standby", size = 1 }
            problem = pg.raised(other.value, other, "select 1")
            assert.matches("not in hot standby", problem.message)
            assert.matches("target_session_attrs", problem.hint)
            assert.equal(0, other:stats().open)
        end)

        it("a server of the list that is down is skipped", function()
            local gone <const> = { sockdir = "/nonexistent" }
            local e <close> = open { url = both(gone, primary, "read-write"), size = 1 }
            assert.is_false(is_standby(e))
            local none <close> = open { url = both(gone, gone, "any"), size = 1 }
            assert.is_true(errors.is(pg.raised(none.value, none, "select 1"), "connect"))
        end)

        it("a primary that becomes read-only fails one write: then its connections leave the pool", function()
            local other <const> = servers.shared_postgres() -- the server that was promoted instead
            local e <close> = open { url = both(primary, other, "read-write"), size = 3,
                application_name = "failover" }
            local function left_behind()
                return primary:psql "select count(*) from pg_stat_activity where application_name = 'failover'"
            end
            other:psql "create table if not exists t (i int); truncate t"
            fill(e, 3)
            assert.equal("3", left_behind())
            local _ <close> = setmetatable({}, { __close = function()
                primary:psql "alter system reset default_transaction_read_only"
                primary:psql "select pg_reload_conf()"
                pg.eventually(10, function() return primary:psql "show default_transaction_read_only" == "off" end)
                other:psql "drop table t"
            end })
            primary:psql "alter system set default_transaction_read_only = on"
            primary:psql "select pg_reload_conf()"
            pg.eventually(10, function() return primary:psql "show default_transaction_read_only" == "on" end)
            local refused = 0
            for i = 1, 6 do
                local ok <const>, problem = pcall(e.query, e, "insert into t values ($1)", i)
                if not ok then
                    assert.equal("25006", problem.sqlstate, tostring(problem))
                    refused = refused + 1
                end
            end
            assert.is_true(refused <= 1, refused .. " writes were refused")
            assert.equal(tostring(6 - refused), other:psql "select count(*) from t")
            fill(e, 3)
            pg.eventually(10, function() return left_behind() == "0" end, "the old connections' end")
        end)

        it("a read-only transaction that the script requested keeps the connections", function()
            for _, url in ipairs { primary.url, both(primary, standby, "read-write") } do
                local e <close> = open { url = url, size = 1 }
                local pid <const> = e:value "select pg_backend_pid()"
                local problem <const> = pg.raised(e.transaction, e, { read_only = true }, function(tx)
                    tx:exec "insert into t values (1)"
                end)
                assert.equal("25006", problem.sqlstate)
                assert.equal(pid, e:value "select pg_backend_pid()")
            end
        end)
    end)
end)

pg.on_both(describe, function(_, open)
    it("a failover to the promoted standby is followed automatically; until then statements fail in time", function()
        local primary <close> = servers.postgres()
        local standby <close> = servers.postgres { standby_of = primary }
        primary:psql "create table t (i int)"
        local e <close> = open { url = both(primary, standby, "read-write"), size = 3, connect_timeout = 1 }
        fill(e, 3)
        e:exec "insert into t values (1)"
        standby:catch_up(primary)
        primary:stop "immediate"
        local problem <const> = pg.raised(e.exec, e, "insert into t values (2)")
        assert.is_true(errors.is(problem, "connect") or errors.is(problem, "timeout"), tostring(problem))
        assert.equal("not_sent", problem.outcome)
        standby:promote()
        e:exec "insert into t values (3)"
        assert.equal("1\n3", standby:psql "select i from t order by i")
        fill(e, 3)
        assert.equal(3, e:stats().open)
    end)
end)
