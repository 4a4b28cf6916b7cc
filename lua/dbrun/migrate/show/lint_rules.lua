--- The rules of lint: what each finds, why that is dangerous, and the safe way.
local tree = require "dbrun.migrate.read.tree"

local M = {}

---@class dbrun.migrate.Rule
---@field name string
---@field why string
---@field safe string
---@field statement? fun(ctx: dbrun.migrate.LintContext): string|false|nil the message, when it applies

---The table of a statement, if it existed before this file.
local function existing(ctx, relation)
    local name = relation and tree.relation(relation)
    return name and not ctx.created[name] and name or nil
end

---Calls fn(command, constraint) for each part of an ALTER TABLE on an existing table; returns the first message.
local function alter(fn)
    return function(ctx)
        if ctx.kind ~= "AlterTableStmt" then return end
        local name = existing(ctx, ctx.body.relation)
        for _, node in ipairs(name and ctx.body.cmds or {}) do
            local command = node.AlterTableCmd
            local message = fn(command, command.def and command.def.Constraint, name, ctx)
            if message then return message end
        end
    end
end

local function constraint_of(column, contype)
    for _, node in ipairs(column.constraints or {}) do
        if node.Constraint and node.Constraint.contype == contype then return node.Constraint end
    end
end

local function added_column(command)
    return command.subtype == "AT_AddColumn" and command.def.ColumnDef
end

---Functions whose value is the same for a whole statement, so that a default with them needs no rewrite.
local STABLE <const> = {
    now = true, current_timestamp = true, transaction_timestamp = true, statement_timestamp = true, current_date = true,
    current_user = true, current_setting = true, lower = true, upper = true, md5 = true, array = true,
}

