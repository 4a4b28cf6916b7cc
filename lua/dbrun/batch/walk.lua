--- The table that a job walks: its key, the SQL of the walk, and the bounds as texts. A range is (after, upto] in
--- ascending order, even if the index is descending.
local args <const> = require "dbrun.args"
local db_params <const> = require "dbrun.db.params"
local errors <const> = require "dbrun.error"
local facts <const> = require "dbrun.batch.walk.facts"
local keys <const> = require "dbrun.batch.walk.key"
local leaves <const> = require "dbrun.batch.walk.leaves"
local plans <const> = require "dbrun.batch.walk.plan"
local steps <const> = require "dbrun.batch.walk.step"
local types <const> = require "dbrun.batch.walk.types"

local M = {}

---@class dbrun.batch.KeyColumn
---@field name string
---@field ident string quoted
---@field type string as format_type writes it
---@field collation? string
---@field version? string of the collation
---@field cast string SQL of the type that bounds are read as
---@field text fun(sql: string): string SQL that writes a value as text
---@field nullable boolean rows with a NULL here are left out
---@field nulls_first boolean in ascending order

---@class dbrun.batch.Walk
---@field relation string quoted, with its schema
---@field alias string quoted
---@field oid integer
---@field estimate? integer rows by statistics
---@field pages integer
---@field leaves dbrun.batch.Leaf[] partitions, or chunks of a hypertable
---@field is_hypertable boolean
---@field ordered? boolean the key begins with the partition key
---@field citus? {shards: integer, column?: string} the table is one of Citus
---@field once boolean each mention of the table in a statement is expensive to plan
---@field shown string its name for people
---@field schema string
---@field name string
---@field alias_name string not quoted
---@field key dbrun.batch.KeyColumn[]
---@field index string
---@field gt string the operator > of the key
---@field le string
---@field eq? string the operator = of its first column; nil: rows cannot be found by a list of values
---@field sparse? number share of matching rows up to which a step by `where` returns their keys
---@field identity table
---@field pins string[][] settings that must be in force where a key is written as text
---@field where? string of the definition
local Walk <const> = {}
local Metatable <const> = { __index = Walk }

local function fail(definition, hint, fmt, ...)
    errors.fail("usage", ("%s: %s"):format(definition.fn, fmt:format(...)), hint)
end

local function quote(name) return db_params.ident { name } end

