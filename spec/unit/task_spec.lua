--- Tasks: spawn and join, groups, all, map, race, sleep.

local errors <const> = require "dbrun.error"
local finaliser <const> = require "spec.support.finaliser"
local pace <const> = require "spec.support.pace"
local task <const> = require "dbrun.task"

--- The error of a function that must fail.
local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    return e
end

local function closing(fn)
    return setmetatable({}, { __close = fn })
end

--- Runs `fn(g)` in a separate group, so that a failing task does not fail the test runner.
local function in_group(fn)
    local g <close> = task.group()
    local results = table.pack(fn(g))
    g:wait()
    return table.unpack(results, 1, results.n)
end

describe("task.spawn", function()
    it("runs a function beside the caller, with its arguments, and join returns its results", function()
        local t = task.spawn(function(...)
            task.sleep(0)
            return select("#", ...), ...
        end, 1, nil, "x", nil)
        assert.same({ n = 5, 4, 1, nil, "x", nil }, table.pack(t:join()))
    end)

    it("does not run the function before the caller waits", function()
        local started = false
        local t = task.spawn(function() started = true end)
        assert.is_false(started)
        t:join()
        assert.is_true(started)
    end)

    it("join returns the results repeatedly, also long after the end", function()
        local t = task.spawn(function() return "a", "b" end)
        for _ = 1, 3 do
            assert.same({ "a", "b" }, { t:join() })
            collectgarbage()
        end
    end)

    it("several tasks can join the same one", function()
        local t = task.spawn(function()
            task.sleep(0.01)
            return 7
        end)
        local seen = task.all { function() return (t:join()) end, function() return (t:join()) end }
        assert.same({ 7, 7, n = 2 }, seen)
    end)

    it("join raises the error that ended the task, the very same value", function()
        in_group(function(g)
            local value <const> = {}
            local t = g:spawn(function()
                task.sleep(0.01)
                error(value)
            end)
            assert.equal(value, failure(t.join, t))
            assert.equal("failed", t:status())
        end)
    end)

    it("returns the status of a task", function()
        local t = task.spawn(task.sleep, 0.01)
        assert.equal("ready", t:status())
        task.sleep(0)
        assert.equal("waiting", t:status())
        t:join()
        assert.equal("done", t:status())
        local me
        me = task.spawn(function() return me:status() end)
        assert.equal("running", me:join())
    end)

    it("a task cannot join itself", function()
        in_group(function(g)
            local t
            t = g:spawn(function() return failure(t.join, t) end)
            assert.is_true(errors.is(t:join(), "usage"))
        end)
    end)

    it("refuses values that are not functions", function()
        assert.has_error(function() task.spawn(7) end)
        assert.has_error(function() task.spawn() end)
    end)

    it("ten thousand tasks run and end", function()
        local n = 0
        in_group(function(g)
            for _ = 1, 10000 do
                g:spawn(function()
                    task.sleep(0)
                    n = n + 1
                end)
            end
        end)
        assert.equal(10000, n)
    end)

    it("tasks that end are collected, and so are their coroutines", function()
        local weak <const> = setmetatable({}, { __mode = "k" })
        local function one()
            local value <const> = {}
            weak[value] = true
            local t = task.spawn(function()
                task.sleep(0)
                return value
            end)
            weak[t] = true
            t:join()
        end
        for _ = 1, 20 do
            one()
        end
        collectgarbage()
        collectgarbage()
        assert.is_nil(next(weak))
    end)

    it("every task keeps running while the collector runs constantly", function()
        collectgarbage("generational")
        local n = 0
        in_group(function(g)
            for i = 1, 50 do
                g:spawn(function()
                    for _ = 1, 5 do
                        task.sleep(i % 3 * 0.001)
                        collectgarbage()
                        n = n + 1
                    end
                end)
            end
        end)
        collectgarbage("incremental")
        assert.equal(250, n)
    end)
end)

