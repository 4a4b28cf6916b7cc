--- Engines that are collected while their connections are still in use.

local db <const> = require "dbrun.db"
local pg <const> = require "spec.support.pg"
local task <const> = require "dbrun.task"

local function collect()
    collectgarbage()
    collectgarbage()
end

for _, mode in ipairs { "async", "sync" } do
    describe(("[%s] an engine that was collected"):format(mode), function()
        it("lets its connections work until they are released", function()
            local c
            do
                local engine <const> = db.engine { url = pg.url(), mode = mode }
                c = engine:acquire()
            end
            collect()
            assert.equal(1, c:value "select 1")
            c:release()
            collect()
        end)

        it("can be collected together with a forgotten connection", function()
            do
                local engine <const> = db.engine { url = pg.url(), mode = mode }
                engine:acquire()
            end
            collect()
        end)

        it("closes its connections on the server", function()
            local name <const> = "collected_" .. mode
            do
                local engine <const> = db.engine { url = pg.url(), mode = mode, application_name = name }
                assert.equal(1, engine:value "select 1")
            end
            collect()
            local engine <close> = pg.engine { mode = mode }
            local left
            for _ = 1, 50 do
                left = engine:value("select count(*) from pg_stat_activity where application_name = $1", name)
                if left == 0 then
                    break
                end
                task.sleep(0.02)
            end
            assert.equal(0, left)
        end)
    end)
end

pg.on_both(describe, function(mode, open)
    it("what has ended says so when it is used again, and what to do", function()
        local e <close> = open()
        local c <const>, s <const> = e:acquire(), e:session()
        c:release()
        s:close()
        local tx, cursor
        e:transaction(function(x) tx, cursor = x, x:cursor "select generate_series(1, 2)" end)
        local listener <const> = mode == "async" and e:listen "a"
        if listener then listener:close() end
        getmetatable(e).__close(e)
        for message, call in pairs {
            ["this connection has been released"] = function() c:query "select 1" end,
            ["this connection has been released "] = function() tx:exec "select 1" end,
            ["this connection has been released  "] = cursor,
            ["this session has been closed"] = function() s:query "select 1" end,
            ["this session has been closed "] = function() s:commit() end,
            ["this listener has been closed"] = listener and function() listener:listen "b" end,
            ["this engine has been closed"] = function() e:query "select 1" end,
            ["this engine has been closed "] = function() e:acquire() end,
        } do
            local problem <const> = call and pg.raised(call) or { message = message, hint = "not on this engine" }
            assert.equal(message:match "^(.-) *$", problem.message)
            assert.is_string(problem.hint, message)
        end
    end)
end)
