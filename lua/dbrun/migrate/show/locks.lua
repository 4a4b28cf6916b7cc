--- The locks that a statement takes on existing tables, for which other sessions must wait.
local tree = require "dbrun.sql.tree"

local M = {}

---@class dbrun.migrate.Lock
---@field table string as the statement writes it
---@field mode string "ACCESS EXCLUSIVE", ...
---@field relation table the RangeVar, or its name and schema
---@field reference? boolean the statement only refers to it: the other side of a foreign key

---The operations that a lock mode blocks, in words.
M.BLOCKS = {
    ["ACCESS SHARE"] = "nothing",
    ["ROW SHARE"] = "nothing",
    ["ROW EXCLUSIVE"] = "nothing",
    ["SHARE UPDATE EXCLUSIVE"] = "schema changes and VACUUM",
    ["SHARE"] = "writes",
    ["SHARE ROW EXCLUSIVE"] = "writes",
    ["EXCLUSIVE"] = "writes",
    ["ACCESS EXCLUSIVE"] = "reads and writes",
}

local ORDER <const> = {
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE", "ACCESS EXCLUSIVE",
}
local RANK <const> = {}
for i, mode in ipairs(ORDER) do RANK[mode] = i end

---@param a string
---@param b string
---@return string
function M.stronger(a, b)
    return RANK[b] > RANK[a] and b or a
end

