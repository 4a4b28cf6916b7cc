--- Collects the findings of a check: causes, remedies without duplicates, the worst status.
local M = {}

---@class dbrun.verify.Findings
---@field add fun(status: "WARN"|"FAIL", cause: string, todo: string?)
---@field result fun(text: string, facts: table?): dbrun.verify.Found

local RANK <const> = { PASS = 0, WARN = 1, FAIL = 2 }

---@return dbrun.verify.Findings
function M.new()
    local causes, remedy, seen, worst = {}, {}, {}, "PASS"
    local self = {}
    function self.add(status, cause, todo)
        causes[#causes + 1] = cause
        if todo and not seen[todo] then
            remedy[#remedy + 1], seen[todo] = todo, true
        end
        if RANK[status] > RANK[worst] then worst = status end
    end
    function self.result(text, facts)
        if #causes == 0 then return { text = text, facts = facts } end
        return { status = worst, text = text, cause = table.concat(causes, "\n"), remedy = remedy, facts = facts }
    end
    return self
end

return M
