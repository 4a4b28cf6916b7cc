-- The width of a text on a terminal, and its printed form.
local core = require "dbrun.core"

local text <const> = core.text

describe("core.text", function()
    it("counts the columns of a text, in any locale", function()
        for _, name in ipairs { "C", "C.UTF-8" } do
            assert.truthy(os.setlocale(name))
            assert.equal(3, text.width "abc")
            assert.equal(4, text.width "日本")
            assert.equal(2, text.width "e\u{301}x")
            assert.equal(2, text.width "👨‍👩‍👧")
            assert.equal(7, text.width "\27[2J")
            assert.equal(4, text.width "\xff")
        end
        os.setlocale "C"
    end)

    it("cuts with an ellipsis, never within a character", function()
        assert.equal("日本…", text.cut("日本語", 5))
        assert.equal("日…", text.cut("日本語", 4))
        assert.equal("日本語", text.cut("日本語", 6))
        assert.equal("ae\u{301}…", text.cut("ae\u{301}bc", 3))
        assert.equal("a…", text.cut("a\27b", 4))
        assert.equal("", text.cut("abc", 0))
        assert.equal("", text.cut("", 0))
    end)

    it("escapes everything that is not a character of one line", function()
        assert.equal("a\\nb\\tc\\r\\x1b[2J\\x00\\xff\\u009b\\u202e\\x7f|日本 \\",
            text.escape "a\nb\tc\r\27[2J\0\xff\u{9b}\u{202e}\x7f|日本 \\")
        assert.same({ "日…", 3 }, { text.cell("日本語", 3) })
        assert.same({ "\\n…", 3 }, { text.cell("\n\27", 6 - 1) })
        assert.same({ "abc", 3 }, { text.cell "abc" })
    end)

    it("refuses values that are not texts, and columns below 0", function()
        assert.error_matches(function() text.width {} end, "string expected, got table")
        assert.error_matches(function() text.cut("a", -1) end, "must not be negative")
        assert.error_matches(function() text.cut "a" end, "number expected")
    end)

    it("takes time in proportion to the text", function()
        local long <const> = ("日\27"):rep(200000)
        assert.equal(1200000, text.width(long))
        assert.equal(200, text.width(text.cut(long, 200)) + 1)
    end)
end)
