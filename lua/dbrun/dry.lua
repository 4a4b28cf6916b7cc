--- A dry run: the script does its work, and nothing is kept. PostgreSQL rolls back; Redis writes and child processes
--- are listed and not done. Loaded only in a dry run; `require("dbrun").dry_run` says whether this is one.
local core <const> = require "dbrun.core"
local tty <const> = require "dbrun.tty"

---@class dbrun.dry.Part a kind of work
---@field install fun(late?: boolean) called once at the start
---@field lines fun(): string[], string? its part of the summary, and what went wrong, if anything

---@class dbrun.dry
---@field parts dbrun.dry.Part[] in the order of the summary; of dbrun.dry.start
---@field quiet boolean no summary when nothing would have changed, because the script has not begun
local M = { parts = {}, quiet = false }

local finished = false

---Writes a line to stderr about something that is not done.
---@param text string
function M.tell(text)
    io.stdout:flush()
    io.stderr:write("dry run: ", tty.printable(core.log.mask(text)), "\n")
end

---Ends the dry run: rolls back and prints the summary. Called by os.exit, and after the script and its tasks have
---ended, for whatever reason.
---@return boolean? ok false: something may be kept, or the run ended early
function M.finish()
    if finished or #M.parts == 0 then return end
    return core.task.shield(function()
        finished = true -- not earlier: until here a signal can stop a script that calls os.exit
        return require "dbrun.dry.summary".print(M.parts, M.quiet)
    end)
end

---Ends the dry run without a summary, because a command has none.
function M.leave()
    finished = true
end

return M
