--- Nested values as one line of text: as JSON if possible, else in Lua's notation.
local core <const> = require "dbrun.core"

local M = {}

local DEEP <const> = 16

local function sorted_keys(t)
    local keys = {}
    for key in next, t do keys[#keys + 1] = key end
    table.sort(keys, function(a, b)
        local x <const>, y <const> = type(a), type(b)
        if x ~= y then return x < y end
        if x == "number" or x == "string" then return a < b end
        return tostring(a) < tostring(b)
    end)
    return keys
end

local lua_text

local function key_text(key, above)
    if type(key) == "string" and key:find "^[%a_][%w_]*$" then return key end
    return ("[%s]"):format(lua_text(key, above))
end

--- `above` has the enclosing tables: a table that contains itself ends there.
function lua_text(v, above)
    if v == core.null then
        return "NULL"
    elseif type(v) == "string" then
        return '"' .. core.text.escape((v:gsub('["\\]', "\\%0"))) .. '"'
    elseif type(v) ~= "table" then
        return tostring(v)
    elseif above[v] or above.deep == DEEP then
        return "{...}"
    end
    above[v], above.deep = true, above.deep + 1
    local parts, n = {}, rawlen(v)
    for i = 1, n do parts[i] = lua_text(rawget(v, i), above) end
    for _, key in ipairs(sorted_keys(v)) do
        if not (math.type(key) == "integer" and key >= 1 and key <= n) then
            parts[#parts + 1] = key_text(key, above) .. " = " .. lua_text(rawget(v, key), above)
        end
    end
    above[v], above.deep = nil, above.deep - 1
    return "{" .. table.concat(parts, ", ") .. "}"
end

---A value as Lua writes it, in one line; tables in tables up to 16 deep.
---@param v any
---@return string
function M.lua(v)
    return lua_text(v, { deep = 0 })
end

local SORTED <const> = { sort_keys = true }

---A table as one line of text.
---@param t table
---@return string
function M.text(t)
    local ok <const>, json <const> = pcall(core.json.encode, t, SORTED)
    return ok and json or M.lua(t)
end

---A table as JSON: a value without a JSON form becomes a string in Lua's notation.
---@param t table
---@return string
function M.json(t)
    local ok <const>, json <const> = pcall(core.json.encode, t, SORTED)
    return ok and json or core.json.encode(M.lua(t))
end

return M
