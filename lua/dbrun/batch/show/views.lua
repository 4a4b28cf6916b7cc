--- `dbrun batch list`, `status`, `errors` and `log`: facts from the database, as text or JSON.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local drawing = require "dbrun.batch.show.drawing"
local facts = require "dbrun.batch.show.facts"
local jobs = require "dbrun.batch.state.jobs"
local json = require "dbrun.json"
local list = require "dbrun.batch.show.list"
local names = require "dbrun.batch.show.names"
local status = require "dbrun.batch.show.status"
local tty = require "dbrun.tty"

local M = {}

local LOG_WIDTH <const> = 100 -- where there is no terminal

local function write_json(value, indent)
    cli.write(cli.json(value, { sort_keys = true, indent = indent }), "\n")
end

---The facts of one job as JSON: lists stay lists when they are empty.
local function plain(one)
    local out <const> = {}
    for key, value in pairs(one) do out[key] = value end
    out.newest, out.events = nil, nil
    for _, key in ipairs { "started", "ended", "now" } do
        out[key] = out[key] and os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(out[key]))
    end
    for _, key in ipairs { "workers", "failed", "values" } do out[key] = json.array(out[key]) end
    for _, worker in ipairs(out.workers) do
        worker.durations, worker.sizes = json.array(worker.durations), json.array(worker.sizes)
    end
    return out
end

local function unfinished(row) return row.state ~= "done" and row.state ~= "cancelled" end

local function all_facts(conn, wanted)
    local all <const> = {}
    for _, row in ipairs(jobs.list(conn)) do
        if wanted(row) then all[#all + 1] = facts.of(conn, row) end
    end
    return all
end

---@param args { format: string }
---@param conn table|userdata
---@return integer status
function M.list(args, conn)
    local all <const> = all_facts(conn, function() return true end)
    if args.format == "json" then
        local out <const> = {}
        for i, one in ipairs(all) do out[i] = plain(one) end
        write_json(json.array(out), 2)
    elseif #all == 0 then
        cli.report(names.never(conn))
    else
        list.jobs(all)
    end
    return cli.OK
end

---The lines of all jobs, separated by empty lines.
local function lines_of(all, options)
    local lines <const> = {}
    for i, one in ipairs(all) do
        if i > 1 then lines[#lines + 1] = "" end
        for _, line in ipairs(status.lines(one, options)) do lines[#lines + 1] = line end
    end
    return lines
end

---Whether a job has ended successfully.
local function status_of(all)
    for _, one in ipairs(all) do
        if one.state ~= "done" or one.totals.failed > 0 then return cli.FAILED end
    end
    return cli.OK
end

---@param args { name?: string, watch?: boolean, format: string }
---@param conn table|userdata
---@return integer status
function M.status(args, conn)
    local name <const> = args.name and names.of(conn, args.name)
    local function look()
        return all_facts(conn, name and function(row) return row.name == name end or unfinished)
    end
    local function shown()
        return {
            width = core.tty.isatty(1) and tty.width(1) or LOG_WIDTH, style = cli.style(1), blocks = drawing.blocks(1),
        }
    end
    local all = look()
    if #all == 0 then
        if args.format == "json" then
            write_json(json.array {}, 2)
        else
            cli.report(#jobs.list(conn) == 0 and names.never(conn) or "no job is under way; dbrun batch list shows all")
        end
        return cli.OK
    end
    if args.watch then
        local watched <const> = {}
        for i, one in ipairs(all) do watched[i] = one.name end
        all = require("dbrun.batch.show.watch").run {
            look = function()
                return all_facts(conn, function(row)
                    for _, one in ipairs(watched) do
                        if one == row.name then return true end
                    end
                    return false
                end)
            end,
            lines = function(now) return lines_of(now, shown()) end, line = status.line,
            json = function(one) return cli.json(plain(one), { sort_keys = true }) end, format = args.format,
        }
        return status_of(all)
    end
    if args.format == "json" then
        local out <const> = {}
        for i, one in ipairs(all) do out[i] = plain(one) end
        write_json(name and out[1] or json.array(out), 2)
    else
        for _, line in ipairs(lines_of(all, shown())) do cli.report(line) end
    end
    return cli.OK
end

---@param args { name: string, format: string }
---@param conn table|userdata
---@return integer status
function M.errors(args, conn)
    local row <const> = names.row(conn, args.name)
    local failed <const> = facts.failed_of(jobs.ranges(conn, row.name))
    if args.format == "json" then write_json(json.array(failed), 2) else list.errors(failed, row.name, row.state) end
    return cli.OK
end

---@param args { name: string, format: string }
---@param conn table|userdata
---@return integer status
function M.log(args, conn)
    local row <const> = names.row(conn, args.name)
    if args.format == "json" then write_json(row.events, 2) else list.log(row.events, row.name) end
    return cli.OK
end

return M
