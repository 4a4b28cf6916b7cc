--- Rules about ALTER TABLE: columns and constraints.
local facts = require "dbrun.migrate.lint.facts"
local model = require "dbrun.migrate.lint.model"
local tree = require "dbrun.sql.tree"
local types = require "dbrun.migrate.lint.types"

local alter <const>, constraint_of <const>, shown <const> = facts.alter, facts.constraint_of, facts.shown

---Functions whose value is the same for a whole statement, so that a default with them needs no rewrite.
local STABLE <const> = {
    now = true, current_timestamp = true, transaction_timestamp = true, statement_timestamp = true, current_date = true,
    current_user = true, current_setting = true, lower = true, upper = true, md5 = true, array = true,
    jsonb_build_object = true, jsonb_build_array = true, json_build_object = true, json_build_array = true,
    to_jsonb = true, to_json = true, make_interval = true, make_date = true, date_trunc = true, timezone = true,
    to_timestamp = true, concat = true, coalesce = true, array_fill = true, int4range = true, int8range = true,
    tstzrange = true, tsrange = true, daterange = true, length = true, round = true, floor = true, date = true,
    left = true, right = true, substr = true, substring = true, trim = true, btrim = true, ltrim = true, rtrim = true,
    replace = true, translate = true, lpad = true, rpad = true, ["repeat"] = true, concat_ws = true, format = true,
    encode = true, decode = true, sha256 = true, digest = true, extract = true, date_part = true, to_char = true,
    to_date = true, to_number = true, age = true, make_timestamp = true, make_timestamptz = true, abs = true,
    ceil = true, trunc = true, power = true, nullif = true, greatest = true, least = true, row_to_json = true,
    array_to_json = true, array_append = true, array_prepend = true, array_cat = true, string_to_array = true,
    numrange = true, int4multirange = true, to_tsvector = true, current_schema = true, current_database = true,
    session_user = true, char_length = true, reverse = true, initcap = true, split_part = true, regexp_replace = true,
}

