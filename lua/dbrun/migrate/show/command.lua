--- The command line of migrations.
local cli = require "dbrun.command_line"
local delays = require "dbrun.migrate.show.delays"
local errors = require "dbrun.error"
local options = require "dbrun.migrate.options"

local M = {}

local EXAMPLES <const> = {
    "dbrun migrate new add_alerts        make an empty migration",
    "dbrun migrate status --exit-code    1 when something is pending: for CI",
    "dbrun migrate up                    apply what is pending",
    "dbrun migrate up --to 20250301120000",
    "dbrun migrate down --steps 2        take back the last two",
    "dbrun --stack migrate up            on the private servers of this project",
}

local EPILOG <const> = [[
Files are dbmate's: NUMBER_name.sql with a section '-- migrate:up' and a section '-- migrate:down'.
Each runs in one transaction with its row in schema_migrations; with 'transaction:false' on the
directive line its statements run one by one, and a run that was interrupted goes on where it stopped.
NUMBER_name.lua returns { up = function(ctx) end, down = function(ctx) end }.
The database is MIGRATION_DATABASE_URL, else
DATABASE_URL (dbrun config shows both).
Exit status: 0 done, 1 a migration failed, 2 wrong usage or configuration.]]

local function common(command)
    command:option("--dir", "Folder with migrations; may be given several times (default: DBRUN_MIGRATIONS_DIR, "
        .. "else scripts/migrations or db/migrations)."):count "*":target "dirs":argname "FOLDER"
    command:option("--table", "Table that records the versions."):argname "NAME":default "schema_migrations"
end

local function writing(command)
    common(command)
    cli.seconds(command, "--lock-wait", "How long to wait for another migrator (default 60).")
    cli.seconds(command, "--lock-timeout",
        "How long a statement may wait for a table in use (default 5; 0: no limit).")
    cli.seconds(command, "--statement-timeout", "Limit for each statement (default: none).")
    command:option("--lock-retries", "Retries of a migration after a lock timeout (default 3)."):argname "N"
        :convert(function(text)
            local n = math.tointeger(tonumber(text))
            if n and n >= 0 then return n end
            return nil, ("option '--lock-retries': expected a whole number, got '%s'"):format(text)
        end)
    command:option("--hooks", "Folder with hooks (default: DBRUN_HOOKS_DIR, scripts/hooks)."):argname "FOLDER"
    command:option("--target", "The name of the database: a protected one (DBRUN_PROTECTED) is refused without it.")
        :argname "NAME"
end

local function text_or_json(command)
    command:option("--format", "text or json."):argname "FORMAT":default "text":choices { "text", "json" }
end

local function quiet(command)
    command:flag("--quiet", "Leave out the server's messages (NOTICE, WARNING) about the migrations.")
end

local function schema_file(command)
    command:flag("--no-dump-schema", "Do not update db/schema.sql, which is updated if it exists.")
end

local function more_commands(p)
    local stamp = cli.command(p, "stamp", "Record that the database is at a version, and run nothing.")
    writing(stamp)
    stamp:argument("version", "This one and those before it count as applied, later ones do not.")
    local plan = cli.command(p, "plan", "Print what 'up' would run: the SQL, and the locks it takes.")
    common(plan)
    plan:option("--to", "Stop after this version."):argname "VERSION"
    cli.count_option(plan, "--steps", "At most so many.")
    plan:flag("--down", "What 'down' would run.")
    text_or_json(plan)
    local verify = cli.command(p, "verify", "Compare the files with what was applied.")
    common(verify)
    local repair = cli.command(p, "repair", "Correct the records to match the files.")
    writing(repair)
    repair:flag("--missing", "Remove the records of versions that have no file.")
    repair:option("--version", "A half-done migration ..."):argname "VERSION"
    cli.count_option(repair, "--statement", "... and the number of the statement it continues with.")
    local dump = cli.command(p, "dump", "Write the schema as SQL, as dbmate does.")
    common(dump)
    dump:option("--file", "Output file (- : standard output)."):argname "FILE":default "db/schema.sql"
    local import = cli.command(p, "import", "Take over the migrations of another tool, and what it has applied.")
    writing(import)
    import:argument("tool", "goose, golang-migrate, flyway or alembic."):choices {
        "goose", "golang-migrate", "flyway", "alembic" }
    import:option("--from", "The tool's folder (Alembic: that of alembic.ini)."):argname "FOLDER"
    import:option("--from-table", "The tool's table, if it does not have its usual name."):argname "NAME"
    import:flag("--files-only", "Only write the files, without a database.")
    import:option("--placeholder", "Value of a placeholder of Flyway's."):count "*":target "placeholder"
        :argname "NAME=VALUE"
    local lint = cli.command(p, "lint", "Look for statements that are dangerous on a database in use.")
    lint:argument("files", "Files (default: all in the folders)."):args "*"
    lint:option("--dir", "Folder with migrations; may be given several times."):count "*":target "dirs"
        :argname "FOLDER"
    lint:option("--from", "Only this version and later ones."):argname "VERSION"
    lint:flag("--pending", "Only files that the database has not applied.")
    lint:option("--table", "Table that records the versions, for --pending."):argname "NAME"
        :default "schema_migrations"
    lint:option("--since", "Only files that differ from a git revision (from where this branch diverged).")
        :argname "REV"
    lint:option("--baseline", "Leave out the findings in FILE, which --format json wrote."):argname "FILE"
    lint:flag("--down", "Check the down sections too.")
    lint:flag("--style", "Style rules too: text, timestamptz, bigint, identity.")
    lint:option("--fail-on", "Exit with 1 at findings of this severity or a worse one: error, warning, note, never.")
        :argname "SEVERITY":default "warning":choices { "error", "warning", "note", "never" }
    lint:option("--format", "text, json, github (annotations of a workflow) or sarif."):argname "FORMAT":default "text"
        :choices { "text", "json", "github", "sarif" }
    lint:flag("--rules", "Print the rules and exit.")
