--- The last check of a job with `where`: how many rows still match after all passes. They appeared before the position.
local control = require "dbrun.batch.state.control"
local counting = require "dbrun.batch.state.count"
local passes = require "dbrun.batch.state.passes"
local task = require "dbrun.task"

local M = {}

---The check ends when it has found this number.
M.MOST = 1000

---Counts, and records the number in the job's row.
---@param run dbrun.batch.Run
---@return integer? found M.MOST or more means: at least so many; nil: the run had to end before
function M.run(run)
    local conn <close> = run.engine:acquire()
    local job <const> = require("dbrun.batch.state.jobs").find(conn, run.store.name, run.store.place)
    local found = 0
    if not job or not job.last then return 0 end
    local ended = false
    local function ends()
        ended = ended or run.stopping ~= nil or run.seconds ~= nil and task.now() - run.began >= run.seconds
        return ended
    end
    for _, stretch in ipairs(passes.stretches(conn, run.store, job.last)) do
        if found < M.MOST and not ends() then
            found = found + counting.rows(conn, run.store.bounds, stretch,
                { look = run.values.look, duty = run.values.duty, most = M.MOST - found, ends = ends })
        end
    end
    if ended then
        run:tell("message", { text = "the job is done; the last check for late rows had to end (dbrun "
            .. "batch check " .. run.store.name .. " looks)" })
        return nil
    end
    control.found(conn, run.store, found)
    return found
end

return M
