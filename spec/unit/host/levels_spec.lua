--- The stack below a chunk is that of lua: one C function, however the chunk was started; and tracebacks are equal to
--- the last line. Each program runs under both, and the outputs are compared.

local run <const> = require "spec.support.command".run

--- The checks with which public scripts find out whether they are the main chunk.
local LEVELS <const> = [[
    local function what(level)
        local info = debug.getinfo(level, "S")
        return info and info.what
    end
    local depth = 0
    while debug.getinfo(depth + 1) do depth = depth + 1 end
    print(depth, what(1), what(2), what(3), what(4))
    print((pcall(debug.getlocal, 3, 1)), (pcall(debug.getlocal, 4, 1)), (pcall(debug.getlocal, 5, 1)))
    print(debug.traceback "here")
    print(debug.traceback("there", 2))
    print(select(2, coroutine.running()), coroutine.isyieldable(), coroutine.status((coroutine.running())))]]

local FAILS <const> = [[
    local function deep(n) if n == 0 then error "deep" end deep(n - 1) return n end
    deep(3)]]

local programs <const> = {
    { "a script", "lua a.lua x", { ["a.lua"] = LEVELS } },
    { "a script on stdin", "lua - x <a.lua", { ["a.lua"] = LEVELS } },
    { "a script on stdin without -", "lua <a.lua", { ["a.lua"] = LEVELS } },
    { "-e", "lua -e \"$(cat a.lua)\"", { ["a.lua"] = LEVELS } },
    { "-e before a script", "lua -e \"$(cat a.lua)\" a.lua", { ["a.lua"] = LEVELS } },
    { "-l", "lua -l a", { ["a.lua"] = LEVELS } },
    { "-l and a script", "lua -l b a.lua", { ["a.lua"] = LEVELS, ["b.lua"] = LEVELS } },
    { "LUA_INIT", "LUA_INIT=@a.lua lua -e 'x = 1'", { ["a.lua"] = LEVELS } },
    { "LUA_INIT as text", "LUA_INIT=\"$(cat a.lua)\" lua -e 'x = 1'", { ["a.lua"] = LEVELS } },
    { "dofile", "lua -e 'dofile \"a.lua\"'", { ["a.lua"] = LEVELS } },
    { "require", "lua -e 'require \"a\"'", { ["a.lua"] = LEVELS } },
    { "a coroutine", "lua a.lua",
        { ["a.lua"] = ("coroutine.wrap(function() %s end)() "
                .. "print(coroutine.resume(coroutine.create(function() %s end)))")
            :format(LEVELS, LEVELS) } },
    { "an error in a script", "lua a.lua", { ["a.lua"] = FAILS } },
    { "an error on stdin", "lua - <a.lua", { ["a.lua"] = FAILS } },
    { "an error in -e", "lua -e \"$(cat a.lua)\"", { ["a.lua"] = FAILS } },
    { "an error in -l", "lua -l a", { ["a.lua"] = FAILS } },
    { "an error in LUA_INIT", "LUA_INIT=@a.lua lua -e 'x = 1'", { ["a.lua"] = FAILS } },
    { "an error in wrap", "lua a.lua",
        { ["a.lua"] = "local f = coroutine.wrap(function() error 'in' end) f()" } },
    { "an error in resume", "lua a.lua",
        { ["a.lua"] = "assert(coroutine.resume(coroutine.create(function() error 'in' end)))" } },
    { "an error in a tail call", "lua a.lua", { ["a.lua"] = "local function f() error 'x' end return f()" } },
    { "an error in a metamethod", "lua a.lua",
        { ["a.lua"] = "return setmetatable({}, {__index = function(_, k) error(k) end}).key" } },
    { "an error in __close", "lua a.lua",
        { ["a.lua"] = "local x <close> = setmetatable({}, {__close = function() error 'closing' end})" } },
    { "a stack overflow", "lua a.lua 2>&1 | sed -n '1,3p;$p'",
        { ["a.lua"] = "local function f() return 1 + f() end f()" } },
    { "an error with level 2", "lua a.lua", { ["a.lua"] = "local function f() error('two', 2) end f()" } },
    { "the traceback of a coroutine", "lua a.lua", { ["a.lua"] =
        [[local co = coroutine.create(function() local x = 1 coroutine.yield(x) end)
        coroutine.resume(co) print(debug.traceback(co)) print(debug.traceback(co, "m", 1))
        local w = coroutine.wrap(function() print(debug.traceback()) end) w()]] } },
    { "xpcall with debug.traceback", "lua a.lua",
        { ["a.lua"] = "print(select(2, xpcall(function() local x = nil; x() end, debug.traceback)))" } },
}

--- At the prompt. Only stderr is compared: on stdout lua's readline repeats what it reads.
local SAY <const> = [[
    function say(...)
        for i = 1, select("#", ...) do io.stderr:write(tostring((select(i, ...))), "\t") end
        io.stderr:write "\n"
    end]]
