--- The session of a seed: what a seed sets, makes and locks in it is undone before the next seed, and before the
--- connection returns to its pool. (pg_dump's files begin with search_path = ''.)
local between = require "dbrun.migrate.run.between"
local settings = require "dbrun.migrate.run.settings"
local state = require "dbrun.migrate.run.state"

local M = {}

---@class dbrun.seed.Session
---@field pooled boolean behind a pooler, sessions last for a transaction
---@field escapes boolean standard_conforming_strings is off
---@field tx? table the transaction of a dry run, in which everything happens

---@param conn table a leased connection
---@return dbrun.seed.Session
function M.look(conn)
    return {
        pooled = settings.pooled(conn), escapes = conn.parameters.standard_conforming_strings == "off",
    }
end

---Undoes all changes, and restores the session's own role and settings, which on_connect may have set.
local function undo(tx, before, names)
    if state.read(tx, names).text == before.text then return false end
    between.undo(tx, true)
    state.restore(tx, state.parse(state.difference(state.read(tx, names), before, false)))
    return true
end

---Runs deferred constraints and triggers now. In a dry run this is reset afterwards, so that they are deferred in the
---next seed too; otherwise the transaction ends after it.
---@param session dbrun.seed.Session
---@param tx table
function M.settle(session, tx)
    tx:exec(session.tx and "savepoint dbrun_settle; set constraints all immediate; rollback to savepoint dbrun_settle; "
        .. "release savepoint dbrun_settle /* dbrun */" or "set constraints all immediate /* dbrun */")
end

---@class dbrun.seed.Work
---@field begin fun(tx: table): boolean is there something to do?
---@field run fun(tx: table)
---@field note fun(tx: table) in the session that begin() had

---Does a seed's work in one transaction.
---@param session dbrun.seed.Session
---@param parent table an engine, or the transaction of a dry run
---@param text string of the file
---@param work dbrun.seed.Work
function M.run(session, parent, text, work)
    local names <const>, changed = state.custom_names(text), false
    local function whole(tx)
        if not work.begin(tx) then return end
        changed = true
        local before <const> = state.read(tx, names)
        work.run(tx)
        changed = undo(tx, before, names)
        work.note(tx)
    end
    if session.tx then return session.tx:transaction(whole) end
    M.lease(session, parent, function(conn)
        conn:transaction(function(tx)
            if not session.pooled then return whole(tx) end
            between.shared(tx, function() whole(tx) end)
        end)
        return changed
    end)
end

---Calls fn(conn) with a connection of the engine, and closes it unless fn returns false, which means that its session
---is unchanged. Behind a pooler closing would be of no use.
---@param session dbrun.seed.Session
---@param engine table
---@param fn fun(conn: table): boolean?
function M.lease(session, engine, fn)
    local conn <close> = engine:acquire()
    local ok, e = pcall(fn, conn)
    if not session.pooled and not (ok and e == false) then conn:invalidate() end
    if not ok then error(e, 0) end
end

---Calls a hook in its transaction.
---@param session dbrun.seed.Session
---@return nil|fun(tx: table, fn: fun())
function M.around(session)
    return session.pooled and not session.tx and between.undone or nil
end

return M
