--- os.exit(code, true): no pcall catches it, pending variables are closed without an error, the other tasks are
--- cancelled, and finalisers run.

local run <const> = require "spec.support.command".run

local PROLOGUE <const> = [[
    local function closing(name)
        return setmetatable({}, { __close = function(_, e)
            print("closed " .. name, type(e) == "table" and e.kind or e)
        end })
    end
    collected = setmetatable({}, { __gc = function() print "collected" end })
    local main <close> = closing "main"
]]

--- The same under lua5.4.
local alike <const> = {
    { "in the main chunk", "os.exit(3, true)" },
    { "with true", "os.exit(true, true)" },
    { "with false", "os.exit(false, true)" },
    { "in a function", "local function f() local x <close> = closing 'f' os.exit(3, true) end f()" },
    { "in pcall", "print(pcall(function() local x <close> = closing 'x' os.exit(3, true) end)) print 'after'" },
    { "in xpcall", "print(xpcall(os.exit, print, 3, true)) print 'after'" },
    { "in a message handler", "xpcall(error, function() os.exit(3, true) end) print 'after'" },
    { "in a loop of pcall", "while true do pcall(os.exit, 3, true) end" },
    { "in coroutine.wrap", "coroutine.wrap(function() os.exit(3, true) end)() print 'after'" },
    { "in pcall in coroutine.wrap", "coroutine.wrap(function() pcall(os.exit, 3, true) end)() print 'after'" },
    { "in a coroutine with variables",
        "coroutine.wrap(function() local x <close> = closing 'inner' os.exit(3, true) end)() print 'after'" },
    { "in resume", "print(coroutine.resume(coroutine.create(function() os.exit(3, true) end))) print 'after'" },
    { "in a sort comparator", "pcall(table.sort, { 2, 1 }, function() os.exit(3, true) end) print 'after'" },
    { "in gsub", "pcall(string.gsub, 'x', '.', function() os.exit(3, true) end) print 'after'" },
    { "in __tostring", "pcall(tostring, setmetatable({}, { __tostring = function() os.exit(3, true) end }))" },
    { "in __close", "do local x <close> = setmetatable({}, { __close = function() os.exit(3, true) end }) end" },
    { "in __close of an error", "pcall(function() local x <close> = setmetatable({}, "
        .. "{ __close = function() os.exit(3, true) end }) error 'x' end) print 'after'" },
    { "in a finaliser",
        "setmetatable({}, { __gc = function() os.exit(3, true) end }) collectgarbage() print 'after'" },
    { "in a finaliser at the end",
        "first = setmetatable({}, { __gc = function() print 'first' end }) "
        .. "x = setmetatable({}, { __gc = function() os.exit(3, true) end }) print 'end'" },
    { "in a finaliser after os.exit",
        "x = setmetatable({}, { __gc = function() os.exit(4, true) end }) os.exit(3, true)" },
    { "in a hook", "debug.sethook(function() debug.sethook() os.exit(3, true) end, 'l')\nlocal a = 1\nprint 'after'" },
    { "in a module", "package.preload.m = function() os.exit(3, true) end require 'm' print 'after'" },
}

describe("os.exit(code, true) ends a program as under lua5.4:", function()
    for _, case in ipairs(alike) do
        it(case[1], function()
            local files <const> = { ["a.lua"] = PROLOGUE .. case[2] }
            local theirs = run("lua a.lua", files, "theirs")
            assert.same(theirs, run("lua a.lua", files, "ours"))
        end)
    end

    it("at the prompt", function()
        local files <const> = { typed = "local c <close> = setmetatable({}, "
            .. "{ __close = function() io.stderr:write 'closed\\n' end }) pcall(os.exit, 7, true)\n1 + 1\n" }
        local theirs = run("lua -i <typed >/dev/null", files, "theirs")
        assert.same(theirs, run("lua -i <typed >/dev/null", files, "ours"))
    end)
end)

