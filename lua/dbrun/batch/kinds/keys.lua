--- Keys that a job is given, rather than finds in a table: written once, with a number each, into a table beside those
--- of the jobs' state, which is then walked by that number. `:chunk` in the job's run is `(id) in (those of the chunk)`.
local catalog <const> = require "dbrun.db.catalog"
local columns_of <const> = require("dbrun.batch.kinds.columns").list
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"
local schema <const> = require "dbrun.batch.state.schema"
local walks <const> = require "dbrun.batch.walk"

local M = {}

local ident <const> = params.ident
local SETTINGS <const> = { isolation = "read committed", read_only = false }

-- ---- the table of keys ----

---@param conn table
---@param definition dbrun.batch.Definition
---@return string relation quoted
local function relation_of(conn, definition)
    local name <const> = "dbrun_batch_keys_" .. core.digest("sha256", definition.name):sub(1, 16)
    return schema.place(conn).schema .. "." .. ident { name }
end

local FOUND <const> = catalog.sql "select {to_regclass}($1) is not null"

-- Another process that makes it at the same time waits for this one at an index of the catalog, and finds it then.
local THERE <const> = { ["42P07"] = true, ["23505"] = true }

local function make(conn, relation, source)
    if conn:value(FOUND, relation) then return end
    local ok <const>, e <const> = pcall(conn.transaction, conn, SETTINGS, function(tx)
        source.fill(tx, relation)
        tx:exec(("alter table %s add primary key (n)"):format(relation))
    end)
    if ok then
        conn:exec("analyze " .. relation)
    elseif not (errors.is(e) and THERE[e.sqlstate] and conn:value(FOUND, relation)) then
        error(e, 0)
    end
end

-- ---- the walk ----

---@class dbrun.batch.KeysWalk: dbrun.batch.Walk the walk of the table of keys, with another condition
local Walk = {}
local WalkMeta <const> = {
    __index = function(self, name)
        local own <const> = Walk[name]
        if own ~= nil then return own end
        return rawget(self, "base")[name]
    end,
}

for _, name in ipairs { "step", "last", "cut", "plan_ok" } do
    Walk[name] = function(self, ...) return self.base[name](self.base, ...) end
end

---`:chunk` and `:range` of the job: its keys.
---@param open boolean
---@return string
function Walk:condition(open)
    local outer <const> = self.outer and ident { self.outer } .. "."
    return ("(%s) in (select %s from %s as %s where %s)"):format(columns_of(self.names, outer),
        columns_of(self.names), self.base.relation, self.base.alias, self.base:condition(open))
end

---The keys of a chunk as rows, for chunk:rows().
---@param tx table
---@param after string[]|nil
---@param upto string[]
---@param columns? string[] default: all
---@return table[]
function Walk:read(tx, after, upto, columns)
    return tx:query(("select %s from %s as %s where %s order by n"):format(columns_of(columns or self.names),
        self.base.relation, self.base.alias, self.base:condition(after == nil)), {
        after = after and params.array(after, "text"), upto = params.array(upto, "text"),
    })
end

-- ---- the source ----

---@class dbrun.batch.KeysSource
---@field kind "list"|"query"
---@field text string for people
---@field hash string
---@field names string[] the columns of a key
---@field fill fun(tx: table, relation: string) makes the table, with n and the columns
local Source = {}
Source.__index = Source

---Makes the table when it is missing, and walks it.
---@param conn table
---@param definition dbrun.batch.Definition
---@return dbrun.batch.KeysWalk
function Source:open(conn, definition)
    local relation <const> = relation_of(conn, definition)
    make(conn, relation, self)
    local base <const> = walks.open(conn, {
        fn = definition.fn, name = definition.name, table = relation, key = { "n" }, params = {}, passes = 1,
    })
    return setmetatable({ base = base, names = self.names, outer = definition.as }, WalkMeta)
end

---Drops the table: the job is done, or forgotten, or begins anew.
---@param conn table
---@param definition dbrun.batch.Definition
function Source.forget(_, conn, definition)
    local relation <const> = relation_of(conn, definition)
    if conn:value(FOUND, relation) then conn:exec("drop table " .. relation) end
end

---@param fields table kind, text, hash, names, fill
---@return dbrun.batch.KeysSource
function M.source(fields)
    return setmetatable(fields, Source)
end

return M
