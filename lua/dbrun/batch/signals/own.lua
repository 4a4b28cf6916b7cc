--- A job's own signal: a function that returns nil, or why to wait.
local errors <const> = require "dbrun.error"
local exit_guard <const> = require "dbrun.exit_guard"
local task <const> = require "dbrun.task"
local words <const> = require "dbrun.batch.signals.words"

local M = {}

local PATIENCE <const> = 2 -- seconds for an answer

---@class dbrun.batch.SignalContext
---@field db table a connection to the job's database, for short questions
---@field name string of the signal
---@field table? string that the job walks

---@param fn fun(ctx: dbrun.batch.SignalContext): string?
---@param ctx dbrun.batch.SignalContext
---@return string? text why to wait
---Raises an error of kind `cancelled`. Any other error of the function is a reason to wait.
function M.call(fn, ctx)
    local ok <const>, found <const> = pcall(task.timeout, PATIENCE, exit_guard.call,
        ("the signal '%s'"):format(ctx.name), fn, ctx)
    if ok and (found == nil or found == false) then return nil end
    if ok and type(found) == "string" then return ("%s: %s"):format(ctx.name, words.text(found)) end
    if ok then return ("%s returned a %s: it must return nil, or a text that says why to wait"):format(ctx.name,
        type(found)) end
    if errors.is(found, "cancelled") then error(found, 0) end
    if errors.is(found, "timeout") then
        return ("%s did not answer within %g s"):format(ctx.name, PATIENCE)
    end
    return ("%s failed: %s"):format(ctx.name, words.text(errors.is(found) and found.message or tostring(found)))
end

return M
