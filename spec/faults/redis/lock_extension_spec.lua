-- Extensions of a lock that overlap, are not answered, or come late: until when the lock is certain.
local core = require "dbrun.core"
local fails = require "spec.support.fails"
local fake = require "spec.support.fake"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"
local validity = require "dbrun.redis.lock_validity"

describe("a lock", function()
    local server, admin
    redis_server.around(_ENV, function(...) server, admin = ... end)

    --- A lock of `ttl` seconds whose extension to `first` seconds does not come to the server; then it is extended to a
    --- minute on another connection.
    local function extended_out_of_order(ttl, first)
        local proxy <const> = fake.proxy { to = "unix:" .. server.socket }
        local slow <const> = redis.client { url = "unix://" .. proxy.path, command_timeout = 0.1 }
        local l <const> = slow:with({ timeout = 20 }):lock("lock:a", { ttl = ttl })
        proxy:hold "up"
        l.client = slow
        assert.equal("unknown", fails("timeout", l.extend, l, first).outcome)
        l.client = admin
        assert.is_true(l:extend(60))
        return l, function() -- what was on the way comes
            assert.is_true(admin:pttl "lock:a" > 50000)
            local before <const> = admin:info("commandstats"):match "evalsha:calls=(%d+)" + 0
            proxy:pass "up"
            assert.is_true(redis_server.wait_until(5, function()
                return admin:info("commandstats"):match "evalsha:calls=(%d+)" - before == 1
            end))
            slow:close()
            proxy:close()
        end
    end

    it("is not ended earlier by an extension that comes after a longer one", function()
        local l <close>, come <const> = extended_out_of_order(15, 40)
        assert.is_true(select(2, l:valid()) > 50)
        come()
        assert.is_true(admin:pttl "lock:a" > 50000)
    end)

    it("is not called valid for longer than an extension leaves it that may come after a longer one", function()
        local l <const>, come <const> = extended_out_of_order(20, 5)
        local sure <const> = select(2, l:valid())
        assert.is_true(sure < 5)
        come()
        assert.is_true(admin:pttl "lock:a" < 5000)
        assert.is_true(l:release())
    end)

    it("is called valid again when such an extension is too late to run", function()
        local l <const>, come <const> = extended_out_of_order(20, 0.3)
        task.sleep(1.4)
        assert.is_false(l:valid())
        assert.is_true(l:extend(60))
        assert.is_true(select(2, l:valid()) > 50)
        come()
        assert.is_true(admin:pttl "lock:a" > 50000)
        assert.is_true(l:release())
    end)
end)

describe("what is certain of a lock", function()
    local lock

    before_each(function()
        lock = { ms = 1000000, letting_go = false, changed = core.task.condition(), validity = validity.new() }
        validity.taken(lock, task.now(), 1000000)
    end)

    --- In hundreds of seconds.
    local function left()
        return math.floor((lock.valid_until - task.now()) / 100 + 0.5)
    end

    it("is the shorter one of two extensions under way, in whatever order they end", function()
        for _, ran in ipairs { true, false } do -- the longer one: its outcome is unknown, or it was not sent
            local long <const>, short <const> = validity.ask(lock, 6000000), validity.ask(lock, 100000)
            assert.equal(1, left())
            validity.granted(lock, short, 100000)
            validity.failed(lock, long, ran)
            assert.equal(1, left())
        end
        local long <const>, short <const> = validity.ask(lock, 6000000), validity.ask(lock, 100000)
        validity.granted(lock, short, 100000)
        validity.granted(lock, long, 6000000) -- it may have run first
        assert.equal(1, left())
        validity.granted(lock, validity.ask(lock, 6000000), 6000000)
        assert.equal(59, left())
    end)

    it("is what it was when a shorter one was not sent, and is not when its outcome is unknown", function()
        local short = validity.ask(lock, 100000)
        local long <const> = validity.ask(lock, 6000000)
        validity.failed(lock, short, false)
        assert.equal(10, left())
        validity.granted(lock, long, 6000000)
        assert.equal(59, left())
        short = validity.ask(lock, 100000)
        validity.failed(lock, short, true)
        validity.granted(lock, validity.ask(lock, 6000000), 6000000)
        assert.equal(1, left())
    end)
end)
