--- Lint: statements of migrations that are dangerous on a database in use, found in the parse tree.
---
--- A rule checks one statement. `-- lint: allow RULE` between the previous statement and the end of this one switches a
--- rule off for it. Most rules ignore tables made in the same file, which are empty and not in use.
local blocks = require "dbrun.migrate.read.blocks"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local rules = require "dbrun.migrate.show.lint_rules"
local tree = require "dbrun.migrate.read.tree"

local M = {}

---@type dbrun.migrate.Rule[]
M.RULES = rules.RULES

---@class dbrun.migrate.LintFinding
---@field path string
---@field line integer
---@field rule string
---@field message string
---@field why string
---@field safe string what to do instead

---@class dbrun.migrate.LintContext the facts for a rule about a statement
---@field kind? string of the node; nil when the statement could not be read
---@field body table
---@field sql string
---@field direction "up"|"down"
---@field transaction boolean
---@field created table<string, true> tables that the file has made before, and their columns as "table.column"
---@field checked table<string, true> columns ("table.column") with a validated IS NOT NULL check
---@field mixed boolean this section has schema changes too

local by_name = {}
for _, rule in ipairs(M.RULES) do by_name[rule.name] = rule end

---The rules that the comments of a text switch off.
local function allowed_in(text)
    local set = {}
    for behind, kind, at in core.sql.scan, text, 1 do
        local comment = kind == "comment" and text:sub(at, behind - 1) or ""
        for names in comment:gmatch "%-%-%s*lint:%s*allow%s+([^\n]*)" do
            for name in names:gmatch "[%w-]+" do set[name] = true end
        end
    end
    return set
end

---Records what a statement makes, for those after it.
local function learn(ctx)
    local body = ctx.body
    if ctx.kind == "CreateStmt" then ctx.created[tree.relation(body.relation)] = true end
    if ctx.kind == "CreateTableAsStmt" then ctx.created[tree.relation(body.into.rel)] = true end
    if ctx.kind == "AlterTableStmt" then rules.learn_checks(ctx) end
    if ctx.kind == "AlterEnumStmt" and body.newVal then ctx.new_values[body.newVal] = true end
end

local function finding(path, line, rule, message)
    return { path = path, line = line, rule = rule.name, message = message, why = rule.why, safe = rule.safe }
end

local function check_statement(out, path, ctx, line, allowed)
    for _, rule in ipairs(M.RULES) do
        local message = rule.statement and not allowed[rule.name] and ctx.kind and rule.statement(ctx)
        if message then out[#out + 1] = finding(path, line, rule, message) end
    end
    if not ctx.kind and not allowed["not-looked-at"] then
        out[#out + 1] = finding(path, line, by_name["not-looked-at"], "the parser does not know this statement: "
            .. tostring(ctx.body))
    end
end

local SCHEMA <const> = {
    AlterTableStmt = true, CreateStmt = true, DropStmt = true, IndexStmt = true, RenameStmt = true,
}

---One section of a file.
local function check_section(out, file, direction, section)
    local read = blocks.of(section, direction)
    local statements = read.statements
    if read.refused then
        out[#out + 1] = finding(file.path, read.refused.line, by_name["refused"], read.refused.message)
    end
    local created, checked, new_values, list, mixed = {}, {}, {}, {}, false
    for i, statement in ipairs(statements) do
        local kind, body = tree.of(statement.sql)
        list[i] = { kind = kind, body = body }
        mixed = mixed or SCHEMA[kind] and kind ~= "CreateStmt" or false
    end
    local behind = 1
    for i, statement in ipairs(statements) do
        local stop = statement.first + #statement.sql
        local ctx = {
            kind = list[i].kind, body = list[i].body, sql = statement.sql, direction = direction, mixed = mixed,
            transaction = section.transaction, created = created, checked = checked, new_values = new_values,
            count = #statements,
        }
        check_statement(out, file.path, ctx, statement.line, allowed_in(section.sql:sub(behind, stop)))
        if ctx.kind then learn(ctx) end
        behind = stop
    end
    return #statements
end

local function check_file(out, file)
    local parsed = files.read(file)
    if file.kind == "lua" then return end
    local ups = check_section(out, file, "up", parsed.up)
    local downs = check_section(out, file, "down", parsed.down)
    local rule = by_name["missing-down"]
    if ups > 0 and downs == 0 and not allowed_in(parsed.up.sql .. parsed.down.sql)[rule.name] then
        out[#out + 1] = finding(file.path, parsed.down.line, rule, "the down section is empty")
    end
end

local function named(paths)
    local list = {}
    for i, path in ipairs(paths) do
        local name = path:match "[^/]+$" or path
        list[i] = {
            path = path, name = name, version = name:match "^%d+" or "", kind = name:match "%.lua$" and "lua" or "sql",
        }
    end
    return list
end

---@param dirs string[]
---@param opts { files?: string[], from?: string }
---@return dbrun.migrate.LintFinding[]
---@return integer looked number of files checked
---Raises an error of kind `config` when the parser is not installed.
function M.run(dirs, opts)
    local available, why = core.sql.available()
    if not available then
        errors.fail("config", why, "apt-get install libpg-query-dev")
    end
    local list = opts.files and #opts.files > 0 and named(opts.files) or files.some(dirs)
    local out, looked, on = {}, 0, not opts.from
    for _, file in ipairs(list) do
        on = on or file.version == opts.from
        if on then
            check_file(out, file)
            looked = looked + 1
        end
    end
    if not on then
        errors.fail("usage", ("no migration has the version '%s'"):format(opts.from))
    end
    return out, looked
end

return M
