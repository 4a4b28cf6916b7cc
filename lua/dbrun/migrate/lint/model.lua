--- The schema that the migrations have made so far: tables with their columns, indexes, checks and foreign keys, as far
--- as the files show. Rules ask it for the state of a table before the statement.
local calls = require "dbrun.migrate.lint.calls"
local names = require "dbrun.migrate.lint.names"
local tree = require "dbrun.sql.tree"
local types = require "dbrun.migrate.lint.types"

local M = {}

---@class dbrun.migrate.lint.Check
---@field name? string
---@field columns table<string, true> that its expression names
---@field not_null table<string, true> columns that it proves to have no null
---@field only_not_null boolean it has no other condition
---@field validated boolean

---@class dbrun.migrate.lint.Index
---@field name? string
---@field columns string[] "" for an expression
---@field method string
---@field partial boolean its condition is more than IS NOT NULL
---@field not_null table<string, true> columns that its condition requires to be not null

---@class dbrun.migrate.lint.ForeignKey
---@field name string
---@field columns string[]
---@field to string full name of the other table
---@field file integer number of the file that added it
---@field line integer

---@class dbrun.migrate.lint.Column
---@field type? dbrun.migrate.lint.Type
---@field not_null? boolean
---@field file? integer number of the file that added it to the table

---@class dbrun.migrate.lint.Table
---@field columns table<string, dbrun.migrate.lint.Column>
---@field checks dbrun.migrate.lint.Check[]
---@field indexes dbrun.migrate.lint.Index[]
---@field keys dbrun.migrate.lint.ForeignKey[]
---@field partition_by? string[] columns; "" for an expression
---@field hypertable? boolean also for a continuous aggregate
---@field aggregate? boolean a continuous aggregate of TimescaleDB

---@class dbrun.migrate.lint.Model
---@field schema string of names without one
---@field tables table<string, dbrun.migrate.lint.Table> by full name
---@field index_tables table<string, string> full name of an index to that of its table
---@field domains table<string, true> those with constraints, as keys of `made`
---@field made table<string, true> objects that the current section has made: "public.t", "function:public.f"
---@field file integer number of the current file

---@return dbrun.migrate.lint.Model
function M.new()
    return { schema = names.DEFAULT, tables = {}, index_tables = {}, domains = {}, made = {}, file = 0 }
end

local function copy(value)
    if type(value) ~= "table" then return value end
    local new = {}
    for key, child in pairs(value) do new[key] = copy(child) end
    return new
end

---A copy of the model, for a section that must not change it: `down`.
---@param model dbrun.migrate.lint.Model
---@return dbrun.migrate.lint.Model
function M.copy(model) return copy(model) end

local TEMPORARY <const> = "pg_temp"

---The full name of a table in a statement.
---@param model dbrun.migrate.lint.Model
---@param relation table
---@return string
function M.name(model, relation)
    if not relation.schemaname then
        local temporary = names.of(relation, TEMPORARY)
        if relation.relpersistence == "t" or model.tables[temporary] then return temporary end
    end
    return names.of(relation, model.schema)
end

---The full name of a relation in a list of String nodes.
---@param model dbrun.migrate.lint.Model
---@param list table[]
---@return string
function M.listed(model, list)
    if #list == 1 and list[1].String then return M.name(model, { relname = list[1].String.sval }) end
    return names.of_list(list, model.schema)
end

---Whether the current section has added this column.
---@param model dbrun.migrate.lint.Model
---@param name string of the table
---@param column string
---@return boolean
function M.is_added(model, name, column)
    local known = model.tables[name] and model.tables[name].columns[column]
    return known ~= nil and known.file == model.file
end

---The table of a statement; an empty one when no file made it.
---@param model dbrun.migrate.lint.Model
---@param name string
---@return dbrun.migrate.lint.Table
function M.table(model, name)
    local entry = model.tables[name]
    if not entry then
        entry = { columns = {}, checks = {}, indexes = {}, keys = {} }
        model.tables[name] = entry
    end
    return entry
end

---Whether the current section has made this.
---@param model dbrun.migrate.lint.Model
---@param name string
---@return boolean
function M.is_made(model, name)
    return model.made[name] == true or name:find("^" .. TEMPORARY .. "%.") ~= nil
end

-- ---- parts of statements ----

local function strings(list)
    local out = {}
    for i, node in ipairs(list or {}) do out[i] = node.String and node.String.sval or "" end
    return out
end

