--- Runs the scripts that ship with dbrun as a user does: in a separate process of the dbrun that runs the specs, with
--- an environment that only names servers.
---
---     local scripts = require "spec.support.scripts"
---     local result = scripts.run("migrate", { "up" }, { DATABASE_URL = url })
---     result.code, result.stdout, result.stderr, result.text (both)
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local task = require "dbrun.task"

local M = {}

---Variables that a run's environment has only when the spec sets them.
local HIDDEN <const> = {
    "DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER",
    "POSTGRES_PASSWORD", "POSTGRES_DB", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_USERNAME", "REDIS_PASSWORD",
    "DB_POOL_SIZE", "DB_MAX_OVERFLOW", "DB_POOL_TIMEOUT", "DB_POOL_RECYCLE", "DB_POOL_PRE_PING", "SYNC_POOL_SIZE",
    "REDIS_MAX_CONNECTIONS", "DB_STATEMENT_CACHE", "DB_CONNECT_TIMEOUT", "DB_STATEMENT_TIMEOUT", "PGHOST", "PGPORT",
    "PGUSER", "PGPASSWORD", "PGDATABASE", "DBRUN_MIGRATIONS_DIR", "DBRUN_SEEDS_DIR",
    "DBRUN_HOOKS_DIR", "DBRUN_BATCHES_DIR", "DBRUN_BATCH_SCHEMA", "DBRUN_PROTECTED",
}

---The arguments of process.run and process.start.
---@param name string "migrate", "seed", "verify"
---@param args string[]
---@param env? table<string, string>
---@param more? table fields for process
---@return table
function M.command(name, args, env, more)
    local spec = { core.options.program, "--no-env", fs.realpath "scripts" .. "/" .. name .. ".lua" }
    table.move(args, 1, #args, #spec + 1, spec)
    spec.env = {}
    for _, key in ipairs(HIDDEN) do spec.env[key] = false end
    for key, value in pairs(env or {}) do spec.env[key] = value end
    for key, value in pairs(more or {}) do spec[key] = value end
    return spec
end

---Runs a script to its end.
---@param name string
---@param args? string[]
---@param env? table<string, string>
---@param more? table
---@return dbrun.process.Result
function M.run(name, args, env, more)
    local spec = M.command(name, args or {}, env, more)
    spec.timeout = spec.timeout or 60
    local result = process.run(spec)
    result.text = (result.stdout or "") .. (result.stderr or "")
    return result
end

---Starts a script without waiting; `finish` waits for it and returns its result as M.run does.
---@param name string
---@param args string[]
---@param env table<string, string>
---@return { child: dbrun.process.Child, finish: fun(): dbrun.process.Result }
function M.start(name, args, env)
    local child = process.start(M.command(name, args, env, { stdout = "capture", stderr = "capture" }))
    return {
        child = child,
        finish = function()
            local result = child:wait(60)
            if not result then
                child:kill "KILL"
                error(name .. " did not end within 60 s")
            end
            result.text = result.stdout .. result.stderr
            return result
        end,
    }
end

---Starts a script whose output is read while it runs: `says` waits for a text in it, `finish` as in M.start.
---@param name string
---@param args string[]
---@param env table<string, string>
---@return { child: dbrun.process.Child, says: fun(text: string), finish: fun(): dbrun.process.Result }
function M.watch(name, args, env)
    local dir = fs.mkdtemp()
    local out, err = dir .. "/out", dir .. "/err"
    local child = process.start(M.command(name, args, env, { stdout = out, stderr = err }))
    local function said() return fs.read(out) .. fs.read(err) end
    local run = { child = child }
    function run.says(text)
        local stop = task.now() + 30
        while not said():find(text, 1, true) do
            if task.now() > stop then error(("%s did not say '%s' within 30 s: %s"):format(name, text, said())) end
            task.sleep(0.02)
        end
    end
    function run.finish()
        local result = child:wait(60)
        if not result then
            child:kill "KILL"
            error(name .. " did not end within 60 s")
        end
        result.stdout, result.stderr, result.text = fs.read(out), fs.read(err), said()
        fs.rmtree(dir)
        return result
    end
    return run
end

---A new folder with these files in it.
---@param files table<string, string> contents by name
---@return string path
function M.folder(files)
    local root = fs.mkdtemp()
    for name, text in pairs(files) do
        fs.mkdir_p(fs.dirname(root .. "/" .. name))
        fs.write(root .. "/" .. name, text)
    end
    return root
end

return M
