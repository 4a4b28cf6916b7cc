--- Parses the Markdown of the manual: a small, fixed subset, so that the terminal, HTML and man pages show the same.
---
---     # Title                         line 1
---                                     line 2
---     One sentence.                   line 3
---
--- followed by paragraphs, `##` and `###` headings, `-` lists of one level, tables, fenced blocks with a language
--- word, and the comments `<!-- run -->`, `<!-- run, exit 1 -->` and `<!-- example: path -->` above a fenced block.
local inline <const> = require "dbrun.manual.inline"

local M = {}

---@class dbrun.manual.Block
---@field kind "heading"|"paragraph"|"list"|"table"|"code"
---@field line integer
---@field level? integer of a heading: 2 or 3
---@field spans? dbrun.manual.Span[] of a heading, a paragraph
---@field items? dbrun.manual.Span[][] of a list
---@field header? dbrun.manual.Span[][] of a table: its cells
---@field rows? dbrun.manual.Span[][][] of a table
---@field right? boolean[] of a table: which columns are aligned right
---@field language? string of a fenced block
---@field code? string
---@field run? integer the example is run, and ends with this exit status
---@field output? boolean it is what the example before it prints

---@class dbrun.manual.Chapter
---@field title string
---@field sentence dbrun.manual.Span[]
---@field blocks dbrun.manual.Block[]

---@class dbrun.manual.Reader
---@field name string
---@field lines string[]
---@field at integer number of the line that comes next
---@field blocks dbrun.manual.Block[]
---@field run? integer what a comment said about the block that comes next
---@field comment? string the comment
local Reader <const> = {}
Reader.__index = Reader

function Reader:fail(message, line)
    error(("%s:%d: %s"):format(self.name, line or self.at, message), 0)
end

function Reader:spans(text, line)
    local ok <const>, spans <const> = pcall(inline.parse, text)
    if not ok then self:fail(spans, line) end
    return spans
end

