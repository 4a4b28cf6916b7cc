--- `status --watch`: the status, redrawn every second on a terminal; elsewhere a line on each change and every few
--- seconds, or JSON. It ends with the job, or with Ctrl-C.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local task = require "dbrun.task"
local tty = require "dbrun.tty"

local M = {}

local EVERY <const> = 1
local PLAIN <const> = 5 -- seconds between two plain lines

---Draws lines over the `before` ones of the last time.
---@return integer drawn
local function redraw(lines, before)
    local most <const> = math.max(1, tty.height(1) - 1)
    if before > 0 then io.stdout:write(("\27[%dA"):format(before)) end
    local drawn <const>, width <const> = math.min(#lines, most), tty.width(1)
    for i = 1, drawn do
        local line = lines[i]
        if cli.width(line) > width then -- a wrapped line would count as two
            line = core.text.cut(line:gsub("\27%[[%d;]*m", ""), width)
        end
        cli.write("\r\27[K", line)
        io.stdout:write "\n"
    end
    io.stdout:write "\27[J"
    io.stdout:flush()
    return drawn
end

---The facts whose change makes a new plain line at once.
local function mark_of(all)
    local parts <const> = {}
    for _, facts in ipairs(all) do
        parts[#parts + 1] = ("%s %s %s %d"):format(facts.name, facts.state, facts.reason or "", facts.totals.failed)
        for _, worker in ipairs(facts.workers) do
            parts[#parts + 1] = worker.here and worker.waiting or ""
        end
    end
    return table.concat(parts, "\0")
end

local function ended(all)
    for _, facts in ipairs(all) do
        if facts.state == "running" or facts.state == "paused" then return false end
    end
    return true
end

---@class dbrun.batch.Watched
---@field look fun(): dbrun.batch.Facts[]
---@field lines fun(all: dbrun.batch.Facts[]): string[]
---@field line fun(facts: dbrun.batch.Facts): string
---@field json fun(facts: dbrun.batch.Facts): string
---@field format "text"|"json"

---Watches until all jobs have ended.
---@param watched dbrun.batch.Watched
---@return dbrun.batch.Facts[] all as they were at last
function M.run(watched)
    local terminal <const> = watched.format == "text" and not tty.dumb(1)
    local drawn, mark, at = 0, nil, -math.huge
    while true do
        local all <const> = watched.look()
        if watched.format == "json" then
            for _, facts in ipairs(all) do cli.write(watched.json(facts), "\n") end
        elseif terminal then
            drawn = redraw(watched.lines(all), drawn)
        elseif mark ~= mark_of(all) or task.now() - at >= PLAIN then
            mark, at = mark_of(all), task.now()
            for _, facts in ipairs(all) do cli.report(os.date "%H:%M:%S", "  ", watched.line(facts)) end
        end
        io.stdout:flush()
        if ended(all) then return all end
        task.sleep(EVERY)
    end
end

return M
