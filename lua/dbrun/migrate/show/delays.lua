--- What a run says while it waits for the lock or tries again, when it goes on with an interrupted file (functions of a
--- listener), and when it has nothing to do.
local cli = require "dbrun.command_line"

local M = {}

---@param to? string the version after which it was to stop: later ones may be pending
---@return string
function M.nothing(to)
    if to then return ("Nothing to apply up to version %s."):format(cli.one_line(to)) end
    return "Nothing to apply: the database is up to date."
end

---@param holder string of the migration lock
---@param waited number seconds
function M.waiting(holder, waited)
    cli.note(("waiting for the migration lock (%s): it is held by %s"):format(cli.duration(waited), holder))
end

---@param file dbrun.migrate.File
---@param done integer statements
---@param count integer
function M.resumed(file, done, count)
    cli.note(("%s was interrupted: %d of its %d statements took effect, it continues after them"):format(
        file.name, done, count))
end

---@param file dbrun.migrate.File
---@param pause number seconds
---@param attempt integer
---@param of integer
function M.retry(file, pause, attempt, of)
    cli.note(("%s: a table it needs is in use; again in %s (%d of %d)"):format(
        file.name, cli.duration(pause), attempt, of))
end

return M
