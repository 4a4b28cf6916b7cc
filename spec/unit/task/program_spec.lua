--- Whole programs of tasks: deadlocks, abandoned groups, waiting for signals.

local pace <const> = require "spec.support.pace"
local run <const> = require "spec.support.command".run

local PROLOGUE <const> = [[
    local task = require "dbrun.task"
    local function closing(fn) return setmetatable({}, { __close = fn }) end
]]

local function program(code)
    return run("lua a.lua", { ["a.lua"] = PROLOGUE .. code })
end

local DEADLOCK <const> = "deadlock: every task waits, and no socket, timer or child process is left that could wake one"

--- A program with the queue q. Returns its error message.
local function fails_by_deadlock(code)
    local r <const> = program("local q = task.queue() " .. code)
    assert.equal("", r.out)
    assert.is_truthy(r.err:find(DEADLOCK, 1, true), code .. "\n" .. r.err)
    assert.equal(1, r.code)
    return r.err
end

describe("a program whose tasks all wait for each other", function()
    it("gets an error and ends with exit status 1", function()
        local r = program [[
            local a, b
            a = task.spawn(function() local _ <close> = closing(function() print "closed" end) b:join() end)
            b = task.spawn(function() a:join() end)
            a:join()]]
        assert.equal("closed\n", r.out)
        assert.is_truthy(r.err:find(DEADLOCK, 1, true))
        assert.equal(1, r.code)
    end)

    it("gets the error again when it goes on and waits again", function()
        local r = program [[
            local q = task.queue()
            for _ = 1, 3 do print(select(2, pcall(q.pop, q)).kind) end
            task.spawn(q.pop, q)
            local g <close> = task.group()
            g:spawn(q.pop, q)]]
        assert.equal("cancelled\ncancelled\ncancelled\n", r.out)
        assert.is_truthy(r.err:find(DEADLOCK, 1, true))
        assert.equal(1, r.code)
    end)

    it("gets the error in a shield, too", function()
        for _, code in ipairs {
            "task.shield(q.pop, q)",
            "local x <close> = closing(function() task.shield(q.pop, q) end)",
            "task.shield(function() local g <close> = task.group() g:spawn(q.pop, q) end)",
            "task.shield(function() task.spawn(q.pop, q):join() end)",
            "local g <close> = task.group() g:spawn(task.shield, task.shield, q.pop, q)",
            "task.shield(function() local s = task.semaphore(1) local a, b = s:acquire(), s:acquire() end)",
            "local t = task.spawn(task.shield, q.pop, q) task.sleep(0) t:cancel() t:join()",
            "task.all { function() task.shield(q.pop, q) end, function() q:pop() end }",
        } do
            fails_by_deadlock(code)
        end
    end)

    it("gets the error again in a task of a group that is closed", function()
        local r = program [[
            local q = task.queue()
            local g <close> = task.group()
            g:spawn(function() for _ = 1, 3 do print(select(2, pcall(q.pop, q)).kind) end end)]]
        assert.equal("cancelled\ncancelled\ncancelled\n", r.out)
        assert.is_truthy(r.err:find(DEADLOCK, 1, true))
        assert.equal(1, r.code)
    end)

    it("goes on when it catches that in a shield", function()
        local r = program [[
            local q = task.queue()
            print(pcall(task.shield, function() print(select(2, pcall(q.pop, q)).kind) return 5 end))
            task.sleep(0.001)
            print "end"]]
        assert.same({ out = "cancelled\ntrue\t5\nend\n", err = "", code = 0 }, r)
    end)

    it("fails when only tasks that are never joined got the error", function()
        for _, code in ipairs {
            "task.spawn(q.pop, q)",
            "task.spawn(function() local g <close> = task.group() g:spawn(q.pop, q) end)",
            "task.group():spawn(q.pop, q)",
            "task.spawn(task.shield, q.pop, q)",
            "local t = task.spawn(function() pcall(q.pop, q) q:pop() end) pcall(t.join, t)",
        } do
            fails_by_deadlock(code)
        end
    end)

    it("can spawn and cancel tasks when it has caught that", function()
        local r = program [[
            local q = task.queue()
            local t = task.spawn(function() pcall(q.pop, q) task.sleep(60) end)
            local g <close> = task.group()
            g:spawn(pcall, q.pop, q)
            print(select(2, pcall(g.wait, g)).kind)
            print(task.spawn(function() return "spawned" end):join())
            print(g:spawn(function() return "in the group" end):join())
            t:cancel()
            print(select(2, pcall(t.join, t)).message, t:status())]]
        assert.same({
            out = "cancelled\nspawned\nin the group\nthe task was cancelled\tcancelled\n", err = "", code = 0,
        }, r)
    end)

    it("can be interrupted when it has caught that", function()
        local files <const> = { ["a.lua"] = PROLOGUE .. [[
            local _ <close> = closing(function() task.sleep(0.01) print "closed" end)
            local q = task.queue()
            local t = task.spawn(function()
                local _ <close> = closing(function() print "task" end)
                pcall(q.pop, q)
                task.sleep(60)
            end)
            pcall(q.pop, q)
            print "begun"
            io.open("ready", "w"):close()
            while true do end]] }
        local r = run("lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; kill -TERM $pid; wait $pid",
            files)
        assert.same({ out = "begun\ntask\nclosed\n", err = "lua: interrupted by SIGTERM\n", code = 143 }, r)
        local limit
        pace.long_enough(0.5, function(seconds)
            limit = ("%g"):format(seconds)
            r = run(("lua --timeout %s a.lua"):format(limit), files)
            return r.out:find "begun"
        end)
        local told <const> = ("lua: the script took longer than %s s (--timeout)\n"):format(limit)
        assert.same({ out = "begun\ntask\nclosed\n", err = told, code = 1 }, r)
    end)

    it("can get the error any number of times while its tasks end", function()
        local r = program [[
            local q, ended, told = task.queue(), 0, 0
            for _ = 1, 2500 do
                local t = task.spawn(function() pcall(q.pop, q) ended = ended + 1 end)
                told = told + (pcall(t.join, t) and 0 or 1)
            end
            print(ended, told)]]
        assert.same({ out = "2500\t2500\n", err = "", code = 0 }, r)
    end)

    it("fails when it waits forever again, and says where", function()
        for _, code in ipairs {
            "while true do pcall(q.pop, q) end",
            "task.spawn(function() while true do pcall(q.pop, q) end end)",
            "task.shield(function() while true do pcall(q.pop, q) end end)",
            "local g <close> = task.group() g:spawn(function() while true do pcall(q.pop, q) end end)",
            [[local a <close> = task.group() local b <close> = task.group()
            a:spawn(function() task.sleep(0) local _ <close> = b end)
            b:spawn(function() task.sleep(0) local _ <close> = a end)]],
        } do
            local message <const> = fails_by_deadlock(code)
            assert.matches("%(task %d at a%.lua:%d+ waits again after each such error%)", message)
        end
    end)

    it("gets the error under a stock lua5.4", function()
        require "spec.support.finaliser".run_stock "deadlocks.lua"
    end)
end)

