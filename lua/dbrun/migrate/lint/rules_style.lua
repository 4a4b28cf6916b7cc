--- Rules of style: types of columns. Those with `style = true` are off unless they are asked for.
local facts = require "dbrun.migrate.lint.facts"
local tree = require "dbrun.sql.tree"

local shown <const> = facts.shown

---A rule that looks at the type of each column that a statement defines.
---@param fn fun(kind: string, column: table): string? the end of the message "t.c is ..."
local function of_columns(fn)
    return function(ctx, report)
        for column, name in facts.columns(ctx) do
            local kind = facts.type_name(column)
            local what = kind and fn(kind, column)
            if what then report(("%s.%s %s"):format(shown(name), column.colname or "?", what), name) end
        end
    end
end

local json_columns <const> = of_columns(function(kind) return kind == "json" and "is json" or nil end)

local SMALL <const> = { int4 = "integer", int2 = "smallint", serial = "serial", serial4 = "serial",
    smallserial = "smallserial", serial2 = "smallserial" }

---@type dbrun.migrate.Rule[]
return {
    {
        name = "json-column",
        severity = "note",
        why = "json keeps the text: no equality, so DISTINCT, GROUP BY and UNION fail, and every access parses it anew",
        safe = "jsonb, unless blanks and the order of keys must stay",
        statement = function(ctx, report)
            json_columns(ctx, report)
            local body = ctx.body
            if ctx.kind == "CreateDomainStmt" and facts.type_name(body) == "json" then
                report(("the domain %s is json"):format(tree.name(body.domainname)))
            elseif ctx.kind == "CompositeTypeStmt" then
                for _, node in ipairs(body.coldeflist or {}) do
                    if facts.type_name(node.ColumnDef) == "json" then
                        report(("%s.%s is json"):format(tree.relation(body.typevar), node.ColumnDef.colname))
                    end
                end
            end
        end,
    },
    {
        name = "prefer-text",
        severity = "note",
        style = true,
        why = "a limit in the type is a schema change when it has to grow, and char(n) is filled with blanks",
        safe = "text, with a CHECK on its length where there is a limit",
        statement = of_columns(function(kind, column)
            if kind == "bpchar" then return "is char(n)" end
            return kind == "varchar" and column.typeName.typmods and "is varchar(n)" or nil
        end),
    },
    {
        name = "prefer-timestamptz",
        severity = "note",
        style = true,
        why = "a time without a zone means another moment for each session's TimeZone",
        safe = "timestamptz",
        statement = of_columns(function(kind)
            return kind == "timestamp" and "is a timestamp without a zone" or nil
        end),
    },
    {
        name = "prefer-bigint",
        severity = "note",
        style = true,
        why = "the numbers of a key of four bytes end at 2,147,483,647; to widen it later writes the table anew",
        safe = "bigint",
        statement = of_columns(function(kind, column)
            local key = SMALL[kind] and (kind:find "serial" or facts.constraint_of(column, "CONSTR_PRIMARY")
                or facts.constraint_of(column, "CONSTR_IDENTITY"))
            return key and "is a key of the type " .. SMALL[kind] or nil
        end),
    },
    {
        name = "prefer-identity",
        severity = "note",
        style = true,
        why = "a serial column's sequence has rights and an owner of its own, and any value can be written",
        safe = "bigint generated always as identity",
        statement = of_columns(function(_, column) return facts.is_serial(column) and "is serial" or nil end),
    },
}
