--- Hooks: files named <event>[__what].sql or .lua that run at the events of a migration run.
---
--- Events, names and order are Flyway's. The each-events run inside the migration's own transaction; every other hook
--- has its own. A Lua file is called with a context (dbrun.migrate.run.context), as `...` or by the function that it
--- returns; `false, "reason"`, or an error, stops the run: a veto.
local blocks = require "dbrun.migrate.read.blocks"
local context = require "dbrun.migrate.run.context"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local nearest = require "dbrun.nearest"
local report = require "dbrun.migrate.show.report"
local split = require "dbrun.migrate.read.split"

local M = {}

---In the order of a run.
---@type string[]
M.EVENTS = {
    "beforeConnect", "afterConnect",
    "beforeMigrate", "beforeEachMigrate", "afterEachMigrate", "afterEachMigrateError", "beforeRepeatables",
    "afterVersioned", "afterMigrateApplied", "afterMigrate", "afterMigrateError",
    "beforeUndo", "beforeEachUndo", "afterEachUndo", "afterEachUndoError", "afterUndo", "afterUndoError",
}

local known = {}
for _, event in ipairs(M.EVENTS) do known[event] = true end

---@class dbrun.migrate.Hook
---@field event string
---@field what? string
---@field name string file name
---@field path string
---@field kind "sql"|"lua"

---@class dbrun.migrate.Hooks
---@field by_event table<string, dbrun.migrate.Hook[]>

local function unknown_event(path, event)
    local near = nearest.find(event, M.EVENTS)
    errors.fail("config", ("%s: '%s' is not an event of a migration"):format(path, event),
        near and ("did you mean '%s'?"):format(near)
            or "keep other files in another folder; the events: " .. table.concat(M.EVENTS, ", "))
end

---Reads the names of a folder.
---@param dir? string nil: no hooks
---@param must? boolean a missing folder is an error
---@return dbrun.migrate.Hooks
---Raises an error of kind `config`: an event that does not exist, two hooks with one name, no such folder.
function M.load(dir, must)
    local hooks, names = { by_event = {} }, {}
    if not dir or (not fs.exists(dir) and not must) then return hooks end
    if not fs.exists(dir) then
        errors.fail("config", ("there is no hooks folder '%s'"):format(dir))
    end
    for _, name in ipairs(fs.list(dir)) do
        local base, kind = name:match "^([^.].*)%.(%l+)$"
        if kind == "sql" or kind == "lua" then
            local path = dir:gsub("/+$", "") .. "/" .. name
            local event, what = base:match "^(.-)__(.*)$"
            event = event or base
            if not known[event] then unknown_event(path, event) end
            if kind == "sql" and event == "beforeConnect" then
                errors.fail("config", path .. ": before there is a connection no SQL can run",
                    "write it in Lua, or name it afterConnect")
            end
            if names[base] then
                errors.fail("config", ("two hooks are called '%s': %s and %s"):format(base, names[base], path),
                    "rename one: <event>__what.sql")
            end
            names[base] = path
            local list = hooks.by_event[event] or {}
            hooks.by_event[event] = list
            list[#list + 1] = { event = event, what = what, name = name, path = path, kind = kind }
        end
    end
    for _, list in pairs(hooks.by_event) do
        table.sort(list, function(a, b)
            if not a.what or not b.what then return not a.what and b.what ~= nil end
            return a.what < b.what
        end)
    end
    return hooks
end

---@param hooks dbrun.migrate.Hooks
---@param events string[]
---@return boolean
function M.any(hooks, events)
    for _, event in ipairs(events) do
        if hooks.by_event[event] then return true end
    end
    return false
end

local function run_sql(hook, conn)
    local text = fs.read(hook.path)
    local escapes = conn.parameters.standard_conforming_strings == "off"
    local statements = split.split(text, 1, escapes)
    local refused = blocks.unfinished(text, 1, escapes) or blocks.in_transaction(statements, "hook", "remove it")
    if refused then
        errors.fail("query", ("%s:%d: %s"):format(hook.path, refused.line, refused.message), refused.hint)
    end
    for _, statement in ipairs(statements) do
        local ok, e = pcall(conn.exec, conn, statement.sql)
        if not ok then
            if not errors.is(e) or e.kind == "cancelled" then error(e, 0) end
            error(report.failed(e, hook.path, statement, "It is a hook; the run was stopped."), 0)
        end
    end
end

local function veto(hook, why)
    errors.raise {
        kind = "query",
        message = ("%s stopped the run: %s"):format(hook.path, why),
        hint = "it is a hook that refuses the run: do what it asks for first",
        file = hook.path,
    }
end

local function run_lua(hook, conn, fields)
    local chunk, why = load(fs.read(hook.path), "@" .. hook.path, "t")
    if not chunk then veto(hook, "it is not valid Lua: " .. why) end
    local ctx = context.new(conn, fields)
    local ok, verdict, reason = xpcall(function()
        local result, because = chunk(ctx)
        if type(result) == "function" then result, because = result(ctx) end
        return result, because
    end, function(e) return errors.is(e) and e or debug.traceback(tostring(e), 2) end)
    if not ok and errors.is(verdict) then error(verdict, 0) end
    if not ok then veto(hook, verdict) end
    if verdict == false then veto(hook, tostring(reason or "it said no")) end
end

---Runs the hooks of an event, in order.
---@param hooks dbrun.migrate.Hooks
---@param event string
---@param conn? table
---@param fields? table for the context
---@param own? boolean each in its own transaction
---@param each? fun(tx: table) called first in that transaction
function M.run(hooks, event, conn, fields, own, each)
    for _, hook in ipairs(hooks.by_event[event] or {}) do
        local more = { event = event }
        for key, value in pairs(fields or {}) do more[key] = value end
        local function call(on)
            if each and own then each(on) end
            if hook.kind == "sql" then run_sql(hook, on) else run_lua(hook, on, more) end
        end
        if own then conn:transaction(call) else call(conn) end
    end
end

return M
