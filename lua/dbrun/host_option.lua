--- Options of the program dbrun, which stand before the name of a script or command, for errors about those behind it.
local core <const> = require "dbrun.core"

local M = {}

---Is it an option of the program? Never under another host, which has none.
---@param option string with its dashes: "--stack"
---@return boolean
function M.is(option)
    if not core.words then return false end
    for _, known in ipairs((core.words())) do
        if known.name == option then return option == "-C" or option:find "^%-%-%l" ~= nil end
    end
    return false
end

return M
