--- Finds words in the manual: in chapters, and in the names and texts of functions.
local functions <const> = require "dbrun.manual.functions"
local inline <const> = require "dbrun.manual.inline"
local library <const> = require "dbrun.manual.library"
local page <const> = require "dbrun.manual.page"

local M = {}

local MOST <const>, OF_ONE <const> = 20, 4

---@class dbrun.manual.Line
---@field topic string
---@field text string
---@field name? string of a function, in lower case
---@field weight number how much a hit in it counts

---@param lines dbrun.manual.Line[]
local function add_chapter(lines, name)
    local chapter <const> = library.chapter(name)
    local function add(text, weight)
        if text ~= "" then lines[#lines + 1] = { topic = name, text = text, weight = weight } end
    end
    add(chapter.title, 60)
    add(inline.text(chapter.sentence), 45)
    for _, block in ipairs(chapter.blocks) do
        if block.kind == "heading" then
            add(inline.text(block.spans), 40)
        elseif block.kind == "paragraph" then
            add(inline.text(block.spans), 10)
        elseif block.kind == "list" then
            for _, item in ipairs(block.items) do add(inline.text(item), 12) end
        elseif block.kind == "table" then
            for _, row in ipairs(block.rows) do
                local cells <const> = {}
                for i, cell in ipairs(row) do cells[i] = inline.text(cell) end
                add(table.concat(cells, "  "), 15)
            end
        else
            for line in block.code:gmatch "[^\n]+" do add(line:match "^%s*(.-)%s*$", block.output and 1 or 5) end
        end
    end
end

---Everything that is searched.
---@return dbrun.manual.Line[]
function M.lines()
    local lines <const> = {}
    for _, name in ipairs(library.topics()) do add_chapter(lines, name) end
    for _, entry in ipairs(library.functions().entries) do
        local signature <const> = functions.signature(entry)
        lines[#lines + 1] = {
            topic = entry.id, name = entry.name:lower(), weight = entry.f and 15 or 5,
            text = signature .. "  " .. page.sentence(entry),
        }
    end
    return lines
end

---How well a line matches: 0 when one of the words is not in it.
local function score(line, words)
    local text <const>, topic <const> = line.text:lower(), line.topic:lower()
    local sum = line.weight
    for _, word in ipairs(words) do
        local at <const> = text:find(word, 1, true)
        if not at then return 0 end
        local whole <const> = text:find("%f[%w_]" .. word:gsub("%p", "%%%0") .. "%f[^%w_]") ~= nil
        sum = sum + (whole and 20 or 0) - math.min(at, 200) / 100
        local name <const> = line.name or topic
        if name == word then
            sum = sum + (line.name and 60 or 100)
        elseif name:find(word, 1, true) then
            sum = sum + 15
        end
    end
    return sum
end

---The lines that contain all words, the best first, at most 20.
---@param query string words
---@return dbrun.manual.Line[]
function M.find(query)
    local words <const>, hits <const> = {}, {}
    for word in query:lower():gmatch "%S+" do words[#words + 1] = word end
    for i, line in ipairs(M.lines()) do
        local points <const> = #words > 0 and score(line, words) or 0
        if points > 0 then hits[#hits + 1] = { line = line, points = points, at = i } end
    end
    table.sort(hits, function(a, b)
        if a.points ~= b.points then return a.points > b.points end
        return a.at < b.at
    end)
    local found <const>, count <const>, rest <const> = {}, {}, {}
    for _, hit in ipairs(hits) do
        local topic <const> = hit.line.topic
        count[topic] = (count[topic] or 0) + 1
        local list <const> = count[topic] <= OF_ONE and found or rest
        list[#list + 1] = hit.line
    end
    table.move(rest, 1, #rest, #found + 1, found)
    return table.move(found, 1, math.min(#found, MOST), 1, {})
end

---A part of a text around the first word, and where the words are in it.
---@param text string
---@param query string
---@param width integer
---@return string part
---@return { [1]: integer, [2]: integer }[] places first and last byte, in their order
function M.part(text, query, width)
    local first = #text
    for word in query:lower():gmatch "%S+" do first = math.min(first, text:lower():find(word, 1, true) or first) end
    local from = first > width - 20 and math.max(1, first - width // 3) or 1
    while from > 1 and not text:sub(from - 1, from - 1):find "%s" do from = from - 1 end
    local part = text:sub(from)
    if (utf8.len(part) or #part) > width then
        local last <const> = utf8.offset(part, width - 3) or width - 3
        part = part:sub(1, last - 1) .. "..."
    end
    part = (from > 1 and "..." or "") .. part
    local places, at = {}, 1
    local lower <const> = part:lower()
    while true do
        local best, to
        for word in query:lower():gmatch "%S+" do
            local a <const>, b <const> = lower:find(word, at, true)
            if a and (not best or a < best) then best, to = a, b end
        end
        if not best then return part, places end
        places[#places + 1] = { best, to }
        at = to + 1
    end
end

return M
