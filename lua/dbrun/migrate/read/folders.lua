--- The default folder of migrations: dbrun's own, or dbmate's.
local config = require "dbrun.config"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local project = require "dbrun.project"

local M = {}

---Where dbmate keeps its migrations.
M.OF_DBMATE = "db/migrations"

---@param configured? table a configuration (default: that of this run)
---@param option? string how the command line names a folder (default: "--dir or the key DBRUN_MIGRATIONS_DIR")
---@return string dir the key DBRUN_MIGRATIONS_DIR; without it scripts/migrations, or db/migrations if only that exists
---@return boolean chosen by the key
---Raises an error of kind `config` when both exist.
function M.default(configured, option)
    configured = configured or config
    local own = configured.DBRUN_MIGRATIONS_DIR
    if configured.source "DBRUN_MIGRATIONS_DIR" ~= "default" then return own, true end
    local of_dbmate <const> = project.path(M.OF_DBMATE)
    if not fs.exists(of_dbmate) then return own, false end
    if not fs.exists(own) then return of_dbmate, false end
    errors.fail("config", ("there are two folders of migrations, %s and %s"):format(own, of_dbmate),
        "name one with " .. (option or "--dir or the key DBRUN_MIGRATIONS_DIR"))
end

---The named folders, else the default one.
---@param dirs? string[]
---@return string[]
function M.of(dirs)
    return dirs and #dirs > 0 and dirs or { (M.default()) }
end

return M
