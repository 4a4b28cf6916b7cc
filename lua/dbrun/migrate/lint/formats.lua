--- Findings as text: for people, for programs (JSON, SARIF), and for the pages of GitHub.
local cli = require "dbrun.command_line"
local json = require "dbrun.json"
local rules = require "dbrun.migrate.lint.rules"
local tty = require "dbrun.tty"

local M = {}

local function counted(findings)
    local counts = { error = 0, warning = 0, note = 0 }
    for _, finding in ipairs(findings) do counts[finding.severity] = counts[finding.severity] + 1 end
    return counts
end

local SHOWN_LINES <const> = 8

---"3 times: lines 4, 7 and 9", nil for one.
local function times(finding)
    if finding.count == 1 then return end
    local shown = table.move(finding.lines, 1, math.min(#finding.lines, SHOWN_LINES), 1, {})
    return ("%d times, %s %s%s"):format(finding.count, #finding.lines > 1 and "lines" or "line",
        table.concat(shown, ", "), #finding.lines > SHOWN_LINES and " ..." or "")
end

local function message(finding)
    local more = times(finding)
    return finding.message .. (more and (" (%s)"):format(more) or "")
end

---A text on one line: a newline in the name of a file or a table could forge a line of output, such as a workflow's
---"::error::".
local function one_line(value)
    return (value:gsub("\n", "\\n"))
end

local function text(findings, looked)
    local out, explained = {}, {}
    for _, f in ipairs(findings) do
        local more = times(f)
        out[#out + 1] = ("%s:%d: %s [%s] %s%s"):format(one_line(f.path), f.line, one_line(f.message), f.rule,
            f.severity, more and ", " .. more or "")
        local key = f.rule .. "\0" .. f.safe
        if not explained[key] then
            explained[key] = true
            out[#out + 1] = "  why:  " .. f.why
            out[#out + 1] = "  safe: " .. f.safe
        end
    end
    if #findings == 0 then
        out[1] = ("%s looked at, nothing found."):format(cli.plural(looked, "file"))
    else
        local counts = counted(findings)
        out[#out + 1] = ("\n%s (%s, %s, %s) in %s. A comment '-- lint: allow RULE' in front of a statement switches a "
            .. "rule off for it."):format(cli.plural(#findings, "finding"), cli.plural(counts.error, "error"),
            cli.plural(counts.warning, "warning"), cli.plural(counts.note, "note"), cli.plural(looked, "file"))
    end
    return table.concat(out, "\n")
end

local function as_json(findings, looked)
    for _, finding in ipairs(findings) do finding.bytes = nil end
    return json.encode({ files = looked, counts = counted(findings), findings = json.array(findings) }, { indent = 2 })
end

---The values of a workflow command: '%', newlines, and in properties ':' and ',' are escaped.
local function escape(value, is_property)
    value = value:gsub("%%", "%%25"):gsub("\r", "%%0D"):gsub("\n", "%%0A")
    if is_property then value = value:gsub(":", "%%3A"):gsub(",", "%%2C") end
    return value
end

---A path for scanners and annotations: relative to the folder that lint runs in.
local function relative(path)
    return (path:gsub("^%./+", ""))
end

local GITHUB <const> = { error = "error", warning = "warning", note = "notice" }

local function github(findings)
    local out = {}
    for i, f in ipairs(findings) do
        out[i] = ("::%s file=%s,line=%d,title=%s::%s"):format(GITHUB[f.severity], escape(relative(f.path), true),
            f.line, escape(f.rule, true), escape(("%s. Why: %s. Safe: %s."):format(message(f), f.why, f.safe)))
    end
    return table.concat(out, "\n")
end

---A path as a reference of a URI: relative paths stay relative.
local function uri(path)
    local encoded = path:gsub("[^%w%-%._~/]", function(c) return ("%%%02X"):format(c:byte()) end)
    return path:find "^/" and "file://" .. encoded or encoded
end

local function sarif(findings)
    local described, index, results = {}, {}, {}
    for i, rule in ipairs(rules) do
        index[rule.name] = i - 1
        described[i] = {
            id = rule.name, shortDescription = { text = rule.why }, help = { text = rule.safe },
            defaultConfiguration = { level = rule.severity },
        }
    end
    for i, f in ipairs(findings) do
        results[i] = {
            ruleId = f.rule, ruleIndex = index[f.rule], level = f.severity, message = { text = message(f) },
            locations = json.array { { physicalLocation = {
                artifactLocation = { uri = uri(relative(f.bytes)) }, region = { startLine = f.line },
            } } },
        }
    end
    return json.encode({
        ["$schema"] = "https://json.schemastore.org/sarif-2.1.0.json", version = "2.1.0",
        runs = json.array { {
            tool = { driver = {
                name = "dbrun migrate lint", rules = json.array(described),
            } },
            results = json.array(results),
        } },
    }, { indent = 2 })
end

local FORMATS <const> = { text = text, json = as_json, github = github, sarif = sarif }

---@type string[]
M.NAMES = { "text", "json", "github", "sarif" }

---@param name string
---@param findings dbrun.migrate.LintFinding[]
---@param looked integer files
---@return string
function M.write(name, findings, looked)
    -- Paths and names in a file can contain any bytes: terminals get no control characters, JSON only UTF-8.
    local printable = {}
    for i, finding in ipairs(findings) do
        local copy = {}
        for key, value in pairs(finding) do
            copy[key] = type(value) == "string" and tty.printable(value) or value
        end
        copy.lines, copy.bytes = json.array(copy.lines), finding.path
        printable[i] = copy
    end
    return FORMATS[name](printable, looked)
end

return M