describe("os.exit(code, true) in a program of tasks", function()
    local TASKS <const> = PROLOGUE .. [[
        local task = require "dbrun.task"
        local function quick(name)
            return function()
                local _ <close> = setmetatable({}, { __close = function(_, e)
                    task.sleep(0.005) -- may wait: it is cancelled as any task
                    print("cancelled " .. name, e and e.kind)
                end })
                task.sleep(60)
            end
        end
    ]]

    --- Its output, in any order except the last two lines: the root's variable and the finaliser come last.
    local function ends(code, status, expected)
        local r = run("lua a.lua", { ["a.lua"] = TASKS .. code })
        assert.equal("", r.err)
        assert.equal(status, r.code)
        local lines = {}
        for line in r.out:gmatch "[^\n]+" do
            lines[#lines + 1] = line
        end
        assert.equal("collected", table.remove(lines))
        assert.equal("closed main\tnil", table.remove(lines))
        table.sort(lines)
        assert.same(expected, lines)
    end

    it("called by the main task cancels the others, and waits for them", function()
        ends("task.spawn(quick 'a') task.spawn(quick 'b') task.sleep(0) os.exit(5, true)", 5,
            { "cancelled a\tcancelled", "cancelled b\tcancelled" })
    end)

    it("called by a child ends the main task where it waits", function()
        for _, wait in ipairs { "task.sleep(60)", "pcall(task.sleep, 60) print 'caught'", "task.queue():pop()",
            "while true do pcall(task.sleep, 60) end", "coroutine.wrap(function() task.sleep(60) end)()",
            "task.shield(task.sleep, 60)", "task.timeout(60, task.sleep, 60)" } do
            ends("task.spawn(function() local x <close> = closing 'child' task.sleep(0.001) os.exit(6, true) end) "
                .. wait, 6, { "closed child\tnil" })
        end
    end)

    it("called by a child when the main task has ended", function()
        local r = run("lua a.lua", { ["a.lua"] = PROLOGUE .. [[
            local task = require "dbrun.task"
            task.spawn(function() local x <close> = closing "child" task.sleep(0.001) os.exit(6, true) end)]] })
        assert.same({ out = "closed main\tnil\nclosed child\tnil\ncollected\n", err = "", code = 6 }, r)
    end)

    it("called in a group, by its owner or by one of its tasks", function()
        ends("local g <close> = task.group() g:spawn(quick 'a') task.sleep(0) os.exit(4, true)", 4,
            { "cancelled a\tcancelled" })
        ends("local g <close> = task.group() g:spawn(quick 'a') "
            .. "g:spawn(function() task.sleep(0) pcall(os.exit, 4, true) end) g:wait()", 4,
            { "cancelled a\tcancelled" })
        ends("task.spawn(function() local o <close> = closing 'owner' local g <close> = task.group() "
            .. "g:spawn(quick 'a') g:spawn(function() local x <close> = closing 'x' task.sleep(0) os.exit(4, true) "
            .. "end) end) task.sleep(60)", 4, { "cancelled a\tcancelled", "closed owner\tcancelled", "closed x\tnil" })
    end)

    it("called while a block waits for its group", function()
        ends("local g <close> = task.group() g:spawn(quick 'a') g:spawn(function() task.sleep(0) os.exit(4, true) end)",
            4, { "cancelled a\tcancelled" })
        ends([[
            local g = task.group()
            g:spawn(quick 'a')
            for _ = 1, 2 do task.spawn(function() local _ <close> = g end) end
            task.spawn(function() task.sleep(0) os.exit(4, true) end)
            local _ <close> = g]], 4, { "cancelled a\tcancelled" })
    end)

    it("called where tasks cannot yield, by a child", function()
        for _, where in ipairs {
            "table.sort({ 2, 1 }, function() os.exit(8, true) end)",
            "coroutine.wrap(function() table.sort({ 2, 1 }, function() os.exit(8, true) end) end)()",
            "setmetatable({}, { __gc = function() os.exit(8, true) end }) collectgarbage() collectgarbage()",
        } do
            ends("task.spawn(quick 'a') task.spawn(function() task.sleep(0) pcall(function() " .. where
                .. " end) end) task.sleep(60)", 8, { "cancelled a\tcancelled" })
        end
    end)

    it("resumes tasks that were ready when it was called", function()
        ends("for i = 1, 5 do task.spawn(function() local x <close> = closing('' .. i) task.sleep(0) "
            .. "if i == 2 then os.exit(9, true) end task.sleep(60) end) end task.sleep(60)", 9, {
            "closed 1\tcancelled", "closed 2\tnil", "closed 3\tcancelled",
            "closed 4\tcancelled", "closed 5\tcancelled" })
    end)

    it("called again during the end ends at once", function()
        local r = run("lua a.lua", { ["a.lua"] = TASKS .. [[
            task.spawn(function()
                local x <close> = setmetatable({}, { __close = function() os.exit(11, true) end })
                task.sleep(60)
            end)
            task.sleep(0)
            os.exit(10, true)]] })
        assert.same({ out = "", err = "", code = 11 }, r)
    end)

    it("reports an error that a task raises while it ends, with the requested status", function()
        local r = run("lua a.lua", { ["a.lua"] = TASKS .. [[
            task.spawn(function()
                local x <close> = setmetatable({}, { __close = function() error "in its end" end })
                task.sleep(60)
            end)
            task.sleep(0)
            os.exit(10, true)]] })
        assert.equal(10, r.code)
        assert.matches("^lua: a.lua:%d+: in its end\nstack traceback:\n", r.err)
    end)

    it("reports an error in __close when warnings are on", function()
        local r = run("lua -W a.lua", { ["a.lua"] =
            "local x <close> = setmetatable({}, { __close = function() error('lost', 0) end }) os.exit(3, true)" })
        assert.same({ out = "", err = "Lua warning: error in __close (lost)\n", code = 3 }, r)
    end)

    it("closes variables where tasks cannot wait", function()
        local r = run("lua a.lua", { ["a.lua"] = TASKS .. [[
            local x <close> = setmetatable({}, { __close = function() print(select(2, pcall(task.sleep, 0)).kind) end })
            os.exit(3, true)]] })
        assert.same({ out = "usage\nclosed main\tnil\ncollected\n", err = "", code = 3 }, r)
    end)

    --- The end of a program with tasks that do not stop: its status, and its largest duration.
    local function left(code, status, err)
        local r = run("lua a.lua", { ["a.lua"] = TASKS .. code .. " task.sleep(0.01) os.exit(" .. status .. ", true)" })
        assert.equal("closed main\tnil\ncollected\n", r.out)
        assert.matches("^lua: os%.exit: task %d+ at a%.lua:%d+ goes on after its cancellation, and was left behind"
            .. err .. "\n$", r.err)
        assert.equal(status, r.code)
    end

    it("abandons a task that waits again after each cancellation", function()
        left("task.spawn(function() while true do pcall(task.sleep, 0.2) end end)", 3, "")
        left("local q = task.queue() task.spawn(function() while true do pcall(q.pop, q) end end)", 4, "")
    end)

    it("abandons busy loops, and code in a shield", function()
        left([[
            local function busy() pcall(task.sleep, 60) while true do pcall(function() while true do end end) end end
            task.spawn(busy)
            local g = task.group()
            g:spawn(function() pcall(task.sleep, 60) coroutine.wrap(busy)() end)
            task.spawn(function() task.shield(task.sleep, 60) end)]], 5, " %(so were 2 more%)")
    end)

    it("abandons a task that blocks the program repeatedly", function()
        left("task.spawn(function() while true do pcall(task.sleep, 0.1) os.execute 'sleep 0.2' end end)", 6, "")
    end)

    it("cancels a task again only at waits that begin late, and lets it end before", function()
        ends([[
            task.spawn(function()
                for i = 1, 3 do print("cancelled " .. i, select(2, pcall(task.sleep, 60)).kind) end
            end)
            task.spawn(function() task.shield(task.sleep, 0.3) print "shielded" end)
            task.spawn(function()
                pcall(task.sleep, 60)
                task.sleep(0.3)
                print "cleaned"
            end)
            task.sleep(0.01)
            os.exit(7, true)]], 7, { "cancelled 1\tcancelled", "cancelled 2\tcancelled", "cancelled 3\tcancelled",
            "cleaned", "shielded" })
    end)
end)
