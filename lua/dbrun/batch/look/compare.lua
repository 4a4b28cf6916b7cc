--- A copy and its source, range by range: the numbers of rows, and a hash over their columns as text.
local bounds_of <const> = require "dbrun.batch.state.bounds"
local catalog <const> = require "dbrun.db.catalog"
local define <const> = require "dbrun.batch.define"
local params <const> = require "dbrun.db.params"
local reading <const> = require "dbrun.batch.look.reading"

local M = {}

local PATIENCE <const> = 60 -- seconds for a range
local KEYS <const> = 20000 -- of a range at most
local NAMED <const> = 20 -- ranges that differ and are named

--- The text of a value depends on these.
local PINS <const> = {
    { "DateStyle", "ISO" }, { "IntervalStyle", "iso_8601" }, { "TimeZone", "UTC" }, { "bytea_output", "hex" },
    { "extra_float_digits", "1" }, { "lc_monetary", "C" },
}

--- The sum of 60 bits of each row's digest: in any order.
local HASH <const> = catalog.sql [[
select {count}(*) as rows, coalesce({sum}((('x' {||} {substr}({md5}(r.line), 1, 15))::bit(60)::{int8})::{numeric}),
    0)::{text} as hash from (select row(COLUMNS)::{text} as line from RELATION where CONDITION) r]]

---@class dbrun.batch.Sides what a kind says of its two tables: definition.compare(walk, source, target)
---@field names string[] the columns that are compared
---@field to string the target's table, quoted, with its schema

---@class dbrun.batch.Comparison
---@field ranges integer
---@field keys integer
---@field source integer rows
---@field target integer rows
---@field differ integer ranges
---@field differing {first: any, last: any, source: integer, target: integer}[] the first of them

local function hash(conn, definition, walk, relation, names, chunk, started)
    local columns <const> = {}
    for i, name in ipairs(names) do columns[i] = walk.alias .. "." .. params.ident { name } end
    local parts <const> = {
        COLUMNS = table.concat(columns, ", "), RELATION = ("%s as %s"):format(relation, walk.alias),
        CONDITION = define.condition(definition, walk, chunk.after == nil, true),
    }
    local sql <const> = HASH:gsub("%u%u%u%u%u%u+", parts)
    return reading.read(conn, definition, PATIENCE, function(tx)
        reading.set(tx, PINS)
        return tx:one(sql, define.named(definition, { after = chunk.after, upto = chunk.upto, started = started }))
    end)
end

---Compares all ranges.
---@param source table connection
---@param target table connection
---@param definition dbrun.batch.Definition with `compare`
---@param walk dbrun.batch.Walk of the source
---@param values table in force
---@param started string
---@param between fun() called between two ranges; may wait
---@return dbrun.batch.Comparison
function M.of(source, target, definition, walk, values, started, between)
    local sides <const> = definition.compare(walk, source, target)
    local bounds <const> = bounds_of.new(walk, define.named(definition, { started = started }))
    local found <const> = { ranges = 0, keys = 0, source = 0, target = 0, differ = 0, differing = {} }
    local last <const> = reading.read(source, definition, PATIENCE, function(tx) return bounds:last(tx) end)
    local keys <const> = math.min(values.look, KEYS)
    local after, final = nil, last == nil
    while not final do
        local step <const> = reading.read(source, definition, PATIENCE, function(tx)
            return bounds:step(tx, after, last, keys, keys, false)
        end)
        if not step then break end
        local chunk <const> = { after = after, upto = step.bound }
        local a <const> = hash(source, definition, walk, walk.relation, sides.names, chunk, started)
        local b <const> = hash(target, definition, walk, sides.to, sides.names, chunk, started)
        found.ranges, found.keys = found.ranges + 1, found.keys + step.looked
        found.source, found.target = found.source + a.rows, found.target + b.rows
        if a.rows ~= b.rows or a.hash ~= b.hash then
            found.differ = found.differ + 1
            if found.differ <= NAMED then
                found.differing[found.differ] = { first = walk.value(chunk.after), last = walk.value(chunk.upto),
                    source = a.rows, target = b.rows }
            end
        end
        after, final = step.bound, step.final
        if not final then between() end
    end
    return found
end

return M
