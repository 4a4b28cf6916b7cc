-- A cluster that changes under load: slots move, primaries die. Commands are answered or fail with their
-- outcome; none is run twice.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a Redis cluster", function()
    local cluster, r

    setup(function()
        cluster = redis_cluster.start()
    end)
    teardown(function()
        cluster:stop()
    end)
    before_each(function()
        r = redis.client { url = cluster.url, command_timeout = 10 }
    end)
    after_each(function()
        r:close()
    end)

    it("whose slots move loses no command and runs none twice", function()
        r:flushall()
        local slot <const> = r:call("CLUSTER", "KEYSLOT", "{m}")
        local owner
        for i = 1, 3 do
            if cluster.nodes[i]:cli("cluster", "nodes"):find "myself,master" then
                local text <const> = cluster.nodes[i]:cli("cluster", "getkeysinslot", tostring(slot), "1")
                r:set("{m}probe", 1)
                if cluster.nodes[i]:cli("cluster", "getkeysinslot", tostring(slot), "1") ~= text then
                    owner = i
                end
                r:del "{m}probe"
            end
        end
        assert.is_number(owner)
        local other <const> = owner % 3 + 1
        local stop, counts, pipelined, pairs_wrong = false, {}, 0, 0
        local g <close> = task.group()
        for i = 1, 20 do
            counts[i] = 0
            g:spawn(function()
                while not stop do
                    counts[i] = counts[i] + 1
                    assert.equal(counts[i], r:incr("{m}" .. i))
                end
            end)
        end
        g:spawn(function()
            while not stop do
                local replies <const> = r:pipeline(function(p)
                    p:incr "{m}p":incr "elsewhere":incr "{m}p"
                end)
                pipelined = pipelined + 2
                assert.equal(pipelined - 1, replies[1])
                assert.equal(pipelined, replies[3])
            end
        end)
        g:spawn(function()
            while not stop do
                r:mset { ["{m}x"] = "same", ["{m}y"] = "same" }
                local both <const> = r:mget("{m}x", "{m}y")
                pairs_wrong = pairs_wrong + (both[1] == "same" and both[2] == "same" and 0 or 1)
            end
        end)
        g:spawn(function()
            local n = 0
            while not stop do
                n = n + 1
                assert.equal(n, r:multi(function(tx) tx:incr "{m}tx" end)[1])
            end
        end)
        task.sleep(0.05)
        for _ = 1, 3 do
            cluster:migrate(slot, owner, other)
            task.sleep(0.05)
            cluster:migrate(slot, other, owner)
        end
        stop = true
        g:wait()
        for i = 1, 20 do
            assert.equal(tostring(counts[i]), r:get("{m}" .. i))
            assert.is_true(counts[i] > 10)
        end
        assert.equal(0, pairs_wrong)
        assert.is_true(r:stats().redirects > 0)
    end)

    describe("that has moved one of two keys of a slot", function()
        local SLOT <const> = core.redis.slot "{half}"
        local from, to

        before_each(function()
            r:mset { ["{half}a"] = 0, ["{half}b"] = 0 }
            for i = 1, 3 do
                from = cluster.nodes[i]:cli("cluster", "getkeysinslot", tostring(SLOT), "1"):find "half" and i or from
            end
            to = from % 3 + 1
            cluster:open_slot(SLOT, from, to)
            cluster:move(from, to, "{half}b")
        end)
        after_each(function()
            cluster:migrate(SLOT, from, to)
        end)

        it("runs no command of a pipeline after a later one with the same key", function()
            local replies <const> = r:pipeline(function(p)
                p:mset { ["{half}a"] = 1, ["{half}b"] = 1 }
                p:mget("{half}b", "{half}a")
                p:set("{half}a", 2)
                p:incr "{half}b"
                p:set("{half}new", 1)
            end)
            assert.same({ "OK", 1, "OK" }, table.move(replies, 3, 5, 1, {}))
            for i = 1, 2 do
                assert.same({ "TRYAGAIN", "failed", false },
                    { replies[i].code, replies[i].outcome, replies[i].retryable })
                assert.matches("a later SET of this pipeline has run, or may have, with the same key '{half}a'",
                    replies[i].hint, 1, true)
            end
            assert.equal("2", r:get "{half}a")
        end)

        it("lets a worker read a stream that is at its new node already", function()
            local got <const> = task.queue()
            local worker <const> = task.spawn(r.consume, r, {
                stream = "{half}s", group = "g", consumer = "c", handle = function(m) got:push(m.fields.n) end,
            })
            for n = 1, 3 do
                r:xadd("{half}s", "*", "n", n)
                assert.equal(tostring(n), got:pop(10))
            end
            worker:cancel()
            pcall(worker.join, worker)
        end)

        it("says of a transaction with watched keys what it waited for", function()
            local _, e
            repeat -- the last attempt may have had too little time
                _, e = pcall(r.multi, r:with { timeout = 0.3 }, { watch = "{half}b" }, function() end)
            until e.kind ~= "timeout"
            assert.same({ "ASK", "failed", true }, { e.code, e.outcome, e.retryable })
            assert.matches("the slot of the key was migrating", e.hint)
        end)

        it("holds a command back while an earlier one with its key waits", function()
            local replies
            local g <close> = task.group()
            g:spawn(function()
                replies = r:pipeline(function(p)
                    p:mset { ["{half}a"] = 1, ["{half}b"] = 1 }
                    for _ = 1, 40 do
                        p:incr "{half}b":mget("{half}b", "{half}a")
                    end
                    p:get "elsewhere"
                end)
            end)
            task.sleep(0.1)
            assert.is_nil(replies)
            cluster:migrate(SLOT, from, to)
            g:wait()
            assert.equal("OK", replies[1])
            for i = 1, 40 do
                assert.same({ i + 1, { tostring(i + 1), "1" } }, { replies[2 * i], replies[2 * i + 1] })
            end
        end)
    end)

    it("whose sharded channel moves keeps its subscription, and tells the gap", function()
        local slot <const> = r:call("CLUSTER", "KEYSLOT", "moving")
        local owner
        for i = 1, 3 do
            if cluster.nodes[i]:cli("spublish", "moving", "x"):find "^%d" then
                owner = i
            end
        end
        local s <close> = r:ssubscribe "moving"
        local next_one <const> = s:messages()
        r:spublish("moving", "before")
        assert.equal("before", next_one().payload)
        cluster:migrate(slot, owner, owner % 3 + 1)
        assert.equal("gap", next_one().kind)
        -- SETSLOT at a node that has the slot already also ends its subscriptions: there can be another gap.
        local stop = false
        local publisher <const> = task.spawn(function()
            while not stop do
                r:spublish("moving", "after")
                task.sleep(0.02)
            end
        end)
        local message
        task.timeout(20, function()
            repeat
                message = next_one()
            until message.kind ~= "gap"
        end)
        stop = true
        publisher:join()
        assert.equal("after", message.payload)
        cluster:migrate(slot, owner % 3 + 1, owner)
        local client <close> = redis.client { host = "127.0.0.1", port = cluster.nodes[owner].port }
        local own <close> = client:ssubscribe "moving"
        cluster:migrate(slot, owner, owner % 3 + 1)
        local ok <const>, e <const> = pcall(own:messages()) -- a client of one node cannot follow
        assert.is_false(ok)
        assert.equal("MOVED", e.code)
        cluster:migrate(slot, owner % 3 + 1, owner)
        local late <close> = r:ssubscribe "moving" -- MOVED
        assert.is_function(late:messages())
    end)

    it("whose primary is killed goes on with its replica, and no command is run twice", function()
        assert.is_true(redis_server.wait_until(10, function() return cluster:is_whole() end))
        local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        local tag <const> = "run" .. seed
        local stop, done, unknown, failed, twice, late = false, 0, 0, 0, 0, 0
        local killed_at
        local g <close> = task.group()
        for i = 1, 20 do
            g:spawn(function()
                local n = 0
                while not stop do
                    n = n + 1
                    -- A key for each command: INCR gives 1 when the command runs once.
                    local ok, reply = pcall(r.incr, r, ("%s:%d:%d"):format(tag, i, n))
                    if ok then
                        done = done + 1
                        twice = twice + (reply == 1 and 0 or 1)
                        late = late + (killed_at and task.now() > killed_at + 3 and 1 or 0)
                    elseif errors.is(reply) and reply.outcome == "unknown" then
                        unknown = unknown + 1
                    else
                        failed = failed + 1
                        assert(errors.is(reply) and reply.outcome, tostring(reply))
                    end
                    if n % 50 == 0 then
                        task.sleep(0.001)
                    end
                end
            end)
        end
        local worst <const> = pace.ticking(function()
            task.sleep(0.1)
            killed_at = task.now()
            cluster.nodes[1]:kill()
            assert.is_true(redis_server.wait_until(15, function()
                return cluster.nodes[4]:cli("role"):find "^master"
            end))
            redis_server.wait_until(20, function() return late > 100 end)
            stop = true
            g:wait()
        end)
        assert.equal(0, twice)
        assert.is_true(late > 100, late .. " after the failover")
        assert.equal(0, failed, "commands that were not sent wait for the failover")
        assert.is_true(unknown <= 20 * 3, unknown .. " unknown")
        assert.is_true(worst < 0.5, worst .. " s")
        for _, key in ipairs(r:keys(tag .. "*")) do
            twice = twice + (r:get(key) == "1" and 0 or 1)
        end
        assert.equal(0, twice)
        cluster.nodes[1]:restart()
        assert.is_true(redis_server.wait_until(10, function()
            return cluster.nodes[1]:cli("role"):find "^slave" and cluster:is_whole()
        end))
        assert.equal("OK", r:set("after", 1))
    end)
end)
