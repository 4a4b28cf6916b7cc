--- What an error in a chunk means for the job.
local errors = require "dbrun.error"

local M = {}

---Other sessions are in the way, or the chunk is too large: half of it is retried.
local CONFLICT <const> = {
    ["40001"] = true, ["40P01"] = true, ["55P03"] = true, ["57014"] = true, ["53400"] = true, ["25P03"] = true,
    ["25P04"] = true,
}

---Whether the chunk itself took too long, and did not only wait for others.
---@param e any
---@return boolean
function M.is_too_long(e)
    return errors.is(e) and (e.sqlstate == "57014" or e.sqlstate == "25P03" or e.sqlstate == "25P04"
        or e.sqlstate == "53400" or not e.sqlstate and e.kind == "timeout")
end

---@alias dbrun.batch.Verdict
---| "conflict" # halve, and try again after a pause
---| "connection" # connect again
---| "row" # an error in the data: on_error decides
---| "stop" # ends the job
---| "cancelled" # this program is ending

---@param e any
---@return dbrun.batch.Verdict
function M.of(e)
    if not errors.is(e) then return "stop" end
    local state <const> = e.sqlstate
    if e.kind == "cancelled" and not state then return "cancelled" end -- 57014: only a statement was cancelled
    if not state then
        if e.kind == "timeout" then return "conflict" end
        return (e.kind == "connect" or e.kind == "pool") and "connection" or "stop"
    end
    if CONFLICT[state] then return "conflict" end
    -- A pooler lost a prepared statement, or its columns have changed: the chunk is rolled back, and the statement is
    -- parsed again next time.
    if (state == "26000" or state == "0A000") and e.retryable then return "conflict" end
    local class <const> = state:sub(1, 2)
    if state == "XX000" and (e.message or ""):find("postmaster was shut down", 1, true) then
        return "connection" -- what Citus says when its server ends
    end
    -- 53300: too many clients, as is usual when all reconnect after a failover.
    if class == "08" or class == "57" or state == "25006" or state == "53300" then return "connection" end
    if class == "22" or class == "23" or class == "P0" then return "row" end
    return "stop"
end

return M
