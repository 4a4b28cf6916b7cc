--- One statement for all values that the signals read from the server at one look: a row with a column for each part.
--- If a part is refused (a managed service without the function, a role that may not call it), each part is queried
--- alone.
local catalog <const> = require "dbrun.db.catalog"
local db_params <const> = require "dbrun.db.params"
local errors <const> = require "dbrun.error"

local M = {}

---@class dbrun.batch.Server
---@field version integer 150018
---@field role string
---@field timeline? string changes when a standby is promoted; nil on a standby
---@field archives boolean
---@field masked boolean the role sees nothing of other roles' sessions

--- A role that cannot see other roles' sessions cannot see the types of the server's processes either.
local SERVER <const> = catalog.sql [[
select {current_setting}('server_version_num')::int as version, current_user::{text} as role,
       case when not {pg_is_in_recovery}()
            then {left}({pg_walfile_name}({pg_current_wal_lsn}()), 8) end as timeline,
       coalesce({current_setting}('archive_mode', true) {<>} 'off', false) as archives,
       exists (select from {pg_stat_get_activity}(null) where backend_type is null and usesysid is null) as masked]]

---Facts that do not change during a connection.
---@param conn table a leased connection
---@return dbrun.batch.Server
function M.server(conn)
    return catalog.rows(conn, SERVER, { version = "number", role = "string", archives = "boolean",
        masked = "boolean" })[1]
end

---@class dbrun.batch.Part
---@field name string the column
---@field sql string of the column's value: may use :ours (processes of this program) and :oid (the table)

local BASE <const> = [[
select extract(epoch from {clock_timestamp}())::{float8} as clock,
       {pg_wal_lsn_diff}(case when {pg_is_in_recovery}() then {pg_last_wal_replay_lsn}()
                              else {pg_current_wal_lsn}() end, '0/0')::{int8} as wal]]

local written <const> = {}

---@param parts dbrun.batch.Part[]
---@return string
local function statement(parts)
    local names <const>, columns <const> = {}, { BASE }
    for i, part in ipairs(parts) do
        names[i] = part.name
        columns[i + 1] = ("       %s as %s"):format(part.sql, part.name)
    end
    local key <const> = table.concat(names, " ")
    written[key] = written[key] or catalog.sql(table.concat(columns, ",\n"))
    return written[key]
end

--- A list of rows as a value.
---@param query string without the closing bracket of its own
---@return string
function M.rows(query)
    return ("(select coalesce({json_agg}(r), '[]') from (%s) r)"):format(query)
end

local NULL <const> = require "dbrun.core".null

---Takes the NULLs out of rows that came as JSON.
local function without_nulls(value)
    if type(value) ~= "table" then return end
    for key, field in pairs(value) do
        if field == NULL then value[key] = nil else without_nulls(field) end
    end
end

---@param values table<string, any> of the names that a part may use
local function ask(conn, parts, values)
    local sql <const> = statement(parts)
    local answer <const> = sql:find("[^:]:%l") and conn:one(sql, values) or conn:one(sql)
    for _, part in ipairs(parts) do without_nulls(answer[part.name]) end
    return answer
end

local REFUSALS <const> = { ["42501"] = true, ["42883"] = true, ["42P01"] = true, ["42703"] = true, ["0A000"] = true }

local function refusal(e)
    return errors.is(e) and REFUSALS[e.sqlstate] and e or nil
end

---@class dbrun.batch.Answer
---@field clock number
---@field wal integer
---@field refused table<string, dbrun.Error> parts that the server did not answer

--- Queries each part alone, to find the refused ones.
local function alone(conn, parts, values)
    local all <const> = ask(conn, {}, values)
    all.refused = {}
    for _, part in ipairs(parts) do
        local ok <const>, found <const> = pcall(ask, conn, { part }, values)
        if not ok and not refusal(found) then error(found, 0) end
        if ok then all[part.name] = found[part.name] else all.refused[part.name] = found end
    end
    return all
end

---@param conn table a leased connection
---@param parts dbrun.batch.Part[]
---@param ours integer[]
---@param oid? integer
---@return dbrun.batch.Answer
---Raises errors that are not about a single part.
function M.look(conn, parts, ours, oid)
    local values <const> = { ours = db_params.array(ours, "int4"), oid = oid or 0 }
    local ok, answer = pcall(ask, conn, parts, values)
    if not ok then
        if not refusal(answer) or #parts == 0 then error(answer, 0) end
        return alone(conn, parts, values)
    end
    answer.refused = {}
    return answer
end

return M
