--- Names of files for completion.
local fs <const> = require "dbrun.fs"

local M = {}

---Adds the files and folders (with `/` at their end) that begin with the text. Names that a terminal cannot show are
---left out, hidden ones too unless their dot was typed.
---@param text string as it was typed, perhaps with a folder
---@param out string[]
---@param prefix? string put before each
function M.add(text, out, prefix)
    local folder <const>, start <const> = text:match "^(.*/)([^/]*)$", text:match "[^/]*$"
    local path = folder or "."
    local home <const> = os.getenv "HOME"
    if path:sub(1, 2) == "~/" and home then path = home .. path:sub(2) end
    local ok <const>, names <const> = pcall(fs.list, path)
    if not ok then return end -- no such folder, or not readable: nothing to offer
    for _, name in ipairs(names) do
        local hidden <const> = name:sub(1, 1) == "." and start:sub(1, 1) ~= "."
        if not hidden and name:sub(1, #start) == start and utf8.len(name) and not name:find "%c" then
            local seen <const>, stat <const> = pcall(fs.stat, fs.join(path, name))
            local is_folder <const> = seen and stat and stat.kind == "folder"
            out[#out + 1] = (prefix or "") .. (folder or "") .. name .. (is_folder and "/" or "")
        end
    end
end

return M
