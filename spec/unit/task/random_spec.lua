--- Tasks at random: a tree of groups, tasks, generators, time limits, shields, queues and semaphores, with
--- cancellations and errors at random moments. In any case everything ends, nothing is lost, and
--- nothing outlives its group.

local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
local rounds <const> = tonumber(os.getenv "DBRUN_TEST_ROUNDS") or 150

local function world()
    local w = { running = 0, sem = task.semaphore(3), held = 0, queue = task.queue(2), pushed = 0, popped = 0 }

    local function closing(fn)
        return setmetatable({}, { __close = fn })
    end

    local function nap()
        task.sleep(math.random(0, 2) * 0.0005)
    end

    local actions
    local function act(depth)
        for _ = 1, math.random(1, 3) do
            actions[math.random(#actions)](depth)
        end
    end

    local function expected(e)
        local meant = type(e) == "string" and e:find "random$"
        if not meant and not errors.is(e, "cancelled") and not errors.is(e, "timeout") then
            w.bug = w.bug or debug.traceback("unexpected error: " .. tostring(e))
        end
    end

    local function body(depth)
        w.running = w.running + 1
        local _ <close> = closing(function()
            if math.random(4) == 1 then
                pcall(nap) -- cleanup can wait, and can be cancelled again
            end
            w.running = w.running - 1
        end)
        act(depth + 1)
    end

    actions = {
        nap, nap,
        function(depth) -- a group
            if depth > 3 then
                return
            end
            local before <const> = w.running
            local count = 0
            local ok, e = pcall(function()
                local g <close> = task.group()
                for _ = 1, math.random(0, 4) do
                    count = count + 1
                    local t = g:spawn(body, depth)
                    if math.random(5) == 1 then
                        t:cancel()
                    end
                end
                if math.random(3) == 1 then
                    act(depth + 1)
                end
                if math.random(6) == 1 then
                    g:cancel()
                end
                if math.random(2) == 1 then
                    g:wait()
                end
            end)
            if not ok then
                expected(e)
                if math.random(2) == 1 then
                    error(e, 0)
                end
            end
            return before, count
        end,
        function(depth) -- a time limit
            local ok, e = pcall(task.timeout, math.random(0, 3) * 0.0005, act, depth + 1)
            if not ok then
                expected(e)
                if math.random(3) == 1 then
                    error(e, 0)
                end
            end
        end,
        function(depth) -- a shield
            if depth < 4 then
                task.shield(act, depth + 1)
            end
        end,
        function(depth) -- a generator
            if depth > 4 then
                return
            end
            local gen = coroutine.wrap(function()
                for i = 1, 3 do
                    if math.random(2) == 1 then
                        act(depth + 1)
                    end
                    coroutine.yield(i)
                end
            end)
            for _ = 1, math.random(0, 4) do
                if not gen() then
                    break
                end
                nap()
            end
        end,
        function() -- a semaphore
            local permit <close> = w.sem:acquire(math.random(3) == 1 and 0.0005 or nil)
            if permit then
                w.held = w.held + 1
                local _ <close> = closing(function() w.held = w.held - 1 end)
                if w.held > 3 then
                    w.bug = w.bug or "more permits than there are"
                end
                nap()
            end
        end,
        function() -- push
            if math.random(2) == 1 then
                w.queue:push(w.pushed)
                w.pushed = w.pushed + 1
            end
        end,
        function() -- pop
            if w.queue:pop(0.0005) ~= nil then
                w.popped = w.popped + 1
            end
        end,
        function() -- an error
            if math.random(6) == 1 then
                error("random", 0)
            end
        end,
        function() -- the collector
            if math.random(10) == 1 then
                collectgarbage()
            end
        end,
    }
    w.act, w.body, w.expected = act, body, expected
    return w
end

describe("tasks at random", function()
    it("always end, lose nothing, and never outlive their group (seed " .. seed .. ")", function()
        math.randomseed(seed)
        for _ = 1, rounds do
            local w <const> = world()
            local drain = task.spawn(function() -- so that no task waits forever for room in the queue
                while true do
                    if w.queue:pop() == nil then
                        return
                    end
                    w.popped = w.popped + 1
                end
            end)
            local ok, e = pcall(function()
                local g <close> = task.group()
                for _ = 1, 8 do
                    g:spawn(w.body, 0)
                end
                task.sleep(math.random(0, 6) * 0.001)
                if math.random(3) == 1 then
                    g:cancel()
                end
                g:wait()
            end)
            if not ok then
                w.expected(e)
            end
            assert.is_nil(w.bug)
            assert.equal(0, w.running)
            assert.equal(0, w.held)
            for _ = 1, 3 do
                assert.is_truthy(w.sem:try_acquire()) -- every permit came back
            end
            w.queue:close()
            drain:join()
            assert.equal(w.pushed, w.popped)
        end
    end)
end)
