--- The environment of a program that a spec runs: the spec's servers, and none of the configured ones.
local url = require "dbrun.url"

local M = {}

--- The hint for a spec without servers (url.NOWHERE).
M.HINT = "dbrun test keeps specs away from configured servers: local t = testing.project(), in a describe, makes a "
    .. "database and takes an empty Redis (dbrun help testing)"

--- Variables that name another server, or change sessions on this one.
local OTHER <const> = {
    "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "REDIS_HOST", "REDIS_PORT",
    "REDIS_DB", "REDIS_USERNAME", "REDIS_PASSWORD", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD",
    "PGPASSFILE", "PGDATABASE", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS", "PGSSLMODE", "PGTARGETSESSIONATTRS",
    "DBRUN_PROTECTED",
}

--- The project's own folders, which a .env that is not read may have set.
local FOLDERS <const> = { "DBRUN_MIGRATIONS_DIR", "DBRUN_SEEDS_DIR", "DBRUN_HOOKS_DIR", "DBRUN_BATCHES_DIR" }

---@param urls { database_url: string, redis_url: string }
---@param more? table<string, string|number|false> variables of the caller, on top
---@return table<string, string|number|false> env as process.run takes it
function M.of(urls, more)
    local config <const> = require "dbrun.config"
    local env <const> = {
        DATABASE_URL = urls.database_url, MIGRATION_DATABASE_URL = urls.database_url, REDIS_URL = urls.redis_url,
    }
    for _, name in ipairs(OTHER) do env[name] = false end
    for _, name in ipairs(FOLDERS) do
        if config.source(name) ~= "default" then env[name] = config[name] end
    end
    for name, value in pairs(more or {}) do env[name] = value end
    return env
end

---The environment of the specs themselves: it names servers that do not exist, until testing.project() sets others. An
---empty configuration would mean libpq's defaults and the servers of .env.
---@return table<string, string|false> env as process.run takes it
function M.of_specs()
    local database_url <const> = "postgresql:///?host=" .. url.encode(url.NOWHERE)
    local env <const> = {
        DATABASE_URL = database_url, MIGRATION_DATABASE_URL = database_url, REDIS_URL = "unix://" .. url.NOWHERE,
    }
    for _, name in ipairs(OTHER) do env[name] = false end
    return env
end

return M
