--- What a run would do: the remaining statements, how each runs, and the locks it takes.
local aftermath = require "dbrun.migrate.run.aftermath"
local ledger = require "dbrun.migrate.book.ledger"
local locks = require "dbrun.migrate.show.locks"
local records = require "dbrun.migrate.book.records"

local M = {}

---@class dbrun.migrate.PlannedStatement
---@field sql string
---@field line integer
---@field locks? dbrun.migrate.Lock[] nil: the statement could not be read
---@field outside boolean it runs in no transaction
---@field done boolean an interrupted run did it already

---@class dbrun.migrate.Planned
---@field file dbrun.migrate.File
---@field direction "up"|"down"
---@field transaction boolean
---@field statements dbrun.migrate.PlannedStatement[]
---@field lua boolean a Lua migration: what it does is not known before

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
        local done = record and record.direction == work.direction and record.done or 0
        local planned = {
            file = file, direction = work.direction, transaction = work.section.transaction,
            lua = work.section.fn ~= nil, statements = {},
        }
        local created = {}
        for number, step in ipairs(work.steps or { { statements = work.statements } }) do
            for _, statement in ipairs(step.statements) do
                planned.statements[#planned.statements + 1] = {
                    sql = statement.sql, line = statement.line, done = number <= done,
                    locks = M.locks(statement.sql, created),
                    outside = not planned.transaction and step.kind == "single"
                        and aftermath.outside(statement.tree_sql or statement.sql) ~= nil,
                }
            end
        end
        plan[i] = planned
    end
    return plan
end

---The locks of a statement on tables that the same migration did not make.
---@param sql string
---@param created table<string, true> names; those that the statement makes are added
---@return dbrun.migrate.Lock[]?
function M.locks(sql, created)
    local tree = require "dbrun.migrate.read.tree"
    local kind, body = tree.of(sql)
    local list = locks.of(sql)
    if not list then return nil end
    local kept = {}
    for _, lock in ipairs(list) do
        if not created[lock.table] then kept[#kept + 1] = lock end
    end
    if kind == "CreateStmt" then created[tree.relation(body.relation)] = true end
    if kind == "CreateTableAsStmt" then created[tree.relation(body.into.rel)] = true end
    return kept
end

return M
