-- bench.svg: for each workload one bar per contender, and below them the results of the targets.
local metrics <const> = require "bench.lib.metrics"
local report <const> = require "bench.lib.report"
local runner <const> = require "bench.lib.runner"
local svg <const> = require "bench.lib.svg"

local M = {}

local WIDTH <const>, MARGIN <const> = 880, 32
local LABEL <const>, BAR <const> = 200, 470 -- widths of the names' column and of the longest bar
local ROW <const>, THICK <const>, GAP <const> = 24, 16, 30
local FONT <const> = "'DejaVu Sans', Verdana, Arial, sans-serif"
local INK <const>, FAINT <const>, PAPER <const>, LINE <const> = "#1f2328", "#59636e", "#ffffff", "#d1d9e0"
local FILL <const> = { ours = "#0969da", floor = "#8c959f", peer = "#c8d1da" }
local MET <const>, MISSED <const> = "#1a7f37", "#bc4c00"

local function text(x, y, size, colour, words, more)
    local fields <const> = { x = x, y = y, font_size = size, fill = colour, words }
    for k, v in pairs(more or {}) do fields[k] = v end
    return svg.element("text", fields)
end

local function bar(y, name, kind, value, longest, format)
    local length <const> = math.max(1, BAR * value / longest)
    local x <const> = MARGIN + LABEL
    local weight <const> = kind == "ours" and "bold" or "normal"
    return {
        text(x - 10, y + 13, 13, INK, name, { text_anchor = "end", font_weight = weight }),
        svg.element("rect", { x = x, y = y, width = length, height = THICK, rx = 2, fill = FILL[kind] }),
        text(x + length + 8, y + 13, 13, INK, format(value), { font_weight = weight }),
    }
end

--- "1.04 x pgbench, target >= 1.0 x: met"
---@param result bench.Result
---@param row bench.Row
---@return string
function M.sentence(result, row)
    local subject <const> = row.metric == result.metric and "" or metrics.list[row.metric].label .. " "
    local variant <const> = row.ours ~= "dbrun" and row.ours .. ": " or ""
    local value
    if row.verdict.ratio then
        value = report.ratio(row.verdict.ratio) .. (row.verdict.faster and " x faster than " or " x ") .. row.other
    else
        value = metrics.list[row.metric].format(row.ours_value)
    end
    return ("%s%s%s, target %s: %s"):format(variant, subject, value, row.target, report.verdict(row))
end

local function verdict(y, result, row)
    local colour <const> = row.verdict.met and MET or MISSED
    local x <const> = MARGIN + LABEL
    return {
        svg.element("circle", { cx = x + 4, cy = y + 8, r = 4, fill = row.verdict.met and colour or "none",
            stroke = colour, stroke_width = 1.5 }),
        text(x + 16, y + 12, 12, colour, M.sentence(result, row)),
    }
end

local function add(list, more)
    for _, e in ipairs(more) do list[#list + 1] = e end
end

local function bars(out, result, y)
    local values <const>, longest = {}, 0
    for _, name in ipairs(result.order) do
        local value <const> = runner.value(result, name)
        values[name] = value
        longest = math.max(longest, value or 0)
    end
    for _, name in ipairs(result.order) do
        if values[name] then
            add(out, bar(y, name, result.kinds[name], values[name], longest, metrics.list[result.metric].format))
            y = y + ROW
        end
    end
    return y
end

--- Draws one workload; returns the position of the next.
local function section(out, result, y)
    local direction <const> = runner.longer_is_better(result) and "longer is better" or "shorter is better"
    out[#out + 1] = svg.element("line", { x1 = MARGIN, y1 = y, x2 = WIDTH - MARGIN, y2 = y, stroke = LINE })
    y = y + 26
    out[#out + 1] = text(MARGIN, y, 15, INK, result.id .. ": " .. result.title, { font_weight = "bold" })
    out[#out + 1] = text(WIDTH - MARGIN, y, 12, FAINT, direction, { text_anchor = "end" })
    y = y + 12
    if result.failure then
        out[#out + 1] = text(MARGIN + LABEL, y + 12, 12, MISSED, "failed run: no numbers")
        return y + 19 + GAP - 14
    end
    y = bars(out, result, y) + 2
    for _, row in ipairs(result.rows) do
        if row.verdict.met ~= nil then
            add(out, verdict(y, result, row))
            y = y + 19
        end
    end
    return y + GAP - 14
end

local function legend(out, y)
    local x = MARGIN
    for _, item in ipairs { { "ours", "dbrun" }, { "floor", "floor: the least in plain C" }, { "peer", "peers" } } do
        out[#out + 1] = svg.element("rect", { x = x, y = y, width = 14, height = 14, rx = 2, fill = FILL[item[1]] })
        out[#out + 1] = text(x + 20, y + 12, 12, FAINT, item[2])
        x = x + 44 + 6.5 * #item[2]
    end
end

--- The picture.
---@param results bench.Result[]
---@param facts bench.Facts
---@return string svg
function M.draw(results, facts)
    local out <const> = {
        text(MARGIN, 44, 20, INK, "dbrun and its peers", { font_weight = "bold" }),
        text(MARGIN, 66, 12, FAINT, ("%s, %s, %s"):format(facts.date, facts.machine, facts.versions)),
        text(MARGIN, 84, 12, FAINT, report.how(facts)),
    }
    legend(out, 98)
    local y = 130
    for _, result in ipairs(results) do y = section(out, result, y) end
    local root <const> = {
        xmlns = "http://www.w3.org/2000/svg", viewBox = ("0 0 %d %d"):format(WIDTH, y), width = WIDTH, height = y,
        font_family = FONT, role = "img",
        svg.element("title", { "dbrun and its peers" }),
        svg.element("rect", { width = WIDTH, height = y, fill = PAPER }),
    }
    add(root, out)
    return svg.render(svg.element("svg", root))
end

return M
