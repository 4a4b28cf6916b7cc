--- Migrations: SQL files in dbmate's format and Lua files, applied one after the other under a lock.
---
---     local migrate = require "dbrun.migrate"
---     migrate.up { dirs = { "db/migrations" } }
---
--- `dbrun migrate` is the command line over this module (dbrun.migrate.show.command).
---
--- Raises errors of kind `config` (a folder, a file that cannot be read), `connect`, `timeout` (the lock), `query`
--- and `constraint`.
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local folders = require "dbrun.migrate.read.folders"
local ledger = require "dbrun.migrate.book.ledger"
local options = require "dbrun.migrate.options"
local session = require "dbrun.migrate.run.session"

local M = {}

---@class dbrun.migrate.Options
---@field url? string default: config.sync_database_url, which is MIGRATION_DATABASE_URL where that is set
---@field dirs? string[] folders with migrations (default: the key DBRUN_MIGRATIONS_DIR, else
---    scripts/migrations or db/migrations)
---@field table? string "name" or "schema.name" (default schema_migrations)
---@field lock_wait? number seconds to wait for another migrator (default 60)
---@field lock_timeout? number seconds that a statement waits for a table in use (default 5)
---@field lock_retries? integer how often a migration is tried again after a lock_timeout (default 3)
---@field statement_timeout? number seconds for each statement (default: no limit)
---@field hooks? string folder with hooks (default: the key DBRUN_HOOKS_DIR, if that folder exists)
---@field target? string the name of the database: required for a protected one
---@field listener? dbrun.migrate.Listener

---@class dbrun.migrate.LintOptions
---@field files? string[] paths (default: all of the folders)
---@field from? string only this version and later ones
---@field down? boolean look at down sections too
---@field style? boolean rules of style too
---@field pending? boolean only files that the database has not applied
---@field since? string only files that differ from this revision of git
---@field baseline? string a file with findings (`--format json`) that are known

---@class dbrun.migrate.ImportOptions
---@field from string the other tool's folder
---@field from_table? string the other tool's table, if it does not have its usual name
---@field files_only? boolean only write files, without a database
---@field placeholders? table<string, string> Flyway's

---@class dbrun.migrate.Done
---@field file dbrun.migrate.File
---@field direction "up"|"down"
---@field seconds number

---@class dbrun.migrate.State
---@field files { file: dbrun.migrate.File, applied: boolean, half?: dbrun.migrate.Record }[] in the order in which they
---    run; half: it was interrupted (only from `status`)
---@field pending integer
---@field applied integer
---@field missing string[] applied versions that have no file

---The files up to and including a version.
local function up_to(list, version)
    for i, file in ipairs(list) do
        if file.version == version then return table.move(list, 1, i, 1, {}) end
    end
    errors.fail("usage", ("no migration has the version '%s'"):format(version), "dbrun migrate status")
end

---Refuses a pending file that sorts before the last applied one.
local function check_order(list, applied)
    local last
    for _, file in ipairs(list) do
        if applied[file.version] then last = file end
    end
    for _, file in ipairs(list) do
        if last and not applied[file.version] and file.name < last.name then
            errors.fail("query", ("%s is pending, but the later %s is applied already"):format(file.path, last.name),
                "give it a newer version, or apply it anyway without --strict")
        end
    end
end

---Picks the files that are not applied.
local function pending(list, steps)
    return function(applied)
        local chosen = {}
        for _, file in ipairs(list) do
            if #chosen == (steps or math.huge) then break end
            if not applied[file.version] then chosen[#chosen + 1] = file end
        end
        return chosen
    end
end

---Applies the pending migrations.
---@param opts? dbrun.migrate.Options|{ to?: string, steps?: integer, strict?: boolean }
---    to: last version to apply; steps: how many at most; strict: refuse files older than the last applied one
---@return dbrun.migrate.Done[]
---Raises errors of kind `query` and `constraint` (a migration failed: `file`, `line`, `sqlstate`), `timeout` (the
---lock), `config`, `connect`.
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.up { dirs = { dir }, table = "example_up" })  --> 1
---migrate.down { dirs = { dir }, table = "example_up" }
---fs.rmtree(dir)
---```
function M.up(opts)
    opts = session.complete(options.check("up", opts))
    local list = files.some(opts.dirs)
    local limited = opts.to and up_to(list, opts.to) or list
    return session.writing(opts, function(conn)
        return require("dbrun.migrate.run.runner").run(conn, opts, "up", function(applied)
            if opts.strict then check_order(list, applied) end
            return pending(limited, opts.steps)(applied)
        end)
    end)
end

---Warns about applied versions that `down` passes over, because they have no file.
local function warn_of_missing(list, applied, first)
    local has, passed <const> = {}, {}
    for _, file in ipairs(list) do has[file.version] = true end
    for version in pairs(applied) do
        if not has[version] and version > first then passed[#passed + 1] = version end
    end
    if #passed == 0 then return end
    table.sort(passed)
    core.log.write("warn", ("migrate: %s, which %s applied too, %s no file here: nothing of %s is taken back"):format(
        table.concat(passed, ", "), #passed == 1 and "is" or "are", #passed == 1 and "has" or "have",
        #passed == 1 and "it" or "them"))
end

---Picks the last ones applied that have a file, the latest first.
local function last_applied(list, steps)
    return function(applied)
        local chosen = {}
        for i = #list, 1, -1 do
            if #chosen == (steps or 1) then break end
            if applied[list[i].version] then chosen[#chosen + 1] = list[i] end
        end
        if #chosen > 0 then warn_of_missing(list, applied, chosen[#chosen].version) end
        return chosen
    end
end

---Reverts the last applied migrations that have a file, the latest first.
---@param opts? dbrun.migrate.Options|{ steps?: integer } steps: how many (default 1)
---@return dbrun.migrate.Done[] done empty when nothing is applied
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.down { dirs = { dir }, table = "example_none" }) -- nothing was applied  --> 0
---fs.rmtree(dir)
---```
function M.down(opts)
    opts = session.complete(options.check("down", opts))
    local list = files.some(opts.dirs)
    return session.writing(opts, function(conn)
        return require("dbrun.migrate.run.runner").run(conn, opts, "down", last_applied(list, opts.steps))
    end)
