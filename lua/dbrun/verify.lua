--- Verification: checks that this project can reach and use its servers, and that they contain what it needs.
---
---     local results, run = require("dbrun.verify").run { strict = true }
---
--- `dbrun verify` is the command line over this module (dbrun.verify.command).
---
--- Raises an error of kind `config` when the configuration is wrong.
local args = require "dbrun.args"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local task = require "dbrun.task"

local M = {}

---@class dbrun.verify.Options
---@field strict? boolean a missing table, migration or partition is a FAIL instead of a WARN
---@field deadline? number seconds for all checks together (default 10)
---@field wait? number seconds to wait until the servers are usable before checking (default 0)
---@field only? string[] names, or the part before the dot: run these checks, and those they need
---@field skip? string[] leave these checks out
---@field expect? string file with the expectations (default scripts/expect.lua)
---@field fail_on? "warn"|"fail" the status from which on the run fails (default "fail")
---@field hooks? string folder with hooks (default: the key DBRUN_HOOKS_DIR, if that folder exists)
---@field waiting? fun(what: string, waited: number) called about every five seconds while it waits

---@class dbrun.verify.Run
---@field strict boolean
---@field seconds number
---@field status integer for os.exit: 0, 1, or 2 for a wrong configuration
---@field measured table<string, { value: number, warn?: number, fail?: number }> measured values, by the limit's name

