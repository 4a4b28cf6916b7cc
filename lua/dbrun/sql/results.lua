--- Runs one statement and passes its result to the printer: rows one by one, in the server's own text.
local core = require "dbrun.core"

local M = {}

local FORM <const> = { positional = true, text = true }

--- Statements that return, or can return, rows: they are described first, and then their rows stream. Results of all
--- others are read completely.
local MAY_STREAM <const> = {
    select = true, with = true, values = true, table = true, ["("] = true, fetch = true, execute = true,
}
local CHANGES <const> = { insert = true, update = true, delete = true, merge = true }

---Whether it can return many rows.
local function may_stream(sql)
    local first
    for behind, kind, at in core.sql.scan, sql, 1 do
        if kind ~= "blank" and kind ~= "comment" then
            local word <const> = sql:sub(at, behind - 1):lower()
            if not first then
                if not CHANGES[word] then return MAY_STREAM[word] or false end
                first = word
            elseif kind == "word" and word == "returning" then
                return true
            end
        end
    end
    return false
end

---Runs a statement.
---@param conn dbrun.Connection
---@param sql string
---@param values string[] parameters
---@param printer dbrun.sql.Printer
---@param on_notice fun(notice: dbrun.Notice)
function M.run(conn, sql, values, printer, on_notice)
    local columns
    if may_stream(sql) then
        conn:on_notice(function() end) -- a notice from parsing the statement comes again when it runs
        columns = conn:describe(sql)
        conn:on_notice(on_notice)
    end
    if columns and #columns > 0 then
        local rows <close> = conn:rows(FORM, sql, table.unpack(values))
        printer:rows(columns, rows)
        return
    end
    local result <const> = conn:query(FORM, sql, table.unpack(values))
    if #result.columns == 0 then
        printer:command(result.command, result.affected)
    else
        local i = 0
        printer:rows(result.columns, function()
            i = i + 1
            return result[i]
        end)
    end
end

return M