local function calls_volatile(expression)
    local found
    tree.walk({ expression }, function(kind, node)
        if kind == "FuncCall" then
            local name = node.funcname[#node.funcname].String.sval
            if not STABLE[name] then found = name end
        end
    end)
    return found
end

---Whether the column is known to have no nulls: by NOT NULL, or a validated check.
local function is_proven(ctx, name, column)
    local entry = ctx.model.tables[name]
    if not entry then return false end
    if entry.columns[column] and entry.columns[column].not_null then return true end
    for _, check in ipairs(entry.checks) do
        if check.not_null[column] and check.validated then return true end
    end
    return false
end

---A check that an unknown file added and this section validates: judge by the validation.
local function validates_unknown(ctx, name)
    for constraint in pairs(ctx.validated[name] or {}) do
        local known = false
        for _, check in ipairs(ctx.model.tables[name].checks) do known = known or check.name == constraint end
        if not known then return true end
    end
    return false
end

---Whether a partition has a validated check on the columns of the parent's key.
local function has_proof(ctx, parent, child)
    local keys = (ctx.model.tables[parent] or {}).partition_by or {}
    for _, check in ipairs((ctx.model.tables[child] or {}).checks or {}) do
        local fits = check.validated and not check.only_not_null
        for _, key in ipairs(keys) do fits = fits and (key == "" or check.columns[key]) end
        if fits then return true end
    end
    return false
end

local COPIES <const> = {
    AT_SetTableSpace = true, AT_SetLogged = true, AT_SetUnLogged = true, AT_SetAccessMethod = true,
}

local copied <const> = alter(function(command, name, _, report)
    if COPIES[command.kind] then report(("%s is copied"):format(shown(name)), name) end
end)

local TRIGGERS_OFF <const> = {
    AT_DisableTrig = true, AT_DisableTrigAll = true, AT_DisableTrigUser = true, AT_DisableRule = true,
    -- Such triggers fire only when session_replication_role is replica.
    AT_EnableReplicaTrig = true, AT_EnableReplicaRule = true,
}

---The columns that ADD PRIMARY KEY USING INDEX makes NOT NULL, when the index is known.
local function columns_of_key(ctx, command, name)
    local key = command.constraint
    if not key or key.contype ~= "CONSTR_PRIMARY" or not key.indexname then return {} end
    for _, index in ipairs((ctx.model.tables[name] or { indexes = {} }).indexes) do
        if index.name == key.indexname then return index.columns end
    end
    return {}
end

---DEFAULT NULL is not a default.
local function has_default(column)
    local value = (constraint_of(column, "CONSTR_DEFAULT") or {}).raw_expr
    while value and value.TypeCast do value = value.TypeCast.arg end
    return value ~= nil and not (value.A_Const and value.A_Const.isnull)
end

---Whether the column, or an expression, is in an index of the table.
local function is_indexed(ctx, name, column)
    for _, index in ipairs(ctx.model.tables[name].indexes) do
        for _, part in ipairs(index.columns) do
            if part == column or part == "" then return true end
        end
    end
    return false
end

---Whether USING only casts the column to the new type, as ALTER does without it.
local function is_own_value(expression, column, new)
    local cast = expression.TypeCast
    local type_of = cast and types.of(cast.typeName)
    if cast and not (type_of and types.same(type_of, new)) then return false end
    local ref = (cast and cast.arg or expression).ColumnRef
    local last = ref and ref.fields[#ref.fields].String
    return last ~= nil and last.sval == column
end

---@type dbrun.migrate.Rule[]
return {
    {
        name = "volatile-default",
        severity = "warning",
        rows = "stored",
        why = "a column whose default differs from row to row makes the server write the whole table anew, locked",
        safe = "add the column without the default, set the default, then fill the old rows in batches",
        statement = alter(function(command, name, _, report)
            local column = command.column
            if not column then return end
            if facts.is_serial(column) or constraint_of(column, "CONSTR_IDENTITY") then
                report(("%s.%s gets a number for every row"):format(shown(name), column.colname), name)
            end
            local default = constraint_of(column, "CONSTR_DEFAULT")
            local called = default and calls_volatile(default.raw_expr)
            if called then
                report(("the default of %s.%s calls %s()"):format(shown(name), column.colname, called), name)
            end
        end),
    },
    {
        name = "stored-generated-column",
        severity = "warning",
        rows = "stored",
        why = "the server writes the whole table anew to fill it, locked",
        safe = "an ordinary column that a trigger fills, old rows in batches; or an index on the expression",
        statement = alter(function(command, name, _, report)
            if command.column and constraint_of(command.column, "CONSTR_GENERATED") then
                report(("%s.%s is a stored generated column"):format(shown(name), command.column.colname), name)
            end
        end),
    },
    {
        name = "domain-column",
        severity = "warning",
        rows = "stored",
        why = "a new column whose type is a domain with constraints makes the server write the whole table anew, "
            .. "locked",
        safe = "the type below the domain, with CHECK ... NOT VALID and VALIDATE CONSTRAINT",
        statement = alter(function(command, name, ctx, report)
            local list = command.column and command.column.typeName and command.column.typeName.names
            if list and ctx.model.domains[model.key(ctx.model, "type", list)] then
                report(("the type of %s.%s is a domain with constraints"):format(shown(name), command.column.colname),
                    name)
            end
        end),
    },
    {
        name = "not-null-without-check",
        severity = "warning",
        rows = "stored",
        why = "SET NOT NULL reads the whole table under an ACCESS EXCLUSIVE lock",
        safe = "ADD CHECK (c IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT, SET NOT NULL, DROP CONSTRAINT",
        statement = alter(function(command, name, ctx, report)
            local columns = command.kind == "AT_SetNotNull" and { command.name } or columns_of_key(ctx, command, name)
            for _, column in ipairs(columns) do
                if not is_proven(ctx, name, column) and not validates_unknown(ctx, name) then
                    report(("%s.%s becomes NOT NULL without a validated check"):format(shown(name), column), name)
                end
            end
        end),
    },
    {
        name = "drop-not-null",
        severity = "warning",
        why = "programs that run now may not expect a null in this column",
        safe = "first a release that can read nulls; then this, with a lint comment",
        statement = alter(function(command, name, ctx, report)
            if command.kind == "AT_DropNotNull" and ctx.direction == "up"
                and not model.is_added(ctx.model, name, command.name) then
                report(("%s.%s can be null from now on"):format(shown(name), command.name), name)
            end
        end),
    },
    {
        name = "not-null-column-without-default",
        severity = "error",
        rows = "seen",
        why = "the statement fails as soon as the table has a row",
        safe = "give it a constant default, or add it without NOT NULL and fill it first",
        statement = alter(function(command, name, _, report)
            local column = command.column
            local key = column and constraint_of(column, "CONSTR_PRIMARY")
            if column and (key or constraint_of(column, "CONSTR_NOTNULL")) and not has_default(column)
                and not constraint_of(column, "CONSTR_GENERATED") and not constraint_of(column, "CONSTR_IDENTITY")
                and not facts.is_serial(column) then
                report(("%s.%s is %s and has no default"):format(shown(name), column.colname,
                    key and "a primary key" or "NOT NULL"), name)
            end
        end),
    },
    {
        name = "type-change",
        severity = "warning",
        rows = "stored",
        why = "most changes of a type write the whole table and its indexes anew, locked",
        safe = "a new column, filled in batches, then swapped; text instead of varchar(n) needs no change at all",
        statement = alter(function(command, name, ctx, report)
            if command.kind ~= "AT_AlterColumnType" then return end
            local known = (ctx.model.tables[name] or { columns = {} }).columns[command.name]
            local definition = command.def.ColumnDef
            local old, new = known and known.type, types.of(definition.typeName, definition.collClause)
            local using = definition.raw_default
            local plain = new and (not using or is_own_value(using, command.name, new))
            if old and plain and types.is_cheap(old, new)
                and (old.collation == new.collation or not is_indexed(ctx, name, command.name)) then return end
            -- Without the earlier files: a column that becomes text was almost always a varchar.
            if not old and plain and #new.mods == 0 and not new.array and not new.collation
                and (new.name == "text" or new.name == "varchar") then return end
            report(("the type of %s.%s changes%s"):format(shown(name), command.name, old and new
                and (" from %s to %s"):format(types.shown(old), types.shown(new)) or ""), name)
        end),
    },
    {
        name = "foreign-key-without-not-valid",
        severity = "warning",
        rows = "stored",
        why = "checking all rows blocks writes to both tables",
        safe = "ADD CONSTRAINT ... NOT VALID, then VALIDATE CONSTRAINT in the next migration",
        statement = alter(function(command, name, ctx, report)
            local key = command.constraint
            if key and key.contype == "CONSTR_FOREIGN" and not key.skip_validation
                or command.column and constraint_of(command.column, "CONSTR_FOREIGN")
                and constraint_of(command.column, "CONSTR_DEFAULT") then
                report(("a foreign key is added to %s and checked at once"):format(shown(name)), name,
                    (ctx.model.tables[name] or {}).partition_by and "before PostgreSQL 18: NOT VALID and VALIDATE for "
                    .. "each partition, then ADD CONSTRAINT for the parent, which takes those over" or nil)
            end
        end),
    },
    {
        name = "foreign-key-without-index",
        severity = "note",
        why = "every DELETE and every change of a key in the other table reads this whole table",
        safe = "CREATE INDEX on the columns of the foreign key",
    },
    {
        name = "check-without-not-valid",
        severity = "warning",
        rows = "stored",
        why = "checking all rows holds an ACCESS EXCLUSIVE lock",
        safe = "ADD CONSTRAINT ... NOT VALID, then VALIDATE CONSTRAINT in the next migration",
        statement = alter(function(command, name, _, report)
            local check = command.constraint
            if check and check.contype == "CONSTR_CHECK" and not check.skip_validation
                or command.column and constraint_of(command.column, "CONSTR_CHECK") then
                report(("a check is added to %s and checked at once"):format(shown(name)), name)
            end
        end),
    },
    {
        name = "domain-constraint",
        severity = "warning",
        why = "every column of this domain is read, in all tables, which block writes meanwhile",
        safe = "ALTER DOMAIN ... ADD CONSTRAINT ... NOT VALID, then VALIDATE CONSTRAINT in the next migration",
        statement = function(ctx, report)
            if ctx.kind ~= "AlterDomainStmt" then return end
            local constraint = ctx.body.def and ctx.body.def.Constraint
            if ctx.body.subtype ~= "O" and (ctx.body.subtype ~= "C" or constraint.skip_validation) then return end
            if ctx.model.made[model.key(ctx.model, "type", ctx.body.typeName)] then return end
            report(("the domain %s gets a constraint that is checked at once"):format(tree.name(ctx.body.typeName)),
                tree.name(ctx.body.typeName))
        end,
    },
    {
        name = "unique-without-index",
        severity = "warning",
        rows = "stored",
        why = "the index of the constraint is built under an ACCESS EXCLUSIVE lock",
        safe = "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT ... USING INDEX",
        statement = alter(function(command, name, ctx, report)
            local column, added = command.column, command.constraint
            local inline = column
                and (constraint_of(column, "CONSTR_UNIQUE") or constraint_of(column, "CONSTR_PRIMARY"))
            local unique = inline or added and not added.indexname
                and (added.contype == "CONSTR_UNIQUE" or added.contype == "CONSTR_PRIMARY")
            if not unique then return end
            local safe
            if facts.is_hypertable(ctx, name) then
                safe = "a hypertable takes no index that was built before: a quiet hour, and a lint comment"
            elseif facts.is_partitioned(ctx, ctx.body.relation) then
                safe = "CREATE UNIQUE INDEX CONCURRENTLY and ADD CONSTRAINT ... USING INDEX on each partition, then "
                    .. "ADD CONSTRAINT on the parent, which takes those over"
            end
            report(("a unique constraint of %s builds its index at once"):format(shown(name)), name, safe)
        end),
    },
    {
        name = "exclusion-constraint",
        severity = "warning",
        rows = "stored",
        why = "its index is built under an ACCESS EXCLUSIVE lock, and cannot be built before",
        safe = "a new table with the constraint, filled and swapped; or a quiet hour, and a lint comment",
        statement = alter(function(command, name, _, report)
            if command.constraint and command.constraint.contype == "CONSTR_EXCLUSION" then
                report(("an exclusion constraint is added to %s"):format(shown(name)), name)
            end
        end),
    },
    {
        name = "validate-with-add",
        severity = "warning",
        why = "in one transaction the strong lock of ADD is held while VALIDATE reads all rows",
        safe = "VALIDATE CONSTRAINT in a migration after the one that adds it",
        statement = alter(function(command, name, ctx, report)
            if command.kind ~= "AT_ValidateConstraint" then return end
            local held = ctx.transaction and ctx.locked[1]
            for _, name_now in ipairs(facts.strongly_locked(ctx)) do held = held or name_now end
            if held then
                report(("a constraint of %s is validated while %s is locked"):format(shown(name),
                    held == name and "the table" or shown(held)), name)
            end
        end),
    },
    {
        name = "drop-column",
        severity = "error",
        why = "programs that run now may still use it, and what stood in it is gone",
        safe = "first a release that does not use it any more; then drop it, with a lint comment",
        statement = alter(function(command, name, ctx, report)
            if command.kind == "AT_DropColumn" and ctx.direction == "up"
                and not model.is_added(ctx.model, name, command.name) then
                report(("%s.%s is dropped%s"):format(shown(name), command.name,
                    command.cascade and " with all that depends on it" or ""), name)
            end
        end),
    },
    {
        name = "set-tablespace-or-logged",
        severity = "warning",
        rows = "stored",
        why = "the whole table is copied under an ACCESS EXCLUSIVE lock",
        safe = "a new table, filled and swapped; pg_repack does it without the lock",
        statement = function(ctx, report)
            if ctx.kind == "AlterTableMoveAllStmt" then
                report(("all tables of the tablespace %s are copied"):format(ctx.body.orig_tablespacename))
            end
            copied(ctx, report)
        end,
    },
    {
        name = "attach-without-check",
        severity = "warning",
        why = "ATTACH PARTITION reads the whole table, locked, to see that its rows belong there",
        safe = "first a validated CHECK on the table that says what the partition's bounds say; drop it after ATTACH",
        -- The parent may be new in this section: the other table is the one that is read.
        statement = function(ctx, report)
            local attach = ctx.kind == "AlterTableStmt" and ctx.body.objtype ~= "OBJECT_INDEX" and ctx.body.cmds
            for _, node in ipairs(attach or {}) do
                local command = node.AlterTableCmd
                local part = command.subtype == "AT_AttachPartition" and command.def.PartitionCmd
                local child = part and facts.existing(ctx, part.name)
                local parent = child and model.name(ctx.model, ctx.body.relation)
                if child and not has_proof(ctx, parent, child) then
                    report(("%s becomes a partition of %s without a CHECK that proves its bounds"):format(
                        shown(child), shown(parent)), child)
                end
            end
        end,
    },
    {
        name = "detach-not-concurrent",
        severity = "warning",
        why = "DETACH PARTITION blocks all reads and writes of the partitioned table",
        safe = "DETACH PARTITION ... CONCURRENTLY, in a migration with transaction:false",
        statement = alter(function(command, name, ctx, report)
            local part = command.kind == "AT_DetachPartition" and command.def.PartitionCmd
            if part and not part.concurrent then
                report(("%s is detached from %s without CONCURRENTLY"):format(
                    shown(model.name(ctx.model, part.name)), shown(name)), name)
            end
        end),
    },
    {
        name = "disable-trigger",
        severity = "warning",
        why = "nobody else writes to the table until the end of the transaction, and what is written meanwhile is not "
            .. "checked, foreign keys too",
        safe = "a condition in the trigger that looks at a setting of this session",
        statement = alter(function(command, name, _, report)
            if TRIGGERS_OFF[command.kind] then
                report(("a trigger or rule of %s is switched off"):format(shown(name)), name)
            end
        end),
    },
}
