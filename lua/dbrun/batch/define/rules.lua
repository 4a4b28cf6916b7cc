--- Rules and defaults for the options of a job.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local hours <const> = require "dbrun.batch.define.hours"

local M = {}

local function is_text(v) return type(v) == "string" and v:find "%S" ~= nil and not v:find("\0", 1, true) end

local TEXT <const> = { is_text, "a text that is not empty and has no NUL byte" }

local function is_list_of_texts(v)
    if not args.strings[1](v) or #v == 0 then return false end
    for _, text in ipairs(v) do
        if not is_text(text) then return false end
    end
    return true
end

local NAME <const> = {
    function(v) return type(v) == "string" and #v <= 63 and v:find "^[%w_.-]+$" ~= nil end,
    "1 to 63 letters, digits, '-', '_' or '.'", shows = true,
}
local KEY <const> = {
    function(v) return is_text(v) or is_list_of_texts(v) end, "a column, or a list of columns in the order of an index",
}
local RUN <const> = {
    function(v) return type(v) == "function" or is_text(v) or is_list_of_texts(v) end,
    "SQL, a list of statements, or a function(tx, chunk)",
}
local ENGINE <const> = {
    function(v) return type(v) == "userdata" or type(v) == "table" or is_text(v) end,
    "an engine, as db.engine gives it, or a URL",
}

local function between(low, high, words, with_high)
    return {
        function(v) return type(v) == "number" and v > low and (v < high or with_high and v == high) end, words,
    }
end

local SECONDS <const> = args.some_seconds
local ROWS <const> = args.whole(1, 1000000000)

--- Those that `dbrun batch set` may change while the job runs.
M.TUNABLE = {
    size = ROWS, min = ROWS, max = ROWS, look = ROWS, target = SECONDS, timeout = SECONDS, lock_timeout = SECONDS,
    duty = between(0, 1, "a number above 0 and up to 1", true), rate = between(0, math.huge, "rows a second, above 0"),
    hours = { function(v) return type(v) == "string" and hours.parse(v) ~= nil end, hours.EXPECTED, shows = true },
    on_error = args.one_of("stop", "skip", "split"), max_failed = args.whole(0, 1000000000),
}

M.RULES = {
    name = NAME, table = TEXT, source = "table", as = TEXT, key = KEY, where = TEXT, params = "table", run = RUN,
    after = args.callable, lock = "boolean", follow = "boolean", ties = "boolean", nulls = args.one_of "skip",
    compressed = "boolean", force = "boolean", blind = "boolean", replicas = "table", settings = "table",
    throttle = "table", critical = "table", passes = args.whole(1, 1000), engine = ENGINE,
}
for name, rule in pairs(M.TUNABLE) do M.RULES[name] = rule end

--- Names that a statement's parameters cannot have, because dbrun gives them values.
M.RESERVED = {
    after = true, upto = true, size = true, look = true, keys = true, chunk = true, range = true, started = true,
}

---Whether a value can be a parameter of a statement.
---@param v any
---@return boolean
function M.is_parameter(v)
    local kind <const> = type(v)
    return kind == "string" or kind == "number" or kind == "boolean" or v == core.null or kind == "userdata"
        or kind == "table"
end

--- Values that a setting of the server can have.
M.SETTING = args.one_type_of("string", "number", "boolean")

---The values in force for options that were not given. `min` and `max` follow a size that is beyond them.
---@param said table<string, any>
---@return table
function M.with_defaults(said)
    local size <const>, target <const> = said.size or 1000, said.target or 0.5
    return {
        size = size, min = said.min or math.min(10, size), max = said.max or math.max(20000, size),
        look = said.look or math.max(100000, size), target = target, timeout = said.timeout or 4 * target,
        duty = said.duty or 1, rate = said.rate, hours = said.hours, lock_timeout = said.lock_timeout or 0.2,
        on_error = said.on_error or "stop", max_failed = said.max_failed or 100,
    }
end

return M
