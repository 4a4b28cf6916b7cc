--- Lua's reserved words (Reference Manual 5.4, section 3.1), which cannot be names.
local M = {}

---In the order of the alphabet.
M.words = {}

local known <const> = {}

for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
    while]]):gmatch "%a+" do
    M.words[#M.words + 1] = word
    known[word] = true
end

---@param word string
---@return boolean
function M.is(word) return known[word] == true end

return M
