--- The work of a chunk, as a function: statements with the chunk's parameters, or the job's own function.
local db_params <const> = require "dbrun.db.params"
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local exit_guard <const> = require "dbrun.exit_guard"
local refuse <const> = require "dbrun.batch.define.refuse"
local statement <const> = require "dbrun.batch.define.statement"

local M = {}

---@class dbrun.batch.Chunk
---@field first any the key after which it begins; nil at the start of the table
---@field last any its last key
---@field number integer
---@field attempt integer from 1
---@field id string the same for the same bounds
---@field after? string[]
---@field upto string[]
---@field open boolean there is no lower bound
---@field found? string the keys in it that match, if the step has returned them
---@field started string
---@field rows fun(self, columns?: string|string[]): table[] its rows in the order of the key, locked

local function quote(name) return db_params.ident { name } end

---The columns that rows are read with: SQL, or a list of names.
local function columns_of(definition, walk, columns)
    if columns == nil then return walk.alias .. ".*" end
    args.check(definition.fn, "chunk:rows: columns", columns, args.string_or_strings)
    if type(columns) == "string" then return columns end
    local list = {}
    for i, name in ipairs(columns) do list[i] = walk.alias .. "." .. quote(name) end
    return table.concat(list, ", ")
end

---The columns of a source that reads its rows itself: only names.
local function names_of(definition, columns)
    if columns == nil then return nil end
    args.check(definition.fn, "chunk:rows: columns", columns, args.string_or_strings)
    return type(columns) == "string" and { columns } or columns
end

--- Citus can lock rows of only one shard.
local function check_lock(definition, walk)
    if definition.lock == false or not walk.citus or walk.citus.shards < 2 then return end
    errors.fail("usage", ("%s: chunk:rows cannot lock its rows: those of %s are in %d shards, and Citus locks rows in "
        .. "one"):format(definition.fn, walk.shown, walk.citus.shards),
        "lock = false reads them without a lock: let the statements of run check what they change again")
end

---Gives a chunk its method `rows`, which works as long as its transaction.
local function add_rows(definition, walk, tx, chunk)
    local locked <const> = not walk.read and definition.lock ~= false and " for no key update of " .. walk.alias
        or ""
    chunk.rows = function(self, columns)
        if self ~= chunk then
            errors.fail("usage", "chunk:rows: must be called on the chunk", "call it with ':', as chunk:rows(columns)")
        end
        if walk.read then return walk:read(tx, chunk.after, chunk.upto, names_of(definition, columns)) end
        check_lock(definition, walk)
        return tx:query(("select %s from %s as %s where %s %s%s"):format(columns_of(definition, walk, columns),
            walk.relation, walk.alias,
            statement.condition(definition, walk, chunk.open, true, chunk.found ~= nil), walk:order(), locked),
            statement.named(definition, chunk))
    end
end

local function of_function(definition, walk)
    local run <const>, what <const> = definition.run, ("the batch job '%s'"):format(definition.name)
    return function(tx, chunk)
        add_rows(definition, walk, tx, chunk)
        local rows <const> = exit_guard.call(what, run, tx, chunk)
        local count <const> = type(rows) == "number" and math.tointeger(rows)
        if not count or count < 0 then
            errors.fail("usage", ("%s: run must return the number of rows that it has changed, got %s"):format(
                definition.fn, type(rows) == "number" and tostring(rows) or type(rows)),
                "return tx:query(...).affected, a sum of these, or 0")
        end
        return count
    end
end

local function of_statements(definition, walk)
    local run <const> = definition.run
    for _, sql in ipairs(type(run) == "table" and run or { run }) do refuse.check(definition, walk, sql) end
    local lists <const> = {} -- by what a chunk has: a lower bound, and the matching keys
    return function(tx, chunk)
        local named <const>, rows = statement.named(definition, chunk), 0
        local key <const> = (chunk.open and 1 or 0) + (chunk.found and 2 or 0)
        lists[key] = lists[key] or statement.statements(definition, walk, chunk.open, chunk.found ~= nil)
        for _, sql in ipairs(lists[key]) do
            local result <const> = core.pg.named(sql) and tx:query(sql, named) or tx:query(sql)
            rows = result.affected
        end
        return rows
    end
end

---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param env? table
---@return fun(tx: table, chunk: dbrun.batch.Chunk): integer, table? work
function M.of(definition, walk, env)
    local work
    if definition.work then
        work = definition.work(walk, env or {})
    elseif type(definition.run) == "function" then
        return of_function(definition, walk)
    else
        return of_statements(definition, walk)
    end
    return function(tx, chunk)
        add_rows(definition, walk, tx, chunk)
        return work(tx, chunk)
    end
end

return M
