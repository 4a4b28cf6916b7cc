--- Migrations: SQL files in dbmate's format, applied one after the other under a lock.
---
---     local migrate = require "dbrun.migrate"
---     migrate.up { dirs = { "db/migrations" } }
---
--- `dbrun migrate` is the command line over this module (dbrun.migrate.command).
local config = require "dbrun.config"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.files"
local ledger = require "dbrun.migrate.ledger"

local M = {}

---@class dbrun.migrate.Options
---@field url? string default: config.sync_database_url, which is MIGRATION_DATABASE_URL where that is set
---@field dirs? string[] folders with migrations (default: the key DBRUN_MIGRATIONS_DIR)
---@field table? string "name" or "schema.name" (default schema_migrations)
---@field lock_wait? number seconds to wait for another migrator (default 60)
---@field lock_timeout? number seconds a statement may wait for a table that somebody uses (default 5)
---@field statement_timeout? number seconds for each statement (default: no limit)
---@field listener? dbrun.migrate.Listener

---@class dbrun.migrate.Done
---@field file dbrun.migrate.File
---@field seconds number

---@class dbrun.migrate.State
---@field files { file: dbrun.migrate.File, applied: boolean }[] in the order in which they run
---@field pending integer
---@field applied integer
---@field missing string[] versions that were applied and have no file

---@param opts? dbrun.migrate.Options
---@return dbrun.migrate.Options
local function complete(opts)
    local full = {}
    for key, value in pairs(opts or {}) do full[key] = value end
    full.url = full.url or config.sync_database_url
    full.dirs = full.dirs and #full.dirs > 0 and full.dirs or { config.DBRUN_MIGRATIONS_DIR }
    full.table = full.table or ledger.DEFAULT_TABLE
    return full
end

---Calls fn with one leased connection of an engine that is gone afterwards.
local function with_connection(opts, fn)
    local db = require "dbrun.db"
    local engine = db.engine { url = opts.url, mode = "sync", size = 1, application_name = "dbrun migrate" }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local conn <close> = engine:acquire()
    return fn(conn)
end

---The listener, whose `target` is called with the target's description.
local function with_target(opts, conn)
    local listener = {}
    for key, value in pairs(opts.listener or {}) do listener[key] = value end
    if listener.target then
        local tell = listener.target
        listener.target = function() tell(require("dbrun.target").describe(conn, opts.url)) end
    end
    opts.listener = listener
    return opts
end

---The files up to and including a version.
local function up_to(list, version)
    for i, file in ipairs(list) do
        if file.version == version then return table.move(list, 1, i, 1, {}) end
    end
    errors.raise {
        kind = "usage",
        message = ("no migration has the version '%s'"):format(version),
        hint = "dbrun migrate status",
    }
end

---Refuses a pending file that stands before the last applied one.
local function check_order(list, applied)
    local last
    for _, file in ipairs(list) do
        if applied[file.version] then last = file end
    end
    for _, file in ipairs(list) do
        if last and not applied[file.version] and file.name < last.name then
            errors.raise {
                kind = "query",
                message = ("%s is pending, but the later %s is applied already"):format(file.path, last.name),
                hint = "give it a newer version, or leave --strict out to apply it all the same",
            }
        end
    end
end

---Applies what is pending.
---@param opts? dbrun.migrate.Options|{ to?: string, steps?: integer, strict?: boolean }
---    to: last version to apply; steps: how many at most; strict: refuse files older than the last applied one
---@return dbrun.migrate.Done[]
---Raises errors of kind `query` and `constraint` (a migration failed: `file`, `line`, `sqlstate`), `timeout` (the
---lock), `config`, `connect`.
function M.up(opts)
    opts = complete(opts)
    local list = files.some(opts.dirs)
    local limited = opts.to and up_to(list, opts.to) or list
    return with_connection(opts, function(conn)
        return require("dbrun.migrate.runner").run(conn, with_target(opts, conn), "up", function(applied)
            if opts.strict then check_order(list, applied) end
            local chosen = {}
            for _, file in ipairs(limited) do
                if #chosen == (opts.steps or math.huge) then break end
                if not applied[file.version] then chosen[#chosen + 1] = file end
            end
            return chosen
        end)
    end)
end

---Takes back the last ones applied that have a file, the latest first.
---@param opts? dbrun.migrate.Options|{ steps?: integer } steps: how many (default 1)
---@return dbrun.migrate.Done[] done empty when nothing is applied
function M.down(opts)
    opts = complete(opts)
    local list = files.some(opts.dirs)
    return with_connection(opts, function(conn)
        return require("dbrun.migrate.runner").run(conn, with_target(opts, conn), "down", function(applied)
            local chosen = {}
            for i = #list, 1, -1 do
                if #chosen == (opts.steps or 1) then break end
                if applied[list[i].version] then chosen[#chosen + 1] = list[i] end
            end
            return chosen
        end)
    end)
end

---Compares the files with the versions in the table. Writes nothing.
---@param conn table a connection or an engine
---@param list dbrun.migrate.File[]
---@param table_name? string
---@return dbrun.migrate.State
function M.compare(conn, list, table_name)
    local applied = ledger.applied(conn, ledger.locate(conn, table_name or ledger.DEFAULT_TABLE))
    local state = { files = {}, pending = 0, applied = 0, missing = {} }
    local on_disk = {}
    for i, file in ipairs(list) do
        local is_applied = applied[file.version] == true
        on_disk[file.version] = true
        state.files[i] = { file = file, applied = is_applied }
        local counter = is_applied and "applied" or "pending"
        state[counter] = state[counter] + 1
    end
    for version in pairs(applied) do
        if not on_disk[version] then state.missing[#state.missing + 1] = version end
    end
    table.sort(state.missing)
    return state
end

---What is applied and what is not.
---@param opts? dbrun.migrate.Options
---@return dbrun.migrate.State
function M.status(opts)
    opts = complete(opts)
    local list = files.some(opts.dirs)
    return with_connection(opts, function(conn) return M.compare(conn, list, opts.table) end)
end

---Makes an empty migration in the (first) folder.
---@param name string words for the file's name
---@param opts? dbrun.migrate.Options
---@return string path
function M.new(name, opts)
    local dirs = opts and opts.dirs and #opts.dirs > 0 and opts.dirs or { config.DBRUN_MIGRATIONS_DIR }
    return files.create(dirs[1], name)
end

---The command line: `up`, `down`, `status`, `new`.
---@param argv string[]
---@return integer status for os.exit
function M.main(argv)
    return require("dbrun.migrate.command").main(argv)
end

return M
