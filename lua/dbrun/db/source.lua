--- The source of the rows of execute_many and copy_in: a list, or an iterator with the other values of a generic `for`,
--- so that other:rows(...) can be passed on.
local args <const> = require "dbrun.args"

local M = {}

local function can_be_state(v)
    return type(v) == "table" or type(v) == "userdata" or type(v) == "function"
end

local function can_be_closed(v)
    local meta <const> = type(v) ~= "string" and getmetatable(v)
    return type(meta) == "table" and meta.__close ~= nil
end

---Raises unless the values after an iterator are those of a generic `for`: state, first value, closing value.
---@param fn string
---@param takes string what the function takes, for the error
---@param hint string
---@param state any
---@param control any
---@param closing any
function M.check_rest(fn, takes, hint, state, control, closing, ...)
    if state ~= nil and not can_be_state(state) then
        args.no_more(fn, takes, hint, state)
    elseif closing and not can_be_closed(closing) then
        args.no_more(fn, takes, hint, closing)
    elseif control ~= nil and not can_be_state(state) then
        args.no_more(fn, takes, hint, control)
    end
    args.no_more(fn, takes, hint, ...)
end

---The iterator over a list.
---@param fn string
---@param list any[]
---@return fun(): any
---Raises for a list with a nil in it, because the rows after the nil would be lost.
function M.items(fn, list)
    args.no_holes(fn, "row", list)
    local i = 0
    return function()
        i = i + 1
        return list[i]
    end
end

return M