end

local function parser()
    local p = cli.parser {
        name = "dbrun migrate",
        description = "Apply, take back and list the migrations of a database.",
        examples = EXAMPLES,
        epilog = EPILOG,
    }
    p:command_target "command"
    local up = cli.command(p, "up", "Apply the pending migrations.")
    writing(up)
    quiet(up)
    up:option("--to", "Stop after this version."):argname "VERSION"
    cli.count_option(up, "--steps", "Apply at most so many.")
    up:flag("--strict", "Refuse files that are older than the last applied one.")
    schema_file(up)
    local down = cli.command(p, "down", "Revert the last applied migrations.")
    writing(down)
    quiet(down)
    cli.count_option(down, "--steps", "How many (default 1).")
    schema_file(down)
    local redo = cli.command(p, "redo", "Revert the last applied migrations and apply them again.")
    writing(redo)
    quiet(redo)
    cli.count_option(redo, "--steps", "How many (default 1).")
    schema_file(redo)
    local status = cli.command(p, "status", "List the files and say which are applied.")
    common(status)
    status:flag("--exit-code", "Exit with 1 when something is pending (2 when that is unknown).")
    status:flag("--quiet", "Print nothing.")
    text_or_json(status)
    local new = cli.command(p, "new", "Make an empty migration, named after the time and NAME.")
    new:argument("name", "Words for the file's name.")
    new:option("--dir", "Folder for it."):count "*":target "dirs":argname "FOLDER"
    new:flag("--lua", "A Lua migration.")
    more_commands(p)
    return p
end

---Shows the progress of a run to the user.
---@param args { quiet?: boolean }
local function console(args)
    local style = cli.style(1)
    local live = require("dbrun.tty").isatty(1)
    local verb = { up = { "applying", "applied" }, down = { "undoing", "undone" } }
    return {
        target = function(target) cli.report("Target: ", style.bold(target)) end,
        notice = not args.quiet and function(path, line, notice)
            if live then cli.write "\r\27[K" end
            io.stdout:flush()
            require("dbrun.migrate.show.notices").show(path, line, notice)
        end or nil,
        waiting = delays.waiting, resumed = delays.resumed, retry = delays.retry,
        begin = function(file, direction)
            args.at_work = { file = file, direction = direction }
            if not live then return end
            cli.write(("%s  %s ..."):format(verb[direction][1], cli.one_line(file.name)))
            io.stdout:flush()
        end,
        done = function(file, direction, took, empty)
            args.at_work = nil
            local line = ("%s  %s  %s"):format(verb[direction][2], cli.one_line(file.name),
                style.dim(cli.duration(took)))
            if empty then
                line = line .. style.yellow(("  (its %s section is empty: only its version was %s)"):format(
                    direction, direction == "up" and "recorded" or "removed"))
            end
            cli.report(live and "\r\27[K" or "", line)
            io.stdout:flush()
        end,
    }
end

local SCHEMA_FILE <const> = "db/schema.sql"

