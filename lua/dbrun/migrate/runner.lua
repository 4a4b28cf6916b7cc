--- Runs migrations on one connection, under the lock: each with its version's row in one transaction, or, where the
--- file says transaction:false, statement by statement.
local errors = require "dbrun.error"
local files = require "dbrun.migrate.files"
local ledger = require "dbrun.migrate.ledger"
local lock = require "dbrun.migrate.lock"
local report = require "dbrun.migrate.report"
local split = require "dbrun.migrate.split"
local task = require "dbrun.task"

local M = {}

---@class dbrun.migrate.Listener what a run tells whoever watches; every function may be missing
---@field target? fun(target: string) before the first write
---@field waiting? fun(holder: string, seconds: number) somebody else has the lock
---@field begin? fun(file: dbrun.migrate.File, direction: "up"|"down")
---@field done? fun(file: dbrun.migrate.File, direction: "up"|"down", seconds: number, empty: boolean)
---    empty: the section holds no statement, only the version was recorded

---@class dbrun.migrate.Work one file in one direction, read and split before anything is written
---@field file dbrun.migrate.File
---@field direction "up"|"down"
---@field section dbrun.migrate.Section
---@field statements dbrun.migrate.Statement[]

---Reads a file and splits the section that is wanted.
---@param file dbrun.migrate.File
---@param direction "up"|"down"
---@return dbrun.migrate.Work
function M.prepare(file, direction)
    local section = files.read(file)[direction]
    local statements = split.split(section.sql, section.line)
    local stray = section.transaction and split.transaction_control(statements)
    if stray then
        errors.raise {
            kind = "query",
            message = ("%s:%d: '%s' would end the migration's own transaction"):format(
                file.path, stray.line, stray.sql:match "^%a+"),
            hint = ("take it out, or put 'transaction:false' behind '-- migrate:%s'"):format(direction),
            file = file.path,
            line = stray.line,
        }
    end
    return { file = file, direction = direction, section = section, statements = statements }
end

-- ---- one migration ----

---The session as every migration finds it, whatever the one before has SET.
local function fresh_session(conn, opts)
    conn:exec "reset all"
    conn:query("select pg_catalog.set_config('lock_timeout', $1, false)", ("%dms"):format(
        math.floor((opts.lock_timeout or 5) * 1000 + 0.5)))
    if opts.statement_timeout then
        conn:query("select pg_catalog.set_config('statement_timeout', $1, false)", ("%dms"):format(
            math.floor(opts.statement_timeout * 1000 + 0.5)))
    end
end

local function record(conn, book, work)
    if work.direction == "up" then
        ledger.insert(conn, book, work.file.version)
    else
        ledger.delete(conn, book, work.file.version)
    end
end

---An error that is not the server's word about this statement is passed on as it is.
local function raise_failed(e, work, statement, aftermath)
    if not errors.is(e) or e.kind == "cancelled" then error(e, 0) end
    error(report.failed(e, work.file.path, statement, aftermath), 0)
end

local UNDONE <const> = { up = "Nothing of this migration was kept.", down = "Nothing of this migration was undone." }

local function run_in_transaction(conn, book, work)
    local current = { sql = "commit", line = work.section.line }
    local ok, e = pcall(conn.transaction, conn, function(tx)
        for _, statement in ipairs(work.statements) do
            current = statement
            tx:exec(statement.sql)
        end
        current = { sql = "commit", line = work.section.line }
        record(tx, book, work)
    end)
    if ok then return end
    local unknown = errors.is(e) and e.outcome == "unknown"
    raise_failed(e, work, current, unknown and "The connection was lost at COMMIT: whether the migration was kept is "
        .. "not known. 'migrate status' tells." or UNDONE[work.direction])
end

local function partial(work, done)
    local verb = work.direction == "up" and "applied" or "undone"
    if done == 0 then return ("Nothing before it was done: the migration counts as not %s."):format(verb) end
    return ("transaction:false: %d of its %d statements took effect (lines %d to %d) and stay; the migration counts as "
        .. "not %s."):format(done, #work.statements, work.statements[1].line, work.statements[done].line, verb)
end

local function run_by_statement(conn, book, work)
    for i, statement in ipairs(work.statements) do
        local ok, e = pcall(conn.exec, conn, statement.sql)
        if not ok then raise_failed(e, work, statement, partial(work, i - 1)) end
    end
    record(conn, book, work)
end

---Runs one prepared migration.
---@param conn table
---@param book dbrun.migrate.Ledger
---@param work dbrun.migrate.Work
---@param opts table
local function run_one(conn, book, work, opts)
    local listener <const> = opts.listener or {}
    local began = task.now()
    if listener.begin then listener.begin(work.file, work.direction) end
    fresh_session(conn, opts)
    if work.section.transaction then
        run_in_transaction(conn, book, work)
    else
        run_by_statement(conn, book, work)
    end
    if listener.done then
        listener.done(work.file, work.direction, task.now() - began, #work.statements == 0)
    end
end

-- ---- the whole run ----

---Calls fn(conn, book) while this session alone may migrate. The lock is given back on every way out.
local function locked(conn, opts, fn)
    local listener <const> = opts.listener or {}
    local book = ledger.locate(conn, opts.table)
    local key = lock.key(book)
    lock.take(conn, key, opts.lock_wait or 60, listener.waiting or function() end)
    local _ <close> = setmetatable({}, { __close = function() lock.release(conn, key) end })
    if listener.target then listener.target() end
    ledger.create(conn, ledger.refresh(conn, book))
    return fn(book)
end

---Runs what `choose` picks: first under no lock, so that a run with nothing to do writes nothing and waits for nobody,
---then again under the lock, because somebody else may have been quicker.
---@param conn table a leased connection
---@param opts table see dbrun.migrate
---@param direction "up"|"down"
---@param choose fun(applied: table<string, true>): dbrun.migrate.File[]
---@return { file: dbrun.migrate.File, seconds: number }[] done
function M.run(conn, opts, direction, choose)
    local book = ledger.locate(conn, opts.table)
    if #choose(ledger.applied(conn, book)) == 0 then return {} end
    return locked(conn, opts, function(fresh_book)
        local works, done = {}, {}
        for i, file in ipairs(choose(ledger.applied(conn, fresh_book))) do works[i] = M.prepare(file, direction) end
        for i, work in ipairs(works) do
            local began = task.now()
            run_one(conn, fresh_book, work, opts)
            done[i] = { file = work.file, seconds = task.now() - began }
        end
        return done
    end)
end

return M
