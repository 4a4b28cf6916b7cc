--- The types of parameters, as the server reports them, cached for each engine: those that a statement expects, and
--- those that wrappers name.
---
--- An answer is valid until this program changes the schema, and at most for `statement_cache_age` seconds. The answer
--- of a connection whose session was changed (SET search_path) is valid for that session only.
local catalog <const> = require "dbrun.db.catalog"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"

local M = {}

--- Answers kept for each engine; when there are more, all are dropped.
local KEPT <const> = 1000

-- All columns are OIDs, for which no script has a codec.
local names_sql <const> = catalog.sql [[
select n.place::{oid} as place, t.oid, t.typarray as array
from {unnest}($1::{text}[]) with ordinality n(name, place) left join {pg_type} t on t.oid {=} {to_regtype}(n.name)]]

---Whether it is a connection, not an engine.
local function is_connection(target)
    return target.epochs ~= nil
end

---Runs fn with a connection of the target: itself, or one from the pool.
local function with_connection(target, fn)
    if is_connection(target) then
        target:drained()
        return fn(target)
    end
    local conn <close> = target:acquire()
    return fn(conn)
end

--- The prefix of the keys for this session; "" for sessions as they were opened.
local function session_of(target)
    if not is_connection(target) then
        return ""
    end
    local _ <const>, session <const>, pid <const> = target:epochs()
    return session == 0 and "" or ("%d:%d"):format(pid, session)
end

local function kept(state, schema, key)
    local entry <const> = state.kept and state.kept[key]
    if entry and entry.schema == schema and (state.age == 0 or core.task.now() - entry.at < state.age) then
        return entry.answer
    end
end

local function keep(state, schema, key, answer)
    if state.age < 0 then
        return
    elseif not state.kept or state.count >= KEPT then
        state.kept, state.count = {}, 0
    end
    if not state.kept[key] then
        state.count = state.count + 1
    end
    state.kept[key] = { answer = answer, schema = schema, at = core.task.now() }
end

--- Adds the trees of all OIDs in the lists.
local function trees_of(conn, lists)
    local all, seen = {}, {}
    for _, list in ipairs(lists) do
        for _, oid in ipairs(list) do
            if not seen[oid] then
                seen[oid] = true
                all[#all + 1] = oid
            end
        end
    end
    return #all > 0 and conn:load_types(all) or {}
end
M.trees_of = trees_of

local function statement_key(session, item)
    return ("s%s\0%s"):format(session, table.concat(item, "\0"))
end

---The types that the server expects for the parameters of statements: one round trip for those that are not known.
---@param target table engine or connection
---@param items table[] {sql, declared type of $1 or 0, ...}
---@return table[][] for each statement the trees of its parameters
function M.of_statements(target, items)
    local state <const>, schema <const> = target:values()
    local session <const> = session_of(target)
    local answers, missing, at = {}, {}, {}
    for i, item in ipairs(items) do
        local key <const> = statement_key(session, item)
        answers[i] = kept(state, schema, key)
        if not answers[i] and at[key] then
            at[key][#at[key] + 1] = i
        elseif not answers[i] then
            at[key] = { i }
            missing[#missing + 1] = item
        end
    end
    if #missing == 0 then
        return answers
    end
    with_connection(target, function(conn)
        local lists <const> = conn:parameter_types(missing)
        local trees <const> = trees_of(conn, lists)
        for i, list in ipairs(lists) do
            local key <const> = statement_key(session, missing[i])
            for p, oid in ipairs(list) do
                list[p] = trees[oid]
            end
            keep(state, schema, key, list)
            for _, place in ipairs(at[key]) do
                answers[place] = list
            end
        end
    end)
    return answers
end

--- Names as an array's text.
local function text_list(names)
    local out = {}
    for i, name in ipairs(names) do
        out[i] = literal.quoted(name)
    end
    return "{" .. table.concat(out, ",") .. "}"
end

local function ask_names(conn, names)
    local rows <const> = conn:query(names_sql, core.pg.param(text_list(names), 1009, false))
    local lists = {}
    for i, row in ipairs(rows) do
        lists[i] = { row.oid, row.array ~= 0 and row.array or nil }
    end
    local trees <const> = trees_of(conn, lists)
    local found = {}
    for _, row in ipairs(rows) do
        found[names[row.place]] = row.oid and { oid = row.oid, tree = trees[row.oid], array_oid = row.array,
            array = trees[row.array] } or false
    end
    return found
end

---The types with these names, as SQL knows them on this connection.
---@param target table engine or connection
---@param names table<string, true>
---@return table<string, {oid: integer, tree: table, array_oid: integer, array: table}>
function M.of_names(target, names)
    local state <const>, schema <const> = target:values()
    local session <const> = session_of(target)
    local found, missing = {}, {}
    for name in pairs(names) do
        found[name] = kept(state, schema, ("n%s\0%s"):format(session, name))
        if not found[name] then
            missing[#missing + 1] = name
        end
    end
    if #missing == 0 then
        return found
    end
    table.sort(missing)
    with_connection(target, function(conn)
        for name, answer in pairs(ask_names(conn, missing)) do
            if not answer then
                errors.raise { kind = "usage", outcome = "not_sent", message = ("there is no type %q"):format(name),
                    hint = "Write it as in SQL: schema.type, \"Quoted\", timestamp with time zone." }
            end
            found[name] = answer
            keep(state, schema, ("n%s\0%s"):format(session, name), answer)
        end
    end)
    return found
end

return M
