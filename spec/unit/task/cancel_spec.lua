--- Cancelling: t:cancel, task.timeout, task.shield, and places where tasks cannot wait.

local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    return e
end

local function closing(fn)
    return setmetatable({}, { __close = fn })
end

describe("t:cancel", function()
    local g

    before_each(function() g = task.group() end)
    after_each(function()
        g:cancel()
        g:wait()
    end)

    it("raises an error of kind cancelled where the task waits", function()
        local seen
        local t = g:spawn(function()
            local ok, e = pcall(task.sleep, 60)
            seen = { ok, e }
        end)
        task.sleep(0)
        t:cancel()
        t:join()
        assert.is_false(seen[1])
        assert.is_true(errors.is(seen[2], "cancelled"))
    end)

    it("a task that is cancelled before it began never begins", function()
        local began = false
        local t = g:spawn(function() began = true end)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.is_false(began)
        assert.equal("cancelled", t:status())
    end)

    it("closes variables, whose handlers can wait", function()
        local order <const> = {}
        local t = g:spawn(function()
            local _ <close> = closing(function(_, why)
                order[#order + 1] = why.kind
                task.sleep(0.01)
                order[#order + 1] = "outer"
            end)
            local _ <close> = closing(function()
                task.sleep(0.01)
                order[#order + 1] = "inner"
            end)
            task.sleep(60)
        end)
        task.sleep(0)
        t:cancel()
        pcall(t.join, t)
        assert.same({ "inner", "cancelled", "outer" }, order)
    end)

    it("is not a failure of the group", function()
        local sibling = g:spawn(function()
            task.sleep(0.02)
            return "unharmed"
        end)
        local t = g:spawn(task.sleep, 60)
        task.sleep(0)
        t:cancel()
        assert.equal("unharmed", sibling:join())
        g:wait()
    end)

    it("is delivered once: a task that catches it can go on", function()
        local t = g:spawn(function()
            pcall(task.sleep, 60)
            task.sleep(0.001)
            return "went on"
        end)
        task.sleep(0)
        t:cancel()
        assert.equal("went on", t:join())
    end)

    it("comes at the next wait when the task was already woken", function()
        local q <const> = task.queue()
        local got
        local t = g:spawn(function()
            got = q:pop()
            task.sleep(60)
        end)
        task.sleep(0)
        q:push("value")
        t:cancel() -- the value came first: it is not lost
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.equal("value", got)
    end)

    it("has no effect on a finished task", function()
        local t = g:spawn(function() return 1 end)
        t:join()
        t:cancel()
        assert.equal(1, (t:join()))
        assert.equal("done", t:status())
    end)

    it("an error raised instead of it is a failure", function()
        local t = g:spawn(function()
            pcall(task.sleep, 60)
            error("instead", 0)
        end)
        task.sleep(0)
        t:cancel()
        assert.equal("instead", failure(t.join, t))
        assert.equal("failed", t:status())
    end)

    it("passes on to the groups of the task, which end first", function()
        local order <const> = {}
        local t = g:spawn(function()
            local _ <close> = closing(function() order[#order + 1] = "owner" end)
            local inner <close> = task.group()
            inner:spawn(function()
                local _ <close> = closing(function()
                    task.sleep(0.01)
                    order[#order + 1] = "child"
                end)
                task.sleep(60)
            end)
            inner:wait()
        end)
        task.sleep(0.005)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.same({ "child", "owner" }, order)
    end)

    it("ends a wait for another task, which goes on", function()
        local other = g:spawn(function()
            task.sleep(0.02)
            return "ended by itself"
        end)
        local t = g:spawn(function() other:join() end)
        task.sleep(0)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.equal("ended by itself", other:join())
    end)
end)

describe("task.timeout", function()
    it("returns the function's results", function()
        assert.same({ n = 4, 1, nil, 3, nil }, table.pack(task.timeout(10, function(...)
            task.sleep(0)
            return ...
        end, 1, nil, 3, nil)))
    end)

    it("raises an error of kind timeout inside the function, and out of it", function()
        local inside
        local e = failure(task.timeout, 0.01, function()
            local _ <close> = closing(function(_, why) inside = why end)
            task.sleep(60)
        end)
        assert.is_true(errors.is(e, "timeout"))
        assert.equal(e, inside)
        assert.is_truthy(tostring(e):find("0.01 s", 1, true))
    end)

    it("closes variables, whose handlers can wait after the timeout", function()
        local closed = false
        failure(task.timeout, 0.005, function()
            local _ <close> = closing(function()
                task.sleep(0.02)
                closed = true
            end)
            task.sleep(60)
        end)
        assert.is_true(closed)
    end)

    it("passes other errors on", function()
        assert.equal("other", failure(task.timeout, 10, error, "other", 0))
    end)

    it("does not affect code after its function", function()
        task.timeout(0.005, function() end)
        task.sleep(0.01)
        pcall(task.timeout, 0.005, error)
        task.sleep(0.01)
    end)

    it("nests: the inner one ends only the inner function", function()
        local result = task.timeout(10, function()
            assert.is_true(errors.is(failure(task.timeout, 0.005, task.sleep, 60), "timeout"))
            task.sleep(0.005)
            return "outer goes on"
        end)
        assert.equal("outer goes on", result)
    end)

    it("nests: the outer one ends both", function()
        local passed = false
        local e = failure(task.timeout, 0.01, function()
            local _, inner = pcall(task.timeout, 10, task.sleep, 60)
            passed = errors.is(inner, "timeout")
            error(inner)
        end)
        assert.is_true(passed)
        assert.is_truthy(tostring(e):find("0.01 s", 1, true))
    end)

    it("nests: both at the same moment", function()
        assert.is_true(errors.is(failure(task.timeout, 0.01, task.timeout, 0.01, task.sleep, 60), "timeout"))
        task.sleep(0.02)
    end)

    it("zero seconds end at the first wait", function()
        assert.is_true(errors.is(failure(task.timeout, 0, task.sleep, 60), "timeout"))
        assert.equal(1, task.timeout(0, function() return 1 end))
    end)

    it("ends the tasks of a group inside", function()
        local ended = false
        failure(task.timeout, 0.01, function()
            local g <close> = task.group()
            g:spawn(function()
                local _ <close> = closing(function() ended = true end)
                task.sleep(60)
            end)
            g:wait()
        end)
        assert.is_true(ended)
    end)

    it("refuses values that are not durations", function()
        for _, seconds in ipairs { -1, 0 / 0 } do
            assert.is_true(errors.is(failure(task.timeout, seconds, print), "usage"))
        end
    end)
end)

describe("task.shield", function()
    it("holds a cancellation back until the function has returned", function()
        local done = false
        local g <close> = task.group()
        local t = g:spawn(function()
            task.shield(function()
                task.sleep(0.01)
                done = true
            end)
            task.sleep(60)
        end)
        task.sleep(0)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.is_true(done)
    end)

    it("holds a time limit from outside back, and not one from inside", function()
        local done = false
        assert.is_true(errors.is(failure(task.timeout, 0.005, function()
            task.shield(function()
                assert.is_true(errors.is(failure(task.timeout, 0.005, task.sleep, 60), "timeout"))
                task.sleep(0.01)
                done = true
            end)
            task.sleep(60)
        end), "timeout"))
        assert.is_true(done)
    end)

    it("returns the function's results, and raises its error", function()
        assert.same({ 1, 2 }, { task.shield(function(...) return ... end, 1, 2) })
        assert.equal("boom", failure(task.shield, error, "boom", 0))
    end)
end)

-- The main thread of a stock lua5.4 runs the loop itself, so it can wait anywhere.
local inside_of_task <const> = require "dbrun.core".task.id() > 0
local describe_in_task <const> = inside_of_task and describe or pending

describe_in_task("where nothing can wait", function()
    local function refused(fn)
        local e = failure(fn)
        assert.is_true(errors.is(e, "usage"))
        assert.is_truthy(tostring(e):find("db.sync", 1, true))
        task.sleep(0) -- and the task still works
    end

    local function wait()
        task.sleep(0.001)
        return true
    end

    it("a sort comparator gets an error", function() refused(function() table.sort({ 2, 1 }, wait) end) end)
    it("a gsub callback gets an error", function() refused(function() return (("x"):gsub("x", wait)) end) end)
    it("__tostring gets an error", function()
        refused(function() return tostring(setmetatable({}, { __tostring = wait })) end)
    end)
    it("a loading module gets an error", function()
        package.preload["spec.waits"] = wait
        refused(function() require "spec.waits" end)
        package.preload["spec.waits"] = nil
        package.loaded["spec.waits"] = nil
    end)
    it("a generator inside of such a place gets an error", function()
        refused(function() table.sort({ 2, 1 }, function() return coroutine.wrap(wait)() end) end)
        refused(function()
            table.sort({ 2, 1 }, function()
                local _, e = coroutine.resume(coroutine.create(wait))
                error(e)
            end)
        end)
    end)
    it("a group that would have to wait there cancels its tasks and gets an error", function()
        local t
        refused(function()
            table.sort({ 2, 1 }, function()
                local g <close> = task.group()
                t = g:spawn(task.sleep, 60)
                return true
            end)
        end)
        pcall(t.join, t)
        assert.equal("cancelled", t:status())
    end)
    it("coroutine.close gets an error", function()
        local co = coroutine.create(function()
            local _ <close> = closing(wait)
            coroutine.yield()
        end)
        coroutine.resume(co)
        local ok, e = coroutine.close(co)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "usage"))
        task.sleep(0)
    end)

    it("it can wait in pcall, metamethods, iterators and close handlers", function()
        local slow <const> = setmetatable({}, {
            __index = function(_, k) wait() return k end,
            __add = function() wait() return "sum" end,
            __call = function() wait() return "called" end,
            __eq = function() return wait() end,
            __lt = function() return wait() end,
            __concat = function() wait() return "cat" end,
            __len = function() wait() return 3 end,
            __pairs = function() wait() return next, {}, nil end,
        })
        assert.equal("key", slow.key)
        assert.equal("sum", slow + 1)
        assert.equal("called", slow())
        assert.is_true(slow < slow)
        assert.equal("cat", slow .. "x")
        assert.equal(3, #slow)
        for _ in pairs(slow) do
            error("empty")
        end
        assert.is_true(select(2, xpcall(pcall, print, wait)))
        local turns = 0
        for _ in function() return turns < 2 and wait() or nil end do
            turns = turns + 1
        end
        assert.equal(2, turns)
        do
            local _ <close> = closing(wait)
        end
    end)
end)
