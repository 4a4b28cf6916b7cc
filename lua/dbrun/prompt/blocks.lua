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

---The lines of blocks; grids through dbrun.table.
---@param blocks dbrun.prompt.Block[]
---@param opts? table for dbrun.table.lines
---@return string[]
function M.lines(blocks, opts)
    local tables <const> = require "dbrun.table"
    local out = {}
    for i, block in ipairs(blocks) do
        if i > 1 then out[#out + 1] = "" end
        if block.title then out[#out + 1] = tty.printable(block.title) end
        if block.columns then
            for _, line in ipairs(M.grid(tables, block, opts)) do out[#out + 1] = line end
        end
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
