--- Durations as Go writes and reads them: "1m0s", "1.5s", "300ms".
local M = {}

local UNITS <const> = {
    ns = 1, us = 1e3, ["\xC2\xB5s"] = 1e3, ["\xCE\xBCs"] = 1e3, ms = 1e6, s = 1e9, m = 60e9, h = 3600e9,
}

---@param text string
---@return number? seconds nil: it is no duration
---@return string? why in the words of Go
function M.parse(text)
    local sign, rest = text:match "^([+-]?)(.*)$"
    if rest == "0" then return 0 end
    local function wrong(what, ...) return nil, ("time: " .. what .. " duration %q"):format(...) end
    if rest == "" then return wrong("invalid", text) end
    local total, at = 0, 1
    while at <= #rest do
        local number, unit, behind = rest:match("^(%d*%.?%d*)([^%d.]*)()", at)
        if not number:find "%d" then return wrong("invalid", text) end
        if unit == "" then return wrong("missing unit in", text) end
        if not UNITS[unit] then return wrong("unknown unit %q in", unit, text) end
        total, at = total + tonumber(number) * UNITS[unit], behind
    end
    return (sign == "-" and -total or total) / 1e9
end

---A number with at most `digits` places, without zeros at its end.
local function fraction(value, digits)
    local text = ("%%.%df"):format(digits):format(value)
    return (text:find(".", 1, true) and text:gsub("0+$", ""):gsub("%.$", "") or text)
end

---@param seconds number
---@return string
function M.format(seconds)
    local ns = math.floor(seconds * 1e9 + 0.5)
    if ns == 0 then return "0s" end
    if ns < 1000 then return ("%dns"):format(ns) end
    if ns < 1000000 then return fraction(ns / 1e3, 3) .. "\xC2\xB5s" end
    if ns < 1000000000 then return fraction(ns / 1e6, 6) .. "ms" end
    local minutes = ns // 60000000000
    local rest = fraction((ns - minutes * 60000000000) / 1e9, 9) .. "s"
    if minutes == 0 then return rest end
    if minutes < 60 then return ("%dm%s"):format(minutes, rest) end
    return ("%dh%dm%s"):format(minutes // 60, minutes % 60, rest)
end

return M
