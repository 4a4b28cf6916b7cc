--- The seed files of a folder, sorted; loading one.
local args = require "dbrun.args"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local places = require "dbrun.places"
local order = require "dbrun.seed.order"

local M = {}

---@class dbrun.seed.File
---@field name string file name without .lua, as in "010_sources"
---@field key string name in the ledger: prefixed with the environment, "test/005_c"
---@field path string
---@field sql? boolean an SQL file
---@field env? string the environment whose folder it lies in

---@class dbrun.seed.Seed
---@field description? string
---@field after? string[] names of seeds that must have run before
---@field always? boolean runs every time, even unchanged
---@field checksum string
---@field text string of the file
---@field run? fun(ctx: dbrun.seed.Context): integer|string|nil number of rows, or a remark; of a Lua file
---@field statements? dbrun.migrate.Statement[] of an SQL file, once it is read
---@field recorded? boolean it has run, and only its COMMIT is left

local function lua_files(dir, env, into)
    local path_of = {}
    for _, entry in ipairs(fs.list(dir)) do
        local name, kind = entry:match "^([^.].*)%.(%a+)$"
        local path = dir .. "/" .. entry
        if (kind == "lua" or kind == "sql") and (fs.stat(path) or {}).kind ~= "folder" then
            local key = env and env .. "/" .. name or name
            if path_of[key] then
                errors.fail("config", ("two seeds are called '%s': %s and %s"):format(key, path_of[key], path),
                    "rename one: the record of a seed has its name without .sql and .lua")
            end
            path_of[key] = path
            into[#into + 1] = { name = name, key = key, path = path, env = env, sql = kind == "sql" }
        end
    end
end

---A sub-folder in the one way in which the ledger names it: "./staging/" would have seeds of its own there.
local function one_name(env)
    local parts = {}
    for part in env:gmatch "[^/]+" do
        if part ~= "." then parts[#parts + 1] = part end
    end
    local name <const> = table.concat(parts, "/")
    if name == "" or env:find "^/" or ("/" .. name .. "/"):find("/../", 1, true) then
        errors.fail("usage", ("--env '%s' names no sub-folder of the seeds"):format(env), "--env staging")
    end
    return name
end

---The files of the folder by name, then those of its sub-folder `env` by name.
---@param dir string
---@param env? string
---@return dbrun.seed.File[]
---Raises an error of kind `config` when there is no seed.
function M.list(dir, env)
    dir = dir:gsub("(.)/+$", "%1")
    env = env and one_name(env)
    local list = {}
    local ok, e = pcall(function()
        lua_files(dir, nil, list)
        if env then lua_files(dir .. "/" .. env, env, list) end
    end)
    if not ok then
        if not errors.is(e, "io") then error(e, 0) end
        errors.fail("config",
            fs.exists(dir) and ("the seeds%s cannot be read: %s"):format(env and " of --env " .. env or "", e.message)
                or ("there is no seeds folder '%s'"):format(dir),
            "name another with --dir or the key DBRUN_SEEDS_DIR")
    end
    if #list == 0 then errors.fail("config", ("no seeds (*.lua, *.sql) in %s"):format(dir)) end
    return list
end

---The files for a list of names: "010_sources" or just "sources".
---@param list dbrun.seed.File[]
---@param names string[]
---@return table<dbrun.seed.File, boolean>
---Raises an error of kind `usage` for an unknown name.
function M.select(list, names)
    local wanted = {}
    for _, name in ipairs(names) do
        local found = false
        for _, file in ipairs(list) do
            if file.name == name or file.key == name or order.short(file) == name then
                wanted[file], found = true, true
            end
        end
        if not found then
            local known = {}
            for i, file in ipairs(list) do known[i] = file.name end
            errors.fail("usage", ("no seed is called '%s'; there %s %s"):format(
                name, #known == 1 and "is" or "are", table.concat(known, ", ")))
        end
    end
    return wanted
end

local function broken(file, why)
    errors.raise { kind = "query", message = why, text = ("%s is not a seed: %s"):format(file.path, why) }
end

local SEED <const> = { run = "function", description = "string", after = "table", always = "boolean" }

local function checked(file, seed)
    if type(seed) == "function" then return { run = seed } end
    if type(seed) ~= "table" or type(seed.run) ~= "function" then
        broken(file, ("it returns %s instead of a function or a table with a function `run`"):format(
            type(seed) == "table" and "a table without `run`" or "a " .. type(seed)))
    end
    for key, value in pairs(seed) do
        local line = places.name(file.path, 0, key)
        local ok, e = pcall(args.options, line, { [key] = value }, SEED)
        if ok and key == "after" then ok, e = pcall(args.list, line, key, value, "string") end
        if not ok then broken(file, e.message .. (e.hint and (" (%s)"):format(e.hint) or "")) end
    end
    return { run = seed.run, description = seed.description, after = seed.after, always = seed.always }
end

---Loads one: a Lua file returns a function, or a table with `run`; an SQL file is split before it runs
---(dbrun.seed.script).
---@param file dbrun.seed.File
---@return dbrun.seed.Seed
---Raises an error that names the file when it does not compile, fails, or returns something else.
function M.load(file)
    local text = fs.read(file.path)
    local checksum = require("dbrun.seed.ledger").checksum(text)
    if file.sql then
        return { text = text, description = text:match "^%-%-%s*([^\n]+)", checksum = checksum }
    end
    local chunk, why = load((text:gsub("^#[^\n]*", "")), "@" .. file.path, "t")
    if not chunk then broken(file, why) end
    local ok, seed = xpcall(require("dbrun.exit_guard").call, function(e)
        return errors.is(e) and e or debug.traceback(tostring(e), 2)
    end, "the seed " .. file.path, chunk)
    if not ok then broken(file, tostring(seed)) end
    seed = checked(file, seed)
    seed.checksum, seed.text = checksum, text
    return seed
end

return M
