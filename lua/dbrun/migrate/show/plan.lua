--- What a run would do: the remaining statements, how each runs, and the locks it takes.
local aftermath = require "dbrun.migrate.run.aftermath"
local inner = require "dbrun.migrate.lint.inner"
local ledger = require "dbrun.migrate.book.ledger"
local locks = require "dbrun.migrate.show.locks"
local model = require "dbrun.migrate.lint.model"
local records = require "dbrun.migrate.book.records"
local resume = require "dbrun.migrate.run.resume"
local tree = require "dbrun.sql.tree"

local M = {}

---@class dbrun.migrate.PlannedStatement
---@field sql string
---@field line integer
---@field locks? dbrun.migrate.Lock[] nil: the statement could not be read
---@field outside boolean it runs outside a transaction
---@field done boolean an interrupted run has already done it

---@class dbrun.migrate.Planned
---@field file dbrun.migrate.File
---@field direction "up"|"down"
---@field transaction boolean
---@field statements dbrun.migrate.PlannedStatement[]
---@field lua boolean a Lua migration: its statements are unknown before it runs

---@param conn table
---@param opts { table: string, direction?: "up"|"down" }
---@param list dbrun.migrate.File[]
---@return dbrun.migrate.Planned[]
function M.of(conn, opts, list)
    local runner = require "dbrun.migrate.run.runner"
    local by_version, plan = records.all(conn, ledger.locate(conn, opts.table)), {}
    for i, file in ipairs(list) do
        local work = runner.prepare(file, opts.direction or "up", conn)
        local record = by_version[file.version]
        if record and record.direction then resume.check(work, record) end -- refuses what "up" refuses
        local done = record and record.direction and record.done or 0
        local planned = {
            file = file, direction = work.direction, transaction = work.section.transaction,
            lua = work.section.fn ~= nil, statements = {},
        }
        local made = {}
        for number, step in ipairs(work.steps or { { statements = work.statements } }) do
            for _, statement in ipairs(step.statements) do
                planned.statements[#planned.statements + 1] = {
                    sql = statement.sql, line = statement.line, done = number <= done,
                    locks = M.locks(statement.tree_sql or statement.sql, made),
                    outside = not planned.transaction and step.kind == "single"
                        and aftermath.outside(statement.tree_sql or statement.sql) ~= nil,
                }
            end
        end
        plan[i] = planned
    end
    return plan
end

local MODEL <const> = {}

---The locks of a statement on tables that the same migration did not make; for DO those of the statements in it.
---@param sql string
---@param made table an empty table at the first statement; it records what the migration has made
---@return dbrun.migrate.Lock[]? locks nil when the statement could not be read
function M.locks(sql, made)
    made[MODEL] = made[MODEL] or model.new()
    local known <const> = made[MODEL]
    local kind, body = tree.of(sql)
    local statements = inner.all { kind = kind, body = body, sql = sql, line = 1 }
    local found, kept = {}, {}
    for _, statement in ipairs(statements) do
        for _, lock in ipairs(statement.kind and locks.of_tree(statement.kind, statement.body) or {}) do
            local name = model.name(known, lock.relation)
            local before = found[name]
            if before then
                before.mode = locks.stronger(before.mode, lock.mode)
            elseif not model.is_made(known, name) then
                found[name], kept[#kept + 1] = lock, lock
            end
        end
        model.learn(known, statement)
    end
    return kind and kept or nil
end

return M
