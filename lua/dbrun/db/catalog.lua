--- SQL of dbrun's own, which neither a search_path nor a temporary table changes: a temporary table called `text` is a
--- type that the server finds before its own, and a schema in front of pg_catalog may have other functions and
--- operators.
---
---     catalog.sql "select {to_regclass}($1)::{text} {||} '.'"
---
--- Names and operators in braces are those of pg_catalog. What the grammar itself knows (int, varchar, coalesce,
--- extract, current_user) needs none. An operator in braces binds like `||`, whatever it is. `nullif`, `in`,
--- `between`, `using` and `is distinct from` look for an operator, too: write them with one.
local errors <const> = require "dbrun.error"

local M = {}

---What stands for a word in braces; false when it is none, but a brace of the SQL itself.
local known <const> = setmetatable({}, { __index = function(self, name)
    local place = false
    if name ~= "" and not name:find "[%s{]" then
        local letter <const> = name:byte() | 0x20
        place = (letter >= 97 and letter <= 122 or name:sub(1, 1) == "_") and "pg_catalog." .. name
            or "operator(pg_catalog." .. name .. ")"
    end
    self[name] = place
    return place
end })

---@param text string
---@return string
function M.sql(text)
    -- Plain searches: a pattern looks at each character, which costs more than the rest of a short run.
    local find <const>, sub <const> = string.find, string.sub
    local parts, n, from = {}, 0, 1
    local open = find(text, "{", 1, true)
    while open do
        local close <const> = find(text, "}", open, true)
        if not close then break end
        local place <const> = known[sub(text, open + 1, close - 1)]
        if place then
            parts[n + 1], parts[n + 2] = sub(text, from, open - 1), place
            n, from = n + 2, close + 1
            open = find(text, "{", from, true)
        else
            open = find(text, "{", open + 1, true)
        end
    end
    parts[n + 1] = sub(text, from)
    return table.concat(parts)
end

---The rows of a query on the catalogs. A server that leaves out a column that is never NULL, or gives another type than
---asked for, raises an error of kind `protocol`.
---@param conn table a leased connection
---@param sql string
---@param types table<string, type> of the columns that dbrun relies on
---@param ... any parameters
---@return table[]
function M.rows(conn, sql, types, ...)
    local rows <const> = conn:query(sql, ...)
    for _, row in ipairs(rows) do
        for name, expected in pairs(types) do
            if type(row[name]) ~= expected then
                errors.raise {
                    kind = "protocol", outcome = "failed",
                    message = ("the server's answer about its catalogs is wrong: %s is a %s, not a %s"):format(name,
                        type(row[name]), expected),
                    hint = "Check that the address is that of a PostgreSQL server, and what is between it and dbrun.",
                }
            end
        end
    end
    return rows
end

return M
