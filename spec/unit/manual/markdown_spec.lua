-- The manual's Markdown: supported syntax, and refusals with file and line.
local html = require "dbrun.manual.html"
local markdown = require "dbrun.manual.markdown"
local terminal = require "dbrun.manual.terminal"

local HEAD <const> = "# Title\n\nOne sentence.\n"

local function chapter(text)
    return markdown.chapter(text, "a.md")
end

local function screen(text, width, colour)
    return table.concat(terminal.chapter(chapter(text), width or 60, colour or false), "\n")
end

describe("the manual's Markdown", function()
    it("has headings, paragraphs, lists, tables, code, and marks within lines", function()
        local read = chapter(HEAD .. [[

## Heading

Some `code`, **strong**, *emphasis*, a [link](types.md), 2 * 3 and `` a ` b ``.

- one
  goes on
- two

| a | b |
|---|---:|
| 1 | `x\|y` |

<!-- run, exit 1 -->
```sh
exit 1
```

```text
out
```
]])
        local kinds = {}
        for i, block in ipairs(read.blocks) do kinds[i] = block.kind end
        assert.same({ "heading", "paragraph", "list", "table", "code", "code" }, kinds)
        local spans = {}
        for i, span in ipairs(read.blocks[2].spans) do spans[i] = span.kind end
        assert.same({ "text", "code", "text", "strong", "text", "emphasis", "text", "link", "text", "code", "text" },
            spans)
        assert.equal("a ` b", read.blocks[2].spans[10].text)
        assert.equal("one goes on", read.blocks[3].items[1][1].text)
        assert.equal("x|y", read.blocks[4].rows[1][2][1].text)
        assert.is_true(read.blocks[4].right[2])
        assert.equal(1, read.blocks[5].run)
        assert.is_true(read.blocks[6].output)
    end)

    for _, case in ipairs {
        { "no title\n", "a.md:1: the first line is '# Title'" },
        { "# T\nx\n", "a.md:2: the second line is empty" },
        { "# T\n\nno end\n", "a.md:3: the third line is one sentence" },
        { "# T\n\nOne.\nMore.\n", "a.md:4: the sentence in line 3 has one line" },
        { HEAD .. "\n# Again\n", "a.md:5: one '# Title' only" },
        { HEAD .. "\n#### Deep\n", "a.md:5: headings go down to '###'" },
        { HEAD .. "\n#None\n", "a.md:5: a heading is '## Text'" },
        { HEAD .. "\n```\nx\n```\n", "a.md:5: a fenced block has a language word" },
        { HEAD .. "\n```lua\nx\n", "a.md:5: a fenced block is never closed" },
        { HEAD .. "\n* one\n", "a.md:5: a list begins with '- '" },
        { HEAD .. "\n1. one\n", "a.md:5: numbered lists" },
        { HEAD .. "\n- one\n  - two\n", "lists have one level" },
        { HEAD .. "\n> quote\n", "a.md:5: quotes" },
        { HEAD .. "\n    code\n", "a.md:5: code stands between" },
        { HEAD .. "\n---\n", "a.md:5: rules" },
        { HEAD .. "\n<b>x</b>\n", "a.md:5: HTML" },
        { HEAD .. "\n<!-- note -->\n```lua\n```\n", "a.md:5: HTML is not part of the manual; the comments" },
        { HEAD .. "\n<!-- run -->\ntext\n", "a.md:5: a fenced block follows such a comment" },
        { HEAD .. "\n<!-- run, exit x -->\n```sh\n```\n", "a.md:5: '<!-- run -->'" },
        { HEAD .. "\n![x](y.png)\n", "a.md:5: images" },
        { HEAD .. "\nan `open\n", "a.md:5: a ` is never closed" },
        { HEAD .. "\nan **open\n", "a.md:5: a ** is never closed" },
        { HEAD .. "\n[a]: b\n", "a.md:5: a link is [text](target)" },
        { HEAD .. "\n| a | b |\n", "a.md:6: the second line of a table" },
        { HEAD .. "\n| a | b |\n|---|---|\n| 1 |\n", "a.md:7: 1 cells in a table of 2 columns" },
        { HEAD .. "\n| a | b |\n|---|---|\n| 1 | 2\n", "a.md:7: a line of a table begins and ends with '|'" },
    } do
        it("refuses other Markdown: " .. case[2], function()
            local ok, why = pcall(chapter, case[1])
            assert.is_false(ok, "it was taken")
            assert.matches(case[2], why, 1, true)
        end)
    end
end)

describe("a chapter on a terminal", function()
    it("is wrapped to its width, with indents", function()
        local text = screen(HEAD .. "\n" .. ("word "):rep(40) .. "end\n\n- " .. ("item "):rep(30) .. "end\n", 40)
        local lines = 0
        for line in text:gmatch "[^\n]+" do
            lines = lines + 1
            assert.is_true(#line <= 40, line)
        end
        assert.is_true(lines > 8)
        assert.matches("\n  word word", text)
        assert.matches("\n  %- item .-\n    item", text)
    end)

    it("has aligned tables, whose cells are wrapped when they are too wide", function()
        local text = screen(HEAD .. "\n| name | n |\n|---|---:|\n| a | 1 |\n| bcd | 100 |\n")
        assert.matches("  name    n\n  ----  ---\n  a       1\n  bcd   100", text, 1, true)
        local row = ("| %s| %s |\n"):format(("long "):rep(30), ("x"):rep(80))
        local wide = screen(HEAD .. "\n| a | b |\n|---|---|\n" .. row, 50)
        for line in wide:gmatch "[^\n]+" do assert.is_true(#line <= 50, line) end
    end)

    it("has colours only on request", function()
        local text <const> = HEAD .. "\nSome `code` and a [link](types.md), [site](https://example.org/).\n"
        assert.is_nil(screen(text):find "\27")
        assert.matches("`code` and a link (dbrun help types),", (screen(text, 80):gsub("%s+", " ")), 1, true)
        assert.matches("site (https://example.org/)", (screen(text, 80):gsub("%s+", " ")), 1, true)
        assert.matches("\27%[36mcode\27%[0m", screen(text, 80, true))
    end)

    it("counts characters, not bytes", function()
        local text = screen(HEAD .. "\n| a | b |\n|---|---|\n| äöü | x |\n| abc | y |\n")
        assert.matches("  äöü  x\n  abc  y", text, 1, true)
    end)
end)

describe("a chapter in HTML", function()
    it("is escaped", function()
        local text = "# A <b> & c\n\nSay `<x>` & \"y\".\n\n```lua\nif a < b then print('&') end\n```\n"
        local page = html.chapter(chapter(text), { name = "a", topics = { "a" } })
        assert.is_nil(page:find("<x>", 1, true))
        assert.matches("A &lt;b&gt; &amp; c", page, 1, true)
        assert.matches("<code>&lt;x&gt;</code>", page, 1, true)
        assert.matches("if a &lt; b then", page, 1, true)
    end)

    it("links chapters to their pages, and refuses scripts as targets", function()
        local page = html.chapter(chapter(HEAD .. "\nSee [types](types.md), [site](https://example.org/).\n"),
            { name = "a", topics = { "a", "types" } })
        assert.matches('<a href="types.html">types</a>', page, 1, true)
        assert.matches('<a href="https://example.org/">site</a>', page, 1, true)
        assert.is_false((pcall(html.chapter, chapter(HEAD .. "\nSee [x](javascript:alert).\n"),
            { name = "a", topics = { "a" } })))
    end)
end)
