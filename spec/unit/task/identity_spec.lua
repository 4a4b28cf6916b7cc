--- Each task is a separate coroutine: data that a script attaches to one task's coroutine never reaches the next.

local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    return e
end

--- Runs `fn` as a task to its end, `n` times.
local function one_after_the_other(n, fn)
    for i = 1, n do
        task.spawn(fn, i):join()
    end
end

describe("the coroutine of a task", function()
    it("is not reused from an ended task", function()
        local seen <const>, strangers = {}, 0
        one_after_the_other(50, function(i)
            local co = coroutine.running()
            strangers = strangers + (seen[co] and 1 or 0)
            seen[co] = i
        end)
        assert.equal(0, strangers)
    end)

    it("keeps its hook to itself", function()
        local fired = 0
        one_after_the_other(50, function(i)
            assert.is_nil((debug.gethook()))
            if i % 2 == 0 then
                debug.sethook(function() fired = fired + 1 end, "l")
            else
                local a = i
                assert.equal(i, a)
            end
        end)
        assert.is_true(fired <= 50, tostring(fired)) -- each in its own task, up to its `end`
    end)

    it("is collected when nothing holds it", function()
        local weak <const> = setmetatable({}, { __mode = "k" })
        one_after_the_other(20, function() weak[coroutine.running()] = true end)
        collectgarbage()
        collectgarbage()
        assert.is_nil(next(weak))
    end)
end)

describe("the coroutine of an ended task", function()
    local ends <const> = {
        ["returned nothing"] = function() end,
        ["returned values"] = function() return 1, nil, "x" end,
        ["waited before"] = function() task.sleep(0) return 1 end,
        ["failed"] = function() error { kind = "mine" } end,
    }

    --- The coroutine, and the task.
    local function ended(fn)
        local co
        local g <close> = task.group()
        local t = g:spawn(function()
            co = coroutine.running()
            return fn()
        end)
        pcall(g.wait, g)
        return co, t
    end

    for name, fn in pairs(ends) do
        it("is dead when it " .. name, function()
            local co = ended(fn)
            assert.equal("dead", coroutine.status(co))
            assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co, 5) })
            assert.is_nil(debug.getinfo(co, 0))
            assert.equal("stack traceback:", debug.traceback(co))
        end)
    end

    it("is dead when it was cancelled, before it began or while it waited", function()
        local co
        local t = task.spawn(function()
            co = coroutine.running()
            task.sleep(60)
        end)
        task.sleep(0)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.equal("dead", coroutine.status(co))
    end)

    it("can be closed, and the task's results remain", function()
        local co, t = ended(ends["returned values"])
        for _ = 1, 2 do
            assert.is_true((coroutine.close(co)))
            assert.same({ n = 3, 1, nil, "x" }, table.pack(t:join()))
        end
        co, t = ended(ends["failed"])
        assert.is_true((coroutine.close(co)))
        assert.equal("mine", failure(t.join, t).kind)
    end)

    it("is dead for a task that waited in its own coroutine", function()
        local inner
        local co = ended(function()
            inner = coroutine.create(function() task.sleep(0) end)
            assert(coroutine.resume(inner))
        end)
        assert.equal("dead", coroutine.status(co))
        assert.equal("dead", coroutine.status(inner))
    end)
end)

describe("many short tasks", function()
    it("leak no memory", function()
        local function kilobytes()
            collectgarbage()
            collectgarbage()
            return collectgarbage "count"
        end
        local function batch()
            local g <close> = task.group()
            for _ = 1, 1000 do
                g:spawn(task.sleep, 0)
            end
        end
        batch()
        local before = kilobytes()
        for _ = 1, 20 do
            batch()
        end
        assert.is_true(kilobytes() - before < 64, tostring(kilobytes() - before))
    end)
end)
