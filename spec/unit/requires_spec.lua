-- The check of make lint that looks for circles among the modules of lua/.
local fs = require "dbrun.fs"
local process = require "dbrun.process"

describe("the check for circles of modules", function()
    local dir
    before_each(function()
        dir = fs.mkdtemp()
    end)
    after_each(function()
        fs.rmtree(dir)
    end)

    ---@param files table<string, string> by their paths
    ---@return string said with DIR for the folder
    ---@return boolean ok
    local function check(files)
        for name, text in pairs(files) do
            fs.mkdir_p(fs.dirname(dir .. "/" .. name))
            fs.write(dir .. "/" .. name, text)
        end
        local r <const> = process.run { "lua5.4", "spec/support/requires.lua", dir }
        assert.equal("", r.stderr)
        local text <const> = r.stdout:gsub(dir:gsub("%p", "%%%0"), "DIR")
        return text, r.code == 0
    end

    local function said(expected, files)
        local text <const>, ok <const> = check(files)
        assert.equal(expected, text)
        assert.equal(expected == "", ok)
    end

    it("passes modules without a circle, with modules from elsewhere", function()
        said("", {
            ["p/top.lua"] = 'local a, b = require "p.a", require("p.b")\nreturn { a, b, require "lpeg" }',
            ["p/a.lua"] = "return require 'p.b'",
            ["p/b.lua"] = "return {}",
        })
    end)

    it("fails for modules that require each other, at load time and inside functions, and names the lines", function()
        said("modules in a circle: p.a p.b p.c\n   p.a -> p.b: DIR/p/a.lua:1 DIR/p/a.lua:3\n"
            .. "   p.b -> p.c: DIR/p/b.lua:2\n   p.c -> p.a: DIR/p/c/init.lua:1\n", {
                ["p/top.lua"] = 'return require "p.a"',
                ["p/a.lua"] = 'local b = require "p.b"\nreturn function()\n    return b, require("p.b").x\nend',
                ["p/b.lua"] = "local M = {}\nfunction M.f() return require [[p.c]] end\nreturn M",
                ["p/c/init.lua"] = 'return pcall(require, "p.a")',
            })
    end)

    it("fails for a module that requires itself", function()
        said("modules in a circle: p\n   p -> p: DIR/p.lua:1\n", {
            ["p.lua"] = 'return function() return require "p" end',
        })
    end)

    it("counts a name prefix for all modules that begin with it", function()
        local files <const> = {
            ["p/init.lua"] = 'return setmetatable({}, { __index = function(_, n) return require("p." .. n) end })',
            ["p/a.lua"] = 'return require "q"',
            ["q.lua"] = "return {}",
        }
        said("", files)
        files["q.lua"] = 'return require "p"'
        said("modules in a circle: p p.a q\n   p -> p.a: DIR/p/init.lua:1\n   p.a -> q: DIR/p/a.lua:1\n"
            .. "   q -> p: DIR/q.lua:1\n", files)
    end)

    it("does not mistake comments, strings and other names for calls", function()
        said("", {
            ["p/a.lua"] = 'return require "p.b"',
            ["p/b.lua"] = [==[
                -- require "p.a"
                --[[ require "p.a"
                ]] --[=[ ]] require "p.a" ]=]
                local text = "say \" require 'p.a'" .. [[ require "p.a" ]]
                local required = { requires = 'require "p.a"' }
                return text, required
            ]==],
        })
    end)

    it("fails for a call that it cannot read", function()
        said("DIR/p.lua:2: require needs a name that can be read here\n", {
            ["p.lua"] = "local name = ...\nreturn require(name)",
        })
        said("DIR/p.lua:1: require needs a name that can be read here\n", { ["p.lua"] = "return { require }" })
    end)
end)
