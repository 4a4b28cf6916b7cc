--- The manual on a terminal: wrapped to its width, with aligned tables, and colours if the terminal has them.
local flow <const> = require "dbrun.manual.flow"

local M = {}

local INDENT <const>, GAP <const> = 2, 2
local LEAST <const> = 20 -- columns; on a narrower terminal lines are too long

local CODES <const> = {
    title = "\27[1;4m", heading = "\27[1m", strong = "\27[1m", emphasis = "\27[3m", code = "\27[36m", link = "\27[4m",
    dim = "\27[2m", mark = "\27[1;33m",
}
local RESET <const> = "\27[0m"

---@class dbrun.manual.Screen
---@field width integer
---@field colour boolean
---@field lines string[]
local Screen <const> = {}
Screen.__index = Screen

---@param width integer columns
---@param colour boolean
---@return dbrun.manual.Screen
function M.new(width, colour)
    return setmetatable({ width = math.max(width, LEAST), colour = colour, lines = {} }, Screen)
end

---@param text string
---@param style string?
---@return string
function Screen:paint(text, style)
    if not self.colour or not CODES[style] or text == "" then return text end
    return CODES[style] .. text .. RESET
end

local function chapter_of(target)
    return target:match "^([%w_.%-]+)%.md" or target:match "^lua/manual/([%w_.%-]+)%.md"
end

---Spans as pieces. Without colours, code keeps its backticks, because words such as `in` would be misread.
---@param spans dbrun.manual.Span[]
---@return dbrun.manual.Piece[]
function Screen:pieces(spans)
    local pieces <const> = {}
    for i, span in ipairs(spans) do
        local text = span.text
        if span.kind == "code" and not self.colour then
            text = "`" .. text .. "`"
        elseif span.kind == "link" then
            local chapter <const> = chapter_of(span.target)
            if not chapter then
                text = text == span.target and text or ("%s (%s)"):format(text, span.target)
            elseif chapter ~= text then
                text = ("%s (dbrun help %s)"):format(text, chapter)
            end
        end
        pieces[i] = { text = text, style = span.kind ~= "text" and span.kind or nil }
    end
    return pieces
end

---@param line dbrun.manual.Piece[]
---@return string
function Screen:line(line)
    local parts <const> = {}
    for i, piece in ipairs(line) do parts[i] = self:paint(piece.text, piece.style) end
    return table.concat(parts)
end

---@param text string?
function Screen:print(text)
    self.lines[#self.lines + 1] = text or ""
end

---Text after an indent; the first line can begin with a mark.
function Screen:flow(pieces, indent, first)
    local blank <const> = (" "):rep(indent)
    for i, line in ipairs(flow.lines(pieces, self.width - indent)) do
        self:print((i == 1 and first or blank) .. self:line(line))
    end
end

local blocks <const> = {}

function blocks.heading(screen, block)
    local pieces <const> = screen:pieces(block.spans)
    for _, piece in ipairs(pieces) do piece.style = "heading" end
    screen:flow(pieces, block.level == 3 and INDENT or 0, block.level == 3 and (" "):rep(INDENT) or "")
end

function blocks.paragraph(screen, block)
    screen:flow(screen:pieces(block.spans), INDENT, (" "):rep(INDENT))
end

function blocks.list(screen, block)
    for _, item in ipairs(block.items) do
        screen:flow(screen:pieces(item), INDENT + 2, (" "):rep(INDENT) .. "- ")
    end
end

function blocks.code(screen, block)
    local style <const> = block.output and "dim" or "code"
    for line in (block.code .. "\n"):gmatch "(.-)\n" do
        screen:print(line == "" and "" or (" "):rep(INDENT + 2) .. screen:paint(line, style))
    end
end

-- ---- tables ----

---The widths of the columns: those of the cells; if they do not fit, the widest columns are reduced.
local function column_widths(cells, columns, available)
    local widths, least = {}, {}
    for c = 1, columns do
        widths[c], least[c] = 1, 1
        for _, row in ipairs(cells) do
            widths[c] = math.max(widths[c], flow.total(row[c]))
            least[c] = math.max(least[c], math.min(flow.widest(row[c]), 16))
        end
    end
    local function total()
        local sum = 0
        for _, width in ipairs(widths) do sum = sum + width end
        return sum
    end
    for _, floor in ipairs { least, 4, 1 } do -- words are cut only if there is no other way
        while total() > available do
            local widest
            for c, width in ipairs(widths) do
                local own <const> = type(floor) == "table" and floor[c] or floor
                if width > own and (not widest or width > widths[widest]) then widest = c end
            end
            if not widest then break end
            widths[widest] = widths[widest] - 1
        end
    end
    return widths
end

local function print_row(screen, row, widths, right)
    local columns <const>, height = {}, 1
    for c, pieces in ipairs(row) do
        columns[c] = flow.lines(pieces, widths[c])
        height = math.max(height, #columns[c])
    end
    for i = 1, height do
        local parts <const> = { (" "):rep(INDENT) }
        for c, width in ipairs(widths) do
            local line <const> = columns[c][i] or { width = 0 }
            local blank <const> = (" "):rep(width - line.width)
            local text <const> = screen:line(line)
            parts[#parts + 1] = right[c] and blank .. text or text .. blank
            if c < #widths then parts[#parts + 1] = (" "):rep(GAP) end
        end
        screen:print((table.concat(parts):gsub("%s+$", "")))
    end
    return height
end

function blocks.table(screen, block)
    local cells <const> = {}
    for _, row in ipairs { block.header, table.unpack(block.rows) } do
        local line <const> = {}
        for c, spans in ipairs(row) do line[c] = screen:pieces(spans) end
        cells[#cells + 1] = line
    end
    for _, pieces in ipairs(cells[1]) do
        for _, piece in ipairs(pieces) do piece.style = "heading" end
    end
    local columns <const> = #block.header
    local widths <const> = column_widths(cells, columns, screen.width - INDENT - GAP * (columns - 1))
    local has_header = false
    for _, pieces in ipairs(cells[1]) do has_header = has_header or #pieces > 0 end
    if has_header then
        print_row(screen, cells[1], widths, block.right)
        local rule <const> = {}
        for c, width in ipairs(widths) do rule[c] = ("-"):rep(width) end
        screen:print((" "):rep(INDENT) .. screen:paint(table.concat(rule, (" "):rep(GAP)), "dim"))
    end
    local tall = 1
    for i = 2, #cells do
        if tall > 1 then screen:print() end -- what is wrapped needs an end
        tall = print_row(screen, cells[i], widths, block.right)
    end
end

---Prints blocks, each with an empty line above it.
---@param list dbrun.manual.Block[]
function Screen:blocks(list)
    for i, block in ipairs(list) do
        if i > 1 or #self.lines > 0 then self:print() end
        blocks[block.kind](self, block)
    end
end

---A chapter, line by line.
---@param chapter dbrun.manual.Chapter
---@param width integer columns
---@param colour boolean
---@return string[]
function M.chapter(chapter, width, colour)
    local screen <const> = M.new(width, colour)
    screen:flow({ { text = chapter.title, style = "title" } }, 0, "")
    screen:print()
    screen:flow(screen:pieces(chapter.sentence), INDENT, (" "):rep(INDENT))
    screen:blocks(chapter.blocks)
    return screen.lines
end

return M
