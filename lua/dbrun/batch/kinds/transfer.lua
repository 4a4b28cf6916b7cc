--- Sends rows to another database as COPY text, which is passed on unread, and upserts them there by their key.
local catalog <const> = require "dbrun.db.catalog"
local upsert <const> = require("dbrun.seed.upsert").upsert

local M = {}

-- Settings for text that any server reads as the same value, whatever its own settings are.
local PINS <const> = catalog.sql [[
select {set_config}('DateStyle', 'ISO', true), {set_config}('IntervalStyle', 'iso_8601', true),
       {set_config}('bytea_output', 'hex', true), {set_config}('extra_float_digits', '1', true)]]

---The table that is walked, as SQL, with the name that `where` has for it.
---@param walk dbrun.batch.Walk
---@return string
function M.table(walk)
    return walk.relation .. " as " .. walk.alias
end

---Values leave this transaction as text that any server reads as the same value.
---@param tx table
function M.pin(tx)
    tx:query(PINS)
end

---Runs a statement here, and inserts or updates its rows there.
---@param tx table a transaction where the statement runs, whose text is pinned
---@param sql string that returns the columns, in their order
---@param values table its parameters by name
---@param target table a transaction
---@param moved dbrun.batch.Moved
---@return integer rows
function M.send(tx, sql, values, target, moved)
    local rows = 0
    local pieces <close> = tx:copy_out(sql, { raw = true, format = "text" }, values)
    upsert(target, moved.parts, moved.keys, function()
        local piece <const> = pieces()
        -- A line break in a value is written as \n, so every line break ends a row.
        if piece then rows = rows + select(2, piece:gsub("\n", "")) end
        return piece
    end, { columns = moved.names, whole = moved.gated })
    return rows
end

return M
