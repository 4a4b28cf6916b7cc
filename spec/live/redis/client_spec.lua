-- One client for many tasks: pipelining, cancelling, pools, transactions, commands that block.
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local function seed_of_run()
    local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
    math.randomseed(seed)
    return seed
end

describe("a Redis client", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    --- The number of commands that the server counted, and the number of its reads.
    local function counts()
        local info <const> = r:info "all"
        return tonumber(info:match "total_commands_processed:(%d+)"), tonumber(info:match "total_reads_processed:(%d+)")
    end

    describe("shared by tasks", function()
        it("sends the commands of one turn of the loop in one write", function()
            local _, reads_before = counts()
            local fns = {}
            for i = 1, 100 do
                fns[i] = function() return r:set("k" .. i, i) end
            end
            task.all(fns)
            local _, reads_after = counts()
            assert.is_true(reads_after - reads_before <= 3, ("%d reads"):format(reads_after - reads_before))
        end)

        it("uses one connection", function()
            local fns = {}
            for i = 1, 100 do
                fns[i] = function() r:incr "n" end
            end
            task.all(fns)
            assert.equal("100", r:get "n")
            assert.equal(1, r:stats().open)
        end)

        it("gives every task its own reply", function()
            local fns = {}
            for i = 1, 50 do
                fns[i] = function()
                    for j = 1, 100 do
                        local value <const> = i .. ":" .. j
                        r:set("k" .. i, value)
                        assert(r:get("k" .. i) == value)
                    end
                end
            end
            task.all(fns)
        end)

        it("an error reply reaches only the task that caused it", function()
            r:set("k", "text")
            local got <const> = task.all {
                function() return r:get "k" end,
                function() return errors.is(select(2, pcall(r.incr, r, "k")), "redis") end,
                function() return r:get "k" end,
            }
            assert.same({ "text", true, "text", n = 3 }, got)
        end)
    end)

    describe("with commands that are cancelled", function()
        it("a deadline that passes is an error of kind timeout, and later replies stay right", function()
            local quick <const> = r:with { timeout = 0.05 }
            r:set("k", "right")
            local started <const> = task.now()
            server:freeze()
            local _ <close> = setmetatable({}, { __close = function() server:thaw() end })
            local e <const> = fails("timeout", quick.get, quick, "other")
            assert.is_true(task.now() - started < 10)
            server:thaw()
            assert.equal("unknown", e.outcome)
            assert.equal("right", r:get "k")
        end)

        it("a command that was never sent says so", function()
            local stuck <const> = redis.pool { url = server.url, max_connections = 1 }
            local one <const> = redis.client { pool = stuck, command_timeout = 0.1 }
            local holder <close> = one:acquire()
            local e <const> = fails("timeout", one.get, one, "k")
            assert.equal("not_sent", e.outcome)
            assert.is_true(e.retryable)
            holder:close()
            assert.is_nil(one:get "k")
            one:close()
            stuck:close()
        end)

        it("task.timeout ends a command", function()
            r:ping()
            server:freeze()
            local _ <close> = setmetatable({}, { __close = function() server:thaw() end })
            local e <const> = fails("timeout", task.timeout, 0.05, r.get, r, "k")
            assert.matches("task.timeout", e.message)
            server:thaw()
            assert.equal("PONG", r:ping())
        end)

        it("no reply ever reaches another command, however they are cancelled", function()
            local seed <const> = seed_of_run()
            local commands, cancelled, wrong = 0, 0, 0
            local fns = {}
            for i = 1, 40 do
                fns[i] = function()
                    for j = 1, 120 do
                        local nonce <const> = ("%d:%d:%d"):format(seed, i, j) .. ("x"):rep(math.random(0, 300))
                        local t <const> = task.spawn(function()
                            return r:echo(nonce)
                        end)
                        local dice <const> = math.random(4)
                        if dice == 1 then
                            t:cancel()
                        elseif dice == 2 then
                            task.sleep(math.random() * 0.002)
                            t:cancel()
                        end
                        local ok, reply = pcall(t.join, t)
                        commands = commands + 1
                        if not ok then
                            cancelled = cancelled + 1
                        elseif reply ~= nonce then
                            wrong = wrong + 1
                        end
                    end
                end
            end
            task.all(fns)
            assert.equal(0, wrong, "DBRUN_TEST_SEED=" .. seed)
            assert.equal(4800, commands)
            assert.is_true(cancelled > 500, cancelled .. " cancelled")
            assert.equal(0, r:stats().in_flight)
            assert.equal("PONG", r:ping())
        end)
    end)

    describe("pipeline", function()
        it("gives the replies in order, errors as values", function()
            local replies <const> = r:pipeline(function(p)
                p:set("a", 1)
                p:incr "a"
                p:lpush("a", "x")
                p:hset("h", { f = "v" })
                p:hgetall "h"
                p:get "nothing"
            end)
            assert.equal("OK", replies[1])
            assert.equal(2, replies[2])
            assert.is_true(errors.is(replies[3], "redis"))
            assert.equal("WRONGTYPE", replies[3].code)
            assert.same({ f = "v" }, replies[5])
            assert.is_nil(replies[6])
        end)

        it("execute{raise=true} raises the first error", function()
            local p <const> = r:pipeline()
            p:set("a", "text")
            p:incr "a"
            local e <const> = fails("redis", p.execute, p, { raise = true })
            assert.equal("ERR", e.code)
        end)

        it("can be executed several times", function()
            local last <const> = r:pipeline(function(p)
                p:set("a", 1)
                assert.same({ "OK" }, p:execute())
                p:get "a"
            end)
            assert.same({ "1" }, last)
        end)

        it("of nothing is an empty list", function()
            assert.same({}, r:pipeline(function() end))
        end)

        it("of 20,000 commands is one write", function()
            local replies <const> = r:pipeline(function(p)
                for i = 1, 20000 do
                    p:set("k" .. i, i)
                end
            end)
            assert.equal(20000, #replies)
            assert.equal("OK", replies[20000])
            assert.equal(20000, r:dbsize())
        end)

        it("refuses what would block or change the connection", function()
            fails("usage", r.pipeline, r, function(p) p:blpop("l", 1) end)
            fails("usage", r.pipeline, r, function(p) p:subscribe "c" end)
            fails("usage", r.pipeline, r, function(p) p:set("k", nil) end)
        end)

        it("cannot be used by two tasks at once", function()
            local p <const> = r:pipeline()
            p:call("DEBUG", "SLEEP", 0.05)
            task.all {
                function() p:execute() end,
                function()
                    task.sleep(0) -- it has been sent then
                    fails("usage", p.execute, p)
                end,
            }
        end)
    end)

    describe("multi", function()
        it("runs as one and gives the replies", function()
            assert.same({ 1, 2, 1, { f = "v" } }, r:multi(function(tx)
                tx:incr "n"
                tx:incr "n"
                tx:hset("h", "f", "v")
                tx:hgetall "h"
            end))
        end)

        it("with a command that the server refuses runs nothing", function()
            local e <const> = fails("redis", r.multi, r, function(tx)
                tx:set("k", 1)
                tx:call "GET"
            end)
            assert.equal("EXECABORT", e.code)
            assert.matches("wrong number of arguments", e.detail)
            assert.equal(0, r:exists "k")
        end)

        it("with errors at run time gives them as values", function()
            r:set("k", "text")
            local replies <const> = r:multi(function(tx)
                tx:incr "k"
                tx:set("l", 1)
            end)
            assert.is_true(errors.is(replies[1], "redis"))
            assert.equal("OK", replies[2])
        end)

        it("that raises sends nothing", function()
            assert.has_error(function()
                r:multi(function(tx)
                    tx:set("k", 1)
                    error "no"
                end)
            end)
            assert.equal(0, r:exists "k")
        end)

        it("with watch runs again when a key changed", function()
            r:set("n", 1)
            local runs = 0
            local replies <const> = r:multi({ watch = "n", retry = 3 }, function(tx, connection)
                runs = runs + 1
                local n <const> = tonumber(connection:get "n")
                if runs <= 2 then
                    r:incr "n"
                end
                tx:set("n", n * 10)
            end)
            assert.same({ "OK" }, replies)
            assert.equal(3, runs)
            assert.equal("30", r:get "n")
        end)

        it("with watch gives up after its retries", function()
            local e <const> = fails("redis", r.multi, r, { watch = { "n" } }, function(tx)
                r:incr "n"
                tx:set("n", 0)
            end)
            assert.equal("WATCH", e.code)
            assert.is_true(e.retryable)
            assert.equal("1", r:get "n")
        end)

        it("leaves no WATCH on the connection when it fails", function()
            pcall(r.multi, r, { watch = "n" }, function() error "no" end)
            local s <const> = r:stats()
            assert.same({ idle = 0, leased = 1 }, { idle = s.idle, leased = s.leased }) -- the shared connection
            assert.same({ "OK" }, r:multi(function(tx) tx:set("n", 1) end))
        end)
    end)

    describe("with commands that block", function()
        it("runs them on a dedicated connection", function()
            local got
            task.all {
                function() got = r:blpop("q", 5) end,
                function()
                    task.sleep(0.05)
                    assert.equal("PONG", r:ping()) -- not delayed
                    r:rpush("q", "job")
                end,
            }
            assert.same({ "q", "job" }, got)
            local s <const> = r:stats()
            assert.equal(2, s.open)
            assert.equal(1, s.idle)
        end)

        it("waits for their own timeout, and no longer", function()
            local started <const> = task.now()
            assert.is_nil(r:blpop("q", 0.2))
            assert.is_nil(r:xread("BLOCK", 200, "STREAMS", "s", "$"))
            assert.is_nil(r:call("BLMOVE", "q", "p", "LEFT", "LEFT", 0.2))
            local took <const> = task.now() - started
            assert.is_true(took >= 0.55 and took < 10, took .. " s")
        end)

        it("does not apply the deadline of ordinary commands to them", function()
            local quick <const> = r:with { timeout = 1 } -- also what comes on top: the server looks ten times a second
            quick:ping()
            assert.is_nil(quick:blpop("q", 1.5))
        end)

        it("can be cancelled, and the connection is not used again", function()
            fails("timeout", task.timeout, 0.05, r.blpop, r, "q", 0)
            assert.is_true(redis_server.wait_until(10, function() return r:stats().open == 1 end))
            assert.is_true(redis_server.wait_until(10, function() -- the server has seen that its client is gone
                return not r:client("list"):find("cmd=blpop", 1, true)
            end))
            r:rpush("q", "job")
            assert.equal("job", r:lpop "q")
        end)

        it("takes no element when it is abandoned on a dedicated connection", function()
            local c <close> = r:acquire()
            fails("timeout", task.timeout, 0.05, c.blpop, c, "q", 0)
            assert.is_true(redis_server.wait_until(5, function()
                return not r:client("list"):find("cmd=blpop", 1, true)
            end))
            r:rpush("q", "job")
            assert.equal("job", r:lpop "q")
            local e <const> = fails("connect", c.ping, c)
            assert.equal("not_sent", e.outcome)
            assert.matches("a command that blocks was given up", e.detail)
        end)

        it("wait is about the connection that wrote", function()
            local hint <const> = fails("usage", r.wait, r, 0, 100).hint
            assert.matches("^r:with{wait = {replicas = n}}", hint)
            assert.matches("its own connection", hint)
            local c <close> = r:acquire()
            c:set("k", "v")
            assert.equal(0, c:wait(0, 100))
        end)
    end)

    describe("with features beyond commands", function()
        it("scans keys, hashes, sets and sorted sets", function()
            local fields, keys = {}, 0
            for i = 1, 500 do
                fields["f" .. i] = i
                r:set("key:" .. i, i)
            end
            r:hset("h", fields)
            r:sadd("s", "a", "b")
            r:zadd("z", 1.5, "a")
            local seen = {}
            for key in r:scan { match = "key:*", count = 50 } do
                seen[key] = true
            end
            for _ in pairs(seen) do
                keys = keys + 1
            end
            assert.equal(500, keys)
            local sum = 0
            for _, value in r:hscan "h" do
                sum = sum + tonumber(value)
            end
            assert.equal(125250, sum)
            local members = {}
            for member in r:sscan "s" do
                members[#members + 1] = member
            end
            table.sort(members)
            assert.same({ "a", "b" }, members)
            for member, score in r:zscan "z" do
                assert.equal("a", member)
                assert.equal(1.5, score)
            end
        end)

        it("runs scripts, also after the server has lost them", function()
            local add <const> = r:script "return redis.call('incrby', KEYS[1], ARGV[1])"
            assert.equal(5, add({ "n" }, { 5 }))
            assert.equal(7, add({ "n" }, { 2 }))
            r:call("SCRIPT", "FLUSH")
            assert.equal(8, add({ "n" }, { 1 }))
            assert.equal("ERR", fails("redis", r:script "return redis.call('nonsense')").code)
        end)

        it("locks", function()
            do
                local lock <close> = r:lock("job", { ttl = 5 })
                fails("timeout", r.lock, r, "job", { wait = 0.05 })
                assert.is_true(lock:extend(10))
                assert.is_true(r:pttl "job" > 5000)
            end
            assert.equal(0, r:exists "job")
            local lock <const> = r:lock("job", { ttl = 0.03 })
            task.sleep(0.05)
            local other <close> = r:lock("job")
            assert.is_false(lock:release()) -- another client holds it now
            assert.equal(1, r:exists "job")
            assert.is_not_nil(other)
        end)
    end)
end)
