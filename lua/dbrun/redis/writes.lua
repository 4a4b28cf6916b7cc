--- Does a command write? Some do with one of their options only.
local core <const> = require "dbrun.core"

local M = {}

---Commands that write only with one of these words.
---@type table<string, table<string, boolean>>
M.WITH = {
    SORT = { STORE = true }, GEORADIUS = { STORE = true, STOREDIST = true },
    GEORADIUSBYMEMBER = { STORE = true, STOREDIST = true }, BITFIELD = { SET = true, INCRBY = true },
    GETEX = { EX = true, PX = true, EXAT = true, PXAT = true, PERSIST = true },
}

---False when it is certain that the command changes nothing. (A key may be called as one of the words.)
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

---Is there something for replicas to have after this command? (In a dry run there never is.)
---@param name string
---@return boolean
function M.to_confirm(name, ...)
    return M.may_write(name, ...)
end

return M
