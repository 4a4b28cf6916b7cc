--- Errors of dbrun's own statements, which make, read and write the tables of versions. The errors say what was being
--- done, which statement of the file may have caused them, and which right is missing.
local errors = require "dbrun.error"
local records = require "dbrun.migrate.book.records"
local split = require "dbrun.migrate.read.split"

local M = {}

-- ---- rights ----

---The role that lacks a right: the session's, as far as it answers.
local function role_of(conn)
    local ok, role = pcall(conn.value, conn, "select pg_catalog.quote_ident(current_user)")
    return ok and role or "ROLE"
end

local function quote(name)
    return name:find "^[%l_][%l%d_$]*$" and name or '"' .. name:gsub('"', '""') .. '"'
end

---@class dbrun.migrate.OwnTables
---@field names table<string, true>
---@field sql string their quoted names, for a GRANT
---@field elsewhere string another remedy when they cannot be made
---@field owner string another remedy when they cannot be written

---@param book dbrun.migrate.Ledger
---@return dbrun.migrate.OwnTables
local function tables_of(book)
    return {
        names = { [book.name] = true, [book.name .. "_dbrun"] = true }, sql = book.sql .. ", " .. records.table(book),
        elsewhere = ", or name another schema: --table SCHEMA." .. book.name,
        owner = "; MIGRATION_DATABASE_URL can name their owner",
    }
end

---@type dbrun.migrate.OwnTables
local OF_SEEDS <const> = { names = { dbrun_seeds = true }, sql = "dbrun_seeds", elsewhere = "", owner = "" }

---The GRANT for an error 42501; nil: its text names nothing known.
---@param e dbrun.Error
---@param tables dbrun.migrate.OwnTables
---@param role string quoted
---@return string?
local function missing_right(e, tables, role)
    if e.sqlstate ~= "42501" then return nil end
    local schema <const> = e.message:match "for schema (.+)$"
    if schema then
        return ("grant usage, create on schema %s to %s (since PostgreSQL 15 nobody but the owner of the database may "
            .. "create in public)%s"):format(quote(schema), role, tables.elsewhere)
    end
    local name <const> = e.message:match "for table (.+)$" or e.message:match "owner of table (.+)$"
    if tables.names[name] then
        return ("grant select, insert, update, delete on %s to %s%s"):format(tables.sql, role, tables.owner)
    end
    if e.message:find "for database" then
        return ("grant create on database %s to %s"):format(quote(e.message:match "for database (.+)$"), role)
    end
end

---Adds the GRANT to an error of a run that is not about a file.
---@param e any
---@param conn table
---@param book dbrun.migrate.Ledger
function M.add_hint(e, conn, book)
    if errors.is(e) and e.sqlstate == "42501" and not e.file then
        e.hint = missing_right(e, tables_of(book), role_of(conn)) or e.hint
    end
end

-- ---- what the file did ----

---First words of statements that remove tables or rights without naming them.
local BROAD <const> = {
    "^drop schema", "^alter schema", "^drop owned", "^reassign owned", "^revoke", "^alter role", "^alter user",
    "^alter database", "^set session_replication_role", "^create event trigger", "^drop role", "^alter default",
}

local function is_broad(text)
    for _, pattern in ipairs(BROAD) do
        if text:find(pattern) then return true end
    end
    return false
end

---A statement after which the transaction may not write.
local function is_read_only(text)
    return text:find "^set .*read only" ~= nil or text:find "^set .*_read_only" ~= nil
end

---The statement of a file that may have caused the failure of a record: one that makes the transaction read-only, if
---that is the failure; else the last one that names one of the tables; else the last one that removes rights or
---schemas.
---@param statements dbrun.migrate.Statement[]
---@param name string of a table
---@param sqlstate? string
---@return dbrun.migrate.Statement?
local function culprit(statements, name, sqlstate)
    local broad
    for i = #statements, 1, -1 do
        local sql <const> = statements[i].sql
        local text <const> = split.plain(sql)
        if sqlstate == "25006" then
            if is_read_only(text) then return statements[i] end
        elseif sql:find(name, 1, true) or sql:lower():find(name:lower(), 1, true) then
            return statements[i]
        elseif not broad and is_broad(text) then
            broad = statements[i]
        end
    end
    return broad
end

local CHANGED <const> = "  this statement of the file has changed what dbrun writes to"

---@class dbrun.migrate.OwnFailure the part of a file in the failure of one of dbrun's own statements
---@field path string of the file
---@field line? integer shown if no statement of the file is to blame
---@field cause? dbrun.migrate.Statement of the file
---@field hint? string
---@field aftermath string what stays applied

---The error of one of dbrun's own statements between the statements of a file.
---@param e dbrun.Error
---@param failure dbrun.migrate.OwnFailure
---@return dbrun.Error
local function told(e, failure)
    local cause <const> = failure.cause
    local message <const> = ("%s%s: while %s: %s (SQLSTATE %s)"):format(failure.path, cause and ":" .. cause.line or "",
        e.own, e.message, e.sqlstate)
    local out = { message }
    if cause then
        out[2] = ("%6d | %s"):format(cause.line, cause.sql:match "^[^\r\n]*")
        out[3] = e.sqlstate == "25006" and "  after this statement of the file nothing can be recorded" or CHANGED
    end
    for _, field in ipairs { { "detail", e.detail }, { "hint", failure.hint } } do
        if field[2] then out[#out + 1] = ("  %s: %s"):format(field[1], (field[2]:gsub("\n", "\n    "))) end
    end
    out[#out + 1] = "  " .. failure.aftermath
    return errors.new {
        kind = "query", message = message, sqlstate = e.sqlstate, detail = e.detail, hint = failure.hint,
        context = "while " .. e.own, retryable = e.retryable, outcome = e.outcome, file = failure.path,
        line = cause and cause.line or failure.line, text = table.concat(out, "\n"),
    }
end

---@param e dbrun.Error
---@param work dbrun.migrate.Work
---@param run dbrun.migrate.Run
---@param aftermath string the state of the migration
---@return dbrun.Error
function M.of_record(e, work, run, aftermath)
    local cause <const> = culprit(work.statements, run.book.name, e.sqlstate)
    return told(e, {
        path = work.file.path, line = work.section.line, cause = cause, aftermath = aftermath,
        hint = missing_right(e, tables_of(run.book), run.own and quote(run.own.login) or "ROLE")
            or cause and ("leave %s, %s and their schema alone in migrations"):format(run.book.sql,
                records.table(run.book)) or e.hint,
    })
end

---@param e dbrun.Error
---@param path string of the seed
---@param statements? dbrun.migrate.Statement[] nil: a Lua seed
---@param conn table to ask whose right is missing
---@param aftermath string what stays
---@return dbrun.Error
function M.of_seed(e, path, statements, conn, aftermath)
    local cause <const> = statements and culprit(statements, "dbrun_seeds", e.sqlstate)
    local hint = missing_right(e, OF_SEEDS, role_of(conn))
    if not hint and cause then
        hint = e.sqlstate == "25006" and "a seed is recorded in its own transaction: that must be able to write"
            or "leave dbrun_seeds and its schema alone in seeds"
    end
    return told(e, { path = path, cause = cause, hint = hint or e.hint, aftermath = aftermath })
end

return M
