--- The interactive prompt, typed at through a pseudo terminal.

local run <const> = require "spec.support.command".run

describe("the prompt", function()
    --- Types the lines, with a moment between them; `^C` stands for that key.
    local function typed(...)
        local keys = { "sleep 0.3" }
        for _, line in ipairs { ... } do
            keys[#keys + 1] = line == "^C" and "printf '\\003'; sleep 0.3"
                or ("printf '%%s\\n' '%s'; sleep 0.15"):format(line)
        end
        local r = run(("{ %s; } | script -qec lua /dev/null"):format(table.concat(keys, "; ")))
        return r.out:gsub("\r", ""), r
    end

    it("shows values, takes `=expr` and statements of several lines", function()
        local out = typed("1 + 1, \"x\"", "=2 * 21", "for i = 1, 2 do", "print(i * 100)", "end")
        assert.matches("^.-Lua 5%.4%.%d", out)
        assert.matches("> 1 %+ 1, \"x\"\n2\tx\n", out)
        assert.matches("> =2 %* 21\n42\n", out)
        assert.matches(">> end\n100\n200\n", out)
    end)

    it("shows errors and goes on", function()
        local out = typed("error \"wrong\"", "x = = 1", "print \"on\"")
        assert.matches("\nstdin:1: wrong\nstack traceback:\n", out)
        assert.matches("\nstdin:1: unexpected symbol near '='\n", out)
        assert.matches("\non\n", out)
    end)

    it("Ctrl-C ends what runs, busy or waiting, and forgets a line", function()
        local out, r = typed("while true do end", "^C", "require \"dbrun.task\".sleep(20)", "^C",
            "for i = 1, 2 do", "^C", "print \"alive\"")
        assert.equal(2, select(2, out:gsub("%^Cinterrupted!\n", "")), out)
        assert.matches("\nalive\n", out)
        assert.equal(0, r.code)
    end)

    it("lets tasks go on while somebody types", function()
        local out = typed("t = require \"dbrun.task\"",
            "t.spawn(function() t.sleep(0.1) print \"background\" end)", "x = 1", "x = 2")
        assert.matches("background\n", out)
    end)

    it("tells that a task has failed and goes on", function()
        local out, r = typed("t = require \"dbrun.task\"", "t.spawn(function() t.sleep(0.1) error \"in the task\" end)",
            "x = 1", "t.sleep(0.2)", "t.spawn(function() local g = t.group() g:spawn(error, \"below\") g:wait() end)",
            "print \"still here\"")
        assert.matches("stdin:1: in the task\nstack traceback:\n", out)
        assert.matches("below\n", out)
        assert.matches("\nstill here\n", out)
        assert.equal(0, r.code)
    end)

    it("reads plain lines when stdin is no terminal", function()
        assert.matches("> 2\n> 3\n> \n$", run("printf '1+1\\nprint(3)\\n' | lua -i").out)
    end)
end)
