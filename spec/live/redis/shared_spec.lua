-- Effects that commands on a shared connection must not have on others, however they are written; abandoned commands;
-- pools and subscriptions that are closed in the middle of work.
local core = require "dbrun.core"
local fails = require "spec.support.fails"
local pace = require "spec.support.pace"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a shared Redis connection", function()
    local server, r, other
    after_each(function()
        server:thaw()
        r:close()
    end)
    redis_server.around(_ENV, function(...) server, other = ... end)
    before_each(function()
        r = redis.client { url = server.url }
    end)

    describe("with arguments in tables", function()
        it("refuses the same commands as without tables", function()
            fails("usage", r.client, r, { "REPLY", "SKIP" })
            fails("usage", r.client, r, { REPLY = "OFF" })
            fails("usage", r.script, r, { "DEBUG", "YES" })
            local p = r:pipeline()
            fails("usage", p.client, p, { "reply", "off" })
            assert.equal("PONG", r:ping())
        end)

        it("holds nobody up with what blocks", function()
            pace.kept(function()
                local began <const> = task.now()
                task.all {
                    function() assert.is_nil(r:xread({ "BLOCK", 1000, "STREAMS", "s", "$" })) end,
                    function() assert.is_nil(r:xread({ BLOCK = 1000 }, "STREAMS", "s", "$")) end,
                    function() assert.is_nil(r:blpop({ "q", 1 })) end,
                    function()
                        task.sleep(0.05)
                        assert.equal("PONG", r:ping())
                        assert.is_true(task.now() - began < 0.9)
                    end,
                }
            end)
        end)

        it("gives replies of the same shape", function()
            r:zadd("z", { 1, "a", 2, "b" })
            assert.same({ { "a", 1.0 }, { "b", 2.0 } }, r:zrange("z", { 0, -1, "WITHSCORES" }))
            assert.equal(1, r:zadd("z", 3, "incr")) -- a member of that name
            assert.equal(4.5, r:zadd("z", { "INCR", 1.5, "incr" }))
            assert.equal("string", type(r:config({ "GET", "maxclients" }).maxclients))
        end)

        it("refuses a list with a hole, also when it has a named key", function()
            for _, list in ipairs { { "a", nil, "c", x = "d" }, { "a", x = "b" }, { "a", [3] = "b" } } do
                fails("usage", r.rpush, r, "l", list)
            end
            assert.equal(0, r:exists "l")
        end)
    end)

    describe("whose commands are abandoned", function()
        it("does not run the commands of a failed pipeline with the next", function()
            r:ping()
            local p = r:with({ timeout = 0.1 }):pipeline()
            p:incr "n"
            server:freeze()
            assert.equal("unknown", fails("timeout", p.execute, p).outcome)
            server:thaw()
            assert.equal(0, #p)
            p:get "other"
            p:hgetall "h"
            assert.same({ [2] = {} }, p:execute())
            assert.is_true(redis_server.wait_until(5, function() return other:get "n" == "1" end))
        end)

        it("sends the rest of a pipeline that it has begun", function()
            local patient <const> = r:with { timeout = 20 }
            server:freeze()
            task.all {
                function() fails("timeout", function() r:with({ timeout = 0.3 }):get "a" end) end,
                function()
                    local p = patient:pipeline()
                    for i = 1, 64 do p:set("k" .. i, ("x"):rep(128 * 1024)) end
                    assert.equal(64, #p:execute())
                end,
                function()
                    task.sleep(0.05)
                    patient:get "behind"
                end,
                function()
                    task.sleep(0.6)
                    server:thaw()
                end,
            }
            assert.equal(64, other:dbsize())
        end)

        it("does not send an abandoned long command again", function()
            r:llen "l"
            server:freeze()
            local quick <const> = r:with { timeout = 0.3 }
            fails("timeout", quick.rpush, quick, "l", ("x"):rep(8 * 1024 * 1024))
            task.sleep(0.1)
            server:thaw()
            assert.equal(0, other:llen "l")
            r:ping()
            task.sleep(0.2)
            assert.equal(0, other:llen "l")
        end)
    end)

    it("a pool that is closed during a pre-ping is freed", function()
        do
            local c <const> = redis.client { url = server.url, ping_idle = 0, command_timeout = 1 }
            c:acquire():close()
            server:freeze()
            assert.equal("timeout", select(2, pcall(task.timeout, 0.1, function() c:acquire() end)).kind)
            c:close()
        end
        collectgarbage()
        collectgarbage()
        server:thaw()
        assert.equal("PONG", r:ping())
    end)

    it("Ctrl-C during a pre-ping ends the program normally", function()
        local script <const> = ([[
            local redis, task = require "dbrun.redis", require "dbrun.task"
            local r = redis.client { url = %q, ping_idle = 0.1 }
            r:blpop("q", 0.1)
            task.sleep(0.3)
            print "looking"
            io.stdout:flush()
            io.read "l"
            r:blpop("q", 1)
        ]]):format(server.url)
        local child <close> = process.start {
            core.options.program, "--no-env", "-e", script, stdin_from = "pipe", stdout = "capture", stderr = "capture",
        }
        assert.equal("looking", child:read_line(20))
        server:freeze()
        child:write "\n"
        task.sleep(0.3)
        child:kill "INT"
        local result = child:wait(20)
        assert.equal(130, result.code, result.stderr)
    end)

    it("a subscription that is closed while it reconnects leaves no connection", function()
        local s <const> = r:subscribe "news"
        local kinds = {}
        local reader <const> = task.spawn(function()
            for m in s:messages() do kinds[#kinds + 1] = m.kind end
        end)
        task.sleep(0.05)
        other:call("CLIENT", "KILL", "TYPE", "pubsub")
        server:freeze()
        task.sleep(0.3)
        s:close()
        server:thaw()
        reader:join()
        assert.same({}, kinds)
        assert.is_true(redis_server.wait_until(5, function()
            return r:stats().leased == 0 and other:call("PUBSUB", "NUMSUB", "news").news == 0
        end))
    end)
end)

describe("a program with tasks in the background", function()
    it("ends when they do", function()
        local script = 'require "dbrun.core".task.daemon(function() require "dbrun.task".sleep(0.2) end)'
        pace.kept(function()
            local began = task.now()
            assert.is_true(process.run({ core.options.program, "--no-env", "-e", script, timeout = 20 }).ok)
            local took = task.now() - began
            began = began + took
            assert.is_true(process.run({ core.options.program, "--no-env", "-e", "", timeout = 20 }).ok)
            assert.is_true(took < 1.2 + (task.now() - began), took .. " s")
        end)
    end)
end)
