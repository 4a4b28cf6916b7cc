-- What happens to commands when the connection or the server is lost, or the task ends early.
local bad_server = require "spec.support.bad_server"
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local resident = require "spec.support.resident"
local task = require "dbrun.task"

local function open_files()
    local n = 0
    local p <close> = io.popen(("ls /proc/%d/fd"):format(require("dbrun.process").pid()))
    for _ in p:lines() do
        n = n + 1
    end
    return n
end

describe("a Redis client whose", function()
    local server, admin, r
    redis_server.around(_ENV, function(...) server, admin = ... end)
    before_each(function()
        r = redis.client { url = server.url }
        r:ping()
    end)
    after_each(function()
        r:close()
    end)

    describe("connection is killed", function()
        it("while idle notices nothing", function()
            for _ = 1, 20 do
                admin:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                assert.equal("PONG", r:ping())
            end
        end)

        it("while idle in the pool notices nothing", function()
            for _ = 1, 20 do
                assert.is_nil(r:blpop("q", 0.01))
                admin:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                assert.is_nil(r:blpop("q", 0.01))
            end
        end)

        --- A server that counts the commands it receives, and closes the connection instead of answering the first one.
        local function forgetful()
            return bad_server.start [[
                my $file = "$path.count";
                while (sysread $c, my $x, 65536) {
                    if ($x !~ /INCR/) { print $c qq{+PONG\r\n}; next }
                    open(my $f, ">>", $file); print $f "x"; close $f;
                    if (-s $file < 2) { close $c; last }
                    print $c ":" . (-s $file) . qq{\r\n};
                }]]
        end

        it("with a command in flight does not run it again, and reports an unknown outcome", function()
            local bad <close> = forgetful()
            local c <const> = redis.client { url = bad.url }
            local e <const> = fails("connect", c.incr, c, "runs")
            assert.equal("unknown", e.outcome)
            assert.is_false(e.retryable)
            assert.equal(2, c:incr "runs") -- the server has seen one before
            c:close()
        end)

        it("with idempotent=true runs it again", function()
            local bad <close> = forgetful()
            local c <const> = redis.client { url = bad.url, idempotent = true }
            assert.equal(2, c:incr "runs")
            c:close()
        end)

        it("after a reconnect runs it again there with idempotent=true", function()
            -- The first connection answers no GET and ends after 2 s; the others answer.
            local bad <close> = bad_server.start [[
                my $first = !-e "$path.seen"; open(my $f, ">", "$path.seen"); close $f;
                if ($first) { $SIG{ALRM} = sub { close $c; exit 0 }; alarm 2; }
                while (sysread $c, my $x, 65536) {
                    my $n = () = $x =~ /GET/g;
                    print $c qq{+PONG\r\n} if !$n;
                    print $c qq{+value\r\n} x $n if !$first;
                }]]
            local c <const> = redis.client { url = bad.url, idempotent = true }
            assert.equal("PONG", c:ping())
            local waiting <const> = task.spawn(function() return c:get "a" end)
            task.sleep(0)
            local quick <const> = c:with { timeout = 0.2 }
            assert.equal("unknown", fails("timeout", quick.get, quick, "b").outcome)
            assert.equal("value", c:get "c")
            assert.equal("waiting", waiting:status())
            assert.equal("value", task.timeout(10, function() return waiting:join() end))
            c:close()
        end)

        it("a hundred times at random moments loses no command silently and crosses no reply", function()
            local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
            math.randomseed(seed)
            local done, lost, wrong = 0, 0, 0
            local g <close> = task.group()
            local stop = false
            for i = 1, 20 do
                g:spawn(function()
                    local n = 0
                    while not stop do
                        n = n + 1
                        local nonce <const> = i .. ":" .. n
                        local ok, reply = pcall(r.echo, r, nonce)
                        if ok then
                            done = done + 1
                            wrong = wrong + (reply == nonce and 0 or 1)
                        else
                            lost = lost + 1
                            assert(errors.is(reply, "connect"), tostring(reply))
                        end
                    end
                end)
            end
            for _ = 1, 100 do
                task.sleep(math.random() * 0.004)
                admin:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            end
            stop = true
            g:wait()
            assert.equal(0, wrong, "DBRUN_TEST_SEED=" .. seed)
            assert.is_true(done > 100 and lost > 0, ("%d done, %d lost"):format(done, lost))
            assert.equal(1, r:stats().open)
            assert.equal("PONG", r:ping())
        end)

        it("in a transaction runs none of it, or all", function()
            local conn <close> = r:acquire()
            conn:raw("WATCH", "k")
            admin:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            task.sleep(0.02)
            fails("connect", conn.get, conn, "k")
        end)
    end)

    describe("server is restarted", function()
        it("reconnects within the deadline of its commands", function()
            local got
            task.all {
                function()
                    task.sleep(0.05)
                    server:kill()
                    task.sleep(0.2)
                    server:restart()
                end,
                function()
                    task.sleep(0.15) -- the server has stopped by now
                    got = r:ping()
                end,
            }
            assert.equal("PONG", got)
        end)

        it("fails at once when it is not started again", function()
            server:kill()
            local fresh <const> = redis.client { url = server.url }
            local e <const> = pace.takes(0, 0.2, function() return fails("connect", fresh.ping, fresh) end)
            assert.equal("not_sent", e.outcome)
            fresh:close()
            server:restart()
            assert.equal("PONG", redis.client { url = server.url }:ping())
        end)
    end)

    describe("server is frozen", function()
        it("ends commands at their deadline, and the loop goes on", function()
            local quick <const> = r:with { timeout = 0.3 }
            local worst <const> = pace.ticking(function()
                pace.takes(0.29, 0.34, function()
                    assert.equal("unknown", fails("timeout", quick.set, quick, "k", "v").outcome)
                    server:thaw()
                end, function()
                    assert.equal("PONG", r:ping())
                    server:freeze()
                end)
            end)
            assert.is_true(worst < 0.1, worst .. " s")
            assert.equal("PONG", r:ping())
        end)

        it("leaves no slot of the pool behind", function()
            local quick <const> = r:with { timeout = 0.1 }
            server:freeze()
            for _ = 1, 3 do
                pcall(quick.get, quick, "k")
            end
            server:thaw()
            assert.equal("PONG", r:ping())
            assert.is_true(redis_server.wait_until(10, function()
                local s <const> = r:stats()
                return s.open <= 2 and s.in_flight == 0
            end))
        end)
    end)

    it("connection is silent leaves it, but not the next one because of earlier commands", function()
        local odd <close> = bad_server.start [[
            my $first = mkdir "$path.first";
            for (1, 2) { sysread $c, my $x, 65536; print $c qq{+PONG\r\n} }
            while (sysread $c, my $x, 65536) { select undef, undef, undef, $first ? 30 : 0.5; print $c qq{+PONG\r\n} }
        ]]
        local c <close> = redis.client { url = odd.url, command_timeout = 10 }
        local patient <const>, quick <const> = c, c:with { timeout = 0.1 }
        assert.equal("PONG", c:ping())
        local g <close> = task.group()
        g:spawn(fails, "timeout", c.get, quick, "a")
        g:spawn(fails, "timeout", c.get, c:with { timeout = 0.3 }, "b")
        task.sleep(0.2)
        assert.equal("PONG", patient:ping())
        assert.equal("PONG", patient:ping()) -- it waits on the second connection when "b" is given up
        g:wait()
        assert.equal("PONG", patient:ping())
        assert.equal(2, c:stats().connects)
    end)

    it("server pauses its clients ends commands at their deadline", function()
        local quick <const> = r:with { timeout = 0.1 }
        local e <const> = pace.long_enough(0.3, function(seconds)
            admin:call("CLIENT", "PAUSE", math.floor(seconds * 1000), "ALL")
            local ok <const>, e <const> = pcall(quick.get, quick, "k")
            task.sleep(seconds)
            return not ok and e
        end)
        assert.equal("timeout", e.kind)
        assert.is_nil(r:get "k")
    end)

    it("server is full says so", function()
        local small <const> = redis_server.start { args = { "--maxclients", "4" } }
        local one <const> = redis.client { url = small.url }
        local held, e = {}, nil
        for i = 1, 6 do
            local ok, c = pcall(one.acquire, one)
            if not ok then
                e = c
                break
            end
            held[i] = c
        end
        assert.is_true(errors.is(e, "connect"), tostring(e))
        assert.matches("max number of clients", e.message)
        assert.is_true(e.retryable)
        for _, c in ipairs(held) do
            c:close()
        end
        assert.equal("PONG", one:ping())
        one:close()
        small:stop()
    end)

    it("server is out of memory, or a replica, gives typed errors", function()
        admin:config("set", "maxmemory", 1)
        local e = fails("redis", r.set, r, "k", ("x"):rep(1000))
        admin:config("set", "maxmemory", "0")
        assert.equal("OOM", e.code)
        admin:replicaof("127.0.0.1", 1)
        e = fails("redis", r.set, r, "k", "v")
        admin:replicaof("NO", "ONE")
        assert.equal("READONLY", e.code)
        assert.matches("primary", e.hint)
    end)

    describe("server sends garbage", function()
        local function answering(reply, after)
            return bad_server.start(([[
                while (sysread $c, my $x, 65536) {
                    if ($x =~ /PING|HELLO/) { print $c qq{+PONG\r\n} } else { print $c qq{%s}; %s }
                }]]):format((reply:gsub("%$", "\\$")), after or ""))
        end

        it("gives protocol errors, and reconnects", function()
            for _, reply in ipairs {
                "*-2\\r\\n", "*99999999999\\r\\n", "$-9\\r\\n", "$999999999999\\r\\nx", ":12x\\r\\n", "!what\\r\\n",
                "$2\\r\\nabcd\\r\\n", ("*2\\r\\n:1\\r\\n"):rep(9) .. "*-2\\r\\n", "*2147483647\\r\\n", "?1\\r\\n",
            } do
                local bad <close> = answering(reply)
                local c <const> = redis.client { url = bad.url }
                local e <const> = fails("protocol", c.get, c, "k")
                assert.equal("unknown", e.outcome, reply)
                assert.equal("PONG", c:ping())
                c:close()
            end
        end)

        it("gives connect errors for replies that are cut off", function()
            for _, reply in ipairs { "$5\\r\\nab", "*2\\r\\n:1\\r\\n", "+O", ":1" } do
                local bad <close> = answering(reply, "close $c; last")
                local c <const> = redis.client { url = bad.url }
                assert.equal("unknown", fails("connect", c.get, c, "k").outcome)
                c:close()
            end
        end)

        it("takes no memory for elements that are only announced", function()
            local bad <close> = answering "*60000000\\r\\n$536870912\\r\\nx"
            local c <const> = redis.client { url = bad.url, command_timeout = 0.2 }
            local before <const> = resident()
            fails("timeout", c.get, c, "k")
            local after <const> = resident()
            assert.is_true(after - before < 32 * 1024 * 1024)
            c:close()
        end)

        it("an unexpected reply breaks the connection, and no command gets it", function()
            local chatty <close> = bad_server.start [[
                my $n = 0;
                while (sysread $c, my $x, 65536) {
                    if ($x =~ /GET/) { print $c qq{+first\r\n+second\r\n} } else { print $c qq{+PONG\r\n} }
                }]]
            local c <const> = redis.client { url = chatty.url }
            for _ = 1, 20 do
                local ok, reply = pcall(c.get, c, "k")
                assert.is_true(ok and reply == "first" or errors.is(reply, "protocol"), tostring(reply))
                task.sleep(0.005)
                assert.equal("PONG", c:ping())
            end
            c:close()
        end)
    end)

    it("descriptors do not grow over a thousand connections that break", function()
        r:ping()
        collectgarbage()
        local before <const> = open_files()
        for i = 1, 500 do
            local c <const> = redis.client { url = server.url }
            c:ping()
            if i % 2 == 0 then
                local conn <const> = c:acquire()
                conn:discard()
            end
            c:close()
        end
        local dead <const> = redis.client { url = "unix:///nonexistent/x.sock" }
        for _ = 1, 500 do
            pcall(dead.ping, dead)
        end
        collectgarbage()
        task.sleep(0.05)
        assert.is_true(open_files() <= before + 2)
    end)
end)
