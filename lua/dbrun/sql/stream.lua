--- Which COPY statements send or read rows over the connection, rather than files of the server.
local scan <const> = require "dbrun.core".sql.scan

local M = {}

local BETWEEN <const> = { blank = true, comment = true }

---The stream that a statement uses: COPY ... FROM STDIN, COPY ... TO STDOUT.
---@param sql string one statement
---@return "in"|"out"|nil stream nil: it is no such COPY
function M.of(sql)
    local depth, before, words = 0, nil, 0
    for behind, kind, from in scan, sql, 1 do
        local text <const> = (kind == "word" or kind == "sign") and sql:sub(from, behind - 1):lower()
        if kind == "word" then
            words = words + 1
            if words == 1 and text ~= "copy" then return nil end
            if depth == 0 and before == "from" and text == "stdin" then return "in" end
            if depth == 0 and before == "to" and text == "stdout" then return "out" end
            before = text
        elseif not BETWEEN[kind] then
            if words == 0 then return nil end
            if kind == "sign" then depth = depth + (text == "(" and 1 or text == ")" and -1 or 0) end
            before = nil
        end
    end
end

return M
