--- Shows a text that may be higher than the terminal: through `$PAGER`, else `less -FRSX`. A text that fits, or that
--- does not go to a terminal, is printed.
local errors <const> = require "dbrun.error"
local process <const> = require "dbrun.process"
local task <const> = require "dbrun.task"
local tty <const> = require "dbrun.tty"

local M = {}

local DEFAULT <const> = "less -FRSX"

local function print_out(text)
    local ok <const>, why <const> = io.stdout:write(text)
    if not ok then errors.fail("io", "cannot write to standard output: " .. tostring(why)) end
end

---The smallest number of terminal lines that a text takes.
local function lines_of(text)
    local _, count <const> = text:gsub("\n", "")
    return count
end

---The pager command; nil when PAGER is empty, or not set and less is not installed.
local function command()
    local own <const> = os.getenv "PAGER"
    if own then return own:find "%S" and own or nil end
    return process.run({ "sh", "-c", "command -v less", dry_run = "run" }).ok and DEFAULT or nil
end

---Writes the text to the pager. False when the pager could not be started.
local function page(pager, text)
    local _ <close> = setmetatable({ task.on_signal("SIGINT", function() end) }, { -- Ctrl-C is the pager's
        __close = function(self) self[1]:cancel() end,
    })
    local child <close> = process.start {
        "sh", "-c", pager, stdin_from = "pipe", stdout = "inherit", dry_run = "run",
    }
    local ok <const>, e <const> = pcall(child.write, child, text)
    if not ok and not (errors.is(e, "io")) then error(e, 0) end -- io: the user left the pager early
    child:close_stdin()
    local result <const> = child:wait()
    return result.code ~= 127 and result.code ~= 126
end

---Shows a text on standard output.
---@param text string
---Raises an error of kind `io` when it cannot be written.
function M.show(text)
    if not tty.isatty(1) or tty.dumb(1) or lines_of(text) < tty.height(1) then return print_out(text) end
    local pager <const> = command()
    io.stdout:flush()
    if not pager or not page(pager, text) then print_out(text) end
end

return M
