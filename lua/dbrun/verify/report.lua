--- The results of a verification as text for people, as JSON for programs, and as JUnit and TAP for test tools.
local cli = require "dbrun.command_line"
local tty = require "dbrun.tty"

local M = {}

local PLAIN <const> = setmetatable({}, { __index = function() return function(text) return text end end })
local COLOURS <const> = { PASS = "green", WARN = "yellow", FAIL = "red", SKIP = "dim" }

--- The results with printable texts, because parts of them come from servers, files and the environment.
local function printable(results)
    local list = {}
    for i, result in ipairs(results) do
        local copy = setmetatable({}, { __index = result })
        for _, field in ipairs { "name", "text", "cause", "key" } do
            copy[field] = result[field] and tty.printable(result[field])
        end
        if result.remedy then
            copy.remedy = {}
            for j, remedy in ipairs(result.remedy) do copy.remedy[j] = tty.printable(remedy) end
        end
        list[i] = copy
    end
    return list
end

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

---The lines below the headline of a result, without layout.
local function details(result)
    local lines = { result.cause }
    if result.key then lines[#lines + 1] = "key: " .. result.key end
    for _, remedy in ipairs(result.remedy or {}) do lines[#lines + 1] = "do: " .. remedy end
    return table.concat(lines, "\n")
end

local function summary(results, count, seconds)
    local parts = { ("%d of %d passed"):format(count.PASS, #results) }
    if count.WARN > 0 then parts[#parts + 1] = cli.plural(count.WARN, "warning") end
    if count.FAIL > 0 then parts[#parts + 1] = ("%d failed"):format(count.FAIL) end
    if count.blocked > 0 then parts[#parts + 1] = ("%d blocked by a failure"):format(count.blocked) end
    if count.SKIP > 0 then parts[#parts + 1] = ("%d skipped"):format(count.SKIP) end
    return ("%s, in %s"):format(table.concat(parts, ", "), cli.duration(seconds))
end

---A headline must not look like several results.
local function one_line(text)
    -- A plain search, which is faster than a pattern.
    if not (text:find("\n", 1, true) or text:find("\t", 1, true)) then return text end
    return (text:gsub("%c+", " "))
end

---@param results dbrun.verify.Result[]
---@param run { strict: boolean, seconds: number }
---@param style? table of cli.style; nil = no colours
---@return string
function M.text(results, run, style)
    style = style or PLAIN
    results = printable(results)
    local rows = {}
    for i, result in ipairs(results) do
        local colour = result.blocked_by and "dim" or COLOURS[result.status]
        rows[i] = {
            style[colour](result.status),
            one_line(result.name),
            cli.duration(result.seconds),
            result.blocked_by and style.dim(result.text) or one_line(result.text),
        }
        -- A server's text with line ends must not look like more results.
        rows[i][2], rows[i][4] = cli.one_line(rows[i][2]), rows[i][4]:gsub("\n", "\n      ")
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

---Texts as JSON can hold them: where one is not UTF-8, as in a database of another encoding, its bytes are escaped.
local function utf8_only(value)
    if type(value) == "string" then return utf8.len(value) and value or tty.printable(value) end
    if type(value) ~= "table" then return value end
    local copy = setmetatable({}, getmetatable(value))
    for key, inner in pairs(value) do copy[utf8_only(key)] = utf8_only(inner) end
    return copy
end

---@param results dbrun.verify.Result[]
---@param run { strict: boolean, seconds: number, status?: integer }
---@return string
function M.json(results, run)
    local json = require "dbrun.json"
    local count = require("dbrun.verify.runner").count(results)
    local checks = {}
    for i, result in ipairs(results) do
        checks[i] = {
            name = result.name, status = result.status, seconds = result.seconds, text = result.text,
            cause = result.cause, layer = result.layer, key = result.key, blocked_by = result.blocked_by,
            remedy = json.array(utf8_only(result.remedy or {})), facts = utf8_only(result.facts),
        }
        for _, key in ipairs { "name", "text", "cause", "key", "blocked_by" } do
            checks[i][key] = utf8_only(checks[i][key])
        end
    end
    return cli.json({
        ok = count.FAIL == 0 and (run.status or 0) == 0, strict = run.strict, seconds = run.seconds,
        passed = count.PASS, warned = count.WARN,
        failed = count.FAIL, blocked = count.blocked, skipped = count.SKIP, checks = json.array(checks),
    }, { indent = 2, sort_keys = true }) .. "\n"
end

-- ---- JUnit ----

local ENTITIES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["\n"] = "&#10;" }

---Text for an attribute or an element; what XML cannot contain becomes a question mark.
local function xml(text)
    text = utf8.len(text) and text or text:gsub("[\x80-\xff]", "?")
    text = text:gsub("[%z\1-\8\11-\31\127]", "?"):gsub("\xef\xbf[\xbe\xbf]", "?")
    return (text:gsub('[&<>"\n]', ENTITIES))
end

---The content of a test case.
local function outcome(result)
    local text, more = xml(result.text), xml(details(result))
    if result.status == "SKIP" then return ('<skipped message="%s"/>'):format(text) end
    if result.status == "FAIL" then
        return ('<failure message="%s" type="%s">%s</failure>'):format(text, xml(result.layer or "check"), more)
    end
    local status = result.status == "WARN" and "WARN: " or ""
    return ("<system-out>%s%s%s</system-out>"):format(status, text, more == "" and "" or "&#10;" .. more)
end

---One suite for each word before the dot, as in JUnit's schema. A warning passes, with its text as output.
---@param results dbrun.verify.Result[]
---@param run { seconds: number }
---@return string
function M.junit(results, run)
    results = printable(results)
    local count = require("dbrun.verify.runner").count(results)
    local failed, skipped = count.FAIL, count.SKIP + count.blocked
    local lines = {
        '<?xml version="1.0" encoding="UTF-8"?>',
        ('<testsuites name="dbrun verify" tests="%d" failures="%d" errors="0" time="%.3f">'):format(#results, failed,
            run.seconds),
        ('  <testsuite name="dbrun verify" tests="%d" failures="%d" errors="0" skipped="%d" time="%.3f" '
            .. 'timestamp="%s">')
            :format(#results, failed, skipped, run.seconds, os.date "!%Y-%m-%dT%H:%M:%S"),
    }
    for _, result in ipairs(results) do
        lines[#lines + 1] = ('    <testcase classname="verify.%s" name="%s" time="%.6f">%s</testcase>'):format(
            xml(result.name:match "^[^.]+"), xml(result.name), result.seconds, outcome(result))
    end
    lines[#lines + 1] = "  </testsuite>\n</testsuites>\n"
    return table.concat(lines, "\n")
end

-- ---- TAP ----

---A text on one line, escaped so that TAP sees no directive in it.
local function tap_line(text) return (text:gsub("%c+", " "):gsub("#", "\\#")) end

---TAP version 13. A warning is ok, with a comment.
---@param results dbrun.verify.Result[]
---@return string
function M.tap(results)
    results = printable(results)
    local lines = { "TAP version 13", ("1..%d"):format(#results) }
    for i, result in ipairs(results) do
        local skipped = result.status == "SKIP"
        lines[#lines + 1] = ("%s %d - %s%s"):format(result.status == "FAIL" and "not ok" or "ok", i,
            tap_line(result.name), skipped and " # SKIP " .. tap_line(result.text) or ": " .. tap_line(result.text))
        if result.status == "WARN" then lines[#lines + 1] = "# WARN" end
        if result.status == "WARN" or result.status == "FAIL" then
            for line in details(result):gmatch "[^\n]+" do lines[#lines + 1] = "#   " .. tap_line(line) end
        end
    end
    return table.concat(lines, "\n") .. "\n"
end

---The names that --format takes.
M.names = { "text", "json", "junit", "tap", "nagios", "prometheus", "github" }

---The formats, by the name that --format takes.
---@type table<string, fun(results: dbrun.verify.Result[], run: table, style?: table): string>
M.formats = setmetatable({ text = M.text, json = M.json, junit = M.junit, tap = M.tap }, { __index = function(_, name)
    return require("dbrun.verify.monitors")[name]
end })

return M
