--- The plans of a job's statements for one chunk. They are explained, not run.
local core <const> = require "dbrun.core"
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local reading <const> = require "dbrun.batch.look.reading"

local M = {}

local PATIENCE <const> = 2 -- seconds for a plan

---@class dbrun.batch.Planned
---@field sql string as people wrote it
---@field text string written out
---@field has_chunk boolean

---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param open boolean the chunk has no lower bound
---@return dbrun.batch.Planned[] list empty: its SQL is not known before it runs
local function statements(definition, walk, open)
    local run <const> = definition.run
    local texts = type(run) == "table" and run or type(run) == "string" and { run }
    if not texts and definition.kind == "archive" then
        texts = { ("delete from %s as %s where :chunk"):format(walk.relation, walk.alias) }
    end
    local list <const> = {}
    for i, sql in ipairs(texts or {}) do
        local names <const>, has_chunk = core.pg.named(sql) or {}, false
        for n = 2, #names do has_chunk = has_chunk or names[n] == "chunk" or names[n] == "range" end
        list[i] = { sql = sql, text = define.expand(definition, walk, sql, open), has_chunk = has_chunk }
    end
    return list
end

local function lines_of(tx, sql, named)
    local lines <const> = {}
    local options <const>, text <const> = { positional = true }, "explain " .. sql
    local values <const> = reading.values(text, named)
    local rows <const> = values and tx:query(options, text, values) or tx:query(options, text)
    for i, row in ipairs(rows) do lines[i] = row[1] end
    return lines
end

--- For a chunk that is at least this part of a table, or of its partition, reading all of it is accepted.
local LARGE <const> = 0.05

---Why a statement would read much more than the rows of the chunk. When few rows match, the first chunk can be most of
---the table, which the planner then scans with good reason. It leaves settings of the transaction changed.
local function problem_of(tx, definition, walk, sql, named)
    local problem <const>, rows <const> = walk:plan_ok(tx, sql, named)
    if not problem then return nil end
    reading.set(tx, { { "enable_seqscan", false } })
    if walk:plan_ok(tx, sql, named) then return problem end
    if not rows then
        return ("%s has no statistics (analyze %s): %s"):format(walk.shown, walk.relation, problem)
    end
    local keys <const> = tx:value(("select pg_catalog.count(*) from %s as %s where %s"):format(walk.relation,
        walk.alias, define.condition(definition, walk, named.after == nil, false)), named)
    return keys < LARGE * rows and problem or nil
end

---The plans of all statements for a chunk.
---@param conn table
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param named table<string, any> as of define.named, with the chunk's bounds
---@return {sql: string, plan?: string[], problem?: string, error?: string}[] list problem: it does not reach the table
---through the key's index; error: the server does not plan it
function M.all(conn, definition, walk, named)
    local list <const> = {}
    for i, planned in ipairs(statements(definition, walk, named.after == nil)) do
        local entry <const> = { sql = planned.sql }
        local lines <const>, e <const> = reading.try(conn, definition, PATIENCE, function(tx)
            local plan <const> = lines_of(tx, planned.text, named)
            if planned.has_chunk and walk.plan_ok then
                entry.problem = problem_of(tx, definition, walk, planned.text, named)
            end
            return plan
        end)
        entry.plan, entry.error = lines, e and ("%s (SQLSTATE %s)"):format(e.message, e.sqlstate) or nil
        list[i] = entry
    end
    return list
end

--- Errors about objects that only an earlier statement of the job makes.
local NOT_YET <const> = { ["42P01"] = true, ["42703"] = true }

---Why the first chunk would read much more than its rows.
---@param conn table
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param named table<string, any>
---@return string? text nil: the plan is good, or is not known before
---Raises the server's error about a statement that it cannot plan.
function M.first(conn, definition, walk, named)
    if walk.sql == false or not walk.plan_ok then return nil end
    for i, planned in ipairs(statements(definition, walk, named.after == nil)) do
        if planned.has_chunk then
            local ok <const>, found <const> = pcall(conn.transaction, conn, function(tx)
                reading.set(tx, { { "plan_cache_mode", "force_custom_plan" } })
                return problem_of(tx, definition, walk, planned.text, named)
            end)
            if ok and found then return found end
            if not ok and not (i > 1 and errors.is(found) and NOT_YET[found.sqlstate]) then error(found, 0) end
        end
    end
end

return M
