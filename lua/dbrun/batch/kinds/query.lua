--- The result of a query as the source of a job.
local args <const> = require "dbrun.args"
local columns <const> = require "dbrun.batch.kinds.columns"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local keys <const> = require "dbrun.batch.kinds.keys"

local M = {}

local FN <const> = "batch.query"

-- In the order of the key, so that adjacent rows are in one chunk.
local FILL <const> = [[
create table %s as
select pg_catalog.row_number() over (order by %s)::pg_catalog.int8 as n, %s
  from (select distinct %s from (%s
) q where %s) d]]

---@param sql string
---@param key string|string[]
---@param values? table<string, any>
---@return dbrun.batch.KeysSource
function M.source(sql, key, values)
    args.check(FN, "the query", sql, "string")
    args.check(FN, "the key", key, args.string_or_strings)
    if sql:find ";%s*$" then errors.usage(FN, "the query ends with ';': leave it out") end
    args.optional(FN, "the values", values, "table")
    local names <const> = type(key) == "table" and table.move(key, 1, #key, 1, {}) or { key }
    if #names == 0 then errors.usage(FN, "the key has no column") end
    local quoted <const>, present <const> = columns.list(names), {}
    for i, name in ipairs(names) do present[i] = columns.list { name } .. " is not null" end
    return keys.source {
        kind = "query", text = "a query", names = names,
        hash = core.digest("sha256", sql .. "\0" .. table.concat(names, "\0")),
        fill = function(tx, relation)
            local text <const> = FILL:format(relation, quoted, quoted, quoted, sql, table.concat(present, " and "))
            if values then tx:query(text, values) else tx:query(text) end
        end,
    }
end

return M
