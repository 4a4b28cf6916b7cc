--- Errors in a dry run, with an explanation of the dry run's part in them.
local errors <const> = require "dbrun.error"
local turns <const> = require "dbrun.dry.turn"

local M = {}

---Prints a message once for each connection.
---@param conn dbrun.dry.Connection
---@param key string
---@param text string
function M.tell_once(conn, key, text)
    conn.told = conn.told or {}
    if conn.told[key] then return end
    conn.told[key] = true
    require "dbrun.dry".tell(text)
end

---The error of a connection whose transaction has ended.
---@param conn dbrun.dry.Connection
---@param e any
---@param ended boolean by a statement, not by the end of the connection
---@return dbrun.Error
function M.lost(conn, e, ended)
    local cause <const> = errors.is(e) and e.message or tostring(e)
    if ended then
        return errors.new {
            kind = "usage", outcome = "unknown", retryable = false,
            message = ("something ended the transaction of the dry run: what it did in %s may be kept"):format(
                conn.database),
            detail = cause, hint = "Look at the database, and at what the statement calls.",
            statement = errors.is(e) and e.statement or nil,
        }
    end
    return errors.new {
        kind = "connect", outcome = "failed", retryable = false, sqlstate = errors.is(e) and e.sqlstate or nil,
        message = ("the dry run lost its transaction in %s, nothing of it was kept, and it cannot go on: %s"):format(
            conn.database or "the database", cause),
        detail = errors.is(e) and e.detail or nil,
        hint = "All of a dry run is one transaction on one connection. Run it again when the database is well.",
        statement = errors.is(e) and e.statement or nil,
    }
end

---The error when a transaction of the task has failed, and other work of the task needs the connection.
function M.raise_failed_around()
    errors.raise {
        kind = "query", sqlstate = "25P02", severity = "ERROR", outcome = "not_sent", retryable = false,
        message = "a transaction around this statement has failed, and in a dry run both are on one connection",
        hint = "Return from that transaction before other work is done; a run that is no dry one has a second "
            .. "connection for it.",
    }
end

---Raises the server's error for a statement that needs a transaction, if the script has not begun one.
---@param facts dbrun.dry.Facts
---@param sql string
function M.outside(facts, sql)
    local what <const> = facts.savepoints and "SAVEPOINT" or #facts.statements == 1 and facts.statements[1].needs
    if not what then return end
    errors.raise {
        kind = "query", sqlstate = "25P01", severity = "ERROR", outcome = "not_sent", retryable = false,
        message = what .. " can only be used in transaction blocks", hint = "engine:transaction(fn) is one",
        statement = sql,
    }
end

local WORDS <const> = {
    ["25001"] = { "cannot run in a dry run, which is one transaction",
        "leave it out in a dry run: if not require(\"dbrun\").dry_run then ... end" },
    ["2D000"] = { "a procedure or DO block that commits cannot run in a dry run, which is one transaction",
        "leave it out in a dry run: if not require(\"dbrun\").dry_run then ... end" },
}

--- Whether another connection of this dry run holds locks in the same database.
local function other_of(conn)
    for _, other in ipairs(conn.all) do
        if other ~= conn and other.real and other.database == conn.database then return other end
    end
end

---Prints what the second connection to a database does not see.
---@param conn dbrun.dry.Connection that has just been opened
function M.second(conn)
    local other <const> = other_of(conn)
    if not other then return end
    local both <const> = conn.name ~= other.name and ("%s and %s"):format(other.name, conn.name) or "two engines"
    M.tell_once(conn, "second", ("%s have a transaction each in %s: neither sees what the other changes"):format(both,
        conn.database))
end

---Adds the dry run's part in an error of a statement.
---@param conn dbrun.dry.Connection
---@param e any
---@return any
function M.statement(conn, e)
    if not errors.is(e) or not e.sqlstate then return e end
    local words <const> = WORDS[e.sqlstate]
    if words then
        e.message = ("%s (%s)"):format(words[1]:find "^cannot" and "this statement " .. words[1] or words[1], e.message)
        e.hint = words[2]
    elseif e.sqlstate == "55P03" and e.routine == "ProcessInterrupts" then -- not that of NOWAIT
        local other <const> = other_of(conn)
        if other then
            e.hint = ("In a dry run %s and %s have one transaction each, which keeps its locks until the end: the one "
                .. "of %s may hold this one. Use one of them for both. Or another session holds it: --lock-timeout S "
                .. "waits longer (%g now)."):format(
                conn.name, other.name ~= conn.name and other.name or "another engine",
                other.name ~= conn.name and other.name or "the other", turns.limit())
        else
            e.hint = ("Another session holds this lock. A dry run waits %g s for a lock; --lock-timeout S waits "
                .. "longer."):format(turns.limit())
        end
    end
    return e
end

---The line of the summary when the end failed.
---@param conn dbrun.dry.Connection
---@param e any
---@return string
function M.unfinished(conn, e)
    return ("the rows in %s are not counted: %s"):format(conn.database or "the database",
        errors.is(e) and e.message or tostring(e))
end

return M
