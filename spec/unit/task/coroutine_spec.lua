--- Coroutines of the script: a task can wait inside of them, and they stay plain coroutines.

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

describe("a generator", function()
    it("can wait between its values", function()
        local function numbers(n)
            return coroutine.wrap(function()
                for i = 1, n do
                    task.sleep(0.001)
                    coroutine.yield(i)
                end
            end)
        end
        local seen <const> = {}
        for i in numbers(4) do
            seen[#seen + 1] = i
            task.sleep(0)
        end
        assert.same({ 1, 2, 3, 4 }, seen)
    end)

    it("can wait many coroutines deep", function()
        local function nested(depth)
            if depth == 0 then
                task.sleep(0.001)
                return "bottom"
            end
            return coroutine.wrap(function() coroutine.yield(nested(depth - 1)) end)()
        end
        assert.equal("bottom", nested(40))
    end)

    it("lets other tasks run while it waits, each with its own generators", function()
        local function letters(from)
            return coroutine.wrap(function()
                for i = 0, 2 do
                    task.sleep(0.001)
                    coroutine.yield(string.char(from:byte() + i))
                end
            end)
        end
        local texts = task.map({ "a", "k", "u" }, 3, function(from)
            local text = ""
            for c in letters(from) do
                text = text .. c
            end
            return text
        end)
        assert.same({ "abc", "klm", "uvw", n = 3 }, texts)
    end)

    it("passes values and errors as in plain Lua", function()
        local gen = coroutine.wrap(function(...)
            task.sleep(0)
            local back = table.pack(coroutine.yield(...))
            task.sleep(0)
            error({ back.n })
        end)
        assert.same({ n = 3, 1, nil, nil }, table.pack(gen(1, nil, nil)))
        assert.same({ 2 }, failure(gen, nil, nil))
        assert.is_truthy(tostring(failure(gen)):find("cannot resume dead coroutine", 1, true))
    end)

    it("makes resume return true and the values, or false and the error", function()
        local co = coroutine.create(function(a)
            task.sleep(0)
            local b = coroutine.yield(a + 1)
            task.sleep(0)
            error(b, 0)
        end)
        assert.same({ true, 2 }, { coroutine.resume(co, 1) })
        assert.equal("suspended", coroutine.status(co))
        assert.same({ false, "no" }, { coroutine.resume(co, "no") })
        assert.equal("dead", coroutine.status(co))
    end)

    it("is cancelled with its task: its variables are closed, from outside", function()
        local g <close> = task.group()
        local closed <const> = {}
        local t = g:spawn(function()
            local gen = coroutine.wrap(function()
                local _ <close> = closing(function(_, why)
                    closed[#closed + 1] = why.kind
                    closed[#closed + 1] = failure(task.sleep, 0.005).kind -- as in coroutine.close
                end)
                task.sleep(60)
            end)
            gen()
        end)
        task.sleep(0)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
        assert.same({ "cancelled", "usage" }, closed)
    end)

    it("closes variables that wait when a pcall inside sees the error", function()
        local gen = coroutine.wrap(function()
            local slept = false
            local ok = pcall(function()
                local _ <close> = closing(function()
                    task.sleep(0.001)
                    slept = true
                end)
                error "inside"
            end)
            coroutine.yield(ok, slept)
        end)
        assert.same({ false, true }, { gen() })
    end)

    it("can be handed from task to task between its values", function()
        local gen = coroutine.wrap(function()
            for i = 1, 6 do
                task.sleep(0.001)
                coroutine.yield(i)
            end
        end)
        local seen <const> = {}
        for _ = 1, 3 do
            task.spawn(function() seen[#seen + 1] = gen() end):join()
            seen[#seen + 1] = gen()
        end
        assert.same({ 1, 2, 3, 4, 5, 6 }, seen)
    end)
end)

describe("a coroutine in which a task waits", function()
    local co, t

    local function park(g)
        co = coroutine.create(function()
            task.sleep(0.02)
            return "slept"
        end)
        t = g:spawn(function() return select(2, coroutine.resume(co)) end)
        task.sleep(0)
    end

    it("cannot be resumed by another task", function()
        local g <close> = task.group()
        park(g)
        assert.equal("normal", coroutine.status(co))
        assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(co) })
        assert.equal("slept", t:join())
    end)

    it("cannot be closed by another task", function()
        local g <close> = task.group()
        park(g)
        assert.is_truthy(tostring(failure(coroutine.close, co)):find("cannot close a normal coroutine", 1, true))
        assert.equal("slept", t:join())
    end)

    it("a task's own coroutine cannot be resumed or closed", function()
        local g <close> = task.group()
        local own
        t = g:spawn(function()
            own = coroutine.running()
            task.sleep(0.01)
            return "unharmed"
        end)
        task.sleep(0)
        assert.is_false((coroutine.resume(own)))
        failure(coroutine.close, own)
        assert.equal("unharmed", t:join())
        assert.is_false((coroutine.resume(own)))
    end)

    it("a coroutine cannot resume itself", function()
        local gen
        gen = coroutine.wrap(function()
            local e = failure(gen)
            task.sleep(0)
            coroutine.yield(e)
        end)
        assert.is_truthy(gen():find("cannot resume non-suspended coroutine", 1, true))
    end)
end)

describe("time limits and groups inside a generator", function()
    it("a time limit does not affect the caller between two values", function()
        local gen = coroutine.wrap(function()
            task.timeout(0.01, function()
                coroutine.yield(1)
                coroutine.yield(2)
                task.sleep(60)
            end)
        end)
        assert.equal(1, gen())
        task.sleep(0.02)
        assert.equal(2, gen()) -- it is due, and ends the generator's next wait
        assert.is_true(errors.is(failure(gen), "timeout"))
    end)

    it("a time limit counts in the task that resumes the generator", function()
        local g <close> = task.group()
        local gen = coroutine.wrap(function()
            task.timeout(0.02, function()
                coroutine.yield(1)
                task.sleep(60)
            end)
        end)
        local first = g:spawn(function()
            gen()
            task.sleep(0.05)
            return "not limited"
        end)
        task.sleep(0.005)
        assert.is_true(errors.is(failure(gen), "timeout"))
        assert.equal("not limited", first:join())
    end)

    it("the time limit of an abandoned generator ends with it", function()
        for _ = 1, 50 do
            local gen = coroutine.wrap(function() task.timeout(0.001, coroutine.yield, 1) end)
            assert.equal(1, gen())
        end
        collectgarbage()
        task.sleep(0.005)
        collectgarbage()
        task.sleep(0)
    end)

    it("a shield does not protect the caller between two values", function()
        local g <close> = task.group()
        local t = g:spawn(function()
            local gen = coroutine.wrap(function() task.shield(coroutine.yield, 1) end)
            gen()
            task.sleep(60)
        end)
        task.sleep(0)
        t:cancel()
        assert.is_true(errors.is(failure(t.join, t), "cancelled"))
    end)

    it("a group stays open between the values", function()
        local gen = coroutine.wrap(function()
            local q <const> = task.queue(2)
            local g <close> = task.group()
            g:spawn(function()
                for i = 1, 5 do
                    task.sleep(0.001)
                    q:push(i)
                end
                q:close()
            end)
            for i in q:items() do
                coroutine.yield(i)
            end
        end)
        local sum = 0
        for i in gen do
            sum = sum + i
            task.sleep(0.001)
        end
        assert.equal(15, sum)
    end)

    it("an error of such a group is raised where the generator waits", function()
        local gen = coroutine.wrap(function()
            local g <close> = task.group()
            g:spawn(error, "boom", 0)
            coroutine.yield(1)
            task.sleep(60)
        end)
        assert.equal(1, gen())
        task.sleep(0.005)
        assert.is_truthy(tostring(failure(gen)):find("boom", 1, true))
    end)

    it("the tasks of an abandoned generator end with the task that started it", function()
        local ended = false
        task.spawn(function()
            local gen = coroutine.wrap(function()
                local g <close> = task.group()
                g:spawn(function()
                    task.sleep(0.01)
                    ended = true
                end)
                coroutine.yield(1)
            end)
            gen()
        end):join()
        task.sleep(0.02)
        assert.is_true(ended)
    end)
end)

describe("the coroutine library", function()
    it("has the script as the main thread, as in lua", function()
        local main = task.spawn(function() return select(2, coroutine.running()) end)
        assert.is_false(main:join())
        assert.is_truthy(tostring(failure(coroutine.yield)):find("outside a coroutine", 1, true))
        assert.is_false(coroutine.isyieldable())
        assert.is_true(coroutine.wrap(coroutine.isyieldable)())
    end)

    it("returns the status of coroutines", function()
        local outer
        outer = coroutine.create(function()
            local inner = coroutine.create(function() return coroutine.status(outer) end)
            assert.equal("suspended", coroutine.status(inner))
            local _, seen = coroutine.resume(inner)
            assert.equal("dead", coroutine.status(inner))
            return coroutine.status(outer), seen
        end)
        assert.same({ true, "running", "normal" }, { coroutine.resume(outer) })
        assert.has_error(function() coroutine.status(5) end)
    end)

    it("close closes variables and returns their error", function()
        local function suspended(fn)
            local co = coroutine.create(function()
                local _ <close> = closing(fn)
                coroutine.yield()
            end)
            coroutine.resume(co)
            return co
        end
        local closed = false
        assert.is_true((coroutine.close(suspended(function() closed = true end))))
        assert.is_true(closed)
        assert.same({ false, "bad" }, { coroutine.close(suspended(function() error("bad", 0) end)) })
        assert.is_true((coroutine.close(coroutine.create(print))))
    end)

    it("wrap puts the position of the caller in front of an error, as lua does", function()
        local gen = coroutine.wrap(function() error("text") end)
        assert.is_truthy(failure(function() gen() end):find("^[^ ]+:%d+: [^ ]+:%d+: text$"))
    end)
end)

describe("a group of a coroutine that another task has resumed", function()
    it("can be collected after that task's own group", function()
        local co = coroutine.create(function()
            local g = task.group()
            coroutine.yield()
            coroutine.yield()
            return g
        end)
        assert.is_true(coroutine.resume(co))
        do
            local g <close> = task.group()
            g:spawn(function() assert(coroutine.resume(co)) end)
        end
        for _ = 1, 4 do collectgarbage() end -- that group is collected
        co = nil -- luacheck: ignore
        for _ = 1, 2 do collectgarbage() end -- the sanitizers look at this
        assert.is_nil(co)
    end)
end)
