-- Workers for streams: r:consume.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

local wait_until <const> = redis_server.wait_until

--- The specs, on a server with XAUTOCLAIM and on one without.
local function specs(opts)
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end, opts)

    local started, ended_by
    before_each(function()
        started, ended_by = {}, nil
    end)
    after_each(function()
        for _, t in ipairs(started) do
            t:cancel()
            pcall(t.join, t)
        end
    end)

    --- A worker in a separate task; joining the task raises the worker's error.
    local function start(o)
        local t <const> = task.spawn(function()
            local _, e = pcall(r.consume, r, o)
            ended_by = e
            return e
        end)
        started[#started + 1] = t
        return t
    end

    --- Options of a worker that adds handled messages to the list.
    local function worker(list, more)
        local o = {
            stream = "s", group = "g", consumer = "me",
            handle = function(m)
                list[#list + 1] = m.fields.n
            end,
        }
        for name, value in pairs(more or {}) do
            o[name] = value
        end
        return o
    end

    local function count_of(list)
        return function(n)
            local all <const> = wait_until(10, function() return #list >= n end)
            assert.is_true(all, ("handled: %d of %d, %s"):format(#list, n, tostring(ended_by)))
            return list
        end
    end

    local function pending()
        return r:xpending("s", "g")[1]
    end

    --- Leaves the messages from number `first` on pending at a consumer that no longer exists.
    local function leave(consumer, first, last)
        for n = first, last do
            r:xadd("s", "*", "n", n)
        end
        r:xreadgroup("GROUP", "g", consumer, "STREAMS", "s", ">")
    end

    local function stop(t)
        t:cancel()
        local e <const> = t:join()
        assert.is_true(errors.is(e, "cancelled"), tostring(e))
    end

    it("creates stream and group, and handles existing and new messages", function()
        r:xadd("s", "*", "n", 1)
        local got = {}
        local t <const> = start(worker(got))
        count_of(got)(1)
        for n = 2, 30 do
            r:xadd("s", "*", "n", n)
        end
        count_of(got)(30)
        for n = 1, 30 do
            assert.equal(tostring(n), got[n])
        end
        assert.is_true(wait_until(5, function() return pending() == 0 end))
        stop(t)
    end)

    it("passes the message with its ID, its fields and its stream", function()
        local got
        local t <const> = start(worker({}, { handle = function(m) got = m end }))
        assert.is_true(wait_until(5, function() return r:exists "s" == 1 end))
        r:xadd("s", "5-1", "tag", "a", "tag", "b", "n", 1)
        assert.is_true(wait_until(5, function() return got end))
        assert.same({ id = "5-1", stream = "s", fields = { tag = { "a", "b" }, n = "1" } }, got)
        stop(t)
    end)

    it("handles the messages of a client with typed replies", function()
        r:xadd("s", "5-1", "n", 1)
        local got
        local t <const> = task.spawn(r.consume, r:with { typed = true }, worker({}, {
            handle = function(m) got = m end,
        }))
        started[#started + 1] = t
        assert.is_true(wait_until(5, function() return got end))
        assert.same({ id = "5-1", stream = "s", fields = { n = "1" } }, got)
    end)

    it("begins a new group at the given ID", function()
        r:xadd("s", "1-0", "n", 1)
        r:xadd("s", "2-0", "n", 2)
        local late, later = {}, {}
        local t1 <const> = start(worker(late, { from = "1-0" }))
        local t2 <const> = start(worker(later, { group = "h", from = "$" }))
        assert.is_true(wait_until(5, function() return #r:xinfo("groups", "s") == 2 end))
        r:xadd("s", "3-0", "n", 3)
        assert.same({ "2", "3" }, count_of(late)(2))
        assert.same({ "3" }, count_of(later)(1))
        stop(t1)
        stop(t2)
    end)

    it("begins with the pending messages of this consumer", function()
        r:xgroup("create", "s", "g", "0", "MKSTREAM")
        leave("me", 1, 250)
        r:xadd("s", "*", "n", 251)
        local got = {}
        local t <const> = start(worker(got, { claim_idle = false }))
        count_of(got)(251)
        for n = 1, 251 do
            assert.equal(tostring(n), got[n])
        end
        assert.is_true(wait_until(5, function() return pending() == 0 end))
        stop(t)
    end)

    it("takes over messages that others have left for claim_idle, and not earlier", function()
        r:xgroup("create", "s", "g", "0", "MKSTREAM")
        leave("gone", 1, 25)
        local got, left_at = {}, task.now()
        local t <const> = start(worker(got, { claim_idle = 0.3, count = 4 }))
        r:xadd("s", "*", "n", "new")
        assert.same({ "new" }, count_of(got)(1))
        count_of(got)(26)
        assert.is_true(task.now() - left_at >= 0.3)
        assert.is_true(wait_until(5, function() return pending() == 0 end))
        assert.equal(26, #got)
        stop(t)
    end)

    it("never takes over other consumers' messages without claim_idle", function()
        r:xgroup("create", "s", "g", "0", "MKSTREAM")
        leave("gone", 1, 1)
        local got = {}
        local t <const> = start(worker(got, { claim_idle = false }))
        r:xadd("s", "*", "n", "new")
        count_of(got)(1)
        stop(t)
        assert.same({ "new" }, got)
        assert.equal(1, pending())
    end)

    it("keeps its messages while a body takes longer than claim_idle", function()
        pace.kept(function() -- it renews them in time, where the machine lets it
            r:flushall()
            local slow, other, running = {}, {}, {}
            local _ <close> = setmetatable({}, { __close = function()
                for _, t in ipairs(running) do stop(t) end
            end })
            local o <const> = worker(slow, { claim_idle = 0.3, consumer = "slow" })
            local handle <const> = o.handle
            o.handle = function(m)
                task.sleep(0.8)
                handle(m)
            end
            running[1] = start(o)
            r:xgroup("create", "s", "h", "0", "MKSTREAM") -- the stream, whichever comes first
            r:xadd("s", "*", "n", 1)
            r:xadd("s", "*", "n", 2)
            assert.is_true(wait_until(5, function() return #r:xinfo("groups", "s") == 2 and pending() > 0 end))
            running[2] = start(worker(other, { claim_idle = 0.3, consumer = "other" }))
            assert.is_true(wait_until(10, function() return #slow + #other == 2 end))
            assert.is_true(wait_until(5, function() return pending() == 0 end))
            assert.equal(2, #slow + #other)
            assert.equal("1", slow[1])
        end)
    end)

    it("keeps those of a later stream while the body of an earlier one runs", function()
        r:xadd("s", "*", "n", 1)
        r:xadd("s2", "*", "n", 2)
        local list, renewed, before = {}, nil, -1
        start(worker(list, { stream = { "s", "s2" }, claim_idle = 0.3, handle = function(m)
            if m.stream == "s" then
                renewed = wait_until(10, function()
                    local idle <const> = r:xpending("s2", "g", "-", "+", 1)[1][3]
                    before = math.max(before, idle)
                    return idle < before
                end)
            end
            list[#list + 1] = m.fields.n
        end }))
        assert.same({ "1", "2" }, count_of(list)(2))
        assert.is_true(renewed)
    end)

    it("leaves a message pending when its body raises, continues, and delivers it again after claim_idle", function()
        local got, told = {}, {}
        local t <const> = start(worker(got, {
            claim_idle = 0.3,
            handle = function(m)
                if m.fields.n == "bad" and #told < 2 then
                    error "no"
                end
                got[#got + 1] = m.fields.n
            end,
            on_error = function(e, m)
                told[#told + 1] = { e:match "no$", m.fields.n, task.now() }
            end,
        }))
        assert.is_true(wait_until(5, function() return r:exists "s" == 1 end))
        r:xadd("s", "*", "n", "bad")
        r:xadd("s", "*", "n", "good")
        assert.same({ "good", "bad" }, count_of(got)(2))
        assert.equal(2, #told)
        assert.same({ "no", "bad" }, { told[1][1], told[1][2] })
        assert.is_true(told[2][3] - told[1][3] >= 0.29)
        assert.is_true(wait_until(5, function() return pending() == 0 end))
        stop(t)
    end)

    it("counts a body's own errors of any kind as its errors", function()
        local kinds = {}
        local t <const> = start(worker({}, {
            handle = function(m)
                if m.fields.n == "1" then
                    task.timeout(0.01, task.sleep, 5)
                elseif m.fields.n == "2" then
                    local inner <const> = task.spawn(task.sleep, 5)
                    inner:cancel()
                    inner:join()
                end
                errors.raise { kind = "connect", message = "x", retryable = true }
            end,
            on_error = function(e) kinds[#kinds + 1] = e.kind end,
        }))
        for n = 1, 3 do
            r:xadd("s", "*", "n", n)
        end
        assert.same({ "timeout", "cancelled", "connect" }, count_of(kinds)(3))
        stop(t)
    end)

    it("ends with an error of on_error", function()
        r:xadd("s", "*", "n", 1)
        local ok, e = pcall(r.consume, r, worker({}, {
            handle = function() error("body", 0) end, on_error = function(why) error(why .. " is told", 0) end,
        }))
        assert.is_false(ok)
        assert.equal("body is told", e)
        assert.equal(1, pending())
        local began <const> = task.now()
        ok, e = pcall(task.timeout, 20, r.consume, r, worker({}, {
            handle = error, on_error = function() error(nil, 0) end,
        }))
        assert.is_false(ok)
        assert.is_nil(e)
        assert.is_true(task.now() - began < 10)
    end)

    it("gives a message that was delivered too often to on_dead, and acknowledges it", function()
        local tries, dead = {}, {}
        local t <const> = start(worker({}, {
            claim_idle = 0.1, max_deliveries = 3,
            handle = function(m)
                tries[#tries + 1] = m.deliveries
                error "poison"
            end,
            on_dead = function(m) dead[#dead + 1] = m end,
            on_error = function() end,
        }))
        r:xadd("s", "7-0", "n", 1)
        count_of(dead)(1)
        assert.same({ 1, 2, 3 }, tries)
        assert.same({ { id = "7-0", stream = "s", fields = { n = "1" }, deliveries = 4 } }, dead)
        assert.is_true(wait_until(5, function() return pending() == 0 end))
        stop(t)
    end)

    it("keeps a message pending when on_dead raises", function()
        local told = {}
        local t <const> = start(worker({}, {
            claim_idle = 0.1, max_deliveries = 1, handle = function() error "body" end,
            on_dead = function() error "dead letter" end,
            on_error = function(e) told[#told + 1] = e:match "%S+ ?%S+$" end,
        }))
        r:xadd("s", "*", "n", 1)
        count_of(told)(3)
        stop(t)
        assert.matches("dead letter", told[2])
        assert.equal(1, pending())
    end)

    it("skips deleted messages", function()
        r:xgroup("create", "s", "g", "0", "MKSTREAM")
        leave("me", 1, 5)
        leave("gone", 6, 10)
        for _, i in ipairs { 1, 2, 3, 6, 7, 8 } do
            r:xdel("s", r:xrange("s", "-", "+")[i > 5 and i - 5 or 1][1])
        end
        assert.equal(10, pending())
        local got = {}
        local t <const> = start(worker(got, { claim_idle = 0.1, count = 2 }))
        count_of(got)(4)
        assert.is_true(wait_until(5, function() return pending() == 0 end), "still pending: " .. pending())
        assert.equal(4, #got)
        stop(t)
    end)

    it("goes on when the group or the stream is deleted, or everything", function()
        local got = {}
        local t <const> = start(worker(got))
        r:xadd("s", "*", "n", 1)
        count_of(got)(1)
        for n, remove in ipairs {
            function() r:xgroup("destroy", "s", "g") end, function() r:del "s" end, function() r:flushall() end,
        } do
            remove()
            r:xadd("s", "*", "n", 1 + n)
            count_of(got)(1 + n)
        end
        assert.same({ "1", "2", "3", "4" }, got)
        assert.is_true(wait_until(5, function() return pending() == 0 end))
        stop(t)
    end)

    it("handles the messages of a new stream, although its IDs are smaller", function()
        local got = {}
        local t <const> = start(worker(got))
        r:xadd("s", "100-0", "n", 1)
        count_of(got)(1)
        r:multi(function(tx)
            tx:del "s"
            for n = 2, 300 do
                tx:xadd("s", n .. "-0", "n", n)
            end
        end)
        count_of(got)(300)
        assert.equal("300", got[300])
        stop(t)
    end)

    it("acknowledges a message whose body succeeds while the worker is cancelled", function()
        local inside, ended = false, false
        local t <const> = start(worker({}, {
            handle = function()
                inside = true
                task.shield(task.sleep, 0.2)
                ended = true
            end,
        }))
        r:xadd("s", "*", "n", 1)
        assert.is_true(wait_until(5, function() return inside end))
        stop(t)
        assert.is_true(ended)
        assert.equal(0, pending())
    end)

    it("leaves a message pending when the cancellation ends its body, and reports no error", function()
        local inside, told = false, 0
        local t <const> = start(worker({}, {
            handle = function()
                inside = true
                task.sleep(10)
            end,
            on_error = function() told = told + 1 end,
        }))
        r:xadd("s", "*", "n", 1)
        assert.is_true(wait_until(5, function() return inside end))
        stop(t)
        assert.equal(0, told)
        assert.equal(1, pending())
        local got = {}
        local again <const> = start(worker(got))
        assert.same({ "1" }, count_of(got)(1))
        stop(again)
    end)

    it("ends at a time limit around it", function()
        local began <const> = task.now()
        local e <const> = fails("timeout", task.timeout, 0.2, r.consume, r, worker {})
        assert.is_nil(e.outcome)
        assert.is_true(task.now() - began < 5)
        assert.equal("PONG", r:ping())
    end)

    it("returns its connection when it ends", function()
        local t <const> = start(worker {})
        assert.is_true(wait_until(5, function() return r:exists "s" == 1 end))
        task.sleep(0.1)
        stop(t)
        assert.equal(1, r:stats().leased) -- the shared one
    end)

    it("reads several streams", function()
        local got = {}
        local t <const> = start(worker(got, {
            stream = { "s", "s2" }, handle = function(m) got[#got + 1] = m.stream .. m.fields.n end,
        }))
        r:xadd("s2", "*", "n", 1)
        count_of(got)(1)
        r:del "s2"
        r:xadd("s", "*", "n", 2)
        r:xadd("s2", "*", "n", 3)
        count_of(got)(3)
        table.sort(got)
        assert.same({ "s2", "s21", "s23" }, got)
        stop(t)
    end)

    it("raises permanent errors at once", function()
        local e <const> = fails("redis", function()
            r:set("s", "a string")
            r:consume(worker {})
        end)
        assert.equal("WRONGTYPE", e.code)
        r:del "s"
        local nowhere <const> = redis.client { url = "unix:///nonexistent/redis.sock" }
        fails("connect", nowhere.consume, nowhere, worker {})
        nowhere:close()
        r:call("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", "-xreadgroup")
        local limited <const> = redis.client { path = server.socket, username = "limited", password = "x" }
        assert.equal("NOPERM", fails("redis", limited.consume, limited, worker {}).code)
        limited:close()
    end)

    it("says that it needs a second connection", function()
        local write <const> = core.log.write
        finally(function() core.log.write = write end)
        local lines <const> = {}
        function core.log.write(_, line) lines[#lines + 1] = line end
        local one <close> = redis.client { url = server.url, max_connections = 1, timeout = 0.1 }
        local t <const> = task.spawn(one.consume, one, worker({}))
        started[#started + 1] = t
        assert.is_true(wait_until(5, function() return lines[1] end))
        assert.matches("the worker 'me' of the stream 's' keeps one connection and needs a second", lines[1])
        assert.matches("max_connections", lines[1])
    end)

    it("ends when its login is refused permanently, but not when the server is down", function()
        r:call("ACL", "SETUSER", "app", "on", ">first", "~*", "+@all")
        local app <const> = redis.client { path = server.socket, username = "app", password = "first" }
        local got = {}
        local t <const> = task.spawn(function()
            return select(2, pcall(app.consume, app, worker(got)))
        end)
        started[#started + 1] = t
        r:xadd("s", "*", "n", 1)
        count_of(got)(1)
        server:cli("client", "kill", "user", "app")
        r:xadd("s", "*", "n", 2)
        count_of(got)(2)
        r:call("ACL", "SETUSER", "app", "resetpass", ">second")
        server:cli("client", "kill", "user", "app")
        local e <const> = task.timeout(5, t.join, t)
        assert.same({ "connect", "WRONGPASS", "not_sent" }, { e.kind, e.code, e.outcome })
        app:close()
    end)
end

describe("r:consume", function()
    describe("with XAUTOCLAIM", function() specs() end)
    describe("on a server without XAUTOCLAIM", function()
        specs { args = { "--rename-command", "XAUTOCLAIM", '""' } }
    end)

    it("checks its options", function()
        local r <const> = redis.client { path = "/nonexistent" }
        local function fn() end
        local good <const> = { stream = "s", group = "g", consumer = "c", handle = fn }
        for pattern, change in pairs {
            ["unknown option 'claim_idel'"] = { claim_idel = 1 },
            ["stream must be the name of a stream or a list of different names, got a table"] = { stream = {} },
            ["a list of different names"] = { stream = { "a", "b", "a" } },
            ["count must be a whole number from 1 to 1000000"] = { count = 1e18 },
            ["claim_idle must be a number of seconds above 0 and up to 1e12"] = { claim_idle = 1e300 },
            ["group must be a string that is not empty"] = { group = "" },
            ["handle must be a function, got a string"] = { handle = "f" },
            ["count must be a whole number from 1 to 1000000, got 0"] = { count = 0 },
            ["claim_idle must be a number of seconds above 0 and up to 1e12, or false"] = { claim_idle = 0 },
            ["from must be \"0\""] = { from = "now" },
            ["max_deliveries and on_dead must be given together"] = { max_deliveries = 3 },
            ["max_deliveries must be"] = { max_deliveries = 0, on_dead = fn },
            ["on_error must be a function"] = { on_error = 1 },
        } do
            local o = {}
            for name, value in pairs(good) do
                o[name] = value
            end
            for name, value in pairs(change) do
                o[name] = value
            end
            assert.matches(pattern, fails("usage", r.consume, r, o).message, 1, true)
        end
        for name in pairs(good) do
            local o = {}
            for other, value in pairs(good) do
                o[other] = other ~= name and value or nil
            end
            assert.matches(name .. " is missing", fails("usage", r.consume, r, o).message, 1, true)
        end
        assert.matches("must be called on a client", fails("usage", r.consume, good).message, 1, true)
        fails("usage", r.consume, r)
        r:close()
    end)
end)
