--- Does a column keep each value that another one has? What the server would round or cut when it assigns it does not
--- count; what it would refuse does: a refused row is not lost.
local M = {}

local INTEGERS <const> = { smallint = true, integer = true, bigint = true }
--- Types whose number in brackets cuts nothing: the server refuses what is too long.
local REFUSE <const> = { ["character varying"] = true, character = true, bit = true, ["bit varying"] = true }
--- Types whose number in brackets is of digits behind the point, and what they have without it.
local DIGITS <const> = {
    ["timestamp with time zone"] = 6, ["timestamp without time zone"] = 6, ["time with time zone"] = 6,
    ["time without time zone"] = 6, interval = 6,
}
--- Wider types, beside those of the same name.
local WIDER <const> = {
    smallint = { real = true, ["double precision"] = true }, integer = { ["double precision"] = true },
    real = { ["double precision"] = true }, date = { ["timestamp without time zone"] = true },
}

---A type without the numbers in its brackets, and these.
local function parts_of(name)
    local numbers <const> = name:match "%((.-)%)"
    local precision <const>, scale <const> = (numbers or ""):match "^(%d+),?(%-?%d*)$"
    return name:gsub("%s*%b()", ""), tonumber(precision), tonumber(scale)
end

---@param from string the type as format_type writes it
---@param to string
---@return boolean
function M.is(from, to)
    local a <const>, digits <const>, scale <const> = parts_of(from)
    local b <const>, limit <const>, behind <const> = parts_of(to)
    if from == to or b == "text" or b == "character varying" then return true end
    if INTEGERS[a] then
        if INTEGERS[b] then return true end
        if b == "numeric" then return (behind or 0) >= 0 end
    end
    if a == b then
        if not limit or REFUSE[a] then return true end
        if a == "numeric" then return digits ~= nil and (behind or 0) >= (scale or 0) end
        return DIGITS[a] ~= nil and limit >= (digits or DIGITS[a])
    end
    return not limit and WIDER[a] ~= nil and WIDER[a][b] == true
end

return M
