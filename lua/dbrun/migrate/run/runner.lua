--- Runs migrations on one connection, under the lock: each with its version's row in one transaction, or, where the
--- file says transaction:false, statement by statement (dbrun.migrate.run.steps).
local batch = require "dbrun.migrate.run.batch"
local between = require "dbrun.migrate.run.between"
local blocks = require "dbrun.migrate.read.blocks"
local context = require "dbrun.migrate.run.context"
local errors = require "dbrun.error"
local exit_guard = require "dbrun.exit_guard"
local files = require "dbrun.migrate.read.files"
local hints = require "dbrun.migrate.show.hints"
local hooks = require "dbrun.migrate.run.hooks"
local ledger = require "dbrun.migrate.book.ledger"
local lock = require "dbrun.migrate.run.lock"
local mode = require "dbrun.migrate.run.mode"
local note = require "dbrun.migrate.run.note"
local pooler = require "dbrun.migrate.run.pooled"
local notices = require "dbrun.migrate.show.notices"
local own_errors = require "dbrun.migrate.show.own_errors"
local records = require "dbrun.migrate.book.records"
local report = require "dbrun.migrate.show.report"
local sending = require "dbrun.migrate.run.send"
local settings = require "dbrun.migrate.run.settings"
local steps = require "dbrun.migrate.run.steps"
local task = require "dbrun.task"

local M = {}

---@class dbrun.migrate.Listener callbacks about a run, all optional
---@field target? fun(target: string) before the first write
---@field waiting? fun(holder: string, seconds: number) another session holds the lock
---@field begin? fun(file: dbrun.migrate.File, direction: "up"|"down")
---@field statement? fun(file: dbrun.migrate.File, statement: dbrun.migrate.Statement, number: integer, count: integer)
---@field ran? fun(file: dbrun.migrate.File, statement: dbrun.migrate.Statement, rows: integer) rows that it changed
---@field resumed? fun(file: dbrun.migrate.File, done: integer, count: integer) an interrupted migration continues
---@field retry? fun(file: dbrun.migrate.File, pause: number, attempt: integer, of: integer) a table was in use
---@field notice? fun(path: string, line: integer?, notice: dbrun.Notice) a message of the server, such as NOTICE
---@field done? fun(file: dbrun.migrate.File, direction: "up"|"down", seconds: number, empty: boolean)
---    empty: the section holds no statement, only the version was recorded

---@class dbrun.migrate.Work one file in one direction, read and split before anything is written
---@field file dbrun.migrate.File
---@field direction "up"|"down"
---@field section dbrun.migrate.Section
---@field statements dbrun.migrate.Statement[]
---@field steps? dbrun.migrate.Step[] with transaction:false
---@field checksum string
---@field current? dbrun.migrate.Statement the running statement
---@field at_commit? boolean all statements of a file in a transaction have run

---@class dbrun.migrate.Run
---@field conn table
---@field book dbrun.migrate.Ledger
---@field opts table
---@field listener dbrun.migrate.Listener
---@field hooks dbrun.migrate.Hooks
---@field pooled boolean behind a pooler: the session lasts for a transaction only
---@field lent boolean a pooler gives the session to another client afterwards
---@field own dbrun.migrate.Who the session's own role and settings
---@field local_settings? fun(tx: table) sets the settings in each transaction, if pooled
---@field around? fun(tx: table, fn: fun()) calls fn in a transaction of a hook, if pooled
---@field on_notice? fun(notice: dbrun.Notice, statement?: dbrun.migrate.Statement) of the present file
---@field done? table[] what the run has done so far
---@field unloaded? boolean the session was opened without TimescaleDB's library
---@field soiled? "clean"|"reset"|"replace" what the session needs before the next file

