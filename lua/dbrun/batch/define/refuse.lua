--- Refuses what a statement of a job must not do, by its parse tree: change the key that is walked, or end the
--- transaction of its chunk. Without a tree (no parser, a newer grammar), its first word decides.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local tree <const> = require "dbrun.sql.tree"

local M = {}

local function fail(definition, hint, fmt, ...)
    errors.fail("usage", ("%s: %s"):format(definition.fn, fmt:format(...)), hint)
end

local ALLOWED <const> = {
    SelectStmt = true, InsertStmt = true, UpdateStmt = true, DeleteStmt = true, MergeStmt = true,
    CreateTableAsStmt = true, LockStmt = true,
}

local WORDS <const> = {
    select = true, with = true, insert = true, update = true, delete = true, merge = true, values = true, ["("] = true,
    create = true, lock = true, set = true,
}

local TRANSACTION <const> = "a chunk is one transaction, which dbrun ends: leave it out"
local OTHERS <const> = "run is SELECT, INSERT, UPDATE, DELETE or MERGE, and beside these CREATE TABLE AS, LOCK TABLE "
    .. "and SET LOCAL; a function(tx, chunk) can do more"

---The first word and the number of statements of a text.
local function words_of(sql)
    local first, count, inside = nil, 0, false
    for behind, kind, at in core.sql.scan, sql, 1 do
        local text <const> = sql:sub(at, behind - 1)
        if text == ";" and kind == "sign" then
            inside = false
        elseif kind ~= "blank" and kind ~= "comment" then
            first = first or text:lower()
            if not inside then count, inside = count + 1, true end
        end
    end
    return first or "", count
end

local TRANSACTION_WORDS <const> = {
    begin = true, start = true, commit = true, ["end"] = true, rollback = true, abort = true, savepoint = true,
    release = true, prepare = true,
}

local function check_kind(definition, sql)
    local word <const>, count <const> = words_of(sql)
    if count == 0 then fail(definition, "leave it out", "run has a statement without SQL") end
    if TRANSACTION_WORDS[word] then fail(definition, TRANSACTION, "run may not have %s", word:upper()) end
    if count > 1 then
        fail(definition, "give a list: run = { \"...\", \"...\" }", "run has several statements in one text")
    end
    if not WORDS[word] then fail(definition, OTHERS, "run may not be %s", word:upper()) end
    local kind <const>, body <const> = tree.of((core.pg.named(sql) or { sql })[1])
    if not kind then return nil end
    if kind == "VariableSetStmt" then
        if not body.is_local then
            fail(definition, "SET LOCAL ends with the chunk; or settings = { name = value }", "run may not be SET, "
                .. "which stays in a session that others get")
        end
    elseif not ALLOWED[kind] then
        fail(definition, OTHERS, "run may not be %s", (word:upper()))
    end
    return { [kind] = body }
end

local function is_walked(relation, walk)
    return relation and relation.relname == walk.name and (relation.schemaname or walk.schema) == walk.schema
end

---The key's column that a list of assignments has.
local function assigned(targets, walk)
    for _, target in ipairs(targets or {}) do
        local name <const> = target.ResTarget and target.ResTarget.name
        for _, k in ipairs(walk.key) do
            if k.name == name then return name end
        end
    end
end

local function check_key(definition, walk, body)
    local column, how
    tree.walk(body, function(kind, node)
        local found
        if kind == "UpdateStmt" and is_walked(node.relation, walk) then
            found = assigned(node.targetList, walk)
        elseif kind == "MergeStmt" and is_walked(node.relation, walk) then
            for _, when in ipairs(node.mergeWhenClauses or {}) do
                local clause <const> = when.MergeWhenClause
                if clause and clause.commandType == "CMD_UPDATE" then
                    found = found or assigned(clause.targetList, walk)
                end
            end
        elseif kind == "InsertStmt" and is_walked(node.relation, walk) and node.onConflictClause then
            found = assigned(node.onConflictClause.targetList, walk)
        end
        if found then column, how = found, kind end
    end)
    if not column then return end
    local hint <const> = #walk.key > 1 and "walk it by other columns: key = ..."
        or "walk it by another key: key = \"column\""
    fail(definition, hint, "run assigns %s of %s (%s), which is in the key that is walked: rows would move ahead of "
        .. "the job, or behind it", column, walk.shown, how:gsub("Stmt", ""):upper())
end

---Raises for a statement that a chunk cannot run.
---@param definition dbrun.batch.Definition
---@param walk? dbrun.batch.Walk nil: the key is not known
---@param sql string with :chunk and :range
---Raises an error of kind `usage`.
function M.check(definition, walk, sql)
    local body <const> = check_kind(definition, sql)
    if body and walk then check_key(definition, walk, body) end
end

---Raises unless the text is a single condition: an unbalanced bracket would become part of the job's statement.
---@param definition dbrun.batch.Definition
---@param where string
---Raises an error of kind `usage`.
function M.check_where(definition, where)
    local depth = 0
    for behind, kind, at in core.sql.scan, where, 1 do
        local text <const> = kind == "sign" and where:sub(at, behind - 1)
        if text == "(" then depth = depth + 1 elseif text == ")" then depth = depth - 1 end
        if depth < 0 or text == ";" then
            fail(definition, "a condition as it stands behind WHERE", "where has a '%s' that is not its own", text)
        end
    end
    if depth > 0 then fail(definition, "a condition as it stands behind WHERE", "where has a '(' without its ')'") end
end

return M
