--- The servers for the databases of specs: never those of the configuration. `dbrun test` names them by
--- DBRUN_TEST_DATABASE_URL and DBRUN_TEST_REDIS_URL; without these it is the project's private stack.
local errors = require "dbrun.error"
local url = require "dbrun.url"

local M = {}

M.DATABASE = "DBRUN_TEST_DATABASE_URL"
M.REDIS = "DBRUN_TEST_REDIS_URL"

---@class dbrun.testing.Server
---@field database_url string an address on the server; its role may make databases
---@field redis_url string

---@return dbrun.testing.Server
function M.find()
    local database_url <const>, redis_url <const> = os.getenv(M.DATABASE), os.getenv(M.REDIS)
    if database_url and redis_url then return { database_url = database_url, redis_url = redis_url } end
    if database_url or redis_url then
        errors.fail("config", ("%s is set, and %s is not"):format(database_url and M.DATABASE or M.REDIS,
            database_url and M.REDIS or M.DATABASE), "set both, or none: then the project's private stack is used")
    end
    local urls <const> = require("dbrun.stack").up()
    return { database_url = urls.DATABASE_URL, redis_url = urls.REDIS_URL }
end

--- The same server, another database.
---@param address string
---@param name string
---@return string url
function M.database_url(address, name)
    local parsed <const> = url.parse_postgres(address, M.DATABASE)
    parsed.dbname, parsed.form = name, "url"
    return url.build_postgres(parsed)
end

--- The same Redis, another of its databases.
---@param address string
---@param number integer
---@return string url
function M.redis_url(address, number)
    local parsed <const> = url.parse_redis(address, M.REDIS)
    parsed.db = number
    return url.build_redis(parsed)
end

return M