---All checks in the order of the report; each comes after those it needs.
---@param expectations? dbrun.verify.Expectations the project's own checks come last
---@return dbrun.verify.Check[]
---```lua
---print(#verify.checks() > 10)  --> true
---```
function M.checks(expectations)
    args.optional("verify.checks", "expectations", expectations, "table")
    local pg, redis = require "dbrun.verify.checks_pg", require "dbrun.verify.checks_redis"
    local schema = require "dbrun.verify.checks_schema"
    local list = { require("dbrun.verify.checks_config").configuration, pg.async, pg.concurrency, pg.sync }
    local function add(...) table.move({ ... }, 1, select("#", ...), #list + 1, list) end
    add(require("dbrun.verify.server").check, table.unpack(require("dbrun.verify.checks_server").list))
    add(table.unpack(require("dbrun.verify.checks_upkeep").list))
    add(table.unpack(require("dbrun.verify.checks_risks").list))
    local optional = require "dbrun.verify.optional"
    add(optional.members, optional.certificates, optional.timescale, optional.citus, optional.citus_shards)
    add(redis.redis, redis.round_trip, table.unpack(require("dbrun.verify.checks_redis_state").list))
    add(optional.cluster, optional.sentinels, optional.redis_certificates)
    add(schema.migrations, schema.tables, optional.columns, optional.indexes, optional.privileges)
    add(optional.extensions, schema.partitioning, optional.hypertables, optional.aggregates, optional.distribution)
    if expectations and #expectations.own > 0 then
        add(table.unpack(require("dbrun.verify.own").checks(expectations, list)))
    end
    return list
end

---Whether a word of --only or --skip selects this check: "redis" selects "redis" and "redis.round_trip".
local function means(word, name)
    return word == name or name:sub(1, #word + 1) == word .. "."
end

local function matches(words, name)
    for _, word in ipairs(words) do
        if means(word, name) then return true end
    end
    return false
end

local function check_words(words, checks, option)
    for _, word in ipairs(words) do
        local known = false
        for _, check in ipairs(checks) do known = known or means(word, check.name) end
        if not known then
            errors.fail("usage", ("%s: no check is called '%s'"):format(option, word), "dbrun verify --list")
        end
    end
end

local function needs_any(check, gone)
    for _, need in ipairs(check.needs or {}) do
        if gone[need] then return true end
    end
    return false
end

---The selected checks. `only` adds those that they need, because these report the cause of a failure. `skip` also
---removes those that need a skipped one.
---@param checks dbrun.verify.Check[]
---@param only? string[]
---@param skip? string[]
---@return dbrun.verify.Check[]
---```lua
---for _, check in ipairs(verify.select(verify.checks(), { "redis" })) do print(check.name) break end  --> redis
---```
function M.select(checks, only, skip)
    args.list("verify.select", "checks", checks, "table")
    args.optional_list("verify.select", "only", only, "string")
    args.optional_list("verify.select", "skip", skip, "string")
    only, skip = only or {}, skip or {}
    check_words(only, checks, "--only")
    check_words(skip, checks, "--skip")
    local wanted, gone = {}, {}
    for _, check in ipairs(checks) do
        gone[check.name] = matches(skip, check.name) or needs_any(check, gone)
    end
    for i = #checks, 1, -1 do
        local check = checks[i]
        local asked = #only == 0 or matches(only, check.name) or wanted[check.name]
        if asked and not gone[check.name] then
            wanted[check.name] = true
            for _, need in ipairs(check.needs or {}) do wanted[need] = true end
        end
    end
    local chosen = {}
    for _, check in ipairs(checks) do
        if wanted[check.name] then chosen[#chosen + 1] = check end
    end
    return chosen
end

local function status_of(results, fail_on)
    local status = 0
    for _, result in ipairs(results) do
        if result.status == "WARN" and fail_on == "warn" then status = 1 end
        if result.status == "FAIL" then
            if result.layer == "configuration" then return 2 end
            status = 1
        end
    end
    return status
end

---The expectations. An error in the file becomes a separate check that fails; the other checks run without the file.
---@param file? string
---@return dbrun.verify.Expectations
---@return dbrun.Error? problem
---```lua
---local expected, problem = verify.expectations "no/such/file.lua"
---print(problem ~= nil)  --> true
---```
function M.expectations(file)
    args.optional("verify.expectations", "file", file, args.path)
    local expect = require "dbrun.verify.expect"
    local ok, found = pcall(function()
        local expectations = expect.load(file)
        if #expectations.own > 0 then M.checks(expectations) end -- their names may be wrong
        return expectations
    end)
    if ok then return found end
    if not errors.is(found, "config") then error(found, 0) end
    return expect.none(), found
end

---The checks that compare with the expectations, and that would pass without the file.
local COMPARE <const> = {
    ["schema.tables"] = true, ["schema.columns"] = true, ["schema.indexes"] = true, ["schema.privileges"] = true,
    ["schema.extensions"] = true, ["schema.time_partitioning"] = true, ["schema.aggregates"] = true,
    ["schema.hypertables"] = true, ["schema.distribution"] = true,
}

---Adds a check that reports an error in the file of the expectations, even if it was not selected, because limits and
---checks of the project are in that file too. The checks that compare with the expectations depend on it.
---@param checks dbrun.verify.Check[]
---@param problem dbrun.Error
---@return dbrun.verify.Check[]
local function with_problem(checks, problem)
    local list = { {
        name = "expectations", about = "the file of the expectations can be read",
        run = function()
            return { status = "FAIL", text = "an error in the expectations", layer = "configuration",
                cause = problem.message, remedy = { problem.hint or "correct the file; --expect names another one" } }
        end,
    } }
    for _, check in ipairs(checks) do
        local needs = COMPARE[check.name] and { "expectations", table.unpack(check.needs) }
        list[#list + 1] = needs and setmetatable({ needs = needs }, { __index = check }) or check
    end
    return list
end

local OPTIONS <const> = {
    strict = "boolean", deadline = args.some_seconds, wait = args.seconds, only = "table", skip = "table",
    expect = args.path, hooks = args.path, waiting = "function", fail_on = "string",
}

---The results without optional checks that had nothing to check, unless they were selected by name.
local function told(checks, results, only)
    local list, asked = {}, {}
    for _, name in ipairs(only or {}) do asked[name] = true end
    for i, result in ipairs(results) do
        if not (checks[i].optional and result.status == "SKIP" and not asked[result.name]) then
            list[#list + 1] = result
        end
    end
    return list
end

---The stand-in for db.async that hooks get when its configuration is wrong: any use raises that error.
local function no_engine(problem)
    return setmetatable({ invalidate = function() end }, { __index = function() error(problem, 0) end })
end

---Calls the hooks of an event; without a folder of hooks nothing is loaded. Returns the error of a hook, and whether a
---check will report its cause: there is no server, or the configuration is wrong.
local function call_hooks(dir, event, fields)
    local config = require "dbrun.config"
    local read, default = pcall(function() return config.DBRUN_HOOKS_DIR end)
    if not dir and not (read and fs.exists(default)) then return nil end
    local hooks = require "dbrun.migrate.run.hooks"
    local found = hooks.from(dir)
    if not hooks.any(found, { event }) then return nil end
    local opened, engine = pcall(function() return require("dbrun.db").async end)
    local ok, e = pcall(hooks.run_outside, found, event, opened and engine or no_engine(engine), fields)
    if ok then return nil end
    if not errors.is(e) or e.kind == "cancelled" then error(e, 0) end
    return e, e.kind == "connect" or not opened
end

---A hook that fails after the checks must not hide them: it becomes a separate result, or depends on the check that has
---reported the same cause.
local function failed_hook(event, e, results)
    for _, result in ipairs(results) do
        if result.status == "FAIL" and result.cause and e.message:find(result.cause, 1, true) then
            return { name = "hooks." .. event, status = "SKIP", seconds = 0, blocked_by = result.name, remedy = {},
                text = "needs " .. result.name }
        end
    end
    return {
        name = "hooks." .. event, status = "FAIL", seconds = 0, text = "a hook failed", remedy = { "mend the hook" },
        cause = (e.text or e.message):gsub("nothing was checked", "the checks were made without it"), layer = "hook",
    }
end

---Runs the checks.
---@param opts? dbrun.verify.Options
---@return dbrun.verify.Result[]
---@return dbrun.verify.Run
---Raises an error of kind `usage` for an unknown name.
---```lua
---local results, run = verify.run { only = { "postgres.async" } }
---print(results[#results].name, results[#results].status, run.status)  --> postgres.async  PASS  0
---```
function M.run(opts)
    opts = args.options("verify.run", opts, OPTIONS)
    args.optional_list("verify.run", "only", opts.only, "string")
    args.optional_list("verify.run", "skip", opts.skip, "string")
    if opts.fail_on and opts.fail_on ~= "warn" and opts.fail_on ~= "fail" then
        errors.usage("verify.run", "fail_on is '%s', not 'warn' or 'fail'", opts.fail_on)
    end
    local began = task.now()
    local expectations, problem = M.expectations(opts.expect)
    local checks = M.select(M.checks(expectations), opts.only, opts.skip)
    if #checks == 0 then
        errors.fail("usage", "no check is left: each is skipped, or needs one that is", "dbrun verify --list")
    end
    if problem then checks = with_problem(checks, problem) end
    local vetoed, told_by_check = call_hooks(opts.hooks, "beforeVerify", {
        strict = opts.strict or false, aftermath = "It is a hook; nothing was checked.",
    })
    if vetoed and not told_by_check then error(vetoed, 0) end
    if opts.wait and opts.wait > 0 then require("dbrun.verify.wait").until_usable(checks, opts) end
    local deadline = opts.deadline or 10
    local ctx = {
        config = require "dbrun.config",
        strict = opts.strict or false,
        deadline = task.now() + deadline,
        options = { deadline = deadline },
        expect = expectations,
        measured = {},
    }
    local _ <close> = setmetatable({}, { __close = function()
        if ctx.lease then ctx.lease:release() end
    end })
    local results = told(checks, require("dbrun.verify.runner").run(checks, ctx), opts.only)
    if vetoed then table.insert(results, 1, failed_hook("beforeVerify", vetoed, results)) end
    local failed = call_hooks(opts.hooks, "afterVerify", {
        results = results, status = status_of(results, opts.fail_on), strict = ctx.strict,
        aftermath = "It is a hook; the checks were made before it.",
    })
    if failed then results[#results + 1] = failed_hook("afterVerify", failed, results) end
    return results, {
        strict = ctx.strict, seconds = task.now() - began, status = status_of(results, opts.fail_on),
        measured = ctx.measured,
    }
end

---The command line.
---@param argv string[]
---@return integer status for os.exit
function M.main(argv)
    args.list("verify.main", "argv", argv, "string")
    return require("dbrun.verify.command").main(argv, M)
end

return args.answer_for_names(M, "verify", {
    check = "verify.run{...}", all = "verify.run{...}", list = "verify.checks()", wait = "verify.run{wait = seconds}",
})
