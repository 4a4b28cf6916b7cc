--- The results of a verification as text for people and as JSON for programs.
local cli = require "dbrun.cli"

local M = {}

local PLAIN <const> = setmetatable({}, { __index = function() return function(text) return text end end })
local COLOURS <const> = { PASS = "green", WARN = "yellow", FAIL = "red" }

---Lines under a result that is not PASS.
local function below(result, style)
    local lines = {}
    local function add(label, text)
        local indent = " "
        lines[#lines + 1] = ("      %s%s%s"):format(style.dim(("%-6s"):format(label)), indent,
            (text:gsub("\n", "\n             ")))
    end
    if result.cause then add("cause", result.cause) end
    if result.key then add("key", result.key) end
    for i, remedy in ipairs(result.remedy or {}) do add(i == 1 and "do" or "", remedy) end
    return lines
end

local function summary(results, count, seconds)
    local parts = { ("%d of %d passed"):format(count.PASS, #results) }
    if count.WARN > 0 then parts[#parts + 1] = cli.plural(count.WARN, "warning") end
    if count.FAIL > count.blocked then parts[#parts + 1] = ("%d failed"):format(count.FAIL - count.blocked) end
    if count.blocked > 0 then parts[#parts + 1] = ("%d not checked because of that"):format(count.blocked) end
    return ("%s, in %s"):format(table.concat(parts, ", "), cli.duration(seconds))
end

---@param results dbrun.verify.Result[]
---@param run { strict: boolean, seconds: number }
---@param style? table of cli.style; nil = no colours
---@return string
function M.text(results, run, style)
    style = style or PLAIN
    local rows = {}
    for i, result in ipairs(results) do
        local colour = result.blocked_by and "dim" or COLOURS[result.status]
        rows[i] = {
            style[colour](result.status),
            result.name,
            cli.duration(result.seconds),
            result.blocked_by and style.dim(result.text) or result.text,
        }
    end
    local lines = {}
    for i, line in ipairs(cli.table(rows, { right = { [3] = true } })) do
        lines[#lines + 1] = line
        if results[i].status ~= "PASS" then table.move(below(results[i], style), 1, 9, #lines + 1, lines) end
    end
    local count = require("dbrun.verify.runner").count(results)
    lines[#lines + 1] = ""
    lines[#lines + 1] = style.bold(summary(results, count, run.seconds)) .. (run.strict and " (strict)" or "")
    return table.concat(lines, "\n") .. "\n"
end

---@param results dbrun.verify.Result[]
---@param run { strict: boolean, seconds: number }
---@return string
function M.json(results, run)
    local json = require "dbrun.json"
    local count = require("dbrun.verify.runner").count(results)
    local checks = {}
    for i, result in ipairs(results) do
        checks[i] = {
            name = result.name, status = result.status, seconds = result.seconds, text = result.text,
            cause = result.cause, layer = result.layer, key = result.key, blocked_by = result.blocked_by,
            remedy = json.array(result.remedy or {}), facts = result.facts,
        }
    end
    return json.encode({
        ok = count.FAIL == 0, strict = run.strict, seconds = run.seconds, passed = count.PASS, warned = count.WARN,
        failed = count.FAIL, checks = json.array(checks),
    }, { indent = 2, sort_keys = true }) .. "\n"
end

---The formats, by the name that --format takes.
---@type table<string, fun(results: dbrun.verify.Result[], run: table, style?: table): string>
M.formats = { text = M.text, json = M.json }

return M
