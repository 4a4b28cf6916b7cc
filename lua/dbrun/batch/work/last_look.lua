--- The last look of a job with `where`: how many rows still fit when all passes are over. They came behind.
local control = require "dbrun.batch.state.control"
local counting = require "dbrun.batch.state.count"
local passes = require "dbrun.batch.state.passes"

local M = {}

---The look ends when it has found so many.
M.MOST = 1000

---Counts, and notes the number in the job's row.
---@param run dbrun.batch.Run
---@return integer found M.MOST or more means: at least so many
function M.run(run)
    local conn <close> = run.engine:acquire()
    local job <const> = require("dbrun.batch.state.jobs").find(conn, run.store.name, run.store.place)
    local found = 0
    if not job or not job.last then return 0 end
    for _, stretch in ipairs(passes.stretches(conn, run.store, job.last)) do
        if found < M.MOST then
            found = found + counting.rows(conn, run.store.bounds, stretch,
                { look = run.values.look, duty = run.values.duty, most = M.MOST - found })
        end
    end
    control.found(conn, run.store, found)
    return found
end

return M
