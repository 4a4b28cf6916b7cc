--- The argument of a Lua migration or Lua hook: its context.
local M = {}

---@class dbrun.migrate.Context
---@field db table the transaction (or, without one, the connection): query, one, value, exec, rows, copy_in ...
---@field engine table the same
---@field redis table the Redis client; opened when first used. Writes to it are not rolled back
---@field config Config
---@field migration? { version: string, name: string, path: string, direction: "up"|"down" }
---@field event? string of a hook
---@field error? dbrun.Error of a hook for a failure
---@field applied? dbrun.migrate.Applied[] of a hook around a run: the migrations of the run so far, in order
---@field seeds? dbrun.seed.Done[] of a hook after seeds
---@field results? dbrun.verify.Result[] of a hook after a verification
---@field dry_run? boolean of a hook around seeds
---@field strict? boolean of a hook around a verification
---@field status? integer of a hook after a verification: its exit status
---@field batch? fun(options: table): table? of a migration with transaction = false: runs a batch job to its end
---@field batch_done? fun(name: string) of a migration: raises unless the batch job is done
---@field progress fun(label: string, total?: integer, unit?: string): dbrun.progress.Progress

---@class dbrun.migrate.Applied
---@field version string
---@field name string of the file
---@field path string
---@field direction "up"|"down"
---@field seconds number

---Fields that not every event has: nil there, not taken for mistyped methods of the connection.
local OPTIONAL <const> = {
    migration = true, event = true, error = true, applied = true, seeds = true, results = true, status = true,
    dry_run = true, strict = true, batch = true, batch_done = true,
}

---Methods of the connection work on the context too: `up = function(db) db:exec "..." end` works.
local function lookup(self, key)
    if key == "redis" then
        local client = require("dbrun.redis").get()
        rawset(self, "redis", client)
        return client
    end
    if OPTIONAL[key] then return nil end
    local db = rawget(self, "db")
    local method = db and db[key]
    if type(method) ~= "function" then return nil end
    return function(_, ...) return method(db, ...) end
end

---@param conn? table nil before there is a connection
---@param fields table more fields
---@return dbrun.migrate.Context
function M.new(conn, fields)
    local ctx = {
        db = conn,
        engine = conn,
        config = require "dbrun.config",
        progress = function(label, total, unit)
            return require("dbrun.progress").new { label = label, total = total, unit = unit }
        end,
    }
    for key, value in pairs(fields) do ctx[key] = value end
    ctx.aftermath = nil -- is for errors
    return setmetatable(ctx, { __index = lookup })
end

---The field `migration` of a context.
---@param work dbrun.migrate.Work
function M.migration(work)
    local file = work.file
    return { version = file.version, name = file.name, path = file.path, direction = work.direction }
end

return M
