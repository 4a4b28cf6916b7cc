--- Runs checks concurrently under one deadline. A check that needs another waits for it, and is skipped when that one
--- failed; of several that failed for the same reason, only the first reports it. So the report shows each cause once.
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

---The code that explains failures is loaded at the first failure.
local function diagnose() return require "dbrun.verify.diagnose" end

---@class dbrun.verify.Check
---@field name string stable, because scripts and dashboards use it
---@field about string one line for --list
---@field needs? string[] checks that must not have failed
---@field independent? fun(ctx: dbrun.verify.Context): boolean true: with this configuration `needs` does not apply
---@field eager? boolean starts without waiting for the checks it needs: faster, if a failure beside theirs does no harm
---@field after? string[] checks that must have ended, with any result
---@field rather_after? string[] like `needs`, but waits for at most half of the time, because their server may not
---answer
---@field service? fun(ctx: dbrun.verify.Context): dbrun.verify.Service? the service that an error belongs to
---@field optional? boolean about a feature of few servers: the report leaves it out where the feature is missing
---@field on_conn? boolean uses ctx.conn: such checks run one after the other
---@field run fun(ctx: dbrun.verify.Context): dbrun.verify.Found|string its result; an error is a FAIL

---@class dbrun.verify.Found what a check returns; a string is a PASS with that text
---@field status? "PASS"|"WARN"|"FAIL"|"SKIP"|"INCOMPLETE" INCOMPLETE: WARN, and FAIL with --strict; SKIP: there is
---    nothing to check, and `text` says why (default PASS)
---@field text string
---@field cause? string
---@field key? string
---@field layer? string
---@field remedy? string[]
---@field facts? table<string, any> for the JSON report

---@class dbrun.verify.Result: dbrun.verify.Found
---@field name string
---@field status "PASS"|"WARN"|"FAIL"|"SKIP"
---@field seconds number
---@field blocked_by? string the check whose failure kept this one from running, or has the same cause (status SKIP)
---@field trouble? string server and cause of an error
---@field reached? string the cause alone, when a server cannot be reached

---@class dbrun.verify.Context what checks share
---@field config Config
---@field strict boolean
---@field deadline number point in time (task.now)
---@field options table of the command line
---@field expect dbrun.verify.Expectations
---@field measured? table<string, table> the values that were compared with limits
---@field server? dbrun.verify.Server the result of postgres.server
---@field own_backends? integer[] process numbers of the concurrency check
---@field redis? table the result of the check `redis`
---@field conn? dbrun.Connection|dbrun.Engine for the checks that come after postgres.async
---@field lease? dbrun.Connection the same, if it is a leased connection: released at the end

local function failed(name, seconds, diagnosis)
    return {
        name = name, status = "FAIL", seconds = seconds, text = diagnosis.text, cause = diagnosis.cause,
        layer = diagnosis.layer, key = diagnosis.key, remedy = diagnosis.remedy,
    }
end

local function blocked(check, culprit)
    return {
        name = check.name, status = "SKIP", seconds = 0, blocked_by = culprit.name, remedy = {},
        text = "needs " .. culprit.name,
    }
end

---When two concurrent checks fail for the same reason at the same server, only one reports it.
---@param results dbrun.verify.Result[]
local function fold(results)
    local first = {}
    for _, result in ipairs(results) do
        local trouble = result.trouble
        if trouble and first[trouble] then
            result.status, result.blocked_by = "SKIP", first[trouble].name
            result.text = "the same as " .. first[trouble].name
            result.cause, result.layer, result.key, result.remedy = nil, nil, nil, {}
        elseif trouble then
            first[trouble] = result
            local reached = result.reached -- for the checks of the project, which have no service
            if reached then first[reached] = first[reached] or result end
        end
    end
end

local function traceback(e)
    return errors.is(e) and e or { problem = tostring(e), traceback = debug.traceback(tostring(e), 2) }
end

---The service of a check; nil when the configuration cannot be read.
local function service_of(check, ctx)
    if not check.service then return nil end
    local ok, service = pcall(check.service, ctx)
    return ok and service or nil
end

---The error for a passed deadline: which one, and that there was no answer.
local function too_late(check, ctx, service)
    local whom = "the server"
    if check.own then
        return errors.new { kind = "timeout",
            message = ("it did not end within the deadline of %g s"):format(ctx.options.deadline) }
    end
    if service then
        local server = service.server or {}
        local at = server.host or server.path
        whom = (service.name == "redis" and "Redis" or "PostgreSQL") .. (at and " at " .. at or "")
            .. (server.port and ":" .. server.port or "")
    end
    return errors.new {
        kind = "timeout",
        message = ("%s gave no answer within the deadline of %g s"):format(whom, ctx.options.deadline),
    }
end

---A wrong value is reported once, by the check of the configuration.
local function caused_by(found, check, results)
    local configuration = results.configuration
    return found.kind == "config" and check.name ~= "configuration" and configuration
        and configuration.status == "FAIL" and configuration or nil
end

