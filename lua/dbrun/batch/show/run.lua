--- `dbrun batch run`, its dry run and its trial, and `check`: the commands that need the job's file.
local cli = require "dbrun.command_line"
local config = require "dbrun.config"
local errors = require "dbrun.error"
local find = require "dbrun.batch.show.find"
local jobs = require "dbrun.batch.state.jobs"
local tell = require "dbrun.batch.show.tell"
local words = require "dbrun.batch.show.words"

local M = {}

---The database of a job: its own, or that of the configuration.
---@param job dbrun.batch.Definition
---@return table|userdata engine
---@return string url
local function database(job)
    local own <const> = job.engine
    if type(own) == "string" then return require("dbrun.db").engine { url = own, size = 1, overflow = 0 }, own end
    return own or require("dbrun.db").async, config.async_database_url
end

---Reports that the job is paused: its workers wait, and so does this run.
local function tell_paused(engine, name)
    local row <const> = jobs.find(engine, name)
    if not row or row.state ~= "paused" then return end
    local last
    for _, event in ipairs(row.events or {}) do
        if event.what == "paused" then last = event end
    end
    local at <const> = last and require("dbrun.batch.show.facts").epoch(last.at)
    cli.note(("%s is paused%s%s: %s"):format(cli.one_line(name),
        last and last.who and " by " .. cli.one_line(last.who) or "", at and " since " .. words.moment(at) or "",
        cli.one_line(row.reason or "no reason was given")))
    cli.note(("  it waits until: %s"):format(words.command("resume", name)))
end

local STATUS <const> = { SIGINT = 130, SIGTERM = 143 }

---The final report of a run.
local function outcome(ended, name, again, before)
    local shown <const> = cli.one_line(name)
    if before == "done" or before == "cancelled" then
        return ("%s %s; %s lets a run start anew"):format(shown, before == "done" and "was done already"
            or "was cancelled", words.command("forget", name))
    end
    local what <const> = ("%s in %s, %s"):format(cli.plural(ended.rows or 0, "row"),
        cli.plural(ended.chunks or 0, "chunk"), cli.duration(ended.seconds or 0))
    local why <const> = ended.why and ": " .. cli.one_line(ended.why) or ""
    if ended.state == "done" then return ("%s is done: %s"):format(shown, what) end
    if ended.state == "cancelled" then return ("%s was cancelled: %s"):format(shown, what) end
    if ended.state == "stopped" then return ("%s has stopped%s (%s)"):format(shown, why, what) end
    return ("%s is not finished: %s%s\n  %s%s"):format(shown, ended.share and words.share(ended.share) .. ", " or "",
        what, ended.state == "interrupted" and "interrupted; " or "", "it goes on with: " .. again)
end

local function show_end(ended, name, again, before)
    cli.report(outcome(ended, name, again, before))
    if ended.found and ended.found > 0 then
        cli.report(("  %s came late: does the application write such rows? %s counts them"):format(
            cli.plural(ended.found, "row"), words.command("check", name)))
    end
    if (ended.failed or 0) > 0 then
        cli.report(("  %s failed: %s shows why%s"):format(cli.plural(ended.failed, "range"),
            words.command("errors", name), ended.state == "cancelled" and ""
                or (", %s opens them again"):format(words.command("retry", name))))
    end
end

---The exit status: 0 when the job is done, or the run was ended by --for or --limit.
local function status_of(ended)
    if ended.signal then return STATUS[ended.signal] or cli.FAILED end
    if ended.state == "cancelled" or ended.state == "stopped" then return cli.FAILED end
    return (ended.failed or 0) > 0 and ended.state == "done" and cli.FAILED or cli.OK
end

---@param args table of the command line
---@return integer status
local function try(args, job)
    local look <const> = require "dbrun.batch.look"
    if args.try then
        local engine <const>, url <const> = database(job)
        require("dbrun.target").check(engine, url, args.target)
    end
    local found <const> = args.try and look.try(job)
        or look.dry_run(job, { force = args.force or false, count = args.count or false })
    return require("dbrun.batch.look.print").show(found, args.format)
end

---@param args table of the command line
---@return integer status
function M.run(args)
    local job <const> = find.job(args.name)
    if args.dry_run or args.try then return try(args, job) end
    local text <const>, again <const> = args.format == "text", words.command("run", args.name)
    if text then
        local engine <const>, url <const> = database(job)
        cli.report("Target: ", cli.style(1).bold(require("dbrun.target").describe(engine, url)))
        io.stdout:flush()
        tell_paused(engine, job.name)
    end
    local teller <const> = text and tell.text(job.name) or tell.json()
    local _ <close> = setmetatable({}, { __close = function(_, e)
        teller:close()
        if errors.is(e, "cancelled") and not e.sqlstate then
            cli.note(("%s: interrupted; it goes on with: %s"):format(cli.one_line(job.name), again))
        end
    end })
    local ok <const>, ended <const> = pcall(require("dbrun.batch.work.run").start, job, {
        workers = args.workers, limit = args.limit, seconds = args.seconds, adopt = args.adopt, force = args.force,
        count = args.count, reconnect = args.reconnect, target = args.target, signals = true, on = teller.on,
    })
    -- A Lua error in the job's function has its place; dbrun's own stack frames are left out.
    if not ok then error(type(ended) == "string" and errors.new { kind = "query", message = ended } or ended, 0) end
    teller:close()
    if text then show_end(ended, job.name, again, teller.state) end
    return status_of(ended)
end

---@param args table of the command line
---@return integer status
function M.check(args)
    local job <const> = find.job(args.name)
    return require("dbrun.batch.look.print").show(require("dbrun.batch.look").check(job), args.format)
end

return M