describe("task.group", function()
    it("its block ends when all of its tasks have ended", function()
        local ended = 0
        do
            local g <close> = task.group()
            for i = 1, 3 do
                g:spawn(function()
                    task.sleep(i * 0.005)
                    ended = ended + 1
                end)
            end
        end
        assert.equal(3, ended)
    end)

    it("wait can be called again, and tasks can be added after it", function()
        local g <close> = task.group()
        local n = 0
        for round = 1, 3 do
            g:spawn(function()
                task.sleep(0.001)
                n = n + 1
            end)
            g:wait()
            assert.equal(round, n)
        end
    end)

    it("the first error cancels the others and is raised from wait", function()
        local cancelled = 0
        local e = failure(function()
            local g <close> = task.group()
            for _ = 1, 3 do
                g:spawn(function()
                    local _ <close> = closing(function(_, why)
                        if errors.is(why, "cancelled") then
                            cancelled = cancelled + 1
                        end
                    end)
                    task.sleep(60)
                end)
            end
            g:spawn(function()
                task.sleep(0.005)
                error("boom", 0)
            end)
            g:wait()
        end)
        assert.equal("boom", e)
        assert.equal(3, cancelled)
    end)

    it("an error is raised from the end of the block when it was not waited for", function()
        assert.equal("boom", failure(function()
            local g <close> = task.group()
            g:spawn(error, "boom", 0)
        end))
    end)

    it("an error interrupts the block's own wait", function()
        local begin <const> = task.now()
        assert.equal("boom", failure(function()
            local g <close> = task.group()
            g:spawn(error, "boom", 0)
            task.sleep(60)
        end))
        assert.is_true(task.now() - begin < 10)
    end)

    it("an error of the block cancels the tasks, waits for them, and is then raised", function()
        local closed = false
        assert.equal("mine", failure(function()
            local g <close> = task.group()
            g:spawn(function()
                local _ <close> = closing(function()
                    task.sleep(0.01)
                    closed = true
                end)
                task.sleep(60)
            end)
            task.sleep(0)
            error("mine", 0)
        end))
        assert.is_true(closed)
    end)

    it("a task can fail while the others clean up; the first error counts", function()
        assert.equal("first", failure(function()
            local g <close> = task.group()
            g:spawn(function()
                local _ <close> = closing(function()
                    task.sleep(0.01)
                    error("second", 0)
                end)
                task.sleep(60)
            end)
            task.sleep(0)
            g:spawn(error, "first", 0)
        end))
    end)

    it("a task spawned by a task belongs to the same group", function()
        local ended = false
        in_group(function(g)
            g:spawn(function()
                task.spawn(function()
                    task.sleep(0.01)
                    ended = true
                end)
            end)
        end)
        assert.is_true(ended)
        assert.equal("deep", failure(in_group, function(g)
            g:spawn(function()
                task.spawn(function() task.spawn(error, "deep", 0) end)
                task.sleep(60)
            end)
        end))
    end)

    it("groups nest, and an error passes through all of them", function()
        local closed <const> = {}
        local e = failure(function()
            local outer <close> = task.group()
            outer:spawn(function()
                local _ <close> = closing(function() closed[#closed + 1] = "sibling" end)
                task.sleep(60)
            end)
            outer:spawn(function()
                local inner <close> = task.group()
                inner:spawn(function()
                    local _ <close> = closing(function() closed[#closed + 1] = "inner" end)
                    task.sleep(60)
                end)
                inner:spawn(function()
                    task.sleep(0.005)
                    error("deep", 0)
                end)
                inner:wait()
            end)
            outer:wait()
        end)
        assert.equal("deep", e)
        assert.same({ "inner", "sibling" }, closed)
    end)

    it("cancel ends its tasks without an error, and the group can be used again", function()
        local g <close> = task.group()
        local t = g:spawn(task.sleep, 60)
        task.sleep(0)
        g:cancel()
        g:wait()
        assert.equal("cancelled", t:status())
        assert.equal(5, (g:spawn(function() return 5 end):join()))
    end)

    it("a closed group accepts no more tasks", function()
        local kept
        do
            local g <close> = task.group()
            kept = g
        end
        assert.is_true(errors.is(failure(kept.spawn, kept, print), "usage"))
    end)

    it("closed by a finaliser while a task is made for it leaves no task", function()
        local late = 0
        finaliser.at_every_moment {
            prepare = function() return { g = task.group() } end,
            run = function(x)
                x.g:spawn(function()
                    task.sleep(0)
                    late = late + (x.over and 1 or 0)
                end)
                getmetatable(x.g).__close(x.g)
            end,
            act = function(x) getmetatable(x.g).__close(x.g) end,
            check = function(x, ok, e)
                x.over = true
                assert.is_true(ok or errors.is(e, "usage"), tostring(e))
                task.sleep(0.001)
            end,
        }
        assert.equal(0, late)
    end)

    it("only the task that made it waits for it", function()
        local g <close> = task.group()
        local e = in_group(function(other)
            return other:spawn(function() return failure(g.wait, g) end):join()
        end)
        assert.is_true(errors.is(e, "usage"))
    end)

    it("an error of an unclosed group reaches the group above", function()
        for _, forget in ipairs { false, true } do
            assert.equal("lost", failure(in_group, function(g)
                g:spawn(function()
                    local inner = task.group()
                    inner:spawn(error, "lost", 0)
                    if forget then
                        inner = nil
                        pcall(task.sleep, 0.01)
                        collectgarbage()
                        collectgarbage()
                    end
                    return inner
                end)
            end))
        end
    end)

    it("the tasks of an unclosed group end with the group above", function()
        local ended, cancelled = false, false
        in_group(function(g)
            g:spawn(function()
                task.group():spawn(function()
                    task.sleep(0.01)
                    ended = true
                end)
            end)
        end)
        assert.is_true(ended)
        assert.equal("boom", failure(in_group, function(g)
            g:spawn(function()
                task.group():spawn(function()
                    local _ <close> = closing(function() cancelled = true end)
                    task.sleep(60)
                end)
            end)
            task.sleep(0.005)
            g:spawn(error, "boom", 0)
        end))
        assert.is_true(cancelled)
    end)
end)

describe("task.all", function()
    it("runs all at once and returns the results in the order of the list", function()
        local function after(seconds, value)
            return function()
                task.sleep(seconds)
                return value
            end
        end
        pace.takes(0.06, 0.09, function()
            assert.same({ "a", "b", "c", n = 3 }, task.all { after(0.06, "a"), after(0.01, "b"), after(0.03, "c") })
        end)
        assert.same({ n = 0 }, task.all {})
    end)

    it("an error cancels the others and is raised", function()
        local cancelled = false
        assert.equal("boom", failure(task.all, {
            function()
                local _ <close> = closing(function() cancelled = true end)
                task.sleep(60)
            end,
            function() error("boom", 0) end,
        }))
        assert.is_true(cancelled)
    end)

    it("refuses values that are not lists", function()
        assert.is_true(errors.is(failure(task.all, 5), "usage"))
    end)
end)

describe("task.map", function()
    it("calls the function for each item, never more than n at a time", function()
        local running, most = 0, 0
        local list <const> = {}
        for i = 1, 30 do
            list[i] = i
        end
        local results = task.map(list, 4, function(item, index)
            assert.equal(item, index)
            running = running + 1
            most = math.max(most, running)
            task.sleep(item % 3 * 0.001)
            running = running - 1
            return item * item
        end)
        assert.equal(4, most)
        assert.equal(30, results.n)
        for i = 1, 30 do
            assert.equal(i * i, results[i])
        end
    end)

    it("an error stops it: no further item is started", function()
        local begun = 0
        assert.equal("third", failure(task.map, { 1, 2, 3, 4, 5, 6 }, 1, function(item)
            begun = begun + 1
            task.sleep(0)
            if item == 3 then
                error("third", 0)
            end
        end))
        assert.equal(3, begun)
    end)

    it("accepts an empty list, and refuses n below one", function()
        assert.same({ n = 0 }, task.map({}, 3, print))
        for _, list in ipairs { { a = 1 }, { [1] = 1, [4] = 4 } } do
            assert.is_true(errors.is(failure(task.map, list, 2, print), "usage"))
        end
        for _, n in ipairs { 0, -1, 1.5, "x" } do
            assert.is_true(errors.is(failure(task.map, { 1 }, n, print), "usage"))
        end
    end)
end)

describe("task.race", function()
    it("the first that ends decides, the others are cancelled and have ended", function()
        local cancelled = 0
        local function slow()
            local _ <close> = closing(function()
                task.sleep(0.005)
                cancelled = cancelled + 1
            end)
            task.sleep(60)
        end
        assert.same({ "fast", 2 }, { task.race { slow, function()
            task.sleep(0.01)
            return "fast", 2
        end, slow } })
        assert.equal(2, cancelled)
    end)

    it("an error that comes first decides too", function()
        assert.equal("boom", failure(task.race, {
            function() error("boom", 0) end,
            function() task.sleep(60) end,
        }))
    end)

    it("nil and nothing are results", function()
        assert.equal(0, select("#", task.race { function() end }))
        assert.same({ n = 2 }, table.pack(task.race { function() return nil, nil end }))
    end)

    it("refuses an empty list", function()
        assert.is_true(errors.is(failure(task.race, {}), "usage"))
    end)
end)

describe("task.sleep", function()
    it("waits at least that long", function()
        for _, seconds in ipairs { 0, 0.001, 0.02 } do
            local begin <const> = task.now()
            task.sleep(seconds)
            assert.is_true(task.now() - begin >= seconds)
        end
    end)

    it("lets the others run, in the order of their deadlines", function()
        local order <const> = {}
        in_group(function(g)
            for _, ms in ipairs { 30, 10, 20, 0 } do
                g:spawn(function()
                    task.sleep(ms / 1000)
                    order[#order + 1] = ms
                end)
            end
        end)
        assert.same({ 0, 10, 20, 30 }, order)
    end)

    it("refuses values that are not durations", function()
        for _, seconds in ipairs { -1, 0 / 0 } do
            assert.is_true(errors.is(failure(task.sleep, seconds), "usage"))
        end
        assert.has_error(function() task.sleep("soon") end)
    end)
end)
