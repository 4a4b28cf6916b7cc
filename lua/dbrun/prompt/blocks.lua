--- Blocks (dbrun.prompt.describe.show) as lines for a terminal or a file.
local tty <const> = require "dbrun.tty"

local M = {}

--- Lines of a section: its text, indented where it has line feeds.
local function add_text(out, indent, text)
    local first = true
    for line in (text .. "\n"):gmatch "(.-)\n" do
        out[#out + 1] = tty.printable((first and indent or indent .. "    ") .. line:gsub("\t", "    "))
        first = false
    end
end

--- A grid: cells are texts; what is no text (nil) is empty.
local function add_grid(out, block)
    local widths, numeric, cells = {}, {}, {}
    for i, name in ipairs(block.columns) do widths[i], numeric[i] = utf8.len(tty.printable(name)) or #name, true end
    for r, row in ipairs(block.rows) do
        cells[r] = {}
        for i = 1, #block.columns do
            local text <const> = row[i] == nil and "" or tostring(row[i]):gsub("[\n\t]", { ["\n"] = "\\n", ["\t"] = "\\t" })
            cells[r][i] = tty.printable(text)
            widths[i] = math.max(widths[i], utf8.len(cells[r][i]) or #cells[r][i])
            numeric[i] = numeric[i] and (row[i] == nil or math.type(row[i]) ~= nil)
        end
    end
    local function line(row, right)
        local parts = {}
        for i, text in ipairs(row) do
            local blanks <const> = (" "):rep(widths[i] - (utf8.len(text) or #text))
            parts[i] = right and numeric[i] and blanks .. text or text .. blanks
        end
        return (" " .. table.concat(parts, " | ")):gsub("%s+$", "")
    end
    local names, rules = {}, {}
    for i, name in ipairs(block.columns) do names[i], rules[i] = tty.printable(name), ("-"):rep(widths[i] + 2) end
    out[#out + 1] = line(names)
    out[#out + 1] = table.concat(rules, "+")
    for _, row in ipairs(cells) do out[#out + 1] = line(row, true) end
end

---The lines of blocks.
---@param blocks dbrun.prompt.Block[]
---@return string[]
function M.lines(blocks)
    local out = {}
    for i, block in ipairs(blocks) do
        if i > 1 then out[#out + 1] = "" end
        if block.title then out[#out + 1] = tty.printable(block.title) end
        if block.columns then
            add_grid(out, block)
        end
        for _, line in ipairs(block.text or {}) do add_text(out, "", line) end
        for _, section in ipairs(block.sections or {}) do
            if section.text then
                add_text(out, "", section.title .. ": " .. section.text)
            else
                out[#out + 1] = tty.printable(section.title) .. ":"
                for _, line in ipairs(section.lines) do add_text(out, "    ", line) end
            end
        end
    end
    return out
end

return M
