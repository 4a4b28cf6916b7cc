--- A page of the manual as HTML: escaped, and without external resources.
local inline <const> = require "dbrun.manual.inline"

local M = {}

local ESCAPED <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

---@param text string
---@return string
function M.escape(text)
    return (text:gsub("[&<>\"']", ESCAPED))
end
local escape <const> = M.escape

---The anchor of a heading.
---@param text string
---@return string
function M.anchor(text)
    return (text:lower():gsub("[^%w]+", "-"):gsub("^%-+", ""):gsub("%-+$", ""))
end

---The target of a link in a chapter.
local function target_of(target)
    local chapter <const>, anchor <const> = target:match "^([%w_.%-]+)%.md(#?[%w_%-]*)$"
    if chapter then return chapter .. ".html" .. anchor end
    if target:find "^https?://" or target:find "^#[%w_%-]+$" then return target end
    error(("a link leads to a chapter, or to http:// or https://, not to '%s'"):format(target), 0)
end

local TAGS <const> = { code = "code", strong = "strong", emphasis = "em" }

---@param spans dbrun.manual.Span[]
---@return string
function M.spans(spans)
    local parts <const> = {}
    for i, span in ipairs(spans) do
        local text <const> = escape(span.text)
        if span.kind == "link" then
            parts[i] = ('<a href="%s">%s</a>'):format(escape(target_of(span.target)), text)
        elseif TAGS[span.kind] then
            parts[i] = ("<%s>%s</%s>"):format(TAGS[span.kind], text, TAGS[span.kind])
        else
            parts[i] = text
        end
    end
    return table.concat(parts)
end

local blocks <const> = {}

function blocks.heading(block)
    local level <const> = block.level
    return ('<h%d id="%s">%s</h%d>'):format(level, M.anchor(inline.text(block.spans)), M.spans(block.spans), level)
end

function blocks.paragraph(block)
    return "<p>" .. M.spans(block.spans) .. "</p>"
end

function blocks.list(block)
    local parts <const> = { "<ul>" }
    for _, item in ipairs(block.items) do parts[#parts + 1] = "<li>" .. M.spans(item) .. "</li>" end
    parts[#parts + 1] = "</ul>"
    return table.concat(parts, "\n")
end

function blocks.code(block)
    local class <const> = block.output and "output" or "language-" .. block.language
    return ('<pre class="%s"><code>%s</code></pre>'):format(class, escape(block.code))
end

local function row_of(cells, tag, right)
    local parts <const> = {}
    for i, cell in ipairs(cells) do
        local open <const> = right[i] and tag .. ' class="right"' or tag
        parts[i] = ("<%s>%s</%s>"):format(open, M.spans(cell), tag)
    end
    return "<tr>" .. table.concat(parts) .. "</tr>"
end

function blocks.table(block)
    local parts <const>, has_header = { "<table>" }, false
    for _, cell in ipairs(block.header) do has_header = has_header or #cell > 0 end
    if has_header then parts[2] = "<thead>" .. row_of(block.header, "th", block.right) .. "</thead>" end
    for _, row in ipairs(block.rows) do parts[#parts + 1] = row_of(row, "td", block.right) end
    parts[#parts + 1] = "</table>"
    return table.concat(parts, "\n")
end

---@param list dbrun.manual.Block[]
---@return string
function M.blocks(list)
    local parts <const> = {}
    for i, block in ipairs(list) do parts[i] = blocks[block.kind](block) end
    return table.concat(parts, "\n")
end

local PAGE <const> = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s - dbrun</title>
<link rel="stylesheet" href="manual.css">
</head>
<body>
<nav>
<p><a href="index.html">dbrun</a></p>
<form id="search"><input type="search" placeholder="Search" aria-label="Search"></form>
<ul>
%s
<li><a href="functions.html">functions</a></li>
</ul>
</nav>
<main>
<ol id="found" hidden></ol>
%s
</main>
<script src="search.js"></script>
</body>
</html>
]]

---@class dbrun.manual.PageOptions
---@field name string of the page
---@field topics string[] for the list beside it

---@param title string
---@param body string HTML
---@param opts dbrun.manual.PageOptions
---@return string
function M.page(title, body, opts)
    local links <const> = {}
    for i, topic in ipairs(opts.topics) do
        local class <const> = topic == opts.name and ' class="here"' or ""
        links[i] = ('<li><a%s href="%s.html">%s</a></li>'):format(class, escape(topic), escape(topic))
    end
    return PAGE:format(escape(title), table.concat(links, "\n"), body)
end

---@param chapter dbrun.manual.Chapter
---@param opts dbrun.manual.PageOptions
---@return string
function M.chapter(chapter, opts)
    local body <const> = ("<h1>%s</h1>\n<p class=\"sentence\">%s</p>\n%s"):format(escape(chapter.title),
        M.spans(chapter.sentence), M.blocks(chapter.blocks))
    return M.page(chapter.title, body, opts)
end

return M
