--- Runs a migration with transaction:false statement by statement, with a record after each, so that the next run
--- continues where a killed or failed one stopped.
---
--- A statement that can run in a transaction shares one with its record. One that cannot is recorded before and after;
--- if the record after it is missing, the state of the database decides (dbrun.migrate.run.aftermath).
local aftermath = require "dbrun.migrate.run.aftermath"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local records = require "dbrun.migrate.book.records"
local split = require "dbrun.migrate.read.split"
local task = require "dbrun.task"
local tree = require "dbrun.migrate.read.tree"

local M = {}

---@class dbrun.migrate.Step one statement, or those from a BEGIN to its COMMIT
---@field statements dbrun.migrate.Statement[]
---@field control boolean a BEGIN ... COMMIT in the file
---@field checksum string of everything up to and including it

---The steps of a section.
---@param statements dbrun.migrate.Statement[]
---@return dbrun.migrate.Step[]
function M.of(statements)
    local steps, open, sum = {}, nil, ""
    for _, statement in ipairs(statements) do
        local word = split.transaction_control { statement } and statement.sql:lower():match "^%a+"
        sum = core.digest("sha256", sum .. statement.sql)
        if open then
            open.statements[#open.statements + 1], open.checksum = statement, sum
            if word == "commit" or word == "end" then open = nil end
        else
            local step = { statements = { statement }, control = word == "begin" or word == "start", checksum = sum }
            steps[#steps + 1] = step
            open = step.control and step or nil
        end
    end
    return steps
end

local function refuse(work, line, message, hint)
    errors.raise {
        kind = "query", message = ("%s:%d: %s"):format(work.file.path, line, message), hint = hint,
        file = work.file.path, line = line,
    }
end

local function repair_hint(work, number)
    return ("migrate repair --version %s --statement %d: the next run begins there (1: from the start)")
        :format(work.file.version, number)
end

---Waits until the statement of a killed client has ended.
local function wait_for_ghost(run, work, step)
    local began, reported = task.now(), false
    while true do
        local pid = records.still_running(run.conn, run.book, work.file.version, step.statements[1].sql)
        if not pid then return end
        local waited = task.now() - began
        local who = ("process %d, which still runs a statement of an interrupted run"):format(pid)
        if waited >= (run.opts.lock_wait or 60) then
            errors.fail("timeout", ("the migration cannot continue: it waits for %s"):format(who),
                "wait for it, end it with pg_cancel_backend, or wait longer with --lock-wait")
        end
        if not reported and waited >= 1 and run.listener.waiting then run.listener.waiting(who, waited) end
        reported = reported or waited >= 1
        task.sleep(0.1)
    end
end

---Did the interrupted statement take effect?
local function settle(run, work, record, step)
    wait_for_ghost(run, work, step)
    local statement = step.statements[1]
    local handler, body = aftermath.outside(statement.sql)
    if not handler then handler, body = aftermath.refused() end
    local verdict = handler.judge(run.conn, body, record.before)
    if verdict == "unknown" then
        refuse(work, statement.line, "a run was interrupted here, and whether the statement took effect is not known",
            repair_hint(work, record.at_work) .. (", or with %d after it"):format(record.at_work + 1))
    end
    if verdict == "done" then
        records.progress(run.conn, run.book, work, record.at_work, step.checksum)
        return record.at_work
    end
    if handler.clean then handler.clean(run.conn, body, record.before) end
    return record.done
end

---The number of steps that an earlier run did.
local function resume(run, work, steps)
    local record = records.one(run.conn, run.book, work.file.version)
    if not record or not record.direction then return 0 end
    if record.direction ~= work.direction then
        refuse(work, work.section.line, ("it is half done in the other direction (%s)"):format(record.direction),
            repair_hint(work, 1))
    end
    local last = steps[record.done]
    if record.done > 0 and not (last and last.checksum == record.done_checksum) then
        refuse(work, work.section.line, ("%d of its statements took effect, and were changed in the file since"):format(
            record.done), "restore them, or: " .. repair_hint(work, record.done + 1))
    end
    local done = record.done
    if record.at_work and steps[record.at_work] then done = settle(run, work, record, steps[record.at_work]) end
    if run.listener.resumed then run.listener.resumed(work.file, done, #steps) end
    return done
end

---Repeats the SETs of earlier statements, which ended with their session.
local function replay_settings(run, steps, done)
    for i = 1, done do
        for _, statement in ipairs(steps[i].statements) do
            local kind, body = tree.of(statement.sql)
            if kind == "VariableSetStmt" and not body.is_local then run.conn:exec(statement.sql) end
        end
    end
end

-- ---- one step ----

---The record after a step; after the last one also the version's row.
local function note(run, work, conn, steps, number)
    if number == #steps then
        work.record(conn)
    else
        records.progress(conn, run.book, work, number, steps[number].checksum)
    end
end

local function inside(run, work, steps, number)
    local step = steps[number]
    local list = step.control and table.move(step.statements, 2, #step.statements - 1, 1, {}) or step.statements
    local opening = step.control and split.plain(step.statements[1].sql)
    local opts = opening and opening:find "serializable" and { isolation = "serializable" }
        or opening and opening:find "repeatable read" and { isolation = "repeatable read" } or {}
    run.conn:transaction(opts, function(tx)
        if run.local_settings then run.local_settings(tx) end
        for _, statement in ipairs(list) do
            work.current = statement
            tx:exec(statement.sql)
        end
        note(run, work, tx, steps, number)
    end)
end

---A statement failed on the server. If its effect can be checked, the record stays, so that the next run cleans up even
---when this one cannot; otherwise the server's error is believed.
local function after_error(run, work, steps, number, handler, body, before, e)
    if not (errors.is(e) and e.sqlstate) then return end
    if handler.unjudged then
        pcall(records.progress, run.conn, run.book, work, number - 1,
            number > 1 and steps[number - 1].checksum or "")
    elseif handler.clean then
        pcall(handler.clean, run.conn, body, before)
    end
end

local function outside(run, work, steps, number, handler, body)
    local statement = steps[number].statements[1]
    -- The record needs a row: that of the statement before, or a new one.
    if number == 1 or not records.one(run.conn, run.book, work.file.version) then
        records.progress(run.conn, run.book, work, number - 1, number > 1 and steps[number - 1].checksum or "")
    end
    if handler.clean then handler.clean(run.conn, body) end
    local before = handler.before and handler.before(run.conn, body)
    records.begin(run.conn, run.book, work, number, before)
    local ok, e = pcall(run.conn.exec, run.conn, statement.sql)
    if not ok then
        after_error(run, work, steps, number, handler, body, before, e)
        error(e, 0)
    end
    run.conn:transaction(function(tx) note(run, work, tx, steps, number) end)
end

local OUTSIDE_WANTED <const> = { ["25001"] = true, ["2D000"] = true }

---Runs a step, in a transaction if its text and the server allow that.
local function run_step(run, work, steps, number)
    local step = steps[number]
    local statement = step.statements[1]
    work.current = statement
    if run.listener.statement then run.listener.statement(work.file, statement, number, #steps) end
    if step.control then return inside(run, work, steps, number) end
    local handler, body = aftermath.outside(statement.sql)
    if handler then return outside(run, work, steps, number, handler, body) end
    local ok, e = pcall(inside, run, work, steps, number)
    if ok then return end
    if not (errors.is(e) and OUTSIDE_WANTED[e.sqlstate]) then error(e, 0) end
    handler, body = aftermath.refused()
    outside(run, work, steps, number, handler, body)
end

---Runs the remaining steps of a section.
---@param run table the runner's state: conn, book, opts, listener, retry
---@param work dbrun.migrate.Work with `record(conn)`, which writes or removes the version's row
---@return integer skipped steps that an earlier run did
function M.run(run, work)
    local steps = M.of(work.statements)
    work.steps, work.steps_done = steps, 0
    if #steps == 0 then
        run.conn:transaction(work.record)
        return 0
    end
    local done = resume(run, work, steps)
    work.steps_done = done
    replay_settings(run, steps, done)
    for number = done + 1, #steps do
        run.retry(work, function() run_step(run, work, steps, number) end)
        work.steps_done = number
    end
    if done == #steps then run.conn:transaction(work.record) end
    return done
end

return M
