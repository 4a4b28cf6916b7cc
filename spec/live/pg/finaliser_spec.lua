--- Finalisers of the script, which can run wherever Lua allocates: also between the check that a connection is free and
--- its use, and while a result becomes Lua values.

local finaliser = require "spec.support.finaliser"
local finaliser_pg = require "spec.support.finaliser_pg"
local pg = require "spec.support.pg"

local raised = pg.raised

pg.on_both(describe, function(mode, open)
    describe("a finaliser that uses the connection", function()
        for _, entry in ipairs(finaliser_pg.done) do
            it("at any moment of: " .. entry[1], function()
                finaliser.run("finaliser_pg.lua", pg.url(), mode, entry[1])
            end)
        end
    end)

    it("a finaliser that releases the connection before rows are requested causes an error", function()
        local e <close> = open()
        local c = e:acquire()
        collectgarbage()
        collectgarbage("incremental", 100, 400, 30)
        collectgarbage "stop"
        setmetatable({}, { __gc = function() c:release() end })
        collectgarbage "restart"
        assert.matches("released", raised(c.rows, c, "select 1").message)
        collectgarbage("incremental", 200, 100, 13)
        assert.equal(0, e:stats().leased)
    end)
end)

it("a finaliser that runs a statement when the pool is about to refuse one gets a separate block", function()
    local e <close> = pg.engine { mode = "async", pipeline = 8, size = 1, overflow = 0 }
    local other <close> = pg.engine { mode = "sync" }
    local _ <close>, found = e:acquire(), nil
    setmetatable({}, { __gc = function() found = other:value "select 42" end })
    assert.matches("deadlock", raised(e.value, e, "select 1").message)
    assert.equal(42, found)
end)

describe("in a stock lua5.4, where finalisers can wait, a finaliser that uses the connection", function()
    for _, what in ipairs { "query, prepared", "query, large", "rows", "copy out", "pipeline", "listen" } do
        it("at any moment of: " .. what, function()
            finaliser.run_stock("finaliser_pg.lua", pg.url(), "async", what)
        end)
    end
end)
