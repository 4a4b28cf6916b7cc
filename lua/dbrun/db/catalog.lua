--- dbrun's own SQL, protected from search_path and temporary tables: a temporary table called `text` is a type that the
--- server finds before its own, and a schema before pg_catalog may have other functions and operators.
---
---     catalog.sql "select {to_regclass}($1)::{text} {||} '.'"
---
--- Names and operators in braces are those of pg_catalog. Keywords of the grammar (int, varchar, coalesce, extract,
--- current_user) need no braces. Any operator in braces has the precedence of `||`. `nullif`, `in`, `between`, `using`
--- and `is distinct from` also look up an operator: write the operator instead.
local errors <const> = require "dbrun.error"

local write <const> = require "dbrun.core".sql.catalog

local M = {}

---@param text string
---@return string
function M.sql(text)
    return write(text)
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
