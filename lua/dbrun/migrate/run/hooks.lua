--- Hooks: files named <event>[__what].sql or .lua that run at the events of a migration run, and before and after seeds
--- and a verification.
---
--- Events, names and order are Flyway's. The each-events run inside the migration's own transaction; every other hook
--- has its own. How one is run: dbrun.migrate.run.hook, which is loaded when there is one.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local nearest = require "dbrun.nearest"

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

---The fields of a context for one hook.
local function fields_for(event, fields)
    local more = { event = event }
    for key, value in pairs(fields or {}) do more[key] = value end
    return more
end

---Runs the hooks of an event, in order.
---@param hooks dbrun.migrate.Hooks
---@param event string
---@param conn? table
---@param fields? table for the context; `applied`: see dbrun.migrate.run.context; `aftermath`: what stays applied when
---a hook fails, in a sentence
---@param own? boolean each in its own transaction
---@param around? fun(tx: table, fn: fun()) calls fn in that transaction
function M.run(hooks, event, conn, fields, own, around)
    for _, hook in ipairs(hooks.by_event[event] or {}) do
        local more, running = fields_for(event, fields), require "dbrun.migrate.run.hook"
        local on_notice = conn and running.on_notice(hook, hooks.listener)
        if own then
            running.in_transaction(hook, conn, more, around, on_notice)
        else
            running.call(hook, conn, more, on_notice)
        end
    end
end

---Runs the hooks of an event that can occur without a server: SQL in its own transaction, Lua without one, so that it
---can report elsewhere.
---@param hooks dbrun.migrate.Hooks
---@param event string
---@param engine table an engine; it connects when it is used
---@param fields table
function M.run_outside(hooks, event, engine, fields)
    for _, hook in ipairs(hooks.by_event[event] or {}) do
        local more, running = fields_for(event, fields), require "dbrun.migrate.run.hook"
        -- Session state that a hook sets (a role, a time limit) is reset after it.
        local _ <close> = setmetatable({}, { __close = function() engine:invalidate() end })
        if hook.kind == "lua" then
            running.call(hook, engine, more)
        else
            running.in_transaction(hook, engine, more)
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

---The value of `ctx.applied` for hooks.
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

---Says what stays applied when a hook around the migrations fails.
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
