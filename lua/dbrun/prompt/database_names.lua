--- The names of a database for completion: read by a background task, on a connection of the pool, and cached. get()
--- returns the present list at once; if the server does not answer, the list stays as it is, silently.
---
---     local names = require "dbrun.prompt.database_names".new(function() return db.async end)
---     names:stale()                    -- read them, at the start and after DDL
---     names:get().relations            -- at once, perhaps empty
---     names:close()
local catalog <const> = require "dbrun.db.catalog"
local task <const> = require "dbrun.task"

local M = {}

--- Relations and functions that are read at most: the search_path's own first.
local MOST <const> = 5000

--- Seconds for one read, and the age in seconds at which get() starts another one, because other programs make tables
--- too.
local TIMEOUT <const>, AGE <const> = 20, 120

local RELATIONS <const> = catalog.sql [[
select n.nspname::{text} as schema, c.relname::{text} as name, c.relkind::{text} as kind,
       {pg_table_is_visible}(c.oid) as visible,
       case when c.relkind {=} any ('{r, p,v,m,f}') then array(select a.attname::{text} from {pg_attribute} a
            where a.attrelid {=} c.oid and a.attnum {>} 0 and not a.attisdropped order by a.attnum) end as columns
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
 where c.relkind {=} any ('{r, p,v,m,f,S,i,I}') and n.nspname {!~} '^pg_(toast|temp)'
   and (n.nspname {!~} '^(pg_catalog|information_schema)$' or c.relkind {=} any ('{r, v}'))
 order by n.nspname {~} '^(pg_catalog|information_schema|_timescaledb.*)$', c.relispartition,
       {pg_table_is_visible}(c.oid) desc, c.relkind {=} any ('{i, I}'), n.nspname, c.relname limit $1]]

--- Without what only the server calls: functions with arguments or a result of type internal.
local FUNCTIONS <const> = catalog.sql [[
select n.nspname::{text} as schema, p.proname::{text} as name, {pg_function_is_visible}(p.oid) as visible
  from {pg_proc} p join {pg_namespace} n on n.oid {=} p.pronamespace
 where p.prorettype {<>} 'pg_catalog.internal'::{regtype}
   and not 'pg_catalog.internal'::{regtype} {=} any (p.proargtypes::{oid}[])
 order by n.nspname {=} 'pg_catalog', 1, 2 limit $1]]

local OTHERS <const> = catalog.sql [[
select 'schemas' as list, n.nspname::{text} as name from {pg_namespace} n where n.nspname {!~} '^pg_(toast|temp)'
 union all select 'databases', d.datname from {pg_database} d where d.datallowconn
 union all select 'roles', r.rolname from {pg_roles} r
 union all select 'extensions', e.extname from {pg_extension} e
 union all select 'settings', s.name from {pg_settings} s
 union all (select 'types', t.typname from {pg_type} t join {pg_namespace} n on n.oid {=} t.typnamespace
    where n.nspname {!~} '^(pg_|information_schema$)' and t.typtype {=} any ('{e, d,c,r,b}') and t.typelem {=} 0
      and (t.typrelid {=} 0 or exists (select from {pg_class} c where c.oid {=} t.typrelid and c.relkind {=} 'c'))
    limit $1)]]

local function read(conn)
    local found <const> = { relations = {}, by_name = {}, functions = {}, schemas = {}, databases = {}, roles = {},
        extensions = {}, settings = {}, types = {} }
    for i, row in ipairs(conn:query(RELATIONS, MOST)) do
        found.relations[i] = row
        local same <const> = found.by_name[row.name] or {}
        same[#same + 1], found.by_name[row.name] = row, same
    end
    for i, row in ipairs(conn:query(FUNCTIONS, MOST)) do found.functions[i] = row end
    for _, row in ipairs(conn:query(OTHERS, MOST)) do
        local list <const> = found[row.list]
        list[#list + 1] = row.name
    end
    return found
end

---@class dbrun.prompt.DatabaseNames
local Names <const> = {}

local META <const> = {
    __index = Names, __name = "dbrun.prompt.DatabaseNames", __close = function(self) self:close() end,
}

--- Reads again as long as stale() was called meanwhile.
local function work(self)
    repeat
        self.wanted = false
        local ok <const>, found <const> = pcall(task.timeout, TIMEOUT, function()
            local conn <close> = self.engine():acquire()
            return read(conn)
        end)
        self.at = task.now()
        self.problem = not ok and found or nil
        if ok and not self.closed then self.found = found end
    until not self.wanted or self.closed or self.problem
    self.running = nil
end

---Marks the names as changed: they are read again in the background, after a read that is in progress. Returns at once.
function Names:stale()
    if self.closed then return end
    self.wanted = true
    if not self.running then self.running = task.spawn(work, self) end
end

---The names that are known now: tables and lists, which can be empty.
---@return { relations?: table[], by_name?: table<string, table[]>, functions?: table[], schemas?: string[] }
function Names:get()
    if self.at and task.now() - self.at > AGE then self:stale() end
    return self.found
end

---Waits until no read is in progress.
function Names:settle()
    if self.running then self.running:join() end
end

---Ends the read in progress.
function Names:close()
    self.closed = true
    if self.running then self.running:cancel() end
end

---@param engine fun(): dbrun.Engine called in the background task: its errors are also silent
---@return dbrun.prompt.DatabaseNames
function M.new(engine)
    return setmetatable({ engine = engine, found = {} }, META)
end

return M
