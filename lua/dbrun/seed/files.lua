--- The seed files of a folder: which there are, in which order, and what is in one.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

---@class dbrun.seed.File
---@field name string file name without .lua, as in "010_sources"
---@field path string
---@field env? string the environment whose folder it lies in

---@class dbrun.seed.Seed
---@field description? string
---@field run fun(ctx: dbrun.seed.Context): integer|string|nil rows made, or a remark

local function lua_files(dir, env, into)
    for _, entry in ipairs(fs.list(dir)) do
        local name, path = entry:match "^([^.].*)%.lua$", dir .. "/" .. entry
        if name and (fs.stat(path) or {}).kind ~= "folder" then
            into[#into + 1] = { name = name, path = path, env = env }
        end
    end
end

---The files of the folder by name, then those of its sub-folder `env` by name.
---@param dir string
---@param env? string
---@return dbrun.seed.File[]
---Raises an error of kind `config` when there are none.
function M.list(dir, env)
    dir = dir:gsub("(.)/+$", "%1")
    local list = {}
    local ok, e = pcall(function()
        lua_files(dir, nil, list)
        if env then lua_files(dir .. "/" .. env, env, list) end
    end)
    if not ok then
        if not errors.is(e, "io") then error(e, 0) end
        errors.raise {
            kind = "config",
            message = fs.exists(dir) and ("the seeds%s cannot be read: %s"):format(env and " of --env " .. env or "",
                e.message) or ("there is no seeds folder '%s'"):format(dir),
            hint = "name another with --dir or the key DBRUN_SEEDS_DIR",
        }
    end
    if #list == 0 then errors.raise { kind = "config", message = ("no seeds (*.lua) in %s"):format(dir) } end
    return list
end

---The files that are meant by a list of names: "010_sources" or just "sources".
---@param list dbrun.seed.File[]
---@param names string[]
---@return dbrun.seed.File[] in the order of the list
---Raises an error of kind `usage` for a name that fits none.
function M.select(list, names)
    local wanted = {}
    for _, name in ipairs(names) do
        local found = false
        for _, file in ipairs(list) do
            if file.name == name or file.name:gsub("^%d+[_-]", "") == name then
                wanted[file], found = true, true
            end
        end
        if not found then
            local known = {}
            for i, file in ipairs(list) do known[i] = file.name end
            errors.raise {
                kind = "usage",
                message = ("no seed is called '%s'; there %s %s"):format(name, #known == 1 and "is" or "are",
                    table.concat(known, ", ")),
            }
        end
    end
    local chosen = {}
    for _, file in ipairs(list) do
        if wanted[file] then chosen[#chosen + 1] = file end
    end
    return chosen
end

local function broken(file, why)
    errors.raise { kind = "query", message = why, text = ("%s is no seed: %s"):format(file.path, why) }
end

---Loads one: a file returns a function, or a table with `run`.
---@param file dbrun.seed.File
---@return dbrun.seed.Seed
---Raises an error that names the file, for one that does not compile, fails, or returns something else.
function M.load(file)
    local chunk, why = loadfile(file.path, "t")
    if not chunk then broken(file, why) end
    local ok, seed = xpcall(chunk, function(e) return errors.is(e) and e or debug.traceback(tostring(e), 2) end)
    if not ok then broken(file, tostring(seed)) end
    if type(seed) == "function" then return { run = seed } end
    if type(seed) ~= "table" or type(seed.run) ~= "function" then
        broken(file, ("it returns %s instead of a function or a table with a function `run`"):format(
            type(seed) == "table" and "a table without `run`" or "a " .. type(seed)))
    end
    return seed
end

return M
