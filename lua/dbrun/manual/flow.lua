--- Breaks styled text into lines of a given width.
local M = {}

---@class dbrun.manual.Piece
---@field text string
---@field style string? nil: plain

local function width_of(text)
    return utf8.len(text) or #text
end
M.width = width_of

---The words of some pieces: each word is a list of pieces without blanks between them. Blanks within a piece that is
---`kept` also break lines.
local function words_of(pieces)
    local words, glued = {}, false
    for _, piece in ipairs(pieces) do
        for blank, word in piece.text:gmatch "(%s*)(%S*)" do
            if blank ~= "" then glued = false end
            if word ~= "" then
                local atom <const> = { text = word, style = piece.style }
                if glued then
                    local last <const> = words[#words]
                    last[#last + 1] = atom
                    last.width = last.width + width_of(word)
                else
                    words[#words + 1] = { atom, width = width_of(word) }
                end
                glued = true
            end
        end
    end
    return words
end

---The first `count` characters of a text, and the rest.
local function cut(text, count)
    local at <const> = utf8.len(text) and utf8.offset(text, count + 1) or count + 1
    return text:sub(1, at - 1), text:sub(at)
end

---Cuts words that are wider than a line into parts that fit.
local function cut_long(words, width)
    local list <const> = {}
    for _, word in ipairs(words) do
        if word.width <= width then
            list[#list + 1] = word
        else
            local part = { width = 0 }
            for _, atom in ipairs(word) do
                local rest = atom.text
                while rest ~= "" do
                    if part.width == width then
                        list[#list + 1] = part
                        part = { width = 0 }
                    end
                    local head <const>, tail <const> = cut(rest, width - part.width)
                    part[#part + 1] = { text = head, style = atom.style }
                    part.width, rest = part.width + width_of(head), tail
                end
            end
            list[#list + 1] = part
        end
    end
    return list
end

---The width of the widest word.
---@param pieces dbrun.manual.Piece[]
---@return integer
function M.widest(pieces)
    local widest = 0
    for _, word in ipairs(words_of(pieces)) do widest = math.max(widest, word.width) end
    return widest
end

---The width on one line.
---@param pieces dbrun.manual.Piece[]
---@return integer
function M.total(pieces)
    local total, words <const> = 0, words_of(pieces)
    for _, word in ipairs(words) do total = total + word.width end
    return total + math.max(0, #words - 1)
end

---Neighbours of one style become one piece, with the blank between them.
local function join(line)
    local out <const> = {}
    for _, atom in ipairs(line) do
        local last <const> = out[#out]
        if last and last.style == atom.style then
            last.text = last.text .. atom.text
        else
            out[#out + 1] = { text = atom.text, style = atom.style }
        end
    end
    return out
end

---@param pieces dbrun.manual.Piece[]
---@param width integer at least 1
---@return { width: integer, [integer]: dbrun.manual.Piece }[] lines
function M.lines(pieces, width)
    local lines, line = {}, { width = 0 }
    for _, word in ipairs(cut_long(words_of(pieces), width)) do
        if line.width > 0 and line.width + 1 + word.width > width then
            lines[#lines + 1] = line
            line = { width = 0 }
        end
        if line.width > 0 then
            local last <const>, first <const> = line[#line], word[1]
            line[#line + 1] = { text = " ", style = last.style == first.style and last.style or nil }
            line.width = line.width + 1
        end
        for _, atom in ipairs(word) do line[#line + 1] = atom end
        line.width = line.width + word.width
    end
    lines[#lines + 1] = line
    for i, one in ipairs(lines) do
        local joined <const> = join(one)
        joined.width = one.width
        lines[i] = joined
    end
    return lines
end

return M
