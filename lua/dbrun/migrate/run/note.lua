--- Writes into dbrun's tables beside the statements of a file: as the session's original role, regardless of SET ROLE,
--- in a transaction that may write, and under the session's original timeouts. These settings end with the transaction;
--- the file's role is restored before COMMIT, for the triggers that run there.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local sending = require "dbrun.migrate.run.send"

local M = {}

---@class dbrun.migrate.Who the session, as a note finds it
---@field role string
---@field login string
---@field read_only boolean the open transaction may not write
---@field statement_timeout string
---@field lock_timeout string

local LOOK <const> = catalog.sql [[
select {current_setting}('role') as role, session_user::{text} as login,
       {current_setting}('transaction_read_only') {=} 'on' as read_only,
       {current_setting}('statement_timeout') as statement_timeout, {current_setting}('lock_timeout') as lock_timeout]]

---@param conn table
---@return dbrun.migrate.Who
function M.look(conn)
    return conn:one(LOOK)
end

local SET_LOGIN <const> = catalog.sql "select {set_config}('session_authorization', $1, true)"
local SET_ROLE <const> = catalog.sql "select {set_config}('role', $1, true)"

---Calls fn() in the open transaction, as the session's own role.
---@param conn table
---@param own dbrun.migrate.Who at the beginning of the file
---@param fn fun()
---@param now? dbrun.migrate.Who
function M.inside(conn, own, fn, now)
    now = now or M.look(conn)
    local words = {}
    if now.role ~= own.role then words[#words + 1] = "set local role to default" end
    if now.login ~= own.login then words[#words + 1] = "set local session authorization default" end
    for _, name in ipairs { "statement_timeout", "lock_timeout" } do
        if now[name] ~= own[name] then words[#words + 1] = ("set local %s = '%s'"):format(name, own[name]) end
    end
    if #words > 0 then conn:exec(table.concat(words, "; ")) end
    fn()
    if now.login ~= own.login then conn:query(SET_LOGIN, now.login) end
    if now.role ~= own.role then conn:query(SET_ROLE, now.role) end
end

---Rolls an open transaction back; a connection that fails to do so is closed when it is released.
---@param conn table
function M.roll_back(conn)
    core.task.shield(function()
        local ok <const> = pcall(function()
            conn:drained()
            if conn:in_transaction() then conn:exec "rollback /* dbrun */" end
        end)
        if not ok then pcall(conn.invalidate, conn) end
    end)
end

---Runs fn() between BEGIN and COMMIT that carry dbrun's mark, which distinguishes them from a file's own in a log.
---@param conn table
---@param begin string what follows BEGIN
---@param fn fun()
---@param on_notice? fun(notice: dbrun.Notice) gets the messages of triggers that run at COMMIT
function M.transaction(conn, begin, fn, on_notice)
    local ok, e = pcall(function()
        conn:exec("begin" .. begin .. " /* dbrun */")
        fn()
        sending.listening(conn, on_notice, function() conn:exec "commit /* dbrun */" end)
    end)
    if ok then return end
    M.roll_back(conn)
    error(e, 0)
end

---Calls fn() in a separate transaction, as the session's own role.
---@param conn table
---@param own dbrun.migrate.Who
---@param fn fun()
---@param begun? fun() called first in the transaction
function M.apart(conn, own, fn, begun)
    M.transaction(conn, " isolation level read committed read write not deferrable", function()
        if begun then begun() end
        M.inside(conn, own, fn)
    end)
end

---Calls fn() and marks its error as one of dbrun's own statements, not the file's: the field `own` says what was done.
---@param what string "version 3 was recorded"
---@param fn fun()
function M.telling(what, fn)
    local ok, e = pcall(fn)
    if ok then return end
    if errors.is(e) and e.sqlstate then
        e.own = what
        e.context = (e.context and e.context .. "\n" or "") .. ("while %s (a statement of dbrun's own)"):format(what)
    end
    error(e, 0)
end

return M
