--- Many statements in few round trips: pipelines, and one statement with many parameter lists.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"
local params <const> = require "dbrun.db.params"
local transaction <const> = require "dbrun.db.transaction"

local M = {}

--- Number of parameter lists sent together.
local CHUNK <const> = 1000

---@class dbrun.Pipeline
local Pipeline = {}
Pipeline.__index = Pipeline

---Adds a statement; it is sent when the function of the pipeline returns.
---@param sql string
---@param ... any parameters, or one table for :name parameters
function Pipeline:query(sql, ...)
    if type(sql) ~= "string" then
        errors.usage("pipeline", "expected the SQL as a string, got %s", type(sql))
    end
    local item = table.pack(...)
    local only <const> = item[1]
    if item.n == 1 and type(only) == "table" and not literal.is_wrapped(only) then
        local plan <const> = core.pg.named(sql)
        if plan then
            sql, item = plan[1], params.named_row(plan, only)
        end
    end
    table.move(item, 1, item.n, 2)
    item[1], item.n = sql, item.n + 1
    self[#self + 1] = item
end
Pipeline.exec = Pipeline.query

---Sends the statements that fn adds in one round trip, as one transaction: the first error rolls all back and is
---raised.
---@param conn table a leased connection
---@param fn fun(p: dbrun.Pipeline)
---@return dbrun.Result[] in the order of the statements
function M.pipeline(conn, fn)
    local p <const> = setmetatable({}, Pipeline)
    fn(p)
    conn:drained()
    local list <const> = setmetatable(p, nil)
    return conn:batch(list) or conn:batch(require "dbrun.db.values".write_batch(conn, list), true)
end

--- An iterator over the rows of a list or of an iterator.
local function rows_of(source)
    if type(source) == "function" then
        return source
    elseif type(source) == "table" then
        local i = 0
        return function()
            i = i + 1
            return source[i]
        end
    end
    errors.usage("execute_many", "expected a list or an iterator, got %s", type(source))
end

--- Sends a part of the lists.
local function send(conn, sql, rows)
    return conn:batch_many(sql, rows)
        or conn:batch_many(sql, require "dbrun.db.values".write_many(conn, sql, rows), true)
end

---Runs one statement with each of many parameter lists, pipelined, in one transaction.
---@param conn table a leased connection
---@param sql string
---@param source table[]|fun(): table|nil lists for $n, or tables for :name
---@param own? boolean the connection is released right after
---@return integer rows affected by all of them
function M.execute_many(conn, sql, source, own)
    local next_row <const> = rows_of(source)
    local plan
    local total = 0
    transaction.run(conn, {}, function()
        local chunk, n = {}, 0
        for row in next_row do
            if type(row) == "table" and row[1] == nil and row.n == nil and next(row) ~= nil then
                plan = plan or core.pg.named(sql)
                if not plan then
                    errors.usage("execute_many", "a list has names (or nil first, and no n), but the SQL no :name")
                end
                row = params.named_row(plan, row)
            end
            n = n + 1
            chunk[n] = row
            if n == CHUNK then
                total = total + send(conn, plan and plan[1] or sql, chunk)
                chunk, n = {}, 0
            end
        end
        total = total + send(conn, plan and plan[1] or sql, chunk)
    end, own)
    return total
end

return M
