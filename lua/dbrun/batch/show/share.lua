--- The progress of a job. The ranges record how many keys were read, and the position of the key. If the key is a
--- number or a time, the rest is computed from its position, which old deletions do not distort; else from the number
--- of rows in the statistics at the start.
local M = {}

local function to_number(text)
    local n <const> = tonumber(text)
    return n and n == n and math.abs(n) < math.huge and n or nil
end

local function to_time(text)
    local ok <const>, us <const> = pcall(require("dbrun.time").parse, text)
    return ok and math.abs(us) < math.maxinteger and us / 1e6 or nil
end

--- Types of keys with a distance; others, such as text that looks like a number, are ordered differently.
local READ <const> = {
    smallint = to_number, integer = to_number, bigint = to_number, numeric = to_number, real = to_number,
    ["double precision"] = to_number, oid = to_number, date = to_time, ["timestamp with time zone"] = to_time,
    ["timestamp without time zone"] = to_time,
}

---The number of remaining keys by the key's position, if they are as dense as those before it. Nil if the key is not a
---number or a time, or too little was done.
local function left_by_key(ranges, read)
    local left, length, looked = 0, 0, 0
    ---The place of a bound on the first column of the key.
    local function place(bound) return bound and read(bound[1]) end
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
---@return number? left keys that this pass has still to read
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
    local kind <const> = ((job.identity or {}).types or {})[1]
    local read <const> = kind and READ[(kind:gsub("%(.*%)", ""))]
    local left = read and left_by_key(here, read)
    if not left and job.estimate then left = math.max(0, job.estimate - looked) end
    if not left then return nil end
    if looked + left == 0 then return 1, 0 end
    return looked / (looked + left), left
end

return M
