--- Blocks (dbrun.prompt.describe.show) as lines for a terminal or a file.
local tables <const> = require "dbrun.table"
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

--- A grid; an empty cell is nothing, not NULL. It has no count of its rows.
local function add_grid(out, block, options)
    local lines <const> = tables.lines(block.rows, {
        columns = block.columns, nulls = "", format = options.format, width = options.width, color = options.color,
    })
    if #block.rows == 0 then lines[#lines] = nil end
    table.move(lines, 1, #lines, #out + 1, out)
end

---The lines of blocks.
---@param blocks dbrun.prompt.Block[]
---@param options? dbrun.table.Options of the grids
---@return string[]
function M.lines(blocks, options)
    options = options or {}
    local out = {}
    for i, block in ipairs(blocks) do
        if i > 1 then out[#out + 1] = "" end
        if block.title then out[#out + 1] = tty.printable(block.title) end
        if block.columns then
            add_grid(out, block, options)
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