---Reads a file and splits the section for the direction.
---@param file dbrun.migrate.File
---@param direction "up"|"down"
---@param conn? table the session that will run it, which decides how strings are read
---@return dbrun.migrate.Work
---Raises an error of kind `query` that names the line for what cannot be run.
function M.prepare(file, direction, conn)
    local parsed, text = files.read(file)
    local section = parsed[direction]
    local escapes = conn and conn.parameters.standard_conforming_strings == "off"
    local read = blocks.of(section, direction, escapes)
    if read.refused then
        local line = read.refused.line
        errors.raise {
            kind = "query", message = ("%s:%d: %s"):format(file.path, line, read.refused.message),
            hint = read.refused.hint, file = file.path, line = line,
        }
    end
    return {
        file = file, direction = direction, section = section, statements = read.statements, steps = read.steps,
        checksum = files.checksum(file, text),
    }
end

-- ---- one migration ----

local EACH <const> = { up = "EachMigrate", down = "EachUndo" }

local function record(run, work, conn, began)
    local file <const>, up <const> = work.file, work.direction == "up"
    note.telling(("version %s was %s"):format(file.version, up and "recorded" or "taken out of the record"), function()
        conn:pipeline(function(p)
            if up then
                ledger.insert(p, run.book, file.version)
                records.applied(p, run.book, file, work.checksum, task.now() - began)
            else
                ledger.delete(p, run.book, file.version)
                records.delete(p, run.book, file.version)
            end
        end)
    end)
end

