-- Targets: the goals of a workload, and whether it met them. They are never edited here.
--
-- A target has exactly one of
--   at_least = x   as fast as x times the other: rates ours/other, times other/ours
--   at_most  = x   costs at most x times what the other does: ours/other
--   limit    = x   ours alone, in the metric's unit (seconds, bytes, per second)
-- With at_least there can also be
--   or_limit = x   the target is also met when ours alone keeps this limit
local metrics = require "bench.lib.metrics"
local stats = require "bench.lib.stats"

local M = {}

---@class bench.Target
---@field metric string        -- a key of metrics.list
---@field ours? string         -- which contender of ours; default: the first
---@field against? string      -- the name of the peer or floor; none for `limit`
---@field at_least? number
---@field at_most? number
---@field limit? number
---@field or_limit? number
---@field text? string         -- the text of the target; default: made from the other fields

---@class bench.Verdict
---@field ratio number|nil     -- median of the pairs' ratios; nil for `limit`
---@field low number|nil       -- the smallest and the largest of them
---@field high number|nil
---@field met boolean|nil      -- nil when there is no target
---@field faster? boolean      -- the ratio is how many times faster ours is

--- Whether the ratio of this target (other/ours) is a factor of speed on a metric where less is better.
local function is_faster(t)
    return not metrics.list[t.metric].more and not t.at_most and not t.limit
end

--- The text of a target in the table.
---@param t bench.Target
---@return string
function M.text(t)
    if t.text then return t.text end
    if t.or_limit then return M.text { metric = t.metric, limit = t.or_limit } .. (" or >= %g x"):format(t.at_least) end
    if t.at_least then return (">= %g x"):format(t.at_least) .. (is_faster(t) and " faster" or "") end
    if t.at_most then return ("<= %g x"):format(t.at_most) end
    if t.limit then
        local m <const> = metrics.list[t.metric]
        return (m.more and ">= " or "<= ") .. m.format(t.limit)
    end
    return ""
end

--- Raises when a target is invalid.
---@param t bench.Target
function M.check(t)
    local n = 0
    for _, key in ipairs { "at_least", "at_most", "limit" } do
        if t[key] then n = n + 1 end
    end
    local m <const> = metrics.list[t.metric]
    if not m then error("target: unknown metric " .. tostring(t.metric)) end
    if n ~= 1 then error("target: one of at_least, at_most, limit expected") end
    if t.limit and t.against then error("target: a limit is not against anybody") end
    if not t.limit and not t.against then error("target: against whom?") end
    if t.or_limit and (not t.at_least or m.more) then error("target: or_limit is beside at_least, for what costs") end
    if t.at_most and m.more then error("target: at_most is for what costs, " .. t.metric .. " is a gain") end
end

--- Compares the pairs. Without a bound in `t` it only returns the ratio, as a factor of speed.
---@param t bench.Target
---@param ours number[]    -- one value per pair
---@param other number[]   -- empty for `limit`, and without an opponent
---@return bench.Verdict
function M.judge(t, ours, other)
    local m <const> = metrics.list[t.metric]
    if #other == 0 and not t.limit then return {} end
    if t.limit then
        local value <const> = stats.median(ours)
        local met
        if m.more then met = value >= t.limit else met = value <= t.limit end
        return { met = met }
    end
    local ratios
    if t.at_most or m.more then
        ratios = stats.ratios(ours, other)
    else
        ratios = stats.ratios(other, ours)
    end
    local ratio <const> = stats.median(ratios)
    local low <const>, high <const> = stats.range(ratios)
    local met
    if t.at_least then met = ratio >= t.at_least or t.or_limit ~= nil and stats.median(ours) <= t.or_limit end
    if t.at_most then met = ratio <= t.at_most end
    return { ratio = ratio, low = low, high = high, met = met, faster = is_faster(t) }
end

return M
