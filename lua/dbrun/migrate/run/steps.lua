--- Runs a migration with transaction:false step by step, with a record after each, so that the next run continues where
--- a killed or failed one stopped. A step is one statement, or a BEGIN of the file and all up to its end: no
--- transaction is open between two steps. Statements are sent unchanged, one message each; after each one the server's
--- transaction status must match the file's text.
---
--- A statement that can run in a transaction shares one with its record. In a block of the file the record is written
--- directly before COMMIT; after ROLLBACK, and if the transaction is read-only, in a separate transaction. A
--- statement that cannot run in a transaction is recorded before and after; if the record after it is missing, the
--- state of the database decides (dbrun.migrate.run.aftermath).
local aftermath = require "dbrun.migrate.run.aftermath"
local between = require "dbrun.migrate.run.between"
local errors = require "dbrun.error"
local note = require "dbrun.migrate.run.note"
local pooled = require "dbrun.migrate.run.pooled"
local records = require "dbrun.migrate.book.records"
local resume = require "dbrun.migrate.run.resume"
local sending = require "dbrun.migrate.run.send"
local state = require "dbrun.migrate.run.state"
local tree = require "dbrun.sql.tree"

local M = {}

---@class dbrun.migrate.Pace where a section stands
---@field run dbrun.migrate.Run
---@field work dbrun.migrate.Work
---@field steps dbrun.migrate.Step[]
---@field row { direction?: string, done: integer } what the record says
---@field names string[] settings with a dot in their names
---@field base? dbrun.migrate.State of the session at the beginning of the file; nil behind a pooler
---@field last? dbrun.migrate.State after the previous step
---@field session? string the session state in the record

-- ---- one statement ----

local STATUS <const> = { [false] = "no transaction", open = "an open transaction", failed = "a failed transaction" }

---Sends one statement and checks the session afterwards.
local function send(pace, statement, expected)
    local conn <const> = pace.run.conn
    pace.work.current = statement
    if statement ~= pace.work.statements[1] then between.load(pace.run) end
    local rows <const> = sending.send(conn, statement, pace.run.on_notice)
    if pace.run.listener.ran then pace.run.listener.ran(pace.work.file, statement, rows) end
    between.load(pace.run)
    local status <const> = conn:in_transaction()
    if status ~= expected then
        resume.refuse(pace.work, statement.line,
            ("after this statement there is %s; by the text of the file there must be %s"):format(STATUS[status],
                STATUS[expected]),
            "a function or an extension has begun or ended a transaction: such a statement cannot be recorded")
    end
end

---Raises when the server would read the strings of the next statement otherwise than the parser has.
---@param run dbrun.migrate.Run
---@param work dbrun.migrate.Work
---@param statement dbrun.migrate.Statement
---@param behind? dbrun.migrate.Statement
function M.check_strings(run, work, statement, behind)
    local escapes <const> = run.conn.parameters.standard_conforming_strings == "off"
    if behind and behind.escapes ~= escapes then
        resume.refuse(work, statement.line,
            "standard_conforming_strings was switched in a way that the file's text does not show",
            "write SET standard_conforming_strings = on (or off) as a statement of its own")
    end
end

-- ---- the record ----

---Kinds of statements that change nothing in their session.
local NONE <const> = {
    TransactionStmt = true, IndexStmt = true, AlterTableStmt = true, DropStmt = true, CreateSchemaStmt = true,
    CreateFunctionStmt = true, CommentStmt = true, GrantStmt = true, VacuumStmt = true, ReindexStmt = true,
}
---Kinds of statements whose changes to the session, if any, outlast the transaction.
local LASTING <const> = { PrepareStmt = true, DiscardStmt = true }
---Kinds of statements whose effect on the session shows only after the transaction: LISTEN, and code.
local LATE <const> = { ListenStmt = true, UnlistenStmt = true, DoStmt = true }

---What a step can change in its session, and when the change shows.
---@return "none"|"lasting"|"any"|"late"
local function effect_of(step)
    local effect = "none"
    for _, statement in ipairs(step.statements) do
        local kind <const>, body <const> = tree.of(statement.tree_sql or statement.sql)
        local none <const> = NONE[kind] or kind == "CreateStmt" and body.relation.relpersistence == "p"
        if not none then
            if LATE[kind] then return "late" end
            local lasting <const> = LASTING[kind] or kind == "VariableSetStmt" and not body.is_local
            if not lasting then effect = "any" elseif effect == "none" then effect = "lasting" end
        end
    end
    return effect
end