---Updates the schema file if the project has one. A failure is a warning: the migrations stay.
local function refresh_schema(args, migrate)
    local fs = require "dbrun.fs"
    if args.no_dump_schema or not fs.exists(SCHEMA_FILE) then return end
    local ok, e = pcall(function()
        local text <const>, lacks <const> = migrate.dump(options.pick("dump", args))
        if lacks then cli.note("migrate: warning: " .. lacks) end
        fs.write(SCHEMA_FILE, text, nil, { through = true })
        cli.print("Written: ", SCHEMA_FILE)
    end)
    if ok then return end
    if not errors.is(e) or errors.is(e, "cancelled") then error(e, 0) end
    cli.note(("migrate: %s was not written: %s"):format(SCHEMA_FILE, e.message))
end

local run = {}

function run.up(args, migrate)
    args.listener = console(args)
    local done = migrate.up(options.pick("up", args))
    if #done > 0 then refresh_schema(args, migrate) end
    if #done == 0 then
        cli.print(delays.nothing(args.to))
    else
        cli.print(("%s applied."):format(cli.plural(#done, "migration")))
    end
    return cli.OK
end

function run.down(args, migrate)
    args.listener = console(args)
    local done = migrate.down(options.pick("down", args))
    if #done == 0 then
        cli.note "migrate: nothing to take back: no migration of these folders is applied"
        return cli.FAILED
    end
    refresh_schema(args, migrate)
    cli.print(("%s taken back."):format(cli.plural(#done, "migration")))
    return cli.OK
end

function run.redo(args, migrate)
    args.listener = console(args)
    local done = migrate.redo(options.pick("redo", args))
    if #done == 0 then
        cli.note "migrate: nothing to take back: no migration of these folders is applied"
        return cli.FAILED
    end
    refresh_schema(args, migrate)
    cli.print(("%s taken back and applied again."):format(cli.plural(#done // 2, "migration")))
    return cli.OK
end

---The state of the database; with --exit-code 1 means that something is pending, and nothing else.
local function status_of(args, migrate)
    local ok, state = pcall(migrate.status, options.pick("status", args))
    if ok then return state end
    local e = state
    if not args.exit_code or not errors.is(e) or errors.is(e, "cancelled") then error(e, 0) end
    errors.fail("config", e.message .. (e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or ""), e.hint)
end

function run.status(args, migrate)
    local state = status_of(args, migrate)
    if args.format == "json" and not args.quiet then
        cli.print(require("dbrun.migrate.show.as_json").status(state))
    elseif not args.quiet then
        for _, entry in ipairs(state.files) do
            local half <const> = entry.half
            cli.report(entry.applied and "[X] " or "[ ] ", cli.one_line(entry.file.name), half and
                ("  %s; '%s' continues it"):format(require("dbrun.migrate.book.records").how_far(half), half.direction)
                or "")
        end
        cli.print(("\nApplied: %d\nPending: %d"):format(state.applied, state.pending))
        if #state.missing > 0 then
            cli.note(("migrate: %s in the database without a file: %s"):format(
                cli.plural(#state.missing, "version"), table.concat(state.missing, ", ")))
        end
    end
    return args.exit_code and state.pending > 0 and cli.FAILED or cli.OK
end

function run.new(args, migrate)
    cli.print(migrate.new(args.name, options.pick("new", args)))
    return cli.OK
end

---The other subcommands are in upkeep_commands.lua.
setmetatable(run, { __index = function(_, name) return require("dbrun.migrate.show.upkeep_commands")[name] end })

---Commands of dbmate that have another name here, or do not exist.
local OF_DBMATE <const> = {
    create = "dbrun dbmate create", drop = "dbrun dbmate drop", load = "dbrun dbmate load", wait = "dbrun dbmate wait",
    migrate = "dbrun migrate up", rollback = "dbrun migrate down",
}

---@param argv string[]
---@param migrate table the module dbrun.migrate
---@return integer status
function M.main(argv, migrate)
    return cli.main("migrate", function()
        local other = OF_DBMATE[argv[1]]
        if other then errors.fail("usage", ("unknown command '%s': that is '%s'"):format(argv[1], other)) end
        local args, help = cli.parse(parser(), argv)
        if not args then
            cli.print(help)
            return cli.OK
        end
        local ok, result = pcall(run[args.command], args, migrate)
        if ok then return result end
        local at <const> = args.at_work
        if at and errors.is(result, "cancelled") and not result.sqlstate then
            cli.note(("migrate: interrupted in %s: 'dbrun migrate status' shows what is applied, and '%s' goes on "
                .. "there"):format(cli.one_line(at.file.name), at.direction))
        end
        error(result, 0)
    end)
end

return M
