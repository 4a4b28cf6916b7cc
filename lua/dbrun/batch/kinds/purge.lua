--- Jobs that delete rows.
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"

local M = {}

---The table of a job as SQL, with the name by which `where` knows it.
---@param fn string
---@param options table
---@return string
function M.target(fn, options)
    local target <const> = params.ident_of(fn, "table", options.table)
    return options.as and target .. " as " .. params.ident { options.as } or target
end

---Raises kind `usage` when all rows would be meant.
---@param fn string
---@param options table
function M.check_where(fn, options)
    if type(options) == "table" and options.where == nil then
        errors.fail("usage", fn .. ": where is missing: it says which rows are deleted",
            "where = \"true\" takes all of them; of a table that may be empty, TRUNCATE is quicker")
    end
end

---A job that deletes the rows that fit `where`: each chunk is one statement, which commits with the position, so that
---each row is deleted once, whatever crashes.
---@param options dbrun.batch.Options table and where at least
---@return dbrun.batch.Job
---```lua
---return batch.purge {
---    name = "old-sessions", table = "session",
---    where = "seen < :started - interval '90 days'", -- the job's start, on the server's clock
---}
---```
function M.purge(options)
    M.check_where("batch.purge", options)
    options = define.options("batch.purge", options)
    options.run = ("delete from %s where :chunk"):format(M.target("batch.purge", options))
    return define.of("purge", options)
end

return M
