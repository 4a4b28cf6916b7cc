--- The command line of the private stack.
local cli = require "dbrun.command_line"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local stack = require "dbrun.stack"

local M = {}

local EXAMPLES <const> = {
    "dbrun stack up                      start PostgreSQL and Redis for this folder",
    'eval "$(dbrun stack env --export)"  point this shell at them',
    "dbrun stack psql                    talk to PostgreSQL; what follows is psql's",
    "dbrun stack redis-cli ping          talk to Redis; what follows is redis-cli's",
    "dbrun stack run -- pg_dump -s       run one command with the addresses set",
    "dbrun stack down                    stop them; the data stays",
}

local EPILOG <const> = [[
The servers live under .dbrun/stack of the current folder, on unix sockets that only you can open;
started by root they run as the user 'postgres'. They run until `down`. DBRUN_PG_BINDIR
names the folder of another PostgreSQL's programs. In a sub-folder the servers of the project are meant.
`run`, `psql` and `redis-cli` set PGHOST, PGPORT, PGUSER, PGDATABASE, DATABASE_URL, REDIS_URL and
REDIS_SOCKET; redis-cli gets `-s SOCKET`.
Exit status: 0 done (status: both answer), 1 it failed (status: something is down), 2 wrong usage or
a server that is not installed.]]

local function parser()
    local p = cli.parser {
        name = "dbrun stack", description = "A PostgreSQL and a Redis of this folder's own.",
        examples = EXAMPLES, epilog = EPILOG,
    }
    p:require_command(true)
    p:command_target("command")
    cli.command(p, "up", "Start what does not run, and wait until both answer."):flag("-q --quiet", "Print nothing.")
    cli.command(p, "down", "Stop both; their data stays.")
    cli.command(p, "status", "Show whether both answer; exit status 1 when not.")
    cli.command(p, "env", "Print DATABASE_URL= and REDIS_URL= lines, as for .env or eval.")
        :flag("--export", "Put `export` in front of each.")
    cli.command(p, "reset", "Stop both and remove all their data.")
        :flag("--force", "Do not ask.")
    local run = cli.command(p, "run", "Run a command with the addresses in its environment; starts the servers.")
    run:usage("Usage: dbrun stack run [-h] -- <program> [<argument>] ...")
    run:argument("program", "The command."):args("*")
    for name, what in pairs { psql = "PostgreSQL", ["redis-cli"] = "Redis" } do
        local client = cli.command(p, name, ("Run %s on the stack's %s; starts the servers."):format(name, what))
        client:usage(("Usage: dbrun stack %s [<argument>] ..."):format(name))
        client:argument("program", "Arguments of the program."):args("*")
    end
    return p
end

local function report(style, verb, otherwise)
    return function(title, done)
        cli.print(("%-11s"):format(title), done and style.bold(verb) or style.dim(otherwise))
        io.stdout:flush()
    end
end

--- For a shell: without the part after `&` in the address of PostgreSQL.
local function print_env(urls, prefix)
    urls.DATABASE_URL = urls.DATABASE_URL:match "^[^&]*"
    for _, key in ipairs { "DATABASE_URL", "REDIS_URL" } do cli.print(prefix, key, "=", urls[key]) end
end

local commands = {}

function commands.up(args)
    local style = cli.style(1)
    local urls = stack.up(not args.quiet and { report = report(style, "started", "is up already") } or nil)
    if not args.quiet then print_env(urls, "") end
end

function commands.down()
    stack.down { report = report(cli.style(1), "stopped", "was not running") }
end

function commands.status()
    local style = cli.style(1)
    local list, place = stack.status()
    local all = true
    for _, server in ipairs(list) do
        all = all and server.up
        cli.report(("%-11s"):format(server.title), (server.up and style.green or style.red)(server.text))
    end
    if place then
        cli.print(("%-11s"):format("data"), place.data)
        cli.print(("%-11s"):format("sockets"), place.sockets)
    end
    return all and cli.OK or cli.FAILED
end

function commands.env(args)
    local urls = stack.env()
    if not urls then
        errors.fail("io", "the stack has never been started in this folder", "start it: dbrun stack up")
    end
    print_env(urls, args.export and "export " or "")
end

local function sure()
    local tty = require "dbrun.tty"
    if not tty.isatty(0) then
        errors.fail("usage", "reset removes all data of this folder's servers: without a terminal it needs --force")
    end
    io.stderr:write("Remove all data of this folder's PostgreSQL and Redis? [y/N] ")
    local answer = io.stdin:read("l")
    return answer and answer:match("^%s*[yY]") ~= nil
end

function commands.reset(args)
    if not args.force and not sure() then
        cli.print("nothing was removed")
        return cli.FAILED
    end
    local any, left = stack.reset()
    cli.print(any and "stopped and removed" or "there was nothing to remove")
    for _, path in ipairs(left) do
        cli.note(("stack: '%s' was left: it does not carry the mark of this stack, or holds other files, too"):format(
            path))
    end
end

--- Replaces this program by the command, which gets the terminal, the signals and the exit status.
local function become(argv)
    local clients = require "dbrun.stack.clients"
    stack.up()
    local at = require("dbrun.stack.place").find()
    local spec = clients.command(argv, at)
    spec.env = clients.environment(at)
    process.exec(spec)
end

function commands.run(args)
    if #args.program == 0 then
        errors.usage("run", "the command is missing: dbrun stack run -- program ...")
    end
    become(args.program)
end

local function client(package, ...)
    local names = { ... }
    return function(args)
        local path = require("dbrun.stack.clients").find(names)
        if not path then
            errors.fail("config", ("%s is not installed (it was not found in PATH)"):format(names[1]),
                ("install it (Debian: apt-get install %s)"):format(package))
        end
        become { path, table.unpack(args.program) }
    end
end

commands.psql = client("postgresql-client", "psql")
commands["redis-cli"] = client("redis-tools", "redis-cli", "valkey-cli")

local PASSES_ON <const> = { run = true, psql = true, ["redis-cli"] = true }

--- Everything after such a command belongs to the program, options included.
local function split_run(argv)
    if not PASSES_ON[argv[1]] or #argv == 2 and (argv[2] == "-h" or argv[2] == "--help") then return argv end
    local first = argv[2] == "--" and 3 or 2
    return { argv[1] }, { table.unpack(argv, first) }
end

--- The script: returns its exit status.
---@param argv string[]
---@return integer status
function M.main(argv)
    return cli.main("stack", function()
        local own, program = split_run(argv)
        local args, help = cli.parse(parser(), own)
        if not args then
            cli.print(help)
            return cli.OK
        end
        args.program = program or args.program
        return commands[args.command](args)
    end)
end

return M
