--- The template of every spec file's database: migrated once, and made again when a migration, a hook or a seed has
--- changed. Its name has the digest of these files.
local core = require "dbrun.core"
local environment = require "dbrun.testing.environment"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local server = require "dbrun.testing.server"

local M = {}

--- The prefix of all templates and databases of specs: databases without it are never dropped.
M.PREFIX = "dbrun_test_"

local LOCK <const> = 0x6462746d706c -- "dbtmpl": one process makes a template, the others wait for it

local function add_files(folder, list)
    if not fs.exists(folder) then return end
    for _, name in ipairs(fs.list(folder)) do
        local path <const> = fs.join(folder, name)
        local there <const> = fs.stat(path)
        if there and there.kind == "folder" then
            add_files(path, list)
        elseif there then
            list[#list + 1] = path .. "\0" .. core.digest("sha256", fs.read(path))
        end
    end
end

---@class dbrun.testing.Content
---@field migrations? string the folder; nil: there are none
---@field seed false|true|string true: `dbrun seed`; a name: `dbrun seed --env NAME`

---@param content dbrun.testing.Content
---@return string
local function name_of(content)
    local config <const> = require "dbrun.config"
    local list = { core.options.version, tostring(content.seed) }
    if content.migrations then add_files(content.migrations, list) end
    if content.seed then add_files(config.DBRUN_SEEDS_DIR, list) end
    add_files(config.DBRUN_HOOKS_DIR, list)
    return M.PREFIX .. "template_" .. core.digest("sha256", table.concat(list, "\n")):sub(1, 16)
end

--- Runs one of dbrun's commands on the new template.
local function command(url, at, ...)
    local words <const> = { core.options.program, "--no-env", ... }
    words.env = environment.of { database_url = url, redis_url = at.redis_url }
    words.stderr, words.timeout = "stdout", 600
    local result <const> = process.run(words)
    if result.code ~= 0 then
        errors.raise {
            kind = "query", message = ("testing.project: dbrun %s failed on the specs' database"):format(
                table.concat({ ... }, " ")),
            detail = result.stdout,
        }
    end
end

--- Removes the templates of older files: all but the newest three.
local function remove_old(conn, name)
    local old <const> = conn:query([[select datname from pg_catalog.pg_database
        where starts_with(datname, $1) and datname <> $2 order by oid desc offset 2]], M.PREFIX .. "template_", name)
    for _, row in ipairs(old) do conn:exec(("drop database if exists %s"):format(row.datname)) end
end

--- The template, ready to be copied. The caller's connection is to another database of the same server.
---@param conn dbrun.Connection
---@param at dbrun.testing.Server
---@param content dbrun.testing.Content
---@return string name
function M.make(conn, at, content)
    local name <const> = name_of(content)
    local ready <const> = "select 1 from pg_catalog.pg_database where datname = $1 and not datallowconn"
    if conn:value(ready, name) then return name end
    conn:query("select pg_catalog.pg_advisory_lock($1)", LOCK)
    local ok, e = xpcall(function()
        if conn:value(ready, name) then return end
        conn:exec(("drop database if exists %s with (force)"):format(name)) -- an unfinished one
        conn:exec(("create database %s"):format(name))
        local url <const> = server.database_url(at.database_url, name)
        if content.migrations then command(url, at, "migrate", "up", "--dir", content.migrations) end
        if content.seed == true then command(url, at, "seed") end
        if type(content.seed) == "string" then command(url, at, "seed", "--env", content.seed) end
        -- Forbids connections from now on, so that it can always be copied; only now does it count as complete.
        conn:exec(("alter database %s with allow_connections false"):format(name))
        remove_old(conn, name)
    end, function(e) return e end)
    conn:query("select pg_catalog.pg_advisory_unlock($1)", LOCK)
    if not ok then error(e, 0) end
    return name
end

return M
