--- Code that a command calls (a hook, a migration, a seed, an expectation) must not end the program: os.exit in it
--- could report success for work that was not done. It raises an error there.
local errors = require "dbrun.error"

local M = {}

---For each coroutine, the code it runs that must not end the program.
---@type table<thread, string>
local running = setmetatable({}, { __mode = "k" })
local installed = false

local function install()
    installed = true
    local exit = os.exit
    rawset(os, "exit", function(...)
        local what = running[coroutine.running()]
        if not what then return exit(...) end
        errors.fail("usage", what .. " called os.exit, which would end the run with its own status",
            "error 'why' stops the run; return ends the file")
    end)
end

---Calls fn(...) and returns what it returns; os.exit in it is an error of kind `usage`. An error of fn goes on.
---@param what string "the hook h/afterMigrate.lua"
---@param fn function
---@return any ...
function M.call(what, fn, ...)
    if not installed then install() end
    local thread = coroutine.running()
    local before = running[thread]
    running[thread] = what
    local _ <close> = setmetatable({}, { __close = function() running[thread] = before end })
    return fn(...)
end

return M
