--- `dbrun batch list`, `errors` and `log`: rows of the database as tables.
local cli = require "dbrun.command_line"
local facts = require "dbrun.batch.show.facts"
local words = require "dbrun.batch.show.words"

local M = {}

local COLOURS <const> = { running = "green", paused = "yellow", stopped = "red", cancelled = "red", done = "dim" }

local function print_table(head, rows, style, opts)
    local all <const> = { head }
    table.move(rows, 1, #rows, 2, all)
    for i, line in ipairs(cli.table(all, opts)) do cli.report(i == 1 and style.dim(line) or line) end
end

---@param all dbrun.batch.Facts[]
function M.jobs(all)
    local style <const>, rows <const> = cli.style(1), {}
    for i, job in ipairs(all) do
        local workers = 0
        for _, worker in ipairs(job.workers) do workers = workers + (worker.here and 1 or 0) end
        local remark = job.reason and cli.one_line(job.reason)
        if not remark and job.state == "running" then
            remark = workers == 0 and "no worker" or cli.plural(workers, "worker")
            if job.left then remark = ("%s, %s left"):format(remark, words.span(job.left)) end
        end
        if job.totals.failed > 0 then
            remark = ("%s%s failed"):format(remark and remark .. "; " or "", cli.plural(job.totals.failed, "range"))
        end
        rows[i] = {
            cli.one_line(job.name), style[COLOURS[job.state] or "bold"](job.state), words.share(job.share),
            cli.count(job.totals.rows), job.started and words.moment(job.started) or "", remark or "",
        }
    end
    print_table({ "job", "state", "done", "rows", "started", "" }, rows, style, { right = { [3] = true, [4] = true } })
end

---@param failed dbrun.batch.Failed[]
---@param name string
---@param state string of the job
function M.errors(failed, name, state)
    if #failed == 0 then return cli.report(("no range of %s has failed"):format(cli.one_line(name))) end
    local style <const> = cli.style(1)
    for _, one in ipairs(failed) do
        local place <const> = one.key ~= nil and "key " .. words.key(one.key)
            or ("behind %s up to %s"):format(words.key(one.first), words.key(one.last))
        local at <const> = facts.epoch(one.at)
        local about <const> = {}
        if words.text(one.sqlstate) then about[#about + 1] = "SQLSTATE " .. words.text(one.sqlstate) end
        if math.type(one.attempts) == "integer" then
            about[#about + 1] = one.attempts == 1 and "tried once" or ("tried %d times"):format(one.attempts)
        end
        if at then about[#about + 1] = words.moment(at) end
        cli.report(style.bold(place), "  ", style.dim(table.concat(about, ", ")))
        cli.report("  ", words.text(one.message) or "no message was kept")
    end
    if state == "cancelled" then return cli.report(cli.plural(#failed, "failed range"), "; the job was cancelled") end
    cli.report(("%s; %s opens %s again"):format(cli.plural(#failed, "failed range"), words.command("retry", name),
        #failed == 1 and "it" or "them"))
end

---@param events table[]
---@param name string
function M.log(events, name)
    if #events == 0 then return cli.report(("the log of %s is empty"):format(cli.one_line(name))) end
    local rows <const> = {}
    for i, event in ipairs(events) do
        local at <const> = facts.epoch(event.at)
        rows[i] = { at and words.moment(at) or "", words.text(event.what) or "", words.text(event.who) or "",
            words.text(event.text) or "" }
    end
    for _, line in ipairs(cli.table(rows)) do cli.report(line) end
end

return M
