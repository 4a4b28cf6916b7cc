--- The status of a job as lines for people.
local cli = require "dbrun.command_line"
local drawing = require "dbrun.batch.show.drawing"
local words = require "dbrun.batch.show.words"
local wrap = require "dbrun.batch.show.wrap"

local M = {}

local COLOURS <const> = { running = "green", paused = "yellow", stopped = "red", cancelled = "red", done = "green" }
local LABEL <const> = 10

---@class dbrun.batch.StatusOptions
---@field width integer columns
---@field style table command_line.style
---@field blocks boolean whether block characters can be drawn

local function seconds_text(s) return cli.duration(s) end
local function rows_text(n) return cli.count(math.floor(n)) end

---Adds lines after a label.
local function add(lines, options, label, texts)
    if type(texts) == "string" then texts = { texts } end
    for i, text in ipairs(texts) do
        local name <const> = i == 1 and label or ""
        lines[#lines + 1] = "  " .. options.style.dim(name) .. (" "):rep(LABEL - #name) .. text
    end
end

---State, reason and time: the first line.
local function head(facts, options)
    local state <const> = facts.state
    local text = ("%s  %s"):format(options.style.bold(cli.one_line(facts.name)),
        options.style[COLOURS[state] or "bold"](cli.one_line(state)))
    if facts.pass > 1 and state ~= "done" then text = ("%s, pass %d"):format(text, facts.pass) end
    local spent <const> = facts.started and (facts.ended or facts.now) - facts.started
    if spent then
        text = ("%s  %s %s, %s"):format(text, "started", words.moment(facts.started), facts.ended
            and "ended after " .. words.span(spent) or words.span(spent) .. " ago")
    end
    return text
end

local function work(facts)
    local of <const> = facts.definition or {}
    local list <const> = { { "table", facts.source } }
    for _, name in ipairs { "from", "to", "where", "run" } do
        if type(of[name]) == "string" then list[#list + 1] = { name, of[name] } end
    end
    return list
end

local function done_text(facts)
    local t <const> = facts.totals
    local text <const> = { facts.share and words.share(facts.share) }
    text[#text + 1] = ("%s in %s"):format(cli.plural(t.rows, "row"), cli.plural(t.chunks, "chunk"))
    local looked = cli.plural(t.looked, "key") .. " looked at"
    if facts.pass > 1 then looked = ("%s in pass %d"):format(looked, facts.pass) end
    if facts.estimate and facts.pass == 1 then looked = ("%s of ~%s"):format(looked, cli.count(facts.estimate)) end
    text[#text + 1] = looked
    if facts.left then text[#text + 1] = "about " .. words.span(facts.left) .. " left" end
    return text
end

---Shares of the time: what the workers did with it.
local function time_text(facts)
    local t <const> = facts.totals
    local waited, reasons = 0, {}
    for name, seconds in pairs(t.waited) do
        waited = waited + seconds
        reasons[#reasons + 1] = { name = name, seconds = seconds }
    end
    local all <const> = t.worked + waited
    if all <= 0 then return nil end
    table.sort(reasons, function(a, b)
        if a.seconds ~= b.seconds then return a.seconds > b.seconds end
        return a.name < b.name
    end)
    local parts <const> = { "worked " .. words.share(t.worked / all) }
    for _, reason in ipairs(reasons) do
        parts[#parts + 1] = ("waited %s for %s"):format(words.share(reason.seconds / all), cli.one_line(reason.name))
    end
    if t.retried > 0 then parts[#parts + 1] = cli.plural(t.retried, "chunk") .. " tried again" end
    return parts
end

local function add_drawing(lines, options, of, indent)
    for _, row in ipairs { { "time", of.durations, seconds_text }, { "rows", of.sizes, rows_text } } do
        if #row[2] > 0 then
            lines[#lines + 1] = ("%s%s  %s"):format((" "):rep(indent), row[1],
                drawing.row(row[2], options.blocks, row[3]))
        end
    end
end

---Each worker: its range and chunk, since when, what it waits for; and its last chunks.
local function add_workers(lines, facts, options)
    local here, gone = {}, 0
    for _, worker in ipairs(facts.workers) do
        if worker.here then here[#here + 1] = worker else gone = gone + 1 end
    end
    if facts.state == "done" or facts.state == "cancelled" then here, gone = {}, 0 end
    if #here == 0 and facts.state == "running" then
        add(lines, options, "workers", ("none is at work: %s"):format(words.command("run", facts.name)))
    end
    for i, worker in ipairs(here) do
        local text <const> = { cli.one_line(worker.owner), ("range %d"):format(worker.range),
            ("chunk %s since %s"):format(cli.count(worker.chunk), cli.duration(worker.since)) }
        add(lines, options, i == 1 and "workers" or "", table.concat(text, "  "))
        if worker.waiting then
            add(lines, options, "", "  " .. options.style.yellow("waiting: " .. wrap.short(worker.waiting,
                options.width - LABEL - 13)))
        end
        add_drawing(lines, options, worker, LABEL + 4)
    end
    if gone > 0 then
        add(lines, options, "left", ("%s of workers that have ended: taken up by the next"):format(
            cli.plural(gone, "range")))
    end
    if #here == 0 and facts.newest then
        add(lines, options, "last", "chunks of the range that moved last")
        add_drawing(lines, options, facts.newest, LABEL + 4)
    end
end

---Settings, grouped by their source.
local function add_values(lines, facts, options)
    for _, from in ipairs { "set", "file", "default" } do
        local parts <const> = {}
        for _, value in ipairs(facts.values) do
            if value.from == from then
                parts[#parts + 1] = ("%s = %s"):format(cli.one_line(value.name), cli.one_line(value.value))
            end
        end
        if #parts > 0 then add(lines, options, from, wrap.list(parts, options.width - LABEL - 3)) end
    end
end

---@param facts dbrun.batch.Facts
---@param options dbrun.batch.StatusOptions
---@return string[] lines
function M.lines(facts, options)
    local lines <const> = { head(facts, options) }
    local width <const> = options.width - LABEL - 3
    if facts.reason then
        add(lines, options, "reason", options.style.yellow(wrap.short(facts.reason, width)))
    end
    if facts.state == "paused" or facts.state == "stopped" then
        add(lines, options, "go on", words.command(facts.state == "paused" and "resume" or "run", facts.name))
    end
    for _, row in ipairs(work(facts)) do add(lines, options, row[1], wrap.short(row[2], width)) end
    add(lines, options, "done", wrap.list(done_text(facts), width))
    if facts.found and facts.found > 0 then
        add(lines, options, "found", wrap.list({ cli.plural(facts.found, "row") .. " came after the last pass",
            "does the application write them?" }, width))
    end
    if facts.rate and facts.state == "running" then
        add(lines, options, "rate", words.rate(facts.rate) .. " while chunks run")
    end
    local time <const> = time_text(facts)
    if time then add(lines, options, "time", wrap.list(time, width)) end
    if facts.totals.failed > 0 then
        add(lines, options, "failed", ("%s: %s"):format(options.style.red(cli.plural(facts.totals.failed, "range")),
            words.command("errors", facts.name)))
    end
    add_workers(lines, facts, options)
    add_values(lines, facts, options)
    return lines
end

---The status as one line, for output without a terminal.
---@param facts dbrun.batch.Facts
---@return string
function M.line(facts)
    local parts <const> = { cli.one_line(facts.name), cli.one_line(facts.state) }
    for _, part in ipairs(done_text(facts)) do parts[#parts + 1] = part end
    if facts.rate and facts.state == "running" then parts[#parts + 1] = words.rate(facts.rate) end
    if facts.reason then parts[#parts + 1] = cli.one_line(facts.reason) end
    for _, worker in ipairs(facts.workers) do
        if worker.here and worker.waiting then
            parts[#parts + 1] = "waiting: " .. cli.one_line(worker.waiting)
            break
        end
    end
    return table.concat(parts, "  ")
end

return M
