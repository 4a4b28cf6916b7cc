--- Seeds: Lua and SQL files that fill a database, each in its own transaction. The table dbrun_seeds records which
--- content ran: an unchanged seed is not run again.
---
---     require("dbrun.seed").run { only = { "sources" } }
---
--- `dbrun seed` is the command line over this module (dbrun.seed.command).
---
--- Raises errors of kind `config`, `connect`, `query` and `constraint`.
local args = require "dbrun.args"
local between = require "dbrun.migrate.run.between"
local config = require "dbrun.config"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local exit_guard = require "dbrun.exit_guard"
local files = require "dbrun.seed.files"
local hooks = require "dbrun.migrate.run.hooks"
local ledger = require "dbrun.seed.ledger"
local note = require "dbrun.migrate.run.note"
local notices = require "dbrun.migrate.show.notices"
local sending = require "dbrun.migrate.run.send"
local session = require "dbrun.seed.session"
local task = require "dbrun.task"

local M = {}

---@class dbrun.seed.Options
---@field engine? table|userdata default: db.async
---@field dir? string folder (default: the key DBRUN_SEEDS_DIR)
---@field env? string run the files of this sub-folder too, after the others
---@field only? string[] names of the seeds to run
---@field target? string the name of the database: required for a protected one
---@field dry_run? boolean run all in one transaction and roll it back
---@field hooks? string folder with hooks (default: the key DBRUN_HOOKS_DIR, if that folder exists)
---@field force? boolean run unchanged seeds too; seeds see it as ctx.force
---@field listener? dbrun.seed.Listener

---@class dbrun.seed.Listener callbacks about a run, all optional
---@field target? fun(target: string)
---@field notice? fun(path: string, line: integer?, notice: dbrun.Notice) a message of the server, such as NOTICE
---@field done? fun(seed: dbrun.seed.Done)

---@class dbrun.seed.Done
---@field name string
---@field result integer|string|nil what the seed returned
---@field sql boolean an SQL file
---@field seconds number
---@field unchanged? boolean not run, because it ran before with this content

