--- The types of a script's options and arguments: they convert a word of the command line to a Lua value. An error says
--- what was expected, but not the word itself: the caller shows it if it is not secret.
local fs = require "dbrun.fs"

local M = {}

---@class dbrun.cli.Type
---@field argname string what the help shows for the value
---@field parse fun(text: string): any, string? the value, or nil and what was expected
---@field is fun(value: any): boolean may it be a default?
---@field words string what a default must be
---@field bound? fun(value: any): any a limit (min, max) as a value that can be compared; nil: not valid
---@field compare? boolean its values have an order: min and max are allowed

local function whole(v) return type(v) == "number" and math.tointeger(v) ~= nil end
local function finite(v) return type(v) == "number" and v == v and v > -math.huge and v < math.huge end
local function is_string(v) return type(v) == "string" end

-- ---- numbers ----

local function integer(text)
    if not text:find "^[+-]?%d+$" then return nil, "a whole number" end
    local value = math.tointeger(tonumber((text:gsub("^%+", ""))))
    if not value then return nil, "a whole number of at most 64 bits" end
    return value
end

local function number(text)
    local digits = text:match "^[+-]?([%d.]+)$" or text:match "^[+-]?([%d.]+)[eE][+-]?%d+$"
    local value = digits and digits:find "%d" and tonumber((text:gsub("^%+", "")))
    if not value or not finite(value) then return nil, "a number" end
    return value
end

--- A whole number as an integer, so that it is printed without ".0".
local function tidy(value)
    return math.tointeger(value) or value
end

local SECONDS <const> = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, w = 604800 }
local SPAN <const> = "a time such as 90s, 5m, 2h, 1d, 1h30m, or a number of seconds"

local function seconds(text)
    if text:find "^%d+%.?%d*$" or text:find "^%.%d+$" then
        local value = number(text)
        if value then return tidy(value) end
    end
    local sum, at = 0, 1
    while at <= #text do
        local digits, unit, past = text:match("^(%d+%.?%d*)(%l+)()", at)
        local n = digits and SECONDS[unit] and tonumber(digits)
        if not n then return nil, SPAN end
        sum, at = sum + n * SECONDS[unit], past
    end
    if at == 1 or not finite(sum) then return nil, SPAN end
    return tidy(sum)
end

local POWERS <const> = { [""] = 0, k = 1, m = 2, g = 3, t = 4, p = 5 }
local SIZE <const> = "a size such as 4096, 10k, 5MiB (powers of 1024) or 5MB (of 1000)"

--- Sizes as in GNU's tools: k and KiB are 1024 bytes, kB is 1000.
local function bytes(text)
    local digits, letter, rest = text:match "^(%d+%.?%d*)%s?(%a?)(%a*)$"
    local unit = letter and letter:lower()
    rest = rest and rest:lower()
    if unit == "b" and rest == "" then unit = "" end
    local power = digits and POWERS[unit]
    if not power or not (rest == "" or rest == "b" or rest == "ib") or (unit == "" and rest ~= "") then
        return nil, SIZE
    end
    local factor = 1
    for _ = 1, power do factor = factor * (rest == "b" and 1000 or 1024) end
    local n = math.tointeger(tonumber(digits)) or tonumber(digits)
    if n > math.maxinteger // factor then return nil, "a size of less than 8 EiB" end
    local value = n * factor
    return math.tointeger(value) or math.floor(value + 0.5)
end

-- ---- dates and files ----

local DAYS <const> = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_date(text)
    local y, m, d = text:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)$"
    y, m, d = tonumber(y), tonumber(m), tonumber(d)
    if not y or y == 0 or m < 1 or m > 12 or d < 1 then return false end
    local leap = m == 2 and (y % 4 == 0 and y % 100 ~= 0 or y % 400 == 0)
    return d <= DAYS[m] + (leap and 1 or 0)
end

local function date(text)
    if is_date(text) then return text end
    return nil, text:find "^%d%d%d%d%-%d%d%-%d%d$" and "a day of the calendar" or "a date such as 2026-01-31"
end

