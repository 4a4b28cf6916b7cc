--- The command line of migrations, second part: subcommands that inspect and repair.
local cli = require "dbrun.command_line"
local delays = require "dbrun.migrate.show.delays"
local errors = require "dbrun.error"
local options = require "dbrun.migrate.options"
local tty = require "dbrun.tty"

local M = {}

local function target_only()
    return { target = function(target) cli.report("Target: ", target) end }
end

function M.stamp(args, migrate)
    args.listener = target_only()
    local result = migrate.stamp(args.version, options.pick("stamp", args))
    for _, file in ipairs(result.added) do cli.report("recorded  ", cli.one_line(file.name)) end
    for _, file in ipairs(result.removed) do cli.report("removed   ", cli.one_line(file.name)) end
    cli.report(("The database counts as %s. No migration was run."):format(args.version))
    return cli.OK
end

function M.verify(args, migrate)
    local findings <const>, compared <const>, unknown <const> = migrate.verify(options.pick("verify", args))
    for _, finding in ipairs(findings) do
        cli.report(("%s: %s\n  hint: %s"):format(finding.name, finding.text, finding.hint))
    end
    if unknown > 0 then
        cli.report(("%s applied without a checksum (by another program?): whether %s has changed is not known\n"
            .. "  hint: 'repair' records the checksums of the files as they are now"):format(
            unknown == 1 and "1 migration was" or unknown .. " migrations were",
            unknown == 1 and "its file" or "one of their files"))
    elseif #findings == 0 then
        cli.print(compared == 0 and "No migration is applied: there is nothing to compare."
            or "The files are the same as when they were applied.")
    end
    return #findings > 0 and cli.FAILED or cli.OK
end

function M.repair(args, migrate)
    args.listener = target_only()
    local done = migrate.repair(options.pick("repair", args))
    for _, line in ipairs(done) do cli.print(tty.printable(line)) end
    if #done == 0 then cli.print "Nothing to repair." end
    return cli.OK
end

local function statement_lines(statement)
    local blocks = require("dbrun.migrate.show.locks").BLOCKS
    local out = { ("-- line %d%s%s"):format(statement.line, statement.outside and ", outside a transaction" or "",
        statement.done and ", done already" or "") }
    if not statement.locks then out[#out + 1] = "-- locks: not known (the parser does not know this statement)" end
    for _, lock in ipairs(statement.locks or {}) do
        out[#out + 1] = ("-- locks %s in %s: blocks %s"):format(lock.table, lock.mode, blocks[lock.mode])
    end
    out[#out + 1] = statement.sql .. ";"
    return table.concat(out, "\n")
end

function M.plan(args, migrate)
    args.direction = args.down and "down" or "up"
    local plan = migrate.plan(options.pick("plan", args))
    if args.format == "json" then
        cli.print(require("dbrun.migrate.show.as_json").plan(plan, args.direction))
        return cli.OK
    end
    if #plan == 0 then
        cli.print("-- ", args.down and "Nothing to take back." or delays.nothing(args.to))
    end
    for _, planned in ipairs(plan) do
        -- A line end in the name would end the comment.
        cli.print(("-- %s (%s, %s)"):format(cli.one_line(planned.file.path), planned.direction,
            planned.transaction and "one transaction" or "statement by statement"))
        if planned.lua then cli.print "-- a Lua migration: what it does is not known before" end
        for _, statement in ipairs(planned.statements) do cli.print(statement_lines(statement)) end
        cli.print ""
    end
    return cli.OK
end

function M.dump(args, migrate)
    local text <const>, lacks <const> = migrate.dump(options.pick("dump", args))
    if lacks then cli.note("migrate: warning: " .. lacks) end
    if args.file == "-" then
        cli.write(text)
        return cli.OK
    end
    local fs = require "dbrun.fs"
    fs.mkdir_p(fs.dirname(args.file))
    fs.write(args.file, text, nil, { through = true })
    cli.print("Written: ", args.file)
    return cli.OK
end

---Prints what becomes of each file.
local function print_plan(plan)
    for _, entry in ipairs(plan.entries) do
        local sources = table.concat(entry.sources, ", ")
        local refused = entry.refused
        if refused then
            cli.report(("refused  %s%s: %s"):format(refused.source, refused.line and ":" .. refused.line or "",
                refused.message))
        else
            cli.report(("taken    %s -> %s%s%s"):format(sources, entry.target, entry.applied and " (applied)" or "",
                entry.changes[1] and ": " .. table.concat(entry.changes, "; ") or ""))
        end
    end
    local paths = {}
    for path in pairs(plan.extra) do paths[#paths + 1] = path end
    table.sort(paths)
    for _, path in ipairs(paths) do
        cli.report(("hook     %s%s"):format(path, plan.extra_done[path] and " (done)" or ""))
    end
    for _, other in ipairs(plan.others) do cli.report(("left     %s: %s"):format(other.source, other.message)) end
end

function M.import(args, migrate)
    local opts = options.pick("import", args)
    if not opts.from then errors.fail("usage", "import: --from FOLDER is missing", "dbrun migrate import --help") end
    opts.placeholders = {}
    for _, text in ipairs(args.placeholder) do
        local name, value = text:match "^([^=]+)=(.*)$"
        if not name then errors.fail("usage", ("--placeholder: expected NAME=VALUE, got '%s'"):format(text)) end
        opts.placeholders[name] = value
    end
    opts.listener = { plan = print_plan, waiting = require("dbrun.migrate.show.delays").waiting }
    local result = migrate.import(args.tool, opts)
    local plan = result.plan
    cli.report(("%s in %s."):format(cli.plural(#plan.entries, "migration"), plan.dir))
    if args.files_only then
        cli.print "No database was asked: what is applied there is not recorded."
    elseif not result.known and result.recorded > 0 then
        cli.report(("The database has no table of %s: %s recorded as applied before, and that stays."):format(
            plan.tool.NAME, result.recorded == 1 and "1 of these is" or result.recorded .. " of these are"))
    elseif not result.known then
        cli.print("The database has no table of ", plan.tool.NAME, ": nothing counts as applied.")
    else
        cli.report(("%d recorded as applied.%s"):format(result.stamped, result.moved
            and (" The table of %s is called %s now."):format(plan.tool.NAME, result.moved) or ""))
    end
    return cli.OK
end

local function print_rules()
    for _, rule in ipairs(require("dbrun.migrate.show.lint").RULES) do
        cli.print(("%s (%s%s)\n  why:  %s\n  safe: %s"):format(rule.name, rule.severity,
            rule.style and ", with --style" or "", rule.why, rule.safe))
    end
    return cli.OK
end

local RANK <const> = { never = 0, error = 1, warning = 2, note = 3 }

function M.lint(args, migrate)
    if args.rules then return print_rules() end
    if #args.files > 0 and (#args.dirs > 0 or args.from) then
        errors.usage("lint", "files, or --dir and --from, not both")
    end
    local ok, findings, looked = pcall(migrate.lint, options.pick("lint", args))
    if not ok then
        local e = findings
        if not errors.is(e) or e.kind == "config" or e.kind == "usage" then error(e, 0) end
        -- 1 means findings and nothing else.
        errors.fail("config", (args.pending and e.kind ~= "io" and "lint --pending cannot ask the database: " or "")
            .. e.message, e.hint)
    end
    local text = require("dbrun.migrate.lint.formats").write(args.format, findings, looked)
    if text ~= "" then cli.report(text) end
    for _, finding in ipairs(findings) do
        if RANK[finding.severity] <= RANK[args.fail_on] then return cli.FAILED end
    end
    return cli.OK
end

return M
