--- Facts about a statement, for the rules.
local calls = require "dbrun.migrate.lint.calls"
local locks = require "dbrun.migrate.show.locks"
local model = require "dbrun.migrate.lint.model"
local names = require "dbrun.migrate.lint.names"
local tree = require "dbrun.sql.tree"

local M = {}

---The full name of a statement's table, if it existed before this section.
---@param ctx dbrun.migrate.LintContext
---@param relation table?
---@return string?
function M.existing(ctx, relation)
    local name = relation and model.name(ctx.model, relation)
    return name and not model.is_made(ctx.model, name) and name or nil
end

M.shown, M.text, M.constant, M.argument, M.flag = names.shown, calls.text, calls.constant, calls.argument, calls.flag

---@param ctx dbrun.migrate.LintContext
---@param name string
---@return boolean
function M.is_hypertable(ctx, name)
    local entry = ctx.model.tables[name]
    return entry ~= nil and entry.hypertable == true
end

---Whether this is the parent of partitions.
---@param ctx dbrun.migrate.LintContext
---@param relation table?
---@return boolean
function M.is_partitioned(ctx, relation)
    local entry = relation and ctx.model.tables[model.name(ctx.model, relation)]
    return entry ~= nil and entry.partition_by ~= nil
end

---Statements about views, sequences and the like lock objects without rows.
local WITHOUT_ROWS <const> = { OBJECT_VIEW = true, OBJECT_SEQUENCE = true }

---The tables on which a statement takes a lock that blocks other sessions, without those that it only refers to.
---@param ctx dbrun.migrate.LintContext
---@return string[] full names
function M.strongly_locked(ctx)
    local list, body = {}, ctx.body
    if WITHOUT_ROWS[body.removeType or body.renameType or body.objtype or body.objectType] then return list end
    for _, lock in ipairs(locks.of_tree(ctx.kind, body)) do
        local blocks = locks.BLOCKS[lock.mode]
        if blocks ~= "nothing" and lock.mode ~= "SHARE UPDATE EXCLUSIVE" and not lock.reference and lock.relation then
            local name = M.existing(ctx, lock.relation)
            name = name and (ctx.model.index_tables[name] or name)
            if name and not model.is_made(ctx.model, name) then list[#list + 1] = name end
        end
    end
    return list
end

---@class dbrun.migrate.lint.Command a part of ALTER TABLE on an existing table
---@field kind string "AT_AddColumn", ...
---@field name? string of a column or constraint
---@field column? table the definition, of ADD COLUMN
---@field constraint? table of ADD CONSTRAINT
---@field def table
---@field cascade boolean

---A rule that looks at each part of ALTER TABLE on an existing table.
---@param fn fun(command: dbrun.migrate.lint.Command, name: string, ctx: dbrun.migrate.LintContext, report: fun(...))
function M.alter(fn)
    return function(ctx, report)
        if ctx.kind ~= "AlterTableStmt" then return end
        local name = M.existing(ctx, ctx.body.relation)
        for _, node in ipairs(name and ctx.body.cmds or {}) do
            local command = node.AlterTableCmd
            local def = command.def or {}
            fn({
                kind = command.subtype, name = command.name, def = def,
                column = command.subtype == "AT_AddColumn" and def.ColumnDef or nil,
                constraint = command.subtype == "AT_AddConstraint" and def.Constraint or nil,
                cascade = command.behavior == "DROP_CASCADE",
            }, name, ctx, report)
        end
    end
end

---@param column table a ColumnDef
---@param contype string
---@return table? constraint
function M.constraint_of(column, contype)
    for _, node in ipairs(column.constraints or {}) do
        if node.Constraint and node.Constraint.contype == contype then return node.Constraint end
    end
end

local SERIAL <const> = { serial = true, bigserial = true, smallserial = true, serial2 = true, serial4 = true,
    serial8 = true }

---The name of a column's type, without its schema.
---@param column table a ColumnDef
---@return string?
function M.type_name(column)
    local list = column.typeName and column.typeName.names
    return list and list[#list].String and list[#list].String.sval
end

---@param column table
---@return boolean
function M.is_serial(column)
    return SERIAL[M.type_name(column)] == true
end

---Every column that a statement defines, and its table.
---@param ctx dbrun.migrate.LintContext
---@return fun(): table?, string?
function M.columns(ctx)
    local list, name = {}, nil
    local body = ctx.kind == "CreateForeignTableStmt" and ctx.body.base or ctx.body
    if body.relation and (ctx.kind == "CreateStmt" or ctx.kind == "CreateForeignTableStmt") then
        name = model.name(ctx.model, body.relation)
        for _, node in ipairs(body.tableElts or {}) do list[#list + 1] = node.ColumnDef end
    elseif ctx.kind == "AlterTableStmt" then
        name = model.name(ctx.model, body.relation)
        for _, node in ipairs(body.cmds) do
            local command = node.AlterTableCmd
            local column = command.def and command.def.ColumnDef
            if column and command.subtype == "AT_AlterColumnType" then column.colname = command.name end
            list[#list + 1] = column
        end
    end
    local i = 0
    return function()
        i = i + 1
        return list[i], name
    end
end

---Calls fn(name, call) for each call of a function or procedure.
---@param ctx dbrun.migrate.LintContext
---@param fn fun(name: string, call: table)
function M.calls(ctx, fn)
    local function each(kind, node)
        if kind ~= "FuncCall" and kind ~= "funccall" then return end
        local parts = node.funcname
        local last = parts and parts[#parts].String
        if last then fn(last.sval, node) end
    end
    if ctx.kind == "CallStmt" then each("funccall", ctx.body.funccall) end
    if ctx.kind == "SelectStmt" or ctx.kind == "CallStmt" then tree.walk(ctx.body, each) end
end

return M