local function work(check, ctx)
    if not check.on_conn then return check.run(ctx) end
    ctx.turn = ctx.turn or task.semaphore(1)
    return ctx.turn:with(check.run, ctx)
end

---Kinds of errors that the code of a project's check has caused, not an unreachable server.
local ABOUT_A_STATEMENT <const> = { query = true, constraint = true, redis = true }

---@param check dbrun.verify.Check
---@param ctx dbrun.verify.Context
---@param results table<string, dbrun.verify.Result> the results so far
---@return dbrun.verify.Result
local function run_one(check, ctx, results)
    local began = task.now()
    local left = ctx.deadline - began
    local ok, found = xpcall(task.timeout, traceback, math.max(left, 0), work, check, ctx)
    local seconds = task.now() - began
    if not ok then
        if check.own and (found.traceback or found.kind == "usage") then
            return failed(check.name, seconds, diagnose().own(found.problem or found.message, ctx.expect.file))
        end
        if found.traceback then return failed(check.name, seconds, diagnose().bug(found.traceback)) end
        -- With an SQLSTATE, a statement was cancelled on the server; without one, this task was cancelled.
        if found.kind == "cancelled" and not found.sqlstate then error(found, 0) end
        local cause = caused_by(found, check, results)
        if cause then return blocked(check, cause) end
        local service = service_of(check, ctx)
        if check.own and found.sqlstate then -- for the name of the role
            service = require("dbrun.verify.checks_pg").async.service(ctx)
        end
        if found.kind == "timeout" and task.now() >= ctx.deadline then found = too_late(check, ctx, service) end
        local result = failed(check.name, seconds, diagnose().explain(found, service))
        -- A wrong URL has no service.
        if found.kind == "config" then result.trouble = result.cause end
        if service then result.trouble = ("%s %s: %s"):format(service.name, service.source, result.cause) end
        if found.kind == "connect" then result.reached = result.cause end
        if check.own then
            result.trouble = result.reached
            if found.where and ABOUT_A_STATEMENT[found.kind] then
                result.text = "an error in " .. ctx.expect.file
                result.cause = ("%s: %s"):format(found.where, result.cause)
                result.remedy[#result.remedy + 1] = "correct this check in " .. ctx.expect.file
            end
        end
        return result
    end
    if type(found) == "string" then found = { text = found } end
    found.status = found.status or "PASS"
    if found.status == "INCOMPLETE" then found.status = ctx.strict and "FAIL" or "WARN" end
    found.name, found.seconds = check.name, seconds
    return found
end

---Waits until the checks of `rather_after` have ended, or for half of the remaining time.
local function wait_a_while(check, ctx, started)
    local half <const> = math.max((ctx.deadline - task.now()) / 2, 0)
    local ok, e = pcall(task.timeout, half, function()
        for _, name in ipairs(check.rather_after) do
            if started[name] then started[name]:join() end
        end
    end)
    if not ok and not errors.is(e, "timeout") then error(e, 0) end
end

---Waits for the checks this one depends on; returns the failed one that keeps it from running.
local function wait_for(check, ctx, started, results)
    for _, list in ipairs { check.after or {}, check.needs or {} } do
        for _, name in ipairs(list) do
            if started[name] then started[name]:join() end
        end
    end
    if check.rather_after then wait_a_while(check, ctx, started) end
    local ok, independent = pcall(check.independent or function() return false end, ctx)
    if ok and independent then return nil end
    for _, name in ipairs(check.needs or {}) do
        local result = results[name]
        if result and result.blocked_by then return results[result.blocked_by] or result end
        if result and result.status == "FAIL" then return result end
    end
end

---@return dbrun.verify.Result
local function result_of(check, ctx, started, results)
    local eager = check.eager and run_one(check, ctx, results)
    local culprit = wait_for(check, ctx, started, results)
    if culprit and not (eager and eager.status ~= "FAIL") then return blocked(check, culprit) end
    return eager or run_one(check, ctx, results)
end

---Runs the checks; every one has a result, in the order of the list.
---@param checks dbrun.verify.Check[] a check stands behind those it needs
---@param ctx dbrun.verify.Context
---@return dbrun.verify.Result[]
function M.run(checks, ctx)
    local started, results, ordered = {}, {}, {}
    local group <close> = task.group()
    for i, check in ipairs(checks) do
        started[check.name] = group:spawn(function()
            local result = result_of(check, ctx, started, results)
            results[check.name], ordered[i] = result, result
        end)
    end
    group:wait()
    fold(ordered)
    return ordered
end

---The number of results of each status. Each result is counted once: one that another's failure kept from running is
---`blocked`, not a SKIP.
---@param results dbrun.verify.Result[]
---@return { PASS: integer, WARN: integer, FAIL: integer, SKIP: integer, blocked: integer }
function M.count(results)
    local count = { PASS = 0, WARN = 0, FAIL = 0, SKIP = 0, blocked = 0 }
    for _, result in ipairs(results) do
        local kind = result.blocked_by and "blocked" or result.status
        count[kind] = count[kind] + 1
    end
    return count
end

return M
