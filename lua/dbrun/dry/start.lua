--- The beginning of a dry run.
local core <const> = require "dbrun.core"
local dry <const> = require "dbrun.dry"

local M = {}

---os.exit prints the summary, too.
local function cover_exit()
    local exit = os.exit
    local function covered(code, close)
        local ok <const>, kept <const> = pcall(dry.finish)
        if not ok then dry.tell("rolled back; what it would have changed is not counted: " .. tostring(kept)) end
        local fine <const> = code == nil or code == true or code == 0
        return exit((not ok or kept == false) and fine and 1 or code, close)
    end
    if core.cover_exit then -- also for a script that has stored it in a variable before
        exit = core.cover_exit(covered)
    else
        rawset(os, "exit", covered)
    end
end

---Begins the dry run, before the script's work. Called for the host's option, or by cli.run.
---@param late? boolean the script runs already
---Raises an error of kind `usage` when real work has already begun.
function M.start(late)
    if #dry.parts > 0 then return end
    local postgres <const>, redis <const> = require "dbrun.dry.postgres", require "dbrun.dry.redis"
    local parts <const> = { postgres, redis, (require "dbrun.dry.process") }
    for _, part in ipairs(parts) do part.install(late) end
    table.move(parts, 1, #parts, 1, dry.parts)
    core.options.dry_run = true
    cover_exit()
end

return M
