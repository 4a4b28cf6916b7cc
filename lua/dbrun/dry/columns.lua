--- Rows of the summary in columns. A text that is far longer than the others shifts only its own row, so that the
--- others fit into 80 columns if possible.
local core <const> = require "dbrun.core"
local shown <const> = require "dbrun.dry.shown"

local width_of <const> = core.text.width

local M = {}

local MOST_WIDTH <const> = 40 -- of a column

---@param rows string[][] each as long as the first; control characters are escaped
---@return string[] lines
function M.lines(rows)
    local widths <const>, lines <const> = {}, {}
    for _, row in ipairs(rows) do
        for at, text in ipairs(row) do
            row[at] = shown.line(text)
            local width <const> = width_of(row[at])
            widths[at] = math.max(widths[at] or 0, width <= MOST_WIDTH and width or 0)
        end
    end
    for i, row in ipairs(rows) do
        local parts <const> = {}
        for at, text in ipairs(row) do
            parts[at] = text .. (" "):rep(widths[at] - width_of(text))
        end
        lines[i] = table.concat(parts, "  "):gsub(" +$", "")
    end
    return lines
end

return M
