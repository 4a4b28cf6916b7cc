--- The start of a run: connections, tables, the walk, the signals, and the row of the job.
local bounds = require "dbrun.batch.state.bounds"
local checks = require "dbrun.batch.work.checks"
local catalog = require "dbrun.db.catalog"
local define = require "dbrun.batch.define"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local passes = require "dbrun.batch.state.passes"
local pool_mode = require "dbrun.db.pool_mode"
local process = require "dbrun.process"
local schema = require "dbrun.batch.state.schema"
local settings = require "dbrun.batch.state.settings"
local signals = require "dbrun.batch.signals"
local start = require "dbrun.batch.state.start"
local walks = require "dbrun.batch.walk"

local M = {}

local function engine_of(given, workers, name)
    if type(given) ~= "string" and given then return given, false end
    local config <const> = require "dbrun.config"
    return require("dbrun.db").engine {
        url = given or config.async_database_url, size = workers + 1, overflow = 1, application_name = "dbrun batch "
            .. name, statement_cache = config.DB_STATEMENT_CACHE, connect_timeout = config.DB_CONNECT_TIMEOUT,
        pre_ping = true,
    }, true
end

---The hours in force, parsed.
---@param values table
---@return table?
function M.hours(values)
    return values.hours and define.hours.parse(values.hours) or nil
end

local function check_server(conn)
    local ok <const>, standby <const> = pcall(conn.transaction, conn, function(tx)
        return tx:value "select pg_catalog.pg_is_in_recovery()"
    end)
    if not ok and pool_mode.takes_no_transactions(standby) then
        errors.fail("usage", "the pooler is in statement mode, and a chunk is a transaction",
            "connect to the server itself, or to a pooler with pool_mode = transaction")
    elseif not ok then
        error(standby, 0)
    elseif standby then
        errors.fail("usage", "the server is a standby: a batch writes where it works",
            "connect to the primary (target_session_attrs=read-write with several hosts), or promote it first")
    end
end

---The number of keys to read: by statistics, or counted. Without `where`, because progress is counted in keys.
local function estimate(conn, walk, opts)
    if not opts.count or walk.sql == false then return walk.estimate end
    return conn:value(("select pg_catalog.count(*) from %s as %s"):format(walk.relation, walk.alias))
end

