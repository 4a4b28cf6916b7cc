--- Several tasks that wait for one thing: the end of a group or of a task. All of them wake, each with its result.

local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
local rounds <const> = tonumber(os.getenv "DBRUN_TEST_ROUNDS") or 200

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    return e
end

local function close(g)
    local _ <close> = g
end

--- Runs `use(g, spawn)`, where `g` is a group of a task that waits in g:wait(), and `spawn` starts tasks beside it.
--- Returns the result of g:wait().
local function beside_waiter(start, use)
    local result
    local around <close> = task.group()
    around:spawn(function()
        local g <close> = task.group()
        start(g)
        around:spawn(use, g, function(...) return around:spawn(...) end)
        result = table.pack(pcall(g.wait, g))
    end)
    around:wait()
    return result
end

describe("tasks that wait for one group", function()
    it("all wake when another task closes it", function()
        local closed = 0
        local result = beside_waiter(function(g) g:spawn(task.sleep, 0.01) end, function(g, spawn)
            for _ = 1, 3 do
                spawn(function()
                    close(g)
                    closed = closed + 1
                end)
            end
        end)
        assert.same({ true, n = 1 }, result)
        assert.equal(3, closed)
    end)

    it("all raise its error", function()
        local seen = {}
        local result = beside_waiter(function(g)
            g:spawn(function()
                task.sleep(0.01)
                error("broken", 0)
            end)
        end, function(g, spawn)
            for i = 1, 3 do
                spawn(function() seen[i] = failure(close, g) end)
            end
        end)
        assert.same({ false, "broken", n = 2 }, result)
        assert.same({ "broken", "broken", "broken" }, seen)
    end)

    it("all raise its error when that is nil", function()
        local seen
        local result = beside_waiter(function(g)
            g:spawn(function()
                task.sleep(0.01)
                error(nil)
            end)
        end, function(g) seen = table.pack(pcall(close, g)) end)
        assert.same({ false, n = 2 }, result)
        assert.same({ false, n = 2 }, seen)
    end)

    it("wait on when one of them is cancelled, and that one raises its cancellation", function()
        local ended, closer, seen = 0, nil, nil
        local result = beside_waiter(function(g)
            g:spawn(function()
                local _ <close> = setmetatable({}, { __close = function()
                    task.sleep(0.01)
                    ended = ended + 1
                end })
                task.sleep(60)
            end)
        end, function(g, spawn)
            closer = spawn(function()
                seen = failure(close, g)
                assert.equal(1, ended)
            end)
            task.sleep(0.002)
            closer:cancel()
        end)
        assert.same({ true, n = 1 }, result)
        assert.is_true(errors.is(seen, "cancelled"))
    end)

    it("include the task that made it, while another closes it", function()
        local waited
        local around <close> = task.group()
        around:spawn(function()
            local g <close> = task.group()
            g:spawn(task.sleep, 0.01)
            around:spawn(close, g)
            task.sleep(0)
            waited = pcall(g.wait, g)
        end):join()
        assert.is_true(waited)
    end)

    it("can outlive the task that made it; another task closes the group", function()
        local around <close> = task.group()
        local g, done
        around:spawn(function()
            g = task.group()
            g:spawn(task.sleep, 0.01)
            around:spawn(function()
                close(g)
                done = true
            end)
            task.sleep(0)
        end):join()
        collectgarbage()
        assert.is_nil(done)
        around:spawn(close, g):join()
        around:wait()
        assert.is_true(done)
    end)

    it("get an error when it is closed already", function()
        local g <const> = task.group()
        close(g)
        local e = failure(g.wait, g)
        assert.is_true(errors.is(e, "usage"))
        assert.matches("closed", tostring(e))
    end)

    it("cannot be its own tasks", function()
        local e
        local g <close> = task.group()
        g:spawn(function() e = failure(close, g) end)
        g:wait()
        assert.is_true(errors.is(e, "usage"))
        g:spawn(function()
            local inner <close> = task.group()
            inner:spawn(function() e = failure(close, g) end)
        end)
        e = nil
        g:wait()
        assert.is_true(errors.is(e, "usage"))
        assert.equal("mine", failure(function()
            local other <close> = task.group()
            other:spawn(function()
                local _ <close> = other
                error("mine", 0)
            end)
        end))
    end)

    it("all wake and have the right result at random (seed " .. seed .. ")", function()
        math.randomseed(seed)
        local function nap()
            task.sleep(math.random(0, 3) * 0.0005)
        end
        for _ = 1, rounds do
            local running, waiting, bug = 0, 0, nil
            local fails = math.random(3) == 1
            local function work(i)
                running = running + 1
                local _ <close> = setmetatable({}, { __close = function()
                    if math.random(3) == 1 then
                        pcall(nap)
                    end
                    running = running - 1
                end })
                nap()
                if fails and i == 1 then
                    error("failed", 0)
                end
                nap()
            end
            --- Waits by `fn(g)`. Afterwards no task of the group runs, and an error is the group's, or a
            --- cancellation that this task got.
            local function waiter(g, fn, cancelled)
                waiting = waiting + 1
                local ok, e = pcall(fn, g)
                waiting = waiting - 1
                if running > 0 then
                    bug = bug or "it came back while tasks ran"
                elseif not ok and e ~= "failed" and not (cancelled() and errors.is(e, "cancelled")) then
                    bug = bug or ("unexpected error: " .. tostring(e))
                elseif not ok and e == "failed" and not fails then
                    bug = bug or "an error that no task raised"
                end
            end
            do
                local around <close> = task.group()
                around:spawn(function()
                    local g <const> = task.group()
                    for i = 1, math.random(4) do
                        g:spawn(work, i)
                    end
                    for _ = 1, math.random(0, 4) do
                        local at, cancelled = math.random(3), false
                        local t <const> = around:spawn(function()
                            for _ = 1, at do
                                task.sleep(0)
                            end
                            waiter(g, close, function() return cancelled end)
                        end)
                        if math.random(4) == 1 then
                            around:spawn(function()
                                nap()
                                cancelled = true
                                t:cancel()
                            end)
                        end
                    end
                    if math.random(4) == 1 then
                        around:spawn(function()
                            nap()
                            g:cancel()
                        end)
                    end
                    if math.random(2) == 1 then
                        waiter(g, function() pcall(g.wait, g) end, function() return false end)
                    end
                    waiter(g, close, function() return true end) -- or its block, when a task fails in nap
                end)
            end
            assert.is_nil(bug)
            assert.equal(0, running)
            assert.equal(0, waiting)
        end
    end)
end)

describe("tasks that join one task", function()
    local function results(body, disturb)
        local seen = {}
        do
            local around <close> = task.group()
            local t <const> = around:spawn(body)
            local joiners = {}
            for i = 1, 4 do
                joiners[i] = around:spawn(function() seen[i] = table.pack(pcall(t.join, t)) end)
            end
            task.sleep(0)
            disturb(t, joiners)
        end
        return seen
    end

    it("all get its results", function()
        local one <const> = { true, 1, nil, 3, n = 4 }
        assert.same({ one, one, one, one }, results(function()
            task.sleep(0.005)
            return 1, nil, 3
        end, function() end))
    end)

    it("all get its error", function()
        local one <const> = { false, "broken", n = 2 }
        assert.same({ one, one, one, one }, results(function()
            task.sleep(0.005)
            error("broken", 0)
        end, function() end))
    end)

    it("get its results when another of them is cancelled", function()
        local seen <const> = results(function()
            task.sleep(0.005)
            return 1
        end, function(_, joiners) joiners[2]:cancel() end)
        assert.is_true(errors.is(seen[2][2], "cancelled"))
        for _, i in ipairs { 1, 3, 4 } do
            assert.same({ true, 1, n = 2 }, seen[i])
        end
    end)
end)
