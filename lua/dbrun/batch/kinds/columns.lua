--- The columns of two tables, compared by name: what is moved, and why it cannot be.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"

local M = {}

---@class dbrun.batch.Column
---@field name string
---@field type string as people write it; of a type that is not the server's own without its schema
---@field generated boolean
---@field required boolean an INSERT must give it

-- What a user has made has another number in each database, and may stand in another schema: its name is compared.
local COLUMNS <const> = catalog.sql [[
select a.attname::{text} as name, a.attgenerated {<>} '' as generated,
       a.attnotnull and not a.atthasdef and a.attidentity {=} '' as required,
       case when n.nspname {=} 'pg_catalog' then {format_type}(a.atttypid, a.atttypmod)
            else t.typname::{text} {||} case when a.atttypmod {>=} 0 then '(' {||} a.atttypmod::{text} {||} ')' else '' end
       end as type
  from {pg_attribute} a join {pg_type} t on t.oid {=} a.atttypid join {pg_namespace} n on n.oid {=} t.typnamespace
 where a.attrelid {=} $1::{regclass} and a.attnum {>} 0 and not a.attisdropped
 order by a.attnum]]

local FOUND <const> = catalog.sql "select {to_regclass}($1)::{oid}"

-- Read behind a statement in its transaction, whose locks keep both tables as they are until it ends.
local SHAPE <const> = catalog.sql [[
select {string_agg}({concat_ws}(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated),
                    ',' order by a.attrelid, a.attnum)
  from {pg_attribute} a where a.attrelid {=} any ($1::{oid}[]) and a.attnum {>} 0 and not a.attisdropped]]

local UNIQUE <const> = catalog.sql [[
select i.indisprimary as is_primary,
       array(select a.attname::{text} from {generate_series}(0, i.indnkeyatts {-} 1) k
               join {pg_attribute} a on a.attrelid {=} i.indrelid and a.attnum {=} i.indkey[k] order by k) as names
  from {pg_index} i
 where i.indrelid {=} $1::{regclass} and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
   and 0::{int2} {<>} all (i.indkey::{int2}[])
 order by i.indisprimary desc, i.indexrelid]]

---The number of a table.
---@param conn table
---@param relation string quoted
---@param what string how a message names it: "the target"
---@return integer oid
function M.oid(conn, relation, what)
    local oid <const> = conn:value(FOUND, relation)
    if not oid then
        errors.fail("usage", ("%s %s is not there"):format(what, core.text.cell(relation, 100)),
            "make the table first, or name its schema: \"archive.orders\"")
    end
    return oid
end

---@param conn table
---@param relation string quoted
---@return dbrun.batch.Column[]
function M.of(conn, relation)
    return conn:query(COLUMNS, relation)
end

---What the columns of tables are, as one text: it differs when one of them was changed.
---@param tx table
---@param oids integer[]
---@return string
function M.shape(tx, oids)
    return tx:value(SHAPE, params.array(oids, "oid")) or ""
end

local function quoted_list(names)
    local list <const> = {}
    for i, name in ipairs(names) do list[i] = "'" .. core.text.cell(name, 60) .. "'" end
    return table.concat(list, ", ")
end

local function plural(names)
    return #names == 1 and "the column " .. quoted_list(names) or "the columns " .. quoted_list(names)
end

---The names of the columns that are moved. Raises kind `usage` when the target lacks one, when it must have one that
---the source lacks, and, with `types`, when they have another type.
---@param fn string "batch.archive"
---@param source dbrun.batch.Column[]
---@param target dbrun.batch.Column[]
---@param to string how a message names the target
---@param types boolean
---@return string[]
function M.moved(fn, source, target, to, types)
    local theirs <const>, ours <const>, names <const> = {}, {}, {}
    for _, column in ipairs(target) do theirs[column.name] = column end
    local missing <const>, wrong <const>, required <const> = {}, {}, {}
    for _, column in ipairs(source) do
        local there <const> = theirs[column.name]
        ours[column.name] = true
        if not there then
            if not column.generated then missing[#missing + 1] = column.name end
        elseif not there.generated then
            names[#names + 1] = column.name
            if types and there.type ~= column.type then
                wrong[#wrong + 1] = ("'%s' is %s here and %s there"):format(core.text.cell(column.name, 60), column.type,
                    there.type)
            end
        end
    end
    for _, column in ipairs(target) do
        if column.required and not column.generated and not ours[column.name] then
            required[#required + 1] = column.name
        end
    end
    if #missing > 0 then
        errors.fail("usage", ("%s: %s lacks %s"):format(fn, to, plural(missing)),
            "add it there, or drop it here: a row is moved whole")
    elseif #wrong > 0 then
        errors.fail("usage", ("%s: columns of %s have other types: %s"):format(fn, to, table.concat(wrong, "; ")),
            "alter table ... alter column ... type ... makes them equal")
    elseif #required > 0 then
        errors.fail("usage", ("%s: %s has %s, NOT NULL and without a default, and the source does not"):format(fn, to,
            plural(required)), "give it a default")
    elseif #names == 0 then
        errors.usage(fn, "%s has no column in common with the source", to)
    end
    return names
end

local function set_of(names)
    local set <const> = {}
    for _, name in ipairs(names) do set[name] = true end
    return set
end

local function same(a, b)
    local set <const> = set_of(b)
    for _, name in ipairs(a) do
        if not set[name] then return false end
    end
    return #a == #b
end

---The columns by which a row that is there already is known: those of a unique index of the target over the key that
---is walked, else its primary key when the source has the same.
---@param fn string
---@param source table a connection
---@param relation string
---@param target table a connection
---@param to_relation string
---@param key string[] what is walked
---@param to string how a message names the target
---@return string[]
function M.key(fn, source, relation, target, to_relation, key, to)
    local there <const> = target:query(UNIQUE, to_relation)
    for _, index in ipairs(there) do
        if same(key, index.names) then return index.names end
    end
    local here <const> = source:query(UNIQUE, relation)
    for _, index in ipairs(there) do
        for _, own in ipairs(here) do
            if index.is_primary and own.is_primary and same(own.names, index.names) then return index.names end
        end
    end
    local list <const> = {}
    for i, name in ipairs(key) do list[i] = params.ident { name } end
    return errors.fail("usage",
        ("%s: %s has no unique index on (%s): a row that is there already could not be found"):format(fn, to,
            table.concat(key, ", ")),
        ("create unique index concurrently on %s (%s)"):format(to_relation, table.concat(list, ", ")))
end

---Names as a list of quoted identifiers.
---@param names string[]
---@param prefix? string "o."
---@return string
function M.list(names, prefix)
    local list <const> = {}
    for i, name in ipairs(names) do list[i] = (prefix or "") .. params.ident { name } end
    return table.concat(list, ", ")
end

return M
