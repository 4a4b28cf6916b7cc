--- The order of seeds: by name, but each after those in its `after`.
local errors = require "dbrun.error"

local M = {}

---@param file dbrun.seed.File
---@return string name "sources" for "010_sources"
function M.short(file)
    return (file.name:gsub("^%d+[_-]", ""))
end

---The file for a name: "010_sources", "sources", and "test/005_c" for one of an environment.
---@param list dbrun.seed.File[]
---@param name string
---@return dbrun.seed.File?
function M.find(list, name)
    for _, file in ipairs(list) do
        if file.name == name or file.key == name then return file end
    end
    for _, file in ipairs(list) do
        if M.short(file) == name then return file end
    end
    return nil
end

local function refuse(file, message)
    errors.fail("config", ("%s: %s"):format(file.path, message))
end

---For each file, those that must run before it.
local function needs_of(list, seeds)
    local needs = {}
    for i, file in ipairs(list) do
        needs[file] = {}
        for j, name in ipairs(seeds[i].after or {}) do
            local found = M.find(list, name)
            if not found then refuse(file, ("`after` names '%s', which is not a seed here"):format(tostring(name))) end
            needs[file][j] = found
        end
    end
    return needs
end

---@param list dbrun.seed.File[]
---@param seeds dbrun.seed.Seed[] what is in each
---@param wanted? table<dbrun.seed.File, boolean> these files, and those they need; nil = all
---@return dbrun.seed.File[] files
---@return dbrun.seed.Seed[] seeds
---Raises an error of kind `config` for an unknown name, and for a circle.
function M.arrange(list, seeds, wanted)
    local needs, by_file = needs_of(list, seeds), {}
    for i, file in ipairs(list) do by_file[file] = seeds[i] end
    local files, ordered, state = {}, {}, {}
    local function visit(file, path)
        if state[file] == "done" then return end
        path = path .. file.name
        if state[file] then refuse(file, "the seeds wait for each other: " .. path) end
        state[file] = "under way"
        for _, need in ipairs(needs[file]) do visit(need, path .. " after ") end
        state[file] = "done"
        files[#files + 1], ordered[#ordered + 1] = file, by_file[file]
    end
    for _, file in ipairs(list) do
        if not wanted or wanted[file] then visit(file, "") end
    end
    return files, ordered
end

return M
