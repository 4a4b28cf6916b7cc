--- Texts from outside as a part of a line that a dry run prints.
local tty <const> = require "dbrun.tty"

local M = {}

local LONGEST_CHARACTER <const> = 4 -- bytes

---On one line, control characters escaped.
---@param text string
---@return string
function M.line(text)
    return (tty.printable(text):gsub("\n", "\\n"):gsub("\t", "\\t"))
end

---The same, cut behind a character when it is longer than that.
---@param text string
---@param most integer bytes
---@return string
function M.cut(text, most)
    text = M.line(text:sub(1, most + LONGEST_CHARACTER)) -- what is cut away may be long
    return #text > most and text:sub(1, (utf8.offset(text, 0, most) or most) - 1) .. "..." or text
end

return M
