--- The summary of a dry run, printed on stderr at its end.
local core <const> = require "dbrun.core"
local tty <const> = require "dbrun.tty"

local M = {}

---Prints the parts of the summary.
---@param parts dbrun.dry.Part[]
---@param quiet boolean print nothing when nothing would have changed
---@return boolean ok false: something may be kept, or was not done
function M.print(parts, quiet)
    local lines, problem = {}, nil
    for _, part in ipairs(parts) do
        local list, why = part.lines()
        for _, line in ipairs(list) do lines[#lines + 1] = "  " .. line end
        problem = problem or why
    end
    if quiet and #lines == 0 and not problem then return true end
    local head = problem or (#lines == 0 and "nothing would have changed" or "rolled back")
    table.insert(lines, 1, "dry run: " .. head)
    io.stdout:flush()
    for _, line in ipairs(lines) do io.stderr:write(tty.printable(core.log.mask(line)), "\n") end
    return problem == nil
end

return M
