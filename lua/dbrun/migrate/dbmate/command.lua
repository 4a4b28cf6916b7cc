--- dbmate's commands: its output and exit statuses (0 done, 1 something is pending, 2 an error, 3 an unknown command or
--- a broken environment file), and dbrun's way to run migrations.
local cli = require "dbrun.command_line"
local config = require "dbrun.config"
local core = require "dbrun.core"
local delays = require "dbrun.migrate.show.delays"
local duration = require "dbrun.migrate.dbmate.duration"
local environment = require "dbrun.migrate.dbmate.environment"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local folders = require "dbrun.migrate.read.folders"
local fs = require "dbrun.fs"
local grammar = require "dbrun.migrate.dbmate.grammar"
local ledger = require "dbrun.migrate.book.ledger"
local migrate = require "dbrun.migrate"
local schema = require "dbrun.migrate.dbmate.schema"
local sending = require "dbrun.migrate.run.send"
local server = require "dbrun.migrate.dbmate.server"
local task = require "dbrun.task"

local M = {}

local PENDING <const>, FAILED <const>, UNKNOWN <const> = 1, 2, 3

---@class dbrun.migrate.dbmate.Call one command, with its options
---@field values table<string, any>
---@field args string[]
---@field lookup fun(name: string): string?
---@field address? dbrun.migrate.dbmate.Address

local function print_line(...)
    cli.report(...)
    io.stdout:flush()
end

local function warn(text)
    cli.note("Warning: " .. text)
end

---The value for this run only (--stack), else that of the environment.
local function variable(call, name)
    local overlay = core.options.overlay or {}
    return overlay[name] or call.lookup(name)
end

---The folders with migrations; read only by the commands that need them.
---@return string[]
local function dirs_of(call)
    local given = call.values["migrations-dir"]
    if given and #given > 0 then return given end
    if config.source "DBRUN_MIGRATIONS_DIR" ~= "default" then return { config.DBRUN_MIGRATIONS_DIR } end
    local dir = folders.default(nil, "--migrations-dir or DBMATE_MIGRATIONS_DIR")
    return { fs.exists(dir) and dir or "./" .. folders.OF_DBMATE }
end

---Waits until the server answers.
local function wait_for(call)
    local ok, e = server.ping(call.address)
    if ok then return end
    cli.write "Waiting for database"
    local limit = call.values["wait-timeout"]
    if limit == 0 then limit = 60 end
    local waited = 0
    while waited < limit do
        cli.write "."
        io.stdout:flush()
        task.sleep(1)
        waited = waited + 1
        ok, e = server.ping(call.address)
        if ok then
            cli.print ""
            return
        end
    end
    cli.print ""
    errors.fail("connect", "unable to connect to database: " .. e.message, e.hint)
end

---Finds the database, and waits for it if --wait was given.
local function connect(call)
    local text = call.values.url
    if not text or text == "" then text = variable(call, call.values.env) end
    call.address = server.address(text, call.values.driver, call.lookup)
    if call.values.wait then wait_for(call) end
end

local function safety(call)
    return { target = call.values.target, protected = call.lookup "DBRUN_PROTECTED" }
end

---Calls fn with a connection to the database, after checking that this run may change it.
local function with_database(call, fn)
    return server.with(call.address.url, function(conn)
        server.check(conn, call.address, safety(call), warn)
        return fn(conn)
    end)
end

---Calls fn with a connection to the database `postgres` of the same server.
local function with_maintenance(call, fn)
    return server.with(call.address.maintenance, function(conn)
        server.check(conn, call.address, safety(call), warn)
        return fn(conn)
    end)
end

---Makes the table of versions if it is missing, as dbmate does for `dump` and all commands that write.
---@return dbrun.migrate.Ledger
local function make_ledger(call, conn)
    local book = ledger.locate(conn, call.values["migrations-table"])
    if not book.schema_exists then print_line("Creating schema: ", book.schema) end
    ledger.create(conn, book)
    return book
end

-- ---- the schema file ----

