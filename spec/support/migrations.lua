--- Code that the specs of migrations share: a database for each test, and folders with migrations.
---
---     local url, database, sql
---     migrations.around(_ENV, function(...) url, database, sql = ... end)
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

local M = {}

--- A migration that creates a table, and drops it in its down section.
---@param name string
---@return string
function M.table(name)
    return ("-- migrate:up\ncreate table %s (id int primary key);\n-- migrate:down\ndrop table %s;\n"):format(name,
        name)
end

local folders = {}

--- A folder with these files; it is removed after the test.
---@param files table<string, string>
---@return string
function M.folder(files)
    local folder = scripts.folder(files)
    folders[#folders + 1] = folder
    return folder
end

--- For a block of specs: a new database for each test.
---@param env table the spec file's, which has busted's before_each and after_each
---@param set fun(url: string, database: string, sql: fun(text: string): string) called before each test; `sql` runs
---    psql
function M.around(env, set)
    env.before_each(function()
        local url, database = servers.database()
        set(url, database, function(text) return servers.shared_postgres():stay(text, database) end)
    end)
    env.after_each(function()
        for i = #folders, 1, -1 do fs.rmtree(table.remove(folders, i)) end
    end)
end

---@class spec.ImportPlace
---@field project fun(files: table<string, string>): string a folder whose old/ has these files of another tool
---@field path? string PATH for the commands, when it differs
---@field run fun(...: string): table `dbrun migrate ...` there
---@field import fun(tool: string, ...: string): table
---@field written fun(folder?: string): string names of the files in scripts/migrations

--- For a block of specs of imports: a new database for each test, and functions that work in a project's folder.
---@param env table the spec file's
---@param set fun(url: string, sql: fun(text: string): string) called before each test
---@return spec.ImportPlace
function M.import(env, set)
    local place <const> = {}
    local url, root
    M.around(env, function(address, _, sql)
        url = address
        set(address, sql)
    end)

    function place.project(files)
        local all = {}
        for name, text in pairs(files) do all["old/" .. name] = text end
        root = M.folder(all)
        return root
    end

    function place.run(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url, PATH = place.path }, { cwd = root })
    end

    function place.import(tool, ...) return place.run("import", tool, "--from", "old", ...) end

    function place.written(folder)
        local path = root .. "/" .. (folder or "scripts/migrations")
        local names = fs.exists(path) and fs.list(path) or {}
        table.sort(names)
        return table.concat(names, " ")
    end

    return place
end

return M
