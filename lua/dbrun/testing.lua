--- Specs for your scripts, with busted: a database and a Redis database for each spec file, migrated once and copied; a
--- transaction that is rolled back; a script as its user runs it.
---
---     local testing = require "dbrun.testing"
---     describe("tidy", function()
---         local t = testing.project()
---         it("keeps what is young", function()
---             assert.equal("0 notes deleted\n", t.run("tidy", "--days", "1").stdout)
---         end)
---     end)
---
--- `dbrun test` runs them.
local args = require "dbrun.args"
local core = require "dbrun.core"
local environment = require "dbrun.testing.environment"
local errors = require "dbrun.error"

local M = {}

---@class dbrun.testing.ProjectOptions
---@field migrations? string|false the folder; default: DBRUN_MIGRATIONS_DIR, where it exists; false: an empty database
---@field seed? boolean|string run the seeds, with a name those of that environment too; default false

local OPTIONS <const> = {
    migrations = args.or_false(args.path), seed = args.one_type_of("boolean", "string"),
}

---@class dbrun.testing.Project
---@field database_url string the address of this spec file's database
---@field redis_url string the address of its Redis database
---@field rollback fun(fn: fun(tx: dbrun.Connection): ...): ... runs `fn` in a transaction and undoes it
---@field run fun(script: string|dbrun.testing.Run, ...: string|number): dbrun.testing.Outcome
---@field reset fun() resets both databases to their state at the start

---@class dbrun.testing.Run: { [integer]: string|number }
---@field stdin? string
---@field env? table<string, string|number|false>
---@field cwd? string
---@field timeout? number seconds; default 60

---@class dbrun.testing.Outcome
---@field status integer the exit status; 128 and its number after a signal
---@field stdout string
---@field stderr string

local RUN <const> = { stdin = "string", env = "table", cwd = args.path, timeout = args.any_seconds }
local ROLLBACK <const> = {}

--- Runs the program with a script, and waits for its end.
---@return dbrun.testing.Outcome
local function run(urls, script, ...)
    local spec <const> = type(script) == "table" and script or { script, ... }
    local options <const>, words <const> = {}, { core.options.program, "--no-env" }
    for key, value in pairs(spec) do
        if math.type(key) ~= "integer" then options[key] = value end
    end
    args.options("t.run", options, RUN)
    args.check("t.run", "the script", spec[1], "string")
    for _, word in ipairs(spec) do words[#words + 1] = word end
    words.env = environment.of(urls, options.env)
    words.stdin, words.cwd, words.timeout = options.stdin or false, options.cwd, options.timeout or 60
    local result <const> = require("dbrun.process").run(words)
    return { status = result.code, stdout = result.stdout, stderr = result.stderr }
end

--- Runs `fn` in a transaction of the spec's database that is never committed. Deferred constraints are checked as at a
--- commit.
local function rollback(fn)
    args.check("t.rollback", "fn", fn, args.callable)
    local results
    local ok, e = pcall(function()
        require("dbrun.db").async:transaction(function(tx)
            results = table.pack(fn(tx))
            tx:exec "set constraints all immediate"
            error(ROLLBACK, 0)
        end)
    end)
    if not ok and e ~= ROLLBACK then error(e, 0) end
    return table.unpack(results, 1, results.n)
end

--- Makes the databases of this spec file, and points the configuration at them: `db.async`, `db.sync` and `redis.get()`
--- use them from now on. They are dropped after the file. What seeds write to Redis is not kept.
--- Where: `dbrun test` starts servers of its own; without it the project's private stack is used, never a server of the
--- configuration.
---
--- Raises kind `usage` outside of busted, and what a migration or a seed raises.
---@param opts? dbrun.testing.ProjectOptions
---@return dbrun.testing.Project
function M.project(opts)
    opts = args.options("testing.project", opts, OPTIONS)
    local has_busted <const>, busted <const> = pcall(require, "busted")
    if not core.options or not has_busted or not busted.subscribe then
        errors.fail("usage", "testing.project works in a spec that busted runs", "run it with: dbrun test")
    end
    local place <const> = require("dbrun.testing.place").new(opts)
    local project <const> = { database_url = place.database_url, redis_url = place.redis_url }
    project.rollback = rollback
    function project.run(script, ...) return run(place, script, ...) end
    function project.reset() place:reset() end
    busted.subscribe({ "file", "end" }, function()
        place:close()
        return nil, true
    end)
    return project
end

return args.answer_for_names(M, "testing", { database = "testing.project()", stack = "testing.project()" })
