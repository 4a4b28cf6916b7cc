--- Files with transaction:false behind a transaction pooler: each step can get another session. Statements that leave
--- session state for later steps are refused before anything is written, as far as the text shows; a SET that changes
--- nothing is allowed. State that a step has still left is undone in its transaction.
local between = require "dbrun.migrate.run.between"
local catalog = require "dbrun.db.catalog"
local errors = require "dbrun.error"
local note = require "dbrun.migrate.run.note"
local tree = require "dbrun.sql.tree"

local M = {}

-- ---- what a statement leaves, by its text ----

local HOLD <const> = 0x20 -- CURSOR_OPT_HOLD

---The setting that a SET changes beyond its transaction.
local function lasting_setting(body)
    if body.is_local or body.kind == "VAR_RESET" or body.kind == "VAR_RESET_ALL" then return nil end
    if body.kind == "VAR_SET_MULTI" then return body.name ~= "TRANSACTION" and body.name or nil end
    return body.name
end

---Whether it is a temporary table that outlasts its transaction.
local function is_temporary(relation, on_commit)
    return relation.relpersistence == "t" and on_commit ~= "ONCOMMIT_DROP"
end

---Statements whose effect outlasts their transaction, in words; nil for others.
local LASTING <const> = {
    PrepareStmt = function(body) return "PREPARE " .. (body.name or "") end,
    ListenStmt = function(body) return "LISTEN " .. (body.conditionname or "") end,
    LoadStmt = function() return "LOAD" end,
    CreateStmt = function(body) return is_temporary(body.relation, body.oncommit) and "a temporary table" end,
    CreateSeqStmt = function(body) return body.sequence.relpersistence == "t" and "a temporary sequence" end,
    ViewStmt = function(body) return body.view.relpersistence == "t" and "a temporary view" end,
    CreateTableAsStmt = function(body)
        return is_temporary(body.into.rel, body.into.onCommit) and "a temporary table"
    end,
    DeclareCursorStmt = function(body) return body.options & HOLD ~= 0 and "a cursor WITH HOLD" end,
}

---Functions whose effect outlasts the transaction.
local LOCKS <const> = {
    pg_advisory_lock = true, pg_advisory_lock_shared = true, pg_try_advisory_lock = true,
    pg_try_advisory_lock_shared = true,
}

local function lasting_call(call)
    local name <const> = tree.name(call.funcname):match "([^.]*)$"
    if LOCKS[name] then return name .. "()" end
    if name ~= "set_config" then return nil end
    local is_local <const> = (call.args or {})[3]
    local constant <const> = is_local and (is_local.A_Const or is_local.TypeCast and is_local.TypeCast.arg.A_Const)
    local value <const> = constant and (constant.boolval and (constant.boolval.boolval or false)
        or constant.sval and constant.sval.sval)
    return value ~= true and value ~= "true" and value ~= "t" and "set_config(..., false)" or nil
end

---@param statement dbrun.migrate.Statement
---@return string? what in words; nil: it leaves nothing in its session, as far as its text shows
---@return string? setting that it sets
function M.leaves(statement)
    local kind, body = tree.of(statement.tree_sql or statement.sql)
    if not kind then return nil end
    if kind == "VariableSetStmt" then
        local name <const> = lasting_setting(body)
        return name and "SET " .. name, name
    end
    local left = LASTING[kind] and LASTING[kind](body) or nil
    if left or kind == "CreateFunctionStmt" then return left end
    tree.walk(body, function(name, node)
        if name == "FuncCall" then left = left or lasting_call(node) end
    end)
    return left
end

-- ---- refusing ----

local HINT <const> = "set MIGRATION_DATABASE_URL to the server itself, past the pooler; or use SET LOCAL within begin "
    .. "and commit"

local function refuse(work, line, what)
    errors.raise {
        kind = "query", file = work.file.path, line = line, hint = HINT,
        message = ("%s:%d: %s would last for its session, and behind a transaction pooler the next statement may get "
            .. "another one"):format(work.file.path, line, what),
    }
end

local EFFECT <const> = catalog.sql [[
select case when $1 {=} 'search_path' then {array_to_string}({current_schemas}(true), ',')
            else {current_setting}($1, true) end]]

---Whether a SET changes anything: it is tried, and rolled back. A SET that fails now may work later in the file.
local function changes(conn, statement, name)
    if name:find " " then return true end -- SESSION CHARACTERISTICS is not a setting by itself
    local before, after
    local ok = pcall(function()
        conn:exec "begin /* dbrun */"
        before = conn:value(EFFECT, name)
        conn:exec(statement.sql .. "\n/* dbrun */")
        after = conn:value(EFFECT, name)
    end)
    note.roll_back(conn)
    return not ok or before ~= after
end

---Refuses a file that needs a dedicated session.
---@param conn table
---@param work dbrun.migrate.Work
function M.check(conn, work)
    for _, step in ipairs(work.steps or {}) do
        for _, statement in ipairs(step.statements) do
            local left <const>, setting <const> = M.leaves(statement)
            if left and not (setting and not changes(conn, statement, setting)) then
                refuse(work, statement.line, left)
            end
        end
    end
end

---Calls fn(), which sends statements, in the open transaction, and undoes what they leave in the session. Refuses a SET
---that changes something now, but would not have before the file ran.
---@param run dbrun.migrate.Run
---@param work dbrun.migrate.Work
---@param statements dbrun.migrate.Statement[]
---@param fn fun()
function M.watched(run, work, statements, fn)
    between.undone(run.conn, function()
        local set = {}
        for _, statement in ipairs(statements) do
            local _, name = M.leaves(statement)
            local before <const> = name and run.conn:value(EFFECT, name)
            if name then set[#set + 1] = { name = name, line = statement.line, before = before } end
        end
        fn()
        for _, one in ipairs(set) do
            if run.conn:value(EFFECT, one.name) ~= one.before then refuse(work, one.line, "SET " .. one.name) end
        end
    end)
end

return M