local function calls_volatile(expression)
    local found
    tree.walk({ expression }, function(kind, node)
        if kind == "FuncCall" then
            local parts = node.funcname
            local name = parts[#parts].String.sval
            if not STABLE[name] then found = name end
        end
    end)
    return found
end

local SERIAL <const> = { serial = true, bigserial = true, smallserial = true, serial4 = true, serial8 = true }

local function type_name(column)
    local names = column.typeName and column.typeName.names
    return names and names[#names].String and names[#names].String.sval
end

---Columns ("table.column") in a CHECK (column IS NOT NULL).
local function not_null_check(constraint, table_name)
    local test = constraint and constraint.contype == "CONSTR_CHECK" and constraint.raw_expr
        and constraint.raw_expr.NullTest
    if not test or test.nulltesttype ~= "IS_NOT_NULL" then return end
    local fields = test.arg.ColumnRef and test.arg.ColumnRef.fields
    local last = fields and fields[#fields].String
    return last and table_name .. "." .. last.sval
end

---Records the columns that a check of this statement proves to be not null.
---@param ctx dbrun.migrate.LintContext
function M.learn_checks(ctx)
    local name = tree.relation(ctx.body.relation)
    for _, node in ipairs(ctx.body.cmds) do
        local command = node.AlterTableCmd
        local constraint = command.def and command.def.Constraint
        local column = not_null_check(constraint, name)
        if column then
            ctx.checked[name .. " " .. (constraint.conname or "")] = column
            if not constraint.skip_validation then ctx.checked[column] = true end
        elseif command.subtype == "AT_ValidateConstraint" then
            local proven = ctx.checked[name .. " " .. (command.name or "")]
            if proven then ctx.checked[proven] = true end
            -- A check of an earlier file, whose text is not here: judge by its name.
            ctx.checked[name .. " validated"] = true
        end
    end
end

local TIMESCALE_OUTSIDE <const> = {
    refresh_continuous_aggregate = true, recompress_chunk = true, move_chunk = true,
}

---@type dbrun.migrate.Rule[]
M.RULES = {
    {
        name = "index-not-concurrent",
        why = "CREATE INDEX holds back every write to the table until the index is built",
        safe = "CREATE INDEX CONCURRENTLY, in a migration of its own with transaction:false",
        statement = function(ctx)
            local name = ctx.kind == "IndexStmt" and not ctx.body.concurrent and existing(ctx, ctx.body.relation)
            return name and ("an index on %s is built without CONCURRENTLY"):format(name)
        end,
    },
    {
        name = "drop-index-not-concurrent",
        why = "DROP INDEX waits for every query of the table, and all new ones wait behind it",
        safe = "DROP INDEX CONCURRENTLY, in a migration with transaction:false",
        statement = function(ctx)
            return ctx.kind == "DropStmt" and ctx.direction == "up" and ctx.body.removeType == "OBJECT_INDEX"
                and not ctx.body.concurrent and "an index is dropped without CONCURRENTLY"
        end,
    },
    {
        name = "reindex-not-concurrent",
        why = "REINDEX holds back writes, and reads that would use the index",
        safe = "REINDEX (CONCURRENTLY), in a migration with transaction:false",
        statement = function(ctx)
            return ctx.kind == "ReindexStmt" and not tree.option(ctx.body.params, "concurrently")
                and "an index is rebuilt without CONCURRENTLY"
        end,
    },
    {
        name = "concurrently-in-transaction",
        why = "the server refuses this inside a transaction",
        safe = "put transaction:false after the directive, and nothing else into that migration",
        statement = function(ctx)
            local handler = ctx.transaction and require("dbrun.migrate.run.aftermath").outside(ctx.sql)
            return handler and ("%s cannot run in a transaction"):format(ctx.sql:match "^%s*([^\n]*)":sub(1, 60))
        end,
    },
    {
        name = "volatile-default",
        why = "a column whose default differs from row to row makes the server write the whole table anew, locked",
        safe = "add the column without the default, set the default, then fill the old rows in batches",
        statement = alter(function(command, _, name)
            local column = added_column(command)
            if not column then return end
            if SERIAL[type_name(column)] or constraint_of(column, "CONSTR_IDENTITY") then
                return ("%s.%s gets a number for every row"):format(name, column.colname)
            end
            local default = constraint_of(column, "CONSTR_DEFAULT")
            local called = default and calls_volatile(default.raw_expr)
            return called and ("the default of %s.%s calls %s()"):format(name, column.colname, called)
        end),
    },
    {
        name = "stored-generated-column",
        why = "the server writes the whole table anew to fill it, locked",
        safe = "an ordinary column that a trigger fills, old rows in batches; or an index on the expression",
        statement = alter(function(command, _, name)
            local column = added_column(command)
            return column and constraint_of(column, "CONSTR_GENERATED")
                and ("%s.%s is a stored generated column"):format(name, column.colname)
        end),
    },
    {
        name = "not-null-without-check",
        why = "SET NOT NULL reads the whole table under an ACCESS EXCLUSIVE lock",
        safe = "ADD CHECK (c IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT, SET NOT NULL, DROP CONSTRAINT",
        statement = alter(function(command, _, name, ctx)
            local column = command.subtype == "AT_SetNotNull" and name .. "." .. command.name
            return column and not ctx.checked[column] and not ctx.checked[name .. " validated"]
                and ("%s becomes NOT NULL without a validated check"):format(column)
        end),
    },
    {
        name = "not-null-column-without-default",
        why = "the statement fails as soon as the table has a row",
        safe = "give it a constant default, or add it without NOT NULL and fill it first",
        statement = alter(function(command, _, name)
            local column = added_column(command)
            return column and constraint_of(column, "CONSTR_NOTNULL") and not constraint_of(column, "CONSTR_DEFAULT")
                and not constraint_of(column, "CONSTR_GENERATED") and not constraint_of(column, "CONSTR_IDENTITY")
                and not SERIAL[type_name(column)]
                and ("%s.%s is NOT NULL and has no default"):format(name, column.colname)
        end),
    },
    {
        name = "type-change",
        why = "most changes of a type write the whole table and its indexes anew, locked",
        safe = "a new column, filled in batches, then swapped; text instead of varchar(n) needs no change at all",
        statement = alter(function(command, _, name)
            return command.subtype == "AT_AlterColumnType" and ("the type of %s.%s changes"):format(name, command.name)
        end),
    },
    {
        name = "foreign-key-without-not-valid",
        why = "checking all rows holds back writes to both tables",
        safe = "ADD FOREIGN KEY ... NOT VALID, then VALIDATE CONSTRAINT in a later migration",
        statement = alter(function(command, constraint, name)
            local column = added_column(command)
            local inline = column and constraint_of(column, "CONSTR_FOREIGN")
                and constraint_of(column, "CONSTR_DEFAULT")
            local added = constraint and constraint.contype == "CONSTR_FOREIGN" and not constraint.skip_validation
            return (inline or added) and ("a foreign key of %s is checked at once"):format(name)
        end),
    },
    {
        name = "check-without-not-valid",
        why = "all rows are checked under an ACCESS EXCLUSIVE lock",
        safe = "ADD CHECK ... NOT VALID, then VALIDATE CONSTRAINT in a later migration",
        statement = alter(function(_, constraint, name)
            return constraint and constraint.contype == "CONSTR_CHECK" and not constraint.skip_validation
                and ("a check of %s looks at all rows at once"):format(name)
        end),
    },
    {
        name = "unique-without-index",
        why = "the index of the constraint is built under an ACCESS EXCLUSIVE lock",
        safe = "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT ... USING INDEX",
        statement = alter(function(command, constraint, name)
            local column = added_column(command)
            local inline = column
                and (constraint_of(column, "CONSTR_UNIQUE") or constraint_of(column, "CONSTR_PRIMARY"))
            local added = constraint and not constraint.indexname
                and (constraint.contype == "CONSTR_UNIQUE" or constraint.contype == "CONSTR_PRIMARY")
            return (inline or added) and ("a unique constraint of %s builds its index at once"):format(name)
        end),
    },
    {
        name = "exclusion-constraint",
        why = "its index is built under an ACCESS EXCLUSIVE lock, and cannot be built before",
        safe = "a new table with the constraint, filled and swapped; or a quiet hour, and a lint comment",
        statement = alter(function(_, constraint, name)
            return constraint and constraint.contype == "CONSTR_EXCLUSION"
                and ("an exclusion constraint is added to %s"):format(name)
        end),
    },
    {
        name = "validate-with-add",
        why = "in one transaction the strong lock of ADD is held while VALIDATE reads all rows",
        safe = "VALIDATE CONSTRAINT in a migration after the one that adds it",
        statement = alter(function(command, _, name, ctx)
            return command.subtype == "AT_ValidateConstraint" and ctx.transaction and ctx.count > 1
                and ("a constraint of %s is validated beside other statements, in one transaction"):format(name)
        end),
    },
    {
        name = "rename",
        why = "programs that run now still use the old name",
        safe = "a new column or table beside the old one until no program uses that; or a view with the old name",
        statement = function(ctx)
            local what = ctx.body.renameType
            if ctx.kind ~= "RenameStmt" or ctx.direction == "down" then return end
            if what ~= "OBJECT_TABLE" and what ~= "OBJECT_COLUMN" and what ~= "OBJECT_VIEW" then return end
            local name = existing(ctx, ctx.body.relation)
            return name and ("%s%s is renamed"):format(name, ctx.body.subname and "." .. ctx.body.subname or "")
        end,
    },
    {
        name = "drop-column",
        why = "programs that run now may still use it, and what stood in it is gone",
        safe = "first a release that does not use it any more; then drop it, with a lint comment",
        statement = alter(function(command, _, name, ctx)
            return command.subtype == "AT_DropColumn" and ctx.direction == "up"
                and ("%s.%s is dropped"):format(name, command.name)
        end),
    },
    {
        name = "drop-table",
        why = "programs that run now may still use it, and what stood in it is gone",
        safe = "first a release that does not use it any more; then drop it, with a lint comment",
        statement = function(ctx)
            local object = ctx.kind == "DropStmt" and ctx.direction == "up" and ctx.body.removeType == "OBJECT_TABLE"
                and ctx.body.objects[1].List
            local name = object and tree.name(object.items)
            return name and not ctx.created[name] and ("%s is dropped"):format(name)
        end,
    },
    {
        name = "truncate",
        why = "TRUNCATE waits for all users of the table, all new ones wait for it, and the rows are gone",
        safe = "DELETE in batches; or a lint comment if it is intended",
        statement = function(ctx)
            local relation = ctx.kind == "TruncateStmt" and ctx.direction == "up" and ctx.body.relations[1].RangeVar
            local name = relation and existing(ctx, relation)
            return name and ("%s is truncated"):format(name)
        end,
    },
    {
        name = "unbounded-update",
        why = "every row is written in one transaction: its locks and its dead rows stay until the end",
        safe = "a Lua migration with transaction=false that goes through the keys in batches",
        statement = function(ctx)
            local change = ctx.kind == "UpdateStmt" or ctx.kind == "DeleteStmt"
            local name = change and not ctx.body.whereClause and existing(ctx, ctx.body.relation)
            return name and ("every row of %s is %s"):format(name, ctx.kind == "UpdateStmt" and "updated" or "deleted")
        end,
    },
    {
        name = "data-beside-schema",
        why = "the locks of the schema change are held while the rows are written",
        safe = "two migrations: the schema change first, the rows after it",
        statement = function(ctx)
            local change = ctx.transaction and ctx.mixed and (ctx.kind == "UpdateStmt" or ctx.kind == "DeleteStmt")
            local name = change and existing(ctx, ctx.body.relation)
            return name and ("%s is written in the transaction of a schema change"):format(name)
        end,
    },
    {
        name = "set-tablespace-or-logged",
        why = "the whole table is copied under an ACCESS EXCLUSIVE lock",
        safe = "a new table, filled and swapped; pg_repack does it without the lock",
        statement = alter(function(command, _, name)
            local copied = command.subtype == "AT_SetTableSpace" or command.subtype == "AT_SetLogged"
                or command.subtype == "AT_SetUnLogged" or command.subtype == "AT_SetAccessMethod"
            return copied and ("%s is copied"):format(name)
        end),
    },
    {
        name = "full-vacuum",
        why = "VACUUM FULL and CLUSTER copy the table under an ACCESS EXCLUSIVE lock",
        safe = "plain VACUUM; pg_repack",
        statement = function(ctx)
            return (ctx.kind == "VacuumStmt" and tree.option(ctx.body.options, "full") or ctx.kind == "ClusterStmt")
                and "a table is copied by VACUUM FULL or CLUSTER"
        end,
    },
    {
        name = "refresh-not-concurrent",
        why = "REFRESH holds back all reads of the view until it is filled",
        safe = "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index",
        statement = function(ctx)
            return ctx.kind == "RefreshMatViewStmt" and not ctx.body.concurrent and not ctx.body.skipData
                and ("%s is refreshed without CONCURRENTLY"):format(tree.relation(ctx.body.relation))
        end,
    },
    {
        name = "enum-value-used",
        why = "a value that ALTER TYPE ... ADD VALUE adds cannot be used in the same transaction",
        safe = "use it in the next migration",
        statement = function(ctx)
            if not ctx.transaction or ctx.kind == "AlterEnumStmt" then return end
            local used
            tree.walk({ [ctx.kind] = ctx.body }, function(kind, node)
                local text = kind == "A_Const" and node.sval and node.sval.sval
                if text and ctx.new_values[text] then used = text end
            end)
            return used and ("the new enum value '%s' is used in the transaction that adds it"):format(used)
        end,
    },
    {
        name = "timescaledb-in-transaction",
        why = "TimescaleDB refuses this inside a transaction",
        safe = "put transaction:false after the directive",
        statement = function(ctx)
            if not ctx.transaction then return end
            local call = ctx.kind == "CallStmt" and ctx.body.funccall.funcname
            local name = call and call[#call].String.sval
            if name and TIMESCALE_OUTSIDE[name] then return ("%s() cannot run in a transaction"):format(name) end
            local into = ctx.kind == "CreateTableAsStmt" and ctx.body.into
            for _, node in ipairs(into and into.options or {}) do
                local def = node.DefElem
                if def and def.defnamespace == "timescaledb" and def.defname == "continuous" and not into.skipData then
                    return "a continuous aggregate WITH DATA cannot be made in a transaction"
                end
            end
        end,
    },
    {
        name = "hypertable-migrate-data",
        why = "create_hypertable(migrate_data => true) copies all rows under an ACCESS EXCLUSIVE lock",
        safe = "a new hypertable, filled in batches and swapped",
        statement = function(ctx)
            local found
            tree.walk({ [ctx.kind] = ctx.body }, function(kind, node)
                found = found or kind == "NamedArgExpr" and node.name == "migrate_data"
            end)
            return found and "rows are moved into a hypertable"
        end,
    },
    {
        name = "drop-cascade",
        why = "CASCADE drops all that depends on it, without naming it",
        safe = "name what is to be dropped",
        statement = function(ctx)
            return ctx.kind == "DropStmt" and ctx.direction == "up" and ctx.body.behavior == "DROP_CASCADE"
                and "something is dropped with CASCADE"
        end,
    },
    {
        name = "missing-down",
        why = "the migration cannot be reverted",
        safe = "write the down section; if it cannot be reverted, say so with a lint comment",
    },
    {
        name = "refused",
        why = "'up' does not run such a file: what it would record and what would happen are not the same",
        safe = "what 'up' says to it",
    },
    {
        name = "not-looked-at",
        why = "lint uses the parser of PostgreSQL 15: the statement is newer, or wrong",
        safe = "check it yourself, then switch this off with a lint comment",
    },
}

return M
