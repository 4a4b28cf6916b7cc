--- The interactive prompt, driven through a pseudo terminal.

local process <const> = require "dbrun.process"
local shell <const> = require "spec.support.command"
local task <const> = require "dbrun.task"
local terminal <const> = require "spec.support.terminal"

local run <const> = shell.run

describe("the prompt", function()
    local term

    before_each(function()
        term = terminal.start "lua"
        term:expect "Lua 5%.4%.%d.-\n> "
    end)
    after_each(function()
        term:close()
    end)

    --- Types a line and waits for what follows on the screen.
    local function answers(line, pattern)
        term:line(line)
        term:expect(pattern)
    end

    --- Ends the prompt with Ctrl-D, which is not a failure.
    local function leave()
        term:type "\4"
        term:ends(0)
    end

    it("shows values, accepts `=expr` and statements of several lines", function()
        answers("1 + 1, \"x\"", "^1 %+ 1, \"x\"\n2\tx\n> ")
        answers("=2 * 21", "^=2 %* 21\n42\n> ")
        answers("for i = 1, 2 do", "^for i = 1, 2 do\n>> ")
        answers("print(i * 100)", "\n>> ")
        answers("end", "^end\n100\n200\n> ")
        leave()
    end)

    it("reports a deadlock and the cancellation of a task, and goes on", function()
        answers("task, q = require 'dbrun.task', require 'dbrun.task'.queue()", "\n> ")
        answers("q:pop()", "\n[^\n]*deadlock: every task waits, [^\n]*\n> ")
        answers("t = task.spawn(task.sleep, 60) t:cancel() t:join()", "\n[^\n]*the task was cancelled\n> ")
        answers("task.spawn(function() return 5 end):join()", "\n5\n> ")
        leave()
    end)

    it("shows errors and goes on", function()
        answers("error \"wrong\"", "\nstdin:1: wrong\nstack traceback:\n.-\n> ")
        answers("x = = 1", "\nstdin:1: unexpected symbol near '='\n> ")
        answers("print \"on\"", "\non\n> ")
        leave()
    end)

    it("Ctrl-C ends the running code, busy or waiting, and drops a line", function()
        answers("print \"busy\" while true do end", "\nbusy\n")
        term:type "\3"
        term:expect "interrupted!\n.-> "
        answers("print \"asleep\" require \"dbrun.task\".sleep(60)", "\nasleep\n")
        term:type "\3"
        term:expect "interrupted!\n.-> "
        answers("do print \"caught\" pcall(require \"dbrun.task\".sleep, 60) print(\"still \" .. \"there\") "
            .. "require \"dbrun.task\".sleep(60) end", "\ncaught\n")
        term:type "\3"
        term:expect "still there\n"
        term:type "\3" -- and again, after the first was caught
        term:expect "interrupted!\n.-> "
        local loop <const> = "n = 0 while true do n = n + 1 print(\"round \" .. n) pcall(%s) end"
        local sleeps <const>, works <const> = "require \"dbrun.task\".sleep, 60", "function() while true do end end"
        local inside <const> = "while true do pcall(coroutine.wrap(function() " .. loop .. " end)) end"
        for i = 1, 4 do
            answers(("do %s end"):format((i < 3 and loop or inside):format(i % 2 == 1 and sleeps or works)),
                "\nround 1\n")
            for round = 2, 3 do
                term:type "\3"
                term:expect("round " .. round .. "\n")
            end
            term:type "\3" -- for the third time: no code catches it any more
            term:expect "interrupted!\n.-> "
        end
        answers("for i = 1, 2 do", "\n>> ")
        term:type "\3"
        term:expect "\n> "
        answers("print \"alive\"", "\nalive\n> ")
        leave()
    end)

    it("lets tasks run while the user types", function()
        answers("t = require \"dbrun.task\"", "\n> ")
        answers("t.spawn(function() t.sleep(0.1) print(\"back\" .. \"ground\") end)", "\n")
        term:expect "background\n"
        answers("print \"here\"", "here\n")
        leave()
    end)

    it("owns the terminal while it is visible, and reads of tasks own it while a statement runs", function()
        answers("task = require \"dbrun.task\"", "\n> ")
        answers("t = task.spawn(function() print(\"T\", io.read()) end)", "\n> ")
        for i = 1, 3 do answers(("=%d * 1001"):format(i), ("\n%d00%d\n> "):format(i, i)) end
        answers("t:join()", "%(%)\n")
        term:line "for the task"
        term:expect "\nT\tfor the task\n> "
        -- The statement ends before the read does; the read keeps the bytes that it has taken.
        answers("t = task.spawn(function() print(\"T\", io.read(12)) end)", "\n> ")
        local typed <const> = os.tmpname()
        os.remove(typed)
        finally(function() os.remove(typed) end)
        answers(("print \"runs\" repeat task.sleep(0.01) until io.open(%q) task.sleep(0.05)"):format(typed), "\nruns\n")
        term:line "half"
        term:expect "half\n"
        io.open(typed, "w"):close()
        term:expect "> "
        answers("=7 * 11", "\n77\n> ")
        answers("t:join()", "%(%)\n")
        term:line "other half"
        term:expect "\nT\thalf\nother h\n> "
        term:expect "alf\nnil\n> " -- a read takes no more than its value
        leave()
    end)

    for what, read in pairs {
        ["all"] = 'io.read "a"', ["lines"] = "io.lines()()", ["a program"] = "loadfile()",
        ["a file of its own"] = 'io.open("/dev/tty"):read()',
    } do
        it("keeps typed input from a task that reads " .. what, function()
            answers("task = require \"dbrun.task\"", "\n> ")
            answers("t = task.spawn(function() return " .. read .. " end)", "\n> ")
            answers("u = task.spawn(pcall, task.timeout, 0.05, io.read)", "\n> ")
            for i = 1, 3 do answers(("=%d * 1001"):format(i), ("\n%d00%d\n> "):format(i, i)) end
            answers("=u:join()", "false\t.-time limit.-\n> ")
            answers("=t:status() == \"done\"", "\nfalse\n> ")
            answers("t:cancel()", "\n> ")
            answers("=21 * 2", "\n42\n> ")
            leave()
        end)
    end

    it("takes input that was typed ahead, after the lines that were read", function()
        term:type "x = io.read()\nfirst\nprint(x .. 1)\ny = io.read(3)\nsecond\nprint(y .. 2)\n"
        term:expect "\nfirst1\n"
        term:expect "ond\nnil\n"
        term:expect "\nsec2\n> "
        term:type "x, y = io.read(\"l\", \"l\")\rone\rtwo\r=x .. y\r" -- \r is the Enter key
        term:expect "\nonetwo\n> "
        leave()
    end)

    it("refuses a read that would block it, and leaves the terminal to reads when it has ended", function()
        answers("task = require \"dbrun.task\"", "\n> ")
        answers("t = task.spawn(string.gsub, \"x\", \"x\", function() return io.read() end)",
            "the prompt reads the terminal, and nothing can wait for it here.-\n> ")
        answers("t = task.spawn(function() print(\"T\", io.read()) end)", "\n> ")
        term:type "\4"
        task.sleep(0.1)
        term:line "the rest" -- where the prompt has not ended yet, the terminal does not show it
        term:expect "T\tthe rest\n"
        term:ends(0)
    end)

    it("reports that a task has failed and goes on", function()
        answers("t = require \"dbrun.task\"", "\n> ")
        answers("t.spawn(function() t.sleep(0.1) error(\"in the\" .. \" task\") end)", "\n")
        term:expect "stdin:1: in the task\nstack traceback:\n.-\n> "
        answers("t.spawn(function() local g = t.group() g:spawn(error, \"bel\" .. \"ow\") g:wait() end)", "\n")
        term:expect "below\n.-> "
        answers("print \"still here\"", "\nstill here\n> ")
        leave()
    end)

    it("keeps typed input when a task fails, also from a task that reads", function()
        answers("t = require \"dbrun.task\"", "\n> ")
        answers("r = t.spawn(io.read)", "\n> ")
        answers("g = t.spawn(function() while not go do t.sleep(0.01) end error(\"fai\" .. \"led\") end)", "\n> ")
        answers("t.spawn(function() t.sleep(0.5) go = true end)", "\n> ")
        term:type "print('kep' "
        term:expect "stdin:1: failed\nstack traceback:\n.-\n> print%('kep' "
        term:line ".. 't')"
        term:expect "\nkept\n> "
        answers("t.spawn(function() print(\"bu\" .. \"sy\") local e = os.clock() + 0.3 while os.clock() < e do end "
            .. "error(\"ag\" .. \"ain\") end)", "busy\n")
        term:line "=6 * 7" -- it has arrived when the task fails
        term:expect "stdin:1: again\n.-\n42\n> "
        answers("r:cancel()", "\n> ")
        leave()
    end)

    it("gives the terminal back at Ctrl-Z, and takes it again with the line as it was", function()
        leave()
        term:close()
        term = terminal.start "sh -i"
        term:line "PS1='@''@ '; tty"
        local path = term:expect("/dev/[%w/]+\n.-@@ "):match "/dev/[%w/]+"

        local function modes(...)
            local wanted, seen = { ... }, nil
            for _ = 1, 500 do
                seen = process.run { "stty", "-a", "-F", path }.stdout
                local all = true
                for _, mode in ipairs(wanted) do all = all and seen:find("[ \n]" .. mode .. "[ ;\n]") end
                if all then return end
                task.sleep(0.02)
            end
            error("the terminal's modes are " .. seen)
        end

        term:line "lua"
        term:expect "Lua 5.-\n> "
        modes("%-icanon", "%-echo")
        for _ = 1, 2 do
            term:type "1 + "
            term:expect "1 %+ "
            term:type "\26"
            term:expect "Stopped.-@@ "
            modes("icanon", "echo")
            term:line "fg"
            term:expect "fg\nlua.-1 %+ "
            modes("%-icanon", "%-echo")
            term:line "41"
            term:expect "\n42\n> "
        end

        answers("do print(\"bu\" .. \"sy\") while true do end end", "\nbusy\n")
        term:type "\26"
        term:expect "Stopped.-@@ "
        modes("icanon", "echo")
        term:line "fg"
        term:expect "fg\nlua"
        term:type "\3"
        term:expect "interrupted!\n.-> "
        answers("print(6 * 7)", "\n42\n> ")
        term:type "\4"
        term:expect "@@ "
        modes("icanon", "echo")

        -- It ends at once, in a task, while the prompt shows.
        local killed <const> = "local p = require(\"dbrun.process\") p.kill(p.pid()) p.kill(p.pid())"
        for _, code in ipairs { "os.exit(7)", killed } do
            term:line "lua; echo en''ded"
            term:expect "Lua 5.-\n> "
            term:line(("require(\"dbrun.task\").spawn(function() %s end)"):format(code))
            term:expect "\n> .-ended\n.-@@ "
            modes("icanon", "echo")
        end
        term:line "exit"
        term:ends(0)
    end)

    it("lets tasks run while it waits for a stdin that is not a terminal", function()
        local r = run([[(echo 't = require "dbrun.task" n = 0'
            echo 'function tick() t.sleep(0.01) n = n + 1 if n == 6 then io.open("ticked", "w"):close() end end'
            echo 'ticker = t.spawn(function() while true do tick() end end)'
            ]] .. shell.once "ticked" .. [[
            echo 'print(n > 5 or n)'; echo 'print(io.read())'; sleep 0.1; echo 'for you'
            echo 'ticker:cancel()') | lua -i]])
        assert.matches("> true\n> for you\n> > \n$", r.out)
        assert.equal(0, r.code)
    end)

    it("reads plain lines when stdin is not a terminal", function()
        assert.matches("> 2\n> 3\n> \n$", run("printf '1+1\\nprint(3)\\n' | lua -i").out)
    end)
end)
