--- Sizes and numbers of rows in words.
local M = {}

local UNITS <const> = { "bytes", "kB", "MB", "GB", "TB", "PB" }

---As pg_size_pretty writes it: 8192 bytes, 16 kB, 1234 MB.
---@param bytes integer
---@return string
function M.pretty(bytes)
    local unit, value = 1, bytes
    while value >= 10240 and unit < #UNITS do
        value, unit = (value + 512) // 1024, unit + 1
    end
    return ("%d %s"):format(value, UNITS[unit])
end

---1234567 as 1,234,567.
---@param n integer
---@return string
function M.grouped(n)
    local text = ("%d"):format(n)
    repeat
        local count
        text, count = text:gsub("^(-?%d+)(%d%d%d)", "%1,%2")
    until count == 0
    return text
end

local function rows(n, unknown)
    if unknown > 0 and (n or 0) == 0 then return "rows unknown until it is analyzed" end
    return ("about %s row%s"):format(M.grouped(n or 0), n == 1 and "" or "s")
        .. (unknown > 0 and (", %d part%s not analyzed"):format(unknown, unknown == 1 and "" or "s") or "")
end

local function parts(bytes, indexes)
    if (indexes or 0) == 0 then return M.pretty(bytes or 0) end
    return ("%s (table %s, indexes %s)"):format(M.pretty((bytes or 0) + indexes), M.pretty(bytes or 0),
        M.pretty(indexes))
end

local STORED <const> = { r = true, p = true, m = true, t = true, i = true, I = true }
local HAS_ROWS <const> = { r = true, p = true, m = true }

---Size and rows of a relation, with all that is below it; nil for what has none.
---@param relation dbrun.prompt.Relation
---@param facts table dbrun.prompt.describe.facts
---@return string|nil
function M.text(relation, facts)
    local s <const> = facts.size
    if not STORED[relation.kind] or not s then return nil end
    local out = {}
    local whole <const> = relation.kind == "p" or relation.kind == "I"
    if s.locked > 0 and not (s.bytes or s.own) then
        out[1] = "unknown: another session has locked it exclusively"
    elseif whole or facts.children_count == 0 then
        out[1] = parts(s.bytes, s.indexes)
    else
        out[1] = ("%s; with its children %s"):format(parts(s.own, s.own_indexes), parts(s.bytes, s.indexes))
    end
    if s.locked > 0 and (s.bytes or s.own) then
        out[#out + 1] = ("without %d that another session has locked exclusively"):format(s.locked)
    end
    if HAS_ROWS[relation.kind] then out[#out + 1] = rows(s.rows, s.unknown) end
    return table.concat(out, ", ")
end

return M