---After a step, in a transaction that may write: records the progress; after the last step, the version's row.
local function write(pace, number, session)
    local run <const>, work <const> = pace.run, pace.work
    note.telling(("statement %d of it was recorded"):format(number), function()
        if number == #pace.steps then return work.record(run.conn) end
        records.progress(run.conn, run.book, work, number, pace.steps[number].checksum, session, pace.row)
    end)
end

---Whether to read the session state after a step: not behind a pooler, and not when the file is done.
local function looks(pace, number)
    return pace.base and number < #pace.steps and effect_of(pace.steps[number]) ~= "none"
end

---Writes the record inside the step's own transaction, if it may write. Returns whether it did.
local function record_inside(pace, number)
    local conn <const>, session = pace.run.conn, pace.session
    local who <const> = note.look(conn)
    pace.inside = nil
    if who.read_only then return false end
    if looks(pace, number) then
        pace.inside = state.read(conn, pace.names)
        local step <const> = pace.steps[number]
        local unsure <const> = pace.inside.text ~= pace.last.text and effect_of(step) ~= "lasting"
            or tree.of(step.statements[1].sql) == "ListenStmt"
        session = state.difference(pace.base, pace.inside, unsure)
    end
    note.inside(conn, pace.run.own, function() write(pace, number, session) end, who)
    pace.session_inside = session
    return true
end

---Writes the record in a separate transaction.
local function record_apart(pace, number)
    local run <const> = pace.run
    local session = pace.session
    if looks(pace, number) then
        pace.last = state.read(run.conn, pace.names)
        session = state.difference(pace.base, pace.last, false)
    end
    note.apart(run.conn, run.own, function() write(pace, number, session) end, run.local_settings and function()
        run.local_settings(run.conn)
    end)
    pace.session = session
end

---After a step with its record in its own transaction: COMMIT undoes settings for the transaction, which in a block may
---have hidden settings for the session.
local function correct(pace, number)
    local run <const>, step <const>, inside <const> = pace.run, pace.steps[number], pace.inside
    pace.session = pace.session_inside
    if not inside then return end
    local effect <const> = effect_of(step)
    local known <const> = effect == "lasting"
        or effect == "any" and step.kind == "single" and inside.text == pace.last.text
    pace.last = known and inside or state.read(run.conn, pace.names)
    local session <const> = state.difference(pace.base, pace.last, false)
    if session == pace.session then return end
    note.apart(run.conn, run.own, function()
        note.telling("the session was recorded", function()
            records.session(run.conn, run.book, pace.work.file.version, session)
        end)
    end)
    pace.session = session
end

local function recorded(pace, number)
    pace.row = { direction = pace.work.direction, done = number }
end

-- ---- the kinds of steps ----

---Calls fn(), which sends statements, in the open transaction; behind a pooler it also checks the session.
local function watched(pace, number, fn)
    if not pace.run.pooled then return fn() end
    pooled.watched(pace.run, pace.work, pace.steps[number].statements, fn)
end

---One statement, or a part with several, in a transaction with its record.
local function shared(pace, number)
    local run <const>, statements <const> = pace.run, pace.steps[number].statements
    local inside
    note.transaction(run.conn, "", function()
        if run.local_settings then run.local_settings(run.conn) end
        watched(pace, number, function()
            for i, statement in ipairs(statements) do
                send(pace, statement, "open")
                if statements[i + 1] then M.check_strings(run, pace.work, statement, statements[i + 1]) end
            end
        end)
        inside = record_inside(pace, number)
    end, run.on_notice and function(notice)
        run.on_notice(notice, not statements[2] and statements[1] or nil)
    end)
    if inside then correct(pace, number) else record_apart(pace, number) end
end

