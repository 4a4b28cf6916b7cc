--- The databases of one spec file: made, reset, and dropped. In between, the configuration of this process points at
--- them.
local claim = require "dbrun.testing.claim"
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local redis = require "dbrun.redis"
local server = require "dbrun.testing.server"
local template = require "dbrun.testing.template"

local M = {}

---@class dbrun.testing.Place
---@field database_url string
---@field redis_url string
local Place = {}
Place.__index = Place

local KEYS <const> = { "DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL" }

---@param opts dbrun.testing.ProjectOptions
---@return dbrun.testing.Content
local function content_of(opts)
    local folder = opts.migrations
    if folder == nil then
        folder = require("dbrun.config").DBRUN_MIGRATIONS_DIR
        if not fs.exists(folder) then folder = nil end
    elseif folder and not fs.exists(folder) then
        errors.fail("usage", ("testing.project: the folder '%s' does not exist"):format(folder))
    end
    return { migrations = folder or nil, seed = opts.seed or false }
end

--- The number of databases of the Redis; the default if it does not tell.
local function redis_count(open)
    local client <close> = open(0)
    local ok, told = pcall(client.call, client, "CONFIG", "GET", "databases")
    return ok and math.tointeger(tonumber(told.databases)) or 16
end

local function no_number(count)
    errors.fail("io", ("testing.project: the Redis databases 1 to %d are in use by other specs, or hold keys"):format(
        count - 1), ("empty one: redis-cli -n %d flushdb"):format(count - 1))
end

local function copy(self)
    self.admin:exec(("create database %s template %s"):format(self.name, self.template))
    claim.note(self.admin, self.name, self.number)
    claim.flush(self.open, self.number) -- seeds may have written there while the template was made
end

local function point(values)
    for _, key in ipairs(KEYS) do core.options.overlay[key] = values[key] end
end

--- Closes what the specs opened by the configuration, together with the database.
local function close_singletons()
    db.close()
    redis.close()
end

local function make(self, at, opts)
    claim.remove_left(self.admin, self.open)
    local count <const> = redis_count(self.open)
    self.number = claim.redis_number(self.admin, self.open, count) or no_number(count)
    self.redis_url = server.redis_url(at.redis_url, self.number)
    self.template = template.make(self.admin, { database_url = at.database_url, redis_url = self.redis_url },
        content_of(opts))
    self.name, self.key = claim.database(self.admin)
    copy(self)
    self.database_url = server.database_url(at.database_url, self.name)
end

--- Makes them, and points the configuration at them.
---@param opts dbrun.testing.ProjectOptions
---@return dbrun.testing.Place
function M.new(opts)
    local at <const> = server.find()
    -- Blocking, so that it works wherever busted calls it: in the body of a describe, and in a subscriber.
    local engine <const> = db.engine { url = at.database_url, mode = "sync", size = 1, application_name = "dbrun test" }
    local self <const> = setmetatable({ engine = engine, admin = engine:acquire(), before = {} }, Place)
    function self.open(number) return redis.client { url = server.redis_url(at.redis_url, number) } end
    for _, key in ipairs(KEYS) do self.before[key] = core.options.overlay[key] end
    local ok, e = pcall(make, self, at, opts)
    if not ok then
        self:close()
        error(e, 0)
    end
    close_singletons()
    point { DATABASE_URL = self.database_url, MIGRATION_DATABASE_URL = self.database_url, REDIS_URL = self.redis_url }
    return self
end

--- Resets both databases to their state at the start.
function Place:reset()
    close_singletons()
    self.admin:exec(("drop database %s with (force)"):format(self.name))
    copy(self)
end

--- Drops them, and restores the configuration.
function Place:close()
    if self.closed then return end
    self.closed = true
    close_singletons()
    point(self.before)
    if self.number then claim.give_back(self.admin, self.key, self.open, self.number) end
    self.admin:release()
    self.engine:close()
end

return M
