--- The first chunks of a job, as its run would find them.
local bounds_of <const> = require "dbrun.batch.state.bounds"
local define <const> = require "dbrun.batch.define"
local reading <const> = require "dbrun.batch.look.reading"
local task <const> = require "dbrun.task"

local M = {}

local CHUNKS <const> = 3
local PATIENCE <const> = 0.7 -- seconds for a step
local ENOUGH <const> = 0.7 -- seconds after which no other step begins

---@class dbrun.batch.First
---@field last? string[] the last key; nil: the table is empty
---@field chunks {after?: string[], upto: string[], rows: integer, keys: integer}[]
---@field passed integer keys before the first chunk, none of which matches
---@field keys integer keys that were read
---@field seconds number that it took
---@field stopped? string why there are no more
---@field final boolean all keys were read
---@field stretch? {after?: string[], upto: string[]} the last keys that were read

---@param conn table where the table is
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param values table in force
---@param started string
---@return dbrun.batch.First
function M.of(conn, definition, walk, values, started)
    local bounds <const> = bounds_of.new(walk, define.named(definition, { started = started }))
    local found <const> = { chunks = {}, passed = 0, keys = 0, seconds = 0, final = false }
    found.last = reading.read(conn, definition, 60, function(tx) return bounds:last(tx) end)
    if not found.last then
        found.final = true
        return found
    end
    local by_where <const> = definition.where ~= nil
    local after
    local began <const> = task.now()
    repeat
        local step <const>, e <const> = reading.try(conn, definition, PATIENCE, function(tx)
            return bounds:step(tx, after, found.last, values.size, values.look, by_where)
        end)
        if e and not reading.is_timeout(e) then error(e, 0) end
        if e then
            found.stopped = ("to look at %d keys takes more than %g s"):format(values.look, PATIENCE)
            break
        end
        if not step then
            found.final = true
            break
        end
        found.keys, found.final = found.keys + step.looked, step.final
        if step.fits > 0 then
            found.chunks[#found.chunks + 1] = { after = after, upto = step.bound, rows = step.fits, keys = step.looked }
        elseif #found.chunks == 0 then
            found.passed = found.passed + step.looked
        end
        found.stretch = { after = after, upto = step.bound }
        after = step.bound
    until found.final or #found.chunks >= CHUNKS or found.keys >= values.look or task.now() - began > ENOUGH
    found.seconds = task.now() - began
    return found
end

return M
