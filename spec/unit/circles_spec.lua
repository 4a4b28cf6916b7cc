-- The check of make lint that looks for circles of objects and headers.
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local sources = require "spec.support.sources"

describe("the check for circles", function()
    local dir
    before_each(function()
        dir = fs.mkdtemp()
        fs.mkdir_p(dir .. "/src/floor")
    end)
    after_each(function()
        fs.rmtree(dir)
    end)

    ---@param files table<string, string> "floor/x.c" and "floor/x.h"; files that end in .c are compiled
    ---@return string said, boolean ok
    local function check(files)
        sources.compile(dir, files)
        return sources.check(dir, "circles")
    end

    -- a needs b, b needs c; `back`: c needs a, through `count`.
    local function chain(back)
        return {
            ["floor/a.c"] = "int b(void); int count; static int o(void) { return b(); } int a(void) { return o(); }",
            ["floor/b.c"] = "int c(void); static int o(void) { return 2; } int b(void) { return c() + o(); }",
            ["floor/c.c"] = back and "extern int count; int c(void) { return count; }" or "int c(void) { return 3; }",
            ["floor/top.c"] = "int a(void); int top(void) { return a(); }",
        }
    end

    local TIES <const> = "   floor/a -> floor/b: b\n   floor/b -> floor/c: c\n   floor/c -> floor/a: count\n"

    it("passes what has an order", function()
        assert.same({ "", true }, { check(chain(false)) })
    end)

    it("fails for objects that need each other, and shows the symbols that tie them", function()
        assert.same({ "objects in a circle: floor/a floor/b floor/c\n" .. TIES, false }, { check(chain(true)) })
    end)

    it("fails for headers that include each other", function()
        local files <const> = chain(false)
        files["floor/a.h"] = '#include "floor/b.h"\n'
        files["floor/b.h"] = '#include <stdio.h>\n#include "floor/c.h"\n'
        files["floor/c.h"] = '#include "floor/a.h"\n'
        files["floor/d.h"] = '#include "floor/d.h"\n'
        local said <const>, ok <const> = check(files)
        assert.is_false(ok)
        assert.matches("headers in a circle: floor/a.h floor/b.h floor/c.h\n", said, 1, true)
        assert.matches("   floor/b.h -> floor/c.h: #include\n", said, 1, true)
        assert.matches("headers in a circle: floor/d.h\n", said, 1, true)
    end)

    it("fails when there are no objects to check", function()
        fs.mkdir_p(dir .. "/obj")
        local r <const> = process.run { "lua5.4", "spec/support/circles.lua", dir .. "/obj", dir .. "/src" }
        assert.is_true(r.code ~= 0)
        assert.matches("there are no objects", r.stderr, 1, true)
    end)
end)
