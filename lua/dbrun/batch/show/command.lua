--- The command line of batch jobs.
local cli = require "dbrun.command_line"

local M = {}

local EXAMPLES <const> = {
    "dbrun batch run orders-cents             start it, or go on; a second machine joins so, too",
    "dbrun batch run orders-cents --dry-run   what it would do",
    "dbrun batch run ./job.lua --workers 4 --for 6h",
    "dbrun batch status orders-cents --watch  look on",
    "dbrun batch pause orders-cents --wait    from any machine; resume lets it go on",
    "dbrun batch set orders-cents size=500 throttle.replication_lag=2",
    "dbrun batch errors orders-cents          what failed; retry opens it again",
}

local EPILOG <const> = [[
A job is a file scripts/batches/NAME.lua that returns
require("dbrun.batch").job{name=, table=, where=, run=}: dbrun help batch.
Its state is in the database, in the tables dbrun_batch_jobs and dbrun_batch_ranges: all but run
and check work on any machine, without the file. The database is DATABASE_URL.
Exit status: 0 done, or ended by --for or --limit; 1 it stopped, was cancelled or has failed ranges,
or no job has this name; 2 wrong usage or configuration; 130 and 143 interrupted.]]

local function seconds(parser, name, description)
    return parser:option(name, description):argname "TIME":convert(function(text)
        local value <const>, expected <const> = require("dbrun.cli.types").types.seconds.parse(text)
        if value and value > 0 then return value end
        return nil, ("option '%s': expected %s, got '%s'"):format(name, expected or "a time above 0", text)
    end)
end

local function job(command, description)
    return command:argument("name", description or "The job, or its file."):argname "<job>"
end

local function text_or_json(command)
    command:option("--format", "text or json."):argname "FORMAT":default "text":choices { "text", "json" }
end

local function target(command)
    command:option("--target", "The name of the database: a protected one (DBRUN_PROTECTED) is refused without it.")
        :argname "NAME"
end

local function run_command(p)
    local run <const> = cli.command(p, "run", "Start a job, go on with it, or join those who work on it.")
    job(run, "The job in scripts/batches, or a file.")
    cli.count_option(run, "--workers", "How many work side by side in this process (default 1).")
    cli.count_option(run, "--limit", "End after about so many rows."):argname "ROWS"
    seconds(run, "--for", "End after this time, as 90s, 30m or 6h."):target "seconds"
    run:mutex(run:flag("--dry-run", "Say what it would do, and change nothing."),
        run:flag("--try", "Run the first chunk and roll it back."))
    run:flag("--count", "Count the table's rows first, for an exact percentage.")
    run:flag("--adopt", "Go on although the file has changed since the job was started.")
    run:flag("--force", "Go on although the dry run would refuse it.")
    seconds(run, "--reconnect", "How long to look for a lost server (default 300s).")
    target(run)
    text_or_json(run)
end

local function parser()
    local p <const> = cli.parser {
        name = "dbrun batch",
        description = "Work on many rows: in chunks, safely, from one machine or several.",
        examples = EXAMPLES, epilog = EPILOG,
    }
    p:require_command(true)
    p:command_target "command"
    run_command(p)
    text_or_json(cli.command(p, "list", "List the jobs of the database."))
    local status <const> = cli.command(p, "status", "Show how a job is, or all that have not ended.")
    job(status):args "?"
    status:flag("--watch", "Show it again every second until the job ends.")
    text_or_json(status)
    local failed <const> = cli.command(p, "errors", "Show the ranges that failed, and why.")
    job(failed)
    text_or_json(failed)
    local log <const> = cli.command(p, "log", "Show who started, paused, set and resumed it, and when.")
    job(log)
    text_or_json(log)
    local pause <const> = cli.command(p, "pause", "Let the workers finish their chunk and wait.")
    job(pause):args "?"
    pause:flag("--all", "All jobs of the database.")
    pause:flag("--wait", "Return when no chunk is running anywhere.")
    pause:option("--reason", "The reason, which `status` and waiting runs show."):argname "TEXT"
    local resume <const> = cli.command(p, "resume", "Let a paused or stopped job go on.")
    job(resume):args "?"
    resume:flag("--all", "All that are paused.")
    job(cli.command(p, "cancel", "End a job for good; what it did stays."))
    job(cli.command(p, "retry", "Open the failed ranges again."))
    job(cli.command(p, "wait", "Wait for the end; exit status 0 when all is done."))
    local check <const> = cli.command(p, "check", "Count what the job's `where` still finds, by reading only.")
    job(check)
    text_or_json(check)
    local set <const> = cli.command(p, "set", "Change a value of a running job: it wins over the file.")
    job(set)
    set:argument("values", "size=500, throttle.replication_lag=2; size= unsets it."):args "+"
        :argname "<key=value>"
    job(cli.command(p, "forget", "Remove a job's records, so that a run starts anew."))
    local init <const> = cli.command(p, "init", "Make the two tables, for a role that may.")
    init:flag("--print", "Print their SQL instead.")
    target(init)
    return p
end

---The engine of the configuration: these commands need no file.
local function engine()
    return require("dbrun.db").async
end

local commands <const> = {}

for _, name in ipairs { "run", "check" } do
    commands[name] = function(args) return require("dbrun.batch.show.run")[name](args) end
end
for _, name in ipairs { "list", "status", "errors", "log" } do
    commands[name] = function(args) return require("dbrun.batch.show.views")[name](args, engine()) end
end
for _, name in ipairs { "pause", "resume", "cancel", "retry", "set", "forget", "wait", "init" } do
    commands[name] = function(args) return require("dbrun.batch.show.control")[name](args, engine()) end
end

---@param argv string[]
---@return integer status
function M.main(argv)
    return cli.main("batch", function()
        local args <const>, help <const> = cli.parse(parser(), argv)
        if not args then
            cli.print(help)
            return cli.OK
        end
        return commands[args.command](args)
    end)
end

return M
