--- Converts a field's text to the requested type.
local M = {}

local BOOLEANS <const> = {
    ["true"] = true, t = true, yes = true, y = true, on = true, ["1"] = true,
    ["false"] = false, f = false, no = false, n = false, off = false, ["0"] = false,
}

--- The text of a number as the server reads it, without a leading "+".
local function decimal(text)
    local digits <const> = text:gsub("^+", ""):match "^%-?%d*%.?%d*[eE]?[+-]?%d*$"
    return digits and digits:find "%d" and tonumber(digits) and digits or nil
end

local function date(text)
    local year, month, day = text:match "^(%d%d%d%d)-(%d%d)-(%d%d)$"
    if not year then return nil end
    year, month, day = tonumber(year), tonumber(month), tonumber(day)
    local leap <const> = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
    local days <const> = { 31, leap and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
    return month >= 1 and month <= 12 and day >= 1 and day <= days[month] and text or nil
end

---By name: a function that returns the value, or nil when the text does not fit the type; and the name of the type for
---messages.
---@type table<string, table>
M.by_name = {
    string = { function(text) return text end, "a text" },
    integer = {
        function(text) return text:find "^[+-]?%d+$" and math.tointeger(tonumber((text:gsub("^+", "")))) or nil end,
        "a whole number of at most 64 bits",
    },
    number = { function(text) return tonumber(decimal(text)) end, "a number" },
    decimal = { decimal, "a number" },
    boolean = { function(text) return BOOLEANS[text:lower()] end, "true or false" },
    date = { date, "a date as 2026-01-31" },
}

M.names = { "boolean", "date", "decimal", "integer", "number", "string" }

return M
