-- The metrics: their labels, their formats, and which direction is better.
local cli <const> = require "dbrun.command_line"

local M = {}

---@class bench.Metric
---@field label string          -- what the number is, for the table
---@field more boolean          -- larger is better
---@field format fun(v: number): string

--- Three significant digits.
local function three(v)
    if v >= 100 then return cli.count(math.floor(v + 0.5)) end
    return string.format(v >= 10 and "%.1f" or "%.2f", v)
end

--- Seconds in the unit that reads best.
---@param s number
---@return string
function M.duration(s)
    if s < 1e-3 then return three(s * 1e6) .. " us" end
    if s < 1 then return three(s * 1e3) .. " ms" end
    return three(s) .. " s"
end

---@type table<string, bench.Metric>
M.list = {
    rate = {
        label = "per second", more = true,
        format = function(v) return cli.count(math.floor(v + 0.5)) .. "/s" end,
    },
    time = { label = "time", more = false, format = M.duration },
    cpu = { label = "client CPU per operation", more = false, format = M.duration },
    memory = {
        label = "memory", more = false,
        format = function(bytes)
            if bytes < 1024 * 1024 then return three(bytes / 1024) .. " KiB" end
            return three(bytes / (1024 * 1024)) .. " MiB"
        end,
    },
    wrong = {
        label = "rows not done once", more = false,
        format = function(v) return cli.count(math.floor(v)) end,
    },
}

return M
