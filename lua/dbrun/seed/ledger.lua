--- The table dbrun_seeds: which content of a seed ran. Its row is written in the seed's transaction, so that it exists
--- exactly when the data does; with a lock a second run waits and then sees the rows of the first.
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"

local M = {}

local TABLE <const> = "dbrun_seeds"

local COLUMNS <const> = catalog.sql [[
(name {text} primary key, checksum {text} not null, result {text}, seconds double precision not null,
 seeded_at timestamp with time zone not null default current_timestamp,
 seeded_by {text} not null default current_user)]]

local HAS <const> = catalog.sql("select exists (select from %s where name {=} $1 and checksum {=} $2)"):format(TABLE)

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
function M.open(tx)
    tx:value(catalog.sql "select {pg_advisory_xact_lock}($1)", LOCK)
    if not tx:value(catalog.sql "select {to_regclass}($1) is not null", TABLE) then
        tx:exec(("create table %s %s"):format(TABLE, COLUMNS))
    end
end

---Did the seed run with this content?
---@param tx table
---@param key string
---@param checksum string
---@return boolean
function M.has(tx, key, checksum)
    return tx:value(HAS, key, checksum)
end

---@param tx table
---@param key string
---@param checksum string
---@param result any what the seed returned
---@param seconds number
function M.note(tx, key, checksum, result, seconds)
    tx:query(([[
        insert into %s (name, checksum, result, seconds) values ($1, $2, $3, $4)
        on conflict (name) do update set checksum = excluded.checksum, result = excluded.result,
            seconds = excluded.seconds, seeded_at = excluded.seeded_at, seeded_by = excluded.seeded_by]]):format(TABLE),
        key, checksum, result ~= nil and tostring(result) or require("dbrun.db").null, seconds)
end

return M