describe("a program that abandons a group", function()
    it("ends when the tasks of the group have", function()
        local r = program [[task.group():spawn(function() task.sleep(0.02) print "last" end) print "first"]]
        assert.same({ out = "first\nlast\n", err = "", code = 0 }, r)
    end)

    it("fails with the error of such a task", function()
        local r = program [[task.group():spawn(function() task.sleep(0.01) error("lost", 0) end)]]
        assert.is_truthy(r.err:find("lost", 1, true))
        assert.equal(1, r.code)
    end)

    it("cancels such tasks when it is interrupted", function()
        local r = run("lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; kill -INT $pid; wait $pid", {
            ["a.lua"] = PROLOGUE .. [[
                task.group():spawn(function()
                    task.group():spawn(function()
                        local _ <close> = closing(function() task.sleep(0.01) print "closed" end)
                        io.open("ready", "w"):close()
                        task.sleep(60)
                    end)
                end)]],
        })
        assert.same({ out = "closed\n", err = "lua: interrupted by SIGINT\n", code = 130 }, r)
    end)
end)

describe("a program with groups within groups, deeper than the C stack", function()
    it("ends in every way of ending", function()
        for code, expected in pairs {
            ["t:cancel() print(select(2, pcall(t.join, t)).message)"] =
                { out = "the task was cancelled\n", err = "", code = 0 },
            ["os.exit(3, true)"] = { out = "", err = "", code = 3 },
            ["os.execute 'kill -TERM $PPID' task.sleep(60)"] =
                { out = "", err = "lua: interrupted by SIGTERM\n", code = 143 },
            ["q:push('x') t:join() print 'joined'"] = { out = "joined\n", err = "", code = 0 },
            ["left()"] = { out = "", err = "", code = 0 },
        } do
            local r = run("ulimit -s 1024; lua a.lua", { ["a.lua"] = PROLOGUE .. [[
                local q, deepest = task.queue(), task.queue()
                local function nest(n)
                    if n == 0 then
                        deepest:push(true)
                        return q:pop()
                    end
                    local g <close> = task.group()
                    g:spawn(nest, n - 1)
                end
                local function left()
                    local function leave(n) if n > 0 then task.group():spawn(leave, n - 1) end end
                    leave(12000)
                    q:push("x")
                end
                local t = task.spawn(nest, 12000)
                deepest:pop()
                ]] .. code })
            assert.same(expected, r)
        end
    end)
end)