local function file(text)
    if text == "" or text:find("\0", 1, true) then return nil, "the name of a file" end
    local stat = fs.stat(text)
    if not stat then return nil, "a file that exists" end
    if stat.kind == "folder" then return nil, "a file, not a folder" end
    if not fs.access(text) then return nil, "a file that may be read" end
    return text
end

---@type table<string, dbrun.cli.Type>
M.types = {
    string = { argname = "TEXT", words = "a string", is = is_string, parse = function(text) return text end },
    integer = { argname = "N", words = "a whole number", is = whole, parse = integer, compare = true },
    number = { argname = "N", words = "a number", is = finite, parse = number, compare = true },
    seconds = {
        argname = "TIME", parse = seconds, compare = true, words = 'a number of seconds, or a text such as "5m"',
        is = function(v) return finite(v) and v >= 0 or is_string(v) and seconds(v) ~= nil end,
        bound = function(v) return is_string(v) and seconds(v) or v end,
    },
    bytes = {
        argname = "SIZE", parse = bytes, compare = true, words = 'a whole number of bytes, or a text such as "5MiB"',
        is = function(v) return whole(v) and v >= 0 or is_string(v) and bytes(v) ~= nil end,
        bound = function(v) return is_string(v) and bytes(v) or v end,
    },
    date = {
        argname = "DATE", parse = date, compare = true, words = 'a date such as "2026-01-31"',
        is = function(v) return is_string(v) and is_date(v) end,
    },
    file = { argname = "FILE", words = "a string", is = is_string, parse = file },
    choice = { argname = "WORD", words = "one of its choices", is = is_string, parse = function(text) return text end },
    flag = { argname = "", words = "true or false", is = function(v) return type(v) == "boolean" end },
    list = { argname = "A,B,..", words = "a list", is = function(v) return type(v) == "table" end },
}

local TRUE <const> = { ["1"] = true, ["true"] = true, yes = true, on = true }
local FALSE <const> = { ["0"] = true, ["false"] = true, no = true, off = true }

---A flag's value from the environment.
---@param text string
---@return boolean? value nil: it is none
function M.switch(text)
    local word = text:lower()
    if TRUE[word] then return true end
    if FALSE[word] then return false end
    return nil
end

---A limit as text for people.
local function shown(option, limit)
    if option.type == "seconds" then return ("%g seconds"):format(limit) end
    if option.type == "bytes" then return ("%d bytes"):format(limit) end
    return tostring(limit)
end

local function of_limits(option, value, words)
    local min, max = option.min, option.max
    if (min == nil or value >= min) and (max == nil or value <= max) then return value end
    if min ~= nil and max ~= nil then
        return nil, ("%s from %s to %s"):format(words, shown(option, min), shown(option, max))
    end
    return nil, min ~= nil and ("%s of at least %s"):format(words, shown(option, min))
        or ("%s of at most %s"):format(words, shown(option, max))
end

local NOUNS <const> = { integer = "a whole number", number = "a number", seconds = "a time", bytes = "a size",
    date = "a date" }

local function one(option, kind, text)
    local value, expected = M.types[kind].parse(text)
    if value == nil then return nil, expected end
    if option.choices then
        for _, choice in ipairs(option.choices) do
            if choice == value then return value end
        end
        local near = require "dbrun.nearest".find(text, option.choices_text)
        return nil, "one of " .. table.concat(option.choices_text, ", "), near and ("did you mean '%s'?"):format(near)
    end
    if M.types[kind].compare then return of_limits(option, value, NOUNS[kind]) end
    return value
end

---The value of a word for an option or argument.
---@param option dbrun.cli.Option
---@param text string
---@return any value nil: it is none
---@return string? expected
---@return string? hint
function M.value(option, text)
    if option.type ~= "list" then return one(option, option.type, text) end
    local list = {}
    if not text:find "%S" then return list end
    for item in (text .. ","):gmatch "([^,]*)," do
        item = item:match "^%s*(.-)%s*$"
        if item == "" then return nil, "a list such as a,b,c without empty elements" end
        local value, expected, hint = one(option, option.of, item)
        if value == nil then return nil, "a list, each element " .. expected, hint end
        list[#list + 1] = value
    end
    return list
end

return M
