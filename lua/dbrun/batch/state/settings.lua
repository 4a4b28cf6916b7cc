--- The settings of a chunk's transaction, which override the role's own.
local catalog = require "dbrun.db.catalog"

local M = {}

---The application_name of a job's workers; without a number, their common prefix.
---@param name string of the job
---@param number? integer of the worker
---@return string
function M.application_name(name, number)
    return ("dbrun batch %s #%s"):format(name, number or ""):sub(1, 63)
end

---Seconds beyond `timeout` after which the server ends an idle transaction of a worker.
local SILENCE <const> = 5

local INTERVAL <const> = catalog.sql "select {set_config}('client_connection_check_interval', '5s', true)"
local DEADLOCK <const> = catalog.sql
    "select (setting::double precision) {/} 1000 from {pg_settings} where name {=} 'deadlock_timeout'"

---@class dbrun.batch.Optional
---@field transaction_timeout? boolean the server has it
---@field client_connection_check_interval? boolean the server has it, on its system
---@field deadlock_timeout number seconds

---Settings that some servers do not have.
---@param conn table in no transaction
---@return dbrun.batch.Optional
function M.optional(conn)
    local version <const> = tonumber((conn.parameters.server_version or ""):match "^%d+") or 0
    local has_interval <const> = pcall(conn.transaction, conn, function(tx) tx:query(INTERVAL) end)
    return {
        transaction_timeout = version >= 17, client_connection_check_interval = has_interval,
        deadlock_timeout = conn:value(DEADLOCK) or 1,
    }
end

local function ms(seconds) return math.max(1, math.floor(seconds * 1000 + 0.5)) end

---Settings of a chunk's transaction.
---@param definition dbrun.batch.Definition
---@param values table in force
---@param number integer of the worker
---@param optional dbrun.batch.Optional
---@return {[1]: string, [2]: any}[]
function M.of(definition, values, number, optional)
    local list <const> = {
        { "statement_timeout", ms(values.timeout) },
        -- Below deadlock_timeout, so that the batch gives way, not the application.
        { "lock_timeout", ms(math.min(values.lock_timeout, 0.9 * optional.deadlock_timeout)) },
        { "idle_in_transaction_session_timeout", ms(values.timeout + SILENCE) },
        { "tcp_user_timeout", ms(values.timeout + SILENCE) },
        { "plan_cache_mode", "force_custom_plan" },
        { "jit", false }, -- each chunk is planned again, and JIT compilation takes longer than a chunk
        { "synchronous_commit", "on" },
        { "application_name", M.application_name(definition.name, number) },
    }
    if optional.transaction_timeout then
        list[#list + 1] = { "transaction_timeout", ms(values.timeout + SILENCE) }
    end
    if optional.client_connection_check_interval then
        list[#list + 1] = { "client_connection_check_interval", ms(SILENCE) }
    end
    local names <const> = {}
    for name in pairs(definition.settings) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do list[#list + 1] = { name, definition.settings[name] } end
    return list
end

---A setting's value as text, for set_config.
---@param value string|number|boolean
---@return string
function M.text(value)
    return type(value) == "boolean" and (value and "on" or "off") or tostring(value)
end

return M
