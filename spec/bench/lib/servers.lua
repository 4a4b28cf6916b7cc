-- The private PostgreSQL and Redis of a benchmark: in a temporary folder, on unix sockets only. floor/keeper.c
-- stops them when the harness ends, for whatever reason.
local shell <const> = require "bench.lib.shell"

local M = {}

local SIGQUIT <const>, SIGTERM <const> = 3, 15

---@class bench.Servers
---@field dir string
---@field bin string           -- PostgreSQL's programs
---@field conninfo string      -- for libpq
---@field database_url string
---@field redis_socket string
---@field redis_url string
---@field versions table<string, string>
---@field private keepers file*[]
local Servers = {}
Servers.__index = Servers

-- The data is thrown away, so nothing waits for a disk; autovacuum is off, so that it does not disturb.
local POSTGRESQL_CONF <const> = [[
listen_addresses = ''
unix_socket_directories = '%s'
max_connections = 150
shared_buffers = '64MB'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
log_min_messages = warning
]]

--- PostgreSQL's own folder of programs, the newest version; nil when no server is installed.
---@return string|nil
function M.postgresql_bin()
    local newest = 0
    for _, name in ipairs(shell.glob("/usr/lib/postgresql", "[0-9]*/bin/initdb")) do
        newest = math.max(newest, tonumber(name:match "^%d+"))
    end
    if newest > 0 then return ("/usr/lib/postgresql/%d/bin"):format(newest) end
    local path <const> = shell.which "initdb"
    return path and path:match "^(.*)/initdb$"
end

--- The packages that are missing to start the servers; nil when none.
---@return string|nil
function M.missing()
    local packages <const> = {}
    if not M.postgresql_bin() then packages[#packages + 1] = "postgresql" end
    if not shell.which "redis-server" then packages[#packages + 1] = "redis-server" end
    if not shell.which "cc" then packages[#packages + 1] = "gcc" end
    return packages[1] and table.concat(packages, " ")
end

local function is_root()
    return shell.first_line { "id", "-u" } == "0"
end

--- A PostgreSQL server refuses to run as root.
local function as_owner(argv)
    if not is_root() then return argv end
    local words <const> = { "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--" }
    return table.move(argv, 1, #argv, #words + 1, words)
end

--- Runs the program until it succeeds; raises an error with the server's log when it does not within ten seconds.
local function wait_for(argv, log)
    local loop <const> = 'i=0; until "$@" >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.05; done'
    local words <const> = { "sh", "-c", loop, "sh" }
    local _, status <const> = shell.run(table.move(argv, 1, #argv, #words + 1, words))
    if status ~= 0 then error("the server does not answer:\n" .. (shell.read(log) or ""), 0) end
end

---@private
function Servers:keep(ctx, signal, log, argv)
    local words <const> = { ctx:compile "keeper", signal, log }
    self.keepers[#self.keepers + 1] =
        assert(io.popen(shell.command(table.move(argv, 1, #argv, #words + 1, words)), "w"))
end

---@private
function Servers:start_postgresql(ctx)
    local data <const>, log <const> = self.dir .. "/data", self.dir .. "/postgresql.log"
    shell.must(as_owner { self.bin .. "/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
        "--locale=C" })
    local f <close> = assert(io.open(data .. "/postgresql.conf", "a"))
    assert(f:write(POSTGRESQL_CONF:format(self.dir)))
    f:close()
    self:keep(ctx, SIGQUIT, log, as_owner { self.bin .. "/postgres", "-D", data })
    wait_for({ self.bin .. "/pg_isready", "-q", "-h", self.dir }, log)
end

---@private
function Servers:start_redis(ctx)
    local log <const> = self.dir .. "/redis.log"
    self:keep(ctx, SIGTERM, log, { "redis-server", "--port", 0, "--unixsocket", self.redis_socket, "--save", "",
        "--appendonly", "no", "--dir", self.dir })
    wait_for({ "redis-cli", "-s", self.redis_socket, "ping" }, log)
end

--- Runs SQL with psql; raises when it fails.
---@param ... string  -- one statement each
---@return string output
function Servers:sql(...)
    local argv <const> = { self.bin .. "/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo }
    for _, statement in ipairs { ... } do
        argv[#argv + 1] = "-c"
        argv[#argv + 1] = statement
    end
    return shell.must(argv)
end

-- pgbench's own tables at scale 1, but each balance is the account's number, so that answers can be checked.
---@private
function Servers:fill()
    shell.must { self.bin .. "/createdb", "-h", self.dir, "-U", "postgres", "bench" }
    shell.must { self.bin .. "/pgbench", "-i", "-q", "-s", 1, "-h", self.dir, "-U", "postgres", "bench" }
    self:sql("UPDATE pgbench_accounts SET abalance = aid", "VACUUM FULL ANALYZE pgbench_accounts", "CHECKPOINT")
    self.versions = {
        postgresql = (self:sql "SHOW server_version":match "^%S+"),
        redis = shell.first_line { "redis-server", "--version" }:match "v=(%S+)",
    }
end

--- Stops both servers and removes their folder; a second call does nothing.
function Servers:close()
    for i = #self.keepers, 1, -1 do table.remove(self.keepers, i):close() end
    if self.dir then shell.run { "rm", "-rf", self.dir } end
    self.dir = nil
end

Servers.__close = Servers.close
Servers.__gc = Servers.close

--- Starts and fills both servers.
---@param ctx bench.Context
---@return bench.Servers  -- closable
function M.start(ctx)
    local dir <const> = assert(shell.first_line { "mktemp", "-d", (os.getenv "TMPDIR" or "/tmp") .. "/bench.XXXXXX" })
    local self <const> = setmetatable({
        dir = dir, keepers = {}, bin = M.postgresql_bin(), redis_socket = dir .. "/redis.sock",
        conninfo = "host=" .. dir .. " user=postgres dbname=bench",
        database_url = "postgresql://postgres@/bench?host=" .. dir:gsub("[^%w/._-]", function(c)
            return ("%%%02X"):format(c:byte())
        end),
        redis_url = "unix://" .. dir .. "/redis.sock",
    }, Servers)
    if is_root() then shell.must { "chown", "postgres", dir } end
    local ok <const>, why <const> = pcall(function()
        self:start_postgresql(ctx)
        self:start_redis(ctx)
        self:fill()
    end)
    if not ok then
        self:close()
        error(why, 0)
    end
    return self
end

return M
