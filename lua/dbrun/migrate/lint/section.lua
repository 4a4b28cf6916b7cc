--- Lint of one section of a file: its statements, one after the other, through all rules.
local blocks = require "dbrun.migrate.read.blocks"
local core = require "dbrun.core"
local facts = require "dbrun.migrate.lint.facts"
local inner = require "dbrun.migrate.lint.inner"
local model = require "dbrun.migrate.lint.model"
local rules = require "dbrun.migrate.lint.rules"
local tree = require "dbrun.sql.tree"

local M = {}

---@class dbrun.migrate.LintContext the facts for a rule about a statement
---@field kind? string of the node; nil when the statement could not be read
---@field body table
---@field sql string
---@field line integer
---@field inner? boolean it stands within DO
---@field direction "up"|"down"
---@field transaction boolean it runs in a transaction with others
---@field block boolean the transaction is the migration's, or of BEGIN ... COMMIT, not only of a DO
---@field model dbrun.migrate.lint.Model before this statement
---@field validated table<string, table<string, true>> constraints that the section has validated, by table
---@field new_values table<string, true> values of enums that the transaction has added
---@field refused boolean the section is refused because of it
---@field emptied table<string, "truncated"|"deleted"> tables without rows, by full name
---@field locked string[] older tables that the transaction holds under strong locks; also by name
---@field reported table<string, true> rules that have found something in this statement
---@field makes_later fun(key: string): boolean whether a later statement makes this name

---@class dbrun.migrate.lint.Raw a finding about one place
---@field rule dbrun.migrate.Rule
---@field line integer
---@field message string
---@field table? string
---@field safe? string
---@field direction "up"|"down"

---The rules that the comments of a text switch off.
---@param text string
---@param set? table<string, true> gets them
---@return table<string, true>
function M.allowed(text, set)
    set = set or {}
    for behind, kind, at in core.sql.scan, text, 1 do
        local comment = kind == "comment" and text:sub(at, behind - 1) or ""
        for names in comment:gmatch "%-%-%s*lint:%s*allow%s+([^\n]*)" do
            for name in names:gmatch "[%w-]+" do set[name] = true end
        end
    end
    return set
end

---The position after a comment on the last line of a statement: the comment belongs to that statement.
local function behind_comment(text, stop)
    for behind, kind, at in core.sql.scan, text, stop do
        if kind == "comment" then return behind end
        local piece = text:sub(at, behind - 1)
        if kind ~= "blank" and piece ~= ";" or piece:find("\n", 1, true) then return stop end
    end
    return stop
end

---The state of a transaction.
local function new_transaction()
    return { new_values = {}, locked = {}, emptied = {} }
end

---The transaction of each statement that shares one with others.
---@param read dbrun.migrate.Blocks
---@return table<dbrun.migrate.Statement, table>
local function transactions_of(read)
    local by_statement, whole = {}, not read.steps and new_transaction() or nil
    for _, statement in ipairs(whole and read.statements or {}) do by_statement[statement] = whole end
    for _, step in ipairs(read.steps or {}) do
        local own = (step.kind == "block" or step.kind == "part") and new_transaction() or nil
        for _, statement in ipairs(own and step.statements or {}) do by_statement[statement] = own end
    end
    return by_statement
end

