--- The argument of a seed: its context.
local errors = require "dbrun.error"

local M = {}

---@class dbrun.seed.Context
---@field db table the seed's transaction: query, one, value, exec, copy_in ... committed or rolled back with the seed
---@field redis table the Redis client; opened when first used. refused in a dry run, because Redis has no rollback
---@field config Config
---@field upsert fun(t: string|string[], k: string[], rows: dbrun.seed.Rows, opts?: dbrun.seed.UpsertOptions): integer
---    many rows at once, inserted or updated: dbrun.seed.upsert
---@field random dbrun.seed.Random the same numbers in every run
---@field name string of the seed
---@field env? string the value of --env
---@field force boolean --force: make the data again even if it exists
---@field dry_run boolean everything will be rolled back
---@field progress fun(label: string, total?: integer, unit?: string): dbrun.progress.Progress
---    `local p <close> = ctx.progress("observations", 100000, "rows")`, then p:add(n)

local function progress(label, total, unit)
    return require("dbrun.progress").new { label = label, total = total, unit = unit }
end

local function redis(ctx)
    if ctx.dry_run then
        errors.fail("usage", "a dry run cannot use Redis, which has no rollback",
            "check ctx.dry_run before you use ctx.redis")
    end
    return require("dbrun.redis").get()
end

---@param tx table
---@param file dbrun.seed.File
---@param opts { env?: string, force?: boolean, dry_run?: boolean }
---@return dbrun.seed.Context
function M.new(tx, file, opts)
    local ctx = {
        db = tx,
        config = require "dbrun.config",
        random = require("dbrun.seed.random").new(file.name),
        name = file.name,
        env = opts.env,
        force = opts.force or false,
        dry_run = opts.dry_run or false,
        progress = progress,
        upsert = function(...) return require("dbrun.seed.upsert").upsert(tx, ...) end,
    }
    return setmetatable(ctx, {
        __index = function(self, key)
            if key ~= "redis" then return nil end
            local client = redis(self)
            rawset(self, "redis", client)
            return client
        end,
    })
end

return M
