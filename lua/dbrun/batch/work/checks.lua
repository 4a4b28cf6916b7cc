--- The checks before a job's first chunk: dangers of its statement, and a plan that would read much more than a chunk's
--- rows.
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local look <const> = require "dbrun.batch.look"
local schemas <const> = require "dbrun.batch.state.schema"

local M = {}

local function check_dangers(conn, definition, walk)
    for _, danger in ipairs(look.dangers(conn, definition, walk)) do
        errors.fail("usage", danger.text, danger.hint .. "; or --force")
    end
end

local function check_plan(run, conn, walk, last)
    local definition <const> = run.definition
    -- The job's row, which will have the start time, does not exist yet, but `where` may use :started.
    local started <const> = conn:value({ text = true }, "select pg_catalog.clock_timestamp()")
    run.store.bounds.values = define.named(definition, { started = started })
    local step <const> = conn:transaction({ read_only = true }, function(tx)
        return run.store.bounds:step(tx, nil, last, run.values.size, run.values.look, definition.where ~= nil)
    end)
    if not step or step.fits == 0 then return end
    local problem <const> = look.first_plan(conn, definition, walk,
        define.named(definition, { upto = step.bound, started = started }))
    if problem then
        errors.fail("usage", ("the first chunk would not reach %s through the index of its key: %s"):format(walk.shown,
            problem), "write run so that :chunk stands alone in its WHERE; or --force")
    end
end

---The same job under another search_path would be another one, and do all rows again.
local function check_place(run, conn, walk)
    local schema <const>, state <const> = schemas.elsewhere(conn, run.store.place, run.definition.name, walk.oid)
    if not schema then return end
    errors.fail("usage", ("the job '%s' on this table is in the schema '%s' already (%s): begun in %s, too, it would "
        .. "do each row again"):format(run.definition.name, schema, state, run.store.place.schema),
        ("DBRUN_BATCH_SCHEMA=%s goes on with it; or --force"):format(schema))
end

---Checks a job that is not yet in the database.
---@param run dbrun.batch.Run
---@param conn table a leased connection
---@param walk dbrun.batch.Walk
---@param last? string[] the last key
---Raises an error of kind `usage` with the remedy.
function M.first(run, conn, walk, last)
    if walk.sql == false or run.store.bounds.apart then return end
    check_place(run, conn, walk)
    check_dangers(conn, run.definition, walk)
    if last then check_plan(run, conn, walk, last) end
end

return M
