--- The migration files of one or several folders: NUMBER_name.sql in dbmate's format, and NUMBER_name.lua, which
--- returns { up = function(ctx) end, down = function(ctx) end, transaction = true }.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local places = require "dbrun.places"
local parse = require "dbrun.migrate.read.parse"

local M = {}

---@class dbrun.migrate.File
---@field version string the digits at the start of the name
---@field name string file name
---@field path string
---@field kind "sql"|"lua"

---@return string[]
local function names_in(dir)
    local ok, names = pcall(fs.list, dir)
    if ok then return names end
    if not errors.is(names, "io") then error(names, 0) end
    errors.fail("config", fs.exists(dir) and ("the migrations cannot be read: %s"):format(names.message)
            or ("there is no migrations folder '%s'"):format(dir),
        "name another with --dir or the key DBRUN_MIGRATIONS_DIR")
end

---Every migration of the folders, sorted by file name; other files and sub-folders are ignored.
---@param dirs string[]
---@return dbrun.migrate.File[]
---Raises an error of kind `config` for a folder that cannot be read, and when two files have the same version.
function M.list(dirs)
    local list, by_version = {}, {}
    for _, dir in ipairs(dirs) do
        for _, name in ipairs(names_in(dir)) do
            local kind = name:match "%.(%l+)$"
            local version = (kind == "sql" or kind == "lua") and name:match "^(%d+)"
            local path = dir:gsub("/+$", "") .. "/" .. name
            local stat = version and fs.stat(path)
            if version and not (stat and stat.kind == "folder") then
                list[#list + 1] = { version = version, name = name, path = path, kind = kind }
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
            errors.fail("config",
                ("two migrations have the version %s: %s and %s"):format(file.version, twin.path, file.path),
                parse.import_hint(file.path) or "rename the one that was never applied")
        end
        by_version[file.version] = file
    end
    return list
end

---Describes what a folder without migrations contains.
local function instead(dirs)
    for _, dir in ipairs(dirs) do
        for _, name in ipairs(names_in(dir)) do
            if name:find "^[VURB][%d_.]*__.*%.sql$" then
                return ("%s is a file of Flyway: dbrun migrate import flyway --from %s --dir NEW_FOLDER"):format(name,
                    dir)
            elseif name:lower():find "%.sql$" then
                return ("%s is none: the name of a migration begins with digits and ends with .sql, in lower case, as "
                    .. "%s"):format(name, "20250101120000_create_note.sql")
            end
        end
    end
end

---Like M.list, but raises when there is no file.
---@param dirs string[]
---@return dbrun.migrate.File[]
function M.some(dirs)
    local list = M.list(dirs)
    if #list > 0 then return list end
    errors.fail("config", ("no migration files in %s"):format(table.concat(dirs, ", ")),
        instead(dirs) or "make the first with: dbrun migrate new NAME")
end

local function contents(file)
    local handle, why = io.open(file.path, "rb")
    local text = handle and handle:read "a"
    if handle then handle:close() end
    if not text then
        errors.fail("io", ("cannot read %s"):format(why or file.path))
    end
    return text
end

local function lua_failed(file, message, hint, line)
    errors.raise {
        kind = "query", message = ("%s%s: %s"):format(file.path, line and ":" .. line or "", message), hint = hint,
        file = file.path, line = line or 1,
    }
end

local SHAPE <const> = "it returns { up = function(ctx) ... end, down = function(ctx) ... end }"

---The sections of a Lua migration; a missing down does nothing, as an empty section.
local function read_lua(file, text)
    local chunk, why = load(text, "@" .. file.path, "t")
    if not chunk then lua_failed(file, "is not valid Lua: " .. why) end
    local ok, result = xpcall(require("dbrun.exit_guard").call, function(e)
        return errors.is(e) and e or debug.traceback(tostring(e), 2)
    end, "the migration " .. file.path, chunk)
    if not ok then lua_failed(file, tostring(result)) end
    if type(result) ~= "table" then lua_failed(file, "returned " .. type(result) .. ", not a table", SHAPE) end
    local known = { up = "function", down = "function", transaction = "boolean" }
    for key, value in pairs(result) do
        if type(value) ~= known[key] then
            lua_failed(file, ("'%s' is %s"):format(tostring(key), known[key] and "not a " .. known[key] or "unknown"),
                SHAPE, places.line(text, 0, key))
        end
    end
    if not result.up then lua_failed(file, "has no 'up'", SHAPE) end
    local function section(fn)
        return { sql = "", line = 1, options = {}, transaction = result.transaction ~= false, fn = fn }
    end
    return { up = section(result.up), down = section(result.down) }
end

---Reads a file and splits it into its sections.
---@param file dbrun.migrate.File
---@return dbrun.migrate.Parsed
---@return string text of the file
---Raises an error that names the file, and the line where the format is wrong.
function M.read(file)
    local text = contents(file)
    return file.kind == "lua" and read_lua(file, text) or parse.parse(text, file.path), text
end

---The checksum of a file, independent of a byte order mark and of CRLF or LF.
---@param file dbrun.migrate.File
---@param read? string its text, when it was read before
---@return string hex
function M.checksum(file, read)
    local text = (read or contents(file)):gsub("^\xEF\xBB\xBF", "")
    if text:find("\r", 1, true) then text = text:gsub("\r\n", "\n") end
    return core.digest("sha256", text)
end

---The name of a new file: the time in UTC and the given words, with unsuitable characters replaced.
---@param words string
---@param now? integer seconds since 1970 (default: now)
---@param kind? "sql"|"lua"
---@return string
function M.new_name(words, now, kind)
    local slug = words:gsub("[^%w_.\x80-\xff-]+", "_"):gsub("^[_.]+", ""):gsub("_+$", "")
    if slug == "" then
        errors.fail("usage", ("'%s' is not a name for a migration"):format(words))
    end
    return os.date("!%Y%m%d%H%M%S", now or os.time()) .. "_" .. slug .. "." .. (kind or "sql")
end

local EMPTY <const> = {
    sql = "-- migrate:up\n\n\n-- migrate:down\n\n",
    lua = [[
-- ctx: db (the transaction's query, value, exec, rows ...), redis, config, migration, progress.
return {
    up = function(ctx)
        ctx.db:exec "select 1"
    end,
    down = function(ctx)
        ctx.db:exec "select 1"
    end,
}
]],
}

---The versions that the files of the folders have; a folder that is missing has none.
local function versions_in(dirs)
    local set = {}
    for _, dir in ipairs(dirs) do
        for _, name in ipairs(fs.exists(dir) and names_in(dir) or {}) do
            local version = name:match "^(%d+)"
            if version then set[version] = true end
        end
    end
    return set
end

---Makes an empty migration, named after a second that no other file has. Another process that does the same waits.
---@param dirs string[] it goes into the first, which is made when it is missing
---@param words string
---@param kind? "sql"|"lua"
---@param named? fun(now: integer): string gives the file's name (default: M.new_name)
---@return string path
function M.create(dirs, words, kind, named)
    named = named or function(now) return M.new_name(words, now, kind) end
    local now = os.time()
    local name = named(now)
    local dir = dirs[1]:gsub("/+$", "")
    fs.mkdir_p(dir)
    local lock_path = dir .. "/.new.lock"
    local lock <close> = fs.lock(lock_path, 10)
    if not lock then
        errors.fail("timeout", ("another process makes a migration in %s and does not end"):format(dir),
            "end the process that holds " .. lock_path)
    end
    local _ <close> = setmetatable({}, { __close = function() fs.unlink(lock_path) end })
    local taken = versions_in(dirs)
    while taken[name:match "^%d+"] do
        now = now + 1
        name = named(now)
    end
    local path = dir .. "/" .. name
    fs.write(path, EMPTY[kind or "sql"])
    return path
end

return M
