--- Counts matching rows in steps, so that no transaction or snapshot lasts long.
local task = require "dbrun.task"

local M = {}

local READ_ONLY <const> = { isolation = "read committed", read_only = true }

---@class dbrun.batch.CountOptions
---@field look integer keys that a step reads
---@field duty number share of the time that it works
---@field most? integer ends when it has found so many
---@field between? fun() called between two steps; can wait
---@field ends? fun(): boolean called between two steps: whether to end early

---Rows of a stretch that match `where`; without one, all.
---@param conn table
---@param bounds dbrun.batch.Bounds
---@param stretch {first?: string[], last: string[]}
---@param opts dbrun.batch.CountOptions
---@return integer found
---@return integer keys that were looked at
function M.rows(conn, bounds, stretch, opts)
    local by_where <const> = bounds.walk.where ~= nil
    local after, found, keys, final = stretch.first, 0, 0, false
    while not final and found < (opts.most or math.huge) do
        if keys > 0 and opts.between then opts.between() end
        if keys > 0 and opts.ends and opts.ends() then break end
        local began <const> = task.now()
        local step <const> = conn:transaction(READ_ONLY, function(tx)
            return bounds:step(tx, after, stretch.last, opts.look, opts.look, by_where)
        end)
        if not step then break end
        found, keys, after, final = found + step.fits, keys + step.looked, step.bound, step.final
        if not final then task.sleep(math.min(1, (task.now() - began) * (1 / opts.duty - 1))) end
    end
    return found, keys
end

return M
