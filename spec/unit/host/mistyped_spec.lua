--- An uncaught error suggests the name that a script probably meant.

local run <const> = require "spec.support.command".run

describe("a mistyped name in a script", function()
    local function stderr(text)
        local r = run("lua x.lua", { ["x.lua"] = text })
        assert.equal(1, r.code)
        return r.err
    end

    it("has the nearest one as its hint", function()
        for text, near in pairs {
            ["local t = { inner = setmetatable({}, { __index = { query = print } }) }\nt.inner:qurey 'x'"] = "query",
            ["string.formt('x')"] = "format",
            ["local s = 'x' s:uper()"] = "upper",
            ["pirnt(1)"] = "print",
            ["local m = { insert = print }\nlocal function f() return function() m.isnert() end end\nf()()"] = "insert",
        } do
            local err = stderr(text)
            assert.matches("attempt to call a nil value %(%l+ '%w+'%)\nHINT:  did you mean '" .. near
                .. "'%?\nstack traceback:", err)
        end
    end)

    it("has one of a library when the object is not known", function()
        for code, near in pairs {
            ["string.foramt('x')"] = "string%.format", ["('x'):uper()"] = "string:upper",
            ["require 'dbrun.json' local j = {} print(#j, (function() return j end)().encoed())"] = "json%.encode",
        } do
            assert.matches("HINT:  did you mean '" .. near .. "'%?\n", run('lua -e "' .. code .. '"').err)
        end
        assert.matches("dbrun has no 'jsn'\nHINT:  did you mean 'json'", run("lua -e 'require \"dbrun\".jsn.x()'").err)
    end)

    it("has one of its file when the error comes from a task or a coroutine", function()
        for _, code in ipairs {
            "local task = require 'dbrun.task'\nlocal x = { query = print }\n"
                .. "task.spawn(function() x:qurey() end):join()",
            "local x = { query = print }\ncoroutine.wrap(function() x.qurey() end)()",
        } do
            assert.matches("'qurey'%)\nHINT:  did you mean 'query'%?\n", stderr(code))
        end
    end)

    it("has none without a similar name, and calls no function of the script", function()
        for _, text in ipairs {
            "local x x()", "local t = {} t.nothing()", "frobnicate()",
            "local t = setmetatable({}, { __index = function(_, k) if k ~= 'qurey' then print 'asked' end end })\n"
                .. "t:qurey()",
        } do
            local r = run("lua x.lua", { ["x.lua"] = text })
            assert.not_matches("HINT", r.err)
            assert.equal("", r.out)
        end
    end)

    it("does not change errors that a script catches", function()
        assert.equal("x.lua:1: attempt to call a nil value (global 'pirnt')\n", run("lua x.lua",
            { ["x.lua"] = "print(select(2, pcall(function() pirnt(1) end)))" }).out)
    end)

    it("has a hint for a module of dbrun", function()
        assert.matches("module 'dbrun%.jsn' not found:.*\n\tdid you mean 'dbrun%.json'%?\n",
            stderr "require 'dbrun.jsn'")
        assert.not_matches("did you mean", stderr "require 'dbrun.xyzzyfrob'")
    end)
end)
