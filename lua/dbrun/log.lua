--- The program's log: lines on standard error, as text or JSON, with a level and fields. Passwords that the program
--- knows are masked, control characters escaped.
---
---     local log = require "dbrun.log"
---     log.info("copied", { rows = 5, table = "notes" })
---     local mine = log.with { job = "nightly" }
---     mine.warn("slow", { seconds = 3.5 })
---
--- `--log LEVEL` (or the key DBRUN_LOG) sets which lines are written: error, warn (the default), info or debug.
---
--- Raises errors of kind `usage` for fields that are not a table, and nothing else.
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"

local write <const>, level_of <const>, mask <const> = core.log.fields, core.log.level, core.log.mask

local M = {}

---@alias dbrun.log.Level "error"|"warn"|"info"|"debug"

---@class dbrun.log.Logger
---@field error fun(message: string, fields?: table<string, any>)
---@field warn fun(message: string, fields?: table<string, any>)
---@field info fun(message: string, fields?: table<string, any>)
---@field debug fun(message: string, fields?: table<string, any>)
---@field with fun(fields: table<string, any>): dbrun.log.Logger

local RANK <const> = { error = 1, warn = 2, info = 3, debug = 4 }
local LEVEL <const> = args.one_of("error", "warn", "info", "debug")
local NONE <const> = {}
local RESERVED <const> = { time = true, level = true, message = true }

---Raises for a field name that would break the line or hide one of the log's own fields.
local function check_fields(fn, fields)
    args.optional(fn, "the fields", fields, "table")
    for key in next, fields or {} do
        if type(key) ~= "string" or not key:find "^[%a_][%w_.-]*$" then
            errors.usage(fn, "the name of a field must be of letters, digits, '_', '.' and '-', got %s",
                type(key) == "string" and ("%q"):format(key) or "a " .. type(key))
        elseif RESERVED[key] then
            errors.usage(fn, "a field cannot be called '%s': each line has that", key)
        end
    end
end

--- Names of fields whose texts are never written. ("key" is not among them: a Redis key is not secret.)
local SECRET <const> = { "passw", "passphrase", "secret", "token", "credential", "api_?key", "authoriz" }

local function is_secret(key)
    local name = key:lower()
    for _, word in ipairs(SECRET) do
        if name:find(word) then return true end
    end
    return false
end

--- An error object in one line, with its SQLSTATE.
local function error_text(e)
    return e.sqlstate and ("%s (SQLSTATE %s)"):format(e.message, e.sqlstate) or e.message
end

---@return string kind
---@return string text
local function value_of(value)
    local kind = type(value)
    if kind == "string" then
        return "text", value
    elseif kind == "number" then
        local finite = value == value and value > -math.huge and value < math.huge
        if not finite then return "text", value ~= value and "nan" or value > 0 and "inf" or "-inf" end
        return "raw", math.type(value) == "integer" and ("%d"):format(value) or core.pg.number_text(value)
    elseif kind == "boolean" then
        return "raw", tostring(value)
    elseif value == core.null then
        return "raw", "null"
    elseif errors.is(value) then
        return "text", error_text(value)
    elseif kind == "table" then
        local json = require "dbrun.json"
        local ok, text = pcall(json.encode, value)
        if not ok then return "text", tostring(value) end
        local masked = mask(text)
        return (masked == text or pcall(json.decode, masked)) and "raw" or "text", masked
    end
    return "text", tostring(value)
end

--- {key, kind, text, ...}, sorted by name; the logger's fields first.
local function flat(list, fields)
    local names = {}
    for key in next, fields do names[#names + 1] = key end
    table.sort(names)
    for _, key in ipairs(names) do
        local kind, text = value_of(fields[key])
        if kind == "text" and text ~= "" and is_secret(key) then text = "***" end
        local n = #list
        list[n + 1], list[n + 2], list[n + 3] = key, kind, text
    end
    return list
end

local function merged(base, fields)
    local both = {}
    for key, value in next, base do both[key] = value end
    for key, value in next, fields or {} do both[key] = value end
    return both
end

--- The logger's fields that the line does not override.
local function without(base, fields)
    local rest = {}
    for key, value in next, base do
        if fields[key] == nil then rest[key] = value end
    end
    return rest
end

local function writer(level, base)
    local fn <const>, rank <const> = "log." .. level, RANK[level]
    return function(message, fields)
        args.check(fn, "the message", message, "string")
        check_fields(fn, fields)
        if rank > RANK[level_of()] then return end
        write(level, message, flat(flat({}, without(base, fields or NONE)), fields or NONE))
    end
end

---@param base table<string, any>
---@return dbrun.log.Logger
local function logger(base)
    return args.answer_for_names({
        error = writer("error", base), warn = writer("warn", base), info = writer("info", base),
        debug = writer("debug", base),
        with = function(fields)
            args.check("log.with", "the fields", fields, "table")
            check_fields("log.with", fields)
            return logger(merged(base, fields))
        end,
    }, "a logger", { warning = "log.warn(message, fields)", log = "log.info(message, fields)" })
end

---Writes a line of level `error`.
---@type fun(message: string, fields?: table<string, any>)
---```lua
---log.error("cannot copy", { table = "notes" })
---```
M.error = writer("error", NONE)

---Writes a line of level `warn`.
---@type fun(message: string, fields?: table<string, any>)
---```lua
---log.warn("slow", { seconds = 3.5 })
---```
M.warn = writer("warn", NONE)

---Writes a line of level `info`.
---@type fun(message: string, fields?: table<string, any>)
---```lua
---log.info("copied", { rows = 5 })
---```
M.info = writer("info", NONE)

---Writes a line of level `debug`.
---@type fun(message: string, fields?: table<string, any>)
---```lua
---log.debug("a batch", { from = 1, to = 1000 })
---```
M.debug = writer("debug", NONE)

---A logger whose lines all have these fields.
---@param fields table<string, any>
---@return dbrun.log.Logger
---```lua
---local mine = log.with { job = "nightly" }
---mine.info("copied", { rows = 5 })
---```
function M.with(fields)
    args.check("log.with", "the fields", fields, "table")
    check_fields("log.with", fields)
    return logger(merged(NONE, fields))
end

---The level: lines of more detailed levels are not written. With an argument it is set.
---@param level? dbrun.log.Level
---@return dbrun.log.Level
---```lua
---print(log.level())  --> warn
---```
function M.level(level)
    args.optional("log.level", "the level", level, LEVEL)
    return level_of(level)
end

---Whether a line of this level would be written.
---@param level dbrun.log.Level
---@return boolean
---```lua
---print(log.wants "error", log.wants "debug")  --> true  false
---```
function M.wants(level)
    args.check("log.wants", "the level", level, LEVEL)
    return RANK[level] <= RANK[level_of()]
end

do -- applies the .env from here on, even before anything else is configured; in a stock lua5.4 the environment too
    local config <const> = require "dbrun.config"
    local level <const>, form <const> = config.DBRUN_LOG, config.DBRUN_LOG_FORMAT
    if not core.options then
        level_of(level)
        core.log.format(form)
    end
end

return args.answer_for_names(M, "log", {
    warning = "log.warn(message, fields)", critical = "log.error(message, fields)", print = "log.info(message, fields)",
    write = "log.info(message, fields)", trace = "log.debug(message, fields)", bind = "log.with{...}",
    child = "log.with{...}", setLevel = "log.level(level)", set_level = "log.level(level)",
    enabled = "log.wants(level)",
})
