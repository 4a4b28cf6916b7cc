--- The command line of the verification.
local cli = require "dbrun.command_line"

local M = {}

local EXAMPLES <const> = {
    "dbrun verify                        check servers and database",
    "dbrun verify --strict               a missing table is a FAIL: after a deployment",
    "dbrun verify --wait 30              wait up to 30 s for servers that are starting",
    "dbrun verify --only redis,schema    these checks and those they need",
    "dbrun verify --format json --output verify.json",
    "dbrun verify --format prometheus --output /var/lib/node_exporter/dbrun.prom",
    "dbrun verify --watch 5              every 5 s; show what changes",
    "dbrun --stack verify                on the private servers of this project",
}

local EPILOG <const> = [[
Each check prints PASS, WARN, FAIL, or SKIP when there is nothing to check; with WARN and FAIL also the
cause, the configuration key and a remedy. All checks run concurrently.
Exit status: 0 no FAIL, 1 a FAIL, 2 wrong usage or configuration; with --format nagios that of a plugin:
0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.]]

local function parser()
    local p = cli.parser {
        name = "dbrun verify",
        description = "Check that PostgreSQL and Redis can be reached and used, and contain what is expected.",
        examples = EXAMPLES,
        epilog = EPILOG,
    }
    p:flag("--strict", "Missing tables, partitions and migrations are a FAIL, not a WARN.")
    cli.seconds(p, "--wait", "Wait up to S seconds until the servers are usable.")
    cli.seconds(p, "--deadline", "Seconds for all checks together (default 10).", 0.1)
    p:option("--format", "text, json, junit, tap, nagios, prometheus or github."):argname "FORMAT"
        :choices(require("dbrun.verify.report").names):default "text"
    p:option("--fail-on", "Exit with 1 from this status on: fail (default) or warn."):argname "STATUS"
        :choices { "fail", "warn" }
    p:option("--output", "Write the report to FILE too, in that format."):argname "FILE"
    p:option("--only", "Run these checks and those they need."):argname "NAME,..":convert(cli.list)
    p:option("--skip", "Do not run these checks."):argname "NAME,..":convert(cli.list)
    p:option("--expect", "File with the expectations (default scripts/expect.lua)."):argname "FILE"
    p:option("--hooks", "Folder with hooks (default: DBRUN_HOOKS_DIR, scripts/hooks)."):argname "FOLDER"
    cli.seconds(p, "--watch", "Repeat every S seconds until Ctrl-C, and show what changes.", 0.05)
    p:flag("--list", "List the checks and run none.")
    return p
end

local function list(args, verify)
    local rows = {}
    local expectations, problem = verify.expectations(args.expect)
    if problem then error(problem, 0) end
    local checks = verify.checks(expectations)
    for i, check in ipairs(checks) do rows[i] = { check.name, check.about } end
    for _, line in ipairs(cli.table(rows)) do cli.report(line) end
    return cli.OK
end

local function once(args, verify)
    return verify.run {
        strict = args.strict, deadline = args.deadline, wait = args.wait, only = args.only, skip = args.skip,
        expect = args.expect, hooks = args.hooks, fail_on = args.fail_on,
        waiting = function(what, waited) cli.note(("waiting (%s) for %s"):format(cli.duration(waited), what)) end,
    }
end

---Shows the report, then writes it to the file, which may fail.
local function show(args, results, summary)
    local report = require "dbrun.verify.report"
    local format = args.output and "text" or args.format
    cli.write(report.formats[format](results, summary, format == "text" and cli.style(1) or nil))
    if args.output then
        require("dbrun.fs").write(args.output, report.formats[args.format](results, summary))
    end
end

local function run(args, verify)
    if args.watch then
        return require("dbrun.verify.watch").run(args, function() return once(args, verify) end, show)
    end
    collectgarbage("incremental", 1000) -- a run ends before a collection would pay
    local results, summary = once(args, verify)
    show(args, results, summary)
    if args.format == "nagios" then return require("dbrun.verify.monitors").nagios_status(results, summary) end
    return summary.status
end

---Whether the report is for Nagios, where the exit statuses 1 and 2 are about the servers, and 3 means unknown.
local function for_nagios(argv)
    for i, word in ipairs(argv) do
        if word == "--format=nagios" or word == "--format" and argv[i + 1] == "nagios" then return true end
    end
    return false
end

---@param argv string[]
---@param verify table the module dbrun.verify
---@return integer status
function M.main(argv, verify)
    local ended = false
    local status = cli.main("verify", function()
        local args, help = cli.plain(argv, { strict = true, list = true }, { format = "text" }), nil
        if not args then args, help = cli.parse(parser(), argv) end
        if not args then
            cli.print(help)
            return cli.OK
        end
        local result = (args.list and list or run)(args, verify)
        ended = true
        return result
    end)
    if ended or status == cli.OK or not for_nagios(argv) then return status end
    cli.write "DBRUN UNKNOWN - the checks did not run; standard error says why\n"
    return 3
end

return M
