-- The check of make lint that files follow the order of their folder's README.md.
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local sources = require "spec.support.sources"

describe("the check for the order of files", function()
    local dir
    before_each(function()
        dir = fs.mkdtemp()
        fs.mkdir_p(dir .. "/src/floor")
    end)
    after_each(function()
        fs.rmtree(dir)
    end)

    ---@param changed? table<string, string|false> files that differ from a folder in order; false = missing
    ---@return string said, boolean ok
    local function check(changed)
        local files <const> = {
            ["floor/README.md"] = "# floor\n\nText.\n\n- `lowest`: what all use.\n- `face.h`: an interface.\n" ..
                "- `middle`, `other`: two files on a line.\n- `top`: the rest.\n",
            ["floor/lowest.c"] = '#include "floor/lowest.h"\nint lowest(void) { return 1; }',
            ["floor/lowest.h"] = "int lowest(void);",
            ["floor/face.h"] = '#include "floor/lowest.h"\nint face(void);',
            ["floor/middle.c"] = '#include <stdio.h>\n#include "floor/face.h"\nint middle(void) { return lowest(); }',
            ["floor/other.c"] = "int middle(void); int other(void) { return middle(); }",
            ["floor/top.c"] = '#include "floor/face.h"\nint middle(void); int face(void) { return middle(); }',
        }
        for name, text in pairs(changed or {}) do
            files[name] = text
        end
        sources.compile(dir, files)
        return sources.check(dir, "order")
    end

    ---The README above with some lines in place of others.
    local function readme(...)
        return { ["floor/README.md"] = "# floor\n\n" .. table.concat({ ... }, "\n") .. "\n" }
    end

    it("passes a folder in order", function()
        assert.same({ "", true }, { check() })
    end)

    it("fails for an include of a file below", function()
        assert.same({ "floor/lowest.c includes face.h, which stands below it\n", false }, { check {
            ["floor/lowest.c"] = '#include "floor/face.h"\nint lowest(void) { return 1; }',
        } })
    end)

    it("fails for an include in a header", function()
        assert.same({ "floor/lowest.h includes face.h, which stands below it\n", false }, { check {
            ["floor/lowest.h"] = '#include "floor/face.h"\n',
            ["floor/face.h"] = "int lowest(void);",
        } })
    end)

    it("fails for a call of a file below, and shows the symbols", function()
        assert.same({ "floor/middle.c needs other.c, which stands below it: count other\n", false }, { check {
            ["floor/middle.c"] = "int other(void); extern int count; int middle(void) { return other() + count; }",
            ["floor/other.c"] = "int count; int other(void) { return 1; }",
        } })
    end)

    it("allows calls of other folders", function()
        assert.same({ "", true }, { check {
            ["floor/lowest.c"] = "int far(void); int lowest(void) { return far(); }",
            ["elsewhere/zz.c"] = "int far(void) { return 1; }",
        } })
    end)

    it("fails for a file and for a header that are not named", function()
        local said <const>, ok <const> = check {
            ["floor/new.c"] = "int added(void) { return 1; }",
            ["floor/extra.h"] = "int extra(void);",
        }
        assert.is_false(ok)
        assert.matches("floor/README.md does not name new.c\n", said, 1, true)
        assert.matches("floor/README.md does not name extra.h\n", said, 1, true)
    end)

    it("fails for a name that is listed twice", function()
        assert.same({ "floor/README.md names top.c twice\n", false }, { check(readme("- `lowest`: a.",
            "- `face.h`: b.", "- `middle`, `other`, `top`: c.", "- `top`: d.")) })
    end)

    it("fails for a name without a file", function()
        assert.same({ "floor/README.md names gone.c, which is not there\n", false }, { check(readme("- `lowest`: a.",
            "- `face.h`: b.", "- `gone`: once.", "- `middle`, `other`, `top`: c.")) })
    end)

    it("passes a folder without a README.md", function()
        assert.same({ "", true }, { check {
            ["free/a.c"] = '#include "free/b.h"\nint a(void) { return b(); }',
            ["free/b.h"] = "int b(void);",
            ["free/b.c"] = "int a(void); int b(void) { return a(); }",
        } })
    end)

    it("fails when no folder has a README.md", function()
        local said <const>, ok <const> = check { ["floor/README.md"] = false }
        assert.is_false(ok)
        assert.matches("has no folder with a README.md\n", said, 1, true)
    end)

    it("fails when there are no objects to check", function()
        fs.mkdir_p(dir .. "/obj")
        local r <const> = process.run { "lua5.4", "spec/support/order.lua", dir .. "/obj", dir .. "/src" }
        assert.is_true(r.code ~= 0)
        assert.matches("there are no objects", r.stderr, 1, true)
    end)
end)
