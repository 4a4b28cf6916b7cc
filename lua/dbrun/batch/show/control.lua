--- Commands that control jobs: pause, resume, cancel, retry, set, forget, wait, init. They do not need the job's file.
local cli = require "dbrun.command_line"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local names = require "dbrun.batch.show.names"
local schema = require "dbrun.batch.state.schema"
local task = require "dbrun.task"
local words = require "dbrun.batch.show.words"

local M = {}

---The named job, or all with --all: exactly one of the two must be given.
local function check_named(args, what)
    if args.all and args.name then errors.fail("usage", ("%s: name a job, or --all, not both"):format(what)) end
    if not args.all and not args.name then errors.fail("usage", ("%s: name a job, or --all of them"):format(what)) end
end

local function report_each(list, text)
    for _, name in ipairs(list) do cli.report(text:format(cli.one_line(name))) end
end

local QUIET <const> = 2 -- checks in a row: a claim may have read the job's row before the pause

---Waits until no chunk of the jobs is running.
local function wait_idle(conn, list)
    for _, name in ipairs(list) do
        local idle, told = 0, false
        repeat
            local n <const> = jobs.under_way(conn, name)
            idle = n == 0 and idle + 1 or 0
            if n > 0 and not told then
                cli.note(("%s: %s under way"):format(cli.one_line(name), cli.plural(n, "chunk")))
                told = true
            end
            if idle < QUIET then task.sleep(0.2) end
        until idle >= QUIET
        cli.report(("%s: no chunk is under way"):format(cli.one_line(name)))
    end
end

function M.pause(args, conn)
    check_named(args, "pause")
    local name <const> = args.name and names.of(conn, args.name) or nil
    local paused <const> = jobs.pause(conn, name, args.reason)
    report_each(paused, "%s is paused: its workers finish their chunk and wait")
    if #paused == 0 then
        cli.report(name and ("%s was paused already"):format(cli.one_line(name)) or "no job is running")
    end
    if args.wait then wait_idle(conn, name and { name } or paused) end
    return cli.OK
end

function M.resume(args, conn)
    check_named(args, "resume")
    local name <const> = args.name and names.of(conn, args.name) or nil
    local resumed <const> = jobs.resume(conn, name)
    report_each(resumed, "%s may go on: workers that wait take it up within a second")
    if #resumed == 0 then
        cli.report(name and ("%s is not paused"):format(cli.one_line(name)) or "no job is paused")
    end
    return cli.OK
end

function M.cancel(args, conn)
    local name <const> = names.of(conn, args.name)
    jobs.cancel(conn, name)
    cli.report(("%s is cancelled: what it did stays, and its workers end"):format(cli.one_line(name)))
    return cli.OK
end

function M.retry(args, conn)
    local name <const> = names.of(conn, args.name)
    local n <const> = jobs.retry(conn, name)
    if n == 0 then
        cli.report(("no range of %s has failed"):format(cli.one_line(name)))
    else
        cli.report(("%s of %s %s open again: %s works on %s"):format(cli.plural(n, "range"), cli.one_line(name),
            n == 1 and "is" or "are", words.command("run", name), n == 1 and "it" or "them"))
    end
    return cli.OK
end

function M.set(args, conn)
    local name <const> = names.of(conn, args.name)
    local said <const> = {}
    local given <const> = (jobs.find(conn, name) or {}).file_values
    for i, word in ipairs(args.values) do
        local key <const>, text <const> = word:match "^([%w_.]+)=(.*)$"
        if not key then
            errors.fail("usage", ("set: expected key=value, got '%s'"):format(word), "size=500, or size= for the "
                .. "file's own")
        end
        if text ~= "" then require("dbrun.batch.define").check_set(key, text, given) end
        said[i] = { key, text ~= "" and text or nil }
    end
    jobs.check_settable(conn, name)
    for _, one in ipairs(said) do
        jobs.set(conn, name, one[1], one[2])
        cli.report(("%s: %s = %s"):format(cli.one_line(name), cli.one_line(one[1]),
            one[2] and cli.one_line(one[2]) or "as the file says"))
    end
    return cli.OK
end

function M.forget(args, conn)
    local name <const> = names.of(conn, args.name)
    jobs.forget(conn, name)
    cli.report(("%s is forgotten: what it did stays, and a run starts at the beginning"):format(cli.one_line(name)))
    return cli.OK
end

---Waits for the end of a job.
function M.wait(args, conn)
    local name <const> = names.of(conn, args.name)
    local told
    while true do
        local row <const> = jobs.find(conn, name)
        if not row then
            errors.fail("query", ("the job '%s' was forgotten while it was waited for"):format(name))
        end
        local state <const>, shown <const> = row.state, cli.one_line(name)
        if state == "done" then
            local failed <const> = jobs.totals(conn, name).failed
            cli.report(("%s is done%s"):format(shown, failed > 0 and ", but for " .. cli.plural(failed, "failed range")
                .. ": " .. words.command("errors", name) or ""))
            return failed > 0 and cli.FAILED or cli.OK
        elseif state == "stopped" or state == "cancelled" then
            cli.report(("%s %s%s"):format(shown, state == "stopped" and "has stopped" or "was cancelled",
                row.reason and ": " .. cli.one_line(row.reason) or ""))
            return cli.FAILED
        elseif state ~= told then
            cli.note(state == "paused" and ("%s is paused: %s"):format(shown, cli.one_line(row.reason or "no reason"))
                or ("waiting for %s"):format(shown))
            told = state
        end
        task.sleep(1)
    end
end

---The tables, for a role that may make them.
function M.init(args, engine)
    if args.print then
        cli.write(schema.sql(schema.place(engine)))
        return cli.OK
    end
    require("dbrun.target").check(engine, require("dbrun.config").async_database_url, args.target)
    local conn <close> = engine:acquire()
    local before <const> = schema.place(conn).exists
    local place <const> = schema.ensure(conn)
    cli.report(("the tables of batch jobs %s in the schema %s"):format(before and "were there" or "are", place.schema))
    return cli.OK
end

return M