end

---Reverts the last applied migrations and applies them again, under one lock.
---@param opts? dbrun.migrate.Options|{ steps?: integer } steps: how many (default 1)
---@return dbrun.migrate.Done[] done empty when nothing is applied
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.redo { dirs = { dir }, table = "example_none" }) -- nothing was applied  --> 0
---fs.rmtree(dir)
---```
function M.redo(opts)
    opts = session.complete(options.check("redo", opts))
    local list = files.some(opts.dirs)
    return session.writing(opts, function(conn)
        return require("dbrun.migrate.run.runner").redo(conn, opts, last_applied(list, opts.steps))
    end)
end

local HANDLE <const> = args.one_type_of("table", "userdata")

---Compares the files with the versions in the table. Writes nothing.
---@param conn table|userdata a connection or an engine
---@param list dbrun.migrate.File[]
---@param table_name? string
---@return dbrun.migrate.State
---```lua
---local state = migrate.compare(db.sync, {}, "example_none") -- no files, no table
---print(type(state))  --> table
---```
function M.compare(conn, list, table_name)
    args.check("migrate.compare", "conn", conn, HANDLE)
    args.list("migrate.compare", "list", list, "table")
    args.optional("migrate.compare", "table_name", table_name, "string")
    local applied = ledger.applied(conn, ledger.locate(conn, table_name or ledger.DEFAULT_TABLE))
    local state = { files = {}, pending = 0, applied = 0, missing = {} }
    local on_disk = {}
    for i, file in ipairs(list) do
        local is_applied = applied[file.version] == true
        on_disk[file.version] = true
        state.files[i] = { file = file, applied = is_applied }
        local counter = is_applied and "applied" or "pending"
        state[counter] = state[counter] + 1
    end
    for version in pairs(applied) do
        if not on_disk[version] then state.missing[#state.missing + 1] = version end
    end
    table.sort(state.missing)
    return state
end

---Which migrations are applied.
---@param opts? dbrun.migrate.Options
---@return dbrun.migrate.State
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(migrate.status({ dirs = { dir }, table = "example_none" }).pending)  --> 1
---fs.rmtree(dir)
---```
function M.status(opts)
    opts = session.complete(options.check("status", opts))
    local list = files.some(opts.dirs)
    return session.reading(opts, function(conn)
        local state <const> = M.compare(conn, list, opts.table)
        local half <const> = require("dbrun.migrate.book.records").unfinished(conn, ledger.locate(conn, opts.table))
        for _, entry in ipairs(state.files) do entry.half = half[entry.file.version] end
        return state
    end)
end

---Makes an empty migration in the (first) folder.
---@param name string words for the file's name
---@param opts? dbrun.migrate.Options|{ lua?: boolean } lua: a Lua migration
---@return string path
---```lua
---local dir = fs.mkdtemp()
---local path = migrate.new("create note", { dirs = { dir } })
---print(path:match "_create_note%.sql$")  --> _create_note.sql
---fs.rmtree(dir)
---```
function M.new(name, opts)
    args.check("migrate.new", "name", name, "string")
    opts = options.check("new", opts)
    local dirs = folders.of(opts.dirs)
    return files.create(dirs, name, opts.lua and "lua" or "sql")
end

---Records that the database is at a version, without running anything: that version and all before it count as applied,
---later ones do not.
---@param version string
---@param opts? dbrun.migrate.Options
---@return { added: dbrun.migrate.File[], removed: dbrun.migrate.File[] }
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.stamp("1", { dirs = { dir }, table = "example_stamped" }).added)  --> 1
---fs.rmtree(dir)
---```
function M.stamp(version, opts)
    args.check("migrate.stamp", "version", version, "string")
    opts = session.complete(options.check("stamp", opts))
    return require("dbrun.migrate.book.upkeep").stamp(opts, up_to(files.some(opts.dirs), version))
end

---Compares the files with what was applied: changed or missing files, pending files older than an applied one,
---half-done migrations.
---@param opts? dbrun.migrate.Options
---@return dbrun.migrate.Finding[] findings empty when all is well
---@return integer compared applied files whose checksum is known
---@return integer unknown applied files without one, because another program applied them
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.verify { dirs = { dir }, table = "example_none" }) -- all is well  --> 0
---fs.rmtree(dir)
---```
function M.verify(opts)
    return require("dbrun.migrate.book.upkeep").verify(session.complete(options.check("verify", opts)))
