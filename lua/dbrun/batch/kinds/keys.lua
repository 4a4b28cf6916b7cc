--- Keys that a job is given instead of finding them in a table. They are written once, each with a number, into a table
--- beside those of the jobs' state, which is then walked by that number. `:chunk` in the job's run is
--- `(id) in (the keys of the chunk)`.
local catalog <const> = require "dbrun.db.catalog"
local columns_of <const> = require("dbrun.batch.kinds.columns").list
local errors <const> = require "dbrun.error"
local jobs <const> = require "dbrun.batch.state.jobs"
local params <const> = require "dbrun.db.params"
local schema <const> = require "dbrun.batch.state.schema"
local walks <const> = require "dbrun.batch.walk"

local M = {}

local ident <const> = params.ident
local SETTINGS <const> = { isolation = "read committed", read_only = false }

-- ---- the table of keys ----

local STATE <const> = catalog.sql [[
select {obj_description}(c.oid, 'pg_class') as text, extract(epoch from {clock_timestamp}())::{int8} as now
  from {pg_class} c where c.oid {=} {to_regclass}($1)::{oid}]]
local NOW <const> = catalog.sql "select extract(epoch from {clock_timestamp}())::{int8}"

---Seconds within which processes that start a job at the same time share its keys. After that, the keys of a failed
---start are made again, because they may be old.
local FRESH <const> = 600

-- Another process that makes the table at the same time waits for this one at a catalog index, and then finds it.
local THERE <const> = { ["42P07"] = true, ["23505"] = true }

local function comment_of(source, at)
    return ("%s, made %d"):format(source.hash, at)
end

---Whether the existing table can be walked.
local function is_good(conn, relation, source)
    local found <const> = conn:one(STATE, relation)
    if not found then return nil end
    local hash <const>, at <const> = (found.text or ""):match "^(%x+), made (%d+)$"
    return hash == source.hash and found.now - tonumber(at) < FRESH
end

local function drop(conn, relation)
    local ok <const>, e <const> = pcall(conn.exec, conn, "drop table " .. relation)
    if not ok and not (errors.is(e) and e.sqlstate == "42P01") then error(e, 0) end
end

---Makes the table when the job's row does not exist yet.
local function make(conn, relation, source)
    local good <const> = is_good(conn, relation, source)
    if good then return end
    if good == false then drop(conn, relation) end
    local settings <const> = not conn:in_transaction() and SETTINGS or {} -- a trial is in one
    local ok <const>, e <const> = pcall(conn.transaction, conn, settings, function(tx)
        source.fill(tx, relation)
        tx:exec(("alter table %s add primary key (n)"):format(relation))
        tx:exec(("comment on table %s is '%s'"):format(relation, comment_of(source, tx:value(NOW))))
    end)
    if ok then
        conn:exec("analyze " .. relation)
        return
    elseif errors.is(e) and THERE[e.sqlstate] and is_good(conn, relation, source) then
        return
    elseif errors.is(e) then
        e.context = (e.context and e.context .. "\n" or "") .. "the keys of the job: " .. source.text
    end
    if errors.is(e) and e.sqlstate == "42501" and e.message:find("schema", 1, true) then
        e.hint = "the keys of a list or a query are written into a table: grant create on that schema to the role"
    end
    error(e, 0)
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
    local place <const> = schema.place(conn)
    local relation <const> = schema.keys(place, definition.name)
    if not jobs.find(conn, definition.name, place) then
        make(conn, relation, self)
    elseif not conn:one(STATE, relation) then
        errors.fail("usage", ("the job '%s' cannot go on: the table of its keys, %s, is gone"):format(definition.name,
            relation), ("dbrun batch forget %s starts it anew"):format(definition.name))
    end
    local base <const> = walks.open(conn, {
        fn = definition.fn, name = definition.name, table = relation, key = { "n" }, params = {}, passes = 1,
    })
    return setmetatable({ base = base, names = self.names, outer = definition.as }, WalkMeta)
end

---Drops the table: the job is done, or forgotten, or begins anew.
---@param conn table
---@param definition dbrun.batch.Definition
function Source.forget(_, conn, definition)
    local relation <const> = schema.keys(schema.place(conn), definition.name)
    if conn:one(STATE, relation) then drop(conn, relation) end
end

---@param fields table kind, text, hash, names, fill
---@return dbrun.batch.KeysSource
function M.source(fields)
    return setmetatable(fields, Source)
end

return M
