--- The settings at the start of every migration, which do not depend on the previous one.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"

local M = {}

local CHECK_CLIENT <const> = catalog.sql [[
select {set_config}('client_connection_check_interval', '2s', false) as set
 where {current_setting}('server_version_num')::int {>=} 140000]]
local CHECK_AGAIN <const> = "set client_connection_check_interval = '2s'"

local function milliseconds(seconds)
    return ("%dms"):format(math.floor(seconds * 1000 + 0.5))
end

---By SET, not by a query: after a query the file's SET TRANSACTION would be too late.
local function limits(conn, opts, set, before, more)
    local list = { ("%s%s lock_timeout = '%s'"):format(before or "", set,
        milliseconds(opts.lock_timeout or core.options.lock_timeout or 5)) }
    if opts.statement_timeout then
        list[2] = ("%s statement_timeout = '%s'"):format(set, milliseconds(opts.statement_timeout))
    end
    list[#list + 1] = more
    conn:exec(table.concat(list, "; ") .. " /* dbrun */")
end

---Sets them for the whole session, which is in its initial state.
---@param conn table
---@param opts { lock_timeout?: number, statement_timeout?: number, checks_client?: boolean } seconds; checks_client:
---    what was found at the first session of the run
---@param before? string statements to send with it
function M.session(conn, opts, before)
    limits(conn, opts, "set", before, opts.checks_client and CHECK_AGAIN or nil)
    if opts.checks_client ~= nil then return end
    -- The server (14 and later) stops the statement of a killed client, which frees its locks. A server on a system
    -- other than Linux may refuse the value; that is ignored.
    local ok, e = pcall(conn.value, conn, CHECK_CLIENT)
    if not ok and not (errors.is(e) and e.sqlstate == "22023") then error(e, 0) end
    opts.checks_client = ok and e ~= nil
end

---Sets them for one transaction.
---@param tx table
---@param opts { lock_timeout?: number, statement_timeout?: number } seconds
function M.transaction(tx, opts)
    limits(tx, opts, "set local")
end

---Whether there is a pooler: then the backend pid from the start of the connection differs from the one that answers.
---@param conn table
---@return boolean
function M.pooled(conn)
    local answering = conn:value(catalog.sql "select {pg_backend_pid}()")
    return conn:backend_pid() ~= answering
end

return M
