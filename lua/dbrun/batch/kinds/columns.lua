--- The columns of two tables, compared by name: which are moved, or why they cannot be.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local lossless <const> = require "dbrun.batch.kinds.lossless"
local params <const> = require "dbrun.db.params"

local M = {}

---@class dbrun.batch.Column
---@field name string
---@field type string as people write it; a type that is not built in has no schema
---@field generated boolean
---@field required boolean an INSERT must give it

-- A user's type has another OID in each database, and may be in another schema: its name is compared.
local COLUMNS <const> = catalog.sql [[
select a.attname::{text} as name, a.attgenerated {<>} '' as generated,
       a.attnotnull and not a.atthasdef and a.attidentity {=} '' as required,
       case when n.nspname {=} 'pg_catalog' then {format_type}(a.atttypid, a.atttypmod)
            when a.atttypmod {>=} 0 then t.typname::{text} {||} '(' {||} a.atttypmod::{text} {||} ')'
            else t.typname::{text} end as type
  from {pg_attribute} a join {pg_type} t on t.oid {=} a.atttypid join {pg_namespace} n on n.oid {=} t.typnamespace
 where a.attrelid {=} $1::{oid} and a.attnum {>} 0 and not a.attisdropped
 order by a.attnum]]

local TABLE <const> = catalog.sql [[
select c.oid, n.nspname::{text} as schema, c.relname::{text} as name
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace where c.oid {=} {to_regclass}($1)::{oid}]]

-- Read after a statement in its transaction, whose locks prevent changes of both tables until it ends.
local SHAPE <const> = catalog.sql [[
select {string_agg}({concat_ws}(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated),
                    ',' order by a.attrelid, a.attnum)
  from {pg_attribute} a where a.attrelid {=} any ($1::{oid}[]) and a.attnum {>} 0 and not a.attisdropped]]

local UNIQUE <const> = catalog.sql [[
select i.indisprimary as is_primary,
       array(select a.attname::{text} from {generate_series}(0, i.indnkeyatts {-} 1) k
               join {pg_attribute} a on a.attrelid {=} i.indrelid and a.attnum {=} i.indkey[k] order by k) as names,
       exists (select from {pg_collation} l where l.oid {=} any (i.indcollation::{oid}[])
                  and not l.collisdeterministic) as is_loose
  from {pg_index} i
 where i.indrelid {=} $1::{oid} and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
   and 0::{int2} {<>} all (i.indkey::{int2}[])
 order by i.indisprimary desc, i.indexrelid]]

-- A trigger before a row, or in place of it, may leave it out, and so may a rule. TimescaleDB's own leaves out none.
local GATED <const> = catalog.sql [[
select exists (select from {pg_trigger} t
                where (t.tgrelid {=} $1::{oid} or t.tgrelid {=} any (array(
                        select p.relid::{oid} from {pg_partition_tree}($1::{oid}::{regclass}) p)))
                  and not t.tgisinternal and t.tgenabled {<>} 'D' and (t.tgtype::int4 {&} 66) {<>} 0
                  and t.tgname {<>} 'ts_insert_blocker')
    or exists (select from {pg_rewrite} r where r.ev_class {=} $1::{oid})]]

---May a row that is inserted be left out?
---@param conn table
---@param oid integer
---@return boolean
function M.gated(conn, oid)
    return conn:value(GATED, oid)
end

---A table's name as SQL: taken as it is, with its capital letters, unless it has quotes itself.
---@param name string "orders", "app.orders"
---@return string
function M.name(name)
    return name:find('"', 1, true) and name or params.ident(name)
end

---@class dbrun.batch.Table
---@field oid integer
---@field parts string[] schema and name
---@field relation string both, quoted

---A table by its name.
---@param conn table
---@param name string as it was given
---@param what string how a message names it: "batch.archive: the archive"
---@return dbrun.batch.Table
function M.table(conn, name, what)
    local row <const> = conn:one(TABLE, M.name(name))
    if not row then
        errors.fail("usage", ("%s '%s' is not there"):format(what, core.text.cell(name, 100)),
            "make the table first; name its schema when the search_path does not: \"archive.orders\"")
    end
    local parts <const> = { row.schema, row.name }
    return { oid = row.oid, parts = parts, relation = params.ident(parts) }
end

---@param conn table
---@param oid integer
---@return dbrun.batch.Column[]
function M.of(conn, oid)
    return conn:query(COLUMNS, oid)
end

---The columns of tables as one text, which differs when a column was changed.
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
---the source lacks, and when a type there is another one, or, unless `same_types`, would not keep each value.
---@param fn string "batch.archive"
---@param source dbrun.batch.Column[]
---@param target dbrun.batch.Column[]
---@param to string how a message names the target
---@param same_types boolean
---@return string[]
function M.moved(fn, source, target, to, same_types)
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
            if there.type ~= column.type and (same_types or not lossless.is(column.type, there.type)) then
                wrong[#wrong + 1] = ("%s is %s here and %s there"):format(quoted_list { column.name }, column.type,
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
        errors.fail("usage", ("%s: columns of %s have other types%s: %s"):format(fn, to, same_types and ""
            or ", in which values would be lost", table.concat(wrong, "; ")),
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

---Raises for an index that takes two keys of the source for one: the second row would take the place of the first.
local function check_strict(fn, index, here, to)
    if not index.is_loose then return end
    for _, own in ipairs(here) do
        if own.is_loose and same(own.names, index.names) then return end
    end
    errors.fail("usage", ("%s: the unique index of %s on (%s) has a collation that is not deterministic: rows with "
        .. "different keys here would be one there"):format(fn, to, quoted_list(index.names)),
        "give the columns there a deterministic collation")
end

---The columns by which a row that is there already is known: those of a unique index of the target over the key that
---is walked, else its primary key when the source has the same.
local function key_of(fn, walk, source, target, there, to)
    local key <const> = {}
    for i, column in ipairs(walk.key) do key[i] = column.name end
    local indexes <const>, here <const> = target:query(UNIQUE, there.oid), source:query(UNIQUE, walk.oid)
    for _, index in ipairs(indexes) do
        if same(key, index.names) then
            check_strict(fn, index, here, to)
            return index.names
        end
    end
    for _, index in ipairs(indexes) do
        for _, own in ipairs(here) do
            if index.is_primary and own.is_primary and same(own.names, index.names) then
                check_strict(fn, index, here, to)
                return index.names
            end
        end
    end
    return errors.fail("usage",
        ("%s: %s has no unique index on (%s): an existing row could not be found"):format(fn, to,
            quoted_list(key)),
        ("create unique index concurrently on %s (%s)"):format(there.relation, M.list(key)))
end

---@class dbrun.batch.Moved what goes where
---@field names string[] the columns
---@field parts? string[] schema and name of the target
---@field keys? string[] the columns by which a row is known there
---@field gated? boolean rows may be left out there
---@field oids? integer[] of the tables whose columns must not change
---@field shape? string their columns at the start, as text

---Compares the table that is walked with the one of a name in another database.
---@param fn string "batch.copy"
---@param walk dbrun.batch.Walk
---@param source table a connection
---@param target table a connection to the other database
---@param name string
---@param database string for people
---@return dbrun.batch.Moved
function M.compare(fn, walk, source, target, name, database)
    local there <const> = M.table(target, name, ("%s: in %s the table"):format(fn, database))
    local to <const> = "the table in " .. database
    return {
        names = M.moved(fn, M.of(source, walk.oid), M.of(target, there.oid), to, true), parts = there.parts,
        keys = key_of(fn, walk, source, target, there, to), gated = M.gated(target, there.oid),
    }
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
