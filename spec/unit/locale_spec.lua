-- The check of make lint that looks for functions that depend on the locale.
local fs = require "dbrun.fs"
local process = require "dbrun.process"

describe("the check for the locale", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function check(name, text)
        fs.write(dir .. "/" .. name, text)
        local r <const> = process.run { "lua5.4", "spec/support/locale.lua", dir .. "/" .. name }
        assert.equal("", r.stderr)
        return (r.stdout:gsub("%S+/(x%.%l+:)", "%1")), r.code == 0
    end

    it("passes code that does not depend on it", function()
        assert.same({ "", true }, { check("x.c", [[
/* strtod(s) is not called */
double f(const char *s) { return number_parse(s, NULL); } // nor toupper(c)
void g(struct error *e, double v) { error_set(e, KIND, "%g s (%s)", v, name(v)); snprintf(b, 9, "%d %%g", 1); }
]]) })
    end)

    it("fails for calls that read or compare text by it", function()
        assert.same({ "x.c:2: strtod depends on the locale: use base/number.h\n" ..
            "x.c:3: toupper depends on the locale: use base/number.h\n", false },
            { check("x.c", "#include <a.h>\ndouble v = strtod(s, NULL);\nint c = toupper (d);\n") })
    end)

    it("fails for a format that prints a float, except in a message", function()
        assert.same({ "x.c:2: prints a float in the program's locale: %.*g\n", false },
            { check("x.c", "void f(void) {\nsnprintf(text, max(1, 2), \"%.*g\", 15, v);\n}\n") })
    end)

    it("fails for a format without words in Lua", function()
        assert.same({ "x.lua:2: prints a float in the program's locale: %.15g\n", false },
            { check("x.lua", "local a = (\"more than %g s\"):format(x) -- \"%g\"\nlocal b = (\"%.15g\"):format(x)\n") })
    end)
end)
