--- dbrun as a `lua`: the same command lines run by both.

local run <const> = require "spec.support.command".run

local ECHO <const> = "for i = -9, 9 do if arg[i] then io.write(i, '=', arg[i], ' ') end end print(#arg, ...)"

--- The Lua code at the start of some scripts.
local TELLING <const> = "local function telling(fn) return setmetatable({}, { __tostring = fn, __name = 'T' }) end "

-- name, shell command, files
local same <const> = {
    { "-e runs a string", [[lua -e 'print(1, "a")']] },
    { "-e may be joined with its string", [[lua -e'print(2)']] },
    { "several -e run in order and share globals", [[lua -e 'x = 1' -e 'print(x)']] },
    { "-e that does not compile", [[lua -e 'x =']] },
    { "-e that fails", [[lua -e 'local t = nil; t.x = 1']] },
    { "what comes after a failed -e does not run", [[lua -e 'error("no")' -e 'print "never"']] },
    { "a script's arguments", "lua a.lua one 'two three' ''", { ["a.lua"] = ECHO } },
    { "options have negative indexes in arg", "lua -e 'x = 1' -W a.lua b", { ["a.lua"] = ECHO } },
    { "arg without a script", [[lua -e 'print(arg[0], arg[1], arg[2], #arg)']] },
    { "arg is there for -e before a script", "lua -e 'print(arg[0], arg[1])' a.lua z", { ["a.lua"] = "" } },
    { "a script sees a changed arg", "lua -e 'arg[1] = \"new\"' a.lua old", { ["a.lua"] = "print(...)" } },
    { "arg that is no table any more", "lua -e 'arg = 1' a.lua", { ["a.lua"] = "print(...)" } },
    { "options after the script belong to it", "lua a.lua -e --help -v", { ["a.lua"] = ECHO } },
    { "-- ends the options", "lua -- a.lua x", { ["a.lua"] = ECHO } },
    { "-- before a script named like an option", "lua -- -x.lua y", { ["-x.lua"] = ECHO } },
    { "-- and nothing more reads stdin", "echo 'print(7, ...)' | lua --" },
    { "- reads the script from stdin", "echo \"" .. ECHO .. "\" | lua - a b" },
    { "a script on stdin without -", "echo 'print(3, #arg, arg[0])' | lua" },
    { "stdin that does not compile", "echo 'print(' | lua -" },
    { "stdin that fails", "echo 'error(\"here\")' | lua -" },
    { "a script reads stdin",
        "printf 'l1\\nl2\\n' | lua a.lua", { ["a.lua"] = "for l in io.lines() do print(l) end" } },
    { "-l puts a module into a global", "lua -l m -e 'print(m.x)'", { ["m.lua"] = "return {x = 5}" } },
    { "-l joined", "lua -lm -e 'print(m.x)'", { ["m.lua"] = "return {x = 5}" } },
    { "-l g=mod", "lua -l g=m -e 'print(g.x, m)'", { ["m.lua"] = "return {x = 5}" } },
    { "-l and -e in their order", "lua -e 'y = 2' -l m -e 'print(m)'", { ["m.lua"] = "return y * 2" } },
    { "-l of a module that is missing", "lua -l no.such" },
    { "-l of a module that fails", "lua -l m", { ["m.lua"] = "error 'in the module'" } },
    { "-l of a module that does not compile", "lua -l m", { ["m.lua"] = "x = = 1" } },
    { "-v shows the version and runs nothing else", "echo 'print(1)' | lua -v" },
    { "-v and a script", "lua -v a.lua", { ["a.lua"] = "print(1)" } },
    { "-W turns warnings on", [[lua -W -e 'warn("careful")']] },
    { "warnings are off", [[lua -e 'warn("careful")']] },
    { "LUA_INIT", "LUA_INIT='x = 8' lua -e 'print(x)'" },
    { "LUA_INIT=@file", "LUA_INIT=@i.lua lua -e 'print(x)'", { ["i.lua"] = "x = 9" } },
    { "LUA_INIT=@file that is missing", "LUA_INIT=@no.lua lua -e 'print(x)'" },
    { "LUA_INIT_5_4 is asked first", "LUA_INIT='x = 1' LUA_INIT_5_4='x = 2' lua -e 'print(x)'" },
    { "LUA_INIT that fails", "LUA_INIT='error(\"init\")' lua -e 'print(x)'" },
    { "LUA_INIT that does not compile", "LUA_INIT='x = = 1' lua -e 'print(x)'" },
    { "-E ignores LUA_INIT and LUA_PATH",
        "LUA_INIT='x = 1' LUA_PATH='/nowhere' lua -E -e 'print(x, package.path)'" },
    { "LUA_PATH", "LUA_PATH='/x/?.lua;;' lua -e 'print(package.path, package.cpath)'" },
    { "a #! line", "lua a.lua", { ["a.lua"] = "#!/usr/bin/env dbrun\nprint 'ran'\nerror 'line 3'" } },
    { "a byte order mark", "lua a.lua", { ["a.lua"] = "\xEF\xBB\xBFprint 'ran'" } },
    { "a precompiled script",
        "lua -e 'io.open(\"b\", \"wb\"):write(string.dump(loadfile \"a.lua\")):close()' && lua b q",
        { ["a.lua"] = "print('bytecode', ...)" } },
    { "a script that does not compile", "lua a.lua", { ["a.lua"] = "local x = \n\n)" } },
    { "a folder as script", "mkdir f && lua f" },
    { "a script that returns 0, nothing, true, a float or a table", "for v in 0 nil true 5.5 {}; do\n"
        .. "lua a.lua $v; lua - $v <a.lua; lua <b.lua; done", { ["a.lua"] = "return load('return ' .. ...)()",
        ["b.lua"] = "return 0" } },
    { "what -e and -l return", "lua -l m -e 'return 5'; echo $?; lua -l m -e 'return {}, \"x\"'",
        { ["m.lua"] = "return 3" } },
    { "an error with a traceback", "lua a.lua", { ["a.lua"] =
        [[local function f() error 'deep' end
        local function g() f() end
        local t = {h = function() g() end}
        t.h()]] } },
    { "an error without position", [[lua -e 'error("flat", 0)']] },
    { "an error that is a number", [[lua -e 'error(42)']] },
    { "an error that is nil", [[lua -e 'error(nil)']] },
    { "an error that is a table", [[lua -e 'error({})']] },
    { "an error that is true", [[lua -e 'error(true)']] },
    { "an error that tells its text",
        [[lua -e 'error(setmetatable({}, {__tostring = function() return "text" end}))']] },
    { "an error's __tostring runs before anything is unwound", "lua a.lua", { ["a.lua"] = TELLING .. [[
        local x <close> = setmetatable({}, { __close = function(_, e) print("closed", type(e), e) end })
        local function f()
            local mine = "a local"
            error(telling(function()
                local _, value = debug.getlocal(3, 1)
                print(debug.traceback "told")
                return value
            end))
        end
        f()]] } },
    { "an error's __tostring that fails", "lua a.lua", { ["a.lua"] = TELLING
        .. "error(telling(function() error() end))" } },
    { "an error's __tostring that fails with text", "lua a.lua", { ["a.lua"] = TELLING
        .. "error(telling(function() error 'inside' end))" } },
    { "an error's __tostring that fails with another that tells its text", "lua a.lua", { ["a.lua"] = TELLING
        .. "error(telling(function() error(telling(function() return 'the other' end)) end))" } },
    { "an error's __tostring that ends the program", "lua a.lua", { ["a.lua"] = TELLING
        .. "error(telling(function() os.exit(7) end))" } },
    { "an error's __tostring that cannot be called", "lua a.lua", { ["a.lua"] =
        "error(setmetatable({}, { __tostring = 'text' }))" } },
    { "an error's __tostring that returns no string", "for v in 42 nil {} true; do lua a.lua $v; done",
        { ["a.lua"] = TELLING
        .. "local v = load('return ' .. ...)() error(telling(function() return v end))" } },
    { "an error of -e, -l or stdin that tells its text",
        "lua -e 'require \"m\"'; lua -l m; lua <m.lua; lua - <m.lua; LUA_INIT=@m.lua lua m.lua", { ["m.lua"] = TELLING
        .. "local x <close> = setmetatable({}, { __close = function(_, e) print(e) end })"
        .. " error(telling(function() return 'text' end))" } },
    { "an error that tells its text and is caught", "lua a.lua", { ["a.lua"] = TELLING
        .. "local e = telling(function() return 'text' end) print(select(2, pcall(error, e)) == e) error(e)" } },
    { "what variables get that are closed by an error that is not caught",
        "for v in 1 '\"a\"' nil {} print; do lua a.lua $v; done",
        { ["a.lua"] = "local x <close> = setmetatable({}, { __close = function(_, e) print(e) end })"
        .. " error(load('return ' .. ...)())" } },
    { "an error with __name", "lua a.lua", { ["a.lua"] = "error(setmetatable({}, { __name = 'My.Class' }))" } },
    { "an error in a C function", [[lua -e 'string.rep()']] },
    { "an error in a coroutine", "lua a.lua",
        { ["a.lua"] = "local co = coroutine.wrap(function() error 'inside' end)\nco()" } },
    { "variables are closed before the report", "lua a.lua", { ["a.lua"] =
        [[local function close(_, e) print('closed', e:match '[^\n]+') end
        local x <close> = setmetatable({}, {__close = close})
        error 'why']] } },
    { "finalizers run at the end", [[lua -e 'x = setmetatable({}, {__gc = function() print "collected" end})']] },
    { "os.exit with a number", [[lua -e 'os.exit(3)']] },
    { "os.exit(true)", [[lua -e 'os.exit(true)']] },
    { "os.exit(false)", [[lua -e 'os.exit(false)']] },
    { "os.exit flushes", [[lua -e 'io.write "no newline" os.exit(0)']] },
    { "os.exit that closes the state", [[lua -e 'x = setmetatable({}, {__gc = function() print "collected" end})
        local y <close> = setmetatable({}, {__close = function() print "closed" end}) os.exit(4, true)']] },
    { "os.exit in a coroutine", [[lua -e 'coroutine.wrap(function() os.exit(6) end)()']] },
    { "the script is the main thread",
        [[lua -e 'local _, main = coroutine.running() print(main, coroutine.isyieldable())']] },
    { "the script cannot yield", [[lua -e 'coroutine.yield(1)']] },
    { "generators", "lua a.lua", { ["a.lua"] = [[
        local function gen(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
        for i in gen(3) do io.write(i, " ") end
        local co = coroutine.create(function(...) print(..., coroutine.yield(1, 2)) error "end" end)
        print(coroutine.resume(co, "a")) print(coroutine.resume(co, "b")) print(coroutine.status(co))
        print(coroutine.close(coroutine.create(print)))]] } },
    { "debug.traceback in a script", "lua a.lua",
        { ["a.lua"] = "print((debug.traceback('t'):gsub('\\n[^\\n]*C.: in %?', '')))" } },
    { "xpcall with a traceback", "lua a.lua",
        { ["a.lua"] = "print(xpcall(function() error 'x' end, function(m) return m .. '!' end))" } },
    { "a C module loads", [[lua -e 'print(require "lfs".attributes("/", "mode"))']] },
    { "a module's own name and file", "lua -l m", { ["m.lua"] = "print(...)" } },
    { "the collector's mode", [[lua -e 'print(collectgarbage "incremental")']] },
    { "deep recursion is an error",
        [[lua -e 'local function f() return 1 + f() end print((select(2, pcall(f)):match "^[^(]*"))']] },
    { "stdin closed", "lua -e 'print(io.read())' <&-" },
}

describe("dbrun behaves like lua:", function()
    for _, case in ipairs(same) do
        it(case[1], function()
            local theirs = run(case[2], case[3], "theirs")
            local ours = run(case[2], case[3], "ours")
            assert.same(theirs, ours)
        end)
    end

    -- lua exits with 0 then; a user who pipes a script into dbrun needs the status.
    it("but a script on stdin that fails has exit status 1 also without -", function()
        for _, code in ipairs { "error 'here'", "x = = 1" } do
            assert.equal(1, run(('echo "%s" | lua'):format(code)).code)
        end
    end)

    it("busted runs on it, and its exit status is busted's", function()
        local files = {
            ["good_spec.lua"] = "it('holds', function() assert.is_true(true) end)",
            ["bad_spec.lua"] = "it('holds', function() assert.is_true(false) end)",
            ["wait_spec.lua"] = "it('waits', function() require 'dbrun.task'.sleep(0.01) end)",
        }
        for name, code in pairs { ["good_spec.lua"] = 0, ["bad_spec.lua"] = 1, ["wait_spec.lua"] = 0 } do
            local r = run("lua5.4 /usr/bin/busted --lua=lua -o TAP " .. name, files)
            assert.equal(code, r.code, r.out .. r.err)
            assert.matches(code == 0 and "^ok 1" or "^not ok 1", r.out)
        end
    end)
end)
