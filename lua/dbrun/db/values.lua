--- Encodes the parameters of statements by their types, in the task, before the statement is sent. Scalars are sent
--- unchanged: only tables, wrapped values of types that are not built in, and, if the engine has a codec or reads
--- timestamps as numbers, all values come here.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"
local params <const> = require "dbrun.db.params"
local types <const> = require "dbrun.db.types"
local param <const> = core.pg.param

local M = {}

---How the target encodes values.
---@param target table engine or connection
---@return dbrun.Writing
local function writing(target)
    local state <const> = target:values()
    return { codecs = state.codecs, epoch = state.epoch or nil, place = "" }
end

--- Whether the encoder of the type, or of a type that it contains, is needed. Without codecs and numeric timestamps a
--- scalar is sent unchanged.
local function is_special(w, v)
    return v ~= nil and v ~= core.null and (w.codecs ~= nil or (w.epoch and type(v) == "number"))
end

--- What must be looked up before the value can be encoded: "name" (of its wrapper's type), "type" (that the server
--- expects), or nil.
local function need_of(w, v)
    if type(v) ~= "table" then
        return is_special(w, v) and "type" or nil
    elseif not literal.is_wrapped(v) then
        return "type"
    elseif v[1] == nil or v.kind == nil or v.kind == "json" or v.kind == "bytea" then
        return nil
    elseif v.name and not params.builtin(v.name) then
        return "name"
    elseif v.name then
        return (v[1] == false or w.codecs or w.epoch) and "builtin" or nil
    end
    return (v[1] == false or w.codecs or w.epoch) and "type" or nil
end

local function named(p, found)
    local name <const> = p.name
    local oid <const>, array_oid <const> = params.builtin(name)
    if oid then
        local own <const> = p.kind == "array" and array_oid or oid
        return own, core.pg.type_tree(own)
    end
    local answer <const> = found[name]
    if p.kind ~= "array" then
        return answer.oid, answer.tree
    elseif not answer.array then
        errors.raise { kind = "usage", outcome = "not_sent",
            message = ("db.array: there is no array of the type %q"):format(name),
            hint = "State the type of the elements: db.array(t, \"int4\")." }
    end
    return answer.array_oid, answer.array
end

--- Whether the type accepts any text.
local function is_open(tree)
    return tree.kind == "text" and (tree.name == "text" or tree.name == "unknown" or tree.name == "varchar")
end

local function write_one(w, v, need, found, tree)
    if need == nil then
        return v
    elseif need ~= "type" then
        local oid <const>, own <const> = named(v, found)
        return param(literal.stated(own, v, w), oid, false)
    elseif not tree then
        return v -- more values than parameters: the server says so
    elseif literal.is_wrapped(v) then
        if v.kind == "array" and is_open(tree) then
            tree = literal.untyped
        end
        return param(literal.stated(tree, v, w), 0, false)
    elseif type(v) ~= "table" and not (w.codecs and w.codecs[tree.name] and w.codecs[tree.name].encode)
        and not (w.epoch and tree.kind:find "^timestamp") then
        return v
    end
    return param(literal.text(tree, v, w), 0, false)
end

--- "parameter $1", or with the plan of its SQL "parameter :name ($1)".
local function called_as(plan, number)
    return plan and ("parameter :%s ($%d)"):format(plan[number + 1], number) or ("parameter $%d"):format(number)
end

--- Each list: {sql, n = number of values, [2] ...} as core.pg takes them for a batch, `plan` if it had :name.
local function write_lists(target, lists)
    local w <const> = writing(target)
    local names, needs, any_name = {}, {}, false
    for i, list in ipairs(lists) do
        local need <const> = {}
        for p = 2, list.n do
            local what <const> = need_of(w, list[p])
            need[p] = what
            if what == "name" then
                names[list[p].name], any_name = true, true
            end
        end
        needs[i] = need
    end
    local found <const> = any_name and types.of_names(target, names) or {}
    local items, place = {}, {}
    for i, list in ipairs(lists) do
        local ask = false
        local item <const> = { list[1] }
        for p = 2, list.n do
            local v <const>, what <const> = list[p], needs[i][p]
            ask = ask or what == "type"
            if what == "name" or what == "builtin" then
                item[p] = (named(v, found))
            else
                item[p] = type(v) == "table" and literal.is_wrapped(v) and v[2] or 0
            end
        end
        if ask then
            items[#items + 1] = item
            place[i] = #items
        end
    end
    local trees <const> = #items > 0 and types.of_statements(target, items) or {}
    local out <const> = {}
    for i, list in ipairs(lists) do
        local row <const> = { list[1], n = list.n, positional = list.positional, text = list.text }
        local expected <const> = trees[place[i]] or {}
        for p = 2, list.n do
            local called <const> = called_as(list.plan, p - 1)
            w.place = #lists == 1 and called or ("item %d: %s"):format(i, called)
            row[p] = write_one(w, list[p], needs[i][p], found, expected[p - 1])
        end
        out[i] = row
    end
    return out
end

---The encoded parameters of a statement. (core.pg calls it when a parameter needs it.)
---@param target table engine or connection
---@param sql string|table the plan of an SQL with :name (core.pg.named)
---@param ... any
---@return any ...
function M.write(target, sql, ...)
    local n <const> = select("#", ...)
    local plan <const> = type(sql) == "table" and sql or nil
    local list <const> = { plan and plan[1] or sql, ... }
    list.n, list.plan = n + 1, plan
    local out <const> = write_lists(target, { list })[1]
    return table.unpack(out, 2, n + 1)
end

---The SQL with $n, and its encoded parameters.
---@param target table engine or connection
---@param sql string
---@param args table table.pack'ed
---@return string sql
---@return table args
function M.prepare(target, sql, args)
    local only <const> = args[1]
    local plan <const> = args.n == 1 and type(only) == "table" and not literal.is_wrapped(only) and core.pg.named(sql)
    if plan then
        sql, args = plan[1], params.named_row(plan, only)
    end
    local w <const> = writing(target)
    for i = 1, args.n do
        if need_of(w, args[i]) then
            return sql, table.pack(M.write(target, plan or sql, table.unpack(args, 1, args.n)))
        end
    end
    return sql, args
end

---Statements of a pipeline: {{sql, value, ..., n=}, ...}.
---@param conn table
---@param lists table[]
---@return table[]
function M.write_batch(conn, lists)
    local all <const> = {}
    for i, list in ipairs(lists) do
        all[i] = list.n and list or table.move(list, 1, #list, 1, { n = #list })
    end
    return write_lists(conn, all)
end

---Parameter lists of one statement.
---@param conn table
---@param sql string
---@param rows table[]
---@param plan? table of an SQL with :name
---@return table[]
function M.write_many(conn, sql, rows, plan)
    local lists <const> = {}
    for i, row in ipairs(rows) do
        local n <const> = row.n or #row
        lists[i] = table.move(row, 1, n, 2, { sql, n = n + 1, plan = plan })
    end
    local written <const> = write_lists(conn, lists)
    for i, list in ipairs(written) do
        written[i] = table.move(list, 2, list.n, 1, { n = list.n - 1 })
    end
    return written
end

return M