---Adds the mode for a table; the strongest counts.
local function add(found, relation, mode, reference)
    local name = tree.relation(relation)
    local lock = found[name]
    if not lock then
        lock = { table = name, mode = mode, relation = relation, reference = reference }
        found[name], found[#found + 1] = lock, lock
    else
        lock.mode = M.stronger(lock.mode, mode)
        lock.reference = lock.reference and reference
    end
end

---Parts of ALTER TABLE that need less than ACCESS EXCLUSIVE.
local MILD <const> = {
    AT_ValidateConstraint = "SHARE UPDATE EXCLUSIVE", AT_SetStatistics = "SHARE UPDATE EXCLUSIVE",
    AT_SetOptions = "SHARE UPDATE EXCLUSIVE", AT_ResetOptions = "SHARE UPDATE EXCLUSIVE",
    AT_SetRelOptions = "SHARE UPDATE EXCLUSIVE", AT_ResetRelOptions = "SHARE UPDATE EXCLUSIVE",
    AT_ClusterOn = "SHARE UPDATE EXCLUSIVE", AT_DropCluster = "SHARE UPDATE EXCLUSIVE",
    AT_AttachPartition = "SHARE UPDATE EXCLUSIVE",
    AT_EnableTrig = "SHARE ROW EXCLUSIVE", AT_DisableTrig = "SHARE ROW EXCLUSIVE",
    AT_EnableTrigUser = "SHARE ROW EXCLUSIVE", AT_DisableTrigUser = "SHARE ROW EXCLUSIVE",
    AT_EnableTrigAll = "SHARE ROW EXCLUSIVE", AT_DisableTrigAll = "SHARE ROW EXCLUSIVE",
    AT_EnableAlwaysTrig = "SHARE ROW EXCLUSIVE", AT_EnableReplicaTrig = "SHARE ROW EXCLUSIVE",
    AT_DetachPartitionFinalize = "SHARE UPDATE EXCLUSIVE",
}

---Whether it sets the only table option that needs a stronger lock.
local function has_strong_option(command)
    for _, node in ipairs(command.subtype == "AT_SetRelOptions" and command.def.List.items or {}) do
        if node.DefElem.defname == "user_catalog_table" then return true end
    end
    return false
end

local function alter_table(body, found)
    for _, node in ipairs(body.cmds) do
        local command = node.AlterTableCmd
        local constraint = command.def and command.def.Constraint
        local mode = MILD[command.subtype] or "ACCESS EXCLUSIVE"
        if has_strong_option(command) then mode = "ACCESS EXCLUSIVE" end
        local part = command.def and command.def.PartitionCmd
        if command.subtype == "AT_DetachPartition" and part.concurrent then mode = "SHARE UPDATE EXCLUSIVE" end
        if part and part.name and body.objtype ~= "OBJECT_INDEX" then
            add(found, part.name, command.subtype == "AT_AttachPartition" and "ACCESS EXCLUSIVE" or mode)
        end
        if command.subtype == "AT_AddInherit" and command.def.RangeVar then
            add(found, command.def.RangeVar, "SHARE UPDATE EXCLUSIVE")
        end
        -- ALTER CONSTRAINT has the kind of a foreign key, but names no other table.
        if constraint and constraint.contype == "CONSTR_FOREIGN" and constraint.pktable then
            mode = "SHARE ROW EXCLUSIVE"
            add(found, constraint.pktable, mode, true)
        end
        local column = command.def and command.def.ColumnDef
        for _, inline in ipairs(column and column.constraints or {}) do
            local other = inline.Constraint and inline.Constraint.pktable
            if other then add(found, other, "SHARE ROW EXCLUSIVE", true) end
        end
        add(found, body.relation, mode)
    end
end

local function create_table(body, found)
    tree.walk(body.tableElts or {}, function(kind, node)
        if kind == "Constraint" and node.pktable then add(found, node.pktable, "SHARE ROW EXCLUSIVE", true) end
    end)
    for _, node in ipairs(body.inhRelations or {}) do
        add(found, node.RangeVar, body.partbound and "ACCESS EXCLUSIVE" or "SHARE UPDATE EXCLUSIVE")
    end
end

local TABLES <const> = {
    OBJECT_TABLE = true, OBJECT_VIEW = true, OBJECT_MATVIEW = true, OBJECT_INDEX = true, OBJECT_SEQUENCE = true,
    OBJECT_FOREIGN_TABLE = true,
}

---A dotted name of String nodes as a relation.
local function relation_of(items, count)
    local last, before = items[count], items[count - 1]
    return { relname = last.String.sval, schemaname = before and before.String.sval }
end

local function drop(body, found)
    for _, object in ipairs(body.objects) do
        local items = object.List and object.List.items
        if items and TABLES[body.removeType] then
            add(found, relation_of(items, #items), body.concurrent and "SHARE UPDATE EXCLUSIVE" or "ACCESS EXCLUSIVE")
        elseif items and #items > 1 and (body.removeType == "OBJECT_TRIGGER" or body.removeType == "OBJECT_POLICY"
            or body.removeType == "OBJECT_RULE") then
            add(found, relation_of(items, #items - 1), "ACCESS EXCLUSIVE")
        end
    end
end

local function all(field, mode)
    return function(body, found)
        for _, node in ipairs(body[field] or {}) do
            local relation = node.RangeVar or node.VacuumRelation and node.VacuumRelation.relation
            if relation then add(found, relation, type(mode) == "function" and mode(body) or mode) end
        end
    end
end

local function one(mode)
    return function(body, found)
        if body.relation then
            add(found, body.relation, type(mode) == "function" and mode(body) or mode)
        end
    end
end

local LOCK_MODES <const> = ORDER -- LockStmt counts them from 1 in this order

local KINDS <const> = {
    AlterTableStmt = alter_table,
    CreateStmt = create_table,
    CreateForeignTableStmt = function(body, found) create_table(body.base, found) end,
    DropStmt = drop,
    IndexStmt = one(function(b) return b.concurrent and "SHARE UPDATE EXCLUSIVE" or "SHARE" end),
    ReindexStmt = one(function(b)
        if tree.option(b.params, "concurrently") then return "SHARE UPDATE EXCLUSIVE" end
        return b.kind == "REINDEX_OBJECT_INDEX" and "ACCESS EXCLUSIVE" or "SHARE"
    end),
    TruncateStmt = all("relations", "ACCESS EXCLUSIVE"),
    VacuumStmt = all("rels", function(b)
        return tree.option(b.options, "full") and "ACCESS EXCLUSIVE" or "SHARE UPDATE EXCLUSIVE"
    end),
    ClusterStmt = one "ACCESS EXCLUSIVE",
    RenameStmt = one(function(b)
        return b.renameType == "OBJECT_INDEX" and "SHARE UPDATE EXCLUSIVE" or "ACCESS EXCLUSIVE"
    end),
    AlterObjectSchemaStmt = one "ACCESS EXCLUSIVE",
    CreatePolicyStmt = function(b, found) add(found, b.table, "ACCESS EXCLUSIVE") end,
    AlterPolicyStmt = function(b, found) add(found, b.table, "ACCESS EXCLUSIVE") end,
    RuleStmt = one "ACCESS EXCLUSIVE",
    CreateTrigStmt = one "SHARE ROW EXCLUSIVE",
    CreateStatsStmt = all("relations", "SHARE UPDATE EXCLUSIVE"),
    RefreshMatViewStmt = one(function(b) return b.concurrent and "EXCLUSIVE" or "ACCESS EXCLUSIVE" end),
    LockStmt = all("relations", function(b) return LOCK_MODES[b.mode] or "ACCESS EXCLUSIVE" end),
    InsertStmt = one "ROW EXCLUSIVE",
    UpdateStmt = one "ROW EXCLUSIVE",
    DeleteStmt = one "ROW EXCLUSIVE",
    MergeStmt = one "ROW EXCLUSIVE",
    CopyStmt = one(function(b) return b.is_from and "ROW EXCLUSIVE" or "ACCESS SHARE" end),
}

---The locks of a statement, the strongest for each table. Reading (ACCESS SHARE) is left out.
---@param kind string of the node
---@param body table
---@return dbrun.migrate.Lock[]
function M.of_tree(kind, body)
    local found, list = {}, {}
    if KINDS[kind] then KINDS[kind](body, found) end
    for _, lock in ipairs(found) do
        if lock.mode ~= "ACCESS SHARE" then list[#list + 1] = lock end
    end
    return list
end

---The locks of one statement.
---@param sql string
---@return dbrun.migrate.Lock[]? locks nil when the statement could not be parsed
---@return string? why not
function M.of(sql)
    local kind, body = tree.of(sql)
    if not kind then return nil, body end
    return M.of_tree(kind, body)
end

return M
