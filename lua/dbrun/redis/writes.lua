--- Whether a command writes. Some write only with one of their options.
local core <const> = require "dbrun.core"

local M = {}

---Commands that write only with one of these words.
---@type table<string, table<string, boolean>>
M.WITH = {
    SORT = { STORE = true }, GEORADIUS = { STORE = true, STOREDIST = true },
    GEORADIUSBYMEMBER = { STORE = true, STOREDIST = true }, BITFIELD = { SET = true, INCRBY = true },
    GETEX = { EX = true, PX = true, EXAT = true, PXAT = true, PERSIST = true },
}

---False when the command certainly changes nothing. (A key can have the name of one of the words.)
---@param name string in any case
---@return boolean
function M.may_write(name, ...)
    if not core.redis.may_write(name, ...) then
        return false
    end
    local words <const> = M.WITH[name:upper()]
    for i = 2, words and select("#", ...) or 0 do
        local word <const> = select(i, ...)
        if type(word) == "table" or type(word) == "string" and words[word:upper()] then
            return true
        end
    end
    return not words or type((...)) == "table"
end

---Whether the command has written something that replicas should have. (In a dry run it never has.)
---@param name string
---@return boolean
function M.to_confirm(name, ...)
    return M.may_write(name, ...)
end

return M
