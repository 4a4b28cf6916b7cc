-- A client that finds its master through sentinels, and what it does when the master changes.
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local redis_sentinels = require "spec.support.redis_sentinels"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

describe("a Redis client of sentinels", function()
    local set, r

    setup(function()
        set = redis_sentinels.start { password = "s3cret", sentinel_password = "0ther" }
    end)
    teardown(function()
        set:stop()
    end)
    before_each(function()
        r = redis.client { url = set.url }
    end)
    after_each(function()
        r:close()
    end)

    local function index_of_master()
        return set:master_port() == set.servers[1].port and 1 or 2
    end

    --- Waits until master and replica are connected again, and the sentinel that runs the next failover knows it: it
    --- asks a replica every ten seconds, and promotes none that had no master then.
    local function settle()
        assert.is_true(redis_server.wait_until(60, function()
            local m <const> = index_of_master()
            local replica <const> = set:sentinel_cli(1, "sentinel", "replicas", "main")
            return set:cli(m, "info", "replication"):find "connected_slaves:1"
                and set:cli(3 - m, "info", "replication"):find "master_link_status:up"
                and set:sentinel_cli(1, "sentinel", "master", "main"):find "flags\nmaster\n"
                and replica:find "flags\nslave\n" and replica:find "master%-link%-status\nok\n"
        end), "the replica has not reconnected to its master")
    end

    it("finds the master", function()
        assert.equal("OK", r:set("k", "v"))
        assert.equal("v", r:get "k")
        assert.equal("master", r:role()[1])
        assert.matches("main", tostring(r))
    end)

    ---Sentinels count a master as down when it answers PING with BUSY, or closes their connections, which they reopen
    ---only after a second.
    local function take_for_down_after(milliseconds)
        for i = 1, 3 do
            assert.matches("OK", set:sentinel_cli(i, "sentinel", "set", "main", "down-after-milliseconds",
                milliseconds))
        end
    end

    it("kills its own script in another database", function()
        take_for_down_after "60000"
        finally(function() take_for_down_after "400" end)
        local c <close> = redis.client { url = (set.url:gsub("/main/0", "/main/3")), client_name = "me" }
        set:cli(index_of_master(), "config", "set", "busy-reply-threshold", "20")
        local running <const> = task.spawn(function()
            return select(2, pcall(c.eval, c, "while true do end", 0))
        end)
        assert.is_true(redis_server.wait_until(10, function()
            local ok, e = pcall(c.call, c, "SCRIPT", "KILL")
            assert.is_true(ok or e.code == "NOTBUSY", tostring(e))
            return ok
        end))
        assert.matches("Script killed", running:join().message)
        set:cli(index_of_master(), "config", "set", "busy-reply-threshold", "5000")
    end)

    it("asks the next one when a sentinel does not answer", function()
        local url <const> = set.url:gsub("@", "@127.0.0.1:1,")
        local c <const> = redis.client { url = url }
        assert.equal("PONG", c:ping())
        c:close()
    end)

    it("does not stay at a master that only one sentinel names", function()
        local other <const> = redis_server.start { tcp = true, args = { "--requirepass", "s3cret" } }
        local liar <const> = set:start_liar(other.port)
        take_for_down_after "60000"
        finally(function()
            take_for_down_after "400"
            other:stop()
        end)
        local c <close> = redis.client { url = (set.url:gsub("@", "@" .. liar .. ",")) }
        local function port() return math.tointeger(tonumber(c:config("get", "port").port)) end
        local function is_right()
            local ok <const>, at <const> = pcall(port)
            return ok and at == set:master_port()
        end
        assert.is_true(redis_server.wait_until(5, is_right))
        -- Nor does it go back there, although it asks the sentinel again.
        local m <const> = index_of_master()
        for _ = 1, 8 do
            set:cli(m, "client", "kill", "type", "normal")
            task.sleep(0.02)
            assert.is_true(redis_server.wait_until(5, is_right))
        end
        task.sleep(1.5)
        assert.is_true(is_right())
    end)

    it("names the unknown master, and the unreachable sentinels, without passwords", function()
        local c = redis.client { url = (set.url:gsub("/main", "/other")) }
        local e = fails("config", c.ping, c)
        assert.matches('"other"', e.message)
        c:close()
        c = redis.client { url = "redis+sentinel://:s3cret@127.0.0.1:1/main/0" }
        e = fails("connect", c.ping, c)
        assert.equal("not_sent", e.outcome)
        c:close()
        c = redis.client { url = (set.url:gsub("0ther", "wr0ng")) }
        e = fails("connect", c.ping, c)
        assert.not_matches("wr0ng", tostring(e))
        assert.not_matches("s3cret", tostring(e))
        c:close()
    end)

    it("runs blocking commands, transactions and subscriptions at the master", function()
        assert.is_nil(r:blpop("q", 0.02))
        assert.same({ "OK" }, r:multi(function(tx) tx:set("k", 1) end))
        local s <close> = r:subscribe "ch"
        r:publish("ch", "x")
        assert.equal("x", s:messages()().payload)
    end)

    it("leaves the old master as soon as the sentinels have another one, although it still accepts writes", function()
        settle()
        local old <const> = index_of_master()
        assert.equal("OK", r:set("k", "before"))
        local conn <close> = r:acquire() -- and the connections in the pool
        conn:close()
        assert.matches("OK", set:failover())
        assert.is_true(redis_server.wait_until(30, function()
            for i = 1, 3 do
                local port <const> = set:sentinel_cli(i, "sentinel", "get-master-addr-by-name", "main"):match "\n(%d+)"
                if tonumber(port) == set.servers[old].port then
                    return false
                end
            end
            return true
        end))
        task.sleep(0.2)
        assert.equal("OK", r:set("k", "after"))
        assert.is_nil(r:blpop("q", 0.01))
        assert.equal("after\n", set:cli(3 - old, "get", "k"))
        assert.equal("master", r:role()[1])
    end)

    it("whose master becomes a replica gets READONLY once, and then the new master", function()
        settle()
        local old <const> = index_of_master()
        r:ping()
        assert.matches("OK", set:failover())
        assert.is_true(redis_server.wait_until(30, function() return index_of_master() ~= old end))
        set:cli(old, "replicaof", "127.0.0.1", tostring(set.servers[3 - old].port))
        local ok, e = pcall(r.set, r, "k", "v")
        if not ok then -- otherwise its connection was closed, and it has found the new master already
            assert.is_true(errors.is(e))
            assert.is_true(e.code == "READONLY" and e.retryable and e.outcome == "failed" or e.outcome == "unknown",
                tostring(e))
        end
        assert.equal("OK", r:set("k", "v"))
        assert.equal("v\n", set:cli(3 - old, "get", "k"))
    end)

    it("leaves a master once, however often it replies READONLY", function()
        r:ping()
        local before <const> = r:stats().connects
        local g <close> = task.group()
        for _ = 1, 2 do -- the second reply comes on an abandoned connection
            g:spawn(fails, "redis", r.eval, r,
                "for i = 1, 5e6 do local _ = i end return redis.error_reply('READONLY so it says')", 0)
            task.sleep(0.01)
        end
        g:wait()
        for _ = 1, 3 do
            assert.equal("PONG", r:ping())
        end
        assert.equal(before + 1, r:stats().connects)
    end)

    it("whose master is killed goes on at the new one, and no command is run twice", function()
        settle()
        local tag <const> = "run" .. (tonumber(os.getenv "DBRUN_TEST_SEED") or os.time())
        local stop, done, unknown, failed, twice, late, killed_at = false, 0, 0, 0, 0, 0, nil
        local s <close> = r:subscribe "news"
        local g <close> = task.group()
        for i = 1, 20 do
            g:spawn(function()
                local n = 0
                while not stop do
                    n = n + 1
                    local ok, reply = pcall(r.incr, r, ("%s:%d:%d"):format(tag, i, n))
                    if ok then
                        done = done + 1
                        twice = twice + (reply == 1 and 0 or 1)
                        late = late + (killed_at and 1 or 0)
                    else
                        assert(errors.is(reply) and reply.outcome, tostring(reply))
                        unknown = unknown + (reply.outcome == "unknown" and 1 or 0)
                        failed = failed + (reply.outcome == "unknown" and 0 or 1)
                    end
                    task.sleep(0.002)
                end
            end)
        end
        task.sleep(0.1)
        local old <const> = index_of_master()
        set.servers[old]:kill()
        task.sleep(0.01)
        killed_at = task.now()
        assert.is_true(redis_server.wait_until(60, function() return late > 200 end), "no failover")
        stop = true
        g:wait()
        assert.equal(0, twice)
        assert.equal(0, failed, "commands that were not sent wait for the failover")
        assert.is_true(unknown <= 20, unknown .. " unknown")
        for _, key in ipairs(r:keys(tag .. "*")) do
            twice = twice + (r:get(key) == "1" and 0 or 1)
        end
        assert.equal(0, twice)
        assert.equal("gap", s:messages()().kind)
        r:publish("news", "back")
        assert.equal("back", s:messages()().payload)
        set.servers[old]:restart()
    end)
end)