---Whether this is the statement for which the section is refused, or the rest after a missing end. Such statements are
---not checked.
local function is_refused(read, statement)
    if not read.refused then return false end
    return read.refused.line == statement.line or statement == read.statements[#read.statements]
end

---The statements of a section, each with its allowed rules and its transaction; statements within DO follow the DO.
local function statements_of(read)
    local list, behind, transactions = {}, 1, transactions_of(read)
    for _, statement in ipairs(read.statements) do
        local stop = behind_comment(read.sql, statement.first + #statement.sql)
        local kind, body = tree.of(statement.tree_sql or statement.sql)
        local allowed = M.allowed(read.sql:sub(behind, stop - 1))
        local all, text = inner.all { kind = kind, body = body, sql = statement.sql, line = statement.line }
        if text then M.allowed(text, allowed) end
        local block <const> = transactions[statement]
        local held = block or new_transaction()
        for _, one in ipairs(all) do
            -- COMMIT within a DO that has no outer transaction.
            if one.inner and one.kind == "TransactionStmt" and not block then held = new_transaction() end
            one.allowed, one.held, one.block = allowed, held, block ~= nil
            one.refused = is_refused(read, statement)
            list[#list + 1] = one
        end
        behind = stop
    end
    return list
end

---For each name that the statements make, the number of the last statement that makes it.
local function last_makers(list, schema)
    local last = {}
    for i, statement in ipairs(list) do
        local scratch = model.new()
        scratch.schema = schema
        model.learn(scratch, statement)
        for key in pairs(scratch.made) do last[key] = i end
    end
    return last
end

---A function that tells whether a statement after number `i` makes a name.
local function later(list, i, schema)
    return function(key)
        list.makers = list.makers or last_makers(list, schema)
        return (list.makers[key] or 0) > i
    end
end

---A table that the transaction has locked stays locked under its new name.
local function remember_name(ctx)
    local body, to = ctx.body, nil
    if not body.relation then return end
    if ctx.kind == "RenameStmt" and body.newname and not body.subname then
        to = { relname = body.newname, schemaname = body.relation.schemaname }
    elseif ctx.kind == "AlterObjectSchemaStmt" then
        to = { relname = body.relation.relname, schemaname = body.newschema }
    end
    if to and ctx.locked[model.name(ctx.model, body.relation)] then ctx.locked[model.name(ctx.model, to)] = true end
end

---Records what later rules of the section need.
local function remember(ctx)
    local body = ctx.body
    if ctx.kind == "AlterEnumStmt" and body.newVal and not body.oldVal then ctx.new_values[body.newVal] = true end
    if ctx.kind == "AlterTableStmt" then
        local name = model.name(ctx.model, body.relation)
        for _, node in ipairs(body.cmds) do
            if node.AlterTableCmd.subtype == "AT_ValidateConstraint" then
                ctx.validated[name] = ctx.validated[name] or {}
                ctx.validated[name][node.AlterTableCmd.name] = true
                model.table(ctx.model, name)
            end
        end
    end
    if ctx.transaction and ctx.kind == "TruncateStmt" then
        for _, node in ipairs(body.relations) do ctx.emptied[model.name(ctx.model, node.RangeVar)] = "truncated" end
    elseif ctx.transaction and ctx.kind == "DeleteStmt" and not body.whereClause and not ctx.inner then
        local name = model.name(ctx.model, body.relation)
        ctx.emptied[name] = ctx.emptied[name] or "deleted"
    elseif ctx.kind == "InsertStmt" or ctx.kind == "CopyStmt" and body.relation then
        ctx.emptied[model.name(ctx.model, body.relation)] = nil
    end
    for _, name in ipairs(ctx.kind and facts.strongly_locked(ctx) or {}) do
        if not ctx.locked[name] then
            ctx.locked[name], ctx.locked[#ctx.locked + 1] = true, name
        end
    end
    if ctx.kind then remember_name(ctx) end
end

local by_name <const> = {}
for _, rule in ipairs(rules) do by_name[rule.name] = rule end

local function add_to(out, ctx, rule)
    return function(message, name, safe)
        local emptied = rule.rows and name and ctx.emptied[name]
        if emptied == "truncated" or emptied == "deleted" and rule.rows == "seen" then return end
        ctx.reported[rule.name] = true
        out[#out + 1] = {
            rule = rule, line = ctx.line, message = message, table = name and facts.shown(name), safe = safe,
            direction = ctx.direction,
        }
    end
end

local function check_statement(out, ctx, allowed, opts)
    if not ctx.kind then
        if not allowed["not-looked-at"] and not ctx.refused then
            local rule = by_name["not-looked-at"]
            add_to(out, ctx, rule)("the statement cannot be read: " .. tostring(ctx.body))
        end
        return
    end
    for _, rule in ipairs(rules) do
        if rule.statement and not allowed[rule.name] and (opts.style or not rule.style) then
            rule.statement(ctx, add_to(out, ctx, rule))
        end
    end
end

---Index methods that find equal values.
local COMPARES <const> = { btree = true, hash = true }

---Whether an index of the table begins with these columns, in any order.
local function has_index(entry, columns)
    local wanted = {}
    for _, column in ipairs(columns) do wanted[column] = true end
    for _, index in ipairs(entry.indexes) do
        local first = {}
        for i = 1, #columns do first[index.columns[i] or ""] = true end
        local fits = not index.partial and #columns > 0 and COMPARES[index.method]
        for _, column in ipairs(columns) do fits = fits and first[column] == true end
        for column in pairs(index.not_null) do fits = fits and wanted[column] == true end
        if fits then return true end
    end
    return false
end

---Foreign keys of this file whose columns have no index at the end of the file.
local function check_keys(out, known, allowed_at)
    local rule, found = by_name["foreign-key-without-index"], {}
    for name, entry in pairs(known.tables) do
        for _, key in ipairs(entry.keys) do
            local allowed = allowed_at[key.line] or {}
            if key.file == known.file and not allowed[rule.name] and not has_index(entry, key.columns) then
                found[#found + 1] = {
                    rule = rule, line = key.line, table = facts.shown(name), direction = "up",
                    message = ("the foreign key (%s) of %s has no index"):format(table.concat(key.columns, ", "),
                        facts.shown(name)),
                }
            end
        end
    end
    table.sort(found, function(a, b)
        if a.line ~= b.line then return a.line < b.line end
        return a.message < b.message
    end)
    table.move(found, 1, #found, #out + 1, out)
end

---Checks a section, and adds what it makes to the model.
---@param out dbrun.migrate.lint.Raw[]? nil: only the model is updated
---@param section dbrun.migrate.Section
---@param direction "up"|"down"
---@param known dbrun.migrate.lint.Model
---@param opts { style?: boolean }
---@return integer count of statements
function M.check(out, section, direction, known, opts)
    local read = blocks.of(section, direction)
    local list, count = statements_of(read), #read.statements
    known.made, known.schema, known.file = {}, "public", known.file + 1
    local shared = { validated = {}, allowed_at = {} }
    for i, statement in ipairs(list) do
        local ctx = {
            kind = statement.kind, body = statement.body, sql = statement.sql, line = statement.line,
            inner = statement.inner, direction = direction,
            transaction = statement.block or statement.inner == true, block = statement.block, model = known,
            validated = shared.validated, new_values = statement.held.new_values, locked = statement.held.locked,
            emptied = statement.held.emptied, refused = statement.refused, reported = {},
            makes_later = later(list, i, known.schema),
        }
        shared.allowed_at[statement.line] = statement.allowed
        if out then check_statement(out, ctx, statement.allowed, opts) end
        remember(ctx)
        model.learn(known, statement)
    end
    if out and read.refused then
        out[#out + 1] = {
            rule = by_name.refused, line = read.refused.line, direction = direction, message = read.refused.message,
            safe = read.refused.hint,
        }
    end
    if out and direction == "up" then check_keys(out, known, shared.allowed_at) end
    return count
end

return M
