--- Lua values as the prompt shows them: tables with their content, bounded, with a mark where one contains itself.
local core = require "dbrun.core"
local reserved = require "dbrun.reserved"

local M = {}

local DEEPEST <const>, MEMBERS <const>, TEXT <const> = 4, 100, 4000

local function order(a, b)
    local x <const>, y <const> = type(a), type(b)
    if x ~= y then return x == "number" or (x == "string" and y ~= "number") end
    if x == "number" or x == "string" then return a < b end
    return tostring(a) < tostring(b)
end

local show

local function key_text(key, seen, depth)
    if type(key) == "string" and key:find "^[%a_][%w_]*$" and not reserved.is(key) then return key end
    return "[" .. show(key, seen, depth) .. "]"
end

local function keys_of(t)
    local keys, more = {}, 0
    local n <const> = rawlen(t)
    for key in next, t do
        if math.type(key) ~= "integer" or key < 1 or key > n then
            if #keys < MEMBERS then keys[#keys + 1] = key else more = more + 1 end
        end
    end
    table.sort(keys, order)
    return keys, more
end

local function show_table(t, seen, depth)
    if seen[t] then return "{ itself }" end
    if next(t) == nil then return "{}" end
    if depth >= DEEPEST then return "{...}" end
    seen[t] = true
    local parts, n <const> = {}, rawlen(t)
    for i = 1, math.min(n, MEMBERS) do parts[i] = show(rawget(t, i), seen, depth + 1) end
    local keys <const>, more = keys_of(t)
    more = more + math.max(0, n - MEMBERS)
    for _, key in ipairs(keys) do
        parts[#parts + 1] = key_text(key, seen, depth + 1) .. " = " .. show(rawget(t, key), seen, depth + 1)
    end
    if more > 0 then parts[#parts + 1] = ("... %d more"):format(more) end
    seen[t] = nil
    local line <const> = table.concat(parts, ", ")
    if #line <= 100 and not line:find "\n" then return "{ " .. line .. " }" end
    local indent <const> = ("  "):rep(depth + 1)
    return "{\n" .. indent .. table.concat(parts, ",\n" .. indent) .. "\n" .. ("  "):rep(depth) .. "}"
end

function show(v, seen, depth)
    if v == core.null then return "NULL" end
    if type(v) == "string" then
        if #v > TEXT then v = v:sub(1, TEXT) .. "..." end
        return '"' .. v:gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
    end
    if type(v) == "table" then
        local meta <const> = getmetatable(v)
        if type(meta) == "table" and rawget(meta, "__tostring") then return tostring(v) end
        return show_table(v, seen, depth)
    end
    return tostring(v)
end

---The text of a value.
---@param v any
---@return string text without control characters but ends of lines
function M.value(v)
    if type(v) == "string" then return core.tty.printable(v) end
    local text <const> = show(v, {}, 0)
    return core.tty.printable(text)
end

return M
