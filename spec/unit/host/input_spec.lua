--- Standard input and the output of io.popen: a task that waits for them lets the others run.

local shell <const> = require "spec.support.command"
local terminal <const> = require "spec.support.terminal"

local run <const>, WAIT <const>, READY <const>, once <const> = shell.run, shell.WAIT, shell.READY, shell.once

--- Makes the file `ticked` when it has ticked often enough.
local TICKER <const> = [[
    local task = require "dbrun.task"
    local ticks = 0
    local function make(name) io.open(name, "w"):close() end
    local function tick()
        while true do
            task.sleep(0.01)
            ticks = ticks + 1
            if ticks == 6 then make "ticked" end
        end
    end
    local ticker = task.spawn(tick)
]]

--- Input that arrives in pieces, so that each read must wait in the middle.
local PIECES <const> = [[(printf 'print(12)\n 0x'; sleep 0.05; printf '1p4 5e\n-'; sleep 0.05; printf '7 q\n\nend')]]

local function script(code)
    return { ["a.lua"] = TICKER .. code .. " ticker:cancel()" }
end

describe("standard input", function()
    it("lets other tasks run while one waits for it", function()
        for _, read in ipairs { "io.read()", "io.read('a')", "io.read(2)", "io.read(0)", "io.read('n')", "io.lines()()",
            "io.stdin:read('L')", "io.stdin:lines(1)()", "io.input():read('l')", "io.open('/dev/stdin'):read()",
            "io.lines('/dev/stdin', 'n')()" } do
            local r = run("(" .. once "ticked" .. "echo 12) | lua a.lua",
                script(read .. " print(ticks > 5 or ticks)"))
            assert.same({ out = "true\n", err = "", code = 0 }, r, read)
        end
    end)

    it("is waited for as a FIFO and as a socket", function()
        local r = run("mkfifo f; (exec 3>f; " .. once "ticked" .. "echo 12 >&3) & lua a.lua <f",
            script("print(io.read()) print(ticks > 5 or ticks)"))
        assert.same({ out = "12\ntrue\n", err = "", code = 0 }, r)
        r = run([[perl -MSocket -e '
            socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die;
            if (!fork) { open(STDIN, "<&", $theirs); close $ours; exec "lua", "a.lua" }
            close $theirs; for (1 .. 500) { last if -e "ticked"; select undef, undef, undef, 0.02 }
            syswrite $ours, "12\n"; wait']],
            script("print(io.read()) print(ticks > 5 or ticks)"))
        assert.same({ out = "12\ntrue\n", err = "", code = 0 }, r)
    end)

    it("lets other tasks run even when its data is always available", function()
        local r = run("yes | lua a.lua",
            script [[local t = task.now() while ticks <= 5 and task.now() - t < 20 do io.read() end
                print(ticks > 5 or ticks)]])
        assert.equal("true\n", r.out)
    end)

    it("lets other tasks run while one waits for a program of io.popen", function()
        local r = run("lua a.lua", script(([[
            local f <close> = io.popen %q
            print(f:read "l", ticks > 5 or ticks)
            for line in f:lines() do print(line) end]]):format(once "ticked" .. "echo one; sleep 0.1; echo two")))
        assert.same({ out = "one\ttrue\ntwo\n", err = "", code = 0 }, r)
    end)

    for _, code in ipairs {
        [[for l in io.lines() do io.write("[", l, "]") end]],
        [[for l in io.stdin:lines "L" do io.write("[", l, "]") end]],
        [[for a, b in io.lines(nil, 1, "L") do print(a, b) end]],
        [[for l in io.lines "/dev/stdin" do print(l) end]],
        [[print(io.read("l", "n", "n", "n", "l", "L"))]],
        [[print(io.read("*l", "*n", "*a", "a", "l"))]],
        [[print(io.read(3, 0, 1000, 0))]],
        [[print(io.read(0)) dofile()]],
        [[print(io.read("l", "n")) print(io.read("n")) print(io.read("n")) print(io.read())]],
        [[io.stdin:setvbuf "no" print(io.read()) print(io.read "n") os.execute "cat"]],
        [[print(pcall(io.read, "x")) print(pcall(io.read, "l", "x")) print(pcall(io.read, "l", {})) print(io.read())]],
        [[print(pcall(io.read, 1.5)) print(pcall(io.read, -1)) print(pcall(io.stdin.read))
        print(pcall(io.stdin.lines))]],
        [[for l in io.lines(nil, "x") do print(l) end]],
        [[print(io.stdin:close()) print(io.read())]],
        [[local next = io.lines() print(next()) print(next(1, 2)) print(next(), next(), next(), next())]],
        [[local f = io.popen "printf abc" local next = f:lines(1) print(next()) print(f:close()) print(pcall(next))
        print(pcall(f.read, f)) print(pcall(f.lines, f)) print(pcall(f.close, f))]],
        [[io.input "/dev/null" print(io.read()) io.input(io.stdin) print(io.read())]],
        [[local co = coroutine.wrap(function() for l in io.lines() do coroutine.yield(l) end end)
        print(co(), co(), co())]],
    } do
        it("gives the same as in lua: " .. code:sub(1, 60), function()
            local files = { ["a.lua"] = code }
            local command = PIECES .. " | lua a.lua"
            assert.same(run(command, files, "theirs"), run(command, files))
        end)
    end

    for _, numeral in ipairs { "12", "-0x1.8p1", "+.5e-3", "1e+", "0x", "0xep1", "..1", "1..2", "--1", "nan", "1e5x",
        ("1"):rep(199), ("1"):rep(201), "0x" .. ("f"):rep(250), "  \n\t 7", "" } do
        it("reads a numeral as lua does: " .. numeral:sub(1, 20), function()
            local command = ("(printf -- '%s'; sleep 0.02; printf -- '%s z') | lua a.lua"):format(numeral:sub(1, 3),
                numeral:sub(4))
            local files = { ["a.lua"] = "print(io.read 'n') print(io.read 'a')" }
            assert.same(run(command, files, "theirs"), run(command, files))
        end)
    end

    it("gives two tasks that read at once whole lines, and each line once", function()
        local r = run([[(for i in 1 2 3 4 5 6; do printf "l$i"; sleep 0.02; printf "x\n"; done) | lua a.lua]], script [[
            local got = {}
            local function reader()
                for _ = 1, 3 do
                    local line = io.read()
                    got[#got + 1] = line
                end
            end
            local a, b = task.spawn(reader), task.spawn(reader)
            a:join() b:join()
            table.sort(got)
            print(table.concat(got, " "), io.read())]])
        assert.same({ out = "l1x l2x l3x l4x l5x l6x\tnil\n", err = "", code = 0 }, r)
    end)

    it("loses nothing when a read is cancelled in the middle", function()
        local r = run("(printf 'one\\ntwo\\nthr'; " .. WAIT .. "echo ee) | lua a.lua", script([[
            print(select(2, pcall(task.timeout, 0.1, io.read, "l", "L", "l")).kind)
            local t = task.spawn(io.read, "a")
            task.sleep(0.05)
            t:cancel()]] .. READY .. [[
            print(io.read(), io.read(2))
            print(io.read "a")]]))
        assert.same({ out = "timeout\none\ttw\no\nthree\n\n", err = "", code = 0 }, r)
    end)

    it("leaves the bytes of a cancelled read to dofile", function()
        local r = run("(printf 'print'; " .. WAIT .. "echo '(5)') | lua a.lua",
            script("pcall(task.timeout, 0.1, io.read)" .. READY .. "dofile()"))
        assert.same({ out = "5\n", err = "", code = 0 }, r)
    end)

    it("blocks where tasks cannot yield, and loses nothing there, either", function()
        local r = run("(printf 'one\\ntwo'; " .. WAIT .. "sleep 0.1; printf 'X\\nthree\\n') | lua a.lua", script([[
            local reader = task.spawn(function() return io.read "a" end)
            task.sleep(0.05)]] .. READY .. [[
            print(tostring(setmetatable({}, { __tostring = function() return "[" .. io.read() .. "]" end })))
            local t = { 3, 2, 1 }
            table.sort(t, function(a, b) io.read(0) return a < b end)
            print(reader:join())]]))
        assert.same({ out = "[one]\ntwoX\nthree\n\n", err = "", code = 0 }, r)
    end)

    it("can be read by a finaliser, which can also close a pipe, while a value is made", function()
        local r = run("(seq 1 100000; sleep 0.1) | lua a.lua", { ["a.lua"] = [[
            collectgarbage("setpause", 10)
            local function count(line) return line and #line or 0 end
            local here, there, on = 0, 0, true
            local function leave()
                setmetatable({}, { __gc = function() if on then there = there + count(io.read "L") leave() end end })
            end
            leave()
            repeat
                local line, part = io.read("L", 100)
                here = here + count(line) + count(part)
            until not line
            on = false
            print(here + there, there > 0)]] })
        assert.same({ out = "588895\ttrue\n", err = "", code = 0 }, r)
    end)

    it("tells a task that waits when the file is closed", function()
        local r = run("lua a.lua", script(([[
            local f = io.popen %q
            local function told(...) print(select("#", ...), (select(2, ...))) end
            local waiting = { task.spawn(function() told(pcall(f.read, f)) end),
                task.spawn(function() told(pcall(f.lines(f))) end) }
            task.sleep(0.1)
            make "closing"
            f:close()
            for _, t in ipairs(waiting) do t:join() end]]):format(once "closing" .. "echo never")))
        assert.same({ out = "2\tattempt to use a closed file\n2\tfile is already closed\n", err = "", code = 0 }, r)
    end)

    for name, status in pairs { HUP = 129, INT = 130, TERM = 143 } do
        it(("SIG%s ends a program that waits for it, and variables are closed"):format(name), function()
            local r = run(([[mkfifo f; sleep 9 >f & lua a.lua <f & pid=$!
                while [ ! -e ready ]; do sleep 0.02; done; sleep 0.1; kill -%s $pid; wait $pid; code=$?
                kill $! %%1 2>/dev/null; exit $code]]):format(name), script [[
                local x <close> = setmetatable({}, { __close = function() task.sleep(0.01) print "closed" end })
                io.open("ready", "w"):close()
                io.read()]])
            assert.same({ out = "closed\n", err = "lua: interrupted by SIG" .. name .. "\n", code = status }, r)
        end)
    end

    it("allows a finaliser to close a pipe between two values, or to end the waiting read", function()
        local fire = [[
            local function fire(fn)
                collectgarbage("generational", 1, 100) collectgarbage() collectgarbage "stop"
                local x = setmetatable({}, { __gc = fn })
                x = nil
                collectgarbage "restart"
            end ]]
        local r = run("lua a.lua", script(fire .. [[
            local f = io.popen "echo zero; echo one; echo two; sleep 0.2"
            task.sleep(0.1)
            f:read()
            fire(function() f:close() end)
            local ok, e = pcall(f.read, f, "l", "l")
            print(ok, ok or e)]]))
        assert.equal(0, r.code, r.err)
        assert.matches("^%l+\t", r.out)
        r = run("(" .. WAIT .. "sleep 0.2; printf 'one\\ntwo\\n') | lua a.lua", script(fire .. [[
            local owner = task.spawn(pcall, io.read)
            task.sleep(0.05)]] .. READY .. [[
            fire(function() owner:cancel() end)
            print(io.read("l", "l"))]]))
        assert.same({ out = "one\ttwo\n", err = "", code = 0 }, r)
    end)

    it("what a read that cannot wait has left is given to the task that waits", function()
        local r = run("(" .. WAIT .. "sleep 0.1; printf 'one\\ntwo\\n'; " .. once "got"
            .. "[ -e got ] || : >late) | lua a.lua", script([[
            local a = task.spawn(function() return io.read() end)
            task.sleep(0.05)]] .. READY .. [[
            local one, two = string.gsub("x", "x", function() return io.read() end), a:join()
            make "got"
            print(one, two, io.open "late" == nil)]]))
        assert.same({ out = "one\ttwo\ttrue\n", err = "", code = 0 }, r)
    end)

    it("loses nothing to seek and setvbuf behind a read that was cancelled", function()
        local r = run("lua a.lua", script(([[
            local f = io.popen %q
            print((pcall(task.timeout, 0.2, f.read, f, "a")))
            make "given_up"
            print(f:seek "cur")
            print(f:setvbuf "no", f:setvbuf "full")
            local all = {}
            for i = 1, 20000 do all[i] = i .. "\n" end
            print(f:read "a" == table.concat(all) .. "more\n")]])
            :format("seq 20000; " .. once "given_up" .. "echo more")))
        assert.same({ out = "false\nnil\tIllegal seek\t29\ntrue\ttrue\ntrue\n", err = "", code = 0 }, r)
    end)

    it("keeps no program alive once nobody reads it", function()
        local r = run("(" .. once "told" .. "[ -e told ] || : >late) | lua a.lua; echo $?", { ["a.lua"] = [[
            local task = require "dbrun.task"
            pcall(task.timeout, 0.1, io.read)
            local q = task.queue(1)
            print(pcall(q.pop, q))
            io.open("told", "w"):close()
            print(io.open "late" == nil)]] })
        assert.matches("^false\t.*deadlock", r.out)
        assert.matches("\ntrue\n", r.out)
    end)

    it("stays as it is for other processes", function()
        local r = run("mkfifo f; (" .. once "flags" .. ") >f & exec <f; (" .. WAIT .. [[sleep 0.1
            grep flags /proc/self/fdinfo/0 >new; mv new flags) & lua a.lua; cat flags; grep flags /proc/self/fdinfo/0]],
            script(READY .. "io.read()"))
        assert.same({ "flags:\t0100000\nflags:\t0100000\n", 0 }, { r.out, r.code }) -- no O_NONBLOCK (04000)
    end)

    it("continues in a child that inherits it after the bytes that were read", function()
        local r = run("(echo one; sleep 0.2; echo two) | lua a.lua",
            script [[io.stdin:setvbuf "no" print(io.read()) io.stdout:flush() os.execute "cat"]])
        assert.same({ out = "one\ntwo\n", err = "", code = 0 }, r)
    end)
end)

describe("standard input at a terminal", function()
    it("is read by lines, shows a prompt first, and continues after Ctrl-D", function()
        local term <close> = terminal.start(
            [[lua -e 'io.write "name? " print("[" .. io.read() .. "]") print(io.read()) print(io.read "n")']])
        term:expect "name%? "
        term:line "me"
        term:expect "%[me%]\n"
        term:type "\4"
        term:expect "nil\n"
        term:line "42"
        term:expect "42\n42\n"
        term:ends(0)
    end)

    it("Ctrl-C ends the program that waits for it", function()
        local term <close> = terminal.start [[lua -e 'print "there" io.read()']]
        term:expect "there\n"
        term:type "\3"
        term:ends(130)
    end)

    it("can be read from the prompt", function()
        local term <close> = terminal.start "lua"
        term:expect "\n> "
        term:line [[x = io.read()]]
        term:expect "io.read%(%)\n"
        term:line "typed"
        term:expect "typed\n.-> "
        term:line "=x .. 1"
        term:expect "typed1\n> "
        term:line "io.read()"
        term:expect "\n"
        term:type "\3"
        term:expect "interrupted!\n.-> "
        term:type "\4"
        term:ends(0)
    end)
end)
