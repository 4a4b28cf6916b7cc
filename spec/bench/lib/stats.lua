-- Medians and ratios. A single run of a benchmark says little; the median of alternating pairs is reliable.
local M = {}

--- The median: the middle value, or the mean of the two in the middle.
---@param list number[]
---@return number|nil  -- nil for an empty list
function M.median(list)
    local n <const> = #list
    if n == 0 then return nil end
    local sorted <const> = table.move(list, 1, n, 1, {})
    table.sort(sorted)
    local half <const> = n // 2
    if n % 2 == 1 then return sorted[half + 1] end
    return (sorted[half] + sorted[half + 1]) / 2
end

--- The smallest and the largest value.
---@param list number[]
---@return number|nil min
---@return number|nil max
function M.range(list)
    if #list == 0 then return nil end
    return math.min(table.unpack(list)), math.max(table.unpack(list))
end

--- One ratio per pair: `above[i] / below[i]`.
---@param above number[]
---@param below number[]
---@return number[]
function M.ratios(above, below)
    assert(#above == #below, "ratios: the lists differ in length")
    local out <const> = {}
    for i = 1, #above do
        out[i] = above[i] / below[i]
    end
    return out
end

return M
