--- Cleans the session between two files, so that no file sees what another left.
---
--- A dedicated session is reset, or replaced where a reset is not enough: after code that may keep state in the server
--- process, after settings with a dot in their names, which RESET sets to empty instead of removing, and before ALTER
--- EXTENSION, which some libraries allow only while no older version of the library is loaded. Behind a pooler a
--- session is shared and lasts for one transaction, so what a file leaves is undone inside its own transaction.
local core = require "dbrun.core"
local settings = require "dbrun.migrate.run.settings"
local split = require "dbrun.migrate.read.split"
local state = require "dbrun.migrate.run.state"
local tree = require "dbrun.sql.tree"

local catalog <const> = require "dbrun.db.catalog"

local M = {}

-- ---- in a transaction ----

---Deferred triggers run before anything is undone, because they belong to the file.
local SETTLE <const> = "set constraints all immediate; "

---What is undone.
local UNDO <const> = catalog.sql [[
reset role; set session authorization default; reset all; close all; unlisten *;
discard temp; discard sequences; select {pg_advisory_unlock_all}() /* dbrun */]]

---Statements that a driver or a pooler has prepared are kept.
local PREPARED <const> = catalog.sql [[
select {format}('deallocate %I /* dbrun */', name) as sql from {pg_prepared_statements} where from_sql]]

---Undoes in the open transaction what was done to the session, in it or before it.
---@param tx table
---@param settled? boolean no deferred constraint or trigger is pending
function M.undo(tx, settled)
    tx:exec((settled and "" or SETTLE) .. UNDO)
    for _, row in ipairs(tx:query(PREPARED)) do tx:exec(row.sql) end
end

---Ends a failed transaction and undoes what a rollback does not: prepared statements and advisory locks. ROLLBACK and
---BEGIN are one message, so that a pooler cannot give the session to another client in between.
local function undo_failed(tx)
    core.task.shield(function()
        pcall(function()
            tx:drained()
            if not tx:in_transaction() then return end
            local guarded <const> = tx:guard()
            if guarded then tx:guard(false) end
            tx:exec "rollback; begin /* dbrun */"
            if guarded then tx:guard(true) end
            M.undo(tx)
        end)
    end)
end

---Calls fn() in the open transaction of a shared session. If fn fails, a new transaction is open afterwards, which the
---caller must roll back.
---@param tx table
---@param fn fun()
function M.shared(tx, fn)
    local ok, e = pcall(fn)
    if ok then return end
    undo_failed(tx)
    error(e, 0)
end

---Like M.shared, but also undoes the effects on the session when fn has succeeded.
---@param tx table
---@param fn fun()
function M.undone(tx, fn)
    M.shared(tx, function()
        fn()
        M.undo(tx)
    end)
end

-- ---- a dedicated session ----

local CODE <const> = { ["do"] = true, call = true, load = true }

---The extension whose library changes with this statement.
local function updated_extension(statement)
    local first <const>, second <const> = split.first_words(statement.sql, 2)
    if first ~= "alter" or second ~= "extension" then return nil end
    local kind <const>, body <const> = tree.of(statement.tree_sql or statement.sql)
    if kind then return kind == "AlterExtensionStmt" and body.extname or nil end
    return split.plain(statement.sql):match '^alter extension "?([%w_-]+)"? update'
end

---Whether a reset of the session is not enough after a file.
local function outlasts_reset(work)
    if work.section.fn then return true end
    for _, statement in ipairs(work.statements) do
        local word <const> = split.first_words(statement.sql, 1)
        if CODE[word] or word == "alter" and updated_extension(statement) then return true end
    end
    return #state.custom_names(work.section.sql) > 0
end

---Records that a file, or hooks (nil), have used the session.
---@param run dbrun.migrate.Run
---@param work? dbrun.migrate.Work
function M.used(run, work)
    if run.pooled then return end
    run.soiled = (run.soiled == "replace" or not work or outlasts_reset(work)) and "replace" or "reset"
end

---Restores the initial state of the session, with the settings of the run.
---@param run dbrun.migrate.Run
---@param work? dbrun.migrate.Work what is about to run
function M.clean(run, work)
    if run.pooled then return end
    local first <const> = work and work.statements[1]
    local extension <const> = first and updated_extension(first)
    local before
    run.unloaded = extension == "timescaledb" and not run.lent -- a pooler refuses settings of a connection
    if run.soiled == "clean" and not extension then return end
    local replaced <const> = run.soiled == "replace" or extension
    if replaced then run.conn = run.opts.sessions.replace(run.unloaded) end
    -- The previous client of a pooler's session may have left something in it.
    if run.lent or run.soiled == "reset" and not replaced then
        run.conn:exec "discard all /* dbrun */"
        before = "reset role; "
    end
    run.soiled = "clean"
    settings.session(run.conn, run.opts, before)
end

---Undoes what the last file has left in the session, before a pooler gives it to another client.
---@param run dbrun.migrate.Run
function M.give_back(run)
    if not run.lent then return end
    pcall(function() -- a connection that fails is closed
        run.conn:exec "discard all /* dbrun */"
        run.conn:exec "reset role /* dbrun */"
    end)
end

---Makes a session that was opened without TimescaleDB's library load it, in the present version: without it hypertables
---are ordinary tables, and rows would be written to the wrong place.
---@param run dbrun.migrate.Run
function M.load(run)
    if not run.unloaded then return end
    run.unloaded = false
    run.conn:exec "set timescaledb.disable_load = off /* dbrun */"
end

---Calls fn() in a session with the library, before the file that updates it gets one without.
---@param run dbrun.migrate.Run
---@param work dbrun.migrate.Work
---@param fn fun()
function M.before_update(run, work, fn)
    if not run.unloaded then return fn() end
    run.soiled = "replace"
    M.clean(run)
    fn()
    M.clean(run, work)
    M.used(run, work)
    run.conn:verbatim(true)
end

---A new session for a retry of a file whose first statement may have loaded a library.
---@param run dbrun.migrate.Run
---@param work dbrun.migrate.Work
function M.again(run, work)
    local first <const> = work.statements[1]
    if run.pooled or not (first and updated_extension(first)) then return end
    M.clean(run, work)
    M.used(run, work)
    run.conn:verbatim(true)
end

return M
