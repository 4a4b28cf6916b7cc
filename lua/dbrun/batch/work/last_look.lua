--- The last look of a job with `where`: how many rows still fit when all passes are over. They came behind.
local control = require "dbrun.batch.state.control"
local passes = require "dbrun.batch.state.passes"
local task = require "dbrun.task"

local M = {}

---The look ends when it has found so many.
M.MOST = 1000

local READ_ONLY <const> = { isolation = "read committed", read_only = true }

---Rows that fit in a stretch, counted in steps so that no transaction lasts.
local function count(run, conn, stretch, found)
    local bounds <const> = run.store.bounds
    local after, look = stretch.first, run.values.look
    repeat
        local began <const> = task.now()
        local step <const> = conn:transaction(READ_ONLY, function(tx)
            return bounds:step(tx, after, stretch.last, look, look, true)
        end)
        if not step then return found end
        found, after = found + step.fits, step.bound
        task.sleep(math.min(1, (task.now() - began) * (1 / run.values.duty - 1)))
    until step.final or found >= M.MOST
    return found
end

---Counts, and notes the number in the job's row.
---@param run dbrun.batch.Run
---@return integer found M.MOST or more means: at least so many
function M.run(run)
    local conn <close> = run.engine:acquire()
    local job <const> = require("dbrun.batch.state.jobs").find(conn, run.store.name, run.store.place)
    local found = 0
    if not job or not job.last then return 0 end
    for _, stretch in ipairs(passes.stretches(conn, run.store, job.last)) do
        if found < M.MOST then found = count(run, conn, stretch, found) end
    end
    control.found(conn, run.store, found)
    return found
end

return M