---@param more string[] further arguments of pg_dump
local function dump(call, more)
    local text = with_database(call, function(conn)
        return schema.dump(conn, call.address, make_ledger(call, conn), more)
    end)
    local path = call.values["schema-file"]
    print_line("Writing: ", path)
    fs.mkdir_p(fs.dirname(path))
    fs.write(path, text, nil, { through = true })
end

---Writes the schema file after a migration; a failure does not fail the migration.
local function dump_after(call)
    if call.values["no-dump-schema"] then return end
    local ok, e = pcall(dump, call, {})
    if ok then return end
    if not errors.is(e) or sending.is_interruption(e) then error(e, 0) end
    warn(("the schema file %s was not written: %s"):format(call.values["schema-file"], e.message))
end

-- ---- migrations ----

local WORDS <const> = { up = { "Applying: ", "Applied: " }, down = { "Rolling back: ", "Rolled back: " } }

local function listener(call)
    local rows = 0
    return {
        waiting = delays.waiting, resumed = delays.resumed, retry = delays.retry,
        begin = function(file, direction)
            rows = 0
            print_line(WORDS[direction][1], cli.one_line(file.name))
        end,
        ran = function(_, _, count) rows = count end,
        done = function(file, direction, seconds)
            if call.values.verbose then print_line(("Rows affected: %d"):format(rows)) end
            print_line(WORDS[direction][2], cli.one_line(file.name), " in ", duration.format(seconds))
        end,
    }
end

local function options(call)
    return {
        url = call.address.url, dirs = dirs_of(call), table = call.values["migrations-table"],
        target = call.values.target, listener = listener(call),
    }
end

---The files; a missing folder is an error, an empty one is not.
local function list_files(call)
    local dirs = dirs_of(call)
    for _, dir in ipairs(dirs) do
        local stat = fs.stat(dir)
        if not stat or stat.kind ~= "folder" then
            errors.fail("config", ("could not find migrations directory `%s`"):format(dir))
        end
    end
    return files.list(dirs)
end

local run = {}

function run.new(call)
    local words = call.args[1]
    if not words or words == "" then
        errors.fail("config", "please specify a name for the new migration")
    elseif words:find "[/%c]" then
        errors.fail("config", ("'%s' is not a name for a file"):format(words))
    end
    local path = files.create(dirs_of(call), words, "sql", function(now)
        return os.date("!%Y%m%d%H%M%S", now) .. "_" .. words .. ".sql"
    end)
    print_line("Creating migration: ", (path:gsub("/+", "/"):gsub("^%./", "")))
end

function run.migrate(call)
    connect(call)
    with_database(call, function(conn)
        if #list_files(call) == 0 then errors.fail("config", "no migration files found") end
        make_ledger(call, conn)
    end)
    local opts = options(call)
    opts.strict = call.values.strict
    migrate.up(opts)
    dump_after(call)
end

---Makes the database if it is known to be missing. If that cannot be checked (no database postgres), the migration
---reports it.
function run.up(call)
    connect(call)
    local missing = false
    local ok, e = pcall(with_maintenance, call, function(conn)
        missing = not server.exists(conn, call.address.name)
        if missing then
            print_line("Creating: ", call.address.name)
            server.create(conn, call.address.name)
        end
    end)
    if not ok and (missing or not errors.is(e) or e.kind == "usage" or sending.is_interruption(e)) then error(e, 0) end
    run.migrate(call)
end

---Does something with the database and first prints dbmate's line about it, even if the server cannot be reached; but
---not for a protected database, which is refused before.
---@param word string
---@param fn fun(conn: table, name: string)
local function announced(call, word, fn)
    local said = false
    local function say()
        if not said then print_line(word, call.address.name) end
        said = true
    end
    local ok, e = pcall(with_maintenance, call, function(conn)
        say()
        fn(conn, call.address.name)
    end)
    if ok then return end
    if errors.is(e, "connect") then say() end
    error(e, 0)
end

function run.create(call)
    connect(call)
    announced(call, "Creating: ", server.create)
end

function run.drop(call)
    connect(call)
    announced(call, "Dropping: ", server.drop)
end

