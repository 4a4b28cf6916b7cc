--- Inserts or updates many rows at once: COPY into a temporary table, then INSERT ... ON CONFLICT from there. Rows that
--- are equal already are not written.
local args = require "dbrun.args"
local catalog = require "dbrun.db.catalog"
local errors = require "dbrun.error"

local M = {}

---@alias dbrun.seed.Rows table|fun(): table?

---@class dbrun.seed.UpsertOptions
---@field columns? string[] of rows by position; default: the names in the first row, or all columns
---@field update? boolean false leaves rows with an existing key unchanged (default true)
---@field total? integer how many rows there will be, for the progress line (default: the length of a list)
---@field whole? boolean raises when a row is not there afterwards: a trigger, say, may leave it out
---@field label? string of the progress line (default: the table's name); no line without `total` or a long list

local LONG <const> = 10000 -- rows; a shorter list gets no progress line

---An iterator over the rows, and the first row.
local function source_of(rows)
    if type(rows) == "function" then
        local first = rows()
        local held = first
        return function()
            local row = held
            held = nil
            if row == nil and first ~= nil then return rows() end
            return row
        end, first
    end
    args.no_holes("seed.upsert", "row", rows)
    local i = 0
    return function()
        i = i + 1
        return rows[i]
    end, rows[1]
end

---The columns that the rows have.
local function columns_of(first, opts)
    if opts.columns then return opts.columns end
    if #first > 0 then return nil end
    local names = {}
    for name in pairs(first) do
        if type(name) ~= "string" then errors.usage("seed.upsert", "a row has keys that are not column names") end
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

local ALL <const> = catalog.sql [[
select array(select attname::{text} from {pg_attribute} where attrelid {=} $1::{regclass} and attnum {>} 0
                and not attisdropped and attgenerated {=} '' order by attnum)]]

---Identifiers, each with a prefix and commas in between.
local function quoted(names, prefix)
    local db, list = require "dbrun.db", {}
    for i, name in ipairs(names) do list[i] = (prefix or "") .. db.ident { name } end
    return table.concat(list, ", ")
end

local function equal(names)
    local db, list = require "dbrun.db", {}
    for i, name in ipairs(names) do list[i] = ("t.%s = s.%s"):format(db.ident { name }, db.ident { name }) end
    return table.concat(list, " and ")
end

---Columns that `=` cannot compare, or whose `=` may not be in the search_path: types without it (json, xml), geometric
---types, for which it compares areas, and those of extensions and users. They are compared as text.
local AS_TEXT <const> = catalog.sql [[
with recursive part (name, id) as (
    select attname::{text}, atttypid from {pg_attribute}
     where attrelid {=} 'pg_temp.dbrun_upsert'::{regclass} and attnum {>} 0
    union all
    select p.name, case when t.typtype {=} 'd' then t.typbasetype else t.typelem end
      from part p join {pg_type} t on t.oid {=} p.id where t.typtype {=} 'd' or t.typcategory {=} 'A')
select p.name from part p join {pg_type} t on t.oid {=} p.id
 where t.typtype {<>} 'd' and t.typcategory {<>} 'A' and t.typtype {<>} 'e'
   and (t.typnamespace {<>} 'pg_catalog'::pg_catalog.regnamespace
        or t.typname {=} any (array['json', 'jsonpath', 'xml', 'point', 'line', 'lseg', 'box', 'path', 'polygon',
                                    'circle', 'refcursor', 'pg_snapshot', 'txid_snapshot']::pg_catalog.name[]))]]

---Identity columns that take the row's value only with OVERRIDING SYSTEM VALUE.
local ALWAYS <const> = catalog.sql [[
select attname::{text} as name from {pg_attribute}
 where attrelid {=} $1::{regclass} and attidentity {=} 'a' and not attisdropped]]

---@class dbrun.seed.Shape the table's facts about the columns of the rows
---@field columns string[]
---@field keys string[]
---@field as_text table<string, true>
---@field overriding boolean a value is given for a column GENERATED ALWAYS AS IDENTITY

local function shape_of(tx, target, columns, keys)
    local there, shape = {}, { columns = columns, keys = keys, as_text = {}, overriding = false }
    for _, column in ipairs(columns) do there[column] = true end
    for _, row in ipairs(tx:query(AS_TEXT)) do shape.as_text[row.name] = true end
    for _, row in ipairs(tx:query(ALWAYS, target)) do
        shape.overriding = shape.overriding or there[row.name] or false
    end
    return shape
end

---The values of columns, to compare.
local function values(names, prefix, shape)
    local list = {}
    for i, name in ipairs(names) do
        list[i] = quoted({ name }, prefix) .. (shape.as_text[name] and catalog.sql "::{text}" or "")
    end
    return table.concat(list, ", ")
end

---The statement that moves the rows from the temporary table. A join finds unchanged rows first, at a third of the cost
---of ON CONFLICT; without it ON CONFLICT finds all.
local function merge(target, temporary, shape, update, without_join)
    local columns <const>, keys <const> = shape.columns, shape.keys
    local is_key, rest, sets = {}, {}, {}
    for _, key in ipairs(keys) do is_key[key] = true end
    for _, column in ipairs(columns) do
        if not is_key[column] then
            rest[#rest + 1] = column
            sets[#sets + 1] = ("%s = excluded.%s"):format(quoted { column }, quoted { column })
        end
    end
    local nothing = update == false or #rest == 0
    local same = nothing and ""
        or (" and (%s) is not distinct from (%s)"):format(values(rest, "t.", shape), values(rest, "s.", shape))
    local new = without_join and "" or (" where not exists (select from %s t where %s%s)"):format(target, equal(keys),
        same)
    local sql = ("insert into %s as t (%s)%s select %s from %s s%s on conflict (%s) do "):format(target,
        quoted(columns), shape.overriding and " overriding system value" or "", quoted(columns, "s."), temporary, new,
        quoted(keys))
    if nothing then return sql .. "nothing" end
    return ("%supdate set %s where (%s) is distinct from (%s)"):format(sql, table.concat(sets, ", "),
        values(rest, "t.", shape), values(rest, "excluded.", shape))
end

---Counts the rows for the progress line, in steps, because counting each costs more than sending it.
local function counted(next_row, progress)
    local n = 0
    return function()
        local row = next_row()
        n = n + 1
        if row == nil then progress:add((n - 1) % 1000) elseif n % 1000 == 0 then progress:add(1000) end
        return row
    end
end

local function progress_of(rows, table_name, opts)
    local total = opts.total or type(rows) == "table" and #rows >= LONG and #rows
    if not total then return nil end
    local name = type(table_name) == "table" and table.concat(table_name, ".") or table_name
    return require("dbrun.progress").new { label = opts.label or name, total = total, unit = "rows" }
end

local function check_keys(keys, columns)
    if #keys == 0 then errors.usage("seed.upsert", "expected a list of key columns") end
    local there = {}
    for _, column in ipairs(columns) do there[column] = true end
    for _, key in ipairs(keys) do
        if not there[key] then
            errors.usage("seed.upsert", "the key column '%s' is not in the rows", tostring(key))
        end
    end
end

local function explained(e, keys)
    if errors.is(e) and e.sqlstate == "42P10" then
        e.hint = ("there must be a unique index on (%s), without WHERE"):format(table.concat(keys, ", "))
    elseif errors.is(e) and e.sqlstate == "21000" then
        e.hint = ("two rows have the same (%s)"):format(table.concat(keys, ", "))
    end
    error(e, 0)
end

local OPTIONS <const> = {
    columns = "table", update = "boolean", whole = "boolean", total = args.whole(0), label = "string",
}
local NAME <const> = args.one_type_of("string", "table")
local ROWS <const> = {
    function(v) return type(v) == "table" or type(v) == "function" end,
    "a list of rows, or a function that returns one per call",
}

local COUNTED <const> = catalog.sql "with written as (%s returning 1) select {count}(*) from written"

---Runs the statement; without the join where the server does not support that (SQLSTATE 0A000), as Citus, which does
---not join a table of the session with a distributed one. For such an INSERT Citus reports the number of rows that it
---was given; RETURNING has those that it wrote.
---@return integer written
local function run_merge(tx, target, temporary, shape, update)
    tx:exec "savepoint dbrun_upsert"
    local ok, result = pcall(tx.query, tx, merge(target, temporary, shape, update))
    local written = ok and result.affected
    if not ok and errors.is(result) and result.sqlstate == "0A000" then
        tx:exec "rollback to savepoint dbrun_upsert"
        ok, result = pcall(tx.value, tx, COUNTED:format(merge(target, temporary, shape, update, true)))
        written = result
    end
    if not ok then explained(result, shape.keys) end
    tx:exec "release savepoint dbrun_upsert"
    return written
end

---IF EXISTS would show the user a NOTICE that it does not exist.
local LEFT_OVER <const> = catalog.sql "select {to_regclass}('pg_temp.dbrun_upsert') is not null"

local ABSENT <const> = catalog.sql "select {count}(*) from pg_temp.dbrun_upsert s where not exists "
    .. "(select from %s t where %s)"

local function check_whole(tx, target, keys)
    local n <const> = tx:value(ABSENT:format(target, equal(keys)))
    if n == 0 then return end
    errors.fail("query", ("%d of the rows are not in %s: a trigger, a rule or a policy there leaves them out"):format(n,
        target))
end

---Inserts the rows with a new key, updates the others where they differ.
---@param tx table|userdata a transaction
---@param table_name string|string[] "name" or "schema.name", or its parts
---@param keys string[] columns of a unique index
---@param rows table|fun(): table? a list of rows, or a function that returns one per call; rows by name or by position
---@param opts? dbrun.seed.UpsertOptions
---@return integer rows inserted and updated
---Raises errors of kind `usage`, `query`, `constraint`.
function M.upsert(tx, table_name, keys, rows, opts)
    args.check("seed.upsert", "tx", tx, args.one_type_of("table", "userdata"))
    args.check("seed.upsert", "table_name", table_name, NAME)
    args.list("seed.upsert", "keys", keys, "string")
    args.check("seed.upsert", "rows", rows, ROWS)
    opts = args.options("seed.upsert", opts, OPTIONS)
    args.optional_list("seed.upsert", "columns", opts.columns, "string")
    local next_row, first = source_of(rows)
    if first == nil then return 0 end
    local target = require("dbrun.db").ident(table_name)
    local columns = columns_of(first, opts) or tx:value(ALL, target)
    check_keys(keys, columns)
    if tx:value(LEFT_OVER) then tx:exec "drop table pg_temp.dbrun_upsert" end
    tx:exec(("create temporary table dbrun_upsert on commit drop as select %s from %s with no data"):format(
        quoted(columns), target))
    do
        local progress <close> = progress_of(rows, table_name, opts)
        tx:copy_in("pg_temp.dbrun_upsert", columns, progress and counted(next_row, progress) or next_row)
    end
    local shape = shape_of(tx, target, columns, keys)
    local affected = run_merge(tx, target, "pg_temp.dbrun_upsert", shape, opts.update)
    if opts.whole then check_whole(tx, target, keys) end
    tx:exec "drop table pg_temp.dbrun_upsert"
    return affected
end

return M
