--- How much of a job is done. The ranges say how many keys were looked at, and where the key stands: where it is a
--- number or a time, the rest is reckoned from its position, which rows that were deleted long ago do not falsify; else
--- from the number of rows that the statistics gave at the start.
local M = {}

---A bound as a number; nil: it is none, and no time either.
local function number(text)
    local n <const> = tonumber(text)
    if n then return n == n and math.abs(n) < math.huge and n or nil end
    if type(text) ~= "string" or not text:find "^%d%d%d%d+%-%d%d%-%d%d" then return nil end
    local ok <const>, us <const> = pcall(require("dbrun.time").parse, text)
    return ok and math.abs(us) < math.maxinteger and us or nil
end

---The place of a bound on the first column of the key.
local function place(bound)
    return bound and number(bound[1])
end

---What is left by the key's position: the keys of the part behind, if they lie as close as those in front. Nil where
---the key is no number and no time, or where too little was done.
local function left_by_key(ranges)
    local left, length, looked = 0, 0, 0
    for _, range in ipairs(ranges) do
        local first <const>, at <const>, last <const> = place(range.first), place(range.position), place(range.last)
        if not last then return nil end
        if range.state == "done" then
            if first then length, looked = length + last - first, looked + range.looked end
        else
            local from <const> = at or first
            if not from then return nil end
            left = left + last - from
            if first and at then length, looked = length + at - first, looked + range.looked end
        end
    end
    if left == 0 then return 0 end
    if length <= 0 or looked == 0 then return nil end
    return left * (looked / length)
end

---@param job dbrun.batch.JobRow
---@param ranges table[] of the job
---@return number? share 0 to 1; nil: not known
---@return number? left keys that are still to be looked at in this pass
function M.of(job, ranges)
    if job.state == "done" then return 1, 0 end
    local here <const>, looked = {}, 0
    for _, range in ipairs(ranges) do
        if range.pass == job.pass then
            here[#here + 1] = range
            looked = looked + range.looked
        end
    end
    if #here == 0 then return nil end
    local left = left_by_key(here)
    if not left and job.estimate then left = math.max(0, job.estimate - looked) end
    if not left then return nil end
    if looked + left == 0 then return 1, 0 end
    return looked / (looked + left), left
end

return M
