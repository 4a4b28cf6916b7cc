--- `dbrun batch run`, its dry run and its trial, and `check`: what needs the file of the job.
local cli = require "dbrun.command_line"
local config = require "dbrun.config"
local errors = require "dbrun.error"
local find = require "dbrun.batch.show.find"
local jobs = require "dbrun.batch.state.jobs"
local tell = require "dbrun.batch.show.tell"
local words = require "dbrun.batch.show.words"

local M = {}

---The engine of a job: its own, or that of the configuration.
---@param job dbrun.batch.Definition
---@return table|userdata engine
function M.engine(job)
    return job.engine or require("dbrun.db").async
end

---Refuses a protected database that was not named.
local function check_target(args, engine)
    require("dbrun.target").check(engine, config.async_database_url, args.target)
end

---A job that somebody has paused: its workers wait, and so does this run.
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

---The last words about a run.
local function show_end(ended, name, again)
    local what <const> = ("%s in %s, %s"):format(cli.plural(ended.rows or 0, "row"),
        cli.plural(ended.chunks or 0, "chunk"), cli.duration(ended.seconds or 0))
    local shown <const>, failed <const> = cli.one_line(name), ended.failed or 0
    if ended.state == "done" then
        cli.report(("%s is done: %s"):format(shown, what))
    elseif ended.state == "cancelled" then
        cli.report(("%s was cancelled: %s"):format(shown, what))
    elseif ended.state == "stopped" then
        cli.report(("%s has stopped: %s%s"):format(shown, what, ended.why and "; " .. cli.one_line(ended.why) or ""))
    else
        cli.report(("%s is not finished: %s%s"):format(shown, ended.share and words.share(ended.share) .. ", " or "",
            what))
        cli.report("  it goes on with: ", again)
    end
    if ended.found and ended.found > 0 then
        cli.report(("  %s came behind: does the application write such rows? %s counts them"):format(
            cli.plural(ended.found, "row"), words.command("check", name)))
    end
    if failed > 0 then
        cli.report(("  %s failed: %s shows why, %s opens them again"):format(cli.plural(failed, "range"),
            words.command("errors", name), words.command("retry", name)))
    end
end

---0 when it is done or ended by --for or --limit.
local function status_of(ended)
    if ended.state == "cancelled" or ended.state == "stopped" then return cli.FAILED end
    return (ended.failed or 0) > 0 and ended.state == "done" and cli.FAILED or cli.OK
end

---@param args table of the command line
---@return integer status
function M.run(args)
    local job <const> = find.job(args.name)
    local engine <const> = M.engine(job)
    if args.dry_run or args.try then
        local look <const> = require "dbrun.batch.look"
        if args.try then check_target(args, engine) end
        local opts <const> = { format = args.format, force = args.force, count = args.count }
        return (args.try and look.try or look.dry_run)(job, opts) or cli.OK
    end
    check_target(args, engine)
    local text <const>, again <const> = args.format == "text", words.command("run", args.name)
    if text then
        cli.report("Target: ", cli.style(1).bold(require("dbrun.target").describe(engine, config.async_database_url)))
        io.stdout:flush()
        tell_paused(engine, job.name)
    end
    local teller <const> = text and tell.text(job.name) or tell.json()
    local ok <const>, ended <const> = pcall(require("dbrun.batch.work.run").start, job, {
        workers = args.workers, limit = args.limit, seconds = args.seconds, adopt = args.adopt, force = args.force,
        count = args.count, reconnect = args.reconnect, on = teller.on,
    })
    teller:close()
    if not ok then
        if errors.is(ended, "cancelled") and not ended.sqlstate then
            cli.note(("%s: interrupted; it goes on with: %s"):format(cli.one_line(job.name), again))
        end
        error(ended, 0)
    end
    if text then show_end(ended, job.name, again) end
    return status_of(ended)
end

---@param args table of the command line
---@return integer status
function M.check(args)
    local job <const> = find.job(args.name)
    return require("dbrun.batch.look").check(job, { format = args.format }) or cli.OK
end

return M
