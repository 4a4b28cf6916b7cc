--- A row of numbers as a small drawing: block characters where the terminal shows them, else the numbers themselves.
local core = require "dbrun.core"

local M = {}

local BLOCKS <const> = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

---Can the terminal show block characters?
---@param fd integer
---@return boolean
function M.blocks(fd)
    if not core.tty.isatty(fd) or os.getenv "TERM" == "dumb" then return false end
    for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
        local value <const> = os.getenv(name)
        if value and value ~= "" then return value:lower():find "utf%-?8" ~= nil end
    end
    return false
end

---Draws numbers of at least 0, oldest first, on a scale from 0 to the greatest: a steady row looks steady.
---@param numbers number[]
---@param blocks boolean
---@param text fun(n: number): string one number in words
---@return string
function M.row(numbers, blocks, text)
    if #numbers == 0 then return "" end
    local low, high = math.huge, 0
    for _, n in ipairs(numbers) do low, high = math.min(low, n), math.max(high, n) end
    local parts <const> = {}
    if blocks then
        for i, n in ipairs(numbers) do
            local level <const> = high > 0 and math.ceil(n / high * #BLOCKS) or 1
            parts[i] = BLOCKS[math.max(1, math.min(#BLOCKS, level))]
        end
        local range <const> = text(low) == text(high) and text(high) or ("%s to %s"):format(text(low), text(high))
        return ("%s  %s"):format(table.concat(parts), range)
    end
    for i = math.max(1, #numbers - 7), #numbers do parts[#parts + 1] = text(numbers[i]) end
    return table.concat(parts, " ")
end

return M