---Says what stays applied when a seed fails. Code can write to Redis, and over other connections.
local function kept_of(opts, done, file)
    local code = not file.sql
    if opts.dry_run then
        for _, one in ipairs(done) do code = code or not one.sql end
        return ("Nothing %swas kept: this was a dry run."):format(code and "written through ctx.db " or "")
    end
    return ("Nothing %s was kept%s."):format(code and "that it wrote through ctx.db" or "of it",
        #done > 0 and "; what ran before it stays" or "")
end

local UNKNOWN <const> = "The connection was lost at COMMIT: whether it was kept is not known. If it was, the next run "
    .. "calls it unchanged."

---The error of a seed, with its name in front; an interruption, and an error that has its file, are returned unchanged.
local function raise_failed(e, file, seed, kept, parent)
    if sending.is_interruption(e) or errors.is(e) and e.file then error(e, 0) end
    if seed.recorded and errors.is(e) and e.outcome == "unknown" then kept = UNKNOWN end
    if errors.is(e) and e.own then
        error(require("dbrun.migrate.show.own_errors").of_seed(e, file.path, seed.statements, parent, kept), 0)
    end
    if file.sql and errors.is(e) then -- at COMMIT, or without a connection
        error(require("dbrun.migrate.show.report").around(e, file.path, nil, nil, kept), 0)
    end
    local where, kind = file.path, errors.is(e) and e.kind or "query"
    local why = tostring(e):gsub("\n", "\n  ")
    errors.raise {
        kind = (kind == "usage" or kind == "cancelled") and "query" or kind,
        message = ("%s failed: %s"):format(where, errors.is(e) and e.message or why),
        sqlstate = errors.is(e) and e.sqlstate or nil,
        text = ("%s failed: %s\n  %s"):format(where, why, kept),
    }
end

---Runs what waits for the COMMIT of a seed, deferred constraints and triggers: a dry run has no COMMIT.
local function settle(tx, file, opts, kept, on_notice)
    local ok, e = pcall(sending.listening, tx, on_notice, function() session.settle(opts.session, tx) end)
    if ok then return end
    if not errors.is(e) or e.kind == "cancelled" then error(e, 0) end
    error(require("dbrun.migrate.show.report").around(e, file.path, nil, "at its COMMIT: ", kept), 0)
end

---Adds the traceback of the place where it was raised to an error that is not an error object.
local function traced(e)
    if errors.is(e) or type(e) == "string" and e:find("\nstack traceback:\n", 1, true) then return e end
    return debug.traceback(tostring(e), 2)
end

---Calls the function of a Lua seed. A traceback ends at this call, because nothing below it belongs to the seed.
local function call(seed, ctx)
    local ok, result = xpcall(seed.run, traced, ctx)
    if ok then return result end
    if type(result) == "string" then
        result = result:gsub("\n\t%[C%]: in function 'xpcall'\n\t[^\n]*seed%.lua:%d+: in .*$", "")
    end
    error(result, 0)
end

local function run_one(parent, file, seed, opts, kept)
    local began, result, unchanged, book = task.now(), nil, false, nil
    session.run(opts.session, parent, seed.text, {
        begin = function(tx)
            note.telling("the seeds that ran were looked up", function()
                book = ledger.open(tx)
                unchanged = not (opts.force or seed.always) and ledger.has(tx, book, file.key, seed.checksum)
            end)
            return not unchanged
        end,
        run = function(tx)
            local on_notice = notices.of_file(opts.listener, file.path)
            if seed.statements then
                result = require("dbrun.seed.script").run(file.path, seed.statements, tx, kept, on_notice)
            else
                sending.listening(tx, on_notice, function()
                    result = exit_guard.call("the seed " .. file.path, call, seed,
                        require("dbrun.seed.context").new(tx, file, opts))
                end)
            end
            settle(tx, file, opts, kept, on_notice)
        end,
        note = function(tx)
            note.telling(("the seed %s was recorded"):format(file.key), function()
                ledger.note(tx, book, file.key, seed.checksum, result, task.now() - began)
            end)
            seed.recorded = true
        end,
    })
    return {
        name = file.name, sql = file.sql, result = result, seconds = task.now() - began, unchanged = unchanged or nil,
    }
end

---Runs every seed on `parent`: an engine, or the transaction of a dry run.
---@param done table filled with what ran
local function run_each(parent, list, seeds, opts, done)
    for i, file in ipairs(list) do
        local kept = kept_of(opts, done, file)
        local ok, result = xpcall(run_one, traced, parent, file, seeds[i], opts, kept)
        if not ok then raise_failed(result, file, seeds[i], kept, parent) end
        done[i] = result
        if opts.listener and opts.listener.done then opts.listener.done(result) end
    end
end

---Says what stays applied when a hook fails.
local function aftermath(done, opts)
    if opts.dry_run then return "It is a hook; nothing was kept: this was a dry run." end
    local ran = 0
    for _, seed in ipairs(done) do ran = ran + (seed.unchanged and 0 or 1) end
    if ran == 0 then return "It is a hook; no seed was run." end
    return ("It is a hook; %d seed%s before it, and that stays."):format(ran, ran == 1 and " ran" or "s ran")
end

---Runs the seeds with the hooks around them.
local function run_all(parent, list, seeds, opts)
    local done = {}
    local function event(name, e)
        if not hooks.any(opts.hooks_list, { name }) then return end
        local fields = {
            seeds = done, error = e, dry_run = opts.dry_run or false, aftermath = aftermath(done, opts),
        }
        if opts.session.tx then return hooks.run(opts.hooks_list, name, parent, fields, true) end
        session.lease(opts.session, parent, function(conn)
            hooks.run(opts.hooks_list, name, conn, fields, true, session.around(opts.session))
        end)
    end
    local ok, e = pcall(function()
        event "beforeSeed"
        run_each(parent, list, seeds, opts, done)
        event "afterSeed"
    end)
    if ok then return done end
    if not sending.is_interruption(e) then
        local told, why = pcall(event, "afterSeedError", e)
        if not told and errors.is(e) then
            e.text = ("%s\n  The hooks for afterSeedError failed, too: %s"):format(e.text or tostring(e),
                errors.is(why) and why.message or tostring(why))
        end
    end
    error(e, 0)
end

local ROLL_BACK <const> = setmetatable({}, { __tostring = function() return "the end of a dry run" end })

local function dry_run(engine, list, seeds, opts)
    local done
    local ok, e = pcall(session.lease, opts.session, engine, function(conn)
        conn:transaction(function(tx)
            opts.session.tx = tx
            between.shared(tx, function() done = run_all(tx, list, seeds, opts) end)
            error(ROLL_BACK, 0)
        end)
    end)
    if not ok and e ~= ROLL_BACK then error(e, 0) end
    return done
end

---Parses the SQL seeds, so that an invalid one is refused before anything is written.
local function prepare(engine, list, seeds)
    local conn <close> = engine:acquire()
    local found = session.look(conn)
    for i, file in ipairs(list) do
        if file.sql then
            seeds[i].statements = require("dbrun.seed.script").read(file.path, seeds[i].text, found.escapes)
        end
    end
    return found
end

local OPTIONS <const> = {
    engine = args.one_type_of("table", "userdata"), dir = args.path, env = "string", only = "table", target = "string",
    dry_run = "boolean", force = "boolean", hooks = args.path, listener = "table",
}
local LISTENER <const> = { target = "function", notice = "function", done = "function" }

---Runs the seeds of a folder.
---@param opts? dbrun.seed.Options
---@return dbrun.seed.Done[]
---Raises errors of kind `config` (folder), `usage` (a name without a seed), and the error of the seed that failed.
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_fruit.sql", "create table if not exists fruit (name text)")
---for _, done in ipairs(seed.run { dir = dir }) do print(done.name) end  --> 1_fruit
---fs.rmtree(dir)
---```
function M.run(opts)
    opts = args.options("seed.run", opts, OPTIONS)
    if core.options and core.options.dry_run then
        errors.fail("usage", "seeds have no part in a dry run, which is one transaction",
            "seed.run { dry_run = true } without --dry-run, or dbrun seed --dry-run")
    end
    args.optional_list("seed.run", "only", opts.only, "string")
    if opts.listener then args.options("seed.run{listener=}", opts.listener, LISTENER) end
    local list = files.list(opts.dir or config.DBRUN_SEEDS_DIR, opts.env)
    local wanted = opts.only and #opts.only > 0 and files.select(list, opts.only) or nil
    local seeds = {}
    for i, file in ipairs(list) do seeds[i] = files.load(file) end
    list, seeds = require("dbrun.seed.order").arrange(list, seeds, wanted)
    local hooks_list = hooks.from(opts.hooks)
    local engine = opts.engine or require("dbrun.db").async
    if opts.listener and opts.listener.target then
        opts.listener.target(require("dbrun.target").describe(engine, config.async_database_url))
    end
    require("dbrun.target").check(engine, config.async_database_url, opts.target)
    local all = {}
    for key, value in pairs(opts) do all[key] = value end
    all.hooks_list, hooks_list.listener = hooks_list, opts.listener
    all.session = prepare(engine, list, seeds)
    return (opts.dry_run and dry_run or run_all)(engine, list, seeds, all)
end

---Inserts the rows with a new key, updates the others where they differ; see dbrun.seed.upsert.
---@param tx table|userdata a transaction
---@param table_name string|string[] "name" or "schema.name", or its parts
---@param keys string[] columns of a unique index
---@param rows table|fun(): table? a list of rows, or a function that returns one per call; rows by name or by position
---@param opts? dbrun.seed.UpsertOptions
---@return integer rows inserted and updated
---```lua
---db.async:transaction(function(tx)
---    tx:exec "create temporary table fruit (name text primary key, price numeric) on commit drop"
---    print(seed.upsert(tx, "fruit", { "name" }, { { name = "apple", price = "0.30" }, { name = "pear" } }))  --> 2
---end)
---```
M.upsert = require("dbrun.seed.upsert").upsert

---The command line.
---@param argv string[]
---@return integer status for os.exit
function M.main(argv)
    args.list("seed.main", "argv", argv, "string")
    return require("dbrun.seed.command").main(argv, M)
end

return args.answer_for_names(M, "seed", {
    insert = "seed.upsert(tx, table, keys, rows)", merge = "seed.upsert(tx, table, keys, rows)",
    apply = "seed.run{...}", up = "seed.run{...}", all = "seed.run{...}",
})
