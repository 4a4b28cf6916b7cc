--- A dry run: the script does its work, and nothing of it is kept. PostgreSQL rolls back, Redis writes and child
--- processes are told and not done. Loaded in a dry run only; `require("dbrun").dry_run` says whether this is one.
---
--- Each kind of work has a module with `install()`, called once at the start, and `lines()`, its part of the summary.
local core <const> = require "dbrun.core"
local tty <const> = require "dbrun.tty"

local M = {}

local state <const> = { started = false, finished = false }

---The parts, in the order of the summary.
local PARTS <const> = { "dbrun.dry.postgres", "dbrun.dry.redis", "dbrun.dry.process" }

---Begins the dry run, before anything of the script's work. By the host's option, or by cli.run.
function M.start()
    if state.started then return end
    state.started = true
    core.options.dry_run = true
    for _, name in ipairs(PARTS) do require(name).install() end
end

---Writes a line about what is not done to stderr.
---@param text string
function M.tell(text)
    io.stdout:flush()
    io.stderr:write("dry run: ", tty.printable(core.log.mask(text)), "\n")
end

---Ends the dry run: rolls back and prints the summary. Called once the script and its tasks have ended, however that
---was, and by os.exit.
---@return boolean? ok false: it is not known that nothing was kept
function M.finish()
    if state.finished then return end
    state.finished = true
    return core.task.shield(require "dbrun.dry.summary".print, PARTS)
end

return M