describe("a program that waits for signals", function()
    it("can sleep forever meanwhile", function()
        local r = run("lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; kill -USR1 $pid; wait $pid", {
            ["a.lua"] = PROLOGUE .. [[
                local me = task.spawn(task.sleep, math.huge)
                task.on_signal("SIGUSR1", function(name) print(name) me:cancel() end)
                task.sleep(0)
                io.open("ready", "w"):close()
                pcall(me.join, me)
                print "end"]],
        })
        assert.same({ out = "SIGUSR1\nend\n", err = "", code = 0 }, r)
    end)

    it("can wait for the effect of their functions", function()
        local r = run("lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; kill -TERM $pid; wait $pid", {
            ["a.lua"] = PROLOGUE .. [[
                local q = task.queue()
                local listening = task.on_signal("SIGTERM", function(name) q:push(name) end)
                task.sleep(0)
                task.spawn(function() task.sleep(0.05) io.open("ready", "w"):close() end)
                print(q:pop())
                listening:cancel()
                print(select(2, pcall(q.pop, q)).kind)]],
        })
        assert.same({ out = "SIGTERM\ncancelled\n", err = "", code = 0 }, r)
    end)

    it("ends with its last task, although it waits for signals", function()
        assert.same({ out = "", err = "", code = 0 }, program "task.on_signal('SIGUSR1', print)")
    end)

    it("fails when the function does", function()
        local r = run("lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; kill -USR1 $pid; wait $pid", {
            ["a.lua"] = PROLOGUE .. [[
                task.on_signal("SIGUSR1", function() error("in the handler", 0) end)
                task.sleep(0)
                io.open("ready", "w"):close()
                task.sleep(60)]],
        })
        assert.is_truthy(r.err:find("in the handler", 1, true))
        assert.equal(1, r.code)
    end)
end)

describe("a program that no longer handles SIGINT", function()
    it("is interrupted by it as usual", function()
        local r = run("lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; kill -INT $pid; wait $pid", {
            ["a.lua"] = PROLOGUE .. [[
                local _ <close> = closing(function() print "closed" end)
                local first = task.on_signal("SIGINT", print)
                local second = task.on_signal("INT", print)
                task.sleep(0)
                first:cancel()
                second:cancel()
                task.sleep(0.01)
                io.open("ready", "w"):close()
                task.sleep(60)]],
        })
        assert.same({ out = "closed\n", err = "lua: interrupted by SIGINT\n", code = 130 }, r)
    end)
end)
