--- Lint: statements of migrations that are dangerous on a database in use, found in the parse tree.
---
--- A rule checks one statement. `-- lint: allow RULE` between the previous statement and the end of this one, or of its
--- last line, switches a rule off for it. Most rules ignore tables made in the same file, which are empty and not in
--- use. Earlier files show what the tables were.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local fs = require "dbrun.fs"
local model = require "dbrun.migrate.lint.model"
local rules = require "dbrun.migrate.lint.rules"
local section = require "dbrun.migrate.lint.section"

local M = {}

---@type dbrun.migrate.Rule[]
M.RULES = rules

---@class dbrun.migrate.LintFinding of one rule about one table of a file
---@field path string
---@field line integer of the first
---@field direction "up"|"down"
---@field rule string
---@field severity "error"|"warning"|"note"
---@field table? string
---@field message string of the first
---@field count integer
---@field lines integer[]
---@field why string
---@field safe string what to do instead

local by_name = {}
for _, rule in ipairs(rules) do by_name[rule.name] = rule end

---One finding for each rule and table, in the order of their first lines.
local function grouped(path, raw)
    local list, by_key = {}, {}
    for i, one in ipairs(raw) do one.number = i end
    table.sort(raw, function(a, b)
        if a.line ~= b.line then return a.line < b.line end
        return a.number < b.number
    end)
    for _, one in ipairs(raw) do
        local key = table.concat({ one.direction, one.rule.name, one.table or "" }, "\0")
        local finding = by_key[key]
        if not finding then
            finding = {
                path = path, line = one.line, direction = one.direction, rule = one.rule.name,
                severity = one.rule.severity, table = one.table, message = one.message, count = 0, lines = {},
                why = one.rule.why, safe = one.safe or one.rule.safe,
            }
            by_key[key], list[#list + 1] = finding, finding
        end
        finding.count = finding.count + 1
        if finding.lines[#finding.lines] ~= one.line then finding.lines[#finding.lines + 1] = one.line end
    end
    return list
end

---The sections of a file; a file with a wrong format is a finding.
local function read(file, raw)
    local ok, parsed = pcall(files.read, file)
    if ok then return parsed end
    if not errors.is(parsed) or parsed.kind == "io" then error(parsed, 0) end
    raw[#raw + 1] = {
        rule = by_name.unreadable, line = parsed.line or 1, direction = "up",
        message = (parsed.message:gsub("^" .. file.path:gsub("%p", "%%%0") .. ":?%d*:?%s*", "")),
    }
end

local function check_file(out, file, known, opts)
    local raw = {}
    local parsed = read(file, raw)
    if parsed and file.kind == "sql" then
        local ups = section.check(raw, parsed.up, "up", known, opts)
        local downs = section.check(opts.down and raw or nil, parsed.down, "down",
            opts.down and model.copy(known) or model.new(), opts)
        local rule = by_name["missing-down"]
        -- Each section by itself, so that an unterminated string in one does not swallow the other.
        local allowed = section.allowed(parsed.down.sql, section.allowed(parsed.up.sql))
        if ups > 0 and downs == 0 and not allowed[rule.name] then
            raw[#raw + 1] = {
                rule = rule, line = parsed.down.line, direction = "down", message = "the down section is empty",
            }
        end
    end
    for _, finding in ipairs(grouped(file.path, raw)) do out[#out + 1] = finding end
end

---A file that is not checked: the model learns what it makes, and its errors are ignored.
local function learn_file(file, known)
    if file.kind ~= "sql" then return end
    local ok, parsed = pcall(files.read, file)
    if ok then section.check(nil, parsed.up, "up", known, {}) end
end

---The files that were named, and those beside them, in order.
local function with_siblings(paths)
    local list, asked = {}, {}
    local seen, dirs = {}, {}
    local function add(file, path)
        if seen[path] then return end
        seen[path] = true
        list[#list + 1] = file
    end
    for _, path in ipairs(paths) do
        local name = fs.basename(path)
        local file = {
            path = path, name = name, version = name:match "^%d+" or "", kind = name:match "%.lua$" and "lua" or "sql",
        }
        asked[file] = true
        add(file, fs.exists(path) and fs.realpath(path) or path)
        dirs[fs.dirname(path)] = true
    end
    for dir in pairs(dirs) do
        local ok, found = pcall(files.list, { dir })
        for _, file in ipairs(ok and found or {}) do add(file, fs.realpath(file.path)) end
    end
    table.sort(list, function(a, b)
        if a.name ~= b.name then return a.name < b.name end
        return a.path < b.path
    end)
    return list, asked
end

---@param dirs string[]
---@param opts { files?: string[], from?: string, down?: boolean, style?: boolean, baseline?: string, since?: string }
---@param pending? fun(file: dbrun.migrate.File): boolean
---@return dbrun.migrate.LintFinding[]
---@return integer looked number of files checked
---Raises an error of kind `config` when the parser is not installed.
function M.run(dirs, opts, pending)
    local available, why = core.sql.available()
    if not available then
        errors.fail("config", why, "apt-get install libpg-query-dev")
    end
    local choose = require "dbrun.migrate.lint.choose"
    local list, asked
    if opts.files and #opts.files > 0 then list, asked = with_siblings(opts.files)
    else list = files.some(dirs) end
    local baseline = opts.baseline and choose.baseline(opts.baseline)
    local changed = opts.since and choose.changed_since(opts.since, list)
    local out, looked, on, known = {}, 0, not opts.from, model.new()
    for _, file in ipairs(list) do
        on = on or file.version == opts.from
        if on and (not asked or asked[file]) and (not changed or changed(file)) and (not pending or pending(file)) then
            check_file(out, file, known, opts)
            looked = looked + 1
        else
            learn_file(file, known)
        end
    end
    if not on then
        errors.fail("usage", ("no migration has the version '%s'"):format(opts.from))
    end
    return baseline and choose.without(out, baseline) or out, looked
end

return M
