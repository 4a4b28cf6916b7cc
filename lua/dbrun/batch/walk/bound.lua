--- Bounds and keys as values: compared, and shown to people.
local M = {}

---Whether two bounds are the same; nil is the open start.
---@param a? string[]
---@param b? string[]
---@return boolean
function M.same(a, b)
    return a == b or a ~= nil and b ~= nil and table.concat(a, "\0") == table.concat(b, "\0")
end

---A key for people: "42", "(2024-01-01, 7)".
---@param key any as walk.value gives it, or a bound
---@return string? text nil for nil
function M.text(key)
    if type(key) ~= "table" then return key ~= nil and tostring(key) or nil end
    local parts <const> = {}
    for i, part in ipairs(key) do parts[i] = tostring(part) end
    return #parts == 1 and parts[1] or ("(%s)"):format(table.concat(parts, ", "))
end

return M
