--- Selects files and findings: files that changed since a revision, findings that are not known yet.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local tty = require "dbrun.tty"

local M = {}

---The repository is that of the folder. In a git hook the environment names a repository without its work tree, so
---every file of the folder would seem new.
local HOOK <const> = { GIT_DIR = false, GIT_INDEX_FILE = false, GIT_PREFIX = false }

---Runs git in a folder.
local function run(dir, ...)
    local ok, result = pcall(process.run, {
        "git", "-C", dir, "--no-pager", env = not os.getenv "GIT_WORK_TREE" and HOOK or nil, ...,
    })
    if ok then return result end
    errors.fail("config", "git cannot be run: " .. (errors.is(result) and result.message or tostring(result)),
        "--since needs git")
end

---Runs git in a folder; raises unless it succeeds.
local function git(dir, hint, ...)
    local result = run(dir, ...)
    if not result.ok then
        local why = (result.stderr or ""):match "^[^\n]*" or ""
        errors.fail("config", ("git in '%s': %s"):format(dir, why), hint)
    end
    return result.stdout
end

---The files of a folder that differ from the point where this branch diverged from a revision, including untracked
---ones.
local function changed_in(dir, revision, set)
    if revision:find "^%-" then errors.fail("usage", ("'%s' is not a revision"):format(revision)) end
    local hint <const> = "--since takes a revision of the repository that the migrations are in"
    git(dir, hint, "rev-parse", "--git-dir")
    local commit = run(dir, "rev-parse", "--verify", "--quiet", revision .. "^{commit}")
    if not commit.ok then
        errors.fail("config", ("the repository of '%s' has no revision '%s'"):format(dir, revision),
            "a shallow clone has few: fetch the branch first")
    end
    local base = run(dir, "merge-base", (commit.stdout:match "%x+"), "HEAD")
    local from = base.ok and base.stdout:match "%x+" or commit.stdout:match "%x+"
    local names = git(dir, hint, "diff", "--name-only", "--relative", "--no-renames", "-z", "--diff-filter=d", from,
        "--", ".") .. git(dir, hint, "ls-files", "--others", "--exclude-standard", "-z", "--", ".")
    for name in names:gmatch "[^%z]+" do set[fs.join(fs.realpath(dir), name)] = true end
end

---@param revision string
---@param list dbrun.migrate.File[]
---@return fun(file: dbrun.migrate.File): boolean changed
function M.changed_since(revision, list)
    local set, done = {}, {}
    for _, file in ipairs(list) do
        local dir = fs.dirname(file.path)
        if not done[dir] then
            done[dir] = true
            changed_in(dir, revision, set)
        end
    end
    return function(file)
        return set[fs.join(fs.realpath(fs.dirname(file.path)), fs.basename(file.path))] == true
    end
end

---Names as `--format json` writes them, where bytes that are not UTF-8 are escaped.
local function key_of(finding)
    local parts = {
        tty.printable(fs.basename(finding.path)), finding.rule, tty.printable(finding.table or ""),
        finding.direction or "up",
    }
    return table.concat(parts, "\0")
end

---The findings in a file that `--format json` wrote, and the count of each.
---@param path string
---@return table<string, integer>
function M.baseline(path)
    local hint <const> = "write it with: dbrun migrate lint --format json > FILE"
    if not fs.exists(path) then errors.fail("config", ("there is no baseline '%s'"):format(path), hint) end
    local ok, value = pcall(json.decode, fs.read(path))
    local list = ok and type(value) == "table" and value.findings
    if type(list) ~= "table" then
        errors.fail("config", ("'%s' is not a report of lint"):format(path), hint)
    end
    local known = {}
    for _, finding in ipairs(list) do
        if type(finding) ~= "table" or type(finding.path) ~= "string" or type(finding.rule) ~= "string" then
            errors.fail("config", ("'%s' is not a report of lint"):format(path), hint)
        end
        known[key_of(finding)] = math.tointeger(finding.count) or 1
    end
    return known
end

---The findings that the baseline does not have, or has with a lower count.
---@param findings dbrun.migrate.LintFinding[]
---@param baseline table<string, integer>
---@return dbrun.migrate.LintFinding[]
function M.without(findings, baseline)
    local left = {}
    for _, finding in ipairs(findings) do
        if finding.count > (baseline[key_of(finding)] or 0) then left[#left + 1] = finding end
    end
    return left
end

return M