---The columns that an expression names.
local function columns_in(expression)
    local set = {}
    tree.walk({ expression }, function(kind, node)
        local last = kind == "ColumnRef" and node.fields[#node.fields].String
        if last then set[last.sval] = true end
    end)
    return set
end

---What a condition says about nulls.
---@param expression table?
---@return table<string, true> columns that are not null where it is true
---@return boolean only it says nothing else
local function not_null_columns(expression)
    local set, only = {}, expression ~= nil
    local function look(node)
        local test = node.NullTest
        if node.BoolExpr and node.BoolExpr.boolop == "AND_EXPR" then
            for _, arg in ipairs(node.BoolExpr.args) do look(arg) end
            return
        end
        local fields = test and test.nulltesttype == "IS_NOT_NULL" and test.arg.ColumnRef and test.arg.ColumnRef.fields
        local last = fields and fields[#fields].String
        if last then set[last.sval] = true else only = false end
    end
    if expression then look(expression) end
    return set, only
end

local function add_index(model, name, index)
    local entry = M.table(model, name)
    entry.indexes[#entry.indexes + 1] = index
    if index.name then
        local schema = name:match '^(.-)%.[^.]*$'
        model.index_tables[schema .. "." .. tree.relation { relname = index.name }] = name
    end
end

---The name that the server generates for an index or constraint.
local function default_name(full, columns, ending)
    local parts = { (full:match "[^.]*$":gsub('"', "")) }
    for _, column in ipairs(columns) do parts[#parts + 1] = column == "" and "expr" or column end
    parts[#parts + 1] = ending
    return table.concat(parts, "_")
end

---A constraint of a table; `column` for one that stands at a column.
local function add_constraint(model, name, constraint, line, column)
    local entry, kind = M.table(model, name), constraint.contype
    if kind == "CONSTR_CHECK" then
        local set, only = not_null_columns(constraint.raw_expr)
        entry.checks[#entry.checks + 1] = {
            name = constraint.conname, columns = columns_in(constraint.raw_expr), not_null = set, only_not_null = only,
            validated = not constraint.skip_validation,
        }
    elseif kind == "CONSTR_PRIMARY" or kind == "CONSTR_UNIQUE" then
        local columns = column and { column } or strings(constraint.keys)
        if kind == "CONSTR_PRIMARY" then
            for _, key in ipairs(columns) do
                entry.columns[key] = entry.columns[key] or {}
                entry.columns[key].not_null = true
            end
        end
        if not constraint.indexname then
            add_index(model, name, {
                name = constraint.conname, columns = columns, method = "btree", partial = false, not_null = {},
            })
        end
    elseif kind == "CONSTR_FOREIGN" and constraint.pktable then
        local columns = column and { column } or strings(constraint.fk_attrs)
        entry.keys[#entry.keys + 1] = {
            name = constraint.conname or default_name(name, columns, "fkey"), columns = columns,
            to = M.name(model, constraint.pktable), file = model.file, line = line,
        }
    elseif kind == "CONSTR_NOTNULL" and column then
        entry.columns[column].not_null = true
    end
end

local function add_column(model, name, definition, line)
    M.table(model, name).columns[definition.colname] = {
        type = types.of(definition.typeName, definition.collClause), file = model.file,
    }
    for _, node in ipairs(definition.constraints or {}) do
        if node.Constraint then add_constraint(model, name, node.Constraint, line, definition.colname) end
    end
end

-- ---- statements ----

local function make(model, name)
    model.tables[name] = nil
    model.made[name] = true
    return M.table(model, name)
end

---What a statement makes of TimescaleDB: "hypertable", "continuous", or nil.
local function has_option(options, name)
    for _, node in ipairs(options or {}) do
        local def = node.DefElem
        local space = def and def.defnamespace
        if (space == "tsdb" or space == "timescaledb") and def.defname == name then return true end
    end
end

local function create_table(model, body, line)
    local name = M.name(model, body.relation)
    if body.if_not_exists and model.tables[name] and not model.made[name] then return end
    local entry = make(model, name)
    entry.hypertable = has_option(body.options, "hypertable")
    if body.partspec then
        entry.partition_by = {}
        for i, node in ipairs(body.partspec.partParams or {}) do
            entry.partition_by[i] = node.PartitionElem.name or ""
        end
    end
    for _, node in ipairs(body.tableElts or {}) do
        if node.ColumnDef then add_column(model, name, node.ColumnDef, line)
        elseif node.Constraint then add_constraint(model, name, node.Constraint, line) end
    end
    for _, node in ipairs(body.constraints or {}) do add_constraint(model, name, node.Constraint, line) end
end

local function create_index(model, body)
    local name, columns = M.name(model, body.relation), {}
    for i, node in ipairs(body.indexParams) do columns[i] = node.IndexElem.name or "" end
    local index = body.idxname or default_name(body.relation.relname, columns, "idx")
    local set, only = not_null_columns(body.whereClause)
    add_index(model, name, {
        name = index, columns = columns, method = body.accessMethod or "btree",
        partial = body.whereClause ~= nil and not only, not_null = set,
    })
    if M.is_made(model, name) then
        model.made[name:match '^(.-)%.[^.]*$' .. "." .. tree.relation { relname = index }] = true
    end
end

local function set_not_null(entry, column, value)
    entry.columns[column] = entry.columns[column] or {}
    entry.columns[column].not_null = value
end

local function validate(entry, constraint)
    for _, check in ipairs(entry.checks) do
        if check.name == constraint then check.validated = true end
    end
end

local function remove_where(list, test)
    for i = #list, 1, -1 do
        if test(list[i]) then table.remove(list, i) end
    end
end

local function drop_constraint(entry, constraint)
    local function has_name(one) return one.name == constraint end
    for _, list in ipairs { entry.checks, entry.indexes, entry.keys } do remove_where(list, has_name) end
end

---Dropping a column also drops its indexes and foreign keys.
local function drop_column(entry, column)
    entry.columns[column] = nil
    local function has_column(one)
        for _, part in ipairs(one.columns) do
            if part == column then return true end
        end
        return false
    end
    remove_where(entry.indexes, has_column)
    remove_where(entry.keys, has_column)
end

local function alter_table(model, body, line)
    local name = M.name(model, body.relation)
    local entry = M.table(model, name)
    for _, node in ipairs(body.cmds) do
        local command = node.AlterTableCmd
        local what, def = command.subtype, command.def
        if what == "AT_AddColumn" then
            -- IF NOT EXISTS: the table may exist already.
            if not command.missing_ok or not entry.columns[def.ColumnDef.colname] then
                add_column(model, name, def.ColumnDef, line)
            end
        elseif what == "AT_DropColumn" then drop_column(entry, command.name)
        elseif what == "AT_AlterColumnType" then
            entry.columns[command.name] = entry.columns[command.name] or {}
            entry.columns[command.name].type = types.of(def.ColumnDef.typeName, def.ColumnDef.collClause)
        elseif what == "AT_SetNotNull" then set_not_null(entry, command.name, true)
        elseif what == "AT_DropNotNull" then set_not_null(entry, command.name, false)
        elseif what == "AT_AddConstraint" then add_constraint(model, name, def.Constraint, line)
        elseif what == "AT_ValidateConstraint" then validate(entry, command.name)
        elseif what == "AT_DropConstraint" then drop_constraint(entry, command.name) end
    end
end

local RELATIONS <const> = {
    OBJECT_TABLE = true, OBJECT_VIEW = true, OBJECT_MATVIEW = true, OBJECT_FOREIGN_TABLE = true, OBJECT_INDEX = true,
    OBJECT_SEQUENCE = true,
}

local function move(model, from, to)
    model.tables[from], model.tables[to] = nil, model.tables[from]
    model.made[from], model.made[to] = nil, model.made[from]
    for index, owner in pairs(model.index_tables) do
        if owner == from then model.index_tables[index] = to end
    end
end

---A key of `made` for an object that is not a relation: "function:public.f".
---@param model dbrun.migrate.lint.Model
---@param what "function"|"type"|"schema"
---@param list table[] the name
---@return string
function M.key(model, what, list)
    return what .. ":" .. names.of_list(list, model.schema)
end

local function rename(model, body)
    if body.renameType == "OBJECT_COLUMN" and body.relation then
        local entry = M.table(model, M.name(model, body.relation))
        entry.columns[body.subname], entry.columns[body.newname] = nil, entry.columns[body.subname]
        return
    end
    local key = body.object and names.KEYED[body.renameType]
    if key then
        local list = names.list_of(body.object)
        local to = { relname = body.newname, schemaname = #list > 1 and list[#list - 1].String.sval or nil }
        local from = M.key(model, key, list)
        model.made[from], model.made[key .. ":" .. names.of(to, model.schema)] = nil, model.made[from]
        return
    end
    if not RELATIONS[body.renameType] or not body.relation then return end
    local from = M.name(model, body.relation)
    local to = names.of({ relname = body.newname, schemaname = body.relation.schemaname }, model.schema)
    move(model, from, to)
    if model.index_tables[from] then
        model.index_tables[from], model.index_tables[to] = nil, model.index_tables[from]
    end
end

local function drop(model, body)
    for _, object in ipairs(RELATIONS[body.removeType] and body.objects or {}) do
        local name = M.listed(model, object.List.items)
        local owner = model.index_tables[name]
        model.tables[name], model.index_tables[name] = nil, nil
        if owner then drop_constraint(M.table(model, owner), object.List.items[#object.List.items].String.sval) end
    end
end

local function makes(what, field)
    return function(model, body) model.made[M.key(model, what, body[field])] = true end
end

local function create_domain(model, body)
    local key = M.key(model, "type", body.domainname)
    model.made[key], model.domains[key] = true, nil
    for _, node in ipairs(body.constraints or {}) do
        local kind = node.Constraint and node.Constraint.contype
        if kind == "CONSTR_CHECK" or kind == "CONSTR_NOTNULL" then model.domains[key] = true end
    end
end

---Only SQL's `select into` makes a table, not that of PL/pgSQL.
local function select_into(model, body, _, inner)
    if body.intoClause and not inner then make(model, M.name(model, body.intoClause.rel)) end
end

---Calls of functions that change what later statements mean.
local function learn_calls(model, body)
    tree.walk(body, function(kind, node)
        if kind ~= "FuncCall" then return end
        local called = node.funcname[#node.funcname].String.sval
        local first = calls.text(calls.argument(node, 1, "relation"))
        if called == "create_hypertable" and first then
            local name = names.of_text(first, model.schema)
            if name then M.table(model, name).hypertable = true end
        elseif called == "set_config" and first == "search_path" then
            local path = calls.text(node.args[2])
            if path then model.schema = path:match '^%s*"?([^",%s]+)' or names.DEFAULT end
        end
    end)
end

local function set(model, body)
    if body.name ~= "search_path" then return end
    local first = body.kind == "VAR_SET_VALUE" and calls.text(body.args[1])
    if first == '"$user"' or first == "$user" then first = calls.text(body.args[2]) end
    model.schema = first and first ~= "" and first:match '^%s*"?([^",%s]+)' or names.DEFAULT
end

local learn

local function create_schema(model, body, line)
    model.made["schema:" .. (body.schemaname or "")] = true
    local before = model.schema
    model.schema = body.schemaname or before
    for _, node in ipairs(body.schemaElts or {}) do
        local kind, element = next(node)
        learn(model, kind, element, line)
    end
    model.schema = before
end

---@type table<string, fun(model: dbrun.migrate.lint.Model, body: table, line: integer, inner: boolean?)>
local KINDS <const> = {
    CreateStmt = create_table,
    CreateForeignTableStmt = function(model, body, line) create_table(model, body.base, line) end,
    CreateTableAsStmt = function(model, body)
        local entry = make(model, M.name(model, body.into.rel))
        -- Its rows and indexes are those of a hypertable below it.
        entry.aggregate = has_option(body.into.options, "continuous")
        entry.hypertable = entry.aggregate
    end,
    SelectStmt = select_into,
    ViewStmt = function(model, body) model.made[M.name(model, body.view)] = true end,
    CreateSeqStmt = function(model, body) model.made[M.name(model, body.sequence)] = true end,
    IndexStmt = create_index,
    AlterTableStmt = alter_table,
    RenameStmt = rename,
    AlterObjectSchemaStmt = function(model, body)
        if not body.relation then return end
        local to = names.of { relname = body.relation.relname, schemaname = body.newschema }
        move(model, M.name(model, body.relation), to)
    end,
    DropStmt = drop,
    CreateFunctionStmt = makes("function", "funcname"),
    CreateEnumStmt = makes("type", "typeName"),
    CreateRangeStmt = makes("type", "typeName"),
    CreateDomainStmt = create_domain,
    AlterDomainStmt = function(model, body)
        if body.subtype == "C" or body.subtype == "O" then model.domains[M.key(model, "type", body.typeName)] = true end
    end,
    CompositeTypeStmt = function(model, body)
        model.made["type:" .. names.of(body.typevar, model.schema)] = true
    end,
    DefineStmt = function(model, body)
        local what = body.kind == "OBJECT_AGGREGATE" and "function" or body.kind == "OBJECT_TYPE" and "type"
        if what then model.made[M.key(model, what, body.defnames)] = true end
    end,
    VariableSetStmt = set,
    CreateSchemaStmt = create_schema,
}

learn = function(model, kind, body, line, inner)
    if KINDS[kind] then KINDS[kind](model, body, line, inner) end
    if kind == "SelectStmt" then learn_calls(model, body) end
end

---Records what a statement makes and changes.
---@param model dbrun.migrate.lint.Model
---@param statement { kind?: string, body: table|string, sql: string, line: integer, inner?: boolean }
function M.learn(model, statement)
    if statement.kind then
        learn(model, statement.kind, statement.body, statement.line, statement.inner)
    else
        local name = names.made_by_words(statement.sql, model.schema)
        if name then make(model, name) end
    end
end

return M
