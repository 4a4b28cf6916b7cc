--- What a dry run prints at its end, on stderr.
local core <const> = require "dbrun.core"
local tty <const> = require "dbrun.tty"

local M = {}

---Prints what the parts have to say.
---@param parts string[] names of modules; each has `lines()`, its lines of the summary (none: nothing happened)
function M.print(parts)
    local lines = {}
    for _, name in ipairs(parts) do
        for _, line in ipairs(require(name).lines()) do lines[#lines + 1] = "  " .. line end
    end
    table.insert(lines, 1, #lines == 0 and "dry run: nothing would have changed" or "dry run: rolled back")
    io.stdout:flush()
    for _, line in ipairs(lines) do io.stderr:write(tty.printable(core.log.mask(line)), "\n") end
end

return M
