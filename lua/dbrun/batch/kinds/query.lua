--- What a query finds as the source of a job.
local args <const> = require "dbrun.args"
local columns <const> = require "dbrun.batch.kinds.columns"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local keys <const> = require "dbrun.batch.kinds.keys"

local M = {}

local FN <const> = "batch.query"

-- In the order of the key: rows that lie beside each other are in one chunk.
local FILL <const> = [[
create table %s as
select pg_catalog.row_number() over (order by %s)::pg_catalog.int8 as n, %s
  from (select distinct %s from (%s
) q where %s) d]]

---The keys that a query finds as the source of a job: those by which no table can be walked, because they come out of
---a join or an aggregate. The query runs once, when the job starts; its keys are written into a table. `:chunk` in the
---job's run is `(id) in (those of the chunk)`, and `chunk:rows()` gives them. NULL is no key, and each key is taken
---once.
---@param sql string a SELECT; `:name` are values
---@param key string|string[] its columns that make the key
---@param values? table<string, any>
---@return dbrun.batch.KeysSource
---Raises kind `usage` for arguments; what the server says of the query is told when the job starts.
---```lua
---return batch.job {
---    name = "recount",
---    source = batch.query("select customer as id from orders group by customer having count(*) > 1", "id"),
---    run = "update customer c set orders = (select count(*) from orders o where o.customer = c.id) where :chunk",
---}
---```
function M.query(sql, key, values)
    args.check(FN, "the query", sql, "string")
    args.check(FN, "the key", key, args.string_or_strings)
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
