--- The dangers for which a job is refused unless it is forced: they would make each row slow, or make statements of the
--- application fail.
local facts <const> = require "dbrun.batch.look.facts"
local targets_of <const> = require "dbrun.batch.look.targets"

local M = {}

---@class dbrun.batch.Danger
---@field what "foreign_key"|"replica_identity"
---@field text string
---@field hint string

local function name_of(schema, name)
    return schema == "public" and name or schema .. "." .. name
end

local function contains(list, names)
    for _, name in ipairs(names or {}) do
        for _, other in ipairs(list) do
            if name == other then return true end
        end
    end
    return false
end

---Whether a change of a row of the target makes the server look for rows that refer to it.
---@param target dbrun.batch.Target
---@param key table of facts.foreign_keys
---@return boolean
function M.concerns(target, key)
    if target.kind == "delete" then return true end
    return target.kind == "update" and contains(key.referenced, target.columns)
end

local function index_on(key)
    if key.kind == "p" then
        return ("create index concurrently on each of its partitions, then: create index on %s (%s)"):format(
            key.relation, key.quoted)
    end
    return ("create index concurrently on %s (%s)"):format(key.relation, key.quoted)
end

local function without_index(target, key)
    local child <const> = name_of(key.schema, key.table)
    return {
        what = "foreign_key", hint = index_on(key),
        text = ("%s refers to %s by its foreign key %s, and has no index that begins with %s: each row that is %s "
            .. "would read all of %s"):format(child, key.is_direct and target.shown or key.parent, key.name,
            table.concat(key.columns, ", "), target.kind == "delete" and (key.is_direct and "deleted"
                or "deleted by cascade") or "changed", child),
    }
end

local VERBS <const> = { delete = "DELETE", update = "UPDATE" }

local function not_named(row, kind)
    local has <const> = row.identity == "n" and "its replica identity is nothing"
        or row.identity == "i" and "the index of its replica identity is gone"
        or "it has no primary key as its replica identity"
    return {
        what = "replica_identity",
        text = ("the publication %s publishes %s of %s, and %s: the server refuses each of them"):format(
            row.publication, VERBS[kind], name_of(row.schema, row.table), has),
        hint = ("alter table %s replica identity using index NAME (unique, on columns that are not null), or add a "
            .. "primary key"):format(row.relation),
    }
end

---Affected tables: the target itself, and those of cascades.
local function touched(target, keys)
    local oids <const> = { delete = {}, update = {} }
    local seen <const> = {}
    local function add(kind, oid)
        if seen[kind .. oid] then return end
        seen[kind .. oid] = true
        table.insert(oids[kind], oid)
    end
    if oids[target.kind] then add(target.kind, target.oid) end
    local column <const> = target.kind == "delete" and "on_delete" or "on_update"
    for _, key in ipairs(keys) do
        local action <const> = key[column]
        if action == "c" then add(target.kind, key.child) end
        if action == "n" or action == "d" then add("update", key.child) end
    end
    return oids
end

---What the job is refused for.
---@param conn table
---@param definition dbrun.batch.Definition
---@param walk? dbrun.batch.Walk
---@param targets? dbrun.batch.Target[] those that are known already
---@return dbrun.batch.Danger[]
function M.of(conn, definition, walk, targets)
    local list <const>, seen <const> = {}, {}
    local function add(danger)
        if seen[danger.text] then return end
        seen[danger.text], list[#list + 1] = true, danger
    end
    for _, target in ipairs(targets or targets_of.of(conn, definition, walk) or {}) do
        local keys <const> = {}
        for _, key in ipairs(facts.foreign_keys(conn, target.oid, target.kind == "delete")) do
            if M.concerns(target, key) then keys[#keys + 1] = key end
        end
        for _, key in ipairs(keys) do
            if not key.index then add(without_index(target, key)) end
        end
        for kind, oids in pairs(touched(target, keys)) do
            if #oids > 0 then
                for _, row in ipairs(facts.unnamed(conn, oids, kind)) do add(not_named(row, kind)) end
            end
        end
    end
    return list
end

return M
