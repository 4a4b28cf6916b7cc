--- The project's folder: the nearest one from the current folder upwards with `.dbrun`, `.env` or `scripts/migrations`.
--- The project's files (`.env`, the stack, scripts/, migrations, seeds, hooks, expectations) are looked for there;
--- paths on the command line are relative to the current folder, which does not change.
---
--- A parent folder is used only if this user owns it and not everybody can write to it. The current folder is used even
--- if another user owns it, because the user went there; but if everybody can write to it, as in /tmp, files of other
--- users are refused.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

local REASONS <const> = { others = "another user owns it", all = "all may write there" }

-- Determined once: a script that changes its folder stays in its project.
local above <const>, passed <const>, reason <const> = core.fs.project()

---The project's folder when it is above the folder that dbrun was started in.
---@return string? folder absolute; nil: the current folder
function M.above()
    return above
end

---The nearest parent folder that has a project and must not be used.
---@return string? folder
---@return string? why "another user owns it"
function M.passed()
    return passed, REASONS[reason]
end

---The project's folder.
---@return string folder absolute
function M.folder()
    return above or core.fs.cwd()
end

---Refuses a file of another user in the current folder, if everybody can write to the folder.
---@param name string of the entry in the current folder
local function refuse_stranger(name)
    local uid <const> = core.fs.stranger(name)
    if not uid then return end
    local user <const> = require "dbrun.process".user(uid)
    errors.fail("config", ("%s belongs to user %s, in a folder that all may write ('%s')"):format(name,
        user and user.name or uid, core.fs.cwd()),
        "it may be a trap: work in a folder of your own, or go on without it (--no-env for a .env)")
end

---The path of a file of the project. A name below the current folder stays as it is, also in messages.
---@param name string relative to the project, or absolute
---@return string path
---Raises an error of kind `config` if another user owns the file, in a folder that everybody can write to.
function M.path(name)
    if name:sub(1, 1) == "/" then return name end
    if above then return above .. "/" .. name:gsub("^%./+", "") end
    local entry <const> = name:gsub("^%./+", ""):match "^[^/]+"
    if entry and entry ~= ".." then refuse_stranger(entry) end
    return name
end

return M
