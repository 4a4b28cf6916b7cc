--- The table dbrun_seeds: the content of each seed that ran. Its row is written in the seed's transaction, so it exists
--- exactly when the data does; a lock makes a second run wait and then see the rows of the first.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"

local M = {}

---The schema of the table, because a seed can set the search_path.
local LOCATE <const> = catalog.sql [[
select {quote_ident}(coalesce(n.nspname::{text}, {current_schema}()::{text}, 'public')) as schema,
       n.nspname is not null as has_table
  from (select {to_regclass}('dbrun_seeds') as oid) s left join {pg_class} c on c.oid {=} s.oid
  left join {pg_namespace} n on n.oid {=} c.relnamespace]]

local COLUMNS <const> = catalog.sql [[
(name {text} primary key, checksum {text} not null, result {text}, seconds double precision not null,
 seeded_at timestamp with time zone not null default current_timestamp,
 seeded_by {text} not null default current_user)]]

local HAS <const> = catalog.sql "select exists (select from %s where name {=} $1 and checksum {=} $2)"

---The lock's number, the same for all runs: "seed" in ASCII.
local LOCK <const> = 0x73656564

---The checksum of a seed's content, independent of CRLF or LF.
---@param text string
---@return string hex
function M.checksum(text)
    return core.digest("sha256", (text:gsub("\r\n", "\n")))
end

---Waits for the transaction of another run, then makes the table if it is missing.
---@param tx table
---@return string name of the table, with its schema
function M.open(tx)
    tx:value(catalog.sql "select {pg_advisory_xact_lock}($1)", LOCK)
    local found <const> = tx:one(LOCATE)
    local name <const> = found.schema .. ".dbrun_seeds"
    if not found.has_table then tx:exec(("create table %s %s"):format(name, COLUMNS)) end
    return name
end

---Whether the seed ran with this content.
---@param tx table
---@param name string of the table
---@param key string
---@param checksum string
---@return boolean
function M.has(tx, name, key, checksum)
    return tx:value(HAS:format(name), key, checksum)
end

---@param tx table
---@param name string of the table
---@param key string
---@param checksum string
---@param result any what the seed returned
---@param seconds number
function M.note(tx, name, key, checksum, result, seconds)
    tx:query(([[
        insert into %s (name, checksum, result, seconds) values ($1, $2, $3, $4)
        on conflict (name) do update set checksum = excluded.checksum, result = excluded.result,
            seconds = excluded.seconds, seeded_at = excluded.seeded_at, seeded_by = excluded.seeded_by]]):format(name),
        key, checksum, result ~= nil and tostring(result) or require("dbrun.db").null, seconds)
end

return M
