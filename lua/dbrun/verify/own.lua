--- Checks of the project: functions in the file of the expectations.
---
---     { check = "orders.open", about = "no order is open for a day", run = function(ctx)
---         local n = ctx.db:value "select count(*) from orders where open and made < now() - interval '1 day'"
---         if n > 100 then return ctx.fail("%d orders", n) end
---         return n > 0 and ctx.warn("%d orders", n) or "none"
---     end }
local args = require "dbrun.args"
local errors = require "dbrun.error"
local exit_guard = require "dbrun.exit_guard"

local M = {}

---@class dbrun.verify.OwnContext
---@field db table db.async
---@field redis table the Redis client, opened when first used
---@field config Config
---@field strict boolean
---@field warn fun(format: string, ...): dbrun.verify.Found
---@field fail fun(format: string, ...): dbrun.verify.Found
---@field skip fun(format: string, ...): dbrun.verify.Found

local function found(status)
    local fn <const> = "ctx." .. status:lower()
    return function(format, ...)
        args.check(fn, "format", format, "string")
        local ok, text = pcall(string.format, format, ...)
        if not ok then errors.usage(fn, "the values do not fit the format '%s': %s", format, text) end
        return { status = status, text = text }
    end
end

local function context(ctx)
    local own = {
        config = ctx.config, strict = ctx.strict, warn = found "WARN", fail = found "FAIL", skip = found "SKIP",
    }
    return setmetatable(own, { __index = function(_, key)
        if key == "db" then return require("dbrun.db").async end
        if key == "redis" then return require("dbrun.redis").get() end
    end })
end

local STATUS <const> = { PASS = true, WARN = true, FAIL = true, SKIP = true, INCOMPLETE = true }

---Turns the value that a function returned into the result of a check.
local function judged(value, file)
    if value == nil or value == true then return "as it should be" end
    if value == false then return { status = "FAIL", text = "the check returned false" } end
    if type(value) ~= "table" then return tostring(value) end
    if STATUS[value.status or "PASS"] and type(value.text) == "string" then return value end
    errors.fail("usage", ("%s: the check returned a table without `status` and `text`"):format(file),
        "return a text, true, false, ctx.warn(...), ctx.fail(...), or { status = 'WARN', text = '...' }")
end

---Names of checks must be unique.
local function check_name(own, file, taken)
    if taken[own.check] then
        errors.fail("config", ("%s: two checks are called '%s'"):format(file, own.check))
    end
    taken[own.check] = true
    for _, need in ipairs(own.needs or {}) do
        if not taken[need] then
            errors.fail("config", ("%s: '%s' needs '%s', which is not a check before it"):format(file, own.check, need))
        end
    end
end

---@param expectations dbrun.verify.Expectations
---@param others dbrun.verify.Check[]
---@return dbrun.verify.Check[]
---Raises an error of kind `config` for a name in use, and for an unknown check in `needs`.
function M.checks(expectations, others)
    local taken, list = {}, {}
    for _, check in ipairs(others) do taken[check.name] = true end
    for i, own in ipairs(expectations.own) do
        check_name(own, expectations.file, taken)
        list[i] = {
            name = own.check, about = own.about or "of " .. expectations.file, needs = own.needs, own = true,
            after = { "configuration" },
            run = function(ctx) return judged(exit_guard.call(("the check '%s'"):format(own.check), own.run,
                context(ctx)), expectations.file) end,
        }
    end
    return list
end

return M
