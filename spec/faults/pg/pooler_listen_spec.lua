--- LISTEN through a pooler: refused in transaction mode, where no notification would arrive; works in session mode.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local pgbouncer = require "spec.support.pgbouncer"
local servers = require "spec.support.servers"

if not pgbouncer.is_there() then
    pending("pgbouncer is not installed: its specs are skipped")
    return
end

pg.on_both(describe, function(_, open)
    local server

    setup(function() server = servers.postgres() end)

    teardown(function() server:close() end)

    it("is refused in transaction mode, with a hint", function()
        for _, size in ipairs { 1, 3 } do
            local bouncer <close> = pgbouncer.start(server, { default_pool_size = size })
            local e <close> = open { url = bouncer.url, size = 2 }
            local problem = pg.raised(e.listen, e, "orders")
            assert.is_true(errors.is(problem, "config"), tostring(problem))
            assert.equal("not_sent", problem.outcome)
            assert.matches("transaction pooler", problem.message)
            assert.matches("the server itself", problem.hint)
            assert.equal(1, e:value "select 1")
            pg.settled(e)
        end
    end)

    it("works in session mode, and hides its test notification", function()
        local bouncer <close> = pgbouncer.start(server, { pool_mode = "session" })
        local e <close> = open { url = bouncer.url, size = 2 }
        local listener <close> = e:listen("orders")
        e:query("select pg_notify('orders', 'one')")
        local event = listener:next(10)
        assert.equal("orders", event.channel)
        assert.equal("one", event.payload)
        listener:listen "stock"
        e:query("select pg_notify('stock', 'two')")
        assert.equal("two", listener:next(10).payload)
        assert.is_nil(listener:next(0.05))
    end)

    it("works without a pooler, with one connection in the pool", function()
        local e <close> = open { url = server.url, size = 1 }
        local listener <close> = e:listen "orders"
        e:query "select pg_notify('orders', 'one')"
        assert.equal("one", listener:next(10).payload)
    end)
end)
