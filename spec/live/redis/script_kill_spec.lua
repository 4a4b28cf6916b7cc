-- A script that runs forever on the connection that all tasks share can be killed by the same client.
local errors = require "dbrun.error"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local LIBRARY <const> = "#!lua name=endless\nredis.register_function('endless', function() while true do end end)"

describe("an endless script", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end, { args = { "--busy-reply-threshold", "20" } })

    --- Runs fn in a task, ends it by `command` KILL, and returns the error that fn raised.
    local function killed(command, fn)
        local running <const> = task.spawn(function() return pcall(fn) end)
        assert.is_true(redis_server.wait_until(10, function()
            local ok, reply = pcall(r.call, r, command, "KILL")
            assert.is_true(ok and reply == "OK" or reply.code == "NOTBUSY", tostring(reply))
            return ok
        end))
        local ok, e = running:join()
        assert.is_false(ok)
        assert.is_true(errors.is(e, "redis"), tostring(e))
        return e
    end

    it("is killed while other commands wait for it", function()
        local waiting
        killed("SCRIPT", function()
            waiting = task.spawn(function() return r:set("k", "v") end)
            r:eval("while true do end", 0)
        end)
        assert.equal("OK", waiting:join())
        assert.equal("v", r:get "k")
    end)

    it("is killed when it is a function", function()
        r:call("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        killed("FUNCTION", function() r:fcall("endless", 0) end)
    end)

    it("raises BUSY on a new connection at once", function()
        killed("SCRIPT", function()
            local other <const> = task.spawn(function()
                local connection <close> = r:acquire()
                return pcall(connection.get, connection, "k")
            end)
            local ok <const>, why = pcall(r.eval, r, "while true do end", 0)
            local answered, e = other:join()
            assert.is_true(answered or e.code == "BUSY", tostring(e))
            assert.is_false(ok)
            error(why, 0)
        end)
    end)
end)
