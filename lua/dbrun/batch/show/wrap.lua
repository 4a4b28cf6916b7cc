--- Texts in lines of a width.
local core = require "dbrun.core"

local M = {}

---Joins parts with commas and wraps them into lines.
---@param parts string[]
---@param width integer columns of a line, at least
---@return string[] lines
function M.list(parts, width)
    local lines, line = {}, ""
    for i, part in ipairs(parts) do
        local text <const> = i < #parts and part .. "," or part
        if line ~= "" and core.text.width(line) + 1 + core.text.width(text) > width then
            lines[#lines + 1] = line
            line = text
        else
            line = line == "" and text or line .. " " .. text
        end
    end
    if line ~= "" then lines[#lines + 1] = line end
    return lines
end

---A text on one line, cut where it is longer.
---@param text string
---@param width integer
---@return string
function M.short(text, width)
    local line <const> = require("dbrun.command_line").one_line((text:gsub("%s+", " ")))
    return (core.text.cut(line, math.max(1, width)))
end

return M
