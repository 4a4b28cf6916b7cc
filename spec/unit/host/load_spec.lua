--- dofile, loadfile, debug.debug and a script from standard input, in turn with io.read.

local shell <const> = require "spec.support.command"

local run <const>, WAIT <const> = shell.run, shell.WAIT

local TASKS <const> = [[
    task = require "dbrun.task"
    reader = task.spawn(function() print("reader", io.read()) end)
    task.sleep(0.05) ]] .. shell.READY

describe("a program on standard input", function()
    it("that a task is reading already waits for its turn, and other tasks run", function()
        local input <const> = "(printf 'one'; " .. shell.once "ticked"
            .. "printf ' line\\nprint(5, ...)\\nreturn 7\\n') | lua a.lua"
        for code, out in pairs {
            ["print(dofile())"] = "5\n7\n",
            ["print(pcall(dofile, nil))"] = "5\ntrue\t7\n",
            ["print(loadfile()(6))"] = "5\t6\n7\n",
            ["print(assert(loadfile(nil, 't', { print = print }))(6))"] = "5\t6\n7\n",
        } do
            local r <const> = run(input, { ["a.lua"] = TASKS .. [[
                local ticks = 0
                local ticker = task.spawn(function()
                    while true do
                        task.sleep(0.01)
                        ticks = ticks + 1
                        if ticks == 6 then io.open("ticked", "w"):close() end
                    end
                end) ]] .. code .. " assert(ticks > 5, ticks) ticker:cancel()" })
            assert.same({ out = "reader\tone line\n" .. out, err = "", code = 0 }, r, code)
        end
    end)

    it("can be cancelled like any other read, and loses nothing", function()
        local r <const> = run("(printf 'print('; " .. WAIT .. "printf '5)') | lua a.lua", { ["a.lua"] = [[
            print((pcall(require "dbrun.task".timeout, 0.1, dofile)))]] .. shell.READY .. "dofile()" })
        assert.same({ out = "false\n5\n", err = "", code = 0 }, r)
    end)

    it("begins with the bytes of a waiting read where it must block", function()
        local input <const> = "(printf 'print('; " .. WAIT .. "sleep 0.1; printf '5)\\n') | "
        local files <const> = { ["a.lua"] = TASKS .. [[
            table.sort({ 1, 2 }, function(a, b) dofile() return a < b end)]] }
        assert.same({ out = "5\nreader\tnil\n", err = "", code = 0 }, run(input .. "lua a.lua", files))
        assert.same({ out = "5\nreader\tnil\n", err = "", code = 0 },
            run(input .. "lua -e 'dofile \"a.lua\"' -", { ["a.lua"] = TASKS }))
        local r <const> = run("(printf 'pri'; " .. WAIT .. "sleep 0.1; printf 'nt(5)\\ncont\\nrest\\n') | lua a.lua",
            { ["a.lua"] = TASKS .. "debug.debug()" })
        assert.same({ out = "5\nreader\trest\n", err = "lua_debug> lua_debug> ", code = 0 }, r)
    end)

    for name, text in pairs {
        ["with results"] = "return 1, nil, ...",
        ["empty"] = "",
        ["with a line for the shell"] = "#!/usr/bin/lua\nprint(debug.getinfo(1, 'l').currentline)",
        ["with only such a line"] = "#!/usr/bin/lua",
        ["with a byte order mark"] = "\\357\\273\\277print 'x'",
        ["with mark and line"] = "\\357\\273\\277#x\nprint(debug.getinfo(1, 'Sl').source)",
        ["with a syntax error"] = "\nx x",
        ["that fails"] = "print 'x' error 'wrong'",
        ["that fails with an object"] = "error {}",
        ["that yields"] = "coroutine.yield(8)",
        ["with a NUL"] = "return '\\000x'",
    } do
        it("gives the same as in lua: " .. name, function()
            for _, code in ipairs {
                "print(dofile())", "print(pcall(dofile))", "local f, e = loadfile() print(f and f(1) or e)",
                "print(pcall(loadfile, nil, 'b'))", "local f, e = loadfile(nil, 't', nil) print(f and pcall(f) or e)",
                "print(coroutine.wrap(dofile)())", "print(pcall(loadfile, nil, {}))",
                "print(debug.getinfo(dofile).what, debug.getinfo(loadfile).what)",
                "local f = loadfile(nil, nil, { print = print }) print(f and debug.getupvalue(f, 1) or f)",
            } do
                local files <const> = { ["a.lua"] = code }
                local command <const> = ("(sleep 0.01; printf -- '%s') | lua a.lua"):format(
                    text:gsub("'", "'\\''"):gsub("\n", "\\n"))
                local ours <const>, theirs <const> = run(command, files), run(command, files, "theirs")
                for _, r in ipairs { ours, theirs } do r.out = r.out:gsub("0x%x+", "ADDRESS") end
                assert.same(theirs, ours, code)
            end
        end)
    end

    it("can be compiled", function()
        for _, first in ipairs { "", "#x\\n" } do
            local r <const> = run("lua c.lua; (printf '" .. first .. "'; cat x) | lua a.lua", {
                ["c.lua"] = [[io.open("x", "wb"):write(string.dump(function() return 5 end)):close()]],
                ["a.lua"] = "print(dofile())",
            })
            assert.same({ out = "5\n", err = "", code = 0 }, r)
        end
    end)

    it("that cannot be read is an error", function()
        for _, from in ipairs { "<.", "<&-" } do
            local command <const> = "lua a.lua " .. from
            local files <const> = { ["a.lua"] = "print(loadfile()) print(pcall(dofile))" }
            assert.same(run(command, files, "theirs"), run(command, files))
        end
    end)
end)
