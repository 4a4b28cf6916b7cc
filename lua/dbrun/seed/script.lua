--- SQL seeds: parsed before anything is written, then run statement by statement, so that an error has its line.
local blocks = require "dbrun.migrate.read.blocks"
local errors = require "dbrun.error"
local report = require "dbrun.migrate.show.report"
local reading = require "dbrun.migrate.read.script"
local sending = require "dbrun.migrate.run.send"
local split = require "dbrun.migrate.read.split"
local steps = require "dbrun.migrate.run.steps"
local tree = require "dbrun.sql.tree"

local M = {}

---Reads a seed.
---@param path string
---@param text string
---@param escapes boolean standard_conforming_strings is off
---@return dbrun.migrate.Statement[]
---Raises an error of kind `query` that names the line for what cannot be run.
function M.read(path, text, escapes)
    local statements, refused = reading.read((text:gsub("^\xEF\xBB\xBF", "")), 1, escapes)
    refused = refused or blocks.in_transaction(statements, "seed",
        "remove it: each seed has a transaction of its own, which is rolled back when it fails")
    if not refused then return statements end
    errors.raise {
        kind = "query", file = path, line = refused.line, hint = refused.hint,
        message = ("%s:%d: %s"):format(path, refused.line, refused.message),
    }
end

local WRITES <const> = { insert = true, update = true, delete = true, merge = true, copy = true }
local WRITING_NODES <const> = { InsertStmt = true, UpdateStmt = true, DeleteStmt = true, MergeStmt = true }

---Whether a statement's row count is of rows that it wrote.
local function writes(statement)
    local first <const> = split.first_words(statement.sql, 1)
    return WRITES[first] or first == "with" and WRITING_NODES[tree.of(statement.sql)] or false
end

local function send(path, statement, tx, kept, on_notice, all)
    local ok, result = pcall(sending.send, tx, statement, on_notice)
    if ok then return result end
    if not errors.is(result) or sending.is_interruption(result) then error(result, 0) end
    error(report.failed(result, path, statement, kept, "seed", all), 0)
end

---Runs its statements.
---@param path string
---@param statements dbrun.migrate.Statement[]
---@param tx table
---@param kept string what stays when one fails, in a sentence
---@param on_notice? fun(notice: dbrun.Notice, statement: dbrun.migrate.Statement)
---@return integer rows that were written
function M.run(path, statements, tx, kept, on_notice)
    tx:verbatim(true) -- the seed keeps the session state of its own statements
    local rows = 0
    local ok, e = pcall(function()
        for i, statement in ipairs(statements) do
            local count = send(path, statement, tx, kept, on_notice, statements)
            steps.check_strings({ conn = tx }, { file = { path = path } }, statement, statements[i + 1])
            if writes(statement) then rows = rows + count end
        end
    end)
    pcall(tx.verbatim, tx, false) -- the connection may be lost
    if not ok then error(e, 0) end
    return rows
end

return M
