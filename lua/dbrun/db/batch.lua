--- Many statements in few round trips: pipelines, and one statement with many parameter lists.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"
local names <const> = require "dbrun.db.names"
local params <const> = require "dbrun.db.params"
local source <const> = require "dbrun.db.source"
local told <const> = require "dbrun.db.told"
local transaction <const> = require "dbrun.db.transaction"

local M = {}

--- Number of parameter lists sent together.
local CHUNK <const> = 1000

---@class dbrun.Pipeline
---Raises nothing else.
local Pipeline = {}
local Metatable <const> = { __index = names.answer("pipeline", Pipeline) }

---Adds a statement; it is sent when the function of the pipeline returns.
---@param sql string|dbrun.RowOptions options as for engine:query may stand before the SQL
---@param ... any parameters, or one table for :name parameters
function Pipeline:query(sql, ...)
    args.self("query", self, Metatable, "a pipeline", "p")
    if type(sql) == "table" then
        local positional <const>, text <const> = require "dbrun.db.form".check("query", sql)
        self:query(...)
        local item <const> = self[#self]
        item.positional, item.text = positional, text
        return
    end
    args.check("query", "the SQL", sql, "string")
    local item = table.pack(...)
    local only <const> = item[1]
    local plan
    if item.n == 1 and type(only) == "table" and not literal.is_wrapped(only) then
        plan = core.pg.named(sql)
        if plan then
            sql, item = plan[1], params.named_row(plan, only)
        end
    end
    table.move(item, 1, item.n, 2)
    item[1], item.n, item.plan = sql, item.n + 1, plan
    self[#self + 1] = item
end
Pipeline.exec = Pipeline.query

--- The error for a pipeline that is used after it was sent.
local Sent <const> = {
    __index = function()
        errors.fail("usage", "this pipeline has been sent: nothing can be added to it any more",
            "the results are what pipeline() returns; statements are added inside of its function")
    end,
}

---Sends the statements that fn adds in one round trip, as one transaction: the first error rolls all back and is
---raised.
---@param conn table a leased connection
---@param fn fun(p: dbrun.Pipeline)
---@return dbrun.Result[] in the order of the statements
function M.pipeline(conn, fn)
    local p <const> = setmetatable({}, Metatable)
    fn(p)
    conn:drained()
    local list <const> = table.move(p, 1, #p, 1, {})
    setmetatable(p, Sent)
    return told.run("pipeline", function() return { statements = #list } end, nil, function()
        return conn:batch(list) or conn:batch(require "dbrun.db.values".write_batch(conn, list), true)
    end)
end

local HINT <const> = 'execute_many(sql, { { 1, "a" }, { 2, "b" } })'
local SOURCE <const> = {
    function(v) return type(v) == "table" or args.is_callable(v) end, "a list of parameter lists, or an iterator",
}

---The arguments of execute_many, checked before anything is taken.
---@param sql string
---@param rows table[]|fun(): table|nil lists for $n, or tables for :name
---@param ... any state and closing value of an iterator
---@return table call
function M.arguments(sql, rows, ...)
    local takes <const> = "takes the SQL and one list of parameter lists"
    args.check("execute_many", "the SQL", sql, "string")
    args.check("execute_many", "its second argument", rows, SOURCE)
    if args.is_callable(rows) then
        source.check_rest("execute_many", takes, HINT, ...)
        return { sql = sql, rows = table.pack(rows, ...) }
    end
    args.no_more("execute_many", takes, HINT, ...)
    return { sql = sql, rows = { source.items("execute_many", rows) } }
end

--- Sends a part of the lists.
local function send(conn, sql, plan, rows)
    if plan then sql = plan[1] end
    return conn:batch_many(sql, rows, false, plan)
        or conn:batch_many(sql, require "dbrun.db.values".write_many(conn, sql, rows, plan), true, plan)
end

--- Whether the SQL of the plan has this name.
local function has_name(plan, name)
    for i = 2, plan and #plan or 1 do
        if plan[i] == name then return true end
    end
    return false
end

--- Whether these are values by name. The `n` of table.pack makes a list, which can begin with nil; but :n is also a
--- name, and a row of a result can have a column n, or only NULLs.
local function is_by_name(sql, row)
    if next(row) == nil and core.rows.proxy(row) then return core.pg.named(sql) ~= nil end
    if row[1] ~= nil then return false end
    if row.n == nil and next(row) ~= nil then return true end
    if core.rows.kind(row) == "row" then return true end
    for key in pairs(row) do
        if key ~= "n" then return type(key) == "string" end
    end
    return row.n ~= nil and has_name(core.pg.named(sql), "n")
end

local function run_many(conn, call, own)
    local sql <const>, rows <const> = call.sql, call.rows
    local plan
    local total = 0
    transaction.run(conn, {}, function()
        local chunk, n = {}, 0
        for row in rows[1], rows[2], rows[3], rows[4] do
            if type(row) == "table" and is_by_name(sql, row) then
                plan = plan or core.pg.named(sql)
                if not plan then
                    errors.usage("execute_many", "a list has names (or nil first, and no n), but the SQL no :name")
                end
                row = params.named_row(plan, row)
            elseif type(row) == "table" and next(row) == nil then
                local lost <const>, hint <const> = core.rows.proxy(row)
                if lost then errors.fail("usage", "execute_many: a row is " .. lost, hint) end
            end
            n = n + 1
            chunk[n] = row
            if n == CHUNK then
                total = total + send(conn, sql, plan, chunk)
                chunk, n = {}, 0
            end
        end
        total = total + send(conn, sql, plan, chunk)
    end, own)
    return total
end

---Runs one statement with each of many parameter lists, pipelined, in one transaction.
---@param conn table a leased connection
---@param call table from M.arguments
---@param own? boolean the connection is released right after
---@return integer rows affected by all of them
function M.execute_many(conn, call, own)
    return told.run("execute_many", function(n) return { rows = n } end, call.sql, run_many, conn, call, own)
end

return M
