--- The allowed content of `throttle` and `critical`: a limit for each signal by its name; functions by any other name.
local args <const> = require "dbrun.args"
local errors <const> = require "dbrun.error"
local limits <const> = require "dbrun.batch.signals.limits"
local nearest <const> = require "dbrun.nearest"

local M = {}

local SIGNALS <const> = {
    require "dbrun.batch.signals.replication_lag", require "dbrun.batch.signals.slots",
    require "dbrun.batch.signals.blocked", require "dbrun.batch.signals.latency",
    require "dbrun.batch.signals.active", require "dbrun.batch.signals.wal_archive",
    require "dbrun.batch.signals.wal_rate", require "dbrun.batch.signals.checkpoints",
    require "dbrun.batch.signals.autovacuum", require "dbrun.batch.signals.dead",
    (require "dbrun.batch.signals.oldest_transaction"),
}

--- A key of `throttle` that is not a signal: whether `dead` may vacuum.
local VACUUM <const> = "vacuum"

---@type table<string, dbrun.batch.Signal>
M.BY_NAME = {}
---@type string[] in the order of messages
M.ORDER = {}
---@type table<string, number> the limits of the signals that are on by default
M.DEFAULTS = {}

local names <const> = { throttle = { VACUUM }, critical = {} }
for i, signal in ipairs(SIGNALS) do
    M.BY_NAME[signal.name], M.ORDER[i], M.DEFAULTS[signal.name] = signal, signal.name, signal.default
    table.insert(names.throttle, signal.name)
    if signal.critical then table.insert(names.critical, signal.name) end
end
table.sort(names.throttle)
table.sort(names.critical)

local OFF <const> = { off = true, no = true, ["false"] = true }

local function is_off(value)
    return value == false or type(value) == "string" and OFF[value:lower()] or false
end

local function raise_unknown(fn, which, name)
    local shown <const> = type(name) == "string" and require("dbrun.batch.signals.words").name(name) or tostring(name)
    if which == "critical" and M.BY_NAME[name] then
        errors.fail("usage", ("%s: %s cannot be critical"):format(fn, name),
            "those that can: " .. table.concat(names.critical, ", "))
    end
    local near <const> = type(name) == "string" and nearest.find(name, names[which])
    errors.fail("usage", ("%s: there is no signal '%s'"):format(fn, shown), near and ("did you mean '%s'?"):format(near)
        or ("a signal of your own is a function; the others: %s"):format(table.concat(names[which], ", ")))
end

--- The limit of a built-in signal: a value of its kind, or false.
local function limit_of(fn, which, name, value)
    local signal <const> = M.BY_NAME[name]
    local known <const> = which == "critical" and signal and signal.critical or which == "throttle" and signal
    if not known and not (which == "throttle" and name == VACUUM) then raise_unknown(fn, which, name) end
    if is_off(value) then return false end
    local kind <const> = limits.KINDS[signal and signal.kind or "switch"]
    local limit <const> = kind.read(value)
    if limit == nil then
        errors.fail("usage", ("%s: %s.%s must be %s, or false, got %s"):format(fn, which, name, kind.words,
            type(value) == "string" and ("%q"):format(value:sub(1, 40)) or type(value) == "number" and tostring(value)
            or "a " .. type(value)))
    end
    return limit
end

---The checked limits of a table: values of their kinds, false, functions.
---@param fn string the function as scripts call it, for errors
---@param which "throttle"|"critical"
---@param given? table
---@return table<string, any>
---Raises an error of kind `usage` for an unknown name and a wrong value.
function M.read(fn, which, given)
    args.optional(fn, which, given, "table")
    local read <const> = {}
    for name, value in pairs(given or {}) do
        local own <const> = type(name) == "string" and args.is_callable(value) and not M.BY_NAME[name]
            and name ~= VACUUM
        read[name] = own and value or limit_of(fn, which, name, value)
    end
    return read
end

---A limit that was written as text.
---@param name string the signal; with "critical." in front, of `critical`
---@param text string
---@param own? table<string, any> the job's own `throttle` and its like: a function in it can be turned off by its name
---@return any
---Raises an error of kind `usage` for an unknown name and a wrong value.
function M.parse(name, text, own)
    args.check("batch set", "the signal", name, "string")
    args.check("batch set", "the value", text, "string")
    local which, bare = name:match "^(%l+)%.(.+)$"
    if not names[which] then which, bare = "throttle", name end
    if own and not M.BY_NAME[bare] and args.is_callable(own[bare]) then
        if is_off(text) then return false end
        errors.usage("batch set", "%s is a function of the job: it can only be turned off, with '%s=off'", bare, name)
    end
    return limit_of("batch set", which, bare, text)
end

return M
