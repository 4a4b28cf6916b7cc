--- Jobs that delete rows.
local args <const> = require "dbrun.args"
local columns <const> = require "dbrun.batch.kinds.columns"
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"

local M = {}

---Raises kind `usage` without a condition, which would mean all rows.
---@param fn string
---@param options table
function M.check_where(fn, options)
    if type(options) == "table" and options.where == nil then
        errors.fail("usage", fn .. ": where is missing: it says which rows are deleted",
            "where = \"true\" takes all of them; of a table that may be empty, TRUNCATE is quicker")
    end
end

---@param options table as for batch.purge
---@return dbrun.batch.Definition
function M.of(options)
    M.check_where("batch.purge", options)
    args.check("batch.purge", "its argument", options, "table")
    args.check("batch.purge", "table", options.table, "string")
    return define.of("purge", options, {
        run = ("delete from %s where :chunk"):format(columns.name(options.table)
            .. (type(options.as) == "string" and " as " .. params.ident { options.as } or "")),
    })
end

return M
