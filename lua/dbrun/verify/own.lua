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
local places = require "dbrun.places"
local task = require "dbrun.task"

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

local RETURN <const> = "return a text, true, false, ctx.warn(...), ctx.fail(...), or { status = 'WARN', text = '...' }"

local function is_text(value) return type(value) == "string" end

local function are_texts(value)
    if type(value) ~= "table" then return false end
    for _, text in ipairs(value) do
        if not is_text(text) then return false end
    end
    return true
end

---The allowed keys of a table that a check returns; the formats of the report rely on them.
local FIELDS <const> = {
    text = { is_text, "a text" }, cause = { is_text, "a text" }, key = { is_text, "a text" },
    layer = { is_text, "a text" }, remedy = { are_texts, "a list of texts" },
    facts = { function(value)
        return type(value) == "table" and (pcall(require("dbrun.json").encode, value))
    end, "a table that JSON can hold" },
}

---Turns the value that a function returned into the result of a check.
local function judged(value, file)
    if value == nil or value == true then return "as it should be" end
    if value == false then return { status = "FAIL", text = "the check returned false" } end
    if type(value) ~= "table" then return tostring(value) end
    if not (STATUS[value.status or "PASS"] and value.text ~= nil) then
        errors.fail("usage", ("%s: the check returned a table without `status` and `text`"):format(file), RETURN)
    end
    local result = { status = value.status }
    for name, field in pairs(FIELDS) do
        local given = value[name]
        if name == "remedy" and is_text(given) then given = { given } end
        if given ~= nil and not field[1](given) then
            errors.fail("usage", ("%s: the check returned a table whose `%s` is not %s"):format(file, name, field[2]),
                RETURN)
        end
        result[name] = given
    end
    return result
end

local EVERY <const> = 100000 -- instructions between two checks of the clock

local function guarded(own, ctx)
    return exit_guard.call(("the check '%s'"):format(own.check), own.run, context(ctx))
end

---Calls a check. A loop in it that never waits is stopped at the deadline, because it would block all other checks.
local function call(own, ctx)
    local thread <const> = coroutine.running()
    local hook, mask, count = debug.gethook(thread)
    if hook then return guarded(own, ctx) end -- another debug hook is set
    local _ <close> = setmetatable({}, { __close = function() debug.sethook(thread, hook, mask, count) end })
    debug.sethook(thread, function()
        if task.now() > ctx.deadline then
            errors.raise { kind = "timeout", message = ("it did not end within the deadline of %g s"):format(
                ctx.options.deadline) }
        end
    end, "", EVERY)
    return guarded(own, ctx)
end

---Names of checks must be unique.
local function check_name(own, place, taken)
    if taken[own.check] then
        errors.fail("config", ("%s: two checks are called '%s'"):format(place, own.check),
            "give it another name; dbrun verify --list has all")
    end
    taken[own.check] = true
    for _, need in ipairs(own.needs or {}) do
        if not taken[need] then
            errors.fail("config", ("%s: '%s' needs '%s', which is not a check before it"):format(place, own.check,
                need), "dbrun verify --list has all in their order")
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
        check_name(own, places.name(expectations.file, expectations.own_at[i] or i, "check"), taken)
        list[i] = {
            name = own.check, about = own.about or "of " .. expectations.file, needs = own.needs, own = true,
            after = { "configuration" },
            run = function(ctx) return judged(call(own, ctx), expectations.file) end,
        }
    end
    return list
end

return M
