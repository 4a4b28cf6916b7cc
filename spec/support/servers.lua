--- Real servers for specs, on unix sockets in a temporary folder.
---
---     local servers = require "spec.support.servers"
---     local url = servers.database()             -- a fresh database on the server that this file's specs share
---     local url = servers.redis_db()             -- an unused database number on the shared Redis
---     local pg <close> = servers.postgres{settings = {max_connections = 5}}    -- a separate server
---     pg:stop() pg:start() pg:restart("immediate") pg:kill("KILL") pg:psql("select 1") pg:log()
---     local r <close> = servers.redis{config = {maxclients = 5}}
---
--- The servers stop when the process that started them ends, even when it is killed, and leave nothing behind.

local folder = require "spec.support.servers.folder"
local postgres = require "spec.support.servers.postgres"
local process = require "dbrun.process"
local redis = require "spec.support.servers.redis"

local M = {}

local all = {}

local function remember(server)
    all[#all + 1] = server
    return server
end

--- A separate PostgreSQL: `<close>` it, or it stops with the process.
---@param opts? spec.PostgresOptions
---@return spec.Postgres
function M.postgres(opts)
    return remember(postgres.new(opts))
end

--- A separate Redis.
---@param opts? spec.RedisOptions
---@return spec.Redis
function M.redis(opts)
    return remember(redis.new(opts))
end

local shared = {}

--- The servers that all specs of this process share; started when first asked for.
---@return {postgres: spec.Postgres, redis: spec.Redis}
function M.shared()
    return { postgres = M.shared_postgres(), redis = M.shared_redis() }
end

---@return spec.Postgres
function M.shared_postgres()
    shared.postgres = shared.postgres or M.postgres()
    return shared.postgres
end

---@return spec.Redis
function M.shared_redis()
    shared.redis = shared.redis or M.redis()
    return shared.redis
end

--- The major version of the shared PostgreSQL.
---@return integer
function M.version()
    return M.shared_postgres().major
end

--- Why the pg_dump in PATH cannot dump the shared PostgreSQL, nil when it can: it must not be older.
---@return string?
function M.pg_dump_lacks()
    local told = process.run { "sh", "-c", "pg_dump --version" }.stdout
    local major = math.tointeger(tonumber(told:match "%) (%d+)"))
    if major and major >= M.version() then return nil end
    return ("pg_dump %s is older than the server (PostgreSQL %d)"):format(major or "is missing or", M.version())
end

local databases, numbers = 0, 0

--- A fresh, empty database on the shared PostgreSQL. It is removed with the server.
---@return string url
---@return string name
function M.database()
    local pg = M.shared_postgres()
    databases = databases + 1
    local name = ("spec_%d"):format(databases)
    -- Where files can be copied, PostgreSQL 15 need not write each page of the template to its log.
    local strategy = pg.major >= 15 and " strategy file_copy" or ""
    pg:psql(("create database %s template template0%s"):format(name, strategy))
    return pg:address { database = name }, name
end

--- An empty database number on the shared Redis, which no other call returns.
---@return string url
---@return integer number
function M.redis_db()
    local r = M.shared_redis()
    numbers = numbers + 1
    return r:address { db = numbers }, numbers
end

--- Stops every server of this process and removes their folder. Runs automatically when the program ends.
function M.stop_all()
    for _, server in ipairs(all) do
        if not server.closed then server:close() end
    end
    all, shared = {}, {}
    folder.remove()
end

--- When the program ends, no task can wait any more: this sends signals, waits briefly, and removes the folder.
local function at_exit()
    local pids = {}
    for _, server in ipairs(all) do
        if server.pid and not server.closed then
            pids[#pids + 1] = server.pid
            process.kill(server.pid, "CONT")
            process.kill(server.pid, "QUIT")
        end
    end
    for _, pid in ipairs(pids) do
        local tries = 0
        while process.alive(pid) and tries < 200 do
            tries = tries + 1
            os.execute("sleep 0.01")
        end
        if process.alive(pid) then process.kill(pid, "KILL") end
    end
    for _, server in ipairs(all) do
        if server.free_memory then server:free_memory() end
    end
    folder.remove()
end

M.guard = setmetatable({}, { __gc = at_exit })

return M
