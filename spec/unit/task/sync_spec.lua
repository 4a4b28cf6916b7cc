--- Objects that tasks share: queues, semaphores, signals.

local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"
local process <const> = require "dbrun.process"

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    return e
end

describe("task.queue", function()
    it("returns values in the order in which they were pushed", function()
        local q <const> = task.queue()
        for i = 1, 5 do
            q:push(i)
        end
        assert.equal(5, #q)
        for i = 1, 5 do
            assert.equal(i, q:pop())
        end
        assert.equal(0, #q)
    end)

    it("pop waits for a value, and false is one", function()
        local g <close> = task.group()
        local q <const> = task.queue()
        local t = g:spawn(function() return q:pop(), q:pop() end)
        task.sleep(0)
        q:push(false)
        q:push("x")
        assert.same({ false, "x" }, { t:join() })
    end)

    it("pop with a time limit gives nil after it", function()
        local q <const> = task.queue()
        local begin <const> = task.now()
        assert.is_nil(q:pop(0.01))
        assert.is_true(task.now() - begin >= 0.01)
        q:push(1)
        assert.equal(1, q:pop(0))
    end)

    it("push waits while it is full", function()
        local g <close> = task.group()
        local q <const> = task.queue(2)
        local pushed = 0
        g:spawn(function()
            for i = 1, 5 do
                q:push(i)
                pushed = i
            end
            q:close()
        end)
        task.sleep(0)
        assert.equal(2, pushed)
        assert.equal(1, q:pop())
        task.sleep(0)
        assert.equal(3, pushed)
        local rest <const> = {}
        for value in q:items() do
            rest[#rest + 1] = value
        end
        assert.same({ 2, 3, 4, 5 }, rest)
        assert.equal(5, pushed)
    end)

    it("close wakes all waiting tasks", function()
        local g <close> = task.group()
        local empty <const>, full <const> = task.queue(), task.queue(1)
        full:push(1)
        local poppers <const> = { g:spawn(empty.pop, empty), g:spawn(empty.pop, empty) }
        local pusher = g:spawn(function() return failure(full.push, full, 2) end)
        task.sleep(0)
        empty:close()
        full:close()
        for _, t in ipairs(poppers) do
            assert.is_nil((t:join()))
        end
        assert.is_true(errors.is(pusher:join(), "usage"))
        assert.equal(1, full:pop()) -- remaining values are still returned
        assert.is_nil(full:pop())
        assert.is_true(errors.is(failure(full.push, full, 3), "usage"))
    end)

    it("a cancelled waiter takes no value", function()
        local g <close> = task.group()
        local q <const> = task.queue()
        local first = g:spawn(q.pop, q)
        local second = g:spawn(q.pop, q)
        task.sleep(0)
        first:cancel()
        q:push("value")
        assert.equal("value", second:join())
        assert.equal("cancelled", first:status())
    end)

    it("a cancelled push adds no value, and the next one gets its place", function()
        local g <close> = task.group()
        local q <const> = task.queue(1)
        q:push("a")
        local first = g:spawn(q.push, q, "b")
        local second = g:spawn(q.push, q, "c")
        task.sleep(0)
        first:cancel()
        assert.equal("a", q:pop())
        second:join()
        assert.equal("c", q:pop())
        assert.equal(0, #q)
        pcall(first.join, first)
    end)

    it("refuses nil and invalid sizes", function()
        local q <const> = task.queue()
        assert.is_true(errors.is(failure(q.push, q, nil), "usage"))
        for _, size in ipairs { 0, -1, 2.5, "x" } do
            assert.is_true(errors.is(failure(task.queue, size), "usage"))
        end
    end)
end)

describe("task.semaphore", function()
    it("lets n in at a time", function()
        local sem <const> = task.semaphore(3)
        local inside, most = 0, 0
        local g <close> = task.group()
        for i = 1, 12 do
            g:spawn(function()
                local _ <close> = sem:acquire()
                inside = inside + 1
                most = math.max(most, inside)
                task.sleep(i % 4 * 0.001)
                inside = inside - 1
            end)
        end
        g:wait()
        assert.equal(3, most)
    end)

    it("serves first come, first served, and no later task before", function()
        local g <close> = task.group()
        local sem <const> = task.semaphore(1)
        local order <const> = {}
        local permit = sem:acquire()
        for i = 1, 3 do
            g:spawn(function()
                local _ <close> = sem:acquire()
                order[#order + 1] = i
            end)
        end
        task.sleep(0)
        permit:release()
        assert.is_nil(sem:try_acquire()) -- it belongs to the first waiter already
        local _ <close> = sem:acquire()
        assert.same({ 1, 2, 3 }, order)
    end)

    it("with returns the function's results, and releases the permit when it fails", function()
        local sem <const> = task.semaphore(1)
        assert.same({ 1, 2 }, { sem:with(function(...) return ... end, 1, 2) })
        assert.equal("boom", failure(sem.with, sem, error, "boom", 0))
        assert.is_truthy(sem:try_acquire())
    end)

    it("acquire with a time limit gives nil after it", function()
        local sem <const> = task.semaphore(1)
        local permit = sem:acquire()
        assert.is_nil(sem:acquire(0.005))
        assert.is_nil(sem:acquire(0))
        permit:release()
        assert.is_truthy(sem:acquire(0))
    end)

    it("a permit can be released only once", function()
        local sem <const> = task.semaphore(1)
        local permit = sem:acquire()
        permit:release()
        permit:release()
        local first = sem:try_acquire()
        assert.is_truthy(first)
        permit:release()
        assert.is_nil(sem:try_acquire())
    end)

    it("a cancelled waiter leaves the queue, and no permit is lost", function()
        local g <close> = task.group()
        local sem <const> = task.semaphore(1)
        local permit = sem:acquire()
        local first = g:spawn(function() local _ <close> = sem:acquire() end)
        local second = g:spawn(function()
            local _ <close> = sem:acquire()
            return "served"
        end)
        task.sleep(0)
        first:cancel()
        permit:release()
        assert.equal("served", second:join())
        pcall(first.join, first)
        assert.is_truthy(sem:try_acquire())
    end)

    it("a waiter that is cancelled at the moment it is served releases the permit", function()
        local g <close> = task.group()
        local sem <const> = task.semaphore(1)
        local permit = sem:acquire()
        local t = g:spawn(function()
            local _ <close> = sem:acquire()
            task.sleep(60)
        end)
        task.sleep(0)
        permit:release()
        t:cancel()
        pcall(t.join, t)
        assert.is_truthy(sem:try_acquire())
    end)
end)

describe("task.on_signal", function()
    local function me()
        local f <close> = assert(io.open("/proc/self/stat"))
        return f:read "n"
    end

    local function send(name)
        assert(process.run { "kill", "-" .. name, tostring(me()) })
    end

    it("calls the function each time the signal comes", function()
        local q <const> = task.queue()
        local t = task.on_signal("SIGUSR1", function(name) q:push(name) end)
        for _ = 1, 3 do
            send "USR1"
            assert.equal("SIGUSR1", q:pop(5))
        end
        t:cancel()
        pcall(t.join, t)
    end)

    it("refuses unknown signals, and values that are not functions", function()
        assert.is_true(errors.is(failure(task.on_signal, "SIGNONE", print), "usage"))
        assert.is_true(errors.is(failure(task.on_signal, "SIGHUP", "x"), "usage"))
    end)
end)
