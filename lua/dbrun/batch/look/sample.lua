--- The number of rows, and of matching rows, from the statistics and some pages of the table.
local facts <const> = require "dbrun.batch.look.facts"
local reading <const> = require "dbrun.batch.look.reading"

local M = {}

local PAGES <const> = 200
local PATIENCE <const> = 0.5 -- seconds
local ENOUGH <const> = 10 -- matching rows, below which the statistics are the better guess

---@class dbrun.batch.Sample
---@field total integer rows, estimated
---@field fits integer of them, estimated
---@field by "sample"|"statistics"|"counted"
---@field sampled integer rows that were read for it
---@field sampled_fits integer matching ones of them
---@field is_all boolean the sample has all rows

local SAMPLE <const> = [[
select pg_catalog.count(*) as n, pg_catalog.count(*) filter (where (%s
)) as fits from %s as %s tablesample system (%.6f) repeatable (0)]]

local function guess(tx, walk, where, named)
    return reading.plan(tx, ("select 1 from %s as %s where (%s\n)"):format(walk.relation, walk.alias, where),
        named)["Plan Rows"]
end

local A_PAGE <const> = 50 -- rows, where the pages are on other servers

---Rows of some pages. Fails for foreign partitions, and can take long if `where` queries other tables.
---@return {n: integer, fits: integer}? row nil: there is no sample
---@return number percent of the table
local function take(conn, definition, walk, where, named)
    local pages <const> = walk.citus and (walk.estimate or 0) / A_PAGE or facts.pages(conn, walk.oid)
    local percent <const> = math.min(100, 100 * PAGES / math.max(pages, 1))
    if walk.is_hypertable then return nil, percent end -- TABLESAMPLE reads none of its chunks
    return reading.try(conn, definition, PATIENCE, function(tx)
        local sql <const> = SAMPLE:format(where, walk.relation, walk.alias, percent)
        local given <const> = reading.values(sql, named)
        if given then return tx:one(sql, given) end
        return tx:one(sql)
    end), percent
end

---@param conn table
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param named table<string, any>
---@return dbrun.batch.Sample
function M.of(conn, definition, walk, named)
    local where <const> = definition.where or "true"
    local row <const>, percent <const> = take(conn, definition, walk, where, named)
    local sampled <const> = row and row.n or 0
    local is_all <const> = row ~= nil and percent >= 100
    local total = walk.estimate
    if is_all then
        total = sampled
    elseif not total then
        total = math.floor(sampled * 100 / percent + 0.5)
    end
    if row and (is_all or row.fits >= ENOUGH or not definition.where) then
        local share <const> = sampled > 0 and row.fits / sampled or 0
        return { total = total, fits = math.floor(total * share + 0.5), by = "sample", sampled = sampled,
            sampled_fits = row.fits, is_all = is_all }
    end
    local rows = definition.where
        and reading.try(conn, definition, PATIENCE, function(tx) return guess(tx, walk, where, named) end) or total
    -- With so few matches in so many rows, the true share is hardly more than three times the measured one.
    if sampled > 0 then rows = math.min(rows, total * 3 * math.max(row.fits, 1) / sampled) end
    return { total = total, fits = math.floor(math.min(rows, total) + 0.5), by = "statistics", sampled = sampled,
        sampled_fits = row and row.fits or 0, is_all = false }
end

return M
