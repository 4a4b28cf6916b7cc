--- Completes the options of the operations, and opens their connection.
local config = require "dbrun.config"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local folders = require "dbrun.migrate.read.folders"
local hooks = require "dbrun.migrate.run.hooks"
local ledger = require "dbrun.migrate.book.ledger"

local M = {}

---@param opts? dbrun.migrate.Options
---@return dbrun.migrate.Options
function M.complete(opts)
    local full = {}
    for key, value in pairs(opts or {}) do full[key] = value end
    full.url = full.url or config.sync_database_url
    full.dirs = folders.of(full.dirs)
    full.table = full.table or ledger.DEFAULT_TABLE
    return full
end

---@class dbrun.migrate.Sessions the connections of a run
---@field replace fun(unloaded?: boolean): table closes the connection, and gives a new one; unloaded: in which
---    TimescaleDB's library is not loaded, so that ALTER EXTENSION can change it
---@field second fun(seconds: number): table, fun() another connection, and the function that closes it; raises after
---`seconds`

---@param url string
---@param more? table
local function engine_for(url, more)
    local full = {
        -- No prepared statements: few statements are repeated, and there may be a pooler.
        url = url, mode = "sync", size = 1, overflow = 0, statement_cache = 0, application_name = "dbrun migrate",
    }
    for key, value in pairs(more or {}) do full[key] = value end
    return require("dbrun.db").engine(full)
end

---The address for a session in which TimescaleDB's loader does not load its library. It is a setting of the connection,
---because a SET would come after the loader.
local function unloaded_url(address)
    local url <const> = require "dbrun.url"
    local parsed <const> = url.parse_postgres(address)
    local before <const> = parsed.params.options or os.getenv "PGOPTIONS"
    parsed.params.options = (before and before .. " " or "") .. "-c timescaledb.disable_load=on"
    parsed.form = nil
    return url.build_postgres(parsed)
end

---Calls fn with one leased connection of a temporary engine.
---@param opts dbrun.migrate.Options
---@param fn fun(conn: table): any
function M.reading(opts, fn)
    local engine, conn = engine_for(opts.url), nil
    local function close()
        if conn then conn:release() end
        engine:close()
    end
    local _ <close> = setmetatable({}, { __close = close })
    conn = engine:acquire()
    opts.sessions = {
        replace = function(unloaded)
            conn:invalidate()
            close()
            conn, engine = nil, engine_for(unloaded and unloaded_url(opts.url) or opts.url)
            conn = engine:acquire()
            return conn
        end,
        second = function(seconds)
            local other = engine_for(opts.url, {
                timeout = seconds, connect_timeout = seconds, command_timeout = seconds,
            })
            local ok, keeper = pcall(other.acquire, other)
            if not ok then
                other:close()
                error(keeper, 0)
            end
            return keeper, function()
                keeper:release()
                other:close()
            end
        end,
    }
    local result = table.pack(xpcall(fn, function(e)
        return errors.is(e) and e or debug.traceback(tostring(e), 2)
    end, conn))
    if result[1] then return table.unpack(result, 2, result.n) end
    local e = result[2]
    if errors.is(e) and e.sqlstate == "42501" and conn then
        local found, book = pcall(ledger.locate, conn, opts.table)
        if found then require("dbrun.migrate.show.own_errors").add_hint(e, conn, book) end
    end
    error(e, 0)
end

---The listener, whose `target` is called with the target's description.
local function with_target(opts, conn)
    local listener = {}
    for key, value in pairs(opts.listener or {}) do listener[key] = value end
    local report = listener.target
    listener.target = report and function() report(require("dbrun.target").describe(conn, opts.url)) end
    opts.listener = listener
end

---Raises when the connection gets no answer: a pooler accepts clients even if it has no free server session.
local function answered(conn, seconds)
    conn:deadline(math.max(1, seconds))
    local ok, e = pcall(conn.exec, conn, "select 1 /* dbrun */")
    if not ok then
        if errors.is(e, "timeout") then
            errors.fail("timeout", ("the server, or the pooler before it, gave no answer within %g s: %s"):format(
                math.max(1, seconds), e.message), "other clients may hold all of the pooler's sessions: set "
                .. "MIGRATION_DATABASE_URL to the server itself, or wait longer with --lock-wait")
        end
        error(e, 0)
    end
    conn:deadline(nil)
end

---Like M.reading, for operations that write: also refuses protected targets and runs the connection's hooks.
---@param opts dbrun.migrate.Options makes_hooks: the folder of the hooks does not have to exist yet
---@param fn fun(conn: table): any
function M.writing(opts, fn)
    if core.options and core.options.read_only then
        errors.fail("usage", "this program runs with --read-only, and migrations write",
            "leave it out; dbrun migrate plan shows what would run")
    elseif core.options and core.options.dry_run then
        errors.fail("usage", "migrations have no part in a dry run, which is one transaction",
            "dbrun migrate plan shows what would run")
    end
    local must_be_there <const> = opts.hooks ~= nil and not opts.makes_hooks
    opts.hooks_list = hooks.load(opts.hooks or config.DBRUN_HOOKS_DIR, must_be_there)
    opts.hooks_list.listener = opts.listener
    hooks.run(opts.hooks_list, "beforeConnect")
    return M.reading(opts, function(conn)
        answered(conn, opts.lock_wait or 60)
        require("dbrun.target").check(conn, opts.url, opts.target)
        with_target(opts, conn)
        hooks.run(opts.hooks_list, "afterConnect", conn, {}, true)
        return fn(conn)
    end)
end

return M
