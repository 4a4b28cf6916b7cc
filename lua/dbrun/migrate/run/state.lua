--- The session state that statements leave: role, settings, and objects that only the session has. It is recorded after
--- each step of a migration with transaction:false, so that a run that resumes it restores the same session, or
--- refuses.
local catalog = require "dbrun.db.catalog"
local json = require "dbrun.json"

local M = {}

---@class dbrun.migrate.State
---@field role string "none" without SET ROLE
---@field login string the session's user
---@field settings table<string, string> set in the session, by name
---@field left string[] what cannot be restored: temporary tables, prepared statements, LISTEN, locks, cursors
---@field text string all of it, to compare

---The settings that pg_settings lists, without those of a transaction.
local SETTINGS <const> = catalog.sql [[
select {json_object_agg}(name, setting order by name)::{text} from {pg_settings}
 where source {=} 'session' and name {<>} all (array['transaction_isolation', 'transaction_read_only',
       'transaction_deferrable', 'is_superuser', 'role', 'session_authorization']::{text}[])]]

local LEFT <const> = catalog.sql [[
select {json_agg}(what order by what)::{text} from (
    select case when relkind {=} any (array['r', 'p']::pg_catalog."char"[]) then 'the temporary table '
                when relkind {=} 'v' then 'the temporary view ' when relkind {=} 'S' then 'the temporary sequence '
                else 'the temporary relation ' end {||} relname::{text} as what
      from {pg_class}
     where relnamespace {=} {pg_my_temp_schema}() and relkind {<>} all (array['i', 'I', 't']::pg_catalog."char"[])
    union all
    select 'the temporary function ' {||} proname::{text} from {pg_proc} where pronamespace {=} {pg_my_temp_schema}()
    union all
    select 'the prepared statement ' {||} name from {pg_prepared_statements} where from_sql
    union all
    select 'LISTEN ' {||} channel from {pg_listening_channels}() as channel
    union all
    select 'the cursor ' {||} name from {pg_cursors} where is_holdable
    union all
    select {format}('the advisory lock %s, %s, %s, %s', classid, objid, objsubid, mode) from {pg_locks}
     where pid {=} {pg_backend_pid}() and locktype {=} 'advisory') as x]]

local READ <const> = ("select %s as role, session_user::%s as login, (%s) as settings, (%s) as lasting")
    :format(catalog.sql "{current_setting}('role')", catalog.sql "{text}", SETTINGS, LEFT)

---Settings with a dot in their name, which pg_settings does not list.
local function custom_settings(conn, names)
    if #names == 0 then return {} end
    local list = {}
    for i, name in ipairs(names) do
        list[i] = catalog.sql "('%s', {current_setting}('%s', true))":format(name, name)
    end
    local found = {}
    for _, row in ipairs(conn:query("select name, value from (values " .. table.concat(list, ", ")
        .. ") as x(name, value)")) do
        found[row.name] = row.value
    end
    return found
end

---The names with a dot that a text may set: those after SET, and strings if it calls set_config.
---@param sql string
---@return string[]
function M.custom_names(sql)
    local set, list = {}, {}
    local low <const> = sql:lower()
    if not (low:find "%f[%w_]set%f[^%w_]" or low:find "set_config") then return list end
    for name in low:gmatch "%f[%w_.][%a_][%w_]*%.[%a_][%w_.]*" do
        if not set[name] and #name <= 120 and #list < 200 then
            set[name] = true
            list[#list + 1] = name
        end
    end
    return list
end

---The present state of a session.
---@param conn table
---@param names string[] see M.custom_names
---@return dbrun.migrate.State
function M.read(conn, names)
    local row <const> = conn:one(READ)
    local settings <const> = row.settings and json.decode(row.settings) or {}
    for name, value in pairs(custom_settings(conn, names)) do settings[name] = value end
    local list = {}
    for name, value in pairs(settings) do list[#list + 1] = name .. "=" .. value end
    table.sort(list)
    return {
        role = row.role, login = row.login, settings = settings,
        left = row.lasting and json.decode(row.lasting) or {},
        text = table.concat({ row.role, row.login, table.concat(list, "\0"), row.lasting or "" }, "\1"),
    }
end

---@class dbrun.migrate.StateRecord
---@field role? string
---@field login? string nil: the session's own
---@field set table<string, string> settings by name
---@field reset string[] settings that the session began with and no longer has
---@field left string[]
---@field unsure? boolean recorded before the transaction's end, which may have undone some of it

local function missing(list, other)
    local has, out = {}, {}
    for _, name in ipairs(other) do has[name] = true end
    for _, name in ipairs(list) do
        if not has[name] then out[#out + 1] = name end
    end
    return out
end

local function encode(record)
    return next(record) and json.encode(record) or "{}"
end

---What has changed since the file began, as text for the record.
---@param base dbrun.migrate.State at the beginning of the file
---@param now dbrun.migrate.State
---@param unsure boolean
---@return string json
function M.difference(base, now, unsure)
    local set, reset = {}, {}
    for name, value in pairs(now.settings) do
        if base.settings[name] ~= value then set[name] = value end
    end
    for name in pairs(base.settings) do
        if now.settings[name] == nil then reset[#reset + 1] = name end
    end
    local left <const> = missing(now.left, base.left)
    local role <const> = now.role ~= base.role and now.role or nil
    local login <const> = now.login ~= base.login and now.login or nil
    return encode {
        role = role, login = login, set = next(set) and set or nil, reset = reset[1] and reset or nil,
        left = left[1] and left or nil, unsure = unsure or nil,
    }
end

---@param text string a record
---@return dbrun.migrate.StateRecord
function M.parse(text)
    local record = json.decode(text)
    record.set, record.reset, record.left = record.set or {}, record.reset or {}, record.left or {}
    return record
end

---The record without what cannot be restored, for a person who decides that the run may resume.
---@param text? string
---@return string?
function M.without_left(text)
    if not text then return nil end
    local record = json.decode(text)
    record.left, record.unsure = nil, nil
    return encode(record)
end

local SET <const> = catalog.sql "select {set_config}($1, $2, false)"

---Restores the recorded settings and roles in a session.
---@param conn table
---@param record dbrun.migrate.StateRecord
function M.restore(conn, record)
    for _, name in ipairs(record.reset) do conn:exec("reset " .. name) end
    for name, value in pairs(record.set) do conn:query(SET, name, value) end
    if record.login then conn:query(SET, "session_authorization", record.login) end
    if record.role then conn:query(SET, "role", record.role) end
end

return M
