--- SQL that finds tables by their names, in the catalogs. `to_regclass` raises 42501 for a name in a schema that the
--- role may not use, and one such name would end the whole query.
local M = {}

---An expression for the oid of a table or view by its schema and name; NULL when there is none.
---@param schema string SQL of type name or text
---@param name string
---@return string sql for dbrun.db.catalog
function M.at(schema, name)
    return ([[(select oid from {pg_class} where relname::{text} {=} %s::{text} and relnamespace {=}
        (select oid from {pg_namespace} where nspname::{text} {=} %s::{text}))]]):format(name, schema)
end

---The same for a name as in SQL: "name", which the search_path finds, or "schema.name".
---@param name string SQL of type text
---@return string sql
function M.named(name)
    local parts <const> = ("{parse_ident}(%s)"):format(name)
    return ("(case when {cardinality}(%s) {=} 2 then %s else {to_regclass}(%s)::{oid} end)"):format(parts,
        M.at(("(%s)[1]"):format(parts), ("(%s)[2]"):format(parts)), name)
end

---An expression for the oid of a table's schema when a role may not use it, else NULL.
---@param oid string SQL of the table's oid
---@param role? string SQL of the role's name (default: the role of the session)
---@return string sql
function M.closed(oid, role)
    return ([[(select relnamespace from {pg_class} where oid {=} %s
        and not {has_schema_privilege}(%srelnamespace, 'USAGE'))]]):format(oid, role and role .. "::{name}, " or "")
end

return M