---An error of the code of a Lua migration, with file, line and SQLSTATE.
local function raise_lua(e, work, aftermath)
    local path = work.file.path
    if not errors.is(e) then -- a message with its traceback
        local text = tostring(e)
        if text:sub(1, #path) ~= path then text = path .. ": " .. text end
        errors.raise { kind = "query", file = path, message = text:match "^[^\n]*", text = text .. "\n  " .. aftermath }
    end
    error(report.of_code(e, path, aftermath, e.statement), 0)
end

---An error that does not come from the server is passed on unchanged.
local function raise_failed(run, e, work, aftermath)
    if sending.is_interruption(e) or errors.is(e) and e.file then error(e, 0) end
    if errors.is(e) and e.own then error(own_errors.of_record(e, work, run, aftermath), 0) end
    if work.section.fn or not errors.is(e) then raise_lua(e, work, aftermath) end
    if not work.current then
        error(report.around(e, work.file.path, work.section.line, work.at_commit and "at its COMMIT: ", aftermath), 0)
    end
    hints.add(e, work, run)
    error(report.failed(e, work.file.path, work.current, aftermath,
        work.steps and not work.section.parts and "steps" or nil, work.statements), 0)
end

local UNDONE <const> = { up = "Nothing of this migration was kept.", down = "Nothing of this migration was undone." }
local CODE_UNDONE <const> = "Nothing that this migration did through ctx.db was kept." -- it may also write to Redis

---Calls the function of a Lua migration; an error that is not an error object gets a traceback.
local function call_lua(run, work, conn)
    local ctx = context.new(conn, { migration = context.migration(work), batch_done = batch.done(conn) })
    ctx.batch = batch.run(conn, run.opts.url, ctx.progress)
    local ok, e = xpcall(exit_guard.call, function(e)
        return errors.is(e) and e or debug.traceback(tostring(e), 2)
    end, "the migration " .. work.file.path, work.section.fn, ctx)
    if not ok then error(e, 0) end
end

---@param stays? string what stays applied when the hook fails
local function hook(run, work, when, conn, stays)
    if not hooks.any(run.hooks, { when }) then return end
    stays = stays or work.direction == "up" and "nothing of this migration was kept."
        or "nothing of this migration was undone."
    local fields = { migration = context.migration(work), applied = hooks.applied(run.done or {}),
        aftermath = "It is a hook; " .. stays }
    conn:verbatim(false) -- hooks read values
    hooks.run(run.hooks, when, conn, fields, false)
    conn:verbatim(not work.section.fn)
end

---The statements of a file, or the function of a Lua file, and the hooks around them, in the open transaction.
local function run_statements(run, work, tx)
    work.at_commit = false
    if run.local_settings then run.local_settings(tx) end
    local function before() hook(run, work, "before" .. EACH[work.direction], tx) end
    local late <const> = run.unloaded -- a hook may need the library that the first statement changes
    if not late then before() end
    if work.section.fn then sending.listening(tx, run.on_notice, function() call_lua(run, work, tx) end) end
    for i, statement in ipairs(work.statements) do
        work.current = statement
        if run.listener.statement then run.listener.statement(work.file, statement, i, #work.statements) end
        local rows = sending.send(tx, statement, run.on_notice)
        if run.listener.ran then run.listener.ran(work.file, statement, rows) end
        between.load(run)
        if late and i == 1 then before() end
        steps.check_strings(run, work, statement, work.statements[i + 1])
    end
    work.current = nil
    hook(run, work, "after" .. EACH[work.direction], tx)
    work.at_commit = true -- deferred constraints and triggers, which behind a pooler run before the record
    if run.pooled then
        sending.listening(tx, run.on_notice, function() tx:exec "set constraints all immediate /* dbrun */" end)
    end
end

local function run_in_transaction(run, work, began)
    run.half = run.half or records.half(run.conn, run.book) -- nobody else writes it while we have the lock
    local half = run.half[work.file.version]
    if half then
        errors.raise {
            kind = "query", file = work.file.path, line = work.section.line,
            message = ("%s:%d: %d of its statements took effect when it said transaction:false"):format(
                work.file.path, work.section.line, half),
            hint = ("put transaction:false back; or: migrate repair --version %s --statement 1"):format(
                work.file.version),
        }
    end
    local written
    local ok, e = pcall(run.conn.transaction, run.conn, function(tx)
        if run.pooled then
            between.undone(tx, function() run_statements(run, work, tx) end)
            run.local_settings(tx)
        else
            run_statements(run, work, tx)
        end
        local who = note.look(tx)
        written = not who.read_only
        if written then note.inside(tx, run.own, function() record(run, work, tx, began) end, who) end
        if run.on_notice then tx:on_notice(run.on_notice) end -- triggers that run at COMMIT
    end)
    if run.on_notice then pcall(run.conn.on_notice, run.conn, nil) end -- the connection may be lost
    if ok and not written then
        ok, e = pcall(note.apart, run.conn, run.own, function() record(run, work, run.conn, began) end)
    end
    if ok then return end
    local unknown = errors.is(e) and e.outcome == "unknown"
    raise_failed(run, e, work, unknown and "The connection was lost at COMMIT: whether the migration was kept is "
        .. "not known. 'migrate status' shows it." or work.section.fn and CODE_UNDONE or UNDONE[work.direction])
end

---Says what stays of a migration with transaction:false that has failed.
local function partial(work, e)
    local verb = work.direction == "up" and "applied" or "undone"
    local unknown <const> = errors.is(e) and e.outcome == "unknown"
    local done, list = work.steps_done or 0, work.steps or {}
    if work.section.fn then
        return ("transaction = false: what it did before this stays; the migration counts as not %s. The next run "
            .. "begins it anew."):format(verb)
    elseif done == 0 then
        return unknown and ("Whether it took effect is not known: 'migrate status' shows it. The migration counts as "
            .. "not %s."):format(verb) or ("Nothing before it was done: the migration counts as not %s."):format(verb)
    end
    local last = list[done].statements[#list[done].statements]
    return ("transaction:false: %d of its %d statements took effect (lines %d to %d) and stay%s; the migration counts "
        .. "as not %s. The next run continues after them."):format(
        done, #list, work.statements[1].line, last.line, unknown and "; whether this one did is not known" or "", verb)
end

local function run_by_statement(run, work, began)
    function work.record(conn) record(run, work, conn, began) end
    local ok, e = pcall(function()
        if hooks.any(run.hooks, { "before" .. EACH[work.direction] }) then
            between.before_update(run, work, function()
                hook(run, work, "before" .. EACH[work.direction], run.conn, "this migration was not run.")
            end)
        end
        if work.section.fn then
            sending.listening(run.conn, run.on_notice, function() call_lua(run, work, run.conn) end)
            note.apart(run.conn, run.own, function() work.record(run.conn) end)
        else
            steps.run(run, work)
        end
        work.current = nil
        hook(run, work, "after" .. EACH[work.direction], run.conn,
            ("this migration was %s before it (transaction:false), and that stays."):format(
                work.direction == "up" and "applied" or "taken back"))
    end)
    if not ok then raise_failed(run, e, work, partial(work, e)) end
end

---Runs the hooks of an event that have transactions of their own.
local function run_hooks(run, event, fields)
    if not hooks.any(run.hooks, { event }) then return end
    between.clean(run)
    between.used(run)
    hooks.run(run.hooks, event, run.conn, fields, true, run.around)
end

---Runs the hooks for an error; a hook that fails does not hide the error.
local function tell_error(run, event, e, work, done)
    if sending.is_interruption(e) then return end
    local fields = { error = e, migration = work and context.migration(work), applied = done and hooks.applied(done) }
    local ok, why = pcall(run_hooks, run, event, fields)
    if not ok and errors.is(e) then
        e.text = ("%s\n  The hooks for %s failed, too: %s"):format(e.text or e.message, event,
            errors.is(why) and why.message or tostring(why))
    end
end

---Runs one prepared migration.
local function run_one(run, work)
    local listener <const> = run.listener
    local began = task.now()
    if listener.begin then listener.begin(work.file, work.direction) end
    between.clean(run, work)
    between.used(run, work)
    run.on_notice = notices.of_file(listener, work.file.path)
    run.own = run.own or note.look(run.conn)
    run.conn:verbatim(not work.section.fn) -- an SQL file keeps the session state of its own statements
    local ok, e = pcall(function()
        if work.section.transaction then
            local tried = false
            run.retry(work, function()
                if tried then between.again(run, work) end
                tried = true
                run_in_transaction(run, work, began)
            end)
        else
            run_by_statement(run, work, began)
        end
    end)
    pcall(run.conn.verbatim, run.conn, false) -- the connection may be lost
    if not ok then
        tell_error(run, "after" .. EACH[work.direction] .. "Error", e, work)
        error(e, 0)
    end
    local took = task.now() - began
    if listener.done then
        listener.done(work.file, work.direction, took, #work.statements == 0 and not work.section.fn)
    end
    return { file = work.file, direction = work.direction, seconds = took }
end

---Calls fn, and calls it again after a pause when a table was in use for longer than lock_timeout: leaving the lock
---queue lets other waiters proceed.
local function retrying(run)
    local retries <const> = run.opts.lock_retries or 3
    return function(work, fn)
        for attempt = 0, retries do
            local ok, e = pcall(fn)
            if ok then return end
            if not errors.is(e) or e.sqlstate ~= "55P03" or attempt == retries then error(e, 0) end
            local pause = math.min(0.5 * 2 ^ attempt, 10) * (0.5 + math.random() / 2)
            if run.listener.retry then run.listener.retry(work.file, pause, attempt + 1, retries) end
            task.sleep(pause)
        end
    end
end

-- ---- the whole run ----

---Calls fn(run) while this session holds the migration lock, and releases it in any case.
local function locked(conn, opts, fn)
    local listener <const> = opts.listener or {}
    local book = ledger.locate(conn, opts.table)
    local kind <const> = mode.of(conn, opts)
    local pooled <const> = kind == "transaction"
    local held <close> = lock.hold(conn, book, opts, kind ~= "direct", listener.waiting or function() end)
    if listener.target then listener.target() end
    note.telling(("the tables %s and %s were made"):format(book.sql, records.table(book)), function()
        ledger.create(conn, ledger.refresh(conn, book))
        records.create(conn, book)
    end)
    local run = { conn = conn, book = book, opts = opts, listener = listener, pooled = pooled, held = held,
        lent = kind == "session",
        hooks = opts.hooks_list or hooks.load(nil) }
    if hooks.any(run.hooks, { "afterConnect" }) then between.used(run) end
    run.local_settings = pooled and function(tx) settings.transaction(tx, opts) end or nil
    run.around = pooled and function(tx, call)
        settings.transaction(tx, opts)
        between.undone(tx, call)
    end or nil
    run.retry = retrying(run)
    local _ <close> = setmetatable({}, { __close = function() between.give_back(run) end })
    return fn(run)
end

local AROUND <const> = { up = "Migrate", down = "Undo" }

---Runs all migrations of one direction, with the hooks around them.
local function run_all(run, direction, works, done)
    local around = AROUND[direction]
    run.done = done
    local function event(name)
        local fields = { applied = hooks.applied(done), aftermath = hooks.aftermath(done) }
        run_hooks(run, name, fields)
    end
    local ok, e = pcall(function()
        event("before" .. around)
        for _, work in ipairs(works) do
            run.held:check()
            done[#done + 1] = run_one(run, work)
        end
        if direction == "up" then
            event "beforeRepeatables"
            event "afterVersioned"
            if #works > 0 then event "afterMigrateApplied" end
        end
        event("after" .. around)
    end)
    if not ok then
        tell_error(run, "after" .. around .. "Error", e, nil, done)
        error(e, 0)
    end
end

local ALWAYS <const> = { up = { "beforeMigrate", "beforeRepeatables", "afterVersioned", "afterMigrate" }, down = {} }

---Reads files before anything is written; `before`: works that were read already, by path and direction.
local function prepared(conn, opts, list, direction, before)
    local works = {}
    for i, file in ipairs(list) do
        local key = direction .. " " .. file.path
        works[i] = before[key] or M.prepare(file, direction, conn)
        if not before[key] and works[i].steps and mode.of(conn, opts) == "transaction" then
            pooler.check(conn, works[i])
        end
        before[key] = works[i]
    end
    return works
end

---A half-undone migration: it counts as applied, but part of it is gone.
---@return dbrun.migrate.Record?
local function half_undone(conn, book)
    for _, half in pairs(records.unfinished(conn, book)) do
        if half.direction == "down" and half.done > 0 then return half end
    end
end

---Raises for a half-undone migration, before 'up' says that the database is up to date, or builds on what is gone.
local function refuse_half_undone(conn, book)
    local half <const> = half_undone(conn, book)
    if not half then return end
    errors.fail("query", ("%s is %s"):format(half.name, records.how_far(half)),
        ("'down' continues it; or: migrate repair --version %s --statement N"):format(half.version))
end

---Runs what `choose` picks: first without the lock, so that a run with nothing to do neither writes nor waits, then
---again under the lock, because another run may have been faster.
---@param conn table a leased connection
---@param opts table see dbrun.migrate
---@param direction "up"|"down"
---@param choose fun(applied: table<string, true>): dbrun.migrate.File[]
---@return { file: dbrun.migrate.File, direction: "up"|"down", seconds: number }[] done
function M.run(conn, opts, direction, choose)
    local book = ledger.locate(conn, opts.table)
    local always = opts.hooks_list and hooks.any(opts.hooks_list, ALWAYS[direction])
    local pending, read = choose(ledger.applied(conn, book)), {}
    local half <const> = direction == "up" and half_undone(conn, book) -- perhaps of an active run
    if #pending == 0 and not always and not half then return {} end
    prepared(conn, opts, pending, direction, read)
    return locked(conn, opts, function(run)
        if direction == "up" then refuse_half_undone(run.conn, run.book) end
        local done = {}
        run_all(run, direction, prepared(conn, opts, choose(ledger.applied(conn, run.book)), direction, read), done)
        return done
    end)
end

---Reverts what `choose` picks, and applies it again. Reads both directions before anything is written.
---@param conn table
---@param opts table
---@param choose fun(applied: table<string, true>): dbrun.migrate.File[] the latest first
---@return table[] done
function M.redo(conn, opts, choose)
    local book = ledger.locate(conn, opts.table)
    local read = {}
    local function both(list)
        local again = {}
        for i = #list, 1, -1 do again[#again + 1] = list[i] end
        return prepared(conn, opts, list, "down", read), prepared(conn, opts, again, "up", read)
    end
    local list = choose(ledger.applied(conn, book))
    if #list == 0 then return {} end
    both(list)
    return locked(conn, opts, function(run)
        local done = {}
        local downs, ups = both(choose(ledger.applied(conn, run.book)))
        run_all(run, "down", downs, done)
        run_all(run, "up", ups, done)
        return done
    end)
end

---Calls fn(run) under the lock, for operations that change the records.
---@param conn table
---@param opts table
---@param fn fun(run: dbrun.migrate.Run)
function M.locked(conn, opts, fn)
    return locked(conn, opts, fn)
end

return M
