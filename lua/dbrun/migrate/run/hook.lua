--- Runs one hook. A Lua file is called with a context (dbrun.migrate.run.context), as `...` or by the function that it
--- returns; `false, "reason"`, or an error, stops the run: a veto. The error names the file, and says what stays
--- applied.
local blocks = require "dbrun.migrate.read.blocks"
local context = require "dbrun.migrate.run.context"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local exit_guard = require "dbrun.exit_guard"
local fs = require "dbrun.fs"
local notices = require "dbrun.migrate.show.notices"
local report = require "dbrun.migrate.show.report"
local script = require "dbrun.migrate.read.script"
local sending = require "dbrun.migrate.run.send"

local M = {}

local NOTHING <const> = "It is a hook; the run was stopped."

---A setting that the hook's SQL can read: current_setting('dbrun.applied', true), a list of objects in JSON.
local function tell_applied(conn, fields)
    if not fields.applied or fields.migration then return end -- a file can run without a transaction
    conn:query("select pg_catalog.set_config('dbrun.applied', $1, true)",
        require("dbrun.json").encode(require("dbrun.json").array(fields.applied)))
end

local function run_sql(hook, conn, fields, on_notice)
    local text = fs.read(hook.path)
    local escapes = conn.parameters.standard_conforming_strings == "off"
    local statements, refused = script.read(text, 1, escapes)
    refused = refused or blocks.in_transaction(statements, "hook", "remove it")
    if refused then
        errors.raise {
            kind = "query", file = hook.path, line = refused.line, hint = refused.hint, context = fields.aftermath,
            message = ("%s:%d: %s"):format(hook.path, refused.line, refused.message),
        }
    end
    tell_applied(conn, fields)
    for _, statement in ipairs(statements) do
        local ok, e = pcall(sending.send, conn, statement, on_notice)
        if not ok then
            if not errors.is(e) or sending.is_interruption(e) then error(e, 0) end
            error(report.failed(e, hook.path, statement, fields.aftermath or NOTHING), 0)
        end
    end
end

local VETO <const> = "it is a hook that refuses the run: do what it asks for first"

---@param hint? string
local function stop(hook, why, fields, hint)
    local message = ("%s stopped the run: %s"):format(hook.path, why)
    local lines = { (message:gsub("\n", "\n  ")) }
    if hint then lines[2] = "  hint: " .. hint end
    lines[#lines + 1] = "  " .. (fields.aftermath or NOTHING)
    errors.raise {
        kind = "query", message = message, hint = hint, file = hook.path, context = fields.aftermath,
        text = table.concat(lines, "\n"),
    }
end

---An error of a statement or a function in a hook, prefixed with the hook's file.
local function raise_in_hook(hook, e, fields)
    if sending.is_interruption(e) then error(e, 0) end
    error(report.of_code(e, hook.path, fields.aftermath or NOTHING), 0)
end

---Adds the stack frames of the hook's code, without dbrun's, to an error that is not an error object.
local function traced(e)
    if errors.is(e) then return e end
    local trace = debug.traceback(nil, 2):gsub("\n[^\n]*dbrun/migrate/run/%a+%.lua.*$", "")
    return tostring(e) .. "\n" .. trace
end

local function run_lua(hook, conn, fields, on_notice)
    local chunk, why = load(fs.read(hook.path), "@" .. hook.path, "t")
    if not chunk then stop(hook, "it is not valid Lua: " .. why, fields) end
    local ctx = context.new(conn, fields)
    local ok, verdict, reason = xpcall(exit_guard.call, traced, "the hook " .. hook.path, function()
        local result, because
        sending.listening(conn, on_notice, function()
            result, because = chunk(ctx)
            if type(result) == "function" then result, because = result(ctx) end
        end)
        return result, because
    end)
    if not ok and errors.is(verdict) then raise_in_hook(hook, verdict, fields) end
    if not ok then stop(hook, verdict, fields) end
    -- Many functions return nil, "why" when they fail.
    if verdict == false or verdict == nil and reason ~= nil then
        stop(hook, tostring(reason or "it said no"), fields, VETO)
    end
end

---A listener's function for what the server says of a hook's statements.
---@param hook dbrun.migrate.Hook
---@param listener? dbrun.migrate.Listener
---@return nil|fun(notice: dbrun.Notice, statement?: dbrun.migrate.Statement)
function M.on_notice(hook, listener)
    return notices.of_file(listener, hook.path)
end

---@param hook dbrun.migrate.Hook
---@param conn? table
---@param fields table of its context
---@param on_notice? fun(notice: dbrun.Notice, statement?: dbrun.migrate.Statement)
function M.call(hook, conn, fields, on_notice)
    local ok, e = pcall(hook.kind == "sql" and run_sql or run_lua, hook, conn, fields, on_notice)
    if ok then return end
    -- An interruption or a timeout says why the program ended, not what it was doing.
    if errors.is(e, "cancelled") then
        core.log.write("warn", ("%s was interrupted. %s"):format(hook.path, fields.aftermath or NOTHING))
    end
    error(e, 0)
end

---Calls the hook in a transaction. An error of its COMMIT gets the hook's file, too.
---@param hook dbrun.migrate.Hook
---@param conn table
---@param fields table of its context
---@param around? fun(tx: table, fn: fun())
---@param on_notice? fun(notice: dbrun.Notice, statement?: dbrun.migrate.Statement)
function M.in_transaction(hook, conn, fields, around, on_notice)
    local ok, e = pcall(conn.transaction, conn, function(tx)
        if around then around(tx, function() M.call(hook, tx, fields, on_notice) end)
        else M.call(hook, tx, fields, on_notice) end
        if on_notice then tx:on_notice(on_notice) end -- triggers that run at COMMIT
    end)
    if on_notice then pcall(conn.on_notice, conn, nil) end -- the connection may be lost
    if ok then return end
    if errors.is(e) and not e.file then
        raise_in_hook(hook, e, e.outcome ~= "unknown" and fields or { aftermath = (fields.aftermath or NOTHING)
            .. " Whether its own changes were kept is not known." })
    end
    error(e, 0)
end

return M
