--- Finds the installed server programs, and the user to run them as.

local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local M = {}

---@class dbrun.stack.Postgres
---@field bindir string
---@field major integer

local function has_server(dir)
    return fs.access(dir .. "/initdb", "x") and fs.access(dir .. "/postgres", "x")
end

--- Path of a program, searched in PATH; nil when there is none.
---@param name string
---@return string?
function M.which(name)
    for dir in (os.getenv("PATH") or "/usr/bin:/bin"):gmatch("[^:]+") do
        local path = fs.join(dir, name)
        local there = fs.access(path, "x") and fs.stat(path)
        if there and there.kind == "file" then return path end
    end
    return nil
end

--- "postgres (PostgreSQL) 15.20 (Debian ...)", "... 17beta1" -> 15, 17
local function major_of(bindir)
    local out = process.run { bindir .. "/postgres", "--version", timeout = 10 }.stdout
    return math.tointeger(tonumber(out:match("PostgreSQL%) (%d+)")))
end

local function versioned_folders(list)
    for _, base in ipairs { "/usr/lib/postgresql", "/usr/libexec/postgresql" } do
        if fs.exists(base) then
            for _, name in ipairs(fs.list(base)) do
                local dir = ("%s/%s/bin"):format(base, name)
                local major = math.tointeger(tonumber(name:match("^%d+$")))
                if major and has_server(dir) then list[#list + 1] = { bindir = dir, major = major } end
            end
        end
    end
end

local function add(list, dir)
    if not dir or not has_server(dir) then return end
    for _, known in ipairs(list) do
        if known.bindir == dir then return end
    end
    local major = major_of(dir)
    if major then list[#list + 1] = { bindir = dir, major = major } end
end

--- The PostgreSQL installations of this machine, the newest first; only that of DBRUN_PG_BINDIR if it is set.
---@return dbrun.stack.Postgres[]
function M.all_postgres()
    local chosen = os.getenv("DBRUN_PG_BINDIR")
    local list = {}
    if chosen and chosen ~= "" then
        add(list, chosen)
        if #list == 0 then
            errors.fail("config", ("DBRUN_PG_BINDIR: no initdb and postgres in the folder '%s'"):format(chosen))
        end
        return list
    end
    versioned_folders(list)
    if #list == 0 then
        local config = M.which("pg_config")
        add(list, config and process.run({ config, "--bindir", timeout = 10 }).stdout:match("^[^\n]+"))
        local initdb = M.which("initdb")
        add(list, initdb and fs.dirname(fs.realpath(initdb)))
    end
    table.sort(list, function(a, b) return a.major > b.major end)
    return list
end

--- The newest PostgreSQL, or the one of this major version.
---@param major? integer
---@return dbrun.stack.Postgres
function M.postgres(major)
    local all = M.all_postgres()
    for _, found in ipairs(all) do
        if not major or found.major == major then return found end
    end
    if #all == 0 then
        errors.fail("config", "no PostgreSQL server is installed (initdb and postgres were not found)",
            "install it (Debian: apt-get install postgresql), or set DBRUN_PG_BINDIR to its folder")
    end
    return errors.fail("config", ("PostgreSQL %d is not installed any more"):format(major),
        "it made the data: install it again, or start with empty data: dbrun stack reset")
end

--- Path of the Redis server, or of valkey's.
---@return string
function M.redis()
    local path = M.which("redis-server") or M.which("valkey-server")
    if path then return path end
    return errors.fail("config", "no Redis server is installed (redis-server was not found in PATH)",
        "install it (Debian: apt-get install redis-server)")
end

--- The user to run the servers as: nil = the current user. PostgreSQL refuses root, so root uses another one.
---@param owner? integer uid that owns existing data
---@return dbrun.process.User?
function M.server_user(owner)
    if process.uid() ~= 0 then return nil end
    local user = process.user(owner and owner ~= 0 and owner or "postgres")
    if user then return user end
    return errors.fail("config",
        owner and ("the data belongs to uid %d, which does not exist on this machine"):format(owner)
            or "PostgreSQL does not run as root, and there is no user 'postgres' to run it as",
        "run this as an ordinary user, or make the user: useradd --system --home /var/lib/postgresql postgres")
end

--- The environment for servers and their tools: settings for clients and supervisors are removed.
---@return table<string, string|false>
function M.environment()
    local env = { LC_ALL = "C", NOTIFY_SOCKET = false, LISTEN_FDS = false, LISTEN_PID = false }
    for _, name in ipairs { "PGDATA", "PGPORT", "PGHOST", "PGHOSTADDR", "PGUSER", "PGPASSWORD", "PGPASSFILE",
        "PGDATABASE", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS", "PGSSLMODE", "PGSSLCERT", "PGSSLKEY",
        "PGAPPNAME", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE", "PGTARGETSESSIONATTRS", "PGREQUIRESSL",
        "PGREQUIREAUTH", "PGCHANNELBINDING", "PGGSSENCMODE", "PGSSLROOTCERT", "PGCONNECT_TIMEOUT" } do
        env[name] = false
    end
    return env
end

return M
