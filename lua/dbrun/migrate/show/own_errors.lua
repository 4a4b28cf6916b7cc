--- Errors of dbrun's own statements: those that make, read and write the tables of versions. They say what was being
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
---@field elsewhere string what else helps when they cannot be made
---@field owner string what else helps when they cannot be written

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

---What to grant for an error 42501; nil: its text names nothing that is known here.
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

---Adds what to grant to an error of a run that is none of a file.
---@param e any
---@param conn table
---@param book? dbrun.migrate.Ledger nil: of seeds
function M.add_hint(e, conn, book)
    if errors.is(e) and e.sqlstate == "42501" and not e.file then
        e.hint = missing_right(e, book and tables_of(book) or OF_SEEDS, role_of(conn)) or e.hint
    end
end

-- ---- what the file did ----

---Beginnings of statements that take away tables or rights without naming them.
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

---The statement of a file that the failure of a record may come from: the last one that names one of the tables, else
---the last one that takes away rights or schemas.
---@param statements dbrun.migrate.Statement[]
---@param book dbrun.migrate.Ledger
---@return dbrun.migrate.Statement?
local function culprit(statements, book)
    local broad
    for i = #statements, 1, -1 do
        local text <const> = statements[i].sql
        if text:find(book.name, 1, true) or text:lower():find(book.name:lower(), 1, true) then return statements[i] end
        if not broad and is_broad(split.plain(text)) then broad = statements[i] end
    end
    return broad
end

---The error of a statement of dbrun's own behind the statements of a file.
---@param e dbrun.Error
---@param work dbrun.migrate.Work
---@param run dbrun.migrate.Run
---@param aftermath string the state of the migration
---@return dbrun.Error
function M.of_record(e, work, run, aftermath)
    local cause <const> = culprit(work.statements, run.book)
    local line <const> = cause and cause.line or work.section.line
    local message <const> = ("%s%s: while %s: %s (SQLSTATE %s)"):format(work.file.path, cause and ":" .. line or "",
        e.own, e.message, e.sqlstate)
    local out = { message }
    if cause then
        out[2] = ("%6d | %s"):format(line, cause.sql:match "^[^\r\n]*")
        out[3] = "  this statement of the file has changed what dbrun writes to"
    end
    local hint <const> = missing_right(e, tables_of(run.book), run.own and quote(run.own.login) or "ROLE")
        or cause and ("leave %s, %s and their schema alone in migrations"):format(run.book.sql, records.table(run.book))
        or e.hint
    for _, field in ipairs { { "detail", e.detail }, { "hint", hint } } do
        if field[2] then out[#out + 1] = ("  %s: %s"):format(field[1], (field[2]:gsub("\n", "\n    "))) end
    end
    out[#out + 1] = "  " .. aftermath
    return errors.new {
        kind = "query", message = message, sqlstate = e.sqlstate, detail = e.detail, hint = hint,
        context = "while " .. e.own, retryable = e.retryable, outcome = e.outcome, file = work.file.path, line = line,
        text = table.concat(out, "\n"),
    }
end

return M
