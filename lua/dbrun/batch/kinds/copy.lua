--- Jobs that copy a table into another database.
local args <const> = require "dbrun.args"
local columns <const> = require "dbrun.batch.kinds.columns"
local core <const> = require "dbrun.core"
local databases <const> = require "dbrun.batch.kinds.database"
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"
local transfer <const> = require "dbrun.batch.kinds.transfer"

local M = {}

local FN <const> = "batch.copy"

local function work_of(definition, from, to)
    return function(walk)
        local moved
        return function(tx, chunk)
            return from.engine:transaction({ isolation = "read committed", read_only = true }, function(source)
                moved = moved or columns.compare(FN, walk, source, tx, definition.table, to.text)
                transfer.pin(source)
                local sql <const> = define.expand(definition, walk, ("select %s from %s where :chunk"):format(
                    columns.list(moved.names, walk.alias .. "."), transfer.table(walk)), chunk.open)
                return transfer.send(source, sql, define.named(definition, chunk), tx, moved)
            end)
        end
    end
end

local SIDE <const> = args.one_type_of("string", "userdata")

---@param options table as for batch.copy
---@return dbrun.batch.Definition
function M.of(options)
    args.check(FN, "its argument", options, "table")
    args.check(FN, "table", options.table, "string")
    if options.to == nil then
        errors.fail("usage", FN .. ": to is missing: the database that gets the rows",
            'to = "postgres://user@host/database", or an engine')
    elseif options.engine then
        errors.usage(FN, "engine is not for a copy: from is read, to is written")
    end
    local from <const> = options.from and databases.of(FN, "from", options.from)
        or { text = "the configured database", engine = require("dbrun.db").async }
    local to <const> = databases.of(FN, "to", options.to)
    local definition
    definition = define.of("copy", options, {
        options = { from = SIDE, to = SIDE }, texts = { from = from.text, to = to.text },
        work = function(walk) return work_of(definition, from, to)(walk) end,
    })
    definition.hash = core.digest("sha256", ("%s\nfrom %s\nto %s"):format(definition.hash, from.text, to.text))
    if not options.passes then definition.passes = 1 end -- what was copied fits as before
    definition.compare = function(walk, source, target) -- for a check
        local moved <const> = columns.compare(FN, walk, source, target, definition.table, to.text)
        return { names = moved.names, to = params.ident(moved.parts) }
    end
    definition.from, definition.to, definition.engine, definition.source_engine = from, to, to.engine, from.engine
    return definition
end

return M
