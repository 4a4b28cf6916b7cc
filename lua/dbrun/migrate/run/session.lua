--- Completes the options of the operations, and opens their connection.
local config = require "dbrun.config"
local hooks = require "dbrun.migrate.run.hooks"
local ledger = require "dbrun.migrate.book.ledger"

local M = {}

---@param opts? dbrun.migrate.Options
---@return dbrun.migrate.Options
function M.complete(opts)
    local full = {}
    for key, value in pairs(opts or {}) do full[key] = value end
    full.url = full.url or config.sync_database_url
    full.dirs = full.dirs and #full.dirs > 0 and full.dirs or { config.DBRUN_MIGRATIONS_DIR }
    full.table = full.table or ledger.DEFAULT_TABLE
    return full
end

---Calls fn with one leased connection of a temporary engine.
---@param opts dbrun.migrate.Options
---@param fn fun(conn: table): any
function M.reading(opts, fn)
    local db = require "dbrun.db"
    -- No prepared statements: none is repeated often, and there may be a pooler.
    local engine = db.engine {
        url = opts.url, mode = "sync", size = 2, statement_cache = 0, application_name = "dbrun migrate",
    }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    local conn <close> = engine:acquire()
    opts.second = function() return engine:acquire() end
    return fn(conn)
end

---The listener, whose `target` is called with the target's description.
local function with_target(opts, conn)
    local listener = {}
    for key, value in pairs(opts.listener or {}) do listener[key] = value end
    local report = listener.target
    listener.target = report and function() report(require("dbrun.target").describe(conn, opts.url)) end
    opts.listener = listener
end

---As M.reading, for operations that write: refuses protected targets, runs the hooks of the connection.
---@param opts dbrun.migrate.Options
---@param fn fun(conn: table): any
function M.writing(opts, fn)
    opts.hooks_list = hooks.load(opts.hooks or config.DBRUN_HOOKS_DIR, opts.hooks ~= nil)
    hooks.run(opts.hooks_list, "beforeConnect")
    return M.reading(opts, function(conn)
        require("dbrun.target").check(conn, opts.url, opts.target)
        with_target(opts, conn)
        hooks.run(opts.hooks_list, "afterConnect", conn, {}, true)
        return fn(conn)
    end)
end

return M
