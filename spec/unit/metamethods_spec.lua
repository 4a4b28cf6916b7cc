--- Methods and metamethods that are written in C, reached through the metatable.

local process = require "dbrun.process"

describe("every C function of every class", function()
    -- In a separate program, because a function that accepts a foreign block would crash it.
    it("refuses values of other classes, also in __gc", function()
        local result = process.run { require "dbrun.core".options.program, "--no-env", "spec/support/metamethods.lua",
            timeout = 60 }
        assert.equal("", result.stdout)
        assert.equal(0, result.code, result.stderr)
        assert.matches("4%d classes, 1%d%d functions", result.stderr)
    end)
end)
