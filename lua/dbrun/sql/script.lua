--- Runs a text of SQL, statement by statement, on one connection. It stops at the first error.
local check = require "dbrun.sql.check"
local copy = require "dbrun.sql.copy"
local errors = require "dbrun.error"
local results = require "dbrun.sql.results"
local statements = require "dbrun.sql.statements"
local stream = require "dbrun.sql.stream"

local M = {}

---@class dbrun.sql.Run
---@field text dbrun.sql.Text
---@field rules dbrun.sql.Rules
---@field session dbrun.sql.Session
---@field output dbrun.Output
---@field printer dbrun.sql.Printer
---@field on_notice fun(notice: dbrun.Notice)
---@field checked? dbrun.sql.Checked

---Raises the refusal, with its place.
---@param run dbrun.sql.Run
---@param refusal dbrun.sql.Refusal
---@param ran? boolean the error comes after something has run
function M.refuse(run, refusal, ran)
    local e <const> = errors.new { kind = ran and "query" or "usage", message = refusal.message, hint = refusal.hint }
    e.where = run.text.name and ("%s:%d"):format(run.text.name, refusal.line) or nil
    e.from_sql = true
    error(e, 0)
end

---The error of a statement, with its place: line numbers are those of the text.
local function placed(run, statement, e)
    if not errors.is(e) or e.kind == "cancelled" and not e.sqlstate then return e end
    local line = statement.line
    if e.position and e.statement then
        local at <const> = utf8.offset(e.statement, e.position) or 1
        local _, newlines = e.statement:sub(1, at - 1):gsub("\n", "")
        line = line + newlines
        e.statement = ("\n"):rep(statement.line - 1) .. e.statement
        e.position = e.position + statement.line - 1
    end
    e.where = run.text.name and ("%s:%d"):format(run.text.name, line) or nil
    e.from_sql = true
    if e.sqlstate == "25006" and run.session.protected then
        e.hint = ("the database '%s' is protected (DBRUN_PROTECTED): name it to change it: --target %s"):format(
            run.session.protected, run.session.protected)
    end
    if e.sqlstate then
        local own <const> = run.rules.variables:hint(e)
        local better <const> = own and (e.sqlstate == "08P01" or e.message:find "%$%d") -- $1 is a name in the text
        e.hint = better and own or e.hint or own
    end
    return e
end

local function run_copy(run, reader, direction, sql)
    if direction == "out" then
        return copy.write(run.session.conn, sql, run.output)
    end
    run.copies = run.copies + 1
    local inline <const> = run.text.inline or run.checked and run.copies <= run.checked.rows
    local rows <const> = copy.read(run.session.conn, sql, inline and function() return reader:data() or nil end
        or copy.stdin())
    run.printer:command("COPY", rows)
end

local function run_one(run, reader, statement)
    local refusal <const> = check.one(statement, run.rules, reader.escapes)
    if refusal then M.refuse(run, refusal) end
    run.session:allow(statement.sql)
    local sql <const>, values <const> = run.rules.variables:bind(statement.sql)
    run.statement = statement
    local direction <const> = stream.of(sql)
    if direction then
        run_copy(run, reader, direction, sql)
    else
        results.run(run.session.conn, sql, values, run.printer, run.on_notice)
    end
    run.output:flush()
    run.session:check()
end

---Records where a transaction was begun.
local function note_transaction(run, statement)
    if not run.session.conn:in_transaction() then
        run.begun = nil
    elseif not run.begun then
        run.begun = statement
    end
end

local function run_all(run)
    local conn <const> = run.session.conn
    local reader <const> = statements.new { read = run.text.open() }
    run.copies, run.count = 0, 0
    while true do
        reader.escapes = conn.parameters.standard_conforming_strings == "off"
        local found <const> = reader:next()
        if not found then break end
        if found.command then
            local refusal <const> = check.one(found, run.rules)
            if refusal then M.refuse(run, refusal) end
        else
            run.count = run.count + 1
            local ok <const>, e <const> = pcall(run_one, run, reader, found)
            if not ok then error(placed(run, found, e), 0) end
            note_transaction(run, found)
        end
    end
    if run.count == 0 then
        errors.fail("usage", "there is no SQL in the text", "dbrun sql \"select 1\"")
    end
    local unused <const> = run.rules.variables:unused()
    if unused then errors.fail("usage", ("option '-v': no statement has :%s"):format(unused)) end
end

---Runs the text.
---@param run dbrun.sql.Run
---Raises the first error; `from_sql` is set in an error that a statement or the text has caused.
function M.run(run)
    local conn <const> = run.session.conn
    if run.rules.single then
        local ok <const>, e <const> = pcall(conn.transaction, conn, function() run_all(run) end)
        if ok then return end
        -- An error of a deferred constraint at COMMIT is caused by the text too.
        if errors.is(e) and e.sqlstate and not e.from_sql then
            e.from_sql, e.where = true, run.text.name
        end
        error(e, 0)
    end
    run_all(run)
    if conn:in_transaction() then
        M.refuse(run, {
            line = run.begun and run.begun.line or 1,
            message = "the transaction that begins here is not ended in the text: it is rolled back",
            hint = "end it with COMMIT; or leave out BEGIN and run it with -1",
        }, true)
    end
end

return M
