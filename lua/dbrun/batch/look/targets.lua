--- The tables that a job writes, and how, by the parse trees of its statements. What a function writes is unknown.
local core <const> = require "dbrun.core"
local params <const> = require "dbrun.db.params"
local relations <const> = require("dbrun.batch.walk.facts").relation
local tree <const> = require "dbrun.sql.tree"

local M = {}

---@alias dbrun.batch.WriteKind "update"|"delete"|"insert"

---@class dbrun.batch.Write
---@field kind dbrun.batch.WriteKind
---@field schema? string nil: the search_path finds the table
---@field name string
---@field columns? string[] those that an UPDATE assigns; nil where it is not known
---@field shown? string its name for people, when it is not these

---@class dbrun.batch.Target: dbrun.batch.Write
---@field oid integer
---@field shown string for people
---@field relation string quoted, with its schema

local function columns_of(list)
    local columns <const>, seen <const> = {}, {}
    for _, entry in ipairs(list or {}) do
        local name <const> = entry.ResTarget and entry.ResTarget.name
        if name and not seen[name] then
            seen[name], columns[#columns + 1] = true, name
        end
    end
    return columns
end

local MERGES <const> = { CMD_UPDATE = "update", CMD_DELETE = "delete", CMD_INSERT = "insert" }

--- What a node writes: kinds, and the columns of an UPDATE.
local WRITES <const> = {
    UpdateStmt = function(node, add) add("update", columns_of(node.targetList)) end,
    DeleteStmt = function(_, add) add "delete" end,
    InsertStmt = function(node, add)
        add "insert"
        local conflict <const> = node.onConflictClause
        if conflict and conflict.action == "ONCONFLICT_UPDATE" then add("update", columns_of(conflict.targetList)) end
    end,
    MergeStmt = function(node, add)
        for _, when in ipairs(node.mergeWhenClauses or {}) do
            local clause <const> = when.MergeWhenClause or {}
            local kind <const> = MERGES[clause.commandType]
            if kind then add(kind, kind == "update" and columns_of(clause.targetList) or nil) end
        end
    end,
}

---What a statement writes.
---@param sql string with :chunk and :range
---@return dbrun.batch.Write[]? writes nil: it could not be read
function M.of_statement(sql)
    local kind <const>, body <const> = tree.of((core.pg.named(sql) or { sql })[1])
    if not kind then return nil end
    local list <const> = {}
    tree.walk({ [kind] = body }, function(name, node)
        local writes <const>, relation <const> = WRITES[name], node.relation
        if not writes or not relation then return end
        writes(node, function(how, columns)
            list[#list + 1] = { kind = how, schema = relation.schemaname, name = relation.relname, columns = columns }
        end)
    end)
    return list
end

---If the statement cannot be parsed, its first word says what it does, to the walked table.
local function by_word(sql, walk)
    local word <const> = sql:lower():match "^%s*(%l+)"
    if word ~= "update" and word ~= "delete" then return {} end
    return { { kind = word, schema = walk.schema, name = walk.name, shown = walk.shown } }
end

---Columns of two UPDATEs of a table; nil as soon as those of one are not known.
local function joined(a, b)
    if not a or not b then return nil end
    local all <const>, seen <const> = {}, {}
    for _, list in ipairs { a, b } do
        for _, name in ipairs(list) do
            if not seen[name] then
                seen[name], all[#all + 1] = true, name
            end
        end
    end
    return all
end

---The writes of a job's definition.
---@param definition dbrun.batch.Definition
---@param walk? dbrun.batch.Walk
---@return dbrun.batch.Write[]? writes nil: only a trial tells
local function writes_of(definition, walk)
    local run <const> = definition.run
    if type(run) == "function" then return nil end
    if run == nil then
        if definition.kind ~= "archive" or not walk then return nil end
        return { { kind = "delete", schema = walk.schema, name = walk.name, shown = walk.shown } }
    end
    local all <const> = {}
    for _, sql in ipairs(type(run) == "table" and run or { run }) do
        for _, write in ipairs(M.of_statement(sql) or walk and by_word(sql, walk) or {}) do all[#all + 1] = write end
    end
    return all
end

---The tables that a job writes. One that does not exist (the job makes it, or it is temporary) is left out.
---@param conn table
---@param definition dbrun.batch.Definition
---@param walk? dbrun.batch.Walk
---@return dbrun.batch.Target[]? targets nil: only a trial tells
function M.of(conn, definition, walk)
    local writes <const> = writes_of(definition, walk)
    if not writes then return nil end
    local list <const>, by_key <const> = {}, {}
    for _, write in ipairs(writes) do
        local relation <const> = relations(conn, params.ident(write.schema and { write.schema, write.name }
            or { write.name }))
        if relation and (relation.kind == "r" or relation.kind == "p") then
            local key <const> = write.kind .. relation.oid
            local known <const> = by_key[key]
            if known then
                known.columns = joined(known.columns, write.columns)
            else
                by_key[key] = {
                    kind = write.kind, oid = relation.oid, schema = relation.schema, name = relation.name,
                    columns = write.columns,
                    shown = write.shown or write.schema and write.schema .. "." .. write.name or write.name,
                    relation = params.ident { relation.schema, relation.name },
                }
                list[#list + 1] = by_key[key]
            end
        end
    end
    return list
end

return M
