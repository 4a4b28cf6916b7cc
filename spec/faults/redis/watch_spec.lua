-- A transaction whose connection is lost: before EXEC nothing of it has run, and it can run again.
local errors = require "dbrun.error"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a transaction with watched keys", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    local function kill()
        server:cli("client", "kill", "type", "normal")
    end

    --- A body whose connection is killed in its first `times` runs.
    local function body(times, with)
        local runs = 0
        return function(tx, connection)
            runs = runs + 1
            if runs <= times then
                with(connection, tx)
            end
            tx:incr "n"
        end, function() return runs end
    end

    local LOST <const> = {
        ["while the loop runs"] = function(connection)
            kill()
            redis_server.wait_until(5, function() return connection:lost() end)
        end,
        ["and nobody has looked"] = function()
            local stop <const> = task.now() + 0.05
            os.execute(("redis-cli -s %s client kill type normal >/dev/null"):format(server.socket))
            repeat until task.now() > stop -- the loop does not turn
        end,
        ["in a command that reads"] = function(connection)
            os.execute(("redis-cli -s %s client kill type normal >/dev/null"):format(server.socket))
            connection:get "n"
        end,
        ["before a command that writes"] = function(connection)
            kill()
            redis_server.wait_until(5, function() return connection:lost() end)
            connection:set("other", 1)
        end,
    }

    for when, with in pairs(LOST) do
        it("fails as not sent when its connection is lost " .. when, function()
            local fn <const>, runs <const> = body(1, with)
            local ok, e = pcall(r.multi, r, { watch = "n" }, fn)
            assert.is_false(ok)
            assert.same({ "connect", "not_sent", true }, { e.kind, e.outcome, e.retryable }, tostring(e))
            assert.equal(1, runs())
            assert.is_nil(r:get "n")
        end)

        it("runs again with retry= when its connection is lost " .. when, function()
            local fn <const>, runs <const> = body(2, with)
            assert.same({ 1 }, r:multi({ watch = "n", retry = 2 }, fn))
            assert.equal(3, runs())
            assert.equal("1", r:get "n")
            assert.equal(1, r:stats().leased) -- the shared connection
        end)
    end

    it("gives up after its retries", function()
        local fn <const>, runs <const> = body(9, LOST["while the loop runs"])
        local ok, e = pcall(r.multi, r, { watch = "n", retry = 2 }, fn)
        assert.is_false(ok)
        assert.same({ "connect", "not_sent", true }, { e.kind, e.outcome, e.retryable })
        assert.equal(3, runs())
    end)

    it("waits for the server to restart", function()
        local fn <const>, runs <const> = body(1, function() server:restart() end)
        assert.same({ 1 }, r:multi({ watch = "n", retry = 1 }, fn))
        assert.equal(2, runs())
    end)

    it("has an unknown outcome when EXEC was in flight, and does not run again", function()
        local fn <const>, runs <const> = body(1, function(_, tx)
            tx:call("DEBUG", "SLEEP", 30) -- the server is killed before
            task.spawn(function()
                task.sleep(0.1)
                server.child:kill "KILL"
            end)
        end)
        local ok, e = pcall(r.multi, r, { watch = "n", retry = 5 }, fn)
        server:restart()
        assert.is_false(ok)
        assert.same({ "connect", "unknown" }, { e.kind, e.outcome }, tostring(e))
        assert.equal(1, runs())
    end)

    it("does not run again after one of its own commands that may have written", function()
        local fn <const>, runs <const> = body(1, function(connection)
            task.spawn(function()
                task.sleep(0.1)
                server.child:kill "KILL"
            end)
            connection:call("EVAL", "while true do end", 0)
        end)
        local ok, e = pcall(r.multi, r, { watch = "n", retry = 5 }, fn)
        server:restart()
        assert.is_false(ok)
        assert.same({ "connect", "unknown" }, { e.kind, e.outcome }, tostring(e))
        assert.equal(1, runs())
    end)

    it("raises its body's error once", function()
        local runs = 0
        local ok, e = pcall(r.multi, r, { watch = "n", retry = 5 }, function()
            runs = runs + 1
            error("mine", 0)
        end)
        assert.is_false(ok)
        assert.equal("mine", e)
        assert.equal(1, runs)
    end)

    it("does not send a lost connection's pipeline elsewhere", function()
        local connection <close> = r:acquire()
        local p <const> = connection:batch(false)
        p:incr "n"
        kill()
        assert.is_true(redis_server.wait_until(5, function() return connection:lost() end))
        local ok, e = pcall(p.send, p)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "connect"))
        assert.same({ "not_sent", true }, { e.outcome, e.retryable })
        local other <close> = redis.client { url = server.url }
        assert.is_nil(other:get "n")
    end)
end)
