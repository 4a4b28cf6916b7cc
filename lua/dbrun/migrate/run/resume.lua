--- Where an interrupted migration with transaction:false resumes: its record, the outcome of the interrupted statement,
--- and the session state of the earlier statements.
local aftermath = require "dbrun.migrate.run.aftermath"
local errors = require "dbrun.error"
local note = require "dbrun.migrate.run.note"
local records = require "dbrun.migrate.book.records"
local state = require "dbrun.migrate.run.state"
local task = require "dbrun.task"
local tree = require "dbrun.sql.tree"

local M = {}

---Raises an error about a line of the file.
---@param work dbrun.migrate.Work
---@param line integer
---@param message string
---@param hint string
function M.refuse(work, line, message, hint)
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

---Whether the interrupted statement took effect.
local function settle(run, work, record, step)
    wait_for_ghost(run, work, step)
    local statement = step.statements[1]
    local handler, body = aftermath.outside(statement.tree_sql or statement.sql)
    if not handler then handler, body = aftermath.refused() end
    local verdict = handler.judge(run.conn, body, record.before)
    if verdict == "unknown" then
        M.refuse(work, statement.line, "a run was interrupted here, and whether the statement took effect is not known",
            repair_hint(work, record.at_work) .. (", or with %d after it"):format(record.at_work + 1))
    end
    if verdict == "done" then
        note.apart(run.conn, run.own, function()
            records.progress(run.conn, run.book, work, record.at_work, step.checksum, record.session, record)
        end)
        return record.at_work
    end
    if handler.clean then handler.clean(run.conn, body, record.before) end
    return record.done
end

---Repeats the SETs of earlier statements, which ended with their session, if the record has no session state.
local function replay_settings(run, steps, done)
    for i = 1, done do
        for _, statement in ipairs(steps[i].ends ~= "rollback" and steps[i].statements or {}) do
            local kind, body = tree.of(statement.tree_sql or statement.sql)
            if kind == "VariableSetStmt" and not (body.is_local or body.kind == "VAR_SET_MULTI"
                and body.name == "TRANSACTION") then
                run.conn:exec(statement.sql)
            end
        end
    end
end

---Restores the session state of the earlier statements, or refuses.
local function restore(run, work, record)
    local steps <const> = work.steps
    local last <const> = steps[record.done]
    if not last then return end
    if record.session == nil then return replay_settings(run, steps, record.done) end
    local line <const> = last.statements[#last.statements].line
    local hint <const> = repair_hint(work, record.done + 1)
    local session <const> = state.parse(record.session)
    if #session.left > 0 then
        M.refuse(work, line, "a run was interrupted after this line, and its session, which has ended, had "
            .. table.concat(session.left, ", "), "if the rest does not need it, or makes it itself: " .. hint)
    end
    if session.unsure then
        M.refuse(work, line, "a run was interrupted right after this line, and which settings of it were for its "
            .. "transaction only is not known", hint)
    end
    local ok, e = pcall(state.restore, run.conn, session)
    if ok then return end
    if not errors.is(e) or not e.sqlstate then error(e, 0) end
    M.refuse(work, line, "a run was interrupted after this line, and the settings of its session cannot be made "
        .. "again: " .. e.message, hint)
end

---Raises when the record of a half-done migration no longer fits the file.
---@param work dbrun.migrate.Work
---@param record dbrun.migrate.Record with a direction
function M.check(work, record)
    if record.direction ~= work.direction then
        M.refuse(work, work.section.line, ("it is half done in the other direction (%s)"):format(record.direction),
            repair_hint(work, 1))
    end
    local last <const> = (work.steps or {})[record.done]
    if work.steps and record.done > 0 and not (last and last.checksum == record.done_checksum) then
        M.refuse(work, work.section.line,
            ("%d of its statements took effect, and were changed in the file since"):format(record.done),
            "restore them, or: " .. repair_hint(work, record.done + 1))
    end
end

---The number of steps that an earlier run has done; restores the session state that they left.
---@param run dbrun.migrate.Run
---@param work dbrun.migrate.Work
---@return integer done
---@return dbrun.migrate.Record? record
function M.from(run, work)
    local record <const>, steps <const> = records.one(run.conn, run.book, work.file.version), work.steps
    if not record or not record.direction then return 0, record end
    M.check(work, record)
    restore(run, work, record)
    local done = record.done
    if record.at_work and steps[record.at_work] then done = settle(run, work, record, steps[record.at_work]) end
    if run.listener.resumed then run.listener.resumed(work.file, done, #steps) end
    return done, record
end

return M
