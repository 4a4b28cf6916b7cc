--- The SQL of a job: dbrun's names in it (:chunk, :range, :started), and the parameters of a chunk.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local db_params <const> = require "dbrun.db.params"
local errors <const> = require "dbrun.error"
local nearest <const> = require "dbrun.nearest"
local refuse <const> = require "dbrun.batch.define.refuse"
local rules <const> = require "dbrun.batch.define.rules"

local scan <const> = core.sql.scan

local M = {}

local function fail(definition, hint, fmt, ...)
    errors.fail("usage", ("%s: %s"):format(definition.fn, fmt:format(...)), hint)
end

---The names of the parameters of an SQL text.
local function names_of(sql)
    local plan <const> = core.pg.named(sql)
    return plan and table.move(plan, 2, #plan, 1, {}) or {}
end

---Raises unless the text can be put into dbrun's statement, and each of its parameters has a value.
---@param definition dbrun.batch.Definition
---@param what string "where", "run"
---@param sql string
---@param ours table<string, true> names of ours that may stand in it
---@return table<string, true> names
local function check_names(definition, what, sql, ours)
    for behind, kind, at in scan, sql, 1 do
        if kind == "parameter" then
            fail(definition, "params = { name = value }, and :name in the SQL", "%s has the parameter %s: only those "
                .. "with names have values here", what, sql:sub(at, behind - 1))
        end
    end
    local set, known = {}, {}
    for name in pairs(definition.params) do known[#known + 1] = name end
    for name in pairs(ours) do known[#known + 1] = name end
    table.sort(known)
    for _, name in ipairs(names_of(sql)) do
        set[name] = true
        if not ours[name] and rules.RESERVED[name] then
            fail(definition, what == "where" and ":chunk has where in it already" or "the bounds of a chunk are in "
                .. ":chunk and :range", "%s cannot have :%s", what, name)
        elseif not ours[name] and definition.params[name] == nil then
            local near <const> = nearest.find(name, known)
            fail(definition, near and ("did you mean :%s?"):format(near) or ("give it a value: params = { %s = ... } "
                .. "(SQL NULL is db.null)"):format(name), "%s has the parameter :%s, which has no value", what, name)
        end
    end
    return set
end

local IN_WHERE <const> = { started = true }
local IN_RUN <const> = { started = true, chunk = true, range = true }

---Raises for SQL that cannot be a job's, as far as its text shows.
---@param definition dbrun.batch.Definition
function M.check(definition)
    if definition.where then
        check_names(definition, "where", definition.where, IN_WHERE)
        refuse.check_where(definition, definition.where)
    end
    local run <const> = definition.run
    if type(run) == "function" or run == nil or definition.work then return end
    local has_chunk = false
    for _, sql in ipairs(type(run) == "table" and run or { run }) do
        local names <const> = check_names(definition, "run", sql, IN_RUN)
        refuse.check(definition, nil, sql)
        has_chunk = has_chunk or names.chunk or names.range
    end
    if not has_chunk then
        fail(definition, "write it where the rows are chosen: update ... where :chunk (:chunk is the key's range and "
            .. "where, :range the range alone)", "run has no :chunk: it would touch every row in every chunk")
    end
end

---The condition of a chunk as SQL, in brackets, with `:after` and `:upto`.
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param open boolean there is no lower bound
---@param whole boolean the key's range and where; false: only the range
---@param found? boolean the step has returned the matching keys, `:_keys`: only these are read
---@return string sql
function M.condition(definition, walk, open, whole, found)
    local range = walk:condition(open)
    if not whole or not definition.where then return "(" .. range .. ")" end
    if found then range = range .. " and " .. walk:found() end
    return ("(%s and (%s\n))"):format(range, definition.where) -- the text may end with a comment
end

---SQL with :chunk and :range written out; other parameters stay.
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param sql string
---@param open boolean
---@param found? boolean as of M.condition
---@return string
function M.expand(definition, walk, sql, open, found)
    local plan <const> = core.pg.named(sql)
    if not plan then return sql end
    local numbered <const>, parts = plan[1], {}
    for behind, kind, at in scan, numbered, 1 do
        local text = numbered:sub(at, behind - 1)
        if kind == "parameter" then
            local name <const> = plan[tonumber(text:sub(2)) + 1]
            text = ":" .. name
            if name == "chunk" or name == "range" then
                text = M.condition(definition, walk, open, name == "chunk", found)
            end
        end
        parts[#parts + 1] = text
    end
    return table.concat(parts)
end

---The statements of `run`, written out.
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param open boolean there is no lower bound
---@param found? boolean as of M.condition
---@return string[]? list nil: run is a function, or a kind's own work
function M.statements(definition, walk, open, found)
    local run <const> = definition.run
    if run == nil or type(run) == "function" then return nil end
    local list = {}
    for i, sql in ipairs(type(run) == "table" and run or { run }) do
        list[i] = M.expand(definition, walk, sql, open, found)
    end
    return list
end

---A bound as a parameter that SQL reads as text[]. Its elements are encoded here, which is much faster than encoding
---values of any kind.
---@param bound string[]
---@return string
function M.texts(bound)
    local list <const> = {}
    for i, text in ipairs(bound) do list[i] = '"' .. text:gsub('[\\"]', "\\%0") .. '"' end
    return "{" .. table.concat(list, ",") .. "}"
end

---The start of the job, made a parameter once.
local function started_of(definition, text)
    if definition.started_text ~= text then
        definition.started_text, definition.started = text, db_params.typed(text, "timestamptz")
    end
    return definition.started
end

---The parameters of all SQL of a chunk or a step: the job's own, :started, :after and :upto.
---@param definition dbrun.batch.Definition
---@param chunk { after?: string[], upto?: string[], started?: string, found?: string }
---@return table<string, any>
function M.named(definition, chunk)
    local named = {}
    for name, value in pairs(definition.params) do named[name] = value end
    args.optional(definition.fn, "chunk.started", chunk.started, "string")
    named.started = chunk.started and started_of(definition, chunk.started)
    named.after = chunk.after and M.texts(chunk.after)
    named.upto = chunk.upto and M.texts(chunk.upto)
    named._after, named._upto = chunk.after and chunk.after[1], chunk.upto and chunk.upto[1] -- the first column alone
    named._keys = chunk.found
    return named
end

return M
