-- A server that freezes repeatedly, with short time limits, bounded queues, locks, clients that are closed and
-- connections that are cut, at random moments. DBRUN_TEST_SECONDS sets the duration.
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local SECONDS <const> = tonumber(os.getenv "DBRUN_TEST_SECONDS") or 2
local TASKS <const> = 40
local KIB <const> = 1024

--- The results that the tasks got: for each value "OK", an outcome, or "maybe".
local function new_log()
    return { told = {}, values = 0, crossed = 0 }
end

local function new_value(log, most)
    log.values = log.values + 1
    local value <const> = ("%d:%s"):format(log.values, ("x"):rep(math.random(most)))
    log.told[value] = "maybe"
    return value
end

local function note(log, values, ok, e)
    local outcome = "OK"
    if not ok then
        assert(errors.is(e), e)
        assert(e.kind and e.message ~= "", "an error without a kind")
        outcome = e.outcome or "maybe" -- cancelled
    end
    for _, value in ipairs(values) do
        log.told[value] = outcome
    end
end

--- The work of a task, with a client and the log.
local KINDS <const> = {
    function(c, log)
        local value <const> = new_value(log, math.random(3) == 1 and 60 * KIB or 10)
        note(log, { value }, pcall(c.rpush, c, "list", value))
    end,
    function(c, log)
        local nonce <const> = tostring(math.random(1 << 40))
        local ok <const>, got <const> = pcall(c.echo, c, nonce)
        log.crossed = log.crossed + (ok and got ~= nonce and 1 or 0)
    end,
    function(c, log)
        local p <const> = c:pipeline()
        local values <const> = {}
        for i = 1, math.random(5) do
            values[i] = new_value(log, 20 * KIB)
            p:rpush("list", values[i])
        end
        note(log, values, pcall(p.execute, p))
    end,
    function(c)
        pcall(function()
            local _ <close> = c:lock("lock:" .. math.random(20), { ttl = 600, wait = math.random(0, 1) })
            task.sleep(math.random() * 0.01)
        end)
    end,
}

describe("a server that freezes at any moment", function()
    local server, proxy, admin
    setup(function()
        server = redis_server.start { tcp = true, tls = true }
        proxy = fake.proxy { to = "unix:" .. server.socket }
        admin = redis.client { url = server.url }
    end)
    teardown(function()
        server:thaw()
        admin:close()
        proxy:close()
        server:stop()
    end)

    local OPTIONS <const> = {
        ["a unix socket"] = function() return { url = server.url } end,
        ["TLS"] = function() return server.tls end,
        ["connections that are cut"] = function() return { url = "unix://" .. proxy.path } end,
    }

    local function new_client(how)
        local opts <const> = OPTIONS[how]()
        opts.max_queued = 256 * KIB
        local pool <const> = redis.pool(opts)
        return redis.client { pool = pool, command_timeout = 5 }, pool
    end

    --- Freezes the server and does something else to it or to the client, until `stop`.
    local function disturb(how, world, stop)
        while task.now() < stop do
            task.sleep(math.random() * 0.2)
            server:freeze()
            task.sleep(math.random() * 0.4)
            if world.closes and math.random(3) == 1 then
                local old <const> = world.client
                world.client, world.pool = new_client(how)
                old:close()
            elseif math.random(5) == 1 then
                world.pool:invalidate()
            end
            server:thaw()
            if how == "connections that are cut" then
                proxy:cut(math.random(2) == 1 and "up" or "down", math.random(0, 100 * KIB))
            end
        end
    end

    local function work(world, log, stop)
        while task.now() < stop do
            local c <const> = world.client
            local limited <const> = math.random(2) == 1 and not c:closed() and c:with { timeout = math.random() * 0.3 }
            local kind <const> = KINDS[math.random(#KINDS)]
            if math.random(3) == 1 then
                pcall(task.timeout, math.random() * 0.1, kind, limited or c, log)
            else
                kind(limited or c, log)
            end
            if math.random(10) == 1 then
                task.sleep(math.random() * 0.02)
            end
        end
    end

    --- Finds differences between the server's data and the reported outcomes.
    local function lies(log, closes)
        local times, list = {}, {}
        for _, value in ipairs(admin:lrange("list", 0, -1)) do
            times[value] = (times[value] or 0) + 1
            if not log.told[value] then list[#list + 1] = "foreign: " .. value:sub(1, 40) end
        end
        for value, outcome in pairs(log.told) do
            local n <const> = times[value] or 0
            if n > 1 or (outcome == "OK" and n == 0) or (outcome == "not_sent" and n > 0) then
                list[#list + 1] = ("%s, %d times: %s"):format(outcome, n, value:sub(1, 10))
            end
        end
        for key in admin:scan { match = "lock:*" } do
            if not closes then list[#list + 1] = key .. " is held, and no task holds it" end
        end
        return table.concat(list, "\n")
    end

    --- With `closes` clients are closed sometimes: their locks can remain until the ttl.
    local function check(how, closes)
        local number <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
        math.randomseed(number)
        local seed <const> = "DBRUN_TEST_SEED=" .. number
        local log <const>, world <const>, stop <const> = new_log(), { closes = closes }, task.now() + SECONDS
        admin:flushall()
        world.client, world.pool = new_client(how)
        do
            local g <close> = task.group()
            for _ = 1, TASKS do
                g:spawn(work, world, log, stop)
            end
            g:spawn(disturb, how, world, stop)
            g:wait()
        end
        -- Abandoned commands can still be in flight.
        local r <const> = world.client
        assert.is_true(redis_server.wait_until(10, function()
            return r:stats().in_flight == 0 and r:stats().queued_bytes == 0
        end), seed)
        assert.is_true(redis_server.wait_until(10, function() return lies(log, closes) == "" end),
            seed .. "\n" .. lies(log, closes))
        assert.equal(0, log.crossed, seed)
        assert.is_true(log.values > 100, seed)
        r:close()
    end

    for how in pairs(OPTIONS) do
        it("reports the true outcome of each command: " .. how, function() check(how, false) end)

        it("reports true outcomes, also when clients are closed: " .. how, function() check(how, true) end)
    end
end)