---A block of the file, from its BEGIN to its end.
local function block(pace, number)
    local run <const>, step <const> = pace.run, pace.steps[number]
    local last <const>, inside = step.statements[#step.statements], false
    local function each(from, to)
        for i = from, to do
            local statement <const> = step.statements[i]
            send(pace, statement, statement ~= last and "open")
            M.check_strings(run, pace.work, statement, step.statements[i + 1])
        end
    end
    local ok, e = pcall(function()
        each(1, 1)
        if run.local_settings then run.local_settings(run.conn) end
        watched(pace, number, function() each(2, #step.statements - 1) end)
        if step.ends == "commit" then inside = record_inside(pace, number) end
        each(#step.statements, #step.statements)
    end)
    if not ok then
        note.roll_back(run.conn)
        error(e, 0)
    end
    if inside then correct(pace, number) else record_apart(pace, number) end
end

---A statement that has no effect outside a transaction block.
local function void(pace, number)
    send(pace, pace.steps[number].statements[1], false)
    record_apart(pace, number)
end

---A statement failed on the server. If its effect can be checked, the record stays, so that the next run cleans up even
---if this one cannot: what CONCURRENTLY has left is not for a person to look at. If it ran procedural code, which may
---have committed before, the record stays too. Otherwise the server's error is trusted.
local function after_error(pace, number, handler, body, before, e)
    if not (errors.is(e) and e.sqlstate) then return end
    local run <const> = pace.run
    if handler.unjudged and not e.context then
        pcall(note.apart, run.conn, run.own, function()
            records.progress(run.conn, run.book, pace.work, number - 1,
                number > 1 and pace.steps[number - 1].checksum or "", pace.session)
        end)
    elseif not handler.unjudged then
        if handler.clean then pcall(handler.clean, run.conn, body, before) end
        if e.outcome == "unknown" then e.outcome, e.hint = "failed", nil end
    end
end

local function outside(pace, number, handler, body)
    local run <const>, work <const> = pace.run, pace.work
    local statement <const> = pace.steps[number].statements[1]
    if handler.clean then handler.clean(run.conn, body) end
    local before <const> = handler.before and handler.before(run.conn, body)
    note.apart(run.conn, run.own, function()
        note.telling("the beginning of a statement was recorded", function()
            -- The record needs a row: that of the previous statement, or a new one.
            records.progress(run.conn, run.book, work, number - 1, number > 1 and pace.steps[number - 1].checksum or "",
                pace.session, pace.row)
            records.begin(run.conn, run.book, work, number, before)
        end)
    end)
    recorded(pace, number - 1)
    local ok, e = pcall(send, pace, statement, false)
    if not ok then
        after_error(pace, number, handler, body, before, e)
        error(e, 0)
    end
    record_apart(pace, number)
end

---A statement outside the file's blocks: in a transaction if its text and the server allow that. Only a statement that
---calls no functions is sent again when the server has refused it in a transaction.
local function single(pace, number)
    local statement <const> = pace.steps[number].statements[1]
    local sql <const> = statement.tree_sql or statement.sql
    local handler, body = aftermath.outside(sql)
    if handler then return outside(pace, number, handler, body) end
    local ok, e = pcall(shared, pace, number)
    if ok then return end
    if not (errors.is(e) and e.sqlstate == "25001" and aftermath.may_repeat(sql)) then error(e, 0) end
    handler, body = aftermath.refused()
    outside(pace, number, handler, body)
end

local RUN <const> = { single = single, block = block, void = void, part = shared }

local function run_step(pace, number)
    local step <const> = pace.steps[number]
    local first <const> = step.statements[1]
    local listener <const> = pace.run.listener
    pace.work.current = first
    if listener.statement then listener.statement(pace.work.file, first, number, #pace.steps) end
    RUN[step.kind](pace, number)
    local last <const> = step.statements[#step.statements]
    local behind <const> = pace.steps[number + 1]
    M.check_strings(pace.run, pace.work, last, behind and behind.statements[1])
    recorded(pace, number)
end

---Whether the step can run again after it waited too long for a lock: not if its own code may have committed before.
local function may_wait_again(step)
    local statement <const> = step.statements[1]
    local handler = step.kind == "single" and aftermath.outside(statement.tree_sql or statement.sql)
    return not (handler and handler.unjudged)
end

---Runs the remaining steps of a section.
---@param run dbrun.migrate.Run
---@param work dbrun.migrate.Work with `record(conn)`, which writes or removes the version's row
function M.run(run, work)
    local steps <const> = work.steps
    work.steps_done = 0
    local function finish()
        note.apart(run.conn, run.own, function() work.record(run.conn) end)
    end
    if #steps == 0 then return finish() end
    local pace <const> = { run = run, work = work, steps = steps, names = state.custom_names(work.section.sql) }
    if not run.pooled then pace.base = state.read(run.conn, pace.names) end
    local done <const>, record <const> = resume.from(run, work)
    pace.row = { direction = record and record.direction, done = record and record.done or 0 }
    if record then pace.row.done = math.max(done, record.done) end
    if record and record.direction then pace.session = record.session
    elseif pace.base then pace.session = state.difference(pace.base, pace.base, false) end
    if pace.base then pace.last = done > 0 and state.read(run.conn, pace.names) or pace.base end
    work.steps_done = done
    for number = done + 1, #steps do
        local function go() run_step(pace, number) end
        if may_wait_again(steps[number]) then run.retry(work, go) else go() end
        work.steps_done = number
    end
    if done == #steps then finish() end
end

return M
