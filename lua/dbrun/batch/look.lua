--- Looks at a job without running it: what it would do (dry run), its first chunk done and rolled back (trial), what is
--- left of it (check); and the checks of a run before its first chunk. Each look gives `lines` for people, `data` for
--- programs, and an exit status; dbrun.batch.look.print prints them.
local args <const> = require "dbrun.args"

local M = {}

---@class dbrun.batch.Found
---@field lines string[]
---@field data table
---@field status integer 0, or 1: a run would be refused, the trial failed, the check found something

local DRY_RUN <const>, OTHERS <const> = { force = "boolean", count = "boolean" }, { say = "function" }

--- The definition of a job, or the argument itself if it is a definition.
local function definition_of(job) return job.definition or job end

local function note(text) require("dbrun.command_line").note(text) end

---What a job would do. Nothing is changed, and the tables of batch jobs do not have to exist.
---@param job dbrun.batch.Job|dbrun.batch.Definition
---@param opts? {force?: boolean, count?: boolean} force: dangers are reported without the status 1; count: matching
---rows are counted, which reads the whole table
---@return dbrun.batch.Found
---Raises an error of kind `usage` for what a run would refuse at once, and those of the server.
function M.dry_run(job, opts)
    opts = args.options("look.dry_run", opts, DRY_RUN)
    local report <const> = require "dbrun.batch.look.dry_run".of(definition_of(job), opts.count or false)
    local refused = #report.refused > 0
    for _, planned in ipairs(report.plans) do refused = refused or planned.problem ~= nil end
    return { lines = require "dbrun.batch.look.dry_lines".of(report, opts.force or false), data = report,
        status = refused and not opts.force and 1 or 0 }
end

---Does the first chunk of a job in a transaction that is rolled back.
---@param job dbrun.batch.Job|dbrun.batch.Definition
---@param opts? {say?: fun(text: string)} say: gets the warning before it starts (default: on standard error)
---@return dbrun.batch.Found
---Raises an error of kind `usage` for what a run would refuse.
function M.try(job, opts)
    opts = args.options("look.try", opts, OTHERS)
    local definition <const> = definition_of(job)
    if type(definition.run) == "function" then
        (opts.say or note) "run is a function: what it does outside of this database's transaction is done for real"
    end
    local report <const> = require "dbrun.batch.look.try".of(definition)
    return { lines = require "dbrun.batch.look.end_lines".of_try(report), data = report,
        status = report.error and 1 or 0 }
end

---Counts the rows that a job's `where` still finds; compares a copy with its source.
---@param job dbrun.batch.Job|dbrun.batch.Definition
---@param opts? {say?: fun(text: string)} say: what it waits for (default: on standard error)
---@return dbrun.batch.Found
---Raises an error of kind `usage` for a job where nothing shows which rows are done.
function M.check(job, opts)
    opts = args.options("look.check", opts, OTHERS)
    local ends <const> = require "dbrun.batch.look.end_lines"
    local report <const> = require "dbrun.batch.look.check".of(definition_of(job), opts.say or note)
    return { lines = ends.of_check(report), data = report, status = ends.left(report) > 0 and 1 or 0 }
end

---Whether the plan of the first chunk reaches the table through the key's index.
---@param conn table
---@param definition dbrun.batch.Definition
---@param walk dbrun.batch.Walk
---@param named table<string, any> of define.named, with the first chunk's bounds
---@return string? text nil: it does, or cannot be known before the run; else why not, with the plan
function M.first_plan(conn, definition, walk, named)
    return require "dbrun.batch.look.plan".first(conn, definition, walk, named)
end

---The dangers for which a job is refused unless it is forced.
---@param conn table
---@param definition dbrun.batch.Definition
---@param walk? dbrun.batch.Walk
---@return dbrun.batch.Danger[] list each with `text` and `hint`
function M.dangers(conn, definition, walk)
    return require "dbrun.batch.look.dangers".of(conn, definition, walk)
end

return M