---Parses the name of a table: "schema.table"; a quoted part can contain dots.
local function parts_of(definition)
    local parts, rest = {}, definition.table
    while rest do
        local part, after
        if rest:sub(1, 1) == '"' then
            local at = 2
            while true do
                local stop <const> = rest:find('"', at, true)
                if not stop then return nil end
                if rest:sub(stop + 1, stop + 1) ~= '"' then
                    part, after = rest:sub(2, stop - 1):gsub('""', '"'), rest:sub(stop + 1)
                    break
                end
                at = stop + 2
            end
        else
            part, after = rest:match "^([^.]*)(.*)$"
        end
        if part == "" then return nil end
        parts[#parts + 1] = part
        if after == "" then return parts end
        if after:sub(1, 1) ~= "." then return nil end
        rest = after:sub(2)
    end
end

local KINDS <const> = {
    v = { "a view", "walk the table under it" },
    f = { "a foreign table", "run the job in the database that has it: its COMMIT is not that of this one" },
    S = { "a sequence" }, i = { "an index" }, I = { "an index" }, c = { "a type" }, t = { "a TOAST table" },
}

local function relation_of(conn, definition)
    local parts <const> = parts_of(definition)
    if not parts or #parts > 2 then
        fail(definition, 'write "table" or "schema.table"', "table is %q, which is no name of a table",
            definition.table)
    end
    local relation <const> = facts.relation(conn, db_params.ident(parts))
    local shown <const> = definition.table
    if not relation then
        fail(definition, #parts == 1 and "name its schema when it is not in the search_path: schema.table; names are "
            .. "taken as they are, with their capital letters" or "names are taken as they are, with their capital "
            .. "letters", "there is no table %s", shown)
    end
    local kind <const> = KINDS[relation.kind]
    if kind then fail(definition, kind[2], "%s is %s", shown, kind[1]) end
    if relation.persistence == "t" then
        fail(definition, "make it a table that other connections see", "%s is a temporary table", shown)
    end
    relation.shown, relation.sql = shown, quote(relation.schema) .. "." .. quote(relation.name)
    relation.written = keys.written({ relation.schema, relation.name }, ".")
    return relation
end

---Child tables: partitions and chunks of a hypertable have the indexes of their parent, inheritance children do not.
---@return dbrun.batch.Leaf[]
local function leaves_of(conn, definition, relation)
    if relation.has_timescale then relation.hypertable = facts.hypertable(conn, relation) end
    local hypertable <const> = relation.hypertable
    if relation.kind == "r" and relation.has_children and not hypertable then
        fail(definition, "make a job for each of the tables", "%s has tables that inherit from it, which its indexes "
            .. "do not cover", relation.shown)
    elseif hypertable and hypertable.compressed and not definition.compressed then
        fail(definition, "compressed = true works on them too, and is slow: they are decompressed for each change",
            "%s has compressed chunks", relation.shown)
    end
    return relation.has_children and leaves.of(conn, relation.oid) or {}
end

--- The rows of a distributed table are on other servers, where a chunk's settings for locks and timeouts have no
--- effect.
local function check_citus(conn, definition, relation)
    if not relation.has_citus then return nil end
    local citus <const> = facts.citus(conn, relation.oid)
    if citus and citus.node ~= 0 then
        fail(definition, "connect to the coordinator: work and position commit together there",
            "%s is a table of Citus, and this is one of its workers", relation.shown)
    end
    return citus
end

-- ---- the key ----

---How SQL names an operator: with its schema, or, if the columns' operators are in several schemas, by the search_path.
local function operator_of(conn, definition, entries, which)
    local name, schema = entries[1].entry[which], entries[1].entry[which .. "_schema"]
    local mixed = false
    for _, e in ipairs(entries) do
        mixed = mixed or e.entry[which .. "_schema"] ~= schema
        if e.entry[which] ~= name then
            fail(definition, nil, "the key compares its columns by operators of several names")
        end
    end
    if not mixed then return ("operator(%s.%s)"):format(quote(schema), name) end
    for _, e in ipairs(entries) do
        local found <const> = facts.operator(conn, ("%s(%s, %s)"):format(name, e.entry.operand, e.entry.operand))
        if found ~= e.entry[which .. "_oid"] then
            fail(definition, ("add %s to the search_path of the role"):format(e.entry[which .. "_schema"]),
                "the operator %s of the key column %s is not the one that the search_path finds", name, e.column.name)
        end
    end
    return name
end

local function key_column(conn, e)
    local column <const> = e.column
    local version = column.version
    if column.collation_oid ~= 0 and not version and column.collation == 'pg_catalog."default"' then
        version = facts.database_version(conn)
    end
    return {
        name = column.name, ident = quote(column.name), type = column.type, collation = column.collation,
        version = version, cast = types.cast(column), nullable = not column.filled, nulls_first = e.nulls_first,
        text = function(sql) return types.text(column, sql) end, column = column,
    }
end

local function identity_of(walk)
    local identity = { oid = walk.oid, columns = {}, types = {}, collations = {}, versions = {},
        leaves = leaves.kept(walk.leaves) }
    for i, k in ipairs(walk.key) do
        identity.columns[i], identity.types[i] = k.name, k.type
        identity.collations[i], identity.versions[i] = k.collation or "", k.version or ""
    end
    return identity
end

---Whether the key begins with the partition key.
local function is_ordered(relation, entries)
    local first <const> = entries[1].column
    for _, e in ipairs(entries) do
        if not e.entry.is_default then return false end
    end
    if relation.hypertable then return relation.hypertable.dimension == first.name end
    return relation.partition_column == first.number
end

---Looks up the table of a definition and its key. Only the catalogs are read.
---@param conn table
---@param definition dbrun.batch.Definition
---@return dbrun.batch.Walk
---Raises an error of kind `usage` with the remedy for a table that cannot be walked.
function M.open(conn, definition)
    if definition.source then return definition.source:open(conn, definition) end
    local relation <const> = relation_of(conn, definition)
    local below <const>, citus <const> = leaves_of(conn, definition, relation), check_citus(conn, definition, relation)
    local entries <const>, index <const> = keys.of(definition, relation, facts.columns(conn, relation.oid),
        facts.indexes(conn, relation.oid))
    local alias <const> = definition.as or relation.name
    local walk <const> = setmetatable({
        relation = relation.sql, alias = quote(alias), alias_name = alias, oid = relation.oid, pages = relation.pages,
        estimate = facts.estimate(conn, relation.oid, citus), shown = relation.shown, schema = relation.schema,
        name = relation.name, index = index.name, where = definition.where, key = {},
        gt = operator_of(conn, definition, entries, "gt"), le = operator_of(conn, definition, entries, "le"),
        leaves = below, citus = citus, once = #below > 0 or citus ~= nil, quote = db_params.ident,
        is_hypertable = relation.hypertable ~= nil,
    }, Metatable)
    if #below > 0 and is_ordered(relation, entries) then
        walk.ordered, walk.ge = true, operator_of(conn, definition, entries, "ge")
        walk.cut_at = not (relation.hypertable and relation.hypertable.compressed)
    end
    if types.has_lists(entries[1].column) and entries[1].entry.eq and not citus then
        walk.eq, walk.sparse = operator_of(conn, definition, { entries[1] }, "eq"), 1 / steps.SPARSE
    end
    local columns = {}
    for i, e in ipairs(entries) do walk.key[i], columns[i] = key_column(conn, e), e.column end
    walk.pins, walk.identity = types.pins(columns), identity_of(walk)
    walk.value = function(first, second)
        local texts = first
        if first == walk then texts = second end
        return Walk.value(walk, texts)
    end
    return walk
end

local WORDS <const> = {
    { "columns", "the key has the columns (%s) now, and had (%s)" },
    { "types", "the key has the types (%s) now, and had (%s)" },
    { "collations", "the key's collation is %s now, and was %s: the order of rows is another one" },
    { "versions", "the version of the key's collation is %s now, and was %s: the order of rows may be another one "
        .. "(a new ICU or libc)" },
    { "file", "the file has %s now, and had %s" },
}

---The differences of the table since a job began; if there are any, old bounds are not valid.
---@param stored table
---@param now table
---@return string? text nil: nothing
function M.differs(stored, now)
    if stored.oid ~= now.oid then
        return ("it is another table of that name (oid %s now, %s before): it was restored, made again or swapped")
            :format(now.oid, stored.oid)
    end
    for _, word in ipairs(WORDS) do
        local was <const>, is <const> = stored[word[1]], now[word[1]]
        if was then
            local a <const>, b <const> = table.concat(is, ", "), table.concat(was, ", ")
            if a ~= b then return word[2]:format(a, b) end
        end
    end
    return nil
end
Walk.differs = M.differs

-- ---- the walk ----

---The condition of a range, with `:upto` and, unless it is open at its start, `:after`.
---@param open? boolean
---@return string sql
function Walk:condition(open) return steps.condition(self, open or false) end

---The condition that a key is among those that a step by `where` has found; `:_keys` are the step's `keys`.
---@return string sql
function Walk:found() return steps.found(self) end

---ORDER BY of the walk.
---@return string sql
function Walk:order() return steps.order(self) end

---One query for the next bound, with `:after`, `:upto`, `:size` and `:look`: a row with `bound` (text[]), `fits`
---(matching rows up to the bound), `looked` (keys read; if by_where, estimated from a sample) and `final` (no keys
---follow). No row: the range has no keys. If by_where and few rows match, also `keys`, for Walk:found.
---@param open? boolean
---@param by_where? boolean rows that fit are counted, else keys
---@param few? boolean only a few keys are wanted: the same answer with less planning
---@return string sql
function Walk:step(open, by_where, few)
    return steps.step(self, open or false, by_where and self.where or nil, few)
end

---A query for the last key: `bound`, or no row.
---@return string sql
function Walk:last() return steps.last(self) end

---A query for where a range can be cut, with `:after`, `:upto` and `:keys`: `bound` is the key at that distance from
---the start (or the last key), `middle` is half way to it, `keys` the number of keys up to it. No row: there are fewer
---than two.
---@param open? boolean
---@return string sql
function Walk:cut(open) return steps.cut(self, open or false) end

---A query for whether a key lies between two others, `:middle` between `:after` and `:upto`: `inside`.
---@return string sql
function Walk:between() return steps.between(self) end

---A query for the keys at which a range is cut before it is worked on, with `:after` and `:upto`: rows with `bound`.
---@param open? boolean
---@return string? sql nil: the table has no leaves in the order of the key
function Walk:cuts(open) return self.cut_at and leaves.cuts(self, self.leaves, open or false) or nil end

---The partitions, or chunks of a hypertable, that are gone since a job began.
---@param conn table
---@param stored table the walk's identity at that time
---@return {name: string, exists: boolean}[] exists: it was detached, and is a table of its own
function Walk:gone(conn, stored) return leaves.gone(conn, self.oid, stored.leaves) end

---A query for the number of rows whose key has a NULL, as `rows`.
---@return string? sql nil: no key can
function Walk:nulls() return steps.nulls(self) end

---Whether the plan of a statement reaches the table through the key's index.
---@param conn table
---@param sql string with the parameters of `named`
---@param named? table<string, any>
---@return string? text nil: it does, or reads little; else why not, and the plan
---@return number? rows of the table, or of its leaves, that it reads otherwise; nil: unknown
function Walk:plan_ok(conn, sql, named) return plans.ok(conn, self, sql, named or {}) end

---A bound as scripts see it: one value, or a list of them.
---@param texts? string[]
---@return any value nil for nil
function Walk:value(texts)
    if texts == nil then return nil end
    args.check("walk.value", "texts", texts, args.strings)
    if #self.key == 1 then return types.value(self.key[1].column, texts[1]) end
    local list = {}
    for i, k in ipairs(self.key) do list[i] = types.value(k.column, texts[i]) end
    return list
end

return M
