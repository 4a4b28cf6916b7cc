--- A group in a coroutine that is closed from outside, where tasks cannot wait: its tasks are cancelled, and the group
--- around it waits for them.

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

--- A task's function that needs a moment to end after its cancellation, and records its end.
local function slow_end(log, name)
    return function()
        local _ <close> = closing(function(_, why)
            task.shield(task.sleep, 0.005)
            log[#log + 1] = name .. ": " .. tostring(why and why.kind)
        end)
        task.sleep(60)
    end
end

describe("a group in a coroutine that is closed from outside", function()
    local log

    before_each(function() log = {} end)

    --- A generator with a group of one task; then it yields, or fails.
    local function body(name, ending)
        return function()
            local g <close> = task.group()
            g:spawn(slow_end(log, name))
            task.sleep(0)
            ending()
        end
    end
    local function fails() error("broken", 0) end

    it("hands its tasks to the group around it when wrap ends by an error", function()
        do
            local g <close> = task.group()
            assert.equal("broken", failure(coroutine.wrap(body("a", fails))))
            assert.same({}, log)
            assert.is_truthy(g)
        end
        assert.same({ "a: cancelled" }, log)
    end)

    it("hands them to the group of the task when it has no open one", function()
        do
            local g <close> = task.group()
            g:spawn(function() assert.equal("broken", failure(coroutine.wrap(body("a", fails)))) end):join()
            assert.same({}, log)
        end
        assert.same({ "a: cancelled" }, log)
    end)

    it("does so in coroutine.close, which succeeds", function()
        do
            local g <close> = task.group()
            local co = coroutine.create(body("a", coroutine.yield))
            assert.is_true(coroutine.resume(co))
            assert.same({ true }, { coroutine.close(co) })
            assert.equal("dead", coroutine.status(co))
            g:wait()
            assert.same({ "a: cancelled" }, log)
        end
    end)

    it("does so for groups in groups", function()
        do
            local g <close> = task.group()
            assert.equal("broken", failure(coroutine.wrap(function()
                local outer <close> = task.group()
                outer:spawn(slow_end(log, "outer"))
                body("inner", fails)()
            end)))
            assert.is_truthy(g)
        end
        table.sort(log)
        assert.same({ "inner: cancelled", "outer: cancelled" }, log)
    end)

    it("raises the failure of a task, and the others are handed over", function()
        do
            local g <close> = task.group()
            local gen = coroutine.wrap(function()
                local inner <close> = task.group()
                inner:spawn(slow_end(log, "a"))
                inner:spawn(error, "of a task", 0)
                task.sleep(60)
            end)
            assert.equal("of a task", failure(gen))
            assert.is_truthy(g)
        end
        assert.same({ "a: cancelled" }, log)
    end)

    it("passes an error that such a task raises while it ends to the group around", function()
        local e = failure(function()
            local g <close> = task.group()
            failure(coroutine.wrap(function()
                local inner <close> = task.group()
                inner:spawn(function()
                    local _ <close> = closing(function() error("in its end", 0) end)
                    task.sleep(60)
                end)
                task.sleep(0)
                error "broken"
            end))
            g:wait()
        end)
        assert.equal("in its end", e)
    end)

    it("is an error when a block ends in a place where tasks cannot wait", function()
        local g <close> = task.group()
        local e = failure(table.sort, { 2, 1 }, function()
            local inner <close> = task.group()
            inner:spawn(slow_end(log, "a"))
            return true
        end)
        assert.is_true(errors.is(e, "usage"))
        g:wait()
        collectgarbage()
    end)

    it("can be collected while its tasks are still ending", function()
        for i = 1, 30 do
            task.spawn(function()
                local kept <const> = { around = task.group() } -- never closed
                pcall(coroutine.wrap(body("x" .. i, fails)))
                assert.is_truthy(kept.around)
                kept.around = nil
                collectgarbage()
            end)
        end
        local stop <const> = task.now() + 30
        while #log < 30 and task.now() < stop do
            collectgarbage()
            collectgarbage()
            task.sleep(0.002)
        end
        assert.equal(30, #log)
    end)
end)
