--- What else happens when a row of a table is written: triggers, foreign keys, index entries, row security.
local dangers <const> = require "dbrun.batch.look.dangers"
local facts <const> = require "dbrun.batch.look.facts"
local json <const> = require "dbrun.json"

local M = {}

---@class dbrun.batch.Effects
---@field table string
---@field kind dbrun.batch.WriteKind
---@field columns? string[]
---@field triggers table[] name, moment ("before"|"after"|"instead of"), each ("row"|"statement"), calls
---@field foreign_keys table[] name, table, columns, action, index
---@field indexes string[] indexes that get an entry for each row
---@field hot? boolean a new version of a row needs no entry; nil: not known, or no UPDATE
---@field why {column: string, index: string}[] the assigned columns that are in an index
---@field fillfactor integer
---@field hot_share? number of the updates so far
---@field row_security? {role: string, policies: string[]} applies to the role

local ROW <const>, BEFORE <const>, INSTEAD <const> = 1, 2, 64
local EVENTS <const> = { insert = 4, delete = 8, update = 16 }

local function any_of(list, among)
    for _, name in ipairs(list) do
        if among[name] then return name end
    end
end

local function set_of(list)
    local set <const> = {}
    for _, name in ipairs(list) do set[name] = true end
    return set
end

local function triggers_of(conn, target)
    local list <const> = {}
    for _, trigger in ipairs(facts.triggers(conn, target.oid)) do
        local of_columns <const> = target.kind == "update" and #trigger.columns > 0 and target.columns
        if trigger.type & EVENTS[target.kind] ~= 0
            and (not of_columns or any_of(trigger.columns, set_of(target.columns))) then
            list[#list + 1] = {
                name = trigger.name, calls = trigger["function"],
                each = trigger.type & ROW ~= 0 and "row" or "statement",
                moment = trigger.type & BEFORE ~= 0 and "before" or trigger.type & INSTEAD ~= 0 and "instead of"
                    or "after",
            }
        end
    end
    return json.array(list)
end

local ACTIONS <const> = { a = "no action", r = "restrict", c = "cascade", n = "set null", d = "set default" }

local function keys_of(conn, target)
    local list <const> = {}
    if target.kind == "insert" then return json.array(list) end
    for _, key in ipairs(facts.foreign_keys(conn, target.oid, target.kind == "delete")) do
        if dangers.concerns(target, key) then
            list[#list + 1] = {
                name = key.name, table = key.schema == "public" and key.table or key.schema .. "." .. key.table,
                columns = key.columns, refers_to = key.parent, index = key.index, index_is_whole = key.is_whole,
                action = ACTIONS[target.kind == "delete" and key.on_delete or key.on_update],
            }
        end
    end
    return json.array(list)
end

--- A block index (BRIN) has no entries for rows: from PostgreSQL 16 on it does not prevent HOT updates.
local function summarizes(conn, index)
    return index.method == "brin" and (tonumber((conn.parameters.server_version or ""):match "^%d+") or 0) >= 16
end

local function index_entries(conn, target, effects)
    local indexes <const> = facts.indexes(conn, target.oid)
    effects.indexes, effects.why = json.array {}, json.array {}
    if target.kind == "delete" then return end
    if target.kind == "update" then
        if not target.columns then return end
        local changed <const> = set_of(facts.with_generated(conn, target.oid, target.columns))
        for _, index in ipairs(indexes) do
            local column <const> = not summarizes(conn, index) and any_of(index.columns, changed)
            if column then effects.why[#effects.why + 1] = { column = column, index = index.name } end
        end
        effects.hot = #effects.why == 0
        if effects.hot then return end
    end
    for i, index in ipairs(indexes) do effects.indexes[i] = index.name end
end

---@param conn table
---@param target dbrun.batch.Target
---@return dbrun.batch.Effects
function M.of(conn, target)
    local row <const> = facts.table(conn, target.oid)
    local effects <const> = {
        table = target.shown, kind = target.kind, columns = target.columns, triggers = triggers_of(conn, target),
        foreign_keys = keys_of(conn, target), fillfactor = row.fillfactor,
        hot_share = target.kind == "update" and row.updated > 0 and row.hot / row.updated or nil,
    }
    index_entries(conn, target, effects)
    if row.is_secured then
        effects.row_security = { role = row.role, policies = json.array(facts.policies(conn, target.oid,
            target.kind)) }
    end
    return effects
end

return M
