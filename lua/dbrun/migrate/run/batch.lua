--- Batch jobs from a migration: `ctx.batch{...}` runs one to its end, `ctx.batch_done "name"` requires that it is done.
--- A job commits each of its chunks, so the migration needs transaction = false; while the job runs, the migration's
--- own connection is idle, without a transaction or a snapshot.
local errors = require "dbrun.error"

local M = {}

---Options of ctx.batch that are not those of the job.
local OWN <const> = { wait = true, workers = true }

---The options of the job, and those of ctx.batch.
local function split(options)
    local own <const>, rest <const> = {}, {}
    for key, value in pairs(options) do (OWN[key] and own or rest)[key] = value end
    local args <const> = require "dbrun.args"
    args.optional("ctx.batch", "wait", own.wait, "boolean")
    args.optional("ctx.batch", "workers", own.workers, args.whole(1))
    return own, rest
end

---Shows the job's progress in one line.
local function shown(progress, name)
    local line
    return function(event)
        if event.what == "begin" then
            line = progress(name, event.total, "rows")
        elseif event.what == "chunk" and line then
            line:add(event.keys or event.rows)
        elseif event.what == "end" and line then
            line:finish()
        end
    end
end

local function check_ended(name, ended)
    if ended.state ~= "done" then
        errors.raise {
            kind = "query", message = ("the batch job '%s' is %s%s"):format(name, ended.state,
                ended.why and ": " .. ended.why or ""),
            hint = ("dbrun batch status %s; the next migrate up goes on with it"):format(name),
        }
    elseif ended.failed > 0 then
        errors.raise {
            kind = "query", message = ("the batch job '%s' is done but for %s"):format(name,
                ended.failed == 1 and "1 failed range" or ended.failed .. " failed ranges"),
            hint = ("dbrun batch errors %s shows them, dbrun batch retry %s opens them again"):format(name, name),
        }
    end
end

---The function ctx.batch of a migration.
---@param conn table the connection of the migration
---@param url string of the database
---@param progress fun(label: string, total?: integer, unit?: string): table
---@return fun(options: table): table?
function M.run(conn, url, progress)
    return function(options)
        require("dbrun.args").check("ctx.batch", "the options of the job", options, "table")
        if conn:in_transaction() then
            errors.fail("usage",
                "ctx.batch: a batch job commits each of its chunks, and this migration is one transaction",
                "return { transaction = false, up = function(ctx) ... end }")
        end
        local own <const>, rest <const> = split(options)
        rest.engine = rest.engine or url
        local job <const> = require("dbrun.batch").job(rest)
        if own.wait == false then
            job:start()
            return nil
        end
        local ended <const> = job:run { workers = own.workers, on = shown(progress, job.name) }
        check_ended(job.name, ended)
        return ended
    end
end

---The function ctx.batch_done of a migration: raises unless the job is done.
---@param conn table
---@return fun(name: string)
function M.done(conn)
    return function(name)
        require("dbrun.args").check("ctx.batch_done", "the name of the job", name, "string")
        local jobs <const> = require "dbrun.batch.state.jobs"
        local job <const> = jobs.find(conn, name)
        if not job then
            errors.fail("usage", ("this migration needs the batch job '%s', which was never started in this database")
                :format(name), "dbrun batch run " .. name)
        elseif job.state ~= "done" then
            errors.fail("usage",
                ("this migration needs the batch job '%s' to be done; it is %s"):format(name, job.state),
                ("dbrun batch wait %s && dbrun migrate up"):format(name))
        end
        local failed <const> = jobs.totals(conn, name).failed
        if failed > 0 then
            errors.fail("usage", ("this migration needs the batch job '%s' to be done; %d of its ranges failed"):format(
                name, failed), ("dbrun batch errors %s; dbrun batch retry %s"):format(name, name))
        end
    end
end

return M
