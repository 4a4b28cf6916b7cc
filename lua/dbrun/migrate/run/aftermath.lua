--- Statements that cannot run in a transaction, and how to find out, after an interrupted run, whether one took effect.
local catalog = require "dbrun.db.catalog"
local split = require "dbrun.migrate.read.split"
local tree = require "dbrun.sql.tree"

local M = {}

---@alias dbrun.migrate.Verdict
---| "done"    # it took effect | "again"   # it did not, or can be repeated | "unknown" # a person must decide

---@class dbrun.migrate.Outside how one kind of statement is handled
---@field name string
---@field before? fun(conn: table, body: table): string? records the state before it runs
---@field clean? fun(conn: table, body: table, before?: string) removes what a failed run left
---@field unjudged? boolean its judge always says "unknown"
---@field judge fun(conn: table, body: table, before?: string): dbrun.migrate.Verdict

local function again() return "again" end

-- ---- CREATE INDEX CONCURRENTLY ----

local INDEXES <const> = catalog.sql [[
select i.indexrelid::bigint as id, i.indexrelid::{regclass}::{text} as name, c.relname as plain,
       i.indisvalid and i.indisready as valid
  from {pg_index} i join {pg_class} c on c.oid {=} i.indexrelid
 where i.indrelid {=} {to_regclass}($1)
   and not exists (select from {pg_stat_progress_create_index} p
                    where p.index_relid {=} i.indexrelid and p.pid {<>} {pg_backend_pid}())]]

---The hypertable below a continuous aggregate, which has its indexes.
local MATERIALIZATION <const> = catalog.sql [[
select {quote_ident}(h.schema_name) {||} '.' {||} {quote_ident}(h.table_name)
  from _timescaledb_catalog.continuous_agg a join _timescaledb_catalog.hypertable h on h.id {=} a.mat_hypertable_id
  join {pg_class} c on c.relname {=} a.user_view_name
  join {pg_namespace} n on n.oid {=} c.relnamespace and n.nspname {=} a.user_view_schema
 where c.oid {=} {to_regclass}($1)]]

local HAS_AGGREGATES <const> = catalog.sql "select {to_regclass}('_timescaledb_catalog.continuous_agg') is not null"

local function indexes(conn, body)
    local relation = tree.relation(body.relation)
    if not body.concurrent and conn:value(HAS_AGGREGATES) then
        relation = conn:value(MATERIALIZATION, relation) or relation
    end
    return conn:query(INDEXES, relation)
end

