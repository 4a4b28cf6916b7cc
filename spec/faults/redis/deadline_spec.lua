-- No call takes longer than its own time limit: each kind of call, with each kind of server failure.
local bad_server = require "spec.support.bad_server"
local core = require "dbrun.core"
local deadlines = require "spec.support.deadlines"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local process = require "dbrun.process"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local support = require "spec.support.pg"
local task = require "dbrun.task"

local TRIES <const> = 4
local LATE <const> = 0.1 -- seconds over its limit; on an idle machine it is 0.002
local FAR <const> = 5 -- no try may take this long

--- A busy machine can delay a call: keeping the limit once is enough, but exceeding it by far is always wrong.
local function all_in_time(opts)
    local late
    for try = 1, TRIES do
        if opts.before then opts.before(try) end
        local seen <const> = deadlines.run(opts)
        if opts.after then opts.after() end
        late = {}
        for _, call in ipairs(seen) do
            assert.is_true(call.over < FAR, ("%s took %.3f s: %s"):format(call.name, call.took, tostring(call.error)))
            assert.is_true(call.error == nil or errors.is(call.error), tostring(call.error))
            if call.over > LATE then
                late[#late + 1] = ("%s: %.3f s over: %s"):format(call.name, call.over, tostring(call.error))
            end
        end
        if #late == 0 then
            return seen
        end
    end
    error(table.concat(late, "\n"), 2)
end

--- Checks that all calls failed before anything was sent.
local function check_not_sent(seen)
    for _, call in ipairs(seen) do
        local e <const> = call.error
        if e and call.name ~= "script kill" then
            assert.same({ call.name, "not_sent" }, { call.name, e.outcome }, tostring(e))
        end
    end
end

local BUSY <const> = "local t = redis.call('time')[1] + 4; repeat until redis.call('time')[1] + 0 >= t"

local function client_of(url, more)
    return function()
        local opts <const> = { url = url }
        for name, value in pairs(more or {}) do opts[name] = value end
        return redis.client(opts)
    end
end

describe("the time limit of a call", function()
    it("holds when no server listens", function()
        check_not_sent(all_in_time { make = client_of "redis://127.0.0.1:1" })
        check_not_sent(all_in_time { make = client_of "redis+cluster://127.0.0.1:1,127.0.0.1:2" })
        check_not_sent(all_in_time { make = client_of "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main" })
    end)

    it("holds when a server accepts and sends nothing", function()
        local mutes <const>, at <const> = {}, {}
        for i = 1, 3 do
            mutes[i] = fake.mute { tcp = true }
            at[i] = "127.0.0.1:" .. mutes[i].port
        end
        check_not_sent(all_in_time { make = client_of("redis://" .. at[1]) })
        check_not_sent(all_in_time { make = client_of("redis+cluster://" .. table.concat(at, ",")) })
        check_not_sent(all_in_time { make = client_of("redis+sentinel://" .. table.concat(at, ",") .. "/main") })
        for _, mute in ipairs(mutes) do mute:close() end
    end)

    it("holds when the server is loading, or is a replica without its primary", function()
        for _, text in ipairs { "LOADING Redis is loading the dataset", "MASTERDOWN Link with MASTER is down" } do
            local server <close> = bad_server.start(([[
                while (sysread($c, my $b, 65536)) {
                    my $n = () = $b =~ /^\*\d+\r$/mg;
                    print $c "-%s\r\n" x $n;
                }]]):format(text))
            all_in_time { make = client_of(server.url) }
        end
    end)
end)

describe("the time limit of a call to one server", function()
    local server, proxy
    setup(function()
        server = redis_server.start { tcp = true, args = { "--lua-time-limit", "50" } }
        proxy = fake.proxy { to = "unix:" .. server.socket }
    end)
    teardown(function()
        proxy:close()
        server:stop()
    end)
    local function empty()
        for _, words in ipairs { { "flushall" }, { "function", "flush" }, { "script", "flush" } } do
            server:cli(table.unpack(words))
        end
    end

    it("holds when it is frozen, and before a connection is open", function()
        for _, healthy in ipairs { true, false } do
            all_in_time {
                make = client_of(server.url), healthy = healthy, before = empty,
                trouble = function() server:freeze() end,
                after = function()
                    server:thaw()
                    task.sleep(0.3)
                end,
            }
        end
    end)

    -- Each step of a call is in time, but all of them together are not.
    for _, delay in ipairs { 0.1, 0.17, 0.25 } do
        it(("holds when each answer takes %g s"):format(delay), function()
            for _, healthy in ipairs { true, false } do
                all_in_time {
                    make = client_of("unix://" .. proxy.path), healthy = healthy,
                    before = function()
                        proxy:delay("down", 0)
                        task.sleep(0.3)
                        empty()
                    end,
                    trouble = function() proxy:delay("down", delay) end,
                }
            end
            proxy:delay("down", 0)
        end)
    end

    it("holds when it runs a long script", function()
        local busy
        all_in_time {
            make = client_of(server.url), healthy = true,
            before = empty,
            trouble = function()
                busy = task.spawn(function()
                    local r <close> = redis.client { url = server.url }
                    pcall(r.eval, r, BUSY, 0)
                end)
                task.sleep(0.2)
            end,
            after = function() busy:join() end,
        }
    end)

    it("holds when all connections are in use", function()
        local held
        local seen <const> = all_in_time {
            make = function()
                local r <const> = redis.client { url = server.url, max_connections = 1 }
                held[#held + 1] = r:acquire()
                return r
            end,
            before = function() held = {} end,
            after = function()
                for _, connection in ipairs(held) do connection:close() end
            end,
        }
        check_not_sent(seen)
    end)

end)

describe("the time limit of a command that needs COMMAND INFO first", function()
    it("holds for COMMAND INFO and the command together", function()
        local server <const> = redis_server.start { args = { "--rename-command", "GET", "MYGET" } }
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local code <const> = ([[
            local r = require "dbrun.redis".client { url = %q, command_timeout = 5 }
            r:ttl "k"
            local now = require "dbrun.task".now
            local began = now()
            local short = r:with { timeout = 0.45 }
            print(pcall(short.myget, short, "k"))
            print(("took %%.2f"):format(now() - began))]]):format("unix://" .. proxy.path)
        proxy:delay("down", 0.4)
        local out <const> = process.run { core.options.program, "--no-env", "--read-only", "-e", code }.stdout
        assert.matches("^false.*before its deadline.*took 0%.[45]", out)
        server:stop()
    end)
end)

describe("the time limit of a call to a cluster", function()
    local cluster, slot, at, other
    setup(function()
        cluster = redis_cluster.start()
        for i = 1, 6 do -- no failover: a frozen primary stays the primary
            cluster.nodes[i]:cli("config", "set", "cluster-node-timeout", "60000")
        end
        slot = core.redis.slot "{d}k"
        at = slot <= 5460 and 1 or slot <= 10922 and 2 or 3
        other = at % 3 + 1
    end)
    teardown(function()
        for i = 1, 6 do cluster.nodes[i]:thaw() end
        cluster:stop()
    end)

    local function frozen(healthy, nodes)
        return all_in_time {
            make = client_of(cluster.url), healthy = healthy,
            before = function()
                for i = 1, 3 do
                    for _, words in ipairs { { "flushall" }, { "function", "flush" }, { "script", "flush" } } do
                        cluster.nodes[i]:cli(table.unpack(words))
                    end
                end
            end,
            trouble = function()
                for _, i in ipairs(nodes) do cluster.nodes[i]:freeze() end
            end,
            after = function()
                for _, i in ipairs(nodes) do cluster.nodes[i]:thaw() end
                task.sleep(0.5)
            end,
        }
    end

    it("holds when one of its nodes is frozen", function()
        frozen(true, { at })
        frozen(false, { at })
    end)

    it("holds when no node can send the map", function()
        check_not_sent(frozen(false, { 1, 2, 3, 4, 5, 6 }))
    end)

    it("holds when all nodes are frozen", function()
        frozen(true, { 1, 2, 3, 4, 5, 6 })
    end)

    it("holds when a slot migrates, also to a frozen node", function()
        cluster.nodes[other]:cli("cluster", "setslot", tostring(slot), "importing", cluster.ids[at])
        cluster.nodes[at]:cli("cluster", "setslot", tostring(slot), "migrating", cluster.ids[other])
        all_in_time { make = client_of(cluster.url), healthy = true }
        -- At the new node a command blocks for the time that it names.
        local r <close> = redis.client { url = cluster.url, command_timeout = 0.3 }
        local began <const> = task.now()
        assert.is_nil(r:blpop("{d}nothing", 0.6))
        assert.is_true(task.now() - began > 0.59)
        local sure <const> = r:with { wait = { replicas = 1, timeout = 1 } }
        assert.is_nil(sure:blmove("{d}nothing", "{d}nothing", "LEFT", "RIGHT", 0.6))
        all_in_time {
            make = client_of(cluster.url), healthy = false,
            trouble = function() cluster.nodes[other]:freeze() end,
            after = function()
                cluster.nodes[other]:thaw()
                task.sleep(0.3)
            end,
        }
        for _, i in ipairs { at, other } do
            cluster.nodes[i]:cli("cluster", "setslot", tostring(slot), "stable")
        end
    end)

    it("holds when a slot has no node", function()
        local free <const> = tostring((slot + 1) % 16384)
        all_in_time {
            make = client_of(cluster.url), healthy = true,
            trouble = function()
                for i = 1, 3 do cluster.nodes[i]:cli("cluster", "delslots", free) end
                task.sleep(0.3)
            end,
            after = function() -- otherwise each call of the next try waits for its time limit
                cluster.nodes[at]:cli("cluster", "addslots", free)
                support.eventually(10, function() return cluster:is_whole() end, "the slot has no node")
            end,
        }
    end)
end)
