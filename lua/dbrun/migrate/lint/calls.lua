--- Constants and the arguments of calls.
local M = {}

---The text of a constant, without its cast.
---@param value table?
---@return string?
function M.text(value)
    while value and value.TypeCast do value = value.TypeCast.arg end
    return value and value.A_Const and value.A_Const.sval and value.A_Const.sval.sval
end

---A constant as text: numbers too.
---@param value table?
---@return string?
function M.constant(value)
    while value and value.TypeCast do value = value.TypeCast.arg end
    local text = M.text(value)
    local const = value and value.A_Const
    if text or not const then return text end
    return const.ival and tostring(const.ival.ival or 0) or const.fval and const.fval.fval
end

---An argument by its name, or by its position among those without a name.
---@param call table
---@param place integer
---@param name string
---@return table?
function M.argument(call, place, name)
    local count, found = 0, nil
    for _, node in ipairs(call.args or {}) do
        local named = node.NamedArgExpr
        if named and named.name == name then return named.arg end
        if not named then
            count = count + 1
            if count == place then found = node end
        end
    end
    return found
end

---The value of a named boolean argument: nil when it is missing, "unknown" when it is not a constant.
---@param call table
---@param name string
---@return boolean|"unknown"|nil
function M.flag(call, name)
    local value = M.argument(call, 0, name)
    if not value then return end
    local text = M.text(value)
    if text then return text == "t" or text == "true" or text == "on" or text == "1" or text == "yes" end
    while value.TypeCast do value = value.TypeCast.arg end
    if value.A_Const and value.A_Const.boolval then return value.A_Const.boolval.boolval == true end
    return "unknown"
end

return M