---The indexes that this statement made or began: by name, else those that did not exist before.
local function made(conn, body, before)
    local list = {}
    for _, index in ipairs(indexes(conn, body)) do
        local new = before and not before:find(" " .. index.id .. " ", 1, true)
        if body.idxname and index.plain == body.idxname or not body.idxname and new then list[#list + 1] = index end
    end
    return list
end

---@param name string
---@param drop string the statement that drops an unfinished index
local function building_index(name, drop)
    return {
        name = name,
        before = function(conn, body)
            local ids = {}
            for _, index in ipairs(indexes(conn, body)) do ids[#ids + 1] = tostring(index.id) end
            return " " .. table.concat(ids, " ") .. " "
        end,
        clean = function(conn, body, before)
            for _, index in ipairs(made(conn, body, before)) do
                if not index.valid then conn:exec(drop .. index.name) end
            end
        end,
        judge = function(conn, body, before)
            for _, index in ipairs(made(conn, body, before)) do
                if index.valid then return "done" end
            end
            return "again"
        end,
    }
end

local create_index <const> = building_index("CREATE INDEX CONCURRENTLY", "drop index concurrently if exists ")

---TimescaleDB builds the index of each chunk in a separate transaction. The index of the hypertable is invalid until
---all are built; dropping it drops those of the chunks.
local index_by_chunks <const> = building_index("CREATE INDEX by chunks", "drop index if exists ")

-- ---- the others ----

local LEFT_OVER <const> = catalog.sql [[
select i.indexrelid::{regclass}::{text} as name from {pg_index} i
  join {pg_class} c on c.oid {=} i.indexrelid
 where not i.indisvalid and c.relname {~} '_cc(new|old)[0-9]*$'
   and not exists (select from {pg_stat_progress_create_index} p where p.index_relid {=} i.indexrelid)]]

local reindex <const> = {
    name = "REINDEX CONCURRENTLY",
    clean = function(conn)
        for _, row in ipairs(conn:query(LEFT_OVER)) do conn:exec("drop index concurrently if exists " .. row.name) end
    end,
    judge = again,
}

---"done" when a name is (or is not) in a catalog.
local function present(name, sql, field, wanted)
    return {
        name = name,
        judge = function(conn, body)
            return conn:value(sql, field(body)) == wanted and "done" or "again"
        end,
    }
end

local DATABASE <const> = catalog.sql "select exists (select from {pg_database} where datname {=} $1)"
local SPACE <const> = catalog.sql "select exists (select from {pg_tablespace} where spcname {=} $1)"
local RELATION <const> = catalog.sql "select {to_regclass}($1) is not null"
local SUBSCRIPTION <const> = catalog.sql [[select exists (select from {pg_subscription} s join {pg_database} d
    on d.oid {=} s.subdbid where d.datname {=} {current_database}() and s.subname {=} $1)]]
local function dbname(body) return body.dbname end
local function spacename(body) return body.tablespacename end
local function subname(body) return body.subname end

local drop_index <const> = present("DROP INDEX CONCURRENTLY", RELATION, function(body)
    return tree.name(body.objects[1].List.items)
end, false)

local PARTITION <const> = catalog.sql [[
select coalesce((select case when inhdetachpending then 'pending' else 'attached' end
                   from {pg_inherits}
                  where inhparent {=} {to_regclass}($1) and inhrelid {=} {to_regclass}($2)), 'detached')]]

local function partition(body)
    for _, node in ipairs(body.cmds) do
        local command = node.AlterTableCmd
        if command and command.subtype == "AT_DetachPartition" and command.def.PartitionCmd.concurrent then
            return tree.relation(command.def.PartitionCmd.name)
        end
    end
end

local detach <const> = {
    name = "DETACH PARTITION CONCURRENTLY",
    judge = function(conn, body)
        local parent, child = tree.relation(body.relation), partition(body)
        local state = conn:value(PARTITION, parent, child)
        if state == "pending" then
            conn:exec(("alter table %s detach partition %s finalize"):format(parent, child))
        end
        return state == "attached" and "again" or "done"
    end,
}

local harmless <const> = { name = "maintenance", judge = again }

local PREPARED <const> = catalog.sql "select exists (select from {pg_prepared_xacts} where gid {=} $1)"

---The handler for other statements, which only the server knows: a procedure that commits, an extension's function.
local unknown <const> = {
    name = "a statement that ends transactions by itself",
    unjudged = true,
    judge = function() return "unknown" end,
}

---Whether a DO can end transactions. In PL/pgSQL only COMMIT, ROLLBACK and CALL do; for other languages it is unknown.
local function ends_transactions(body)
    local code, language = "", "plpgsql"
    for _, node in ipairs(body.args or {}) do
        local def = node.DefElem or {}
        local value = def.arg and def.arg.String and def.arg.String.sval or ""
        if def.defname == "as" then code = value:lower() end
        if def.defname == "language" then language = value:lower() end
    end
    if language ~= "plpgsql" then return true end
    for _, word in ipairs { "commit", "rollback", "call" } do
        if code:find("%f[%w_]" .. word .. "%f[^%w_]") then return true end
    end
    return false
end

---CREATE SUBSCRIPTION makes a slot on the other server, unless its options prevent that.
local function makes_slot(body)
    for _, node in ipairs(body.options or {}) do
        local name = node.DefElem and node.DefElem.defname
        if (name == "connect" or name == "create_slot") and not tree.option({ node }, name) then return false end
    end
    return true
end

---By kind of node: the handler of a statement that cannot run in a transaction, nil when it can.
local KINDS <const> = {
    IndexStmt = function(b)
        return b.concurrent and create_index or tree.option(b.options, "transaction_per_chunk") and index_by_chunks
    end,
    DropStmt = function(b) return b.concurrent and drop_index end,
    ReindexStmt = function(b)
        if tree.option(b.params, "concurrently") then return reindex end
        return (b.kind == "REINDEX_OBJECT_DATABASE" or b.kind == "REINDEX_OBJECT_SYSTEM"
            or b.kind == "REINDEX_OBJECT_SCHEMA") and harmless
    end,
    VacuumStmt = function(b) return b.is_vacuumcmd and harmless end,
    ClusterStmt = function(b) return not b.relation and harmless end,
    AlterSystemStmt = function() return harmless end,
    AlterTableStmt = function(b) return partition(b) and detach end,
    DoStmt = function(b) return ends_transactions(b) and unknown end,
    CallStmt = function() return unknown end,
    DiscardStmt = function(b) return (b.target or "DISCARD_ALL") == "DISCARD_ALL" and harmless end,
    TransactionStmt = function(b)
        return (b.kind == "TRANS_STMT_COMMIT_PREPARED" or b.kind == "TRANS_STMT_ROLLBACK_PREPARED")
            and present("COMMIT PREPARED", PREPARED, function(body) return body.gid end, false)
    end,
    CreatedbStmt = function() return present("CREATE DATABASE", DATABASE, dbname, true) end,
    DropdbStmt = function() return present("DROP DATABASE", DATABASE, dbname, false) end,
    CreateTableSpaceStmt = function() return present("CREATE TABLESPACE", SPACE, spacename, true) end,
    DropTableSpaceStmt = function() return present("DROP TABLESPACE", SPACE, spacename, false) end,
    CreateSubscriptionStmt = function(b)
        return makes_slot(b) and present("CREATE SUBSCRIPTION", SUBSCRIPTION, subname, true)
    end,
    AlterDatabaseStmt = function(b) return tree.option(b.options, "tablespace") and harmless end,
    DropSubscriptionStmt = function() return present("DROP SUBSCRIPTION", SUBSCRIPTION, subname, false) end,
}

---The handler from the words of a statement, without the parser: enough to find the names.
local function by_words(sql)
    local low = split.plain(sql)
    local rest = low:match "^create u?n?i?q?u?e? ?index (.*)$"
    local concurrent = rest and rest:find "^concurrently "
    if concurrent or rest and rest:find("transaction_per_chunk", 1, true) then
        rest = rest:gsub("^concurrently ", ""):gsub("^if not exists ", "")
        local name, relation = rest:match "^([%w_]+) on o?n?l?y? ?([%w_.]+)"
        if not name then return unknown, {} end
        local schema, plain = relation:match "^(.-)%.(.*)$"
        return concurrent and create_index or index_by_chunks, { idxname = name, concurrent = concurrent and true,
            relation = { schemaname = schema, relname = plain or relation } }
    end
    if low:find "^vacuum" or low:find "^alter system" then return harmless, {} end
    if low:find "^drop index concurrently" or low:find "^reindex .*concurrently" or low:find "^call%f[^%w_]"
        or low:find "^do%f[^%w_]" then return unknown, {} end
end

---The handler of a statement that cannot run in a transaction, or can end one.
---@param sql string
---@return dbrun.migrate.Outside? handler nil: by its text it can run in a transaction
---@return table? body for the handler's functions
function M.outside(sql)
    local kind, body = tree.of(sql)
    if not kind then return by_words(sql) end
    local handler = KINDS[kind] and KINDS[kind](body)
    if handler then return handler, body end
end

local NO_UTILITY <const> = {
    SelectStmt = true, InsertStmt = true, UpdateStmt = true, DeleteStmt = true, MergeStmt = true, ExecuteStmt = true,
    ExplainStmt = true, CopyStmt = true, CreateTableAsStmt = true, RefreshMatViewStmt = true, DeclareCursorStmt = true,
    FetchStmt = true, DoStmt = true, CallStmt = true,
}
local UTILITY_WORDS <const> = {
    create = true, alter = true, drop = true, reindex = true, cluster = true, vacuum = true,
}

---Whether a statement that was refused inside a transaction can be sent again outside one. Not if it calls functions:
---their effects, such as taking a value from a sequence, may have stayed.
---@param sql string
---@return boolean
function M.may_repeat(sql)
    local kind = tree.of(sql)
    if kind then return not NO_UTILITY[kind] end
    return UTILITY_WORDS[(split.first_words(sql, 1))] or false
end

---The handler for a statement that the server itself refused to run in a transaction.
---@return dbrun.migrate.Outside
function M.refused() return unknown, {} end

return M
