--- Rules about names that programs use: renamed, moved, dropped.
local core = require "dbrun.core"
local facts = require "dbrun.migrate.lint.facts"
local model = require "dbrun.migrate.lint.model"
local names = require "dbrun.migrate.lint.names"
local tree = require "dbrun.sql.tree"

local shown <const> = facts.shown

---The kinds of objects that programs use by name and that RENAME, SET SCHEMA and DROP can change, in words.
local WORDS <const> = {
    OBJECT_TABLE = "table", OBJECT_VIEW = "view", OBJECT_MATVIEW = "materialized view", OBJECT_SEQUENCE = "sequence",
    OBJECT_FOREIGN_TABLE = "foreign table", OBJECT_TYPE = "type", OBJECT_DOMAIN = "domain",
    OBJECT_FUNCTION = "function", OBJECT_PROCEDURE = "procedure", OBJECT_ROUTINE = "routine",
    OBJECT_AGGREGATE = "aggregate",
    OBJECT_SCHEMA = "schema", OBJECT_EXTENSION = "extension", OBJECT_OPERATOR = "operator",
    OBJECT_COLLATION = "collation", OBJECT_ROLE = "role", OBJECT_DATABASE = "database", OBJECT_COLUMN = "column",
    OBJECT_ATTRIBUTE = "attribute",
}

---The full name of an object, and its key in `made`.
local function named(ctx, kind, object)
    local list = object and names.list_of(object)
    if not list then return end
    if kind == "OBJECT_SCHEMA" or kind == "OBJECT_EXTENSION" then
        local name = tree.name(list)
        return name, "schema:" .. name
    end
    local key = names.KEYED[kind]
    if not key then return model.listed(ctx.model, list), model.listed(ctx.model, list) end
    return names.of_list(list, ctx.model.schema), model.key(ctx.model, key, list)
end

---The object that a statement renames or moves: its name if it is older than the section.
local function renamed(ctx, kind)
    local body = ctx.body
    if body.relation then return facts.existing(ctx, body.relation) end
    if body.object then
        local name, key = named(ctx, kind, body.object)
        return name and not model.is_made(ctx.model, key) and name
    end
    return body.subname
end

local function rename_of_value(ctx, report)
    if ctx.body.oldVal and not ctx.model.made[model.key(ctx.model, "type", ctx.body.typeName)] then
        report(("the value '%s' of %s is renamed"):format(ctx.body.oldVal, tree.name(ctx.body.typeName)),
            tree.name(ctx.body.typeName))
    end
end

---Whether a later statement of the transaction makes this again.
local function is_made_again(ctx, key)
    return ctx.transaction and ctx.makes_later(key)
end

---Calls fn(name, key) for each object that the section has not made and does not make again.
local function dropped(ctx, fn)
    for _, object in ipairs(ctx.body.objects) do
        local name, key = named(ctx, ctx.body.removeType, object)
        if name and not model.is_made(ctx.model, key) and not is_made_again(ctx, key) then fn(name) end
    end
end

local ROWS <const> = { OBJECT_TABLE = true }
local LONGEST_NAME <const> = 63

---@type dbrun.migrate.Rule[]
return {
    {
        name = "rename",
        severity = "warning",
        why = "programs that run now still use the old name",
        safe = "a new column or table beside the old one until no program uses that; or a view with the old name",
        statement = function(ctx, report)
            if ctx.direction == "down" then return end
            if ctx.kind == "AlterEnumStmt" then return rename_of_value(ctx, report) end
            local kind = ctx.kind == "RenameStmt" and ctx.body.renameType
            if not kind or not WORDS[kind] then return end
            local name = renamed(ctx, kind)
            if not name or kind == "OBJECT_COLUMN" and model.is_added(ctx.model, name, ctx.body.subname) then return end
            local part = (kind == "OBJECT_COLUMN" or kind == "OBJECT_ATTRIBUTE") and "." .. ctx.body.subname or ""
            report(("the %s %s%s is renamed"):format(WORDS[kind], shown(name), part), name)
        end,
    },
    {
        name = "set-schema",
        severity = "warning",
        why = "programs that run now look for it in the old schema",
        safe = "a view in the old schema; or the new schema in the search_path of every role first",
        statement = function(ctx, report)
            local kind = ctx.kind == "AlterObjectSchemaStmt" and ctx.direction == "up" and ctx.body.objectType
            local name = kind and WORDS[kind] and renamed(ctx, kind)
            if name then
                report(("the %s %s goes to the schema %s"):format(WORDS[kind], shown(name), ctx.body.newschema), name)
            end
        end,
    },
    {
        name = "drop-table",
        severity = "error",
        why = "programs that run now may still use it, and what stood in it is gone",
        safe = "first a release that does not use it any more; then drop it, with a lint comment",
        statement = function(ctx, report)
            if ctx.kind == "DropOwnedStmt" and ctx.direction == "up" then
                report "all that a role owns is dropped"
            elseif ctx.kind == "DropStmt" and ctx.direction == "up" and ROWS[ctx.body.removeType] then
                for _, object in ipairs(ctx.body.objects) do
                    local name = model.listed(ctx.model, object.List.items)
                    if not model.is_made(ctx.model, name) then report(("%s is dropped"):format(shown(name)), name) end
                end
            end
        end,
    },
    {
        name = "drop-object",
        severity = "warning",
        why = "programs that run now may still use it",
        safe = "first a release that does not use it any more; CREATE OR REPLACE instead of DROP and CREATE",
        statement = function(ctx, report)
            local kind = ctx.kind == "DropStmt" and ctx.direction == "up" and ctx.body.removeType
            -- For CASCADE the rule below is more specific.
            if not kind or not WORDS[kind] or ROWS[kind] or ctx.body.behavior == "DROP_CASCADE" then return end
            dropped(ctx, function(name) report(("the %s %s is dropped"):format(WORDS[kind], shown(name)), name) end)
        end,
    },
    {
        name = "drop-cascade",
        severity = "error",
        why = "CASCADE drops all that depends on it, without naming it",
        safe = "name what is to be dropped",
        statement = function(ctx, report)
            local drop = ctx.direction == "up" and (ctx.kind == "DropStmt" or ctx.kind == "DropOwnedStmt")
            if not drop or ctx.body.behavior ~= "DROP_CASCADE" then return end
            if ctx.kind == "DropOwnedStmt" then return report "something is dropped with CASCADE" end
            for _, object in ipairs(ctx.body.objects) do
                local name, key = named(ctx, ctx.body.removeType, object)
                if not name or not model.is_made(ctx.model, key) then
                    report(("%s is dropped with CASCADE"):format(name and shown(name) or "something"), name)
                end
            end
        end,
    },
    {
        name = "long-name",
        severity = "warning",
        why = "the server cuts names after 63 bytes: two long names become one, and programs find another name",
        safe = "a shorter name",
        statement = function(ctx, report)
            for behind, kind, at in core.sql.scan, ctx.sql, 1 do
                local text = (kind == "word" or kind == "quoted") and ctx.sql:sub(at, behind - 1)
                if text and kind == "quoted" then text = text:sub(2, -2):gsub('""', '"') end
                if text and #text > LONGEST_NAME then
                    report(("the name %s has %d bytes"):format(text, #text), text)
                end
            end
        end,
    },
}
