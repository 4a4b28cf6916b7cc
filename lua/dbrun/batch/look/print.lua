--- Prints what a look has found.
local cli <const> = require "dbrun.command_line"

local M = {}

---@param found dbrun.batch.Found
---@param format? "text"|"json"
---@return integer status
function M.show(found, format)
    if format == "json" then
        cli.print(cli.json(found.data, { sort_keys = true }))
    else
        for _, line in ipairs(found.lines) do cli.report(line) end
    end
    return found.status
end

return M