end

---Corrects the records so that they match the files.
---@param opts? dbrun.migrate.Options|{ missing?: boolean, version?: string, statement?: integer }
---    missing: forget applied versions that have no file; version, statement: where the next run of a half-done
---    migration begins
---@return string[] done what was changed, in words
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.repair { dirs = { dir }, table = "example_none" }) -- nothing to mend  --> 0
---fs.rmtree(dir)
---```
function M.repair(opts)
    return require("dbrun.migrate.book.upkeep").repair(session.complete(options.check("repair", opts)))
end

---What a run would do. Writes nothing.
---@param opts? dbrun.migrate.Options|{ direction?: "up"|"down", to?: string, steps?: integer }
---@return dbrun.migrate.Planned[]
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n")
---print(#migrate.plan { dirs = { dir }, table = "example_none" })  --> 1
---fs.rmtree(dir)
---```
function M.plan(opts)
    opts = session.complete(options.check("plan", opts))
    local list = files.some(opts.dirs)
    return session.reading(opts, function(conn)
        local applied = ledger.applied(conn, ledger.locate(conn, opts.table))
        local pick = opts.direction == "down" and last_applied(list, opts.steps)
            or pending(opts.to and up_to(list, opts.to) or list, opts.steps)
        return require("dbrun.migrate.show.plan").of(conn, opts, pick(applied))
    end)
end

---Converts the migrations of another tool: its files become files in the (first) folder, and what it has applied is
---recorded as applied. If something cannot be converted, nothing is written.
---@param tool "goose"|"golang-migrate"|"flyway"|"alembic"
---@param opts dbrun.migrate.Options|dbrun.migrate.ImportOptions
---@return dbrun.migrate.import.Result
---```lua
---local ok, e = pcall(migrate.import, "goose", { from = "no/such/folder" })
---print(ok, e.kind)  --> false  config
---```
function M.import(tool, opts)
    args.check("migrate.import", "tool", tool, "string")
    opts = session.complete(options.check("import", opts))
    args.check("migrate.import", "from", opts.from, args.path)
    return require("dbrun.migrate.import.run").run(tool, opts)
end

---The schema as SQL, as dbmate writes it.
---@param opts? dbrun.migrate.Options
---@return string text
---@return string? lacks what the text leaves out, in a sentence; nil: nothing is known to be missing
---```lua
---local schema = migrate.dump { table = "example_none" } -- what psql -f loads
---print(schema:find "PostgreSQL database dump" ~= nil)  --> true
---```
function M.dump(opts)
    return require("dbrun.migrate.show.dump").text(session.complete(options.check("dump", opts)))
end

---Looks for statements that are dangerous on a database in use. Needs no database, except for `pending`.
---@param opts? dbrun.migrate.Options|dbrun.migrate.LintOptions
---@return dbrun.migrate.LintFinding[]
---@return integer looked number of files checked
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/1_a.sql", "-- migrate:up\nalter table a drop column b;\n-- migrate:down\n")
---for _, finding in ipairs(migrate.lint { dirs = { dir } }) do print(finding.rule, finding.line) end
-----> drop-column  2
-----> missing-down  3
---fs.rmtree(dir)
---```
function M.lint(opts)
    opts = options.check("lint", opts)
    local lint = require "dbrun.migrate.show.lint"
    if not opts.pending then
        return lint.run(folders.of(opts.dirs), opts)
    end
    opts = session.complete(opts)
    local applied = session.reading(opts, function(conn)
        return ledger.applied(conn, ledger.locate(conn, opts.table))
    end)
    return lint.run(opts.dirs, opts, function(file) return not applied[file.version] end)
end

---The command line: `dbrun migrate --help`.
---@param argv string[]
---@return integer status for os.exit
function M.main(argv)
    args.list("migrate.main", "argv", argv, "string")
    return require("dbrun.migrate.show.command").main(argv, M)
end

local UP <const>, DOWN <const>, STATUS <const> = "migrate.up{...}", "migrate.down{...}", "migrate.status{...}"

return args.answer_for_names(M, "migrate", {
    run = UP, apply = UP, migrate = UP, upgrade = UP, latest = UP, rollback = DOWN, revert = DOWN, downgrade = DOWN,
    undo = DOWN, create = "migrate.new(name)", make = "migrate.new(name)", generate = "migrate.new(name)",
    fake = "migrate.stamp(version)", baseline = "migrate.stamp(version)", history = STATUS, list = STATUS,
    pending = STATUS,
})
