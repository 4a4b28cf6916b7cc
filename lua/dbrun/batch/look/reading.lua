--- The database of a job, and short read-only transactions for looks.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local json <const> = require "dbrun.json"
local settings <const> = require "dbrun.batch.state.settings"

local M = {}

---Calls fn with the engine of a job: its own, or that of the configuration. One that is opened for it is closed.
---@param definition dbrun.batch.Definition
---@param fn fun(engine: table): any
---@return any of fn
function M.with_engine(definition, fn)
    local given <const> = definition.engine
    if given and type(given) ~= "string" then return fn(given) end
    local config <const> = require "dbrun.config"
    local engine <close> = require("dbrun.db").engine {
        url = given or config.async_database_url, size = 2, overflow = 0, pre_ping = true,
        application_name = "dbrun batch " .. definition.name, statement_cache = config.DB_STATEMENT_CACHE,
        connect_timeout = config.DB_CONNECT_TIMEOUT,
    }
    return fn(engine)
end

local SET <const> = catalog.sql "select {set_config}($1, $2, true)"

---Applies settings for the transaction.
---@param tx table
---@param list {[1]: string, [2]: any}[]
function M.set(tx, list)
    for _, setting in ipairs(list) do tx:query(SET, setting[1], settings.text(setting[2])) end
end

---Calls fn(tx) in a read-only transaction with the planner settings of the job.
---@param conn table
---@param definition dbrun.batch.Definition
---@param seconds number that a statement may take
---@param fn fun(tx: table): ...
---@return any ... of fn
function M.read(conn, definition, seconds, fn)
    return conn:transaction({ isolation = "read committed", read_only = true }, function(tx)
        for name, value in pairs(definition.settings) do tx:query(SET, name, settings.text(value)) end
        M.set(tx, { { "plan_cache_mode", "force_custom_plan" }, { "statement_timeout", seconds * 1000 // 1 } })
        return fn(tx)
    end)
end

---The same; nil and the error when the server refuses it, or when it takes longer.
---@param conn table
---@param definition dbrun.batch.Definition
---@param seconds number
---@param fn fun(tx: table): any
---@return any result nil: it failed
---@return table? e
function M.try(conn, definition, seconds, fn)
    local ok <const>, result <const> = pcall(M.read, conn, definition, seconds, fn)
    if ok then return result end
    if not errors.is(result) or not result.sqlstate then error(result, 0) end
    return nil, result
end

---The values for SQL that may use none of them: a query without parameters takes none.
---@param sql string
---@param named table<string, any>
---@return table<string, any>?
function M.values(sql, named) return core.pg.named(sql) and named or nil end

---The plan of a statement, decoded.
---@param tx table
---@param sql string
---@param named table<string, any>
---@param options? string "verbose, "
---@return table node
function M.plan(tx, sql, named, options)
    local text <const> = ("explain (%sformat json) %s"):format(options or "", sql)
    local values <const> = M.values(text, named)
    local plan
    if values then plan = tx:value(text, values) else plan = tx:value(text) end
    if type(plan) == "string" then plan = json.decode(plan) end
    return plan[1].Plan
end

---Whether a time limit ended it.
---@param e? table
---@return boolean
function M.is_timeout(e) return e ~= nil and e.sqlstate == "57014" end

return M
