-- Workers for streams while connections are cut, workers are killed and servers are replaced: every message is handled,
-- and no acknowledged message is handled again.
local fake = require "spec.support.fake"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"
local rounds = require("spec.support.rounds").of
local task = require "dbrun.task"

local wait_until <const> = redis_server.wait_until

--- The messages that the bodies handled, independent of the server.
local function ledger(admin, key)
    local self = { handled = {}, acknowledged = {}, again = {}, count = 0 }

    function self.handle(m)
        if self.acknowledged[m.id] then
            self.again[#self.again + 1] = m.id
        end
        task.sleep(math.random() * 0.01)
        if not self.handled[m.id] then
            self.handled[m.id], self.count = true, self.count + 1
        end
    end

    --- Notes the messages that are handled and no longer pending.
    function self.look()
        local before, open = {}, {}
        for id in pairs(self.handled) do
            before[id] = true
        end
        for _, entry in ipairs(admin:xpending(key, "g", "-", "+", 100000)) do
            open[entry[1]] = true
        end
        for id in pairs(before) do
            self.acknowledged[id] = self.acknowledged[id] or not open[id] or nil
        end
    end
    return self
end

describe("workers for a stream", function()
    local seed
    before_each(function()
        seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
        math.randomseed(seed)
    end)

    it("handle each message, although connections are cut and workers are killed at any moment", function()
        local server <const> = redis_server.start()
        local _ <close> = setmetatable({}, { __close = function() server:stop() end })
        local proxy <close> = fake.proxy { to = "unix:" .. server.socket }
        local admin <close> = redis.client { url = server.url }
        local r <close> = redis.client { url = "unix://" .. proxy.path, command_timeout = 5 }
        local book <const> = ledger(admin, "s")
        local total <const> = rounds(1200)
        admin:xgroup("create", "s", "g", "0", "MKSTREAM")
        local g <close> = task.group()
        local workers = {}
        local function start(i)
            -- Some restart under their name and find their pending messages, others never do.
            local name <const> = math.random() < 0.5 and "w" .. i or ("w%d-%d"):format(i, math.random(1 << 40))
            workers[i] = g:spawn(function()
                while true do -- a cut at the start ends it
                    local ok, e = pcall(r.consume, r, {
                        stream = "s", group = "g", consumer = name, claim_idle = 0.3, count = math.random(1, 20),
                        handle = book.handle,
                    })
                    assert(not ok and (e.kind == "connect" or e.kind == "cancelled"), tostring(e))
                    if e.kind == "cancelled" then
                        return
                    end
                    task.sleep(0.02)
                end
            end)
        end
        for i = 1, 4 do
            start(i)
        end
        local sent = 0
        g:spawn(function()
            while sent < total do
                admin:xadd("s", "*", "n", sent)
                sent = sent + 1
                task.sleep(math.random() * 0.004)
            end
        end)
        local faults = 0
        while sent < total do
            task.sleep(math.random() * 0.06)
            faults = faults + 1
            local what <const> = math.random(4)
            if what == 1 then
                proxy:cut()
            elseif what == 2 then
                proxy:cut(math.random() < 0.5 and "up" or "down", math.random(0, 2000))
            else
                local i <const> = math.random(4)
                workers[i]:cancel()
                start(i)
            end
            book.look()
        end
        proxy:cut() -- a pending `cut` happens here
        local all <const> = wait_until(30, function()
            book.look()
            local groups <const> = admin:xinfo("groups", "s")[1]
            return book.count >= total and groups.pending == 0
        end)
        for _, t in ipairs(workers) do
            t:cancel()
        end
        local label <const> = ("DBRUN_TEST_SEED=%d, %d faults"):format(seed, faults)
        assert.is_true(all, label .. (": %d of %d handled"):format(book.count, total))
        assert.equal(total, book.count, label)
        assert.same({}, book.again, label)
    end)

    it("go on when the server restarts empty, and lose no message that is written then", function()
        local server <const> = redis_server.start()
        local _ <close> = setmetatable({}, { __close = function() server:stop() end })
        local r <close> = redis.client { url = server.url, command_timeout = 5 }
        local got = {}
        local g <close> = task.group()
        local worker <const> = g:spawn(pcall, r.consume, r, {
            stream = "s", group = "g", consumer = "w", handle = function(m) got[#got + 1] = m.fields.n end,
        })
        r:xadd("s", "*", "n", 1)
        assert.is_true(wait_until(10, function() return #got == 1 end))
        for n = 2, 4 do
            server:restart()
            r:xadd("s", "*", "n", n)
            assert.is_true(wait_until(10, function() return #got == n end), worker:status())
        end
        worker:cancel()
        assert.same({ "1", "2", "3", "4" }, got)
    end)

    it("notice a frozen server, and go on when it resumes", function()
        local server <const> = redis_server.start()
        local _ <close> = setmetatable({}, { __close = function() server:stop() end })
        local r <close> = redis.client { url = server.url, command_timeout = 1 }
        local got = {}
        local g <close> = task.group()
        local worker <const> = g:spawn(pcall, r.consume, r, {
            stream = "s", group = "g", consumer = "w", claim_idle = 1,
            handle = function(m) got[#got + 1] = m.fields.n end,
        })
        r:xadd("s", "*", "n", 1)
        assert.is_true(wait_until(10, function() return #got == 1 end))
        server:freeze()
        task.sleep(8)
        server:thaw()
        r:xadd("s", "*", "n", 2)
        assert.is_true(wait_until(20, function() return #got >= 2 end), worker:status())
        worker:cancel()
        assert.same({ "1", "2" }, got)
    end)

    it("follow a stream to the new primary of a cluster", function()
        local cluster <const> = redis_cluster.start()
        local _ <close> = setmetatable({}, { __close = function() cluster:stop() end })
        local r <close> = redis.client { url = cluster.url, command_timeout = 10 }
        local book <const> = ledger(r, "{s}")
        local sent, total, g <close> = 0, rounds(400), task.group()
        local worker <const> = g:spawn(pcall, r.consume, r, {
            stream = "{s}", group = "g", consumer = "w", claim_idle = 1, handle = book.handle,
        })
        local function produce(upto)
            while sent < upto do
                if pcall(r.xadd, r, "{s}", "*", "n", sent) then
                    sent = sent + 1
                end
                task.sleep(0.002)
            end
        end
        produce(total // 2)
        for i = 4, 6 do -- all primaries are replaced
            cluster.nodes[i]:cli("cluster", "failover")
        end
        produce(total)
        assert.is_true(wait_until(40, function()
            local groups <const> = r:xinfo("groups", "{s}")[1]
            return book.count >= total and groups.pending == 0
        end), ("%d of %d, %s"):format(book.count, total, worker:status()))
        worker:cancel()
    end)
end)
