--- How programs reach the stack's servers: by the environment, or by arguments for redis-cli, which takes no address
--- from the environment.

local fs = require "dbrun.fs"
local postgres = require "dbrun.stack.postgres"
local programs = require "dbrun.stack.programs"
local redis = require "dbrun.stack.redis"

local M = {}

--- Variables that would lead a client elsewhere, or make it ask for a login that these servers do not have.
local REMOVED <const> = {
    "PGHOSTADDR", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLMODE", "PGREQUIRESSL",
    "PGREQUIREAUTH", "PGCHANNELBINDING", "PGGSSENCMODE", "PGTARGETSESSIONATTRS", "REDISCLI_AUTH", "VALKEYCLI_AUTH",
}

--- PATH, followed by the folder of the server's programs: some packages have psql only there.
local function path()
    local own = os.getenv "PATH" or "/usr/bin:/bin"
    local found, pg = pcall(programs.postgres)
    return found and own .. ":" .. pg.bindir or own
end

--- The environment: the addresses under the names that dbrun, libpq and shell scripts read.
---@param at dbrun.stack.Place
---@return table<string, string|false>
function M.environment(at)
    local env = { PATH = path() }
    for _, name in ipairs(REMOVED) do env[name] = false end
    env.DATABASE_URL, env.REDIS_URL = postgres.url(at), redis.url(at)
    -- The project's .env may name another database for migrations.
    env.MIGRATION_DATABASE_URL = env.DATABASE_URL
    for name, value in pairs(postgres.variables(at)) do env[name] = value end
    env.REDIS_SOCKET = redis.socket(at)
    return env
end

local REDIS_CLIENTS <const> = { ["redis-cli"] = true, ["valkey-cli"] = true }

--- Options of redis-cli that say where the server is.
local ADDRESS <const> = { ["-h"] = true, ["-p"] = true, ["-s"] = true, ["-u"] = true }

--- Options of redis-cli that take a value, which is not the command.
local VALUED <const> = {
    ["-a"] = true, ["-r"] = true, ["-i"] = true, ["-n"] = true, ["-d"] = true, ["-D"] = true, ["-t"] = true,
    ["-X"] = true, ["--user"] = true, ["--pass"] = true, ["--pattern"] = true, ["--eval"] = true, ["--sni"] = true,
    ["--cacert"] = true, ["--cacertdir"] = true, ["--cert"] = true, ["--key"] = true, ["--memkeys-samples"] = true,
}

--- Whether the options before the command name a server.
local function names_server(argv)
    local i = 2
    while argv[i] and argv[i]:sub(1, 1) == "-" do
        if ADDRESS[argv[i]] then return true end
        i = i + (VALUED[argv[i]] and 2 or 1)
    end
    return false
end

--- The first of these programs that exists, in PATH or beside the servers; nil when there is none.
---@param names string[]
---@return string?
function M.find(names)
    for _, name in ipairs(names) do
        for dir in path():gmatch "[^:]+" do
            local file = fs.join(dir, name)
            local there = fs.access(file, "x") and fs.stat(file)
            if there and there.kind == "file" then return file end
        end
    end
    return nil
end

--- The command to run: redis-cli gets the socket, unless its options name a server. The program is searched in the PATH
--- that it will have.
---@param argv string[] program and arguments
---@param at dbrun.stack.Place
---@return string[]
function M.command(argv, at)
    local program = not argv[1]:find("/", 1, true) and M.find { argv[1] } or argv[1]
    if not REDIS_CLIENTS[fs.basename(argv[1])] or names_server(argv) then return { program, table.unpack(argv, 2) } end
    return { program, "-s", redis.socket(at), table.unpack(argv, 2) }
end

return M
