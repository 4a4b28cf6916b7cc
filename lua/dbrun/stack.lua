--- The private stack: a PostgreSQL and a Redis for the current folder, in .dbrun/stack/, on unix sockets only. It never
--- touches servers that it did not start.
---
---     local stack = require "dbrun.stack"
---     local urls = stack.up()      -- {DATABASE_URL=, REDIS_URL=}
---
--- Raises errors of kind `config` (a server is not installed) and `io` (it does not start).

local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local place = require "dbrun.stack.place"
local postgres = require "dbrun.stack.postgres"
local redis = require "dbrun.stack.redis"
local task = require "dbrun.task"

local M = {}

local servers <const> = { postgres, redis }
local lock_wait <const> = 120 -- seconds: another process may be making the cluster

--- Takes the lock: two `up` in the same folder must not both make a cluster. The system releases the lock when its
--- holder dies.
local function lock()
    local folder = place.make_folder()
    local held = fs.lock(folder .. "/lock", lock_wait)
    if held then return held end
    return errors.fail("timeout",
        ("another dbrun has been busy with the stack in '%s' for %d s"):format(folder, lock_wait))
end

--- A dry run would only list its child processes, and do half of the work.
local function check_dry_run(fn)
    if core.options.dry_run then
        errors.fail("usage", fn .. ": a dry run starts, stops and removes no servers",
            "dbrun --stack --dry-run NAME starts the private stack before the script")
    end
end

local function urls(at)
    return { DATABASE_URL = postgres.full_url(at), REDIS_URL = redis.url(at) }
end

local OPTIONS <const> = { report = "function" }

---@class dbrun.stack.Options
---@field report? fun(title: string, started: boolean) called for each server

--- Makes and starts the servers as far as needed, and returns when both answer.
---@param opts? dbrun.stack.Options
---@return {DATABASE_URL: string, REDIS_URL: string}
---```lua
---local function start() return stack.up().DATABASE_URL end -- starts the servers of this folder
---```
function M.up(opts)
    opts = args.options("stack.up", opts, OPTIONS)
    check_dry_run "stack.up"
    local _ <close> = lock()
    local at = place.make()
    local work = {}
    for i, server in ipairs(servers) do
        work[i] = function()
            local started = server.up(at)
            if opts.report then opts.report(server.title, started) end
        end
    end
    task.all(work)
    return urls(at)
end

--- Stops both servers; their data stays.
---@param opts? {report?: fun(title: string, stopped: boolean)}
---@return boolean any whether one was running
---```lua
---print(stack.down()) -- none did run  --> false
---```
function M.down(opts)
    opts = args.options("stack.down", opts, OPTIONS)
    check_dry_run "stack.down"
    if not fs.exists(place.folder()) then return false end
    local _ <close> = lock()
    local at = place.find()
    if not at then return false end
    local any = false
    local work = {}
    for i, server in ipairs(servers) do
        work[i] = function()
            local stopped = server.down(at)
            any = any or stopped
            if opts.report then opts.report(server.title, stopped) end
        end
    end
    task.all(work)
    return any
end

--- Stops the servers and removes their data for good: what the stack made, and nothing else.
---@return boolean any whether there was a stack
---@return string[] left recorded folders that were not removed, because they are not the stack's or hold other files
---```lua
---print((stack.reset())) -- there was none  --> false
---```
function M.reset()
    check_dry_run "stack.reset"
    local folder = place.folder()
    if not fs.exists(folder) then return false, {} end
    local _ <close> = lock()
    local at = place.own(folder)
    local work = {}
    for i, server in ipairs(at and servers or {}) do
        work[i] = function() server.down(at) end
    end
    task.all(work)
    if at then
        postgres.forget(at)
        redis.forget(at)
    end
    local left = place.remove(folder)
    return left ~= nil, left or {}
end

--- The addresses, nil when the stack has never been started here. Nothing is started.
---@return {DATABASE_URL: string, REDIS_URL: string}?
---```lua
---local urls = stack.env()
---if urls then print(urls.DATABASE_URL) end -- it was started here before
---```
function M.env()
    local at = place.find()
    return at and urls(at)
end

---@class dbrun.stack.Status
---@field title string
---@field up boolean
---@field text string

--- Pings both servers.
---@return dbrun.stack.Status[]
---@return dbrun.stack.Place? place nil when the stack has never been started here
---```lua
---for _, server in ipairs(stack.status()) do if server.up then print(server.title) end end
---```
function M.status()
    local at = place.find()
    local list = {}
    for i, server in ipairs(servers) do
        local up, text = false, "was never started here"
        if at then up, text = server.status(at) end
        list[i] = { title = server.title, up = up, text = text }
    end
    return list, at
end

return args.answer_for_names(M, "stack", {
    start = "stack.up()", ensure = "stack.up()", stop = "stack.down()", urls = "stack.env()", remove = "stack.reset()",
    destroy = "stack.reset()", running = "stack.status()", ping = "stack.status()",
})
