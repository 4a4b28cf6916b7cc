--- Files that a child would have written if it had run. Scripts rename such a file when it is complete: in a dry run
--- this is listed and not done, because the file does not exist, or is an old one.
local core <const> = require "dbrun.core"

local M = {}

---@type table<string, boolean>
local unmade <const> = {}

local function absolute(path)
    path = path:gsub("^%./+", "")
    return path:sub(1, 1) == "/" and path or core.fs.cwd() .. "/" .. path
end

---@param path? string the output of a child
function M.add(path)
    if path then
        unmade[absolute(path)] = true
    end
end

local function is_unmade(path)
    return type(path) == "string" and unmade[absolute(path)] == true
end

---Replaces fs.rename and os.rename.
---@param note fun(from: string, to: string) lists what is not done
function M.install(note)
    local rename <const>, os_rename <const> = core.fs.rename, os.rename
    local function told(from, to)
        note(from, to)
        M.add(to)
    end
    core.fs.rename = function(from, to)
        if not is_unmade(from) then
            return rename(from, to)
        end
        told(from, to)
    end
    rawset(os, "rename", function(from, to, ...)
        if not is_unmade(from) or type(to) ~= "string" then
            return os_rename(from, to, ...)
        end
        told(from, to)
        return true
    end)
end

return M
