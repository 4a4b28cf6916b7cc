-- The columns of a dry run's summary.
local columns = require "dbrun.dry.columns"

describe("the columns of a summary", function()
    it("are as wide as their contents on the terminal", function()
        assert.same({ "a       1", "日本語  2", "café    3" },
            columns.lines { { "a", "1" }, { "日本語", "2" }, { "café", "3" } })
    end)

    it("are not widened by one long text", function()
        local long <const> = ("x"):rep(63)
        assert.same({ "a   1", long .. "  2", "bc  3" }, columns.lines { { "a", "1" }, { long, "2" }, { "bc", "3" } })
    end)

    it("are one line each, and do not move the cursor", function()
        assert.same({ [[a\nb\x1b[2J  1]] }, columns.lines { { "a\nb\27[2J", "1" } })
        assert.same({ "a", "b  c" }, columns.lines { { "a", "" }, { "b", "c" } })
        assert.same({}, columns.lines {})
    end)
end)
