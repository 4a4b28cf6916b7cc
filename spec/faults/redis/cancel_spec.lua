-- Commands in flight on a shared connection whose callers give up, behind a proxy that delays replies: no command may
-- get the reply of another.
local fake = require "spec.support.fake"
local faults = require "spec.support.faults.rounds"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local CANCELLED <const> = faults.count * 1000
local TASKS <const> = 200

describe("Commands that are cancelled on a shared connection", function()
    local server, proxy, r

    setup(function()
        server = redis_server.start()
        proxy = fake.proxy { to = "unix:" .. server.socket }
        r = redis.client { url = "unix://" .. proxy.path, command_timeout = 30 }
    end)
    teardown(function()
        r:close()
        proxy:close()
        server:stop()
    end)

    --- Each sends a unique nonce, and returns replies that do not have it.
    local kinds <const> = {
        function(nonce) return r:echo(nonce), nonce end,
        function(nonce) return r:eval("return ARGV[1]", 0, nonce), nonce end,
        function(nonce) return r:mget("nothing", nonce).n == 2 and r:echo(nonce), nonce end,
        function(nonce)
            local long <const> = nonce .. ("x"):rep(math.random(3000))
            return r:echo(long), long
        end,
        function(nonce)
            local ok <const>, e <const> = pcall(r.call, r, "NOSUCH", nonce)
            if not ok and (e.kind ~= "redis" or not e.message:find(nonce, 1, true)) then
                error(e, 0)
            end
            return ok, false
        end,
        function(nonce)
            local replies <const> = r:pipeline(function(p)
                for i = 1, 3 do
                    p:echo(nonce .. "/" .. i)
                end
                p:get(nonce)
            end)
            local want <const> = ("%s/1 %s/2 %s/3 nil"):format(nonce, nonce, nonce)
            return ("%s %s"):format(table.concat(replies, " ", 1, 3), replies[4]), want
        end,
        function(nonce)
            local replies <const> = r:multi(function(tx)
                tx:incr(nonce)
                tx:del(nonce)
                tx:echo(nonce)
            end)
            return replies[3], nonce
        end,
    }

    it("leave the others their own replies", function()
        math.randomseed(faults.seed, 30)
        print(("# DBRUN_TEST_SEED=%d, %d cancelled"):format(faults.seed, CANCELLED))
        local cancelled, answered, crossed, nonce = 0, 0, {}, 0

        local function one()
            nonce = nonce + 1
            local got <const>, own <const> = kinds[math.random(#kinds)](("n%d."):format(nonce))
            answered = answered + 1
            if got ~= own then
                crossed[#crossed + 1] = ("%s instead of %s"):format(tostring(got), tostring(own))
            end
        end

        --- Gives up after a random time: by a time limit, or by cancelling its task.
        local function given_up()
            local seconds <const> = math.random() * 0.004
            local ok, e
            if math.random(2) == 1 then
                ok, e = pcall(task.timeout, seconds, one)
            else
                local t <const> = task.spawn(one)
                task.sleep(seconds)
                t:cancel()
                ok, e = pcall(t.join, t)
            end
            if not ok then
                cancelled = cancelled + 1
                if e.kind ~= "timeout" and e.kind ~= "cancelled" then
                    error(e, 0)
                end
            end
        end

        local g <close> = task.group()
        local stop = false
        local weather <const> = task.spawn(function()
            while not stop do
                proxy:delay(math.random(2) == 1 and "up" or "down", math.random(0, 5) / 1000)
                task.sleep(math.random() * 0.05)
            end
        end)
        for _ = 1, TASKS do
            g:spawn(function()
                while cancelled < CANCELLED do
                    if math.random(10) == 1 then
                        one()
                    else
                        given_up()
                    end
                end
            end)
        end
        g:wait()
        stop = true
        weather:join()
        proxy:delay("up", 0)
        proxy:delay("down", 0)
        print(("# %d cancelled, %d answered"):format(cancelled, answered))
        assert.equal("", table.concat(crossed, "\n"))
        assert.is_true(answered > cancelled // 20)
        for i = 1, 100 do
            assert.equal("after" .. i, r:echo("after" .. i))
        end
        assert.equal(1, r:stats().open)
    end)
end)