function run.rollback(call)
    connect(call)
    local list = with_database(call, function() return list_files(call) end)
    local done = #list > 0 and migrate.down(options(call)) or {}
    if #done == 0 then errors.fail("config", "can't rollback: no migrations have been applied") end
    dump_after(call)
end

function run.status(call)
    connect(call)
    local state = server.with(call.address.url, function(conn)
        return migrate.compare(conn, list_files(call), call.values["migrations-table"])
    end)
    if not call.values.quiet then
        for _, entry in ipairs(state.files) do
            print_line(entry.applied and "[X] " or "[ ] ", cli.one_line(entry.file.name))
        end
        cli.print(("\nApplied: %d\nPending: %d"):format(state.applied, state.pending))
    end
    return state.pending > 0 and (call.values.quiet or call.values["exit-code"]) and PENDING or 0
end

function run.dump(call)
    connect(call)
    dump(call, call.args)
end

function run.load(call)
    connect(call)
    local path = call.values["schema-file"]
    if not fs.exists(path) then errors.fail("config", ("stat %s: no such file or directory"):format(path)) end
    print_line("Reading: ", path)
    local text = fs.read(path)
    with_database(call, function(conn) schema.load(conn, text, path) end)
end

function run.wait(call)
    connect(call)
    wait_for(call)
end

-- ---- the command line ----

local function version()
    return ("%s (dbrun %s)"):format(grammar.VERSION, core.options.version)
end

---Shows an error as dbmate does, with dbrun's additional details.
local function report(e)
    if not errors.is(e) then
        cli.note("Error: " .. tostring(e))
        return FAILED
    end
    local lines = { "Error: " .. (e.text or e.message .. (e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or "")) }
    for _, field in ipairs { "detail", "hint", "context" } do
        local value = not e.text and e[field]
        if value then lines[#lines + 1] = ("  %s: %s"):format(field, (value:gsub("\n", "\n    "))) end
    end
    cli.note(table.concat(lines, "\n"))
    return FAILED
end

local function wrong_usage(e)
    cli.print("Incorrect Usage: ", e.message, "\n\n", grammar.help(e.detail and grammar.command(e.detail), version()))
    cli.note("Error: " .. e.message)
    return FAILED
end

local function unknown(name)
    cli.note(("No help topic for '%s'"):format(name))
    return UNKNOWN
end

---Calls fn; errors go to `handler`. An interruption is raised again.
local function guarded(fn, handler)
    local ok, result = xpcall(fn, function(e) return errors.is(e) and e or debug.traceback(tostring(e), 2) end)
    if ok then return result or 0 end
    if sending.is_interruption(result) then error(result, 0) end
    return handler(result)
end

local HELP <const> = { help = true, h = true }

---Does what needs no database: help, the version. Returns the exit status, or nil.
local function answered(parsed)
    local values, command = parsed.values, parsed.command
    if parsed.unknown then return unknown(parsed.unknown) end
    if values.version then
        cli.print("dbmate version ", version())
    elseif command and command[1] == "help" and parsed.args[1] then
        local topic = grammar.command(parsed.args[1])
        if not topic then return unknown(parsed.args[1]) end
        cli.print(grammar.help(topic, version()))
    elseif not command or command[1] == "help" then
        cli.print(grammar.help(nil, version()))
    elseif values.help or HELP[parsed.args[1] or ""] then
        cli.print(grammar.help(command, version()))
    else
        return nil
    end
    return 0
end

---@param argv string[]
---@return integer status
function M.main(argv)
    local lookup
    local status = guarded(function()
        lookup, core.options.dotenv = environment.read(grammar.env_files(argv))
    end, function(e)
        report(e)
        return UNKNOWN
    end)
    if status ~= 0 then return status end
    local parsed
    status = guarded(function() parsed = grammar.parse(argv, lookup) end, function(e)
        return errors.is(e, "usage") and wrong_usage(e) or report(e)
    end)
    if status ~= 0 then return status end
    return answered(parsed) or guarded(function()
        return run[parsed.command[1]] { values = parsed.values, args = parsed.args, lookup = lookup }
    end, report)
end

return M
