--- Hooks: files named <event>[__what].sql or .lua that run at the events of a migration run, and before and after seeds
--- and a verification.
---
--- Events, names and order are Flyway's. The each-events run inside the migration's own transaction; every other hook
--- has its own. A Lua file is called with a context (dbrun.migrate.run.context), as `...` or by the function that it
--- returns; `false, "reason"`, or an error, stops the run: a veto. The error names the file, and says what stays.
local blocks = require "dbrun.migrate.read.blocks"
local context = require "dbrun.migrate.run.context"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local exit_guard = require "dbrun.exit_guard"
local fs = require "dbrun.fs"
local nearest = require "dbrun.nearest"
local notices = require "dbrun.migrate.show.notices"
local report = require "dbrun.migrate.show.report"
local script = require "dbrun.migrate.read.script"
local sending = require "dbrun.migrate.run.send"

local M = {}

---In the order of a run.
---@type string[]
M.EVENTS = {
    "beforeConnect", "afterConnect",
    "beforeMigrate", "beforeEachMigrate", "afterEachMigrate", "afterEachMigrateError", "beforeRepeatables",
    "afterVersioned", "afterMigrateApplied", "afterMigrate", "afterMigrateError",
    "beforeUndo", "beforeEachUndo", "afterEachUndo", "afterEachUndoError", "afterUndo", "afterUndoError",
    "beforeSeed", "afterSeed", "afterSeedError", "beforeVerify", "afterVerify",
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
---@field listener? dbrun.migrate.Listener gets the server's messages (NOTICE, WARNING) of the hooks

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

local NOTHING <const> = "It is a hook; the run was stopped."

---What a hook's SQL may read: current_setting('dbrun.applied', true), a list of objects in JSON.
local function tell_applied(conn, fields)
    if not fields.applied or fields.migration then return end -- a file may run without a transaction
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

---An error of a statement or a function in a hook, with the hook's file in front.
local function raise_in_hook(hook, e, fields)
    if sending.is_interruption(e) then error(e, 0) end
    local where = report.place(e.where, hook.path)
    local message = ("%s: %s%s"):format(where, e.message, e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or "")
    local out = { message }
    for _, field in ipairs { "detail", "hint", "context" } do
        if e[field] then out[#out + 1] = ("  %s: %s"):format(field, (e[field]:gsub("\n", "\n    "))) end
    end
    out[#out + 1] = "  " .. (fields.aftermath or NOTHING)
    errors.raise {
        kind = (e.kind == "usage" or e.kind == "config") and "query" or e.kind, sqlstate = e.sqlstate,
        detail = e.detail, hint = e.hint, outcome = e.outcome, retryable = e.retryable, file = hook.path,
        line = math.tointeger(tonumber(where:match ":(%d+)$")), message = message, text = table.concat(out, "\n"),
    }
end

---An error that is no error object, with the frames of the hook's own code; dbrun's are behind them.
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
    -- `return nil, "why"` is how many functions say that they failed.
    if verdict == false or verdict == nil and reason ~= nil then
        stop(hook, tostring(reason or "it said no"), fields, VETO)
    end
end

local function call(hook, conn, fields, on_notice)
    local ok, e = pcall(hook.kind == "sql" and run_sql or run_lua, hook, conn, fields, on_notice)
    if ok then return end
    -- The program says that it was interrupted or took too long, not what it did then.
    if errors.is(e, "cancelled") then
        core.log.write("warn", ("%s was interrupted. %s"):format(hook.path, fields.aftermath or NOTHING))
    end
    error(e, 0)
end

---The fields of a context for one hook.
local function fields_for(event, fields)
    local more = { event = event }
    for key, value in pairs(fields or {}) do more[key] = value end
    return more
end

---Calls the hook in a transaction. An error of its COMMIT gets the hook's file, too.
---@param around? fun(tx: table, fn: fun())
local function in_transaction(hook, conn, fields, around, on_notice)
    local ok, e = pcall(conn.transaction, conn, function(tx)
        if around then around(tx, function() call(hook, tx, fields, on_notice) end)
        else call(hook, tx, fields, on_notice) end
        if on_notice then tx:on_notice(on_notice) end -- triggers that run at COMMIT
    end)
    if on_notice then pcall(conn.on_notice, conn, nil) end -- the connection may be lost
    if ok then return end
    if errors.is(e) and not e.file then raise_in_hook(hook, e, fields) end
    error(e, 0)
end

---Runs the hooks of an event, in order.
---@param hooks dbrun.migrate.Hooks
---@param event string
---@param conn? table
---@param fields? table for the context; `applied`: see dbrun.migrate.run.context; `aftermath`: what stays when a hook
---fails, in a sentence
---@param own? boolean each in its own transaction
---@param around? fun(tx: table, fn: fun()) calls fn in that transaction
function M.run(hooks, event, conn, fields, own, around)
    for _, hook in ipairs(hooks.by_event[event] or {}) do
        local more = fields_for(event, fields)
        local on_notice = conn and notices.of_file(hooks.listener, hook.path)
        if own then
            in_transaction(hook, conn, more, around, on_notice)
        else
            call(hook, conn, more, on_notice)
        end
    end
end

---Runs the hooks of an event that may find no server: SQL in a transaction of its own, Lua without one, so that it
---can tell somewhere else.
---@param hooks dbrun.migrate.Hooks
---@param event string
---@param engine table an engine; it connects when it is used
---@param fields table
function M.run_outside(hooks, event, engine, fields)
    for _, hook in ipairs(hooks.by_event[event] or {}) do
        local more = fields_for(event, fields)
        -- What a hook has set in a session (a role, a time limit) is gone behind it.
        local _ <close> = setmetatable({}, { __close = function() engine:invalidate() end })
        if hook.kind == "lua" then
            call(hook, engine, more)
        else
            in_transaction(hook, engine, more)
        end
    end
end

---The hooks of a folder if it has any: without a folder nothing else is loaded.
---@param dir? string nil: DBRUN_HOOKS_DIR, which need not exist
---@return dbrun.migrate.Hooks
function M.from(dir)
    return M.load(dir or require("dbrun.config").DBRUN_HOOKS_DIR, dir ~= nil)
end

local VERBS <const> = { up = "applied", down = "taken back" }

---What a hook finds in `ctx.applied`.
---@param done { file: dbrun.migrate.File, direction: "up"|"down", seconds: number }[]
---@return dbrun.migrate.Applied[]
function M.applied(done)
    local list = {}
    for i, one in ipairs(done) do
        list[i] = {
            version = one.file.version, name = one.file.name, path = one.file.path, direction = one.direction,
            seconds = one.seconds,
        }
    end
    return list
end

---What stays when a hook around the migrations fails.
---@param done { file: dbrun.migrate.File, direction: "up"|"down" }[]
---@return string
function M.aftermath(done)
    if #done == 0 then return "It is a hook; no migration was run." end
    local count = { up = 0, down = 0 }
    for _, one in ipairs(done) do count[one.direction] = count[one.direction] + 1 end
    local parts = {}
    for _, direction in ipairs { "down", "up" } do
        local n = count[direction]
        if n > 0 then parts[#parts + 1] = ("%d migration%s %s"):format(n, n == 1 and " was" or "s were",
            VERBS[direction]) end
    end
    return ("It is a hook; %s before it, and that stays. The last one was %s."):format(table.concat(parts, " and "),
        done[#done].file.name)
end

return M
