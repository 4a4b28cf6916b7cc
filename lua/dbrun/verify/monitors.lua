--- The results of a verification for monitoring: a plugin for Nagios and compatible systems, a file for the textfile
--- collector of Prometheus, annotations of GitHub workflows.
local runner = require "dbrun.verify.runner"
local tty = require "dbrun.tty"

local M = {}

---The name of a check with the first line of what was found.
local function told(result)
    local text = tty.printable(("%s: %s"):format(result.name, result.text))
    return (text:gsub("[%c]+", " "))
end

---The values that were compared with limits, sorted by name.
---@param run dbrun.verify.Run
---@return string[]
local function measured(run)
    local names = {}
    for name in pairs(run.measured or {}) do names[#names + 1] = name end
    table.sort(names)
    return names
end

-- ---- Nagios ----

---The worst status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (a wrong configuration, or nothing was checked).
---@param results dbrun.verify.Result[]
---@param run dbrun.verify.Run
---@return integer
function M.nagios_status(results, run)
    local count = runner.count(results)
    if run.status == 2 or count.PASS + count.WARN + count.FAIL == 0 then return 3 end
    if run.status ~= 0 or count.FAIL > 0 then return 2 end
    return count.WARN > 0 and 1 or 0
end

local WORDS <const> = { [0] = "OK", "WARNING", "CRITICAL", "UNKNOWN" }

---A number without the exponent, which plugins may not print.
local function plain(value)
    if not value then return "" end
    if value ~= value or value == math.huge or value == -math.huge then return "U" end
    if math.tointeger(value) then return ("%d"):format(value) end
    return (("%.6f"):format(value):gsub("0+$", ""):gsub("%.$", ""))
end

---The output of a plugin: the status in one line, a line for each finding, performance data after a bar.
---@param results dbrun.verify.Result[]
---@param run dbrun.verify.Run
---@return string
function M.nagios(results, run)
    local count, heads, lines = runner.count(results), {}, {}
    for _, wanted in ipairs { "FAIL", "WARN" } do
        for _, result in ipairs(results) do
            if result.status == wanted then
                local line = told(result):gsub("|", "/")
                heads[#heads + 1] = line
                lines[#lines + 1] = ("%s %s"):format(wanted, line)
                local cause = tty.printable(result.cause or ""):gsub("|", "/")
                for text in cause:gmatch "[^\n]+" do lines[#lines + 1] = "  " .. text end
            end
        end
    end
    local data = { ("time=%ss;;;0"):format(plain(run.seconds)) }
    for _, pair in ipairs { { "passed", "PASS" }, { "warned", "WARN" }, { "failed", "FAIL" },
        { "blocked", "blocked" }, { "skipped", "SKIP" } } do
        data[#data + 1] = ("%s=%d;;;0"):format(pair[1], count[pair[2]])
    end
    for _, name in ipairs(measured(run)) do
        local m = run.measured[name]
        local range = m.below and "%s:" or "%s" -- "30:" warns below 30
        data[#data + 1] = ("'%s'=%s;%s;%s"):format(name, plain(m.value), m.warn and range:format(plain(m.warn)) or "",
            m.fail and range:format(plain(m.fail)) or "")
    end
    local head = ("DBRUN %s - %d passed, %d warned, %d failed, %d blocked"):format(WORDS[M.nagios_status(results, run)],
        count.PASS, count.WARN, count.FAIL, count.blocked)
    if #heads > 0 then head = head .. ": " .. table.concat(heads, "; ", 1, math.min(#heads, 3)) end
    lines = { ("%s | %s"):format(head, table.concat(data, " ")), table.unpack(lines) }
    return table.concat(lines, "\n") .. "\n"
end

-- ---- Prometheus ----

local CODES <const> = { PASS = 0, WARN = 1, FAIL = 2, SKIP = -1 }

local function label(text) return (tty.printable(text):gsub('[\\"]', "\\%0"):gsub("\n", "\\n")) end

---The exposition format in text. Written to a file of the collector's folder, the name ends in `.prom`.
---@param results dbrun.verify.Result[]
---@param run dbrun.verify.Run
---@return string
function M.prometheus(results, run)
    local count, lines = runner.count(results), {}
    local function metric(name, help)
        name = "dbrun_verify_" .. name
        lines[#lines + 1] = ("# HELP %s %s\n# TYPE %s gauge"):format(name, help, name)
        return function(labels, format, value)
            lines[#lines + 1] = ("%s%s " .. format):format(name, labels, value)
        end
    end
    metric("ok", "1 when no check failed.")("", "%d", run.status == 0 and 1 or 0)
    metric("last_run_timestamp_seconds", "When the checks ended.")("", "%d", os.time())
    metric("duration_seconds", "How long they took together.")("", "%.6f", run.seconds)
    local add = metric("checks", "The checks by their outcome.")
    for _, pair in ipairs { { "passed", "PASS" }, { "warned", "WARN" }, { "failed", "FAIL" },
        { "blocked", "blocked" }, { "skipped", "SKIP" } } do
        add(('{outcome="%s"}'):format(pair[1]), "%d", count[pair[2]])
    end
    add = metric("check_status", "0 passed, 1 warned, 2 failed, -1 skipped or blocked by another one's failure.")
    for _, result in ipairs(results) do add(('{check="%s"}'):format(label(result.name)), "%d", CODES[result.status]) end
    if run.measured and next(run.measured) then
        add = metric("value", "What was compared with the limit of that name.")
        for _, name in ipairs(measured(run)) do
            add(('{limit="%s"}'):format(name), "%.17g", run.measured[name].value)
        end
    end
    return table.concat(lines, "\n") .. "\n"
end

-- ---- GitHub ----

---Escapes the text of a workflow command, which ends with its line.
local function data(text) return (text:gsub("%%", "%%25"):gsub("\r", "%%0D"):gsub("\n", "%%0A")) end

local function property(text) return (data(text):gsub(":", "%%3A"):gsub(",", "%%2C")) end

local LEVELS <const> = { FAIL = "error", WARN = "warning" }

---Annotations of GitHub's workflows: an error or a warning for each finding, and a notice with the counts.
---@param results dbrun.verify.Result[]
---@param run dbrun.verify.Run
---@return string
function M.github(results, run)
    local lines, count = {}, runner.count(results)
    for _, result in ipairs(results) do
        local level = LEVELS[result.status]
        if level then
            local parts = { result.text, result.cause, result.key and "key: " .. result.key }
            local list = {}
            for i = 1, 3 do list[#list + 1] = parts[i] end
            for _, remedy in ipairs(result.remedy or {}) do list[#list + 1] = "do: " .. remedy end
            lines[#lines + 1] = ("::%s title=%s::%s"):format(level, property("dbrun verify: " .. result.name),
                data(tty.printable(table.concat(list, "\n"))))
        end
    end
    lines[#lines + 1] = ("::notice title=dbrun verify::%d passed, %d warned, %d failed, %d blocked, %d skipped"):format(
        count.PASS, count.WARN, count.FAIL, count.blocked, count.SKIP)
    return table.concat(lines, "\n") .. (run.strict and " (strict)" or "") .. "\n"
end

return M
