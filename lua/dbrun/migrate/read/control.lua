--- Statements that begin, end or need a transaction, found by the parse tree. A statement that the parser does not know
--- is judged by its first words, which are unique to these statements.
local split = require "dbrun.migrate.read.split"
local tree = require "dbrun.sql.tree"

local M = {}

---@alias dbrun.migrate.Control "begin"|"commit"|"rollback"|"savepoint"|"release"|"rollback to"|"prepare"|"prepared"
---    prepare: PREPARE TRANSACTION; prepared: COMMIT PREPARED, ROLLBACK PREPARED

local KINDS <const> = {
    TRANS_STMT_BEGIN = "begin", TRANS_STMT_START = "begin", TRANS_STMT_COMMIT = "commit",
    TRANS_STMT_ROLLBACK = "rollback", TRANS_STMT_SAVEPOINT = "savepoint", TRANS_STMT_RELEASE = "release",
    TRANS_STMT_ROLLBACK_TO = "rollback to", TRANS_STMT_PREPARE = "prepare", TRANS_STMT_COMMIT_PREPARED = "prepared",
    TRANS_STMT_ROLLBACK_PREPARED = "prepared",
}

---The first words of relevant statements; others are not parsed.
local WORDS <const> = {
    begin = "begin", start = "begin", commit = "commit", ["end"] = "commit", rollback = "rollback", abort = "rollback",
    savepoint = "savepoint", release = "release", prepare = "prepare",
}

local function by_words(sql)
    local first <const>, second <const>, third <const> = split.first_words(sql, 3)
    local control <const> = WORDS[first]
    if control == "prepare" or first == "start" then return second == "transaction" and control or nil end
    if (control == "commit" or control == "rollback") and second == "prepared" then return "prepared" end
    if control == "rollback" and (second == "to" or third == "to") then return "rollback to" end
    return control
end

---What a statement does to the transaction.
---@param statement dbrun.migrate.Statement
---@return dbrun.migrate.Control? control nil: nothing, as far as its text shows
---@return boolean? chain AND CHAIN: the next transaction begins at once
function M.of(statement)
    if not WORDS[(split.first_words(statement.sql, 1))] then return nil end
    local kind, body = tree.of(statement.tree_sql or statement.sql)
    if not kind then return by_words(statement.sql) end
    if kind ~= "TransactionStmt" then return nil end
    return KINDS[body.kind], body.chain or false
end

local HOLD <const> = 0x20 -- CURSOR_OPT_HOLD

---Statements that psql refuses outside a transaction block, in words.
---@param statement dbrun.migrate.Statement
---@return string? name nil: it needs no block
function M.needs_block(statement)
    local first <const> = split.first_words(statement.sql, 1)
    if first == "lock" then return "LOCK TABLE" end
    if first ~= "declare" then return nil end
    local kind, body = tree.of(statement.tree_sql or statement.sql)
    local holds = kind and (kind ~= "DeclareCursorStmt" or body.options & HOLD ~= 0)
        or not kind and split.plain(statement.sql):find "%f[%w_]with hold%f[^%w_]"
    if not holds then return "DECLARE without WITH HOLD" end
end

---Whether it only causes a warning outside a transaction block (SET LOCAL, SET TRANSACTION, SET CONSTRAINTS).
---@param statement dbrun.migrate.Statement
---@return boolean
function M.is_void_outside(statement)
    if split.first_words(statement.sql, 1) ~= "set" then return false end
    local kind, body = tree.of(statement.tree_sql or statement.sql)
    if not kind then
        local _, second = split.first_words(statement.sql, 2)
        return second == "local" or second == "transaction" or second == "constraints"
    end
    return kind == "ConstraintsSetStmt" or kind == "VariableSetStmt"
        and (body.is_local or body.kind == "VAR_SET_MULTI" and body.name == "TRANSACTION") or false
end

return M
