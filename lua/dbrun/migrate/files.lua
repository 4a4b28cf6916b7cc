--- The migration files of one or several folders.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local parse = require "dbrun.migrate.parse"

local M = {}

M.DEFAULT_DIR = "scripts/migrations"

---@class dbrun.migrate.File
---@field version string the digits at the start of the name
---@field name string file name
---@field path string

---@return string[]
local function names_in(dir)
    local ok, names = pcall(fs.list, dir)
    if ok then return names end
    if not errors.is(names, "io") then error(names, 0) end
    errors.raise {
        kind = "config",
        message = fs.exists(dir) and ("the migrations cannot be read: %s"):format(names.message)
            or ("there is no migrations folder '%s'"):format(dir),
        hint = "name another with --dir or the key DBRUN_MIGRATIONS_DIR",
    }
end

---Every migration of the folders, sorted by file name; other files and sub-folders are left alone.
---@param dirs string[]
---@return dbrun.migrate.File[]
---Raises an error of kind `config` for a folder that cannot be read, and when two files have the same version.
function M.list(dirs)
    local list, by_version = {}, {}
    for _, dir in ipairs(dirs) do
        for _, name in ipairs(names_in(dir)) do
            local version = name:match "^(%d+).*%.sql$"
            local path = dir:gsub("/+$", "") .. "/" .. name
            local stat = version and fs.stat(path)
            if version and not (stat and stat.kind == "folder") then
                list[#list + 1] = { version = version, name = name, path = path }
            end
        end
    end
    table.sort(list, function(a, b)
        if a.name ~= b.name then return a.name < b.name end
        return a.path < b.path
    end)
    for _, file in ipairs(list) do
        local twin = by_version[file.version]
        if twin then
            errors.raise {
                kind = "config",
                message = ("two migrations have the version %s: %s and %s"):format(file.version, twin.path, file.path),
                hint = "rename the one that was never applied",
            }
        end
        by_version[file.version] = file
    end
    return list
end

---As M.list; no file at all is an error.
---@param dirs string[]
---@return dbrun.migrate.File[]
function M.some(dirs)
    local list = M.list(dirs)
    if #list > 0 then return list end
    errors.raise {
        kind = "config",
        message = ("no migration files in %s"):format(table.concat(dirs, ", ")),
        hint = "make the first with: dbrun migrate new NAME",
    }
end

---Reads and splits one.
---@param file dbrun.migrate.File
---@return dbrun.migrate.Parsed
---Raises an error that names the file, and the line where the format is wrong.
function M.read(file)
    local handle, why = io.open(file.path, "rb")
    local text = handle and handle:read "a"
    if handle then handle:close() end
    if not text then
        errors.raise { kind = "io", message = ("cannot read %s"):format(why or file.path) }
    end
    return parse.parse(text, file.path)
end

---The name of a new file: the time in UTC, and the words given with what a file name should not contain replaced.
---@param words string
---@param now? integer seconds since 1970 (default: now)
---@return string
function M.new_name(words, now)
    local slug = words:gsub("[^%w_.\x80-\xff-]+", "_"):gsub("^[_.]+", ""):gsub("_+$", "")
    if slug == "" then
        errors.raise { kind = "usage", message = ("'%s' is no name for a migration"):format(words) }
    end
    return os.date("!%Y%m%d%H%M%S", now or os.time()) .. "_" .. slug .. ".sql"
end

---Makes an empty migration.
---@param dir string made when it is missing
---@param words string
---@return string path
function M.create(dir, words)
    local path = dir:gsub("/+$", "") .. "/" .. M.new_name(words)
    fs.mkdir_p(dir)
    if fs.exists(path) then
        errors.raise { kind = "io", message = ("'%s' is there already"):format(path) }
    end
    fs.write(path, "-- migrate:up\n\n\n-- migrate:down\n\n")
    return path
end

return M
