--- `dbrun test`: runs specs with busted, on servers that are made for this run and removed after it.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local environment = require "dbrun.testing.environment"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local own = require "dbrun.testing.own"
local server = require "dbrun.testing.server"

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

--- Where the specs' databases are made.
local function servers_of_run()
    local given <const> = { urls = core.options.stack and core.options.overlay or nil }
    if os.getenv(server.DATABASE) or os.getenv(server.REDIS) then
        server.find() -- both, or an error
        given.urls = { DATABASE_URL = os.getenv(server.DATABASE), REDIS_URL = os.getenv(server.REDIS) }
    end
    return given.urls and setmetatable(given, { __close = function() end }) or own.start()
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
    words.env = environment.of_specs()
    words.env[server.DATABASE], words.env[server.REDIS] = servers.urls.DATABASE_URL, servers.urls.REDIS_URL
    words.stdin_from, words.stdout, words.stderr = "inherit", "inherit", "inherit"
    local result <const> = process.run(words)
    return result.signal and result.code or result.ok and cli.OK or cli.FAILED
end

--- The script: returns its exit status.
---@param argv string[]
---@return integer status
function M.main(argv)
    return cli.main("test", function()
        local before <const>, more <const> = split(argv)
        local args <const>, help <const> = cli.parse(parser(), before)
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
