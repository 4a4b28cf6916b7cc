--- Programs of tasks as a whole: deadlocks, groups left behind, waiting for signals.

local run <const> = require "spec.support.command".run

local PROLOGUE <const> = [[
    local task = require "dbrun.task"
    local function closing(fn) return setmetatable({}, { __close = fn }) end
]]

local function program(code)
    return run("lua a.lua", { ["a.lua"] = PROLOGUE .. code })
end

local DEADLOCK <const> = "deadlock: every task waits, and no socket, timer or child process is left that could wake one"

describe("a program whose tasks all wait for each other", function()
    it("is told so and ends with exit status 1", function()
        local r = program [[
            local a, b
            a = task.spawn(function() local _ <close> = closing(function() print "closed" end) b:join() end)
            b = task.spawn(function() a:join() end)
            a:join()]]
        assert.equal("closed\n", r.out)
        assert.is_truthy(r.err:find(DEADLOCK, 1, true))
        assert.equal(1, r.code)
    end)

    it("is told again when it goes on and waits again", function()
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
end)

describe("a program that leaves a group behind", function()
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

describe("a program that waits for signals", function()
    it("may sleep for ever meanwhile", function()
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

describe("a program that no longer listens to SIGINT", function()
    it("is interrupted by it as ever", function()
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
