--- `dbrun test`: runs specs with busted, on servers that are made for this run and removed after it.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local server = require "dbrun.testing.server"
local task = require "dbrun.task"

local M = {}

local EXAMPLES <const> = {
    "dbrun test                          run spec/",
    "dbrun test spec/tidy_spec.lua       run one file",
    'dbrun test -- --filter "keeps"      everything after -- is for busted',
    "dbrun --stack test                  on the private stack: nothing to start, 0.5 s less",
}

local EPILOG <const> = [[
The specs get a PostgreSQL and a Redis of their own, in .dbrun/test-NUMBER, which are removed at the
end; --stack uses the project's private stack. The configured servers are never used.
DBRUN_TEST_DATABASE_URL and DBRUN_TEST_REDIS_URL name other servers; the role must be allowed to
make databases.
Exit status: 0 all passed, 1 a spec failed, 2 wrong usage, no specs, or busted is not installed.]]

local function parser()
    local p = cli.parser {
        name = "dbrun test", description = "Run this project's specs.", examples = EXAMPLES, epilog = EPILOG,
    }
    p:usage("Usage: dbrun test [-h] [<path>] ... [-- <argument of busted>] ...")
    p:argument("path", "Files and folders (default: spec)."):args("*")
    return p
end

--- Everything after -- is for busted.
local function split(argv)
    for i, word in ipairs(argv) do
        if word == "--" then return { table.unpack(argv, 1, i - 1) }, { table.unpack(argv, i + 1) } end
    end
    return argv, {}
end

local function check_paths(paths)
    for _, path in ipairs(paths) do
        if not fs.exists(path) then
            errors.fail("usage", ("there is no '%s' here"):format(path), path == "spec"
                and "specs are files spec/NAME_spec.lua" or "a path is a file or a folder with specs")
        end
    end
end

-- ---- servers for one run ----


local function dbrun(folder, ...)
    local words <const> = { core.options.program, "--no-env", "stack", ... }
    words.cwd, words.timeout = folder, 120
    return process.run(words)
end

local function remove(folder)
    local result <const> = dbrun(folder, "reset", "--force")
    if result.code ~= 0 then cli.note("test: ", (result.stderr:gsub("%s+$", ""))) end
    fs.rmtree(folder)
end

--- Removes the servers of a run that was killed: its process is gone, or another one has its number now.
local function remove_left(above)
    for _, name in ipairs(fs.exists(above) and fs.list(above) or {}) do
        local pid <const>, started <const> = name:match "^test%-(%d+)%-(%d+)$"
        if pid and not process.alive(math.tointeger(tonumber(pid)), math.tointeger(tonumber(started))) then
            remove(fs.join(above, name))
        end
    end
end

--- Starts a stack of its own for this run.
---@return { urls: table<string, string>, [string]: any } servers a value to close
local function own_servers()
    local above <const> = fs.join(fs.cwd(), ".dbrun")
    remove_left(above)
    local me <const> = process.pid()
    local folder <const> = fs.join(above, ("test-%d-%d"):format(me, process.info(me).start))
    -- The folder of a stack that is there is what `dbrun stack` takes, whatever lies above.
    fs.mkdir_p(fs.join(folder, ".dbrun", "stack"))
    local ignore <const> = fs.join(above, ".gitignore")
    if not fs.exists(ignore) then fs.write(ignore, "*\n") end
    local servers <const> = setmetatable({ urls = {} }, { __close = function() task.shield(remove, folder) end })
    local result <const> = dbrun(folder, "up")
    if result.code ~= 0 then
        remove(folder)
        errors.raise {
            kind = result.code == cli.USAGE and "config" or "io", message = "the servers for the specs did not start",
            detail = result.stderr,
        }
    end
    for key, value in dbrun(folder, "env").stdout:gmatch "([%u_]+)=([^\n]+)" do servers.urls[key] = value end
    return servers
end

--- Where the specs' databases are made.
local function servers_of_run()
    local given <const> = { urls = core.options.stack and core.options.overlay or nil }
    if os.getenv(server.DATABASE) or os.getenv(server.REDIS) then
        server.find() -- both, or an error
        given.urls = { DATABASE_URL = os.getenv(server.DATABASE), REDIS_URL = os.getenv(server.REDIS) }
    end
    return given.urls and setmetatable(given, { __close = function() end }) or own_servers()
end

-- ---- busted ----

local RUNNER <const> = 'require "busted.runner" { standalone = false }\n'

local function check_busted()
    if package.searchpath("busted.runner", package.path) then return true end
    cli.note("test: busted, which runs specs, is not installed")
    cli.note("  sudo apt-get install lua-busted       (or: luarocks install busted)")
    return false
end

local function run(paths, more)
    local servers <close> = servers_of_run()
    local runner <const> = os.tmpname()
    local _ <close> = setmetatable({}, { __close = function() os.remove(runner) end })
    fs.write(runner, RUNNER)
    local words <const> = { core.options.program, runner, "--ignore-lua" }
    table.move(more, 1, #more, #words + 1, words)
    table.move(paths, 1, #paths, #words + 1, words)
    words.env = { [server.DATABASE] = servers.urls.DATABASE_URL, [server.REDIS] = servers.urls.REDIS_URL }
    words.stdin_from, words.stdout, words.stderr = "inherit", "inherit", "inherit"
    local result <const> = process.run(words)
    return result.signal and result.code or result.ok and cli.OK or cli.FAILED
end

--- The script: returns its exit status.
---@param argv string[]
---@return integer status
function M.main(argv)
    return cli.main("test", function()
        local own <const>, more <const> = split(argv)
        local args <const>, help <const> = cli.parse(parser(), own)
        if not args then
            cli.print(help)
            return cli.OK
        end
        local paths <const> = #args.path > 0 and args.path or { "spec" }
        check_paths(paths)
        if not check_busted() then return cli.USAGE end
        return run(paths, more)
    end)
end

return M