function Reader:add(block)
    block.line = block.line or self.at
    self.blocks[#self.blocks + 1] = block
end

-- ---- blocks ----

function Reader:heading(line)
    local marks <const>, text <const> = line:match "^(#+) +(%S.*)$"
    if not marks then self:fail "a heading is '## Text'" end
    if #marks == 1 then self:fail "one '# Title' only, in the first line" end
    if #marks > 3 then self:fail "headings go down to '###'" end
    self:add { kind = "heading", level = #marks, spans = self:spans(text) }
    self.at = self.at + 1
end

function Reader:fence(line)
    local language <const>, first <const> = line:match "^```(%l+)$", self.at
    if not language then self:fail "a fenced block has a language word: ```lua, ```sh, ```sql, ```text" end
    local code <const> = {}
    repeat
        self.at = self.at + 1
        local inner <const> = self.lines[self.at]
        if not inner then self:fail("a fenced block is never closed", first) end
        code[#code + 1] = inner
    until inner == "```"
    code[#code] = nil
    local before <const> = self.blocks[#self.blocks]
    self:add {
        kind = "code", language = language, code = table.concat(code, "\n"), line = first, run = self.run,
        output = language == "text" and before ~= nil and before.run ~= nil and not self.comment,
    }
    self.run, self.comment = nil, nil
    self.at = self.at + 1
end

function Reader:take_comment(line)
    local status <const> = line:match "^<!%-%- run(.*) %-%->$"
    if status then
        self.run = status == "" and 0 or math.tointeger(tonumber(status:match "^, exit (%d+)$"))
        if not self.run then self:fail "'<!-- run -->' or '<!-- run, exit 1 -->'" end
    elseif not line:find "^<!%-%- example: %S+ %-%->$" then
        self:fail "HTML is not part of the manual; the comments are '<!-- run -->' and '<!-- example: path -->'"
    end
    if not (self.lines[self.at + 1] or ""):find "^```" then self:fail "a fenced block follows such a comment" end
    self.comment = line
    self.at = self.at + 1
end

function Reader:list()
    local block <const> = { kind = "list", items = {}, line = self.at }
    while (self.lines[self.at] or ""):find "^%- +%S" do
        local first <const>, parts <const> = self.at, { self.lines[self.at]:match "^%- +(.-)%s*$" }
        self.at = self.at + 1
        while (self.lines[self.at] or ""):find "^ +[^%s%-]" or (self.lines[self.at] or ""):find "^ +%-%S" do
            parts[#parts + 1] = self.lines[self.at]:match "^%s+(.-)%s*$"
            self.at = self.at + 1
        end
        block.items[#block.items + 1] = self:spans(table.concat(parts, " "), first)
        if self.lines[self.at] == "" and (self.lines[self.at + 1] or ""):find "^%- " then self.at = self.at + 1 end
    end
    self:add(block)
end

---The cells of a line `| a | b |`; `\|` is a bar within one.
local function cells_of(line)
    local cells <const> = {}
    local inner <const> = line:match "^|(.*)|%s*$"
    if not inner then return nil end
    for cell in (inner:gsub("\\|", "\1") .. "|"):gmatch "([^|]*)|" do
        cells[#cells + 1] = cell:gsub("\1", "|"):match "^%s*(.-)%s*$"
    end
    return cells
end

function Reader:row(line, columns)
    local cells <const> = cells_of(line)
    if not cells then self:fail "a line of a table begins and ends with '|'" end
    if columns and #cells ~= columns then
        self:fail(("%d cells in a table of %d columns ('\\|' is a bar within a cell)"):format(#cells, columns))
    end
    local row <const> = {}
    for i, cell in ipairs(cells) do row[i] = self:spans(cell) end
    return row
end

function Reader:table()
    local block <const> = { kind = "table", rows = {}, right = {}, line = self.at }
    block.header = self:row(self.lines[self.at])
    self.at = self.at + 1
    local rule <const> = cells_of(self.lines[self.at] or "")
    if not rule or #rule ~= #block.header then self:fail "the second line of a table is '|---|---|'" end
    for i, cell in ipairs(rule) do
        if not cell:find "^:?%-+:?$" then self:fail "the second line of a table is '|---|---|'" end
        block.right[i] = cell:find "^%-+:$" ~= nil
    end
    self.at = self.at + 1
    while (self.lines[self.at] or ""):find "^|" do
        block.rows[#block.rows + 1] = self:row(self.lines[self.at], #block.header)
        self.at = self.at + 1
    end
    self:add(block)
end

local REFUSED <const> = {
    { "^%s*[*+] ", "a list begins with '- '" }, { "^%s*%d+[.)] ", "numbered lists are not part of the manual" },
    { "^%s+%- ", "lists have one level" }, { "^>", "quotes are not part of the manual" },
    { "^    ", "code stands between ``` and ```" }, { "^%s", "a line begins at its first column" },
    { "^[-*_][-*_][-*_]+%s*$", "rules are not part of the manual" }, { "^==+%s*$", "a heading is '## Text'" },
    { "^%[[^%]]+%]:", "a link is [text](target)" }, { "\t", "tabs stand in fenced blocks only" },
    { "  $", "blanks at the end of a line" },
}

local function begins_block(line)
    return line == "" or line:find "^#" or line:find "^```" or line:find "^|" or line:find "^%- " or line:find "^<!"
end

function Reader:paragraph()
    local parts <const>, first <const> = {}, self.at
    repeat
        local line <const> = self.lines[self.at]
        for _, refused in ipairs(REFUSED) do
            if line:find(refused[1]) then self:fail(refused[2]) end
        end
        parts[#parts + 1] = line
        self.at = self.at + 1
    until not self.lines[self.at] or begins_block(self.lines[self.at])
    self:add { kind = "paragraph", spans = self:spans(table.concat(parts, " "), first), line = first }
end

function Reader:block()
    local line <const> = self.lines[self.at]
    if line == "" then
        self.at = self.at + 1
    elseif line:find "^#" then
        self:heading(line)
    elseif line:find "^```" then
        self:fence(line)
    elseif line:find "^|" then
        self:table()
    elseif line:find "^%- +%S" then
        self:list()
    elseif line:find "^<!" then
        self:take_comment(line)
    else
        self:paragraph()
    end
end

-- ---- a whole text ----

local function lines_of(text)
    local lines <const> = {}
    for line in (text:gsub("\n$", "") .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
    return lines
end

---Reads blocks outside a chapter, as in the comment of a function.
---@param text string
---@param name string for errors
---@return dbrun.manual.Block[]
---Raises a text `name:line: what is not part of the manual's Markdown`.
function M.blocks(text, name)
    local reader <const> = setmetatable({ name = name, lines = lines_of(text), at = 1, blocks = {} }, Reader)
    while reader.lines[reader.at] do reader:block() end
    return reader.blocks
end

---Reads a chapter.
---@param text string
---@param name string for errors
---@return dbrun.manual.Chapter
---Raises a text `name:line: what is not part of the manual's Markdown`.
function M.chapter(text, name)
    local reader <const> = setmetatable({ name = name, lines = lines_of(text), at = 1, blocks = {} }, Reader)
    local lines <const> = reader.lines
    local title <const> = (lines[1] or ""):match "^# (%S.*)$"
    if not title then reader:fail("the first line is '# Title'", 1) end
    if lines[2] ~= "" then reader:fail("the second line is empty", 2) end
    if not (lines[3] or ""):find "^%S.*[.?!]$" or begins_block(lines[3]) then
        reader:fail("the third line is one sentence that says what the chapter is for", 3)
    end
    if (lines[4] or "") ~= "" then reader:fail("the sentence in line 3 has one line", 4) end
    local sentence <const> = reader:spans(lines[3], 3)
    reader.at = 4
    while reader.lines[reader.at] do reader:block() end
    return { title = title, sentence = sentence, blocks = reader.blocks }
end

return M
