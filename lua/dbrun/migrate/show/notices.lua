--- NOTICE and WARNING messages of a file's statements, in the server's words, prefixed with file and line, as in psql.
local cli = require "dbrun.command_line"

local M = {}

---@param path string of the file
---@param line? integer nil: of a Lua file
---@param notice dbrun.Notice
function M.show(path, line, notice)
    local where <const> = line and ("%s:%d"):format(path, line) or path
    local lines = { ("%s: %s:  %s"):format(where, notice.severity, notice.message) }
    for _, field in ipairs { "detail", "hint" } do
        if notice[field] then lines[#lines + 1] = ("%s:  %s"):format(field:upper(), notice[field]) end
    end
    cli.note(table.concat(lines, "\n"))
end

---A listener's function for a file's notices.
---@param listener? { notice?: fun(path: string, line: integer?, notice: dbrun.Notice) }
---@param path string
---@return nil|fun(notice: dbrun.Notice, statement?: dbrun.migrate.Statement)
function M.of_file(listener, path)
    local show <const> = listener and listener.notice
    if not show then return nil end
    return function(notice, statement) show(path, statement and statement.line, notice) end
end

return M
