-- The formats of the results: a table for the terminal, Markdown for the manual, JSON.
local cli <const> = require "dbrun.command_line"
local json <const> = require "dbrun.json"
local metrics <const> = require "bench.lib.metrics"

local M = {}

---@class bench.Facts  -- the conditions under which the numbers were measured
---@field date string
---@field machine string
---@field versions string
---@field pairs integer
---@field fewest? integer         -- the smallest number of pairs of a workload
---@field seconds number

local HEAD <const> = { "", "workload", "dbrun", "compared with", "", "ratio", "target", "" }

--- "1.04", "12.3": a ratio.
---@param x number
---@return string
function M.ratio(x)
    return (x >= 10 and "%.1f" or "%.2f"):format(x)
end

--- "met", "missed", or nothing without a target.
---@param row bench.Row
---@return string
function M.verdict(row)
    if row.verdict.met == nil then return "" end
    return row.verdict.met and "met" or "missed"
end

--- The title of a row: the workload, and the metric when it is not the workload's own.
---@param result bench.Result
---@param row bench.Row
---@return string
function M.what(result, row)
    local variant <const> = row.ours ~= "dbrun" and ", " .. row.ours or ""
    if row.metric == result.metric then return row.title .. variant end
    return metrics.list[row.metric].label .. variant
end

--- The cells of one row.
---@param result bench.Result
---@param row bench.Row
---@return string[]
function M.cells(result, row)
    local format <const> = metrics.list[row.metric].format
    return {
        row.id,
        M.what(result, row),
        format(row.ours_value),
        row.other or "",
        row.other and format(row.other_value) or "",
        row.verdict.ratio and M.ratio(row.verdict.ratio) or "",
        row.target,
        M.verdict(row),
    }
end

--- All rows, the workload's name only in its first.
local function body(results)
    local rows <const> = {}
    for _, result in ipairs(results) do
        local last
        for _, row in ipairs(result.rows) do
            local cells <const> = M.cells(result, row)
            if cells[2] == last then cells[1], cells[2] = "", "" else last = cells[2] end
            rows[#rows + 1] = cells
        end
        if result.failure then rows[#rows + 1] = { result.id, result.title, "FAILED" } end
    end
    return rows
end

--- The table for the terminal.
---@param results bench.Result[]
---@return string[] lines
function M.lines(results)
    local rows <const> = body(results)
    table.insert(rows, 1, HEAD)
    return cli.table(rows, { right = { [3] = true, [5] = true, [6] = true } })
end

--- How the numbers were measured, in a sentence.
---@param facts bench.Facts
---@return string
function M.how(facts)
    local fewest <const> = facts.fewest and facts.fewest < facts.pairs and ("%d to "):format(facts.fewest) or ""
    return ("Median of %s%d alternating pairs of %g s, servers on the same machine over unix sockets."):format(
        fewest, facts.pairs, facts.seconds)
end

--- The table for the manual.
---@param results bench.Result[]
---@param facts bench.Facts
---@return string
function M.markdown(results, facts)
    local out <const> = {
        ("Measured on %s, %s, %s. %s"):format(facts.date, facts.machine, facts.versions, M.how(facts)), "",
        "| | workload | dbrun | compared with | | ratio | target | |",
        "|---|---|---:|---|---:|---:|---|---|",
    }
    for _, cells in ipairs(body(results)) do
        for i = 1, #HEAD do cells[i] = cells[i] or "" end
        out[#out + 1] = "| " .. table.concat(cells, " | ") .. " |"
    end
    return table.concat(out, "\n") .. "\n"
end

--- The results and every sample, as a value for JSON.
---@param results bench.Result[]
---@param facts bench.Facts
---@return table
function M.document(results, facts)
    local workloads <const> = json.array {}
    for i, r in ipairs(results) do
        local rows <const> = json.array {}
        for j, row in ipairs(r.rows) do
            rows[j] = {
                metric = row.metric, ours = row.ours, ours_value = row.ours_value, other = row.other,
                other_value = row.other_value, ratio = row.verdict.ratio, ratio_low = row.verdict.low,
                ratio_high = row.verdict.high, target = row.target ~= "" and row.target or nil, met = row.verdict.met,
            }
        end
        workloads[i] = {
            id = r.id, title = r.title, metric = r.metric, pairs = r.pairs, rows = rows, samples = r.samples,
            kinds = r.kinds,
            missing = json.array(r.missing), failure = r.failure,
        }
    end
    return { facts = facts, workloads = workloads }
end

--- The number of targets, and of targets that were met.
---@param results bench.Result[]
---@return integer met
---@return integer all
function M.count(results)
    local met, all = 0, 0
    for _, result in ipairs(results) do
        for _, row in ipairs(result.rows) do
            if row.verdict.met ~= nil then all = all + 1 end
            if row.verdict.met then met = met + 1 end
        end
    end
    return met, all
end

return M
