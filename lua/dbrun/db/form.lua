--- The options before the SQL of a statement: the form of its rows.
local args <const> = require "dbrun.args"

local M = {}

---@class dbrun.RowOptions
---@field positional? boolean each row is a list of its values by position, with db.null for NULL: columns of one name
---are all kept
---@field text? boolean each value is the server's own text, as psql prints it

local ROWS <const> = { positional = "boolean", text = "boolean" }
local VALUES <const> = { text = "boolean" }
local KNOWN <const> = { value = VALUES, columns = VALUES }

---Checks the options.
---@param fn string the method that was called
---@param options dbrun.RowOptions
---@return boolean|nil positional
---@return boolean|nil text
function M.check(fn, options)
    options = args.options(fn, options, KNOWN[fn] or ROWS)
    return options.positional, options.text
end

return M
