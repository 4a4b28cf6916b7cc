--- Finds the texts of the manual: the chapters (`lua/manual/*.md`) and the annotations of the modules. They are in the
--- binary; with DBRUN_LUA_DIR, and in a stock lua5.4, they are read from the folder of the modules.
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"

local M = {}

---The folder of the modules and the one of the chapters, when the texts are not in the binary.
---@return string? modules, string? chapters
local function folders()
    local own = os.getenv "DBRUN_LUA_DIR"
    if own == "" then own = nil end
    if not own and core.text then return nil end
    if not own then
        local file <const> = package.searchpath("dbrun.manual.texts", package.path)
        own = file and fs.dirname(fs.dirname(fs.dirname(file)))
    end
    if not own then return nil end
    local installed <const> = own .. "/dbrun/manual/chapters" -- as a rock
    return own, fs.exists(installed) and installed or own .. "/manual"
end

---@param name string "manual/postgres.md", "dbrun/task.lua"
---@return string? text nil: there is none of that name
function M.read(name)
    local modules <const>, chapters <const> = folders()
    if not modules then return core.embedded and core.embedded(name) or nil end
    local chapter <const> = name:match "^manual/(.*)$"
    local path <const> = chapter and chapters .. "/" .. chapter or modules .. "/" .. name
    return fs.exists(path) and fs.read(path) or nil
end

---The names of the chapters, sorted.
---@return string[]
function M.chapters()
    local list <const> = {}
    local _ <const>, folder <const> = folders()
    local names = {}
    if folder then
        names = fs.exists(folder) and fs.list(folder) or {}
    elseif core.embedded then
        for _, name in ipairs(core.embedded()) do names[#names + 1] = name:match "^manual/(.*)$" end
    end
    for _, name in ipairs(names) do list[#list + 1] = name:match "^(.+)%.md$" end
    table.sort(list)
    return list
end

local function add_modules(list, root, path)
    for _, name in ipairs(fs.list(root .. "/" .. path)) do
        local file <const> = path .. "/" .. name
        if name:find "%.lua$" then
            list[#list + 1] = file
        elseif fs.stat(root .. "/" .. file).kind == "folder" then
            add_modules(list, root, file)
        end
    end
end

---The names of the files with annotations, sorted.
---@return string[]
function M.modules()
    local list <const> = {}
    local folder <const> = folders()
    if folder then
        add_modules(list, folder, "dbrun")
    elseif core.embedded then
        for _, name in ipairs(core.embedded()) do list[#list + 1] = name:match "^dbrun/.*%.lua$" end
    end
    table.sort(list)
    return list
end

return M
