--- How programs end: by themselves, by signals, by a time limit, by os.exit, with a stdout that fails.

local pace <const> = require "spec.support.pace"
local task <const> = require "dbrun.task"
local run <const> = require "spec.support.command".run

--- The Lua code at the start of these tests' scripts.
local PROLOGUE <const> = [[
    local task = require "dbrun.task"
    local function closing(fn) return setmetatable({}, { __close = fn }) end
    local function forever() while true do end end
    local function ready() io.open("ready", "w"):close() end
    local function exists(path) local f <close> = io.open(path) return f ~= nil end
]]

local function script(code)
    return { ["a.lua"] = PROLOGUE .. code }
end

describe("the end of a program", function()
    it("comes when the script and its tasks have ended", function()
        local r = run("lua a.lua", script [[
            task.spawn(function() task.sleep(0.05) print "last" end)
            print "first"]])
        assert.same({ out = "first\nlast\n", err = "", code = 0 }, r)
    end)

    it("comes with the error of a task, which says where it happened", function()
        local r = run("lua a.lua", script "task.spawn(function() error 'in a task' end) task.sleep(9)")
        assert.equal(1, r.code)
        assert.matches("^lua: a.lua:6: in a task\nstack traceback:\n.*a.lua:6: in function <a.lua:6>", r.err)
    end)

    it("comes at --timeout, in a wait and in a busy loop, with exit status 1", function()
        for _, code in ipairs { "task.sleep(9)", "forever()", "repeat until select('#') == 1" } do
            local r, limit
            pace.long_enough(0.2, function(seconds)
                limit = ("%g"):format(seconds)
                r = run(("lua --timeout %s a.lua"):format(limit),
                    script("local x <close> = closing(function() print 'closed' end) print 'begun' " .. code))
                return r.out:find "begun"
            end)
            assert.same({ out = "begun\nclosed\n", err = ("lua: the script took longer than %s s (--timeout)\n"):format(
                limit), code = 1 }, r)
        end
    end)

    it("--timeout does not disturb a fast script", function()
        assert.same({ out = "done\n", err = "", code = 0 }, run [[lua --timeout 10 -e 'print "done"']])
    end)

    --- Starts the script, sends the signals one after the other once it has called ready(), and makes the file
    --- `killed`.
    local function interrupted(code, ...)
        local kill = {}
        for _, name in ipairs { ... } do
            kill[#kill + 1] = ("kill -%s $pid; sleep 0.2; "):format(name)
        end
        return run(([[lua a.lua & pid=$!; while [ ! -e ready ]; do sleep 0.02; done; sleep 0.05
            %s : >killed; wait $pid]]):format(table.concat(kill)), script(code))
    end

    for name, status in pairs { HUP = 129, INT = 130, TERM = 143 } do
        it(("comes at SIG%s with exit status %d, and variables are closed"):format(name, status), function()
            for _, code in ipairs { "task.sleep(9)", "forever()", "coroutine.wrap(forever)()",
                "coroutine.wrap(function() task.sleep(9) end)()" } do
                local r = interrupted(
                    "local x <close> = closing(function() task.sleep(0.05) print 'closed' end) ready() " .. code, name)
                assert.same({ out = "closed\n", err = "lua: interrupted by SIG" .. name .. "\n", code = status }, r)
            end
        end)
    end

    it("ends tasks that start a busy loop one after the other when they are interrupted", function()
        local r = interrupted([[
            local x <close> = closing(function() print "closed" end)
            for i = 1, 3 do
                task.spawn(function()
                    local y <close> = closing(function() print "task" end)
                    task.sleep(0.01)
                    coroutine.wrap(forever)()
                end)
            end
            task.sleep(0.01)
            ready()
            forever()]], "TERM")
        assert.same({ out = "closed\ntask\ntask\ntask\n", err = "lua: interrupted by SIGTERM\n", code = 143 }, r)
    end)

    it("ends busy loops of tasks in groups within groups", function()
        local r = interrupted([[
            local begun = 0
            local function busy()
                local x <close> = closing(function() io.write "task " end)
                begun = begun + 1
                if begun == 6 then ready() end
                repeat task.sleep(0.01) until begun == 6
                forever()
            end
            local suspended = coroutine.wrap(function()
                local g <close> = task.group()
                g:spawn(busy)
                coroutine.yield()
            end)
            suspended()
            task.spawn(function()
                local g <close> = task.group()
                g:spawn(function()
                    local h <close> = task.group()
                    for i = 1, 2 do h:spawn(busy) end
                    task.sleep(60)
                end)
                task.sleep(60)
            end)
            task.spawn(function()
                local g <close> = task.group()
                for i = 1, 2 do g:spawn(busy) end
            end)
            task.group():spawn(pcall, busy)
            task.spawn(function()
                task.shield(function()
                    local g <close> = task.group()
                    g:spawn(function() task.sleep(0.5) io.write "shielded " end)
                end)
            end)
            task.sleep(60)]], "TERM")
        assert.same({ out = ("task "):rep(6) .. "shielded ", err = "lua: interrupted by SIGTERM\n", code = 143 }, r)
    end)

    it("lets code in a shield end, whether it waits or not", function()
        for _, code in ipairs {
            "task.shield(busy)",
            "local g <close> = task.group() g:spawn(task.shield, busy)",
            "task.shield(function() local g <close> = task.group() g:spawn(busy) end)",
            "task.shield(coroutine.wrap(busy))",
        } do
            local r = run("lua a.lua", script([[
                local x <close> = closing(function() print "closed" end)
                local function busy()
                    os.execute "kill -TERM $PPID"
                    local stop = task.now() + 0.1
                    while task.now() < stop do end
                    task.sleep(0.01)
                    print "whole"
                end
                ]] .. code .. " task.sleep(0) forever()"))
            assert.same({ out = "whole\nclosed\n", err = "lua: interrupted by SIGTERM\n", code = 143 }, r)
        end
    end)

    it("does not disturb work at the end of the program", function()
        local r = interrupted([[
            local x <close> = closing(function()
                local stop = task.now() + 0.4
                while task.now() < stop do end
                print(io.popen("sleep 0.2; echo read"):read())
                task.sleep(0.1)
                local cleaning <close> = task.group()
                cleaning:spawn(function()
                    local till = task.now() + 0.2
                    while task.now() < till do end
                    print "cleaned"
                end)
                cleaning:wait()
            end)
            ready()
            task.sleep(9)]], "TERM")
        assert.same({ out = "read\ncleaned\n", err = "lua: interrupted by SIGTERM\n", code = 143 }, r)
    end)

    it("ends every task when it is interrupted", function()
        local r = interrupted([[
            for i = 1, 3 do
                task.spawn(function() local x <close> = closing(function() print(i) end) task.sleep(9) end)
            end
            task.sleep(0)
            ready()]], "INT")
        local lines = {}
        for line in r.out:gmatch "%d+" do
            lines[#lines + 1] = line
        end
        table.sort(lines)
        assert.same({ 130, "1", "2", "3" }, { r.code, table.unpack(lines) })
    end)

    local STUBBORN <const> = "local x <close> = closing(forever) ready() forever()"

    it("comes at once at the second signal", function()
        pace.takes(0, 1.5, function()
            assert.equal(143, interrupted(STUBBORN, "INT", "TERM").code)
        end)
        pace.takes(0, 1.5, function()
            assert.equal(129, interrupted(STUBBORN, "HUP", "HUP").code)
        end)
    end)

    it("does not come at SIGHUP under nohup, nor where the script handles it", function()
        local code <const> = "ready() repeat task.sleep(0.02) until exists 'killed' print 'done'"
        assert.same({ out = "done\n", err = "", code = 0 }, run([[trap '' HUP; lua a.lua & pid=$!
            while [ ! -e ready ]; do sleep 0.02; done; kill -HUP $pid; sleep 0.2; : >killed; wait $pid]], script(code)))
        assert.same({ out = "SIGHUP\ndone\n", err = "", code = 0 },
            interrupted("task.on_signal('SIGHUP', print) " .. code, "HUP"))
    end)

    it("comes two seconds after a signal whatever the script does", function()
        local began = task.now()
        local r = interrupted(STUBBORN, "TERM")
        local took = task.now() - began
        assert.same({ out = "", err = "dbrun: interrupted by SIGTERM; it did not end within 2 s\n", code = 143 }, r)
        assert.is_true(took > 1.9 and took < 10, tostring(took))
    end)

    it("has the exit status that the script returns", function()
        for value, code in pairs { ["0"] = 0, ["1"] = 1, ["255"] = 255, ["3, 'x'"] = 3, ["0x10"] = 16 } do
            local files = { ["a.lua"] = "return " .. value }
            for _, command in ipairs { "lua a.lua", "lua - <a.lua", "lua <a.lua", "lua -e 'return 9' a.lua" } do
                assert.same({ out = "", err = "", code = code }, run(command, files), command .. value)
            end
        end
        local r = run("lua a.lua", script [[
            task.spawn(function() task.sleep(0.05) print "last" end)
            return 4]])
        assert.same({ out = "last\n", err = "", code = 4 }, r)
        assert.equal(0, run("lua -i a.lua", { ["a.lua"] = "return 4" }).code)
        assert.equal(1, run("lua a.lua", script "task.spawn(error, 'later') return 4").code)
        assert.equal(5, run("lua a.lua",
            script "task.spawn(function() task.sleep(0.01) os.exit(5) end) return 4").code)
        assert.equal(6, run("lua a.lua", { ["a.lua"] = [[
            return require "dbrun.command_line".main("a", function() return 6 end)]] }).code)
    end)

    it("is an error when the script returns an invalid status", function()
        local range, kind = "but an exit status is an integer from 0 to 255",
            "but a script returns nothing, or its exit status: an integer from 0 to 255"
        for value, text in pairs { ["256"] = "256, " .. range, ["-1"] = "-1, " .. range,
            ["1 << 40"] = "1099511627776, " .. range, ["'1'"] = "a string, " .. kind,
            ["print"] = "a function, " .. kind,
            ["coroutine.create(print)"] = "a thread, " .. kind, ["io.stdout"] = "a userdata, " .. kind,
            ["false"] = "false" } do
            local files = { ["a.lua"] = "return " .. value }
            assert.same({ out = "", err = ("lua: a.lua returned %s\n"):format(text), code = 1 },
                run("lua a.lua", files))
            assert.same({ out = "", err = ("lua: stdin returned %s\n"):format(text), code = 1 },
                run("lua <a.lua", files))
        end
    end)

    it("is an error when the script returns nil and a message, as io.open does", function()
        for code, text in pairs { ["nil, 'no rows'"] = "a.lua returned nil: no rows",
            ["io.open '/nowhere/x'"] = "a.lua returned nil: /nowhere/x: No such file or directory",
            ["false, 'no rows'"] = "a.lua returned false: no rows",
            ["pcall(error, 'no rows', 0)"] = "a.lua returned false: no rows" } do
            assert.same({ out = "", err = ("lua: %s\n"):format(text), code = 1 },
                run("lua a.lua", { ["a.lua"] = "return " .. code }))
        end
        local made = "require 'dbrun.error'.new { kind = 'usage', message = 'no rows' }"
        for _, before in ipairs { "", "nil, ", "false, " } do
            local r = run("lua a.lua", { ["a.lua"] = "return " .. before .. made })
            assert.equal(2, r.code)
            assert.matches("usage error: no rows", r.err, 1, true)
        end
        for _, code in ipairs { "nil", "nil, 5", "('a'):find 'b'", "{}, 'text'", "nil, {}" } do
            assert.equal(0, run("lua a.lua", { ["a.lua"] = "return " .. code }).code)
        end
    end)

    it("os.exit(n, true) ends the other tasks, too", function()
        local r = run("lua a.lua", script [[
            task.spawn(function() local x <close> = closing(function() print "closed" end) task.sleep(9) end)
            task.sleep(0.01)
            os.exit(5, true)]])
        assert.same({ out = "closed\n", err = "", code = 5 }, r)
        r = run("lua a.lua", script "task.spawn(function() os.exit(6, true) end) task.sleep(9)")
        assert.same({ out = "", err = "", code = 6 }, r)
    end)

    it("has a status other than 0 when stdout did not accept everything", function()
        for _, code in ipairs { 'print(1)', 'io.write("x")', 'io.write(("x"):rep(1e6))', 'print(1) os.exit(0)',
            'print(1) os.exit(0, true)' } do
            local r = run(("lua -e '%s' >/dev/full"):format(code))
            assert.equal(1, r.code, code)
            assert.matches("^lua: cannot write to stdout", r.err)
            r = run(("lua -e '%s' >&-"):format(code))
            assert.equal(1, r.code, code)
            assert.equal("lua: cannot write to stdout: Bad file descriptor\n", r.err)
        end
        assert.equal(3, run("lua -e 'print(1) os.exit(3)' >/dev/full").code)
        assert.same({ out = "", err = "", code = 0 }, run "lua -e 'x = 1' >&-")
    end)

    it("comes with a message when the reader of stdout has ended, and not by SIGPIPE", function()
        for _, code in ipairs { "print(1)", "io.write '1\\n'", "io.stdout:write '1\\n'" } do
            local r = run("{ lua a.lua; echo $? >code; } | head -n 1 >/dev/null; cat code",
                script(("while true do %s end"):format(code)))
            assert.same({ out = "1\n", err = "lua: cannot write to stdout: Broken pipe\n", code = 0 }, r)
        end
    end)

    it("child processes get the original SIGPIPE action", function()
        local r = run [[lua -e 'os.execute("{ yes; echo $? >&2; } | head -n 1")']]
        assert.same({ out = "y\n", err = "141\n", code = 0 }, r)
    end)

    it("a closed standard descriptor is not reused for a socket", function()
        local r = run([[lua a.lua <&- >&- 2>errors; cat errors]], script "task.sleep(0.01) print 'lost'")
        assert.same({ out = "lua: cannot write to stdout: Bad file descriptor\n", err = "", code = 0 }, r)
    end)
end)
