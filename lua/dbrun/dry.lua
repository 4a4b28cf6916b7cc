--- A dry run: the script does its work, and nothing of it is kept. PostgreSQL rolls back, Redis writes and child
--- processes are told and not done. Loaded in a dry run only; `require("dbrun").dry_run` says whether this is one.
local core <const> = require "dbrun.core"
local tty <const> = require "dbrun.tty"

---@class dbrun.dry.Part a kind of work
---@field install fun(late?: boolean) called once at the start
---@field lines fun(): string[], string? its part of the summary, and perhaps what went wrong

---@class dbrun.dry
---@field parts dbrun.dry.Part[] in the order of the summary; of dbrun.dry.start
---@field quiet boolean nothing is said where nothing would have changed: the script has not begun
local M = { parts = {}, quiet = false }

local finished = false

---Writes a line about what is not done to stderr.
---@param text string
function M.tell(text)
    io.stdout:flush()
    io.stderr:write("dry run: ", tty.printable(core.log.mask(text)), "\n")
end

---Ends the dry run: rolls back and prints the summary. Called once the script and its tasks have ended, however that
---was, and by os.exit.
---@return boolean? ok false: something may be kept, or the run did not come to its end
function M.finish()
    if finished or #M.parts == 0 then return end
    return core.task.shield(function()
        finished = true -- not before: a signal may stop a script that calls os.exit until here
        return require "dbrun.dry.summary".print(M.parts, M.quiet)
    end)
end

---Ends the dry run without a word: a command has none.
function M.leave()
    finished = true
end

return M
