-- Subscriptions: a dedicated connection, messages in order, reported gaps.
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a Redis subscription", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    --- The next `n` elements.
    local function take(s, n)
        local got = {}
        for m in s:messages() do
            got[#got + 1] = m
            if #got == n then
                break
            end
        end
        return got
    end

    it("gives messages that are published after it was made, in order", function()
        local s <close> = r:subscribe("news", "weather")
        assert.equal(1, r:publish("news", "one"))
        r:publish("weather", "rain\0y")
        r:publish("elsewhere", "no")
        r:publish("news", "two")
        assert.same({
            { kind = "message", channel = "news", payload = "one" },
            { kind = "message", channel = "weather", payload = "rain\0y" },
            { kind = "message", channel = "news", payload = "two" },
        }, take(s, 3))
    end)

    it("with a pattern names the pattern", function()
        local s <close> = r:psubscribe "news.*"
        r:publish("news.home", "hi")
        assert.same({ { kind = "message", channel = "news.home", pattern = "news.*", payload = "hi" } }, take(s, 1))
    end)

    it("to sharded channels", function()
        local s <close> = r:ssubscribe "shard"
        r:call("SPUBLISH", "shard", "hi")
        assert.equal("hi", take(s, 1)[1].payload)
    end)

    it("wakes the waiting task, and does not block others", function()
        local s <close> = r:subscribe "news"
        local got = task.all {
            function() return take(s, 1)[1].payload end,
            function()
                task.sleep(0.02)
                assert.equal("PONG", r:ping())
                r:publish("news", "late")
            end,
        }
        assert.equal("late", got[1])
    end)

    it("can be read by only one task", function()
        local s <close> = r:subscribe "news"
        local got = task.all {
            function() return take(s, 1)[1].payload end,
            function()
                task.sleep(0.02)
                local _, e = pcall(take, s, 1)
                r:publish("news", "for the first")
                return e
            end,
        }
        assert.equal("for the first", got[1])
        assert.equal("usage", got[2].kind)
        assert.equal("redis: another task is already waiting for a message of this subscription", got[2].message)
    end)

    it("carries 50,000 messages", function()
        local s <close> = r:subscribe "news"
        local sum = 0
        task.all {
            function()
                local n = 0
                for m in s:messages() do
                    n = n + 1
                    sum = sum + tonumber(m.payload)
                    if n == 50000 then
                        return
                    end
                end
            end,
            function()
                for i = 0, 49 do
                    r:pipeline(function(p)
                        for j = 1, 1000 do
                            p:publish("news", i * 1000 + j)
                        end
                    end)
                end
            end,
        }
        assert.equal(50000 * 50001 // 2, sum)
    end)

    it("that lags does not fill the memory, and gets a gap event", function()
        r:config("set", "client-output-buffer-limit", "pubsub 1mb 1mb 1")
        local s <close> = r:subscribe "news"
        local big <const> = ("x"):rep(100000)
        for _ = 1, 40 do
            r:pipeline(function(p)
                for _ = 1, 20 do
                    p:publish("news", big)
                end
            end)
        end
        local messages, gap = 0, false
        for m in s:messages() do
            if m.kind == "gap" then
                gap = true
                break
            end
            messages = messages + 1
        end
        assert.is_true(gap)
        assert.is_true(messages > 0 and messages < 800, messages .. " messages")
        r:publish("news", "again")
        assert.equal("again", take(s, 1)[1].payload)
    end)

    it("whose connection is killed reconnects, with a gap event", function()
        local s <close> = r:subscribe "news"
        for i = 1, 10 do
            r:call("CLIENT", "KILL", "TYPE", "pubsub")
            local gap <const> = take(s, 1)[1]
            assert.equal("gap", gap.kind)
            assert.is_string(gap.reason)
            assert.same({ "news" }, gap.channels)
            r:publish("news", i)
            assert.equal(tostring(i), take(s, 1)[1].payload)
        end
    end)

    it("survives a restart of the server", function()
        local s <close> = r:subscribe "news"
        local got = task.all {
            function() return take(s, 1)[1].kind end,
            function()
                server:kill()
                task.sleep(0.1)
                server:restart()
            end,
        }
        assert.equal("gap", got[1])
        r:publish("news", "back")
        assert.equal("back", take(s, 1)[1].payload)
    end)

    it("that is quiet sends the server a PING", function()
        local c <const> = r:acquire()
        local methods <const> = getmetatable(c).__index
        local next_event <const> = methods.next
        local _ <close> = setmetatable({}, { __close = function() methods.next = next_event end })
        local quiet = 0
        c:discard()
        -- Its time limits are shortened here: they are 15 s without messages, and 10 s for the reply.
        function methods.next(connection, seconds)
            local event <const> = next_event(connection, seconds > 10 and 0.02 or seconds)
            quiet = quiet + (event == nil and 1 or 0)
            return event
        end
        local s <close> = r:subscribe "quiet"
        local g <close> = task.group()
        g:spawn(function()
            assert.is_true(redis_server.wait_until(5, function() return quiet >= 3 end))
            r:publish("quiet", "here")
        end)
        assert.same({ { kind = "message", channel = "quiet", payload = "here" } }, take(s, 1))
    end)

    it("reconnects in only one task", function()
        local s <close> = r:subscribe "news"
        server:kill()
        local gap <const> = task.spawn(take, s, 1)
        assert.is_true(redis_server.wait_until(5, function() return s.reopening end))
        assert.matches("another task", fails("usage", take, s, 1).message)
        server:restart()
        assert.equal("gap", gap:join()[1].kind)
    end)

    it("notices a lost server also when each wait for a message is short", function()
        local s <close> = r:subscribe "news"
        local function look()
            return pcall(task.timeout, 0.1, take, s, 1)
        end
        server:freeze()
        s.heard = s.heard - 15 -- seconds without a message
        local asked <const> = not look() and s.asked
        s.asked = asked and asked - 10
        look()
        server:thaw()
        assert.is_truthy(asked)
        assert.equal("gap", take(s, 1)[1].kind)
    end)

    it("reconnects in the next loop when a time limit has ended the attempt", function()
        local s <close> = r:subscribe "news"
        local function take_in(seconds)
            return pcall(task.timeout, seconds, take, s, 1)
        end
        server:kill()
        assert.is_false(take_in(0.1)) -- no connection
        assert.is_false(take_in(0.05))
        server:restart()
        assert.equal("gap", take(s, 1)[1].kind)
        server:cli("client", "kill", "type", "pubsub")
        server:freeze()
        local ok <const>, e <const> = take_in(0.2) -- a connection that has not confirmed the channels
        server:thaw()
        assert.is_true(not ok and errors.is(e, "timeout"), tostring(e))
        assert.equal("gap", take(s, 1)[1].kind)
        r:publish("news", "back")
        assert.equal("back", take(s, 1)[1].payload)
    end)

    it("closed ends its loop, also while it waits, and its connection", function()
        local s <const> = r:subscribe "news"
        local ended
        task.all {
            function()
                for _ in s:messages() do
                    error "no message was published"
                end
                ended = true
            end,
            function()
                task.sleep(0.02)
                s:close()
                s:close()
            end,
        }
        assert.is_true(ended)
        assert.is_true(redis_server.wait_until(10, function() return r:pubsub("numsub", "news").news == 0 end))
        assert.equal(1, r:stats().open)
    end)

    it("can be waited for with a time limit", function()
        local s <close> = r:subscribe "news"
        local ok, e = pcall(task.timeout, 0.05, take, s, 1)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "timeout"))
        r:publish("news", "still there")
        assert.equal("still there", take(s, 1)[1].payload)
    end)

    it("can add and remove channels", function()
        local s <close> = r:subscribe "a"
        s:subscribe("b", "c")
        s:unsubscribe "a"
        assert.is_true(redis_server.wait_until(10, function()
            local n <const> = r:pubsub("numsub", "a", "b", "c")
            return n.a == 0 and n.b == 1 and n.c == 1
        end))
        r:call("CLIENT", "KILL", "TYPE", "pubsub")
        assert.equal("gap", take(s, 1)[1].kind)
        assert.same({ a = 0, b = 1, c = 1 }, r:pubsub("numsub", "a", "b", "c"))
    end)

    it("can add channels also when its connection is lost unnoticed", function()
        local s <close> = r:subscribe("a", "b")
        r:call("CLIENT", "KILL", "TYPE", "pubsub")
        task.sleep(0.05)
        s:subscribe "c"
        s:unsubscribe "a"
        assert.equal("gap", take(s, 1)[1].kind)
        assert.same({ a = 0, b = 1, c = 1 }, r:pubsub("numsub", "a", "b", "c"))
    end)

    it("raises a later refusal by the server where the messages are read", function()
        r:acl("setuser", "half", "on", ">halfpass", "~*", "+@all", "resetchannels", "&ok*")
        local half <close> = redis.client { path = server.socket, username = "half", password = "halfpass" }
        local s <close> = half:subscribe "ok1"
        s:subscribe "ok2"
        s:subscribe "no"
        assert.equal("NOPERM", fails("redis", take, s, 1).code)
        r:publish("ok1", "still there")
        assert.equal("still there", take(s, 1)[1].payload)
        server:cli("client", "kill", "type", "pubsub") -- and a reconnect does not subscribe to it again
        assert.same({ "ok1", "ok2" }, take(s, 1)[1].channels)
    end)

    it("raises for wrong arguments, and for channels that the server refuses", function()
        for _, arguments in ipairs { {}, { 5 }, { "a", nil, n = 2 } } do
            local ok, e = pcall(r.subscribe, r, table.unpack(arguments, 1, arguments.n))
            assert.is_false(ok)
            assert.is_true(errors.is(e, "usage"), tostring(e))
        end
        r:acl("setuser", "deaf", "on", ">deafpass", "~*", "+@all", "resetchannels")
        local deaf <const> = redis.client { path = server.socket, username = "deaf", password = "deafpass" }
        local ok, e = pcall(deaf.subscribe, deaf, "news")
        assert.is_false(ok)
        assert.equal("NOPERM", e.code)
        assert.equal("PONG", deaf:ping())
        deaf:close()
    end)
end)
