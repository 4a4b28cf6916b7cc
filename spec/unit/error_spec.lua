--- Raising errors: the short forms.
local db = require "dbrun.db"
local errors = require "dbrun.error"

local function raised(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e), tostring(e))
    return e
end

describe("an error", function()
    it("of usage names the function, and formats the rest", function()
        local e = raised(errors.usage, "db.ident", "%d%% of %q", 5, "a name")
        assert.same({ "usage", 'db.ident: 5% of "a name"' }, { e.kind, e.message })
        assert.is_nil(e.hint)
    end)

    it("of any kind keeps its message unchanged, and takes a hint", function()
        local e = raised(errors.fail, "config", "100% wrong: %s", "make it right")
        assert.same({ "config", "100% wrong: %s", "make it right" }, { e.kind, e.message, e.hint })
        assert.is_nil(raised(errors.fail, "io", "no").hint)
    end)

    it("names the script's line, not the line of the module that refuses", function()
        local function line() return debug.getinfo(2, "l").currentline end
        local e = raised(function() db.ident "" end); local here = line()
        assert.equal("spec/unit/error_spec.lua:" .. here, e.where:gsub("^%./", ""))
        e = raised(function() db.typed(print, "int4") end); here = line()
        assert.equal("spec/unit/error_spec.lua:" .. here, e.where:gsub("^%./", ""))
    end)
end)
