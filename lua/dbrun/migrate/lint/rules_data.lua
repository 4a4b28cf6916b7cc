--- Rules about rows.
local facts = require "dbrun.migrate.lint.facts"
local tree = require "dbrun.sql.tree"

local shown <const> = facts.shown

---Whether two expressions are the same, ignoring positions in the text.
local function same(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then return a == b end
    for key, value in pairs(a) do
        if key ~= "location" and not same(value, b[key]) then return false end
    end
    for key in pairs(b) do
        if key ~= "location" and a[key] == nil then return false end
    end
    return true
end

---Whether this is a column that cannot be null, so that `column is not null` selects all rows.
local function is_never_null(arg, entry)
    if arg.A_Const then return not arg.A_Const.isnull end
    local fields = arg.ColumnRef and arg.ColumnRef.fields
    local last = fields and fields[#fields].String
    local column = last and entry and entry.columns[last.sval]
    return column ~= nil and column ~= false and column.not_null == true
end

---Whether a condition is true for every row.
local function is_true(condition, entry)
    if not condition then return true end
    local const, text = condition.A_Const, facts.text(condition)
    if const and const.boolval then return const.boolval.boolval == true end
    if condition.TypeCast and not text then return is_true(condition.TypeCast.arg, entry) end
    if text then return text == "t" or text == "true" or text == "yes" or text == "on" end
    if condition.BoolExpr then
        local op, args = condition.BoolExpr.boolop, condition.BoolExpr.args
        if op == "NOT_EXPR" then
            local value = args[1].A_Const and args[1].A_Const.boolval
            return value ~= nil and value.boolval ~= true
        end
        local every = op == "AND_EXPR"
        for _, arg in ipairs(args) do
            if is_true(arg, entry) ~= every then return not every end
        end
        return every
    end
    local expression = condition.A_Expr
    if expression and expression.kind == "AEXPR_OP" and expression.name[1].String.sval == "=" then
        return same(expression.lexpr, expression.rexpr)
    end
    local test = condition.NullTest
    return test ~= nil and test.nulltesttype == "IS_NOT_NULL" and is_never_null(test.arg, entry)
end

---Kinds of statements that only store other statements.
local LATER <const> = { DoStmt = true, CreateFunctionStmt = true, RuleStmt = true, PrepareStmt = true }

---Calls fn(kind, body) for a statement that changes rows, and for those in its WITH.
local function changes(ctx, fn)
    if ctx.kind == "UpdateStmt" or ctx.kind == "DeleteStmt" then fn(ctx.kind, ctx.body) end
    if LATER[ctx.kind] or ctx.kind == "ExplainStmt" and not tree.option(ctx.body.options, "analyze") then return end
    tree.walk(ctx.body, function(kind, body)
        if kind == "UpdateStmt" or kind == "DeleteStmt" then fn(kind, body) end
    end)
end

---@type dbrun.migrate.Rule[]
return {
    {
        name = "truncate",
        severity = "error",
        why = "TRUNCATE waits for all users of the table, all new ones wait for it, and the rows are gone",
        safe = "DELETE in batches; or a lint comment if it is intended",
        statement = function(ctx, report)
            if ctx.kind ~= "TruncateStmt" or ctx.direction ~= "up" then return end
            for _, node in ipairs(ctx.body.relations) do
                local name = facts.existing(ctx, node.RangeVar)
                if name then
                    report(("%s is truncated%s"):format(shown(name), ctx.body.behavior == "DROP_CASCADE"
                        and ", with every table that refers to it" or ""), name)
                end
            end
        end,
    },
    {
        name = "unbounded-update",
        severity = "warning",
        rows = "seen",
        why = "every row is written in one transaction: its locks and its dead rows stay until the end",
        safe = "a Lua migration with transaction=false that goes through the keys in batches",
        statement = function(ctx, report)
            changes(ctx, function(kind, body)
                local name = facts.existing(ctx, body.relation)
                if name and is_true(body.whereClause, ctx.model.tables[name]) then
                    report(("every row of %s is %s"):format(shown(name), kind == "UpdateStmt" and "updated"
                        or "deleted"), name)
                end
            end)
        end,
    },
    {
        name = "data-beside-schema",
        severity = "warning",
        why = "the locks of the schema change are held while the rows are written",
        safe = "two migrations: the schema change first, the rows after it",
        statement = function(ctx, report)
            if not ctx.transaction or #ctx.locked == 0 then return end
            local function written(_, body)
                local name = facts.existing(ctx, body.relation)
                if name then
                    report(("%s is written in the transaction of a schema change"):format(shown(name)), name)
                end
            end
            changes(ctx, written)
            if ctx.kind == "MergeStmt" then written(nil, ctx.body) end
        end,
    },
    {
        name = "enum-value-used",
        severity = "error",
        why = "a value that ALTER TYPE ... ADD VALUE adds cannot be used in the same transaction",
        safe = "use it in the next migration",
        statement = function(ctx, report)
            if not ctx.transaction or ctx.kind == "AlterEnumStmt" then return end
            local used
            tree.walk({ [ctx.kind] = ctx.body }, function(kind, node)
                local text = kind == "A_Const" and node.sval and node.sval.sval
                if text and ctx.new_values[text] then used = text end
            end)
            if used then report(("the new enum value '%s' is used in the transaction that adds it"):format(used)) end
        end,
    },
    {
        name = "triggers-off",
        severity = "warning",
        why = "no trigger runs and no foreign key is checked for what this session writes",
        safe = "leave session_replication_role as it is",
        statement = function(ctx, report)
            local body, value = ctx.body, nil
            if ctx.kind == "VariableSetStmt" and body.name == "session_replication_role"
                and body.kind == "VAR_SET_VALUE" then
                value = facts.constant(body.args[1])
            end
            facts.calls(ctx, function(name, call)
                local args = call.args or {}
                if name == "set_config" and facts.text(args[1]) == "session_replication_role" then
                    value = facts.constant(args[2])
                end
            end)
            if value and value:lower() ~= "origin" then
                report "session_replication_role switches triggers and foreign keys off"
            end
        end,
    },
}