local typed <const> = {
    { "the levels", "say(debug.getinfo(2).what, debug.getinfo(3), pcall(debug.getlocal, 4, 1))" },
    { "the main thread", "say(select(2, coroutine.running()), coroutine.isyieldable())" },
    { "one coroutine for all lines", "c = coroutine.running()\nsay(c == coroutine.running())" },
    { "a traceback", "say(debug.traceback 'here')" },
    { "an error", "error 'typed'\nlocal function f() error('deep') end f()\nnil + 1\nx = = 1" },
    { "an error object", "error(setmetatable({}, {__tostring = function() return 'text' end}))\nerror {}\nerror(nil)" },
    { "a script before", "say(debug.getinfo(3))\nerror 'typed'", "say(debug.getinfo(3))" },
}

describe("the stack is the same as under lua5.4:", function()
    for _, program in ipairs(programs) do
        it(program[1], function()
            local theirs = run(program[2], program[3], "theirs")
            assert.same(theirs, run(program[2], program[3], "ours"))
        end)
    end

    for _, lines in ipairs(typed) do
        it("at the prompt, " .. lines[1], function()
            local files <const> = { typed = lines[2] .. "\n", ["a.lua"] = SAY .. "\n" .. (lines[3] or "") }
            local theirs = run("lua -i a.lua <typed >/dev/null", files, "theirs")
            assert.same(theirs, run("lua -i a.lua <typed >/dev/null", files, "ours"))
        end)
    end
end)

describe("coroutines nest as deep as under lua5.4:", function()
    local NEST <const> = [[
        local deepest = 0
        local function nest(d) deepest = d return %s end
        pcall(nest, 1)
        print(deepest)]]
    for name, call in pairs {
        wrap = "coroutine.wrap(function() return nest(d + 1) end)()",
        resume = "assert(coroutine.resume(coroutine.create(function() return nest(d + 1) end)))",
    } do
        it(name, function()
            local files <const> = { ["a.lua"] = NEST:format(call) }
            local theirs <const> = tonumber(run("lua a.lua", files, "theirs").out)
            local ours <const> = tonumber(run("lua a.lua", files, "ours").out)
            assert.is_true(ours >= theirs - 3, ("%s, lua: %s"):format(ours, theirs)) -- a task is itself a coroutine
        end)
    end
end)

describe("the stack of a task", function()
    it("has one C function under the task's function", function()
        local r = run("lua a.lua", { ["a.lua"] = [[
            local task = require "dbrun.task"
            task.spawn(function()
                print(debug.getinfo(2, "S").what, debug.getinfo(3))
                print(debug.traceback "task")
            end)]] })
        assert.equal("C\tnil\ntask\nstack traceback:\n\ta.lua:4: in function <a.lua:2>\n\t[C]: in ?\n", r.out)
    end)

    it("is shown when it fails", function()
        local r = run("lua a.lua", { ["a.lua"] = "require 'dbrun.task'.spawn(function() error 'lost' end)" })
        assert.equal("lua: a.lua:1: lost\nstack traceback:\n\t[C]: in function 'error'\n"
            .. "\ta.lua:1: in function <a.lua:1>\n\t[C]: in ?\n", r.err)
    end)

    it("is that of the task that failed, when another one has raised the same text", function()
        for _, code in ipairs {
            -- one before it, which was caught
            [[local a = task.spawn(fail)
            pcall(a.join, a)
            task.spawn(function()
                error("boom", 0)
            end):join()]],
            -- one after it, which its failure has cancelled
            [[local g <close> = task.group()
            g:spawn(function() local x <close> = closing(fail) task.sleep(9) end)

            g:spawn(function() task.sleep(0) error("boom", 0) end)
            g:wait()]],
        } do
            local r = run("lua a.lua", { ["a.lua"] = [[
            local task = require "dbrun.task"
            local function closing(fn) return setmetatable({}, { __close = fn }) end
            local function fail() error("boom", 0) end
            ]] .. code })
            assert.matches("^lua: boom\nstack traceback:\n\t%[C%]: in function 'error'\n"
                .. "\ta.lua:7: in function <a.lua:%d>\n\t%[C%]: in %?\n$", r.err)
        end
    end)
end)

describe("an error that is no text", function()
    it("is shown with its traceback, from the script and from a task", function()
        for value, text in pairs {
            ["false"] = "(error object is a boolean value)", ["nil"] = "(error object is a nil value)",
            ["{}"] = "(error object is a table value)", ["1.5"] = "1.5",
        } do
            for call, where in pairs {
                ["error(%s)"] = "main chunk",
                ["require 'dbrun.task'.spawn(function() error(%s) end):join()"] = "function <a.lua:1>",
            } do
                local r = run("lua a.lua", { ["a.lua"] = call:format(value) })
                assert.equal(("lua: %s\nstack traceback:\n\t[C]: in function 'error'\n\ta.lua:1: in %s\n\t[C]: in ?\n")
                    :format(text, where), r.err)
            end
        end
    end)
end)
