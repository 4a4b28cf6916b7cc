--- SQL of dbrun's own, which neither a search_path nor a temporary table changes: a temporary table called `text` is a
--- type that the server finds before its own, and a schema in front of pg_catalog may have other functions and
--- operators.
---
---     catalog.sql "select {to_regclass}($1)::{text} {||} '.'"
---
--- Names and operators in braces are those of pg_catalog. What the grammar itself knows (int, varchar, coalesce,
--- extract, current_user) needs none. An operator in braces binds like `||`, whatever it is. `nullif`, `in`,
--- `between`, `using` and `is distinct from` look for an operator, too: write them with one.
local M = {}

---@param text string
---@return string
function M.sql(text)
    return (text:gsub("{([^%s{}]+)}", function(name)
        return name:find "^[%a_]" and "pg_catalog." .. name or ("operator(pg_catalog.%s)"):format(name)
    end))
end

return M