---@param run dbrun.batch.Run
local function watch_signals(run, walk)
    return signals.new {
        throttle = run.values.throttle, critical = run.values.critical, blind = run.definition.blind,
        replicas = run.definition.replicas, oid = not run.store.bounds.apart and walk.oid or nil,
        table = run.definition.table,
        pids = function()
            local pids <const> = {}
            for _, worker in ipairs(run.workers) do pids[#pids + 1] = worker.backend end
            return pids
        end,
        say = function(text) run:tell("message", { text = text }) end,
    }
end

local NOTES <const> = "select note from %s where job {=} $1 and note is not null"

---The work function of a worker. It keeps state from one chunk to the next (a file, or facts about columns), so each
---worker has its own.
local function work_of(run, walk, engine)
    local definition <const> = run.definition
    local notes <const> = catalog.sql(NOTES:format(run.store.place.ranges))
    local env <const> = {
        engine = engine, place = run.store.place, name = definition.name, started = run.row.started,
        notes = function(with)
            local list <const> = {}
            for i, row in ipairs(with:query(notes, definition.name)) do list[i] = row.note end
            return list
        end,
    }
    run.env = env
    return function() return define.compile(definition, walk, env) end
end

---Opens the walked table, in the database where it is.
local function open_walk(conn, definition)
    if not definition.source_engine then return walks.open(conn, definition) end
    local source <close> = definition.source_engine:acquire()
    return walks.open(source, definition)
end

---When a job with a source has ended, its table of keys is dropped, and there is nothing to open.
local function is_over(run, conn, place)
    local row <const> = run.definition.source and jobs.find(conn, run.definition.name, place)
    if not row or row.state ~= "done" and row.state ~= "cancelled" then return false end
    run.store, run.row = { place = place, name = row.name }, row
    return true
end

---The job is done: removes what a kind or a source has made for it.
---@param run dbrun.batch.Run
function M.finish(run)
    local definition <const> = run.definition
    if not definition.finish and not definition.source then return end
    local conn <close> = run.engine:acquire()
    if definition.finish then definition.finish(conn, run.env) end
    if definition.source then definition.source:forget(conn, definition) end
end

local function tell_begin(run, resumed, opts)
    local row <const>, totals <const> = run.row, run.totals
    run:tell("begin", {
        name = row.name, resumed = resumed, pass = row.pass, total = row.estimate, workers = opts.workers or 1,
        looked = totals.looked, rows = totals.rows, state = row.state, reason = row.reason,
        counted = opts.count == true and not resumed,
    })
    if row.state == "done" or row.state == "cancelled" then run:ended(row.state) end
end

---Opens all that a run needs, and starts or resumes the job.
---@param run dbrun.batch.Run
---@param opts dbrun.batch.RunOptions
---@return table closing `<close>`: the run's own connections
---Raises an error of kind `usage` for a job that cannot run as it is.
function M.open(run, opts)
    local definition <const> = run.definition
    local engine <const>, own <const> = engine_of(definition.engine, opts.workers or 1, definition.name)
    local closing <const> = setmetatable({}, {
        __close = function()
            if definition.close and run.env then definition.close(run.env) end
            if own then engine:close() end
        end,
    })
    local ok <const>, e <const> = pcall(M.prepare, run, opts, engine)
    if not ok then
        if own then engine:close() end
        error(e, 0)
    end
    return closing
end

--- Containers with one host name have the same pids, so the name of a worker needs a token.
local TOKEN <const> = catalog.sql [[
select {left}({md5}({concat}({random}(), {clock_timestamp}(), {pg_backend_pid}())), 6)]]

---@param run dbrun.batch.Run
---@param opts dbrun.batch.RunOptions
---@param engine dbrun.Engine
function M.prepare(run, opts, engine)
    local definition <const> = run.definition
    run.engine, run.me = engine, ("%s:%d"):format(process.host_name(), process.pid())
    run.values = define.values(definition, {})
    run.hours = M.hours(run.values)
    local conn <close> = engine:acquire()
    require("dbrun.target").check(conn, type(definition.engine) == "string" and definition.engine
        or require("dbrun.config").async_database_url, opts.target)
    check_server(conn)
    run.token = conn:value(TOKEN)
    run.optional = settings.optional(conn)
    local place <const> = schema.ensure(conn)
    if is_over(run, conn, place) then
        run.totals = jobs.totals(conn, definition.name)
        return tell_begin(run, true, opts)
    end
    local walk <const> = open_walk(conn, definition)
    -- What is refused leaves no job behind. The kinds that have no source need `env` for their work.
    if not definition.work or definition.source then define.compile(definition, walk) end
    run.store = { place = place, name = definition.name }
    run.store.bounds = bounds.new(walk, definition.params, definition.source_engine)
    run.health = watch_signals(run, walk)
    run.health:start(conn)
    if run.hours then run.closed = define.hours.open(run.hours, conn) end
    local last <const> = conn:transaction(function(tx) return run.store.bounds:last(tx) end)
    if not (opts.force or definition.force) and not jobs.find(conn, definition.name, place) then
        checks.first(run, conn, walk, last)
    end
    local row <const>, resumed <const> = start.open(conn, place, {
        name = definition.name, kind = definition.kind, source = definition.table or definition.source.text,
        texts = definition.texts, hash = definition.hash, identity = walk.identity,
        file_values = define.file_values(definition), estimate = estimate(conn, walk, opts), last = last,
        parts = function(tx) return passes.cut(tx, run.store.bounds, nil, last) end, follow = definition.follow,
        adopt = opts.adopt,
    })
    run.row, run.state, run.reason, run.keeps = row, row.state, row.reason, row.keeps
    if definition.source_engine then run.keeps = true end -- a copy does not change the table that it reads
    run.store.started = row.started
    run.store.bounds.values = define.named(definition, { started = row.started })
    run.work_of = work_of(run, walk, engine)
    local totals <const> = jobs.totals(conn, definition.name)
    run.keys_before, run.rows_before, run.failed_before = totals.looked, totals.rows, totals.failed
    run.totals = totals
    tell_begin(run, resumed, opts)
end

return M
